"""A network of one's own as a backbone: four plain functions, with whatever library they are made.

Sampling, guidance and caches then work as with the families of the package; nothing is registered.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from skipdit_jax.contracts import Conditioning, Costs, Hook, Seam
from skipdit_jax.models.conditions import ClassConditioning
from skipdit_jax.models.stack import run_stages
from skipdit_jax.typing import Condition, Params, Skips

UNCONDITIONAL = ClassConditioning(0)


class Parts(NamedTuple):
    """The functions of a network; see `own_model`."""

    init: Callable[..., Any]
    embed: Callable[..., tuple[Array, Any]]
    stage: Callable[..., Array]
    head: Callable[..., Array]
    fuse: Callable[..., Array] | None = None
    prepare: Callable[..., Any] | None = None
    digest: Callable[..., Any] | None = None


@dataclasses.dataclass(frozen=True)
class OwnModel:
    """A `contracts.Backbone` of plain functions; made by `own_model`.

    Equal functions and numbers make equal models: nothing compiles twice.

    Attributes:
      parts: its functions.
      sample_shape: (H, W, C), of clips (F, H, W, C).
      costs: FLOPs of its parts, with U and K.
      conditioning: what it is conditioned on.
      learns_variance: whether the head gives C more channels.
      token_grid: rows and columns of the tokens of a picture or frame; None: nobody needs them.
      params: bound parameters, for the length of one call.
    """

    FAMILY: ClassVar[str] = "own"
    dtype: ClassVar[str] = "float32"
    param_dtype: ClassVar[str] = "float32"

    parts: Parts
    sample_shape: tuple[int, ...]
    costs: Costs
    conditioning: Conditioning = UNCONDITIONAL
    learns_variance: bool = False
    token_grid: tuple[int, int] | None = None
    params: Any = dataclasses.field(default=None, compare=False, repr=False)

    @property
    def config(self) -> "OwnModel":
        """Itself: functions are all that it is made from, and no file can hold them."""
        return self

    @property
    def num_stages(self) -> int:
        """U."""
        return self.costs.num_stages

    @property
    def num_skips(self) -> int:
        """K."""
        return self.costs.num_skips

    def embed(self, x: Array, t: Array, condition: Condition, *c: Any) -> tuple[Array, Any]:
        """See `contracts.StagedModel`."""
        return self.parts.embed(self.params, x, t, condition, *c)

    def prepare(self, t: Array, condition: Condition) -> Any:
        """See `contracts.StagedModel`."""
        make = self.parts.prepare
        return None if make is None else make(self.params, t, condition)

    def digest(self, condition: Condition) -> Any:
        """See `contracts.StagedModel`."""
        make = self.parts.digest
        return None if make is None else make(self.params, condition)

    def run(
        self, h: Array, c: Any, skips: Skips, lo: int, hi: int, hook: Hook | None = None
    ) -> tuple[Array, Skips]:
        """See `contracts.StagedModel`."""

        def stage(u: int, h: Array, seam: Seam) -> Array:
            return self.parts.stage(self.params, u, h, c, seam)

        return run_stages(
            stage,
            partial(self.parts.fuse or _no_fuse, self.params),
            h,
            skips,
            range(lo, hi),
            num_stages=self.num_stages,
            num_skips=self.num_skips,
            hook=hook,
        )

    def head(self, h: Array, c: Any) -> Array:
        """See `contracts.StagedModel`."""
        return self.parts.head(self.params, h, c)

    def __call__(self, x: Array, t: Array, condition: Condition) -> Array:
        """A whole call, [B,..,C] -> [B,..,C_out]."""
        h, c = self.embed(x, t, condition)
        return self.head(self.run(h, c, {}, 0, self.num_stages)[0], c)

    def apply(self, variables: Any, *args: Any, method: str = "__call__", **kwargs: Any) -> Any:
        """As of `flax.linen.Module`: a call with {"params": parameters}."""
        return getattr(self.clone(params=variables["params"]), method)(*args, **kwargs)

    def init(self, key: Array, *inputs: Any) -> Any:
        """As of `flax.linen.Module`: {"params": new parameters}."""
        return {"params": self.parts.init(key)}

    lazy_init = init

    def clone(self, **changes: Any) -> "OwnModel":
        """Returns a copy with other fields."""
        return dataclasses.replace(self, **changes)

    def example_inputs(self, rows: int = 1) -> tuple[Any, ...]:
        """Shapes and types of (x, t, condition) of so many rows, for tracing."""
        x = jax.ShapeDtypeStruct((rows, *self.sample_shape), jnp.float32)
        return x, jax.ShapeDtypeStruct((rows,), jnp.float32), self.conditioning.examples(rows)


def own_model(
    *,
    init: Callable[..., Params],
    embed: Callable[..., tuple[Array, Any]],
    stage: Callable[..., Array],
    head: Callable[..., Array],
    costs: Costs,
    sample_shape: tuple[int, ...],
    fuse: Callable[..., Array] | None = None,
    prepare: Callable[..., Any] | None = None,
    digest: Callable[..., Any] | None = None,
    conditioning: Conditioning = UNCONDITIONAL,
    learns_variance: bool = False,
    token_grid: tuple[int, int] | None = None,
) -> OwnModel:
    """Makes a model of plain functions, for `sample`, `Sampler` and all that take a model.

    The functions are pure and known by identity: define them once, where a module is imported.
    Parameters are a dict of whatever arrays they want.

    Args:
      init: key -> parameters.
      embed: (params, x [B,..,C], t [B], condition) -> tokens h [B,N,D] and conditioning c, a pytree
        of arrays [B,...].
      stage: (params, u, h, c, seam) -> h behind stage u = 0..U-1, a Python int. A stage that calls
        `seam(name, x, gate, run)` for its sub-layers lets caches reuse them, see `contracts.Seam`.
      head: (params, h, c) -> prediction [B,..,C], or [B,..,2C] with learned variance.
      costs: FLOPs of a stage, a fusion and the sub-layers, U and K (`contracts.Costs`).
      sample_shape: (H, W, C), of clips (F, H, W, C).
      fuse: (params, j, h, skip) -> h in front of stage U-K+j, where the model has long skips.
      prepare: (params, t, condition) -> c with all that depends on no more than these, which
        `embed` then takes as a last argument and returns; see `contracts.StagedModel`.
      digest: (params, condition) -> all that is made of the condition alone, which `embed` and
        `prepare` take in its place; made once for all steps.
      conditioning: such as `ClassConditioning(num_classes, dropout)`; default: nothing.
      learns_variance: whether the head gives C more channels, of the variance.
      token_grid: rows and columns of the N tokens of a picture or frame, for caches that choose
        tokens; their scores come from the seam's last argument, see `contracts.Sublayer`.

    Raises:
      ValueError: numbers that describe no model.
    """
    stages, skips = costs.num_stages, costs.num_skips
    if stages < 1 or not 0 <= skips <= stages / 2:
        raise ValueError(
            f"own_model: found {stages} stages and {skips} skips, wanted 1 stage or more and at "
            "most half as many skips"
        )
    if bool(skips) != (fuse is not None):
        raise ValueError(
            f"own_model: found {skips} skips and {'no' if fuse is None else 'a'} fuse, wanted both "
            "or neither"
        )
    parts = Parts(init, embed, stage, head, fuse, prepare, digest)
    return OwnModel(parts, sample_shape, costs, conditioning, learns_variance, token_grid)


def _no_fuse(params: Any, number: int, h: Array, skip: Array) -> Array:
    raise ValueError("own_model: a model without skips has nothing to fuse")
