"""The one error of checkpoint files, and what malformed bytes may raise in the parsers below."""

import contextlib
import os
import struct
import zipfile
from collections.abc import Iterator

from skipdit_jax import config
from skipdit_jax.config import printable as printable

MALFORMED = (
    ValueError,  # with UnicodeDecodeError and the errors of json, pickletools and int()
    KeyError,
    IndexError,
    TypeError,
    NotImplementedError,
    EOFError,
    OverflowError,
    MemoryError,
    RecursionError,
    struct.error,
    zipfile.BadZipFile,
)
"""What the parsers of the standard library raise on bytes that are not what they claim to be."""

MAX_SHOWN = 120  # characters of foreign text quoted in a message
MAX_MESSAGE = 2**15  # characters of an error: all misfits of DiT-XL; a file may claim 10^6 of them
MESSAGE_END = 500  # of them kept from the end, where the reason stands


class CheckpointError(ValueError):
    """A checkpoint that cannot be read, does not fit or be written; always one short line."""

    def __init__(self, message: str):
        super().__init__(bounded(printable(bounded(message))))


class MissingFile(CheckpointError):
    """A file that its server does not have."""


def bounded(text: str) -> str:
    """Returns a message without its middle if it is longer than anybody reads."""
    if len(text) <= MAX_MESSAGE:
        return text
    gap = f" ... ({len(text):,} characters in all) ... "
    return text[: MAX_MESSAGE - MESSAGE_END - len(gap)] + gap + text[-MESSAGE_END:]


def shown(text: str) -> str:
    """Returns foreign text cut to a length that fits a message."""
    return config.shown(text, MAX_SHOWN)


@contextlib.contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Makes every CheckpointError and OSError inside a CheckpointError "PATH: reason".

    Raises:
      CheckpointError: an error that names the file already passes unchanged.
    """
    place = os.fspath(path)
    try:
        yield
    except CheckpointError as error:
        if str(error).startswith(str(CheckpointError(place))):
            raise
        raise CheckpointError(f"{place}: {error}") from error
    except OSError as error:
        raise CheckpointError(f"{place}: {error.strerror or error}") from error


@contextlib.contextmanager
def parsing(path: str | os.PathLike[str]) -> Iterator[None]:
    """Like `naming`, around code that interprets foreign bytes: what they break is told as well.

    Raises:
      CheckpointError: the bytes are not what they claim to be.
    """
    with naming(path):
        try:
            yield
        except CheckpointError:
            raise
        except MALFORMED as error:
            reason = f"{type(error).__name__}: {shown(str(error))}"
            raise CheckpointError(f"not a readable checkpoint ({reason})") from error
