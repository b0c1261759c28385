"""What every compiled program of the library asks of XLA, where it may ask."""

import functools
from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import get_opaque_trace_state

# All adaLN linears share their input; XLA on GPU would merge them and concatenate up to 451 MB of
# weights inside every full step (docs/notes.md, Merged products on GPU). Other platforms ignore it.
COMPILER_OPTIONS = {"xla_gpu_dot_merger_threshold_mb": "0"}

_OUTSIDE = get_opaque_trace_state()  # of an import, which no transformation surrounds


class jit:
    """`jax.jit` with our options; inside jit, grad, vmap or export of the caller without them.

    There JAX refuses options: they are those of the outermost program, `COMPILER_OPTIONS` for one
    that runs on a GPU.
    """

    def __init__(self, fun: Callable[..., Any], **options: Any):
        """Takes the arguments of `jax.jit`."""
        functools.update_wrapper(self, fun)
        self._outermost = jax.jit(fun, compiler_options=COMPILER_OPTIONS, **options)
        self._within = jax.jit(fun, **options)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the program, or makes it a part of the one being traced."""
        return (self._outermost if outside() else self._within)(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        """`lower` and all else that a function of `jax.jit` has, of the outermost program."""
        return getattr(self._outermost, name)


def outside() -> bool:
    """Whether no transformation of JAX is at work around the caller."""
    return get_opaque_trace_state() == _OUTSIDE
