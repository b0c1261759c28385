"""Published settings of caching methods (docs/notes.md, Skip-Cache as published)."""

import dataclasses

from skipdit_jax.caching.intervals import ALWAYS
from skipdit_jax.caching.methods.skip_cache import NARROWEST, PUBLISHED_STOP, SkipCache

DIT_SKIP_CACHE = SkipCache(every=3, branch=4, start=ALWAYS, stop=PUBLISHED_STOP)
"""DiT-XL/2-skip, class to image."""

LATTE_SKIP_CACHE = SkipCache(every=3, branch=1, start=900, stop=49)
"""Latte-skip, class to video; the published "< 50" is stop 49."""

LATTE_T2V_SKIP_CACHE = SkipCache(every=2, branch=1, start=700, stop=50)
"""LatteT2V-skip, text to video."""

HUNYUAN_SKIP_CACHE = LATTE_T2V_SKIP_CACHE
"""HunYuan-DiT, text to image: the same."""

_PUBLISHED_DIT_DEPTH = 28


def dit_skip_cache(depth: int) -> SkipCache:
    """As published for depth 28; shallower models keep one block at each end."""
    if depth == _PUBLISHED_DIT_DEPTH:
        return DIT_SKIP_CACHE
    return dataclasses.replace(DIT_SKIP_CACHE, branch=NARROWEST)
