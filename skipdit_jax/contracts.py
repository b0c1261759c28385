"""What the parts of the library promise each other, written down once.

A backbone (models/, or one of your own) offers the calls of `Backbone`; sampling and training see
it through `StagedModel`, through functions, and through its `Conditioning`; a caching method sees
it through `StagedModel` and through the `Hook` that its sub-layers call.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Array, Float

from skipdit_jax.typing import Condition, Params, PRNGKey, Skips


@dataclass(frozen=True)
class StagedModel:
    """A backbone with its parameters bound: all that sampling ever sees of a network.

    Attributes:
      embed: (x [B,H,W,C], t [B], condition) -> tokens h [B,N,D] and conditioning c (a pytree).
      run: (h, c, skips, lo, hi, hook=None) -> (h, skips) after stages lo..hi-1. A model without the
        seam (`Seam`) may leave `hook` out: caches of sub-layers then do not apply to it.
      head: (h, c) -> prediction [B,H,W,C_out].
      prepare: (t [B], condition) -> c with all in it that depends on no more than these, which
        `embed` then takes as a last argument and returns: rows of all steps can be made at once.
        None where that would take more memory than it spares reading. A model may have none.
      digest: condition -> a pytree of leaves [B,...] with all that the network makes of the
        condition alone; `embed` and `prepare` take it in the condition's place. The same for all
        steps, so it can be made once, before them. A model may have none.
      num_stages: U. Stage u < K pushes its output; stage u >= U - K fuses that of stage U-1-u.
      num_skips: K; 0 for a plain model.
    """

    embed: Callable[..., tuple[Array, Any]]
    run: Callable[..., tuple[Array, Skips]]
    head: Callable[..., Array]
    num_stages: int
    num_skips: int
    prepare: Callable[..., Any] | None = None
    digest: Callable[[Condition], Any] | None = None


@dataclass(frozen=True)
class Costs:
    """FLOPs of a backbone's parts for one network row (a multiply-add counts as two).

    Embedding and final layer, 0.02 % of DiT-XL/2, are left out, as in the published figures.

    Attributes:
      stage: one stage.
      fuse: one long-skip fusion.
      num_stages: U.
      num_skips: K.
      sublayers: (name, FLOPs) of the sub-layers of a stage that pass the seam (`Seam`), as they
        run; what is left of `stage` is modulation. Empty for a model without the seam.
    """

    stage: int
    fuse: int
    num_stages: int
    num_skips: int
    sublayers: tuple[tuple[str, int], ...] = ()

    def total(self) -> int:
        """FLOPs of a whole call."""
        return self.stages(0, self.num_stages)

    def stages(self, lo: int, hi: int) -> int:
        """FLOPs of stages lo..hi-1, with the fusions in front of those from U - K on."""
        fusions = max(0, hi - max(lo, self.num_stages - self.num_skips))
        return (hi - lo) * self.stage + fusions * self.fuse


WORTHS = ("attention", "values")
"""What a token is worth to attention: how much of it it receives, or by the size of its values."""

Worth = Callable[[Array, str], Float[Array, "B *frames N"]]


class Sublayer(NamedTuple):
    """A sub-layer at the place where a model makes its update: h <- h + gate * update.

    Attributes:
      stage: which stage it belongs to.
      name: "attn", "mlp", and in models that have them "xattn", "tattn", "tmlp".
      x: its input behind norm and modulation, [B,N,D] or [B,F,N,D].
      gate: what multiplies its update, broadcastable to x; None where it has none.
      run: x, or some of its tokens, -> the update before the gate.
      worth: attention of tokens to each other only: (x, one of `WORTHS`) -> float32 [B,..,N], by
        which methods choose tokens. None in other sub-layers, and in models that cannot tell.
    """

    stage: int
    name: str
    x: Array
    gate: Any
    run: Callable[[Array], Array]
    worth: Worth | None = None

    def plain(self) -> tuple[Any, Array]:
        """What happens without a hook: the gate, and the update computed."""
        return self.gate, self.run(self.x)


Hook = Callable[[Sublayer], tuple[Any, Array]]
"""What a model calls, at trace time, in place of a sub-layer: returns its gate and its update.

