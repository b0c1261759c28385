"""Sampling for users: binds a model, its weights and the sampling loop into compiled programs."""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from skipdit_jax.caching.engine import check_plan
from skipdit_jax.caching.policy import SkipCache
from skipdit_jax.caching.summary import CacheSummary, summarise
from skipdit_jax.compiler import COMPILER_OPTIONS
from skipdit_jax.diffusion.schedules import Diffusion, Parameterization
from skipdit_jax.models.stack import bind
from skipdit_jax.registry import abstract_params, default_diffusion, published_sampling
from skipdit_jax.sampling import loop
from skipdit_jax.sampling.denoiser import make_denoiser
from skipdit_jax.sampling.guidance import Guidance
from skipdit_jax.sampling.steppers import Ddim, Ddpm
from skipdit_jax.typing import CachePolicy, Labels, Params, Plan, PRNGKey, Trunk

METHODS = ("ddpm", "ddim")

Images = Float[Array, "B *grid C"]


@dataclasses.dataclass(frozen=True)
class _Program:
    """What a compiled sampler depends on; everything else is data."""

    model: nn.Module
    kind: Parameterization
    stepper: Ddpm | Ddim
    guided_channels: int | None  # None: a single batch
    trunk: Trunk | None
    driver: str
    static_reuse: tuple[bool, ...] | None
    progress: Callable[[Any], None] | None


@partial(jax.jit, static_argnames="shape")
def _split_and_draw(
    keys: Key[Array, "B"], shape: tuple[int, ...]
) -> tuple[Images, Key[Array, "B"]]:
    """Initial noise and the keys of the steps. A program of its own, shared by all samplers."""
    first, later = jnp.moveaxis(jax.vmap(jax.random.split)(keys), 1, 0)
    return jax.vmap(lambda key: jax.random.normal(key, shape))(first), later


@partial(jax.jit, static_argnames="program", compiler_options=COMPILER_OPTIONS)
def _run(
    program: _Program,
    params: Params,
    x: Images,
    keys: Key[Array, "B"],
    labels: Labels | None,
    inputs: loop.StepInputs,
    reuse: Any,
) -> Images:
    model = program.model
    null = None
    if program.guided_channels is not None and labels is not None:
        null = jnp.full_like(labels, model.config.num_classes)
    denoiser = make_denoiser(
        bind(model, params), x, labels, null, program.guided_channels, program.trunk
    )
    samples, _ = loop.run(
        *(denoiser, program.stepper, program.kind, x, inputs),
        loop.sample_noise(keys, model.config.sample_shape),
        reuse=reuse if program.static_reuse is None else np.array(program.static_reuse),
        driver=program.driver,
        progress=program.progress,
    )
    return samples


