"""Sampling for users: binds a model, its weights and the sampling loop into compiled programs."""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from skipdit_jax import compiler, sharding
from skipdit_jax.caching.engine import EMPTY, empty_state
from skipdit_jax.caching.plan import CachePolicy, Kinds, Sockets
from skipdit_jax.caching.summary import CacheSummary, summarise
from skipdit_jax.contracts import Backbone
from skipdit_jax.diffusion.schedules import Diffusion, Parameterization
from skipdit_jax.models.stack import bind
from skipdit_jax.registry import (
    abstract_params,
    default_diffusion,
    published_sampling,
    trained,
)
from skipdit_jax.sampling import arguments, loop
from skipdit_jax.sampling.denoiser import make_denoiser
from skipdit_jax.sampling.guidance import Guidance
from skipdit_jax.sampling.progress import NOBODY, Listener, listen
from skipdit_jax.sampling.steppers import DdimReverse, Stepper
from skipdit_jax.typing import Condition, Params, PRNGKey, Scalar

METHODS = arguments.METHODS

Images = Float[Array, "B *grid C"]
Given = Float[Array | np.ndarray, "B *grid C"]
Scale = float | int | Scalar
Samples = Images | tuple[Images, loop.Taps] | Any
"""Samples, with taps a pair; Any spares callers a cast."""


@dataclasses.dataclass(frozen=True)
class _Program:
    """What a compiled sampler depends on; everything else is data."""

    model: Backbone
    kind: Parameterization
    stepper: Stepper
    guided_channels: int | None  # None: a single batch
    sockets: Sockets
    driver: str
    static_kinds: tuple[Kinds, ...] | None  # where they are fixed in the program
    taps: bool


@partial(jax.jit, static_argnames="shape")
def _split_and_draw(
    keys: Key[Array, "B"], shape: tuple[int, ...]
) -> tuple[Images, Key[Array, "B"]]:
    """Initial noise and the keys of the steps. A program of its own, shared by all samplers."""
    first, later = jnp.moveaxis(jax.vmap(jax.random.split)(keys), 1, 0)
    return loop.normal(first, shape), later


@partial(compiler.jit, static_argnames="program")
def _run(
    program: _Program,
    params: Params,
    x: Images,
    keys: Key[Array, "B"],
    condition: Condition,
    inputs: loop.StepInputs,
    plan: loop.Steps,
    listener: Any = None,
) -> Samples:
    model, guided = program.model, program.guided_channels is not None
    denoiser = make_denoiser(
        bind(model, params),
        x,
        condition,
        model.conditioning.null(condition) if guided else None,
        program.guided_channels,
        program.sockets,
    )
    if program.static_kinds is not None:
        columns = zip(*program.static_kinds, strict=True)
        plan = plan._replace(kinds=Kinds(*(None if c[0] is None else np.array(c) for c in columns)))
    samples, taps = loop.run(
        denoiser,
        program.stepper,
        program.kind,
        x,
        inputs,
        loop.sample_noise(keys, model.sample_shape),
        plan=plan,
        driver=program.driver,
        taps=program.taps,
        listener=listener,
    )
    return (samples, taps) if program.taps else samples


