"""Curves for people; matplotlib is imported where one is asked for, and needed for nothing else."""

from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from skipdit_jax.files import replacing_path

COMPUTED, REUSED = "#1f77b4", "#c8c8c8"
INCHES = (7.0, 2.6)
TICK = 0.04  # of the height: every step has one, also where no number was looked at


def plot_decisions(
    path: str | Path, computed: Int[np.ndarray, "S"], compared: Float[np.ndarray, "S"]
) -> None:
    """Writes the numbers that a cache compared at each step, and which steps it computed.

    Args:
      path: of a picture in any format of matplotlib.
      computed: 1 where a step was computed, 0 where it was reused; of one run.
      compared: see `pipeline.Sampled`; 0, where no number was looked at, is left out.

    Raises:
      ValueError: matplotlib is not installed, or the arrays are not of one run.
    """
    shapes = np.shape(computed), np.shape(compared)
    if np.ndim(computed) != 1 or shapes[0] != shapes[1]:
        found = " and ".join(map(str, shapes))
        raise ValueError(f"plot_decisions: found shapes {found}, wanted [S] twice, of one sample")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ValueError("plot_decisions: wanted matplotlib (pip install matplotlib)") from error
    computed, compared = np.asarray(computed), np.asarray(compared)
    step, looked = np.arange(len(computed)), compared > 0
    figure = Figure(figsize=INCHES, layout="constrained")
    axes = figure.subplots()
    axes.plot(step[looked], compared[looked], color="black", linewidth=1)
    for kind, color, label in ((1, COMPUTED, "computed"), (0, REUSED, "reused")):
        ran = computed == kind
        shown = ran & looked
        axes.scatter(step[shown], compared[shown], color=color, label=label, zorder=2)
        axes.vlines(step[ran], 0, TICK, color, transform=axes.get_xaxis_transform())
    axes.set(xlabel="step", ylabel="compared")
    axes.legend()
    with replacing_path(path) as new:
        figure.savefig(new, format=Path(path).suffix.removeprefix(".") or "png")
