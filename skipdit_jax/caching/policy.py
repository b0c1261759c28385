"""The older name of the module of caching methods."""

from skipdit_jax.caching.methods.block_cache import BlockCache
from skipdit_jax.caching.methods.skip_cache import SkipCache

__all__ = ["BlockCache", "SkipCache"]
