"""Config files: where the shipped ones lie, what they give, and how one starts from another.

They lie in configs/ of the repository, and in skipdit_jax/configs/ once the package is installed.
"""

import sys
import traceback
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import ml_collections

FOLDER = "configs"


class ConfigFileError(ValueError):
    """A config file that cannot be read, breaks off, or gives no config: "FILE:LINE: reason"."""


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
      ConfigFileError: it breaks off.
    """
    try:
        path = _named(name, Path(beside).parent)
    except ValueError as error:
        raise ImportError(f"{beside}: {error}") from error
    return _run(path)


def open_config(text: str) -> ml_collections.ConfigDict:
    """Returns a new config: what the file that was typed gives, see `find_config`.

    Raises:
      ConfigFileError: the file breaks off; names file, line and error.
      ValueError: there is no such file.
    """
    path, colon, argument = find_config(text).partition(":")
    return _run(Path(path), *([argument] if colon else []))


def _run(path: Path, *arguments: str) -> ml_collections.ConfigDict:
    """What `get_config` of a file returns; raises ConfigFileError whatever the file raises."""
    module = ModuleType(f"config_file_{path.stem}")
    module.__file__ = str(path)  # of which the config may start from another in turn
    sys.modules[module.__name__] = module  # where dataclasses look for the types they name
    loader = SourceFileLoader(module.__name__, str(path))
    try:
        # Not exec_module: it keeps bytecode, which is old after two edits in one second.
        exec(loader.source_to_code(loader.get_data(str(path)), str(path)), vars(module))
        if not callable(getattr(module, "get_config", None)):
            raise ConfigFileError(f"{path}: defines no get_config(), wanted one")
        config = module.get_config(*arguments)
    except ConfigFileError:
        raise
    except (Exception, SystemExit) as error:
        raise ConfigFileError(f"{_place(error, path)}: {_reason(error)}") from error
    if not isinstance(config, ml_collections.ConfigDict):
        kind = type(config).__name__
        raise ConfigFileError(f"{path}: get_config() gave {kind}, wanted a ConfigDict")
    return config


def _place(error: BaseException, path: Path) -> str:
    """The file, with the line where it broke off if there is one."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f"{path}:{error.lineno}"
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
    return f"{path}:{lines[-1]}" if lines else str(path)


def _reason(error: BaseException) -> str:
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _named(name: str, folder: Path) -> Path:
    """NAME.py of the folder, else of the shipped ones; raises ValueError if neither has it."""
    own, shipped = folder / f"{name}.py", shipped_configs()
    if own.is_file():
        return own
    if name in shipped:
        return shipped[name]
    known = ", ".join(shipped)
    raise ValueError(f"{name!r}: found no such config, wanted a file or one of {known}")
