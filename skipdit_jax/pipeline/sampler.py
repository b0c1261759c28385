"""A sampling program bound to a model: settings checked, plan made, arguments gathered."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from skipdit_jax import compiler, sharding
from skipdit_jax.caching.engine import EMPTY
from skipdit_jax.caching.plan import CachePolicy, Kinds
from skipdit_jax.caching.summary import CacheSummary, summarise
from skipdit_jax.contracts import Backbone
from skipdit_jax.diffusion.schedules import Diffusion
from skipdit_jax.pipeline.program import (
    Given,
    Program,
    Samples,
    Scale,
    denoiser_of,
    digest_of,
    sampling_run,
    split_and_draw,
)
from skipdit_jax.registry import abstract_params, default_diffusion, published_sampling, trained
from skipdit_jax.sampling import arguments, loop
from skipdit_jax.sampling.guidance import Guidance
from skipdit_jax.sampling.methods import can_clip, read_method
from skipdit_jax.sampling.progress import NOBODY, Listener, listen
from skipdit_jax.sampling.steppers import Stepper, traced_part
from skipdit_jax.typing import Params, PRNGKey


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
        details: bool = False,
        progress: Listener | None = None,
        hoist: bool | None = None,
    ):
        """See `sample` for the arguments.

        Raises:
          ValueError: for settings that the model cannot follow.
        """
        published = published_sampling(model)
        base = default_diffusion(model) if diffusion is None else diffusion
        steps = arguments.laid_out(base, steps, published.steps)
        self.diffusion = arguments.as_process(base, steps)
        self.guidance = arguments.as_guidance(model, guidance, published.guided_channels)
        if clip is None and stepper is None:
            clip = clips(model) and can_clip(read_method(method))
        stepper = arguments.as_stepper(method, eta, clip, stepper, self.diffusion)
        schedule = loop.make_schedule(self.diffusion, stepper)
        arguments.check_trained(base, schedule.timesteps, steps)
        self.inputs = loop.step_inputs(self.diffusion, self.guidance, schedule=schedule)
        self._start = np.float32(schedule.start)
        self.cache = arguments.as_policy(cache, published.cache, _recommended_cache(model))
        self.plan = arguments.make_plan(
            model, self.cache, self.diffusion, self.guidance, self.inputs.t
        )
        self.progress = progress
        planned, sockets = loop.Steps(), EMPTY
        if self.plan is not None:
            planned, sockets = loop.Steps(self.plan.kinds, self.plan.rows), self.plan.sockets
        fixed = None
        if driver != "scan":
            fixed = Kinds(*(None if k is None else tuple(k.tolist()) for k in planned.kinds))
        self._steps = planned if fixed is None else planned._replace(kinds=Kinds())
        self._program = Program(
            model=model,
            kind=self.diffusion.parameterization,
            stepper=traced_part(stepper),
            guided_channels=guided_channels_of(model, self.guidance),
            sockets=sockets,
            driver=driver,
            static_kinds=fixed,
            taps=taps,
            details=details,
            hoist=hoist,
        )

    @property
    def program(self) -> Program:
        """What the compiled program depends on."""
        return self._program

    def arguments(
        self,
        params: Params,
        keys: Key[Array, "B"],
        labels: Any = None,
        x: Given | None = None,
        counted: Any = None,
    ) -> tuple[Any, ...]:
        """The data arguments of the compiled program for one run; they are checked here."""
        return (*self._data(params, keys, labels, x, counted), self._listener())

    def _data(
        self, params: Params, keys: Any, labels: Any, x: Any = None, counted: Any = None
    ) -> tuple[Any, ...]:
        model, params = self._program.model, sharding.off_explicit(params)
        keys, x = sharding.off_explicit((arguments.as_keys(keys), x))
        condition = model.conditioning.prepare(labels, len(keys))
        noise, keys = split_and_draw(keys, model.sample_shape)
        if x is None:
            x = noise if self._start == 1 else noise * self._start
        else:
            x = arguments.as_latents(model, x, len(keys))
        steps = self._steps
        if self._program.sockets.decision is not None:
            steps = steps._replace(counted=arguments.as_counted(counted, len(keys)))
        return params, x, keys, condition, self.inputs, steps

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
        counted: Any = None,
    ) -> Samples:
        """Samples one batch.

        Args:
          params: weights.
          keys: one per sample, [B].
          labels: one per sample, or whatever the model is conditioned on.
          x: what to start from in place of noise drawn from the keys, [B,H,W,C].
          counted: bool [B], which samples count where a cache decides as it runs; the others only
            fill up a batch. None: all.

        Returns:
          Float32 [B,H,W,C]; with taps also `Taps`; with details `Sampled`.
        """
        return sampling_run(self._program, *self.arguments(params, keys, labels, x, counted))

    def lower(self, params: Params, keys: Key[Array, "B"], labels: Any = None) -> Any:
        """The traced program (`jax.stages.Lowered`); its compiled form takes `arguments`."""
        listener = None if self.progress is None else NOBODY
        return sampling_run.lower(self._program, *self._data(params, keys, labels), listener)

    @property
    def ceiling(self) -> float:
        """The speedup of `summary`, without the trace that counts its bytes."""
        return self.ceiling_of(1)

    def ceiling_of(self, batch: int, ran: Sequence[Kinds] = ()) -> float:
        """The same of batches that were drawn; see `summary`."""
        steps, costs = len(self.inputs.t), self._program.model.costs
        return summarise(self.plan, steps, costs, self._rows(batch), ran=ran).ceiling

    def _rows(self, batch: int) -> int:
        return batch * (2 if self.guidance.doubles else 1)

    def summary(self, batch: int, ran: Sequence[Kinds] = ()) -> CacheSummary:
        """Steps, FLOPs, the ceiling of the speedup and cache bytes of one batch.

        Args:
          batch: samples.
          ran: of a cache that decides, the kinds of batches that were drawn (`Sampled.kinds`): the
            FLOPs that they took. None: what it may come to at best.
        """
        model = self._program.model
        rows = self._rows(batch)

        def start(params: Params, x: Array, t: Array, condition: Any) -> tuple[Any, ...]:
            denoiser = denoiser_of(self._program, params, x, condition)
            ready = denoiser.prepare(jnp.asarray(self.inputs.t))
            return denoiser.state, ready, denoiser.digest

        params, (x, t, condition) = abstract_params(model), model.example_inputs(batch)
        shapes = jax.eval_shape(start, params, x, t, condition)
        left_out = None
        if self._program.hoist is None and shapes[-1] is None:
            left_out = digest_of(self._program, params, condition)
        more: dict[str, Any] = {"left_out": left_out, "ran": ran}
        return summarise(self.plan, len(self.inputs.t), model.costs, rows, *shapes, **more)


def clips(model: Backbone) -> bool:
    """Whether the predicted picture is clipped where nobody says."""
    carried = trained(model)
    return carried is not None and carried.clip


def _recommended_cache(model: Backbone) -> CachePolicy | None:
    carried = trained(model)
    return None if carried is None else carried.cache


def guided_channels_of(model: Backbone, guidance: Guidance) -> int | None:
    """How many channels guidance mixes; None for a single batch."""
    return (guidance.channels or model.sample_shape[-1]) if guidance.doubles else None


def sample_keys(key: PRNGKey, first: int, count: int) -> Key[Array, "B"]:
    """Keys of samples first..first+count-1: sample i is the same in whatever batch it is drawn."""
    numbers = np.arange(first, first + count)
    return jax.vmap(partial(jax.random.fold_in, arguments.as_key(key)))(numbers)
