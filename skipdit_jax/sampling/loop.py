"""The one sampling loop: a denoiser, a stepper, rows of numbers, a driver."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from skipdit_jax.caching.plan import Kinds, Rows
from skipdit_jax.diffusion.schedules import Coefficients, Diffusion, Parameterization
from skipdit_jax.sampling import drivers
from skipdit_jax.sampling.denoiser import Denoiser
from skipdit_jax.sampling.guidance import Guidance, Strength
from skipdit_jax.sampling.progress import report
from skipdit_jax.sampling.steppers import Schedule, Scheduled, Stepper, StepState
from skipdit_jax.typing import Latents


class StepInputs(NamedTuple):
    """Everything data-free about the steps, in sampling order, leading axis S.

    Attributes:
      index: counts the steps, for progress.
      c: coefficients; of a `Scheduled` stepper its own rows.
      t: model timestep, float32.
      scale: guidance scale, float32.
      rescale: how far guidance is rescaled, float32; None where it is not.
    """

    index: Any
    c: Any
    t: Any
    scale: Any
    rescale: Any = None


class Steps(NamedTuple):
    """The part of a plan that is data.

    Attributes:
      kinds: of every step; numpy, or numbers of Python, for drivers that fix them in the program.
      rows: numbers of every step.
      counted: which samples count where a method decides, bool [B]; None where none does.
    """

    kinds: Kinds = Kinds()
    rows: Rows = Rows()
    counted: Any = None

    def each(self, count: int) -> list[Kinds]:
        """The kinds of each of so many steps, as numbers of Python."""
        filled = [(name, k) for name, k in self.kinds._asdict().items() if k is not None]
        return [Kinds(**{name: int(kinds[i]) for name, kinds in filled}) for i in range(count)]


UNCACHED = Steps()


class Taps(NamedTuple):
    """What is known of every step, on request.

    Attributes:
      model_output: guided network output, [S,B,..,C_out]; memory then grows with S.
      sample: latents after the step, [S,B,..,C].
      kinds: of the step, int32 [S] for each filled socket of the cache; of a method that decides
        for condition and no condition [S,2].
      compared: float32 [S] or [S,2], what a method that decides compared, 0 where it looked at no
        number; None for others.
    """

    model_output: Array | None
    sample: Array | None
    kinds: Any = None
    compared: Array | None = None


Noise = Callable[[Any], Array]
"""index of a step -> its noise [B,..,C]."""


def step_inputs(
    diffusion: Diffusion,
    guidance: Guidance,
    ascending: bool = False,
    schedule: Schedule | None = None,
) -> StepInputs:
    """Rows for a whole run, on the host.

    Args:
      diffusion: the process.
      guidance: its scale of each step.
      ascending: for the reverse sampler.
      schedule: of the stepper, see `make_schedule`; None is that of the process.
    """
    made = _of_process(diffusion, ascending) if schedule is None else schedule
    return StepInputs(
        index=np.arange(len(made.timesteps), dtype=np.int32),
        c=made.rows,
        t=made.timesteps.astype(np.float32),
        scale=guidance.scales(made.timesteps),
        rescale=guidance.rescales(len(made.timesteps)),
    )


def make_schedule(diffusion: Diffusion, stepper: Stepper) -> Schedule:
    """The stepper's own schedule of a process; of one that has none the process's."""
    if isinstance(stepper, Scheduled):
        return stepper.schedule(diffusion)
    return _of_process(diffusion, ascending=False)


def _of_process(diffusion: Diffusion, ascending: bool) -> Schedule:
    order = slice(None) if ascending else slice(None, None, -1)
    rows = Coefficients(*(column[order] for column in diffusion.coefficients()))
    return Schedule(diffusion.timesteps[order].astype(np.float64), rows)


def normal(keys: Key[Array, "B"], shape: tuple[int, ...]) -> Array:
    """One draw per key, [B,...]; its type is stated, as JAX's default changes with its x64 mode."""
    return jax.vmap(lambda key: jax.random.normal(key, shape, jnp.float32))(keys)


def sample_noise(keys: Key[Array, "B"], shape: tuple[int, ...]) -> Noise:
    """Noise that depends on a sample's own key and the step alone, not on the batch around it.

    Args:
      keys: one key per sample, [B].
      shape: of one sample.
    """

    def draw(index: Any) -> Array:
        at_step = jax.vmap(lambda key: jax.random.fold_in(key, index))(keys)
        return normal(at_step, shape)

    return draw


