"""One run of sample.py: everything it needs, checked and loaded."""

import dataclasses
from pathlib import Path
from textwrap import wrap
from typing import Any

import jax
import numpy as np

from skipdit_jax.cli.decoder import Decoder
from skipdit_jax.cli.errors import told_in_one_line
from skipdit_jax.cli.outputs import Targets
from skipdit_jax.cli.prompts import Prompts
from skipdit_jax.cli.sample_flags import PROGRAM
from skipdit_jax.cli.settings import Settings
from skipdit_jax.contracts import Backbone
from skipdit_jax.registry.samples import draws_pixels
from skipdit_jax.typing import Params
from skipdit_jax.visualise.grids import check_finite

TITLE, TITLE_LINES = 13, 4  # characters of a line, and lines, of a prompt above its column


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplingJob:
    """One run, ready to compile.

    Attributes:
      name: what to call the model.
      model: the backbone.
      params: its weights.
      source: where they come from, for people.
      notes: what a user should know of how they were taken.
      settings: how to sample.
      key: of the run; sample i has `sample_keys(key, i, 1)`.
      labels: int [n], or None for a model that knows no classes.
      prompts: of a model of text, else None.
      seeds: of each sample (its seed, the how-manieth of its prompt), if prompts have their own.
      count: n.
      batch: how many samples at a time.
      columns: of the picture.
      targets: files to write.
      decoder: makes pictures of latents; None where the model draws pictures, or latents are kept.
      folder: of many samples, for FID; then `batch` is that of one process.
      fps: frames per second of clips; None is as published.
      classes: names of the first labels, if the weights keep them.
    """

    name: str
    model: Backbone
    params: Params
    source: str
    notes: tuple[str, ...]
    settings: Settings
    key: jax.Array
    labels: np.ndarray | None
    count: int
    batch: int
    columns: int
    targets: Targets
    decoder: Decoder | None = None
    folder: Path | None = None
    fps: int | None = None
    classes: tuple[str, ...] = ()
    prompts: Prompts | None = None
    seeds: tuple[tuple[int, int], ...] | None = None

    @property
    def given(self) -> Any:
        """What the samples are conditioned on, leaves [n,...]."""
        return self.labels if self.prompts is None else self.prompts.condition

    @property
    def description(self) -> str:
        """The prompts, as files carry them."""
        return "" if self.prompts is None else "\n".join(dict.fromkeys(self.prompts.texts))

    @property
    def titles(self) -> list[str]:
        """What each sample shows, in a word or two; none of an unconditional model."""
        if self.prompts is not None:
            return ["\n".join(wrap(text, TITLE)[:TITLE_LINES]) for text in self.prompts.texts]
        return [] if self.labels is None else [str(label) for label in self.labels]

    @property
    def pixels(self) -> bool:
        """Whether `to_pixels` gives pictures, not latents."""
        return self.decoder is not None or draws_pixels(self.model)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one of the samples that `to_pixels` gives."""
        drawn = self.model.sample_shape
        return drawn if self.decoder is None else self.decoder.shape(drawn)

    def to_pixels(self, samples: np.ndarray) -> np.ndarray:
        """What the model drew, float32 [n,...], decoded if there is a decoder.

        Raises:
          SystemExit: with code 2 for samples that are no numbers; every output comes by here.
        """
        with told_in_one_line(PROGRAM):
            check_finite(samples, "samples")
        return samples if self.decoder is None else self.decoder(samples)
