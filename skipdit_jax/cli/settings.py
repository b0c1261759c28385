"""How to sample and what: flags, else what the checkpoint recommends, else what was published."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from skipdit_jax.caching import notation
from skipdit_jax.caching.calibrated import Calibrated, read_cache
from skipdit_jax.caching.notation import NO_CACHE
from skipdit_jax.caching.plan import CachePolicy
from skipdit_jax.checkpoints.digests import digest
from skipdit_jax.cli.options import SampleOptions
from skipdit_jax.contracts import Backbone
from skipdit_jax.diffusion.schedules import Diffusion
from skipdit_jax.pipeline import Sampler
from skipdit_jax.published import IMAGENET_LABELS
from skipdit_jax.registry import NamedModel, published_sampling
from skipdit_jax.registry.samples import default_labels
from skipdit_jax.runs.class_names import to_labels
from skipdit_jax.sampling.arguments import as_process, laid_out, run_of
from skipdit_jax.sampling.guidance import Guidance
from skipdit_jax.sampling.methods import can_clip, read_method
from skipdit_jax.sampling.steppers import Ddim
from skipdit_jax.typing import Params
from skipdit_jax.weights.recipe import Recipe

PUBLISHED_COLUMNS = 4  # of the grid of these eight
MAX_COLUMNS = 20
MAX_SAMPLES = 10**6  # of one picture or file, all in memory at once


class Settings(NamedTuple):
    """How to sample: the options of `Sampler`."""

    steps: str
    method: str
    guidance: float | Guidance
    cache: CachePolicy | None
    diffusion: Diffusion
    eta: float
    clip: bool
    driver: str
    hoist: bool | None = None

    def sampler(
        self,
        model: Backbone,
        progress: Callable[[Any], None] | None = None,
        details: bool = False,
    ) -> Sampler:
        """Makes the program; raises ValueError for settings that the model cannot follow."""
        return Sampler(model, progress=progress, details=details, **self._asdict())


def make_settings(
    options: SampleOptions,
    entry: NamedModel | None,
    recipe: Recipe,
    diffusion: Diffusion,
    model: Backbone,
) -> Settings:
    """What was typed, else what the checkpoint recommends.

    Raises:
      ValueError: flags that contradict each other or the training process.
    """
    method = options.sampler or recipe.method
    has_eta = isinstance(read_method(method), Ddim)
    if options.eta is not None and not has_eta:
        raise ValueError(f"--eta is the noise of ddim, but the sampler is {method}")
    eta = recipe.eta if options.eta is None else options.eta
    named = entry.cache if entry else None
    return Settings(
        steps=_steps(options.num_sampling_steps, recipe.steps, diffusion),
        method=method,
        guidance=_guidance(options, recipe, model),
        cache=_cache(options, named, recipe, published_sampling(model).cache),
        diffusion=diffusion,
        eta=eta if has_eta else 0.0,  # the checkpoint's is of its own method
        clip=recipe.clips(model) and (recipe.clip is not None or can_clip(read_method(method))),
        driver=options.driver,
        hoist=options.hoist,
    )


def misfits(settings: Settings, sampler: Sampler, params: Params) -> tuple[str, ...]:
    """What a calibrated cache was not made for, a line each.

    Raises:
      ValueError: there is any, and it is not to be resampled.
    """
    if not isinstance(settings.cache, Calibrated):
        return ()
    run = run_of(sampler.program.model, sampler.diffusion, sampler.guidance, sampler.inputs.t)
    scale = float(sampler.guidance.scale)
    return settings.cache.misfits(digest(params), settings.method, scale, run.timesteps)


def _guidance(options: SampleOptions, recipe: Recipe, model: Backbone) -> float | Guidance:
    """The scale; with an interval a `Guidance` of the published channels."""
    scale = recipe.guidance if options.cfg_scale is None else options.cfg_scale
    interval, rescale = options.guidance_interval, options.cfg_rescale
    if interval is None and rescale is None:
        return scale
    if scale <= 1:
        flag = "--cfg-rescale" if interval is None else "--guidance-interval"
        raise ValueError(f"{flag}: guidance is {scale:g}, wanted above 1")
    channels = published_sampling(model).guided_channels
    return Guidance(scale=scale, channels=channels, interval=interval, rescale=rescale or 0.0)


def _steps(typed: str | None, recommended: str, diffusion: Diffusion) -> str:
    """A number alone is laid out as the recommended steps are."""
    text = recommended if typed is None else typed
    plain, most = text.strip(), diffusion.num_timesteps
    if not plain or (plain.isdecimal() and not 1 <= int(plain) <= most):
        raise ValueError(
            f"--num-sampling-steps {text!r}: wanted 1..{most}, or a spacing such as ddim50"
        )
    if diffusion.spacing:
        as_process(diffusion, plain)
    return laid_out(diffusion, plain, recommended)


def _cache(
    options: SampleOptions,
    named: CachePolicy | None,
    recipe: Recipe,
    published: CachePolicy | None,
) -> CachePolicy | None:
    """What was typed, else what the name of the model asks for, else what is recommended."""
    if (
        named is None
        and (options.cache, options.cache_step, options.cache_at_branch) == (None,) * 3
    ):
        return recipe.recommended()
    return make_cache(options, named or recipe.policy(), published)


def make_cache(
    options: SampleOptions, recommended: CachePolicy | None, published: CachePolicy | None = None
) -> CachePolicy | None:
    """The caching policy of --cache, --cache-step and --cache-at-branch.

    Args:
      options: what was typed.
      recommended: by the checkpoint or by the name of the model.
      published: for the family; its method is what --cache-step alone asks for.

    Raises:
      ValueError: flags that contradict each other, or mean nothing.
    """
    step, branch = options.cache_step, options.cache_at_branch
    text = None if options.cache is None else options.cache.strip()
    if text == NO_CACHE or (text is None and step is None and recommended is None):
        if step is not None or branch is not None:
            raise ValueError("--cache-step and --cache-at-branch: there is no cache, see --cache")
        return None
    if text is not None and step is not None:
        raise ValueError(f"--cache {text} names N already, wanted no --cache-step beside it")
    cache = recommended if text is None else read_cache(text, recommended)
    if cache is None and published is not None:  # --cache-step alone
        cache = notation.of_same_method(published, every=step)
    if cache is None:
        raise ValueError("--cache-step: no caching method was published for the model, see --cache")
    changed = {"every": step, "branch": branch}
    typed = {name: value for name, value in changed.items() if value is not None}
    return notation.with_fields(cache, **typed)


def choose_labels(
    options: SampleOptions, recipe: Recipe, num_classes: int, names: Sequence[str] = ()
) -> tuple[np.ndarray | None, int, int]:
    """Returns the labels int [n] (rows of all labels, one row per --num-samples), n, and columns.

    Raises:
      ValueError: labels for an unconditional model, an empty list, or a name that no class has.
    """
    asked = options.class_labels
    typed = None if asked is None else to_labels(asked, names, "--class-labels")
    rows = options.num_samples or (1 if typed else recipe.num_samples)
    of_each = len(typed or default_labels(num_classes)) if num_classes else 1
    if rows * of_each > MAX_SAMPLES:
        raise ValueError(
            f"--num-samples {rows}: {rows * of_each} samples, wanted at most {MAX_SAMPLES}; "
            "--num-fid-samples draws more, a file each"
        )
    if not num_classes:
        if typed:
            raise ValueError("--class-labels: the model is unconditional, wanted none")
        return None, rows, math.ceil(math.sqrt(rows))
    if typed is not None and not typed:
        raise ValueError("--class-labels: none given, wanted one or more numbers")
    labels = typed or default_labels(num_classes)
    outside = [y for y in labels if not 0 <= y < num_classes]
    if outside:
        raise ValueError(f"--class-labels: {outside} outside 0..{num_classes - 1}")
    columns = PUBLISHED_COLUMNS if labels == IMAGENET_LABELS else min(len(labels), MAX_COLUMNS)
    return np.tile(np.array(labels), rows), rows * len(labels), columns
