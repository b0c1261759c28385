"""What a user may give to a sampler, checked where all ways of sampling meet; only values count.

Traced labels, keys, scales and latents are checked for their shapes alone.
"""

import numbers
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from skipdit_jax.caching import planning
from skipdit_jax.caching.calibrated import read_cache
from skipdit_jax.caching.plan import CachePolicy, Plan, Run
from skipdit_jax.config import shown
from skipdit_jax.contracts import Backbone
from skipdit_jax.diffusion.schedules import FLOW, REFERENCE_TIMESTEPS, Diffusion
from skipdit_jax.diffusion.spacing import counted_like
from skipdit_jax.sampling.guidance import Guidance
from skipdit_jax.sampling.methods import SOLVERS, read_method, with_settings
from skipdit_jax.sampling.steppers import Stepper
from skipdit_jax.typing import StepFlags

MAX_VALUE = 60  # characters of an argument in an error


def as_key(key: Any) -> Key[Array, ""]:
    """One typed key; raises ValueError for anything but `jax.random.key(0)` or its raw form."""
    return _typed_key(key, "key", ())


def as_keys(keys: Any) -> Key[Array, "B"]:
    """Typed keys, one per sample; raises ValueError for anything else."""
    return _typed_key(keys, "keys", (None,))


def _typed_key(given: Any, name: str, shape: tuple[None, ...]) -> Any:
    wanted = "one per sample, see sample_keys" if shape else "jax.random.key(seed)"
    dtype = getattr(given, "dtype", None)
    if dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key):
        if given.ndim == len(shape):
            return given
    elif dtype == np.uint32 and given.ndim == len(shape) + 1:
        return jax.random.wrap_key_data(jnp.asarray(given))
    found = _shown(given) if dtype is None else f"{dtype} of shape {np.shape(given)}"
    raise ValueError(f"{name}: found {found}, wanted {wanted}")


def as_count(labels: Any, num_samples: Any) -> int:
    """How many samples are asked for.

    Raises:
      ValueError: `num_samples` is no number of samples, or another than that of the labels; or
        labels that are not one per sample.
    """
    whole = isinstance(num_samples, numbers.Integral) and not isinstance(num_samples, bool)
    if num_samples is not None and not (whole and num_samples >= 1):
        raise ValueError(f"num_samples: found {_shown(num_samples)}, wanted a number of 1 or more")
    if labels is None:
        return 1 if num_samples is None else int(num_samples)
    bare = isinstance(labels, str) or getattr(labels, "shape", None) == ()
    if bare or not hasattr(labels, "__len__"):
        raise ValueError(f"labels: found {_shown(labels)}, wanted a list of them, one per sample")
    if not len(labels):
        raise ValueError("labels: found an empty list, wanted one per sample")
    if num_samples is not None and num_samples != len(labels):
        raise ValueError(
            f"num_samples: found {num_samples} beside {len(labels)} labels, wanted labels alone"
        )
    return len(labels)


def as_latents(model: Backbone, x: Any, batch: int | None = None) -> Float[Array, "B *grid C"]:
    """Latents float32 of so many samples (None: of any number); raises ValueError for others."""
    found, shape = np.shape(x), model.sample_shape
    rows = (found[0] if found else "B") if batch is None else batch
    if found != (rows, *shape):
        raise ValueError(f"x: found shape {found}, wanted {(rows, *shape)}")
    return jnp.asarray(x, jnp.float32)


def as_counted(counted: Any, batch: int) -> Bool[np.ndarray, "B"]:
    """Which of so many samples count where a cache decides (None: all); one must."""
    found = np.ones(batch, bool) if counted is None else np.asarray(counted)
    if found.dtype != bool or found.shape != (batch,) or not found.any():
        raise ValueError(
            f"counted: found {_shown(counted)}, wanted {batch} flags, one of them true"
        )
    return found


def laid_out(diffusion: Diffusion, steps: int | str, like: str) -> str:
    """Steps as a notation: a number alone is laid out as another notation lays its own.

    Not where the process says which timesteps it keeps, and not of flows, which have none.
    """
    if diffusion.spacing or diffusion.schedule == FLOW:
        return str(steps).strip()
    return counted_like(steps, like)


def as_process(diffusion: Diffusion, steps: int | str) -> Diffusion:
    """A process on the timesteps of a notation.

    Raises:
      ValueError: the notation means nothing, or timesteps that the process does not keep: a network
        was not trained on those.
    """
    kept = diffusion.respace(str(steps))
    check_trained(diffusion, kept.timesteps, steps)
    return kept


def check_trained(
    diffusion: Diffusion,
    timesteps: Int[np.ndarray, "S"] | Float[np.ndarray, "S"],
    steps: int | str,
) -> None:
    """Raises ValueError for timesteps that the process does not keep, which were asked for so."""
    if diffusion.spacing and not np.isin(timesteps, diffusion.timesteps).all():
        raise ValueError(
            f"steps {str(steps)!r} are not among the timesteps of its training, wanted "
            f"{diffusion.spacing!r} or some of those"
        )


