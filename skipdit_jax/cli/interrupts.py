"""Ctrl-C and SIGTERM: one line, exit code 128 + the number of the signal, nothing half-written.

A training run is given the time to finish its step and to save; then SIGUSR1, which Slurm is told
to send some time before the end (`sbatch --signal=USR1@120`), asks for the same.
"""

import contextlib
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

from skipdit_jax.cli.together import agree_to_stop, end_at_once, leave

SIGNALS = (signal.SIGINT, signal.SIGTERM)
OF_SIGNALS = 128  # what a shell adds to the number of the signal that ended a program


class Interrupts:
    """Signals of a program.

    Attributes:
      asked: the first signal that came while the program worked gracefully.
    """

    def __init__(self, program: str):
        self._program, self._gracefully, self._count = program, False, 0
        self.asked: int | None = None

    def __enter__(self) -> "Interrupts":
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._before: dict[int, Any] = {n: signal.signal(n, self._handle) for n in SIGNALS}
        # Python runs a handler only when a computation or compilation returns; a byte comes at
        # once, so that a second Ctrl-C can end the program at once.
        self._fd = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        threading.Thread(target=self._listen, name="signals", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(self._fd)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._writer.close()  # ends the listener

    @contextlib.contextmanager
    def gracefully(self) -> Iterator[None]:
        """Within the block signals are noted, for `stop_after`, and not raised."""
        before, self._gracefully = signal.signal(signal.SIGUSR1, self._handle), True
        try:
            yield
        finally:
            self._gracefully = False
            signal.signal(signal.SIGUSR1, before)

    def stop_after(self, done: int, ahead: int = 1) -> bool:
        """Whether to stop after a step; all processes of a run get the same answer.

        Args:
          done: steps done.
          ahead: by how many one process may be ahead of another.
        """
        number = agree_to_stop(self.asked, done, ahead)
        if number is not None:
            self.asked = number
        return number is not None

    def _handle(self, number: int, _: FrameType | None) -> None:
        if not self._gracefully:
            raise KeyboardInterrupt(number)
        self.asked = self.asked or number

    def _listen(self) -> None:
        with self._reader:
            while came := self._reader.recv(1):
                if came[0] != signal.SIGINT:
                    continue
                self._count += 1
                if self._count > 1:
                    end_at_once(code_of(signal.SIGINT))
                if self._gracefully and sys.stderr.isatty():
                    text = "finishing this step, then saving; Ctrl-C again ends at once"
                    print(f"{self._program}: {text}", file=sys.stderr, flush=True)


def code_of(number: int) -> int:
    """The exit code of a program that a signal has ended."""
    return OF_SIGNALS + number


@contextlib.contextmanager
def interruptible(program: str) -> Iterator[Interrupts]:
    """Ends the program with one line if it is interrupted in the block.

    Args:
      program: what the line begins with.

    Raises:
      SystemExit: with the code of the signal, in place of KeyboardInterrupt.
    """
    interrupts = Interrupts(program)
    main = threading.current_thread() is threading.main_thread()  # others are sent no signals
    with interrupts if main else contextlib.nullcontext():
        try:
            yield interrupts
        except KeyboardInterrupt as error:
            number = next(iter(error.args), signal.SIGINT)
            text = f"ended by {signal.Signals(number).name}"
            print(f"{program}: {text}", file=sys.stderr, flush=True)
            leave(code_of(number), text)
            raise SystemExit(code_of(number)) from error