`sublayer.plain()` is what happens without one. It is an argument of a trace, no part of a module.
"""


class Seam(NamedTuple):
    """A stage's own view of the hook, if there is one: what a block calls for each sub-layer.

    Attributes:
      hook: None computes everything: the program is then that of a model without the seam.
      stage: which stage calls.
    """

    hook: Hook | None = None
    stage: int = 0

    def __call__(
        self,
        name: str,
        x: Array,
        gate: Any,
        run: Callable[[Array], Array],
        worth: Worth | None = None,
    ) -> tuple[Any, Array]:
        """Returns the gate and the update of a sub-layer; see `Sublayer`."""
        sublayer = Sublayer(self.stage, name, x, gate, run, worth)
        return sublayer.plain() if self.hook is None else self.hook(sublayer)


@runtime_checkable
class Conditioning(Protocol):
    """What a family is conditioned on besides time: the only place that knows its kind.

    A condition is a pytree whose leaves are [B,...], or None for an unconditional model.
    """

    @property
    def has_null(self) -> bool:
        """Whether the model was trained without its condition too, as guidance needs."""
        ...

    def prepare(self, given: Any, rows: int) -> Condition:
        """Checks what a user gave for so many samples, and makes a condition of it.

        Raises:
          ValueError: it is none, in one line.
        """
        ...

    def null(self, condition: Condition) -> Condition:
        """Returns "no condition", of the structure and shapes of the given one; traceable."""
        ...

    def of_batch(self, batch: Mapping[str, Any]) -> Condition:
        """Returns the condition that a training batch holds."""
        ...

    def drop(self, key: PRNGKey, condition: Condition) -> Condition:
        """Replaces some rows by the null, as often as the model is trained without; traceable."""
        ...

    def examples(self, rows: int) -> Condition:
        """Shapes and types of so many rows, `jax.ShapeDtypeStruct`, for tracing."""
        ...


@runtime_checkable
class NetworkConfig(Protocol):
    """A frozen dataclass of plain values that fixes a network's function, apart from its weights.

    Files hold its fields (`dataclasses.asdict`), so that a checkpoint knows its model.
    """

    FAMILY: ClassVar[str]  # what errors call the network
    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def dtype(self) -> str:
        """Compute type, "float32" or "bfloat16"."""
        ...

    @property
    def param_dtype(self) -> str:
        """Type of the stored weights."""
        ...


@runtime_checkable
class Network(Protocol):
    """A flax module with the config that it was made from."""

    @property
    def config(self) -> Any:
        """A `NetworkConfig`."""
        ...

    def example_inputs(self, rows: int = 1) -> tuple[Any, ...]:
        """Shapes and types of the arguments of a call, `jax.ShapeDtypeStruct`, for tracing."""
        ...

    def init(self, *args: Any, **kwargs: Any) -> Any:
        """As of `flax.linen.Module`."""
        ...

    def lazy_init(self, *args: Any, **kwargs: Any) -> Any:
        """As of `flax.linen.Module`."""
        ...

    def apply(self, *args: Any, **kwargs: Any) -> Any:
        """As of `flax.linen.Module`."""
        ...

    def clone(self, **changes: Any) -> Any:
        """As of `flax.linen.Module`."""
        ...

    def __hash__(self) -> int:
        """Equal for equal configs, so that nothing is compiled twice."""
        ...


@runtime_checkable
class Backbone(Network, Protocol):
    """What the library reads of a diffusion model: nothing else of it may matter anywhere.

    The three calls `embed`, `run` and `head` are those of `StagedModel` (before parameters are
    bound), and `__call__` is all of them. One that is not a flax module offers the same. Methods
    `prepare` and `digest`, if it has them, are those of `StagedModel` too.
    """

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """(H, W, C) of one latent or picture, (F, H, W, C) of one clip."""
        ...

    @property
    def learns_variance(self) -> bool:
        """Whether the head gives C more channels, of the variance."""
        ...

    @property
    def conditioning(self) -> Conditioning:
        """What it is conditioned on."""
        ...

    @property
    def num_stages(self) -> int:
        """U."""
        ...

    @property
    def num_skips(self) -> int:
        """K."""
        ...

    @property
    def costs(self) -> Costs:
        """FLOPs of its parts per network row."""
        ...

    def embed(self, x: Array, t: Array, condition: Condition) -> tuple[Array, Any]:
        """See `StagedModel`."""
        ...

    def run(
        self, h: Array, c: Any, skips: Skips, lo: int, hi: int, hook: Hook | None = None
    ) -> tuple[Array, Skips]:
        """See `StagedModel`."""
        ...

    def head(self, h: Array, c: Any) -> Array:
        """See `StagedModel`."""
        ...


@runtime_checkable
class LoadedBackbone(Backbone, Protocol):
    """A backbone with a field for what its weights say of sampling from them.

    The field takes no part in comparisons, so that nothing is compiled for its sake. Of a family
    without it `load_checkpoint` warns where weights want another process than the published one.
    """

    @property
    def trained(self) -> Any:
        """A `registry.Trained`, or None."""
        ...


@runtime_checkable
class JointBackbone(Backbone, Protocol):
    """A backbone of clips that also trains on clips with independent images behind them."""

    def joint_costs(self, images: int) -> Costs:
        """FLOPs of a clip with so many images."""
        ...


Apply = Callable[[Params, Array, Array, Condition], Array]
"""(parameters, x [B,..,C], t [B], condition) -> prediction: all that training sees of a network."""