class Sampler:
    """A sampling program: made once, called with weights, keys and labels as often as wanted.

    Nothing recompiles when weights, seed, labels, guidance scale (above 1), or a schedule or plan
    of the same number of steps changes.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        steps: int | str = 250,
        method: str = "ddpm",
        guidance: float | Guidance = 1.0,
        cache: CachePolicy | None = None,
        diffusion: Diffusion | None = None,
        eta: float = 0.0,
        clip: bool = False,
        driver: str = "scan",
        progress: Callable[[Any], None] | None = None,
    ):
        """See `sample` for the arguments.

        Raises:
          ValueError: for settings that the model cannot follow.
        """
        if method not in METHODS:
            raise ValueError(f"method is {method!r}, wanted one of {', '.join(METHODS)}")
        base = default_diffusion(model) if diffusion is None else diffusion
        self.diffusion = base.respace(str(steps))
        self.guidance = _as_guidance(model, guidance)
        self.inputs = loop.step_inputs(self.diffusion, self.guidance)
        if isinstance(cache, SkipCache):
            cache = cache.like(published_sampling(model).cache)
        self.cache = cache
        self.plan = _plan(model, cache, self.inputs.t)
        reuse = None if self.plan is None else self.plan.reuse
        self._reuse = reuse if driver == "scan" else None
        stepper = Ddpm(clip=clip) if method == "ddpm" else Ddim(eta=eta, clip=clip)
        channels = self.guidance.channels or model.config.in_channels
        self._program = _Program(
            model=model,
            kind=self.diffusion.parameterization,
            stepper=stepper,
            guided_channels=channels if self.guidance.doubles else None,
            trunk=None if self.plan is None else self.plan.trunk,
            driver=driver,
            static_reuse=None if reuse is None or driver == "scan" else tuple(map(bool, reuse)),
            progress=progress,
        )

    def arguments(self, params: Params, keys: Key[Array, "B"], labels: Any) -> tuple[Any, ...]:
        """The data arguments of the compiled program; labels are checked here."""
        labels = _check_labels(self._program.model, labels, len(keys), self.guidance.doubles)
        x, keys = _split_and_draw(keys, self._program.model.config.sample_shape)
        return params, x, keys, labels, self.inputs, self._reuse

    def __call__(self, params: Params, keys: Key[Array, "B"], labels: Any = None) -> Images:
        """Samples one batch: one key (and label) per sample, [B] -> float32 [B,H,W,C]."""
        return _run(self._program, *self.arguments(params, keys, labels))

    def lower(self, params: Params, keys: Key[Array, "B"], labels: Any = None) -> Any:
        """The traced program (`jax.stages.Lowered`); its compiled form takes `arguments`."""
        return _run.lower(self._program, *self.arguments(params, keys, labels))

    def summary(self, batch: int) -> CacheSummary:
        """Steps, FLOPs, the ceiling of the speedup and cache bytes of one batch."""
        model = self._program.model
        rows = batch * (2 if self.guidance.doubles else 1)
        x = jax.ShapeDtypeStruct((rows, *model.config.sample_shape), jnp.float32)
        t = jax.ShapeDtypeStruct((rows,), jnp.float32)
        y = jax.ShapeDtypeStruct((rows,), jnp.int32) if model.config.num_classes else None
        params = abstract_params(model)
        cache, _ = jax.eval_shape(lambda p, *inputs: bind(model, p).embed(*inputs), params, x, t, y)
        return summarise(self.plan, len(self.inputs.t), model.costs, rows, cache)


def _as_guidance(model: nn.Module, guidance: float | Guidance) -> Guidance:
    if not isinstance(guidance, Guidance):
        channels = published_sampling(model).guided_channels
        guidance = Guidance(scale=float(guidance), channels=channels)
    if guidance.doubles and not model.config.has_null_class:
        raise ValueError(
            f"guidance scale {guidance.scale} needs a model trained with label dropout; "
            "use a scale of at most 1"
        )
    return guidance


def _plan(model: nn.Module, cache: CachePolicy | None, timesteps: np.ndarray) -> Plan | None:
    if cache is None:
        return None
    plan = cache.plan(timesteps.astype(np.int64))
    check_plan(plan, model.num_stages, model.num_skips)
    return plan


def _check_labels(model: nn.Module, labels: Any, batch: int, guided: bool) -> Labels | None:
    classes = model.config.num_classes
    if not classes:
        if labels is not None:
            raise ValueError("labels: the model is unconditional, wanted none")
        return None
    if labels is None:
        raise ValueError(f"labels: none given, wanted {batch} numbers from 0 to {classes - 1}")
    labels = np.asarray(labels)
    if labels.shape != (batch,) or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels: found {labels.tolist()}, wanted {batch} whole numbers")
    if outside := [int(y) for y in labels if not 0 <= y < classes]:
        raise ValueError(f"labels: {outside} outside 0..{classes - 1}")
    return jnp.asarray(labels, jnp.int32)


def sample_keys(key: PRNGKey, first: int, count: int) -> Key[Array, "B"]:
    """Keys of samples first..first+count-1: sample i is the same in whatever batch it is drawn."""
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        key = jax.random.wrap_key_data(key)
    return jax.vmap(partial(jax.random.fold_in, key))(np.arange(first, first + count))


def sample(
    model: nn.Module,
    params: Params,
    key: PRNGKey,
    labels: Sequence[int] | None = None,
    *,
    num_samples: int | None = None,
    steps: int | str = 250,
    method: str = "ddpm",
    guidance: float | Guidance = 1.0,
    cache: CachePolicy | None = None,
    diffusion: Diffusion | None = None,
    eta: float = 0.0,
    clip: bool = False,
    driver: str = "scan",
    progress: Callable[[Any], None] | None = None,
) -> Images:
    """Draws samples in one compiled program.

    Args:
      model: from `create_model` or `load_checkpoint`.
      params: its weights.
      key: `jax.random.key(seed)`.
      labels: one class per sample; None for an unconditional model.
      num_samples: how many, for an unconditional model.
      steps: S, or a spacing such as "ddim50" or "10,15,25".
      method: "ddpm" (ancestral) or "ddim".
      guidance: classifier-free guidance scale, or a `Guidance`. At most 1 runs a single batch.
      cache: a policy such as `SkipCache(every=3)`; None computes every step.
      diffusion: the process that the weights were trained on; None is the published one.
      eta: noise of DDIM, 0 to 1.
      clip: clip the predicted picture to [-1, 1] at each step (pixel models).
      driver: "scan", "nested" or "unrolled"; see caching/drivers.py.
      progress: called with the index of each finished step.

    Returns:
      float32 [B,H,W,C]: latents, or pixels in [-1, 1] of a pixel model.

    Raises:
      ValueError: for settings that the model cannot follow.

    Examples:
      >>> import jax, skipdit_jax as sd
      >>> tiny = {"depth": 4, "hidden_size": 16, "num_heads": 2, "input_size": 8}
      >>> model = sd.create_model("DiT-S/2-skip", **tiny)
      >>> params = sd.init_params(model, jax.random.key(0))
      >>> cache = sd.SkipCache(every=2, branch=1)
      >>> sd.sample(model, params, jax.random.key(1), labels=[207, 360], steps=4, cache=cache).shape
      (2, 8, 8, 4)
    """
    sampler = Sampler(
        model,
        steps=steps,
        method=method,
        guidance=guidance,
        cache=cache,
        diffusion=diffusion,
        eta=eta,
        clip=clip,
        driver=driver,
        progress=progress,
    )
    count = (num_samples or 1) if labels is None else len(labels)
    return sampler(params, sample_keys(key, 0, count), labels)