class Sampler:
    """A sampling program: made once, called with weights, keys and labels as often as wanted.

    Nothing recompiles when weights, seed, labels, guidance scale (above 1), or a schedule or plan
    of the same number of steps changes.
    """

    def __init__(
        self,
        model: Backbone,
        *,
        steps: int | str = 250,
        method: str = "ddpm",
        guidance: Scale | Guidance = 1.0,
        cache: CachePolicy | str | None = None,
        diffusion: Diffusion | None = None,
        eta: float = 0.0,
        clip: bool | None = None,
        stepper: Stepper | None = None,
        driver: str = "scan",
        taps: bool = False,
        progress: Listener | None = None,
    ):
        """See `sample` for the arguments.

        Raises:
          ValueError: for settings that the model cannot follow.
        """
        published = published_sampling(model)
        base = default_diffusion(model) if diffusion is None else diffusion
        self.diffusion = arguments.as_process(base, steps)
        self.guidance = arguments.as_guidance(model, guidance, published.guided_channels)
        self.inputs = loop.step_inputs(self.diffusion, self.guidance)
        self.cache = arguments.as_policy(cache, published.cache, _recommended_cache(model))
        self.plan = arguments.make_plan(
            model, self.cache, self.diffusion, self.guidance, self.inputs.t
        )
        self.progress = progress
        planned, sockets = loop.Steps(), EMPTY
        if self.plan is not None:
            planned, sockets = loop.Steps(self.plan.kinds, self.plan.rows), self.plan.sockets
        fixed = None if driver == "scan" else tuple(planned.each(len(self.inputs.t)))
        self._steps = planned if fixed is None else planned._replace(kinds=Kinds())
        self._program = _Program(
            model=model,
            kind=self.diffusion.parameterization,
            stepper=arguments.as_stepper(
                method, eta, _clips(model) if clip is None and stepper is None else clip, stepper
            ),
            guided_channels=_guided_channels(model, self.guidance),
            sockets=sockets,
            driver=driver,
            static_kinds=fixed,
            taps=taps,
        )

    def arguments(
        self, params: Params, keys: Key[Array, "B"], labels: Any = None, x: Given | None = None
    ) -> tuple[Any, ...]:
        """The data arguments of the compiled program for one run; they are checked here."""
        return (*self._data(params, keys, labels, x), self._listener())

    def _data(self, params: Params, keys: Any, labels: Any, x: Any = None) -> tuple[Any, ...]:
        model, params = self._program.model, sharding.off_explicit(params)
        keys, x = sharding.off_explicit((arguments.as_keys(keys), x))
        condition = model.conditioning.prepare(labels, len(keys))
        noise, keys = _split_and_draw(keys, model.sample_shape)
        x = noise if x is None else arguments.as_latents(model, x, len(keys))
        return params, x, keys, condition, self.inputs, self._steps

    def _listener(self) -> Any:
        if self.progress is None:
            return None
        # A program of the caller may run again and again, and nobody tells when it is forgotten.
        return listen(self.progress, len(self.inputs.t) if compiler.outside() else np.inf)

    def __call__(
        self,
        params: Params,
        keys: Key[Array, "B"],
        labels: Any = None,
        x: Given | None = None,
    ) -> Samples:
        """Samples one batch.

        Args:
          params: weights.
          keys: one per sample, [B].
          labels: one per sample, or whatever the model is conditioned on.
          x: what to start from in place of noise drawn from the keys, [B,H,W,C].

        Returns:
          Float32 [B,H,W,C]; with taps also `Taps`.
        """
        return _run(self._program, *self.arguments(params, keys, labels, x))

    def lower(self, params: Params, keys: Key[Array, "B"], labels: Any = None) -> Any:
        """The traced program (`jax.stages.Lowered`); its compiled form takes `arguments`."""
        listener = None if self.progress is None else NOBODY
        return _run.lower(self._program, *self._data(params, keys, labels), listener)

    def summary(self, batch: int) -> CacheSummary:
        """Steps, FLOPs, the ceiling of the speedup and cache bytes of one batch."""
        model = self._program.model
        rows = batch * (2 if self.guidance.doubles else 1)
        params, inputs = abstract_params(model), model.example_inputs(rows)
        kept = jax.eval_shape(
            lambda p, *inputs: empty_state(bind(model, p), self._program.sockets, *inputs),
            params,
            *inputs,
        )
        return summarise(self.plan, len(self.inputs.t), model.costs, rows, kept)


def _clips(model: Backbone) -> bool:
    carried = trained(model)
    return carried is not None and carried.clip


def _recommended_cache(model: Backbone) -> CachePolicy | None:
    carried = trained(model)
    return None if carried is None else carried.cache


def _guided_channels(model: Backbone, guidance: Guidance) -> int | None:
    return (guidance.channels or model.sample_shape[-1]) if guidance.doubles else None


def sample_keys(key: PRNGKey, first: int, count: int) -> Key[Array, "B"]:
    """Keys of samples first..first+count-1: sample i is the same in whatever batch it is drawn."""
    numbers = np.arange(first, first + count)
    return jax.vmap(partial(jax.random.fold_in, arguments.as_key(key)))(numbers)


