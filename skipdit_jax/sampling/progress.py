"""Who is told of finished steps: a program is given a number, the host knows whose it is.

The number is data, so that another callback compiles nothing, and a callback is forgotten with its
run.
"""

import itertools
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

Listener = Callable[[Any], None]
"""Called on the host with the index of each finished step."""

NOBODY = np.int32(0)

_numbers = itertools.count(int(NOBODY) + 1)
_lock = threading.Lock()
_listening: dict[int, tuple[Listener, int | float]] = {}  # number -> (callback, calls to come)


def listen(listener: Listener, calls: int | float) -> np.int32:
    """Returns a number under which `report` calls the listener so many times, then no more.

    Args:
      listener: the callback.
      calls: how many; infinite inside a program of the caller, which may run any number of times.
    """
    with _lock:
        number = next(_numbers)
        _listening[number] = listener, calls
    return np.int32(number)


def report(number: Any, index: Any) -> None:
    """Tells the listener of this number, if it is still known; called from inside programs."""
    with _lock:
        listener, calls = _listening.pop(int(number), (None, 0))
        if listener is not None and calls > 1:
            _listening[int(number)] = listener, calls - 1
    if listener is not None:
        listener(index)
