"""The lowest threshold that saves what is wanted."""

from collections.abc import Callable

NEAR = 1e-6  # of a threshold: how far the one that is found may be off


def check_speedup(wanted: float, most: float) -> None:
    """Raises ValueError for a speedup below 1, or above what a method reaches."""
    if not 1 <= wanted <= most:
        raise ValueError(f"calibration: found a speedup of {wanted:g}, wanted 1 to {most:.3g}")


def lowest(saved: Callable[[float], float], wanted: float, most: float) -> float:
    """The lowest threshold, by bisection.

    Args:
      saved: threshold -> FLOPs without cache over those spent.
      wanted: at least so much is to be saved.
      most: a threshold behind which nothing more is.

    Raises:
      ValueError: none saves as much.
    """
    check_speedup(wanted, saved(most))
    low, high = 0.0, most
    while high - low > NEAR * high:
        middle = (low + high) / 2
        low, high = (middle, high) if saved(middle) < wanted else (low, middle)
    return high
