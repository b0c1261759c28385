"""What a native checkpoint says about sampling from it: metadata "diffusion" and "sampling".

    "diffusion": fields of `Diffusion`, e.g. {"schedule": "squaredcos_cap_v2"}
    "sampling": fields of `Recipe`, e.g. {"steps": 250, "guidance": 2.0, "cache": "N3-1000-20"}

Other checkpoints say nothing: then the published settings hold.
"""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from skipdit_jax.caching import notation
from skipdit_jax.caching.calibrated import load_calibrated
from skipdit_jax.caching.plan import CachePolicy
from skipdit_jax.checkpoints import Checkpoint, CheckpointError
from skipdit_jax.config import field_names, make, shown
from skipdit_jax.contracts import Backbone
from skipdit_jax.data.config import LATENTS
from skipdit_jax.diffusion.schedules import FLOW, REFERENCE_TIMESTEPS, Diffusion
from skipdit_jax.diffusion.spacing import kept_timesteps
from skipdit_jax.registry import Trained, published_diffusion, published_sampling
from skipdit_jax.registry.samples import draws_pixels
from skipdit_jax.sampling.arguments import as_process
from skipdit_jax.sampling.methods import read_method

DIFFUSION, SAMPLING = "diffusion", "sampling"
"""Names of metadata."""

FLOWS = "flow-euler"  # the sampler of flows where none is stated
MAX_TEXT = 1000  # characters of a value in metadata: a spacing of many sections
MAX_LIST = 2  # values: a range
MAX_NUMBER = 10**6  # more than any published setting: a file may state 10^9 samples to draw


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """Recommended settings; the defaults are those of the published samples.

    Attributes:
      steps: number or spacing.
      method: a sampler by name, with settings if wanted (`sampling.methods`).
      guidance: scale; without a recommendation that of the model's family.
      eta: noise of ddim.
      clip: clip predicted pictures to [-1, 1]; None clips models of pixels.
      cache: notation of a caching policy, "" for none.
      branch: its shallow width, of methods that have one; None is the published one.
      calibrated: a file of `cli.calibrate` beside the weights: it takes the place of `cache` in
        runs of the steps that it was made for; "" for none.
      num_samples: how many of each label to show.
      vae: what decodes latents, as --vae takes it; "" for none.
      text_encoder: what reads prompts, as --text-encoder takes it; "" for what is published.
      latent_scale: what latents were multiplied by in training; None is what the autoencoder says.
    """

    steps: str = "250"
    method: str = "ddpm"
    guidance: float = 1.0
    eta: float = 0.0
    clip: bool | None = None
    cache: str = ""
    branch: int | None = None
    calibrated: str = ""
    num_samples: int = 1
    vae: str = ""
    text_encoder: str = ""
    latent_scale: float | None = None

    def __post_init__(self):
        """Raises ValueError for what only this class could find."""
        if not 1 <= self.num_samples <= MAX_NUMBER:
            raise ValueError(f"num_samples is {self.num_samples}, wanted 1 to {MAX_NUMBER}")
        if not 0 <= self.guidance <= MAX_NUMBER:
            raise ValueError(f"guidance is {self.guidance}, wanted 0 to {MAX_NUMBER}")
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta is {self.eta}, wanted 0 to 1")
        read_method(self.method)
        if self.calibrated and not self.cache:
            raise ValueError("found calibrated without cache, which other runs follow")
        if self.latent_scale is not None and not 0 < self.latent_scale < math.inf:
            raise ValueError(f"latent_scale is {self.latent_scale}, wanted a number above 0")

    def policy(self) -> CachePolicy | None:
        """The recommended caching policy."""
        policy = notation.read(self.cache) if self.cache else None
        if policy is None or self.branch is None:
            return policy
        return notation.with_fields(policy, branch=self.branch)

    def recommended(self) -> CachePolicy | None:
        """What is followed where nothing is asked for: the calibrated policy, or `policy()`."""
        if not Path(self.calibrated).is_file():
            return self.policy()
        return dataclasses.replace(load_calibrated(self.calibrated), otherwise=self.policy())

    def options(self, model: Backbone, diffusion: Diffusion) -> dict[str, Any]:
        """The arguments of a `Sampler` that does all of this."""
        return {
            "steps": self.steps,
            "method": self.method,
            "guidance": self.guidance,
            "cache": self.recommended(),
            "diffusion": diffusion,
            "eta": self.eta,
            "clip": self.clips(model),
        }

    def clips(self, model: Backbone) -> bool:
        """Whether predicted pictures are clipped."""
        return draws_pixels(model) if self.clip is None else self.clip


def read_recipe(checkpoint: Checkpoint | None, diffusion: Diffusion, model: Backbone) -> Recipe:
    """Reads what the checkpoint recommends, or gives the published settings.

    Args:
      checkpoint: opened, or None.
      diffusion: the process whose steps the recipe chooses from.
      model: the backbone.

    Raises:
      CheckpointError: the metadata cannot be understood.
    """
    stated = _stated(checkpoint, SAMPLING, Recipe)
    try:
        if checkpoint is not None:
            stated = {**trained_with(checkpoint), **stated, **_beside(checkpoint, stated)}
        recipe = make_recipe(stated, model, diffusion)
        if checkpoint is not None:
            as_process(diffusion, recipe.steps)
    except CheckpointError:
        raise
    except (TypeError, ValueError, AttributeError) as error:
        raise _misfit(checkpoint, SAMPLING, error) from error
    return recipe


