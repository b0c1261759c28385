"""Interleaved timing: rivals take turns, so that a slow minute of the machine hits all of them."""

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

WARM_UPS = 2
# torch's threads spin for a while after each call and would slow down the next one's.
PAUSE_S = 0.1


@dataclass(frozen=True)
class Timing:
    """Seconds of each repeat."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def minimum(self) -> float:
        return min(self.seconds)


def interleaved(
    calls: Mapping[str, Callable[[], object]], rounds: int, warm_ups: int = WARM_UPS
) -> dict[str, Timing]:
    """Times every call once a round, in rotating order, after warming up.

    Args:
      calls: name -> a function that returns when its work is done.
      rounds: repeats of each.
      warm_ups: untimed calls of each before the first round.
    """
    for call in calls.values():
        for _ in range(warm_ups):
            call()
    names = list(calls)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for i in range(rounds):
        shift = i % len(names)
        for name in names[shift:] + names[:shift]:
            gc.collect()
            time.sleep(PAUSE_S)
            start = time.perf_counter()
            calls[name]()
            seconds[name].append(time.perf_counter() - start)
    return {name: Timing(tuple(values)) for name, values in seconds.items()}


def ours_and_torch(ours: Timing, torch: Timing) -> dict[str, object]:
    """Columns of a table; ratio = ours / torch, at most 1 is wanted."""
    return {
        "ours ms (median)": 1e3 * ours.median,
        "torch ms (median)": 1e3 * torch.median,
        "ratio (median)": ours.median / torch.median,
        "ours ms (min)": 1e3 * ours.minimum,
        "torch ms (min)": 1e3 * torch.minimum,
        "ratio (min)": ours.minimum / torch.minimum,
    }


def once(call: Callable[[], object]) -> tuple[object, float]:
    """What a call returns, and its seconds."""
    start = time.perf_counter()
    result = call()
    return result, time.perf_counter() - start
