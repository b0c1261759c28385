"""Sampling from a run, or from a file of one, with everything that it says of itself."""

import os
from typing import Any, NamedTuple

from skipdit_jax import weights
from skipdit_jax.pipeline import Sampler
from skipdit_jax.typing import Params
from skipdit_jax.weights.recipe import Recipe, read_diffusion, read_recipe


class LoadedSampler(NamedTuple):
    """What it takes to sample.

    Attributes:
      sampler: the program, as the run recommends it.
      params: the weights.
      recipe: what was recommended; `latent_scale` is for `load_vae(..., scaling_factor=...)`.
    """

    sampler: Sampler
    params: Params
    recipe: Recipe


def load_sampler(
    source: str | os.PathLike[str], *, which: str | None = None, **changes: Any
) -> LoadedSampler:
    """Reads weights together with their diffusion process and recommended settings.

    Args:
      source: a run folder, or whatever else `load_checkpoint` takes.
      which: its `weights`.
      **changes: arguments of `Sampler` in place of the recommended ones.

    Raises:
      CheckpointError: (a ValueError) the weights or what they say of themselves cannot be read.
      ValueError: settings that the model cannot follow.
    """
    checkpoint = weights.open_weights(source, which)
    model = weights.model_of(checkpoint)
    diffusion = read_diffusion(checkpoint, model)
    recipe = read_recipe(checkpoint, diffusion, model)
    sampler = Sampler(model, **{**recipe.options(model, diffusion), **changes})
    return LoadedSampler(sampler, weights.load_opened(checkpoint, model), recipe)