def facts_of(checkpoint: Checkpoint, model: Backbone) -> Trained:
    """What an opened checkpoint says of sampling from a model of its own.

    Raises:
      CheckpointError: the metadata cannot be understood.
    """
    diffusion = read_diffusion(checkpoint, model)
    recipe = read_recipe(checkpoint, diffusion, model)
    stated = checkpoint.metadata
    kept = {name: stated[name] for name in (DIFFUSION, SAMPLING) if name in stated}
    if recipe.latent_scale is not None:  # a run states it in its record of training
        kept[SAMPLING] = {**kept.get(SAMPLING, {}), "latent_scale": recipe.latent_scale}
    return Trained(
        diffusion=diffusion,
        clip=recipe.clips(model),
        cache=recipe.policy(),
        latent_scale=recipe.latent_scale,
        metadata=kept,
    )


def make_recipe(stated: Mapping[str, Any], model: Backbone, diffusion: Diffusion) -> Recipe:
    """Makes a recipe of what a file or config states, in whatever types it does.

    What is not stated is as published for the model's family. A model that never trained without
    labels is not guided, and one that was trained on some timesteps alone, or on fewer than are
    published, is sampled on those.

    Raises:
      TypeError, ValueError, AttributeError: it means nothing.
    """
    published = published_sampling(model)
    steps = diffusion.spacing or _fitting(published.steps, diffusion)
    method = FLOWS if diffusion.schedule == FLOW else published.method
    guidance = float(stated.get("guidance", published.guidance))
    recipe = make(
        Recipe,
        {
            **stated,
            "steps": str(stated.get("steps", steps)),
            "method": stated.get("method", method),
            "guidance": guidance if model.conditioning.has_null else 1.0,
            "eta": float(stated.get("eta", Recipe.eta)),
            "cache": stated.get("cache") or "",
            "num_samples": int(stated.get("num_samples", Recipe.num_samples)),
        },
        SAMPLING,
    )
    recipe.policy()
    return recipe


def _beside(checkpoint: Checkpoint, stated: Mapping[str, Any]) -> dict[str, str]:
    """Where the calibrated cache lies that was stated by the name of its file.

    Raises:
      ValueError: the name leads elsewhere.
    """
    name = str(stated.get("calibrated") or "")
    if not name:
        return {}
    if Path(name).name != name:
        raise ValueError(f"calibrated is {shown(repr(name))}, wanted the name of a file beside it")
    folder = checkpoint.path if checkpoint.path.is_dir() else checkpoint.path.parent
    return {"calibrated": str(folder / name)}


def _fitting(steps: str, diffusion: Diffusion) -> str:
    """The published steps; of flows their number, of a process with fewer timesteps all of it."""
    if diffusion.schedule == FLOW:
        return str(len(kept_timesteps(REFERENCE_TIMESTEPS, steps)))
    try:
        kept_timesteps(diffusion.num_timesteps, steps)
    except ValueError:
        return str(diffusion.num_timesteps)
    return steps


def trained_with(checkpoint: Checkpoint) -> dict[str, Any]:
    """What a run's record of its training, {"config": ...}, says of sampling, as a recipe has it.

    Raises:
      CheckpointError: a value that no run has.
      TypeError, AttributeError: it is no such record.
    """
    data = (checkpoint.metadata.get("training") or {}).get("config", {}).get("data", {})
    found = data.get("latent_scale") if data.get("name") == LATENTS else None
    if found is None:
        return {}
    _check_short(found, f"{checkpoint.path}: its metadata 'training': latent_scale")
    return {"latent_scale": found}


def read_diffusion(checkpoint: Checkpoint | None, model: Backbone) -> Diffusion:
    """Reads the process that the weights were trained on, or gives the published one.

    Raises:
      CheckpointError: the metadata cannot be understood.
    """
    stated = _stated(checkpoint, DIFFUSION, Diffusion)
    published = dataclasses.asdict(published_diffusion(model))
    try:
        found = make(Diffusion, {**published, **stated}, DIFFUSION)
        if found.learns_variance != model.learns_variance:
            learned = "learned" if model.learns_variance else "fixed"
            raise ValueError(f"variance {found.variance!r}, wanted one that is {learned}")
        return found
    except ValueError as error:
        raise _misfit(checkpoint, DIFFUSION, error) from error


def _stated(checkpoint: Checkpoint | None, name: str, kind: type) -> dict[str, Any]:
    if checkpoint is None:
        return {}
    stated = checkpoint.metadata.get(name, {})
    known = field_names(kind)
    if not isinstance(stated, dict) or not set(stated) <= set(known):
        found = ", ".join(stated) if isinstance(stated, dict) else repr(stated)
        raise CheckpointError(
            f"{checkpoint.path}: its metadata {name!r} has {found}, wanted some of "
            + ", ".join(known)
        )
    for field, value in stated.items():
        _check_short(value, f"{checkpoint.path}: its metadata {name!r}: {field}")
    return dict(stated)


def _check_short(value: Any, place: str) -> None:
    """Raises CheckpointError for anything that no person would have stated."""
    parts = value if isinstance(value, list) and len(value) <= MAX_LIST else [value]
    for part in parts:
        text, number = isinstance(part, str), isinstance(part, int | float)
        if (text and len(part) <= MAX_TEXT) or part is None:
            continue
        if not number or not -MAX_NUMBER <= part <= MAX_NUMBER:
            wanted = f"a number up to {MAX_NUMBER}, or a text of at most {MAX_TEXT} characters"
            raise CheckpointError(f"{place} is {shown(repr(part))}, wanted {wanted}")


def _misfit(checkpoint: Checkpoint | None, name: str, error: Exception) -> CheckpointError:
    path = checkpoint.path if checkpoint else "published settings"
    return CheckpointError(f"{path}: its metadata {name!r} is of no use: {error}")
