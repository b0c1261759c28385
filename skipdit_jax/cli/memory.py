"""What a device has no memory for ends a program with one line that says what to make smaller."""

import contextlib
import sys
from collections.abc import Iterator

import jax

from skipdit_jax.cli.errors import BAD_INPUT, one_line
from skipdit_jax.cli.together import leave

EXHAUSTED = "RESOURCE_EXHAUSTED: "
"""How XLA's error begins on every backend; lists of allocations may follow its first line."""


@contextlib.contextmanager
def enough_memory(program: str, lower: str) -> Iterator[None]:
    """Ends the program with one line if a device runs out of memory in the block.

    Other processes of the run are told, and end too.

    Args:
      program: what the line begins with.
      lower: flags that make less of it do.

    Raises:
      SystemExit: with code 2, in place of such an error; others pass.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if not str(error).startswith(EXHAUSTED):
            raise
        (reason, *_) = str(error).removeprefix(EXHAUSTED).splitlines() or [""]
        text = one_line(
            ValueError(f"{jax.default_backend()} device: {reason.strip('. ')}: {lower}")
        )
        print(f"{program}: error: {text}", file=sys.stderr, flush=True)
        leave(BAD_INPUT, text)
        raise SystemExit(BAD_INPUT) from error
