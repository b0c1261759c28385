"""Published settings of Skip-Cache (arXiv 2411.17616; spec 2)."""

from skipdit_jax.caching.policy import ALWAYS, NARROWEST, PUBLISHED_STOP, SkipCache

DIT_SKIP_CACHE = SkipCache(every=3, branch=4, start=ALWAYS, stop=PUBLISHED_STOP)
"""DiT-XL/2-skip, class to image."""

_PUBLISHED_DIT_DEPTH = 28


def dit_branch(depth: int) -> int:
    """K for a DiT: 4 as published for depth 28; shallower ones keep one block at each end."""
    return DIT_SKIP_CACHE.branch or NARROWEST if depth == _PUBLISHED_DIT_DEPTH else NARROWEST
