"""Config files by name: where the shipped ones lie, and how one config starts from another.

They lie in configs/ of the repository, and in skipdit_jax/configs/ once the package is installed.
"""

from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import ml_collections

FOLDER = "configs"


def shipped_configs() -> dict[str, Path]:
    """The config files that come with the package, by name."""
    package = Path(__file__).parents[1]
    inside = package / FOLDER  # where a wheel puts them
    folder = inside if inside.is_dir() else package.with_name(FOLDER)
    return {path.stem: path for path in sorted(folder.glob("*.py"))}


def find_config(text: str) -> str:
    """The config file that was typed, or the one whose bare name was typed.

    Args:
      text: a file, or NAME of a file NAME.py in the working directory or, where that has none,
        among the shipped ones; with what its `get_config` takes after a colon.

    Raises:
      ValueError: there is no such file; the shipped names are listed.
    """
    name, colon, argument = text.partition(":")
    file = Path(name)
    if file.exists() and not file.is_dir():
        return text
    return f"{_named(name, Path())}{colon}{argument}"


def load_config(name: str, *, beside: str | Path) -> ml_collections.ConfigDict:
    """Returns a new config to start from: what `get_config` of NAME.py gives.

    Args:
      name: of the config, without .py.
      beside: the file that asks, its `__file__`; NAME.py is looked for in the same folder, then
        among the shipped ones.

    Raises:
      ImportError: there is no such config; the shipped names are listed.
    """
    try:
        path = _named(name, Path(beside).parent)
    except ValueError as error:
        raise ImportError(f"{beside}: {error}") from error
    module = ModuleType(name)
    module.__file__ = str(path)  # of which the config may start from another in turn
    SourceFileLoader(name, str(path)).exec_module(module)
    config: ml_collections.ConfigDict = module.get_config()
    return config


def _named(name: str, folder: Path) -> Path:
    """NAME.py of the folder, else of the shipped ones; raises ValueError if neither has it."""
    own, shipped = folder / f"{name}.py", shipped_configs()
    if own.is_file():
        return own
    if name in shipped:
        return shipped[name]
    known = ", ".join(shipped)
    raise ValueError(f"{name!r}: found no such config, wanted a file or one of {known}")
