"""How the command lines tell a user's mistake: one line on stderr and exit code 2."""

import argparse
import contextlib
import sys
from collections.abc import Iterator
from typing import Any, NoReturn

from skipdit_jax.cli.together import leave

BAD_INPUT = 2


@contextlib.contextmanager
def told_in_one_line(program: str) -> Iterator[None]:
    """Ends the program with one line if the block raises a ValueError or an OSError.

    Put it around what depends on the user's input, not around the computation: a bug of ours must
    keep its traceback. Other processes of the run are told, and end too.

    Args:
      program: what the line begins with.

    Raises:
      SystemExit: with code 2, in place of such an error.
    """
    try:
        yield
    except (ValueError, OSError) as error:
        print(f"{program}: error: {one_line(error)}", file=sys.stderr)
        leave(BAD_INPUT, one_line(error))
        raise SystemExit(BAD_INPUT) from error


def one_line(error: BaseException) -> str:
    """The message of an error with line breaks made spaces; its type's name if it has none."""
    return " ".join(str(error).split()) or type(error).__name__


class OneLineParser(argparse.ArgumentParser):
    """Raises a ValueError where argparse would print several lines and end the program.

    Flags cannot be shortened, and descriptions stay as they are written.
    """

    def __init__(self, **options: Any):
        super().__init__(
            formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **options
        )

    def error(self, message: str) -> NoReturn:
        """Raises ValueError with the message."""
        raise ValueError(message)