def run(
    denoiser: Denoiser,
    stepper: Stepper,
    kind: Parameterization,
    x: Latents,
    inputs: StepInputs,
    noise: Noise,
    *,
    plan: Steps | None = None,
    driver: str = "scan",
    taps: bool = False,
    details: bool = False,
    listener: Any = None,
) -> tuple[Latents, Taps | None]:
    """Samples: S steps from noise x to data (traceable; wrap it in `jax.jit`).

    Args:
      denoiser: the network with condition and guidance bound.
      stepper: of `steppers`, or another `Stepper`.
      kind: what the network's output means.
      x: initial latents [B,..,C], float32.
      inputs: rows of `step_inputs`; data, so that nothing recompiles when they change.
      noise: of each step; not called by deterministic steppers.
      plan: kinds and rows of all steps. None caches nothing.
      driver: "scan", "nested" or "unrolled".
      taps: also return what every step made.
      details: also return the kinds of all steps.
      listener: number of whoever is told the index of each finished step, see progress.py. A
        program that tells anybody does not enter the persistent compilation cache.

    Returns:
      The samples [B,..,C], and Taps if asked for.

    Raises:
      ValueError: for an unknown driver.
    """

    def step(carry: Any, row: Any, kinds: Kinds) -> tuple[Any, Taps | None]:
        row, *planned = row
        (x, cached, state), output = advance(
            denoiser, stepper, kind, noise, carry, row, kinds, *planned
        )
        if listener is not None:
            jax.debug.callback(report, listener, row.index)
        made = (output, x) if taps else (None, None)
        told = _told(denoiser, kinds, cached) if details else (None, None)
        return (x, cached, state), Taps(*made, *told) if taps or details else None

    if denoiser.told is not None and driver != "scan":
        raise ValueError(
            f"driver: found {driver!r} with a cache that decides as it runs, wanted 'scan'"
        )
    if driver not in drivers.DRIVERS:
        raise ValueError(f"driver is {driver!r}, wanted one of {', '.join(drivers.DRIVERS)}")
    steps = UNCACHED if plan is None else plan
    inputs = jax.tree.map(jnp.asarray, inputs)
    rows = inputs, jax.tree.map(jnp.asarray, steps.rows), denoiser.prepare(inputs.t)
    carry = (x, denoiser.state, stepper.initialise(x))
    kinds: Any
    if driver == "scan":
        kinds = jax.tree.map(jnp.asarray, steps.kinds)
    else:
        kinds = steps.each(len(inputs.index))
    (x, *_), tapped = getattr(drivers, driver)(step, carry, rows, kinds)
    return x, tapped


def advance(
    denoiser: Denoiser,
    stepper: Stepper,
    kind: Parameterization,
    noise: Noise,
    carry: tuple[Latents, Any, StepState],
    row: StepInputs,
    kinds: Kinds = UNCACHED.kinds,
    rows: Rows = UNCACHED.rows,
    prepared: Any = None,
) -> tuple[tuple[Latents, Any, StepState], Array]:
    """One step of `run`.

    Args:
      denoiser: see `run`.
      stepper: see `run`.
      kind: see `run`.
      noise: see `run`.
      carry: latents, what is cached, what the stepper remembers.
      row: inputs of this step.
      kinds: of the plan at this step.
      rows: of the plan at this step.
      prepared: what `Denoiser.prepare` made for this step.

    Returns:
      The carry behind the step, and the guided output of the network.
    """
    x, cached, state = carry
    strength = row.scale if row.rescale is None else Strength(row.scale, row.rescale)
    output, cached = denoiser.call(x, row.t, strength, cached, kinds, rows, prepared)
    drawn = noise(row.index) if stepper.stochastic else jnp.zeros_like(x)
    x, state = stepper.step(kind, row.c, output, x, drawn, state)
    return (x, cached, state), output


def _told(denoiser: Denoiser, kinds: Kinds, cached: Any) -> tuple[Kinds, Array | None]:
    """The kinds of a step, and what was compared."""
    kinds = jax.tree.map(partial(jnp.asarray, dtype=jnp.int32), kinds)
    if denoiser.told is None:
        return kinds, None
    told = denoiser.told(cached)
    return kinds._replace(trunk=told.kind), told.compared
