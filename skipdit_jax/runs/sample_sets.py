"""From what a user names to a set of samples: files, folders, prepared sets, models."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from skipdit_jax.contracts import Backbone
from skipdit_jax.data.fingerprints import DIGITS
from skipdit_jax.data.images import ENDINGS
from skipdit_jax.data.listing import by_ending, ending, files_below
from skipdit_jax.data.sources import ANY_CLASS, Source
from skipdit_jax.evaluation import archives
from skipdit_jax.evaluation.evaluate import Reference
from skipdit_jax.evaluation.packed_pictures import PICTURES
from skipdit_jax.evaluation.references import read_reference
from skipdit_jax.evaluation.sets import (
    COLOURS,
    PACKED,
    FirstOf,
    FolderSet,
    HeldSet,
    PackedSet,
    SampleSet,
)
from skipdit_jax.pipeline import Sampler, sample_keys
from skipdit_jax.registry.samples import draws_pixels, num_classes
from skipdit_jax.runs.sampling import load_sampler
from skipdit_jax.typing import Params
from skipdit_jax.visualise.grids import to_uint8
from skipdit_jax.weights import model_of, open_weights
from skipdit_jax.weights.run_folders import is_of_run
from skipdit_jax.weights.texts import encoders_of

DRAWN_AT_A_TIME = 64
WEIGHTS = (".safetensors", ".pt", ".pth", ".ckpt", ".bin")
ARRAYS = ".npz"
RECORD = "run.json"  # in a folder of sample.py --sample-dir, from its first sample on
SPLIT = ":"  # between the name of a prepared set and its split
OF_DIGITS = {"digits": (8, 8, 1)}
MOMENTS = {"mu", "sigma"}
FRAMES = 16  # of a clip of FVD


class Cut(NamedTuple):
    """How samples are read where the place does not say.

    Attributes:
      image_size: side that pictures and frames are scaled and cut to; None as they are.
      num_frames: of clips of videos; None: 16, and pictures are pictures, not frames.
      frame_stride: of these.
      data_dir: of TFDS.
      seed: where clips begin; of samples that are drawn.
      samples: how many of them; None: all there are.
    """

    image_size: int | None = None
    num_frames: int | None = None
    frame_stride: int = 1
    data_dir: str = ""
    seed: int = 0
    samples: int | None = None


ANY_SIZE = Cut()


class SourceSet(SampleSet):
    """A data set of `data.open_once`: prepared by TFDS, clips of videos, our digits."""

    def __init__(self, name: str, source: Source, shape: tuple[int, ...], known: str):
        """Takes examples by number.

        Args:
          name: as messages call it.
          source: of examples with an "image".
          shape: of each.
          known: what tells the set from others.
        """
        self.name, self.shape, self._source = name, shape, source
        facts = f"{known} {len(source)} {shape}"
        self.fingerprint = hashlib.sha256(facts.encode()).hexdigest()[:DIGITS]

    def __len__(self) -> int:
        return len(self._source)

    def chunks(self, start: int, size: int) -> Iterator[np.ndarray]:
        """See `SampleSet`."""
        for at in range(start, len(self), size):
            rows = range(at, min(at + size, len(self)))
            yield np.stack([_levels(self._source[row]["image"]) for row in rows])


def _levels(image: Any) -> np.ndarray:
    """Pixels of 0..255; those of sets in memory are in [-1, 1]."""
    pixels = np.asarray(image)
    return pixels if pixels.dtype == np.uint8 else to_uint8(pixels)


def open_samples(place: str, cut: Cut, like: SampleSet | None = None) -> SampleSet:
    """Opens a set.

    Args:
      place: a folder of pictures, of videos or of sample.py (--sample-dir); an .npz with arr_0; a
        run folder or weights, from which `cut.samples` samples are drawn; or NAME:SPLIT. Folders of
        frames are videos where clips are asked for.
      cut: how it is read.
      like: samples whose size, and of a model whose number, it is to have where nothing else says.

    Raises:
      ValueError: nothing there, or nothing that can be evaluated.
      OSError: it cannot be read.
    """
    path = Path(place)
    if not path.exists():
        if SPLIT in place:
            return _counted(_prepared(place, cut, like), cut)
        raise ValueError(f"{place}: is not there, wanted a file, a folder or NAME{SPLIT}SPLIT")
    if path.is_dir() and (path / PACKED).is_file():
        return _counted(PackedSet(path / PACKED), cut)
    if path.is_dir() and (path / RECORD).is_file():
        raise ValueError(f"{place}: has no {PACKED}, wanted a run of sample.py that is finished")
    if is_of_run(path) or path.suffix in WEIGHTS:
        return _drawn(place, cut, like)
    if not path.is_dir():
        if path.suffix != ARRAYS:
            raise ValueError(f"{place}: wanted a folder, an {ARRAYS} file or weights")
        return _counted(PackedSet(path), cut)
    names = files_below(path)
    clips = cut.num_frames is not None or (like is not None and len(like.shape) > 3)
    if not clips and any(ending(name) in ENDINGS for name in names):
        return _counted(FolderSet(path, cut.image_size, names), cut)
    if not names:
        raise ValueError(f"{place}: is empty, wanted pictures, videos or samples of sample.py")
    if cut.image_size is None and like is None:
        beside = by_ending(names)
        raise ValueError(f"{place}: found no pictures but {beside}, wanted --image-size of videos")
    return _counted(_videos(place, cut, like), cut)


def open_reference(place: str | None, cut: Cut, like: SampleSet) -> Reference:
    """Opens what samples are held against: published statistics, samples, or both of one file.

    Raises:
      ValueError: (or OSError) see `open_samples` and `read_reference`.
    """
    if place is None:
        return Reference()
    statistics = None
    if Path(place).is_file() and Path(place).suffix == ARRAYS:
        with archives.reading(place) as archive:
            names = archives.names_of(archive)
        if names >= MOMENTS:
            statistics = read_reference(place)
            if PICTURES not in names:
                return Reference(None, statistics)
    return Reference(open_samples(place, cut, like), statistics)


def _counted(found: SampleSet, cut: Cut) -> SampleSet:
    return found if cut.samples is None else FirstOf(found, cut.samples)


def _prepared(place: str, cut: Cut, like: SampleSet | None) -> SampleSet:
    """A set of TFDS, or one of ours, by name."""
    name, _, split = place.partition(SPLIT)
    shape = OF_DIGITS.get(name) or _shape(place, cut, like)
    source, told = _opened(shape, cut, name=name, split=split, path=cut.data_dir)
    return SourceSet(place, source, shape, f"{cut.data_dir} {place} {told} {cut.seed}")


def _videos(place: str, cut: Cut, like: SampleSet | None) -> SampleSet:
    shape = _shape(place, cut, like)
    shape = shape if len(shape) > 3 else (cut.num_frames or FRAMES, *shape)
    stride = cut.frame_stride
    source, told = _opened(shape, cut, name="videos", path=place, frame_stride=stride)
    known = f"{place} {os.stat(place).st_mtime_ns} {told} {stride} {cut.seed}"
    return SourceSet(place, source, shape, known)


def _opened(shape: tuple[int, ...], cut: Cut, **fields: Any) -> tuple[Source, str]:
    """Examples of a data set of these fields, and its fingerprint."""
    from skipdit_jax.data.config import DataConfig  # grain comes with an extra
    from skipdit_jax.data.open import open_once

    config = DataConfig(**fields)
    source = open_once(config, sample_shape=shape, num_classes=ANY_CLASS, seed=cut.seed)
    return source, getattr(source, "fingerprint", "")


def _shape(place: str, cut: Cut, like: SampleSet | None) -> tuple[int, ...]:
    """What examples are read as: as told, else as the samples are."""
    frames = () if cut.num_frames is None else (cut.num_frames,)
    if cut.image_size is not None:
        return (*frames, cut.image_size, cut.image_size, COLOURS)
    if like is None:
        raise ValueError(f"{place}: does not say how large samples are, wanted --image-size")
    return like.shape


def _drawn(place: str, cut: Cut, like: SampleSet | None) -> SampleSet:
    """Samples of a model of pixels, all classes as evenly as can be, in memory."""
    count = len(like) if cut.samples is None and like is not None else cut.samples
    if count is None:
        raise ValueError(f"{place}: is a model, wanted --num-samples to draw from it")
    model = model_of(open_weights(place))
    if not can_be_drawn(model):
        raise ValueError(
            f"{place}: draws latents or reads texts, wanted its samples: sample.py "
            "--num-fid-samples N --sample-dir DIR, then --samples DIR"
        )
    sampler, params, _ = load_sampler(place)
    levels = draw_levels(
        sampler,
        params,
        classes=num_classes(model),
        count=count,
        batch=min(count, DRAWN_AT_A_TIME),
        seed=cut.seed,
    )
    return HeldSet(place, levels)


def can_be_drawn(model: Backbone) -> bool:
    """Whether `draw_levels` can: neither latents, nor from texts."""
    return draws_pixels(model) and not encoders_of(model)


def draw_levels(
    sampler: Sampler, params: Params, *, classes: int, count: int, batch: int, seed: int
) -> np.ndarray:
    """Draws samples of a model of pixels, all classes as evenly as can be.

    Args:
      sampler: the program.
      params: the weights.
      classes: that it knows; 0 for one without.
      count: samples.
      batch: at a time; the program is compiled for so many.
      seed: of the noise.

    Returns:
      uint8 [count,...].
    """
    key, parts = jax.random.key(seed), []
    for first in range(0, count, batch):
        labels = np.arange(first, first + batch, dtype=np.int32) % max(classes, 1)
        keys = sample_keys(key, first, batch)
        drawn = np.asarray(sampler(params, keys, labels if classes else None))
        parts.append(to_uint8(drawn[: count - first]))
    return np.concatenate(parts)