def as_guidance(model: Backbone, guidance: Any, published_channels: int | None) -> Guidance:
    """A scale as a `Guidance` of the published channels.

    Raises:
      ValueError: no scale, or one that the model was not trained for.
    """
    if not isinstance(guidance, Guidance):
        guidance = Guidance(scale=guidance, channels=published_channels)
    if guidance.doubles and not model.conditioning.has_null:
        raise ValueError(
            f"guidance scale {guidance.scale} needs a model trained with label dropout; "
            "use a scale of at most 1"
        )
    return guidance


def as_stepper(
    method: str, eta: float, clip: bool | None, stepper: Any, diffusion: Diffusion
) -> Stepper:
    """The stepper that a method of `methods.SOLVERS` means, or the given one.

    Raises:
      ValueError: another name, settings that would be ignored, no stepper, or one of another
        kind of process.
    """
    found = read_method(method)
    if stepper is None:
        check_process(found, diffusion)
        return with_settings(found, eta, clip, method)
    if isinstance(stepper, type) or not isinstance(stepper, Stepper):
        raise ValueError(f"stepper: found {_shown(stepper)}, wanted an object like Ddim()")
    if eta != 0 or clip:
        raise ValueError("stepper: has its own settings, wanted no eta or clip beside it")
    check_process(stepper, diffusion)
    return stepper


def check_process(stepper: Stepper, diffusion: Diffusion) -> None:
    """Raises ValueError for a solver of flows on another process, and the reverse."""
    flow = diffusion.prediction == FLOW
    if getattr(stepper, "flows", False) is flow:
        return
    able = [name for name, one in SOLVERS.items() if getattr(one, "flows", False) is flow]
    raise ValueError(
        f"method: found {type(stepper).__name__} for a network that predicts "
        f"{diffusion.prediction!r}, wanted one of {', '.join(able)}"
    )


def as_policy(
    cache: Any, published: CachePolicy | None, recommended: CachePolicy | None = None
) -> CachePolicy | None:
    """A policy, or the one that a notation such as "N3" means, completed as published.

    Args:
      cache: a policy, its notation, or None.
      published: for the family of the model.
      recommended: by its weights; goes first where a notation leaves something open.

    Raises:
      ValueError: neither.
    """
    if isinstance(cache, str):
        cache = read_cache(cache, recommended or published)
    if cache is None:
        return None
    if isinstance(cache, type) or not isinstance(cache, CachePolicy):
        raise ValueError(
            f"cache: found {_shown(cache)}, wanted a policy such as SkipCache(every=3), or its "
            "notation"
        )
    return cache.resolved(published)


def make_plan(
    model: Backbone,
    cache: CachePolicy | None,
    diffusion: Diffusion,
    guidance: Guidance,
    timesteps: np.ndarray,
) -> Plan | None:
    """The plan of a policy for timesteps in sampling order.

    Policies know timesteps of a process of 1000, as published; those of another are scaled to it.

    Raises:
      ValueError: the model cannot follow it, or it is not one of so many steps.
    """
    both, alone = _halves(guidance, timesteps)
    if cache is None:
        return planning.alone_outside(both) if alone else None
    run = run_of(model, diffusion, guidance, timesteps)
    plan = cache.plan(run)
    planning.check(plan, run)
    return planning.together([planning.alone_outside(both), plan]) if alone else plan


def run_of(model: Backbone, diffusion: Diffusion, guidance: Guidance, timesteps: np.ndarray) -> Run:
    """What a method may know of a run of these timesteps, in sampling order."""
    both, alone = _halves(guidance, timesteps)
    return Run(
        timesteps=_scaled(timesteps.astype(np.int64), diffusion.num_timesteps),
        num_stages=model.num_stages,
        num_skips=model.num_skips,
        sublayers=tuple(name for name, _ in model.costs.sublayers),
        guided=guidance.doubles,
        restarts=planning.entries(both) if alone else (),
        noise=diffusion.noise_at(timesteps),
        grid=getattr(model, "token_grid", None),
    )


def _halves(guidance: Guidance, timesteps: np.ndarray) -> tuple[StepFlags, bool]:
    """Where a guided run calls both halves, and whether it calls the condition alone elsewhere."""
    both = guidance.inside(timesteps)
    return both, guidance.doubles and not both.all()


def _scaled(timesteps: Int[np.ndarray, "S"], num_timesteps: int) -> Int[np.ndarray, "S"]:
    return timesteps * REFERENCE_TIMESTEPS // num_timesteps


def _shown(value: Any) -> str:
    """A value for an error line, cut short."""
    return shown(" ".join(repr(value).split()), MAX_VALUE)
