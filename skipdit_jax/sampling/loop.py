"""The one sampling loop: a denoiser, a stepper, rows of numbers, a driver."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from skipdit_jax.diffusion.schedules import Coefficients, Diffusion, Parameterization
from skipdit_jax.sampling import drivers
from skipdit_jax.sampling.denoiser import Denoiser
from skipdit_jax.sampling.guidance import Guidance
from skipdit_jax.sampling.progress import report
from skipdit_jax.sampling.steppers import Stepper
from skipdit_jax.typing import Flag, Latents


class StepInputs(NamedTuple):
    """Everything data-free about the steps, in sampling order, leading axis S.

    Attributes:
      index: counts the steps, for progress.
      c: coefficients.
      t: model timestep, float32.
      scale: guidance scale, float32.
    """

    index: Any
    c: Coefficients
    t: Any
    scale: Any


class Taps(NamedTuple):
    """What every step made, on request: memory then grows with S.

    Attributes:
      model_output: guided network output, [S,B,..,C_out].
      sample: latents after the step, [S,B,..,C].
    """

    model_output: Array
    sample: Array


Noise = Callable[[Any], Array]
"""index of a step -> its noise [B,..,C]."""


def step_inputs(diffusion: Diffusion, guidance: Guidance, ascending: bool = False) -> StepInputs:
    """Rows for a whole run, on the host; `ascending` for the reverse sampler."""
    order = slice(None) if ascending else slice(None, None, -1)
    timesteps = diffusion.timesteps[order]
    return StepInputs(
        index=np.arange(len(timesteps), dtype=np.int32),
        c=Coefficients(*(column[order] for column in diffusion.coefficients())),
        t=timesteps.astype(np.float32),
        scale=guidance.scales(timesteps),
    )


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
    reuse: Any = None,
    driver: str = "scan",
    taps: bool = False,
    listener: Any = None,
) -> tuple[Latents, Taps | None]:
    """Samples: S steps from noise x to data (traceable; wrap it in `jax.jit`).

    Args:
      denoiser: the network with condition and guidance bound.
      stepper: of steppers.py, or another `Stepper`.
      kind: what the network's output means.
      x: initial latents [B,..,C], float32.
      inputs: rows of `step_inputs`; data, so that nothing recompiles when they change.
      noise: of each step; not called by deterministic steppers.
      reuse: plan flags [S]: data for the scan driver, numpy for the others. None caches nothing.
      driver: "scan", "nested" or "unrolled".
      taps: also return what every step made.
      listener: number of whoever is told the index of each finished step, see progress.py. A
        program that tells anybody does not enter the persistent compilation cache.

    Returns:
      The samples [B,..,C], and Taps if asked for.

    Raises:
      ValueError: for an unknown driver.
    """

    def step(carry: Any, row: StepInputs, reuse: Flag) -> tuple[Any, Taps | None]:
        x, cache, state = carry
        output, cache = denoiser.call(x, row.t, row.scale, cache, reuse)
        drawn = noise(row.index) if stepper.stochastic else jnp.zeros_like(x)
        x, state = stepper.step(kind, row.c, output, x, drawn, state)
        if listener is not None:
            jax.debug.callback(report, listener, row.index)
        return (x, cache, state), Taps(output, x) if taps else None

    carry = (x, denoiser.cache, stepper.initialise(x))
    inputs = jax.tree.map(jnp.asarray, inputs)
    if driver == "scan":
        flags = None if reuse is None else jnp.asarray(reuse)
        (x, *_), tapped = drivers.scan(step, carry, inputs, flags)
    elif driver in drivers.DRIVERS:
        steps = np.zeros(len(inputs.index), bool) if reuse is None else np.asarray(reuse)
        (x, *_), tapped = getattr(drivers, driver)(step, carry, inputs, steps)
    else:
        raise ValueError(f"driver is {driver!r}, wanted one of {', '.join(drivers.DRIVERS)}")
    return x, tapped
