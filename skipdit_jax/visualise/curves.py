"""What a cache that decides has compared, as a picture of bars: one for each step."""

from pathlib import Path

import numpy as np
from jaxtyping import Array, Float, Int

from skipdit_jax.visualise.grids import save_picture

Found = Array | np.ndarray
COMPUTED, REUSED, PAPER = (31, 119, 180), (200, 200, 200), (255, 255, 255)
BAR, GAP = 10, 2  # pixels: of a step, and between two
HEIGHT, STRIP = 160, 10  # of the largest number, and of the strip that tells the kinds of all steps


def plot_decisions(
    path: str | Path, computed: Int[Found, "..."], compared: Float[Found, "..."]
) -> None:
    """Writes a bar for each step, as high as what was compared, above a strip of its kind.

    Computed steps are blue, reused ones grey; the largest number is told in the file's description.

    Args:
      path: of a picture (PNG, JPEG or WebP).
      computed: int [S], 1 where a step was computed, 0 where it was reused; of one run.
      compared: float [S], see `pipeline.Sampled`; no bar where no number was looked at.

    Raises:
      ValueError: the arrays are not of one run, or another kind of file.
      OSError: the file cannot be written.
    """
    computed, compared = np.asarray(computed), np.asarray(compared, np.float32)
    if computed.ndim != 1 or computed.shape != compared.shape:
        found = f"{computed.shape} and {compared.shape}"
        raise ValueError(f"plot_decisions: found shapes {found}, wanted [S] twice, of one sample")
    known = np.where(np.isfinite(compared), compared, 0.0)
    most = float(known.max(initial=0.0))
    heights = np.round(HEIGHT * known / (most or 1.0)).astype(int)
    picture = np.full((HEIGHT + GAP + STRIP, len(computed) * (BAR + GAP), 3), PAPER, np.uint8)
    for step, (kind, height) in enumerate(zip(computed, heights, strict=True)):
        columns = slice(step * (BAR + GAP), step * (BAR + GAP) + BAR)
        picture[HEIGHT + GAP :, columns] = COMPUTED if kind else REUSED
        picture[HEIGHT - height : HEIGHT, columns] = COMPUTED if kind else REUSED
    save_picture(path, picture, f"{int((computed > 0).sum())} steps computed, at most {most:.4g}")
