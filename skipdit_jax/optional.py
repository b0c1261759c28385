"""Packages that only some work needs; an extra of this one brings each (pyproject.toml)."""

import importlib
import importlib.util
import sys
from typing import Any

EXTRAS = {
    "train": (
        "absl",
        "array_record",
        "grain",
        "ml_collections",
        "optax",
        "sklearn",
        "tensorboardX",
    ),
    "video": ("av",),
    "tfds": ("tensorflow_datasets",),
    "wandb": ("wandb",),
    "plot": ("matplotlib",),
}
"""Modules that an extra brings and nothing else does."""

OLDEST = {"av": 17}
"""Major versions below which a package gives wrong results (docs/notes.md, Versions)."""


class MissingExtraError(ImportError, ValueError):
    """A package of an extra is missing or too old: one line says what to install."""


def require(extra: str, place: str) -> None:
    """Makes sure that the packages of an extra are there, without importing them.

    Args:
      extra: its name.
      place: what needs it; the error begins with it.

    Raises:
      MissingExtraError: one is missing.
    """
    for name in EXTRAS[extra]:
        if name in sys.modules:
            missing = sys.modules[name] is None
        else:
            missing = importlib.util.find_spec(name) is None
        if missing:
            raise MissingExtraError(f"{place}: found no {name}, wanted: {_remedy(extra)}")


def load(name: str, place: str) -> Any:
    """Imports a module of an extra.

    Args:
      name: of the module.
      place: what needs it; the error begins with it.

    Raises:
      MissingExtraError: it cannot be imported, or is too old.
    """
    [extra] = [extra for extra, names in EXTRAS.items() if name.partition(".")[0] in names]
    require(extra, place)
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        raise MissingExtraError(
            f"{place}: {name} cannot be imported ({error}), wanted: {_remedy(extra)}"
        ) from error
    oldest = OLDEST.get(name, 0)
    if oldest and int(module.__version__.partition(".")[0]) < oldest:
        raise MissingExtraError(
            f"{place}: found {name} {module.__version__}, wanted {name}>={oldest}: {_remedy(extra)}"
        )
    return module


def _remedy(extra: str) -> str:
    return f'pip install "skipdit_jax[{extra}]"'