def sample(
    model: Backbone,
    params: Params,
    key: PRNGKey,
    labels: Any = None,
    *,
    num_samples: int | None = None,
    x: Given | None = None,
    steps: int | str = 250,
    method: str = "ddpm",
    guidance: Scale | Guidance = 1.0,
    cache: CachePolicy | str | None = None,
    diffusion: Diffusion | None = None,
    eta: float = 0.0,
    clip: bool | None = None,
    stepper: Stepper | None = None,
    driver: str = "scan",
    taps: bool = False,
    progress: Listener | None = None,
) -> Samples:
    """Draws samples in one compiled program, a pure function: it may stand inside jit, grad, vmap
    and export, with parameters, key, labels, x and guidance scale traced.

    Args:
      model: from `create_model` or `load_checkpoint`.
      params: its weights.
      key: `jax.random.key(seed)`.
      labels: one class per sample, or whatever the model is conditioned on (`Conditioning`); None
        for an unconditional model. Classes that are traced cannot be checked.
      num_samples: how many, for an unconditional model; default: 1.
      x: what to start from in place of noise drawn from the key, [B,H,W,C]; see `invert`.
      steps: S, or a spacing such as "ddim50" or "10,15,25".
      method: "ddpm" (ancestral) or "ddim".
      guidance: classifier-free guidance scale, or a `Guidance`. At most 1 runs a single batch.
      cache: a policy such as `SkipCache(every=3)`, or its notation, "N3"; None computes every step.
      diffusion: the process that the weights were trained on; None is what the file of a loaded
        model says, else the published one.
      eta: noise of DDIM, 0 to 1.
      clip: clip the predicted picture to [-1, 1] at each step; None clips where the file of a
        loaded model says so, or says nothing and its samples are pixels.
      stepper: a solver of your own (`sampling.steppers.Stepper`: hashable) in place of method, eta
        and clip.
      driver: "scan", "nested" or "unrolled"; see sampling/drivers.py.
      taps: also return what every step made, `sampling.loop.Taps`.
      progress: called with the index of each finished step.

    Returns:
      float32 [B,H,W,C]: latents, or pixels in [-1, 1] of a pixel model. With taps a pair, the
      second model_output [S,B,H,W,C_out] and sample [S,B,H,W,C].

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
        stepper=stepper,
        driver=driver,
        taps=taps,
        progress=progress,
    )
    keys = sample_keys(key, 0, arguments.as_count(labels, num_samples))
    return sampler(params, keys, labels, x)


def invert(
    model: Backbone,
    params: Params,
    images: Given,
    labels: Any = None,
    *,
    steps: int | str = 250,
    guidance: Scale | Guidance = 1.0,
    diffusion: Diffusion | None = None,
    clip: bool | None = None,
) -> Images:
    """Finds the noise that DDIM makes these pictures of (Song et al., 2010.02502, section 4.3).

    `sample(..., x=noise, method="ddim")` with the same steps gives the pictures back, the nearer
    the more steps there are: both follow the same curve, in steps of finite length.

    Args:
      model: from `create_model` or `load_checkpoint`.
      params: its weights.
      images: what to invert, [B,H,W,C]: latents, or pixels in [-1, 1] of a pixel model.
      labels: one class per picture; None for an unconditional model.
      steps: S, or a spacing; S - 1 calls of the model, as the picture counts as the first of S.
      guidance: as in `sample`; far from 1 the way back is less exact.
      diffusion: as in `sample`.
      clip: as in `sample`.

    Returns:
      float32 [B,H,W,C], at the noise level that a run of the same steps starts from.

    Raises:
      ValueError: for settings that the model cannot follow, or fewer than 2 steps.
    """
    base = default_diffusion(model) if diffusion is None else diffusion
    process = arguments.as_process(base, steps)
    if process.num_steps < 2:
        raise ValueError(f"invert: found {process.num_steps} step, wanted 2 or more")
    channels = published_sampling(model).guided_channels
    settings = arguments.as_guidance(model, guidance, channels)
    rows = loop.step_inputs(process, settings, ascending=True)
    program = _Program(
        model=model,
        kind=process.parameterization,
        stepper=DdimReverse(clip=_clips(model) if clip is None else clip),
        guided_channels=_guided_channels(model, settings),
        sockets=EMPTY,
        driver="scan",
        static_kinds=None,
        taps=False,
    )
    x = arguments.as_latents(model, images)
    # The step behind the last level would end at pure noise, which no run starts from.
    between = jax.tree.map(lambda column: column[:-1], rows)
    keys = sample_keys(jax.random.key(0), 0, len(x))  # of noise that this stepper never draws
    condition = model.conditioning.prepare(labels, len(x))
    return _run(program, params, x, keys, condition, between, loop.Steps())
