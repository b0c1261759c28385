"""How close pictures are to reference pictures, one number per picture, in float64.

(1)  PSNR = 10 log10(peak² / mean (a - b)²)   in dB

(2)  SSIM = mean of (2 μ_a μ_b + C1)(2 σ_ab + C2) / ((μ_a² + μ_b² + C1)(σ_a² + σ_b² + C2))

Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity",
eq. 13: μ, σ², σ_ab are weighted by a Gaussian window and the mean goes over all places where the
window lies inside the picture and over the channels; C1 = (0.01 peak)², C2 = (0.03 peak)².
"""

import numpy as np
from jaxtyping import Array, Float

# An underscore leaves the size unchecked: `_pair` tells sizes that differ as a ValueError.
Pictures = Float[np.ndarray | Array, "_B _H _W _C"]
PerPicture = Float[np.ndarray, "B"]

FULL_RANGE = 2.0
"""Distance from black to white in pictures of [-1, 1]."""
WINDOW, SIGMA = 11, 1.5
"""Size and standard deviation in pixels of the window (Wang et al., section III-B)."""
K1, K2 = 0.01, 0.03
"""Roots of C1 and C2 in units of the peak (Wang et al., section III-B)."""


def psnr(a: Pictures, b: Pictures, peak: float = FULL_RANGE) -> PerPicture:
    """Peak signal to noise ratio (1).

    Args:
      a: pictures [B,H,W,C].
      b: as many of the same size.
      peak: the largest possible difference; 2 for [-1, 1], 1 for [0, 1].

    Returns:
      dB, float64 [B]: infinite for equal pictures, NaN for pictures that hold NaN.

    Raises:
      ValueError: shapes differ or are no pictures, or the peak is not above 0.

    Examples:
      >>> float(psnr(np.zeros((1, 4, 4, 1)), np.full((1, 4, 4, 1), 0.2))[0])
      20.0
    """
    a, b = _pair("psnr", a, b, peak)
    error = ((a - b) ** 2).mean(axis=(1, 2, 3))
    with np.errstate(divide="ignore"):
        return 10 * np.log10(peak**2 / error)


def ssim(a: Pictures, b: Pictures, peak: float = FULL_RANGE) -> PerPicture:
    """Structural similarity (2).

    The window shrinks to the largest odd size that fits into the smaller side of a picture, with
    the same sigma: 7 for 8x8 pixels. Such values are comparable with each other, not with those of
    larger pictures.

    Args:
      a: pictures [B,H,W,C].
      b: as many of the same size.
      peak: as in `psnr`.

    Returns:
      Float64 [B] in [-1, 1]: 1 for equal pictures, NaN for pictures that hold NaN.

    Raises:
      ValueError: shapes differ or are no pictures, or the peak is not above 0.
    """
    a, b = _pair("ssim", a, b, peak)
    kernel = _gaussian(min(WINDOW, *a.shape[1:3]))
    mean_a, mean_b = _blur(a, kernel), _blur(b, kernel)
    var_a = _blur(a * a, kernel) - mean_a * mean_a
    var_b = _blur(b * b, kernel) - mean_b * mean_b
    cov = _blur(a * b, kernel) - mean_a * mean_b
    c1, c2 = (K1 * peak) ** 2, (K2 * peak) ** 2
    top = (2 * (mean_a * mean_b) + c1) * (2 * cov + c2)
    bottom = (mean_a * mean_a + mean_b * mean_b + c1) * (var_a + var_b + c2)
    return (top / bottom).mean(axis=(1, 2, 3))


def frames_of(samples: np.ndarray) -> np.ndarray:
    """Pictures [n,H,W,C] as they are, clips [n,F,H,W,C] as n F pictures."""
    return samples.reshape(-1, *samples.shape[-3:])


def _gaussian(limit: int) -> Float[np.ndarray, "K"]:
    """Weights of the largest odd number of pixels up to `limit`, sum 1."""
    radius = (limit - 1) // 2
    weights = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * SIGMA**2))
    return weights / weights.sum()


def _blur(x: Float[np.ndarray, "B H W C"], kernel: Float[np.ndarray, "K"]) -> np.ndarray:
    """Weighted means [B,H-K+1,W-K+1,C] where the window lies inside; rows first, then columns."""
    for axis in (1, 2):
        x = np.lib.stride_tricks.sliding_window_view(x, len(kernel), axis=axis) @ kernel
    return x


def _pair(name: str, a: Pictures, b: Pictures, peak: float) -> tuple[np.ndarray, np.ndarray]:
    if np.ndim(a) != 4 or 0 in np.shape(a):
        raise ValueError(f"{name}: found shape {np.shape(a)}, wanted pictures [B,H,W,C]")
    if np.shape(a) != np.shape(b):
        raise ValueError(f"{name}: found shapes {np.shape(a)} and {np.shape(b)}, wanted equal ones")
    if not peak > 0:
        raise ValueError(f"{name}: peak is {peak}, wanted a number above 0")
    return np.asarray(a, np.float64), np.asarray(b, np.float64)
