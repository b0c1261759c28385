"""Batches on their way to the devices, a few ahead of the step that uses them."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

AHEAD = 2  # one in use while the next is copied


@runtime_checkable
class Batches(Protocol):
    """Endless batches with a position that can be saved and set."""

    def __next__(self) -> Any: ...

    def __iter__(self) -> Iterator[Any]: ...

    def get_state(self) -> Any:
        """The position, as JSON holds it."""
        ...

    def set_state(self, state: Any) -> None:
        """Continues behind a saved position."""
        ...

    @property
    def skipped(self) -> int:
        """Broken examples passed over so far."""
        ...

    def close(self) -> None:
        """Ends what reads for it."""
        ...


class Feed:
    """Puts batches onto devices before they are asked for.

    Its position is that of the last batch handed out, not of those that wait.
    """

    def __init__(
        self,
        batches: Batches,
        put: Callable[[Any], Any],
        ahead: int = AHEAD,
        classes: tuple[str, ...] = (),
        constants: Mapping[str, Any] | None = None,
    ):
        """Starts reading with the first request.

        Args:
          batches: where they come from.
          put: host batch -> device batch; should return before the copy is done.
          ahead: batches to hold ready.
          classes: names of the classes of the data by label, for whoever asks.
          constants: what all batches have in common, see `step.make_train_step`.
        """
        self.classes, self.constants = classes, dict(constants or {})
        self._batches, self._put, self._ahead = batches, put, ahead
        self._ready: deque[tuple[Any, Any]] = deque()
        self._state = batches.get_state()

    def __iter__(self) -> "Feed":
        return self

    def __next__(self) -> Any:
        while len(self._ready) <= self._ahead:
            batch = self._put(next(self._batches))
            self._ready.append((batch, self._batches.get_state()))
        batch, self._state = self._ready.popleft()
        return batch

    def get_state(self) -> Any:
        """The position behind the last batch handed out."""
        return self._state

    def set_state(self, state: Any) -> None:
        """Continues behind a saved position; what waits is dropped."""
        self._ready.clear()
        self._batches.set_state(state)
        self._state = state

    @property
    def num_examples(self) -> int | None:
        """Of the whole set, where the batches know it."""
        return getattr(self._batches, "num_examples", None)

    @property
    def skipped(self) -> int:
        """Broken examples passed over so far, also for batches that still wait."""
        return self._batches.skipped

    def close(self) -> None:
        """Ends what reads for it, such as worker processes."""
        self._ready.clear()
        self._batches.close()
