"""How the command lines tell a user's mistake: one line on stderr and exit code 2."""

import argparse
import contextlib
import io
import sys
from collections.abc import Iterator
from typing import Any, NoReturn

from skipdit_jax.checkpoints.errors import CheckpointError, printable
from skipdit_jax.cli.together import leave

BAD_INPUT = 2
MAX_VALUE = 400  # characters of one word, or of the place before the first colon
MAX_LINE = 2000  # characters of a line
GAP = " ... "
MAX_REPORT = 10_000  # of a checkpoint's: it names every tensor that does not fit


@contextlib.contextmanager
def told_in_one_line(program: str) -> Iterator[None]:
    """Ends the program with one line if the block raises a ValueError, OSError or MemoryError.

    Put it around what depends on the user's input, not around the computation: a bug of ours must
    keep its traceback. Other processes of the run are told, and end too.

    Args:
      program: what the line begins with.

    Raises:
      SystemExit: with code 2, in place of such an error.
    """
    try:
        yield
    except (ValueError, OSError, MemoryError) as error:
        print(f"{program}: error: {one_line(error)}", file=sys.stderr)
        leave(BAD_INPUT, one_line(error))
        raise SystemExit(BAD_INPUT) from error


def one_line(error: BaseException) -> str:
    """The message of an error in one line of bounded length; its type's name if it has none.

    Line breaks become spaces, and what would steer a terminal is written out. Long names and
    values, and a message that is still too long, lose their middle.
    """
    text = printable(" ".join(str(error).split())) or type(error).__name__
    text = " ".join(_shortened(word, MAX_VALUE) for word in text.split(" "))
    place, colon, rest = text.partition(": ")
    if colon:
        text = _shortened(place, MAX_VALUE) + colon + rest
    return _shortened(text, MAX_REPORT if isinstance(error, CheckpointError) else MAX_LINE)


def _shortened(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    tail = most // 4
    return text[: most - tail - len(GAP)] + GAP + text[-tail:]


def show_any_name() -> None:
    """Lets a program print names of files that are not UTF-8, or that a terminal cannot show."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


class OneLineParser(argparse.ArgumentParser):
    """Raises a ValueError where argparse would print several lines and end the program.

    Flags cannot be shortened, an empty value is none, and descriptions stay as they are written.
    """

    def __init__(self, **options: Any):
        super().__init__(
            formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **options
        )

    def error(self, message: str) -> NoReturn:
        """Raises ValueError with the message."""
        raise ValueError(message)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Like argparse's; raises ValueError where a flag is followed by nothing but ""."""
        typed = list(sys.argv[1:] if args is None else args)
        for word, value in zip(typed, [*typed[1:], None], strict=False):
            flag, equals, text = word.partition("=")
            given = text if equals else value
            # argparse drops the "--" of --seed=-- and takes the flag for one without a value.
            if flag in self._option_string_actions and (given == "" or text == "--"):
                raise ValueError(f"{flag}: found an empty value, wanted something or no {flag}")
        return super().parse_known_args(typed, namespace)
