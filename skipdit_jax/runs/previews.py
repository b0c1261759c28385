"""Grids of samples while a model trains: the same noise, labels or captions every time."""

import dataclasses
from typing import Any

import jax
import numpy as np
from jaxtyping import UInt8

from skipdit_jax import sharding
from skipdit_jax.data.open import open_once
from skipdit_jax.data.sources import ANY_CLASS, TEXT
from skipdit_jax.pipeline import Sampler, sample_keys
from skipdit_jax.registry.samples import default_labels, draws_pixels, num_classes
from skipdit_jax.runs.job import TrainingJob
from skipdit_jax.training.state import TrainState, ema_name
from skipdit_jax.visualise.grids import enlarge, make_grid, to_uint8
from skipdit_jax.visualise.video import make_strip
from skipdit_jax.weights.recipe import make_recipe
from skipdit_jax.weights.texts import encoders_of

UNCONDITIONAL_COLUMNS = 8
CAPTIONS_SHOWN = 8
LATENTS_SHOWN = 3  # channels of a latent that stand for red, green and blue
LATENT_SPREAD = 3.0  # standard deviations of a unit latent that fill the range of a picture


class Preview:
    """Samples as config.sampling says, with the averaged weights of the first decay.

    A model of text draws the captions of the first examples of its data. Where the data does not
    say what stands in for a dropped caption, it is not guided: there is nothing to guide away from.
    """

    def __init__(self, job: TrainingJob):
        """Makes the sampling program.

        Raises:
          ValueError: config.sampling means nothing, or nothing that the model can follow; or the
            data cannot be read.
        """
        config, model = job.config, job.model
        try:
            recipe = make_recipe(config.sampling, model, config.diffusion)
        except (TypeError, AttributeError) as error:
            raise ValueError(f"sampling: {error}") from error
        self._ema = ema_name(config.ema_decays[0])
        self._pixels = draws_pixels(model)
        options = recipe.options(model, config.diffusion)
        options["cache"] = options["cache"] if model.num_skips else None
        captions = captions_of(job) if encoders_of(model) else None
        if captions is not None and not job.batches.constants:
            options["guidance"] = 1.0
        self._sampler = Sampler(model, **options)
        classes = num_classes(model)
        shown = np.array(default_labels(classes)) if classes else captions
        self._columns = UNCONDITIONAL_COLUMNS if shown is None else len(shown)
        rows = np.tile(np.arange(self._columns), recipe.num_samples)
        self._given = jax.tree.map(lambda leaf: leaf[rows], shown)
        self._keys = sample_keys(jax.random.key(config.seed), 0, len(rows))

    def draw(self, state: TrainState) -> UInt8[np.ndarray, "H W C"] | None:
        """Returns the grid, see `draw_grid`; None where others draw it.

        All processes must call it; the first one draws.
        """
        params = sharding.to_host(state.ema[self._ema])
        if not sharding.leads():
            return None
        samples = np.asarray(self._sampler(params, self._keys, self._given))
        return draw_grid(samples, self._columns, self._pixels)


def captions_of(job: TrainingJob) -> Any:
    """The captions of the first examples of a run's data, in stored order, as a condition.

    Raises:
      ValueError: the data cannot be read.
    """
    config = dataclasses.replace(job.config.data, use_image_num=0)  # of clips their own alone
    shape, seed = job.model.sample_shape, job.config.seed
    source = open_once(config, sample_shape=shape, num_classes=ANY_CLASS, seed=seed)
    examples = [source[row] for row in range(min(CAPTIONS_SHOWN, len(source)))]
    names = [name for name in examples[0] if name.startswith(TEXT)]
    texts = {
        name: np.stack([np.asarray(one[name], np.float32) for one in examples]) for name in names
    }
    return job.model.conditioning.of_batch({**texts, **job.batches.constants})


def draw_grid(samples: np.ndarray, columns: int, pixels: bool) -> UInt8[np.ndarray, "H W C"]:
    """One picture of samples [n,H,W,C], row by row, or of clips [n,F,H,W,C], a row for each."""
    if not pixels:
        samples = np.clip(samples[..., :LATENTS_SHOWN] / LATENT_SPREAD, -1, 1)
    shown = enlarge(to_uint8(samples))
    return make_strip(shown) if shown.ndim == 5 else make_grid(shown, columns)
