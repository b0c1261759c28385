"""Grids of samples while a model trains: the same noise and labels every time."""

import jax
import numpy as np
from jaxtyping import UInt8

from skipdit_jax import sharding
from skipdit_jax.pipeline import Sampler, sample_keys
from skipdit_jax.registry.samples import default_labels, draws_pixels, num_classes
from skipdit_jax.runs.job import TrainingJob
from skipdit_jax.training.state import TrainState, ema_name
from skipdit_jax.visualise.grids import enlarge, make_grid, to_uint8
from skipdit_jax.visualise.video import make_strip
from skipdit_jax.weights.recipe import make_recipe

UNCONDITIONAL_COLUMNS = 8
LATENTS_SHOWN = 3  # channels of a latent that stand for red, green and blue
LATENT_SPREAD = 3.0  # standard deviations of a unit latent that fill the range of a picture


class Preview:
    """Samples as config.sampling says, with the averaged weights of the first decay."""

    def __init__(self, job: TrainingJob):
        """Makes the sampling program.

        Raises:
          ValueError: config.sampling means nothing, or nothing that the model can follow.
        """
        config, model = job.config, job.model
        try:
            recipe = make_recipe(config.sampling, model, config.diffusion)
        except (TypeError, AttributeError) as error:
            raise ValueError(f"sampling: {error}") from error
        self._ema = ema_name(config.ema_decays[0])
        self._pixels = draws_pixels(model)
        options = recipe.options(model, config.diffusion)
        self._sampler = Sampler(
            model, **{**options, "cache": options["cache"] if model.num_skips else None}
        )
        classes = num_classes(model)
        labels = np.array(default_labels(classes)) if classes else None
        self._columns = UNCONDITIONAL_COLUMNS if labels is None else len(labels)
        self._labels = None if labels is None else np.tile(labels, recipe.num_samples)
        count = self._columns * recipe.num_samples
        self._keys = sample_keys(jax.random.key(config.seed), 0, count)

    def draw(self, state: TrainState) -> UInt8[np.ndarray, "H W C"] | None:
        """Returns the grid, see `draw_grid`; None where others draw it.

        All processes must call it; the first one draws.
        """
        params = sharding.to_host(state.ema[self._ema])
        if not sharding.leads():
            return None
        samples = np.asarray(self._sampler(params, self._keys, self._labels))
        return draw_grid(samples, self._columns, self._pixels)


def draw_grid(samples: np.ndarray, columns: int, pixels: bool) -> UInt8[np.ndarray, "H W C"]:
    """One picture of samples [n,H,W,C], row by row, or of clips [n,F,H,W,C], a row for each."""
    if not pixels:
        samples = np.clip(samples[..., :LATENTS_SHOWN] / LATENT_SPREAD, -1, 1)
    shown = enlarge(to_uint8(samples))
    return make_strip(shown) if shown.ndim == 5 else make_grid(shown, columns)
