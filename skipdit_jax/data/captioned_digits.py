"""Digits that move, or stand somewhere, with the embeddings of a caption that says so.

Captions are those of `digit_captions`; an encoder read all of them once (benchmarks/digit_words.py)
and lies in no training run. A digit is one of scikit-learn's, twice as large, on 32x32 pixels; it
never touches the walls, so that its way is that of the caption from the first frame to the last.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from skipdit_jax.data import digits
from skipdit_jax.data.clips import Window
from skipdit_jax.data.digit_captions import (
    CLIPS,
    PACES,
    PICTURES,
    PLACES,
    TOLD,
    WAYS,
    Said,
    caption_of,
    sayings,
)
from skipdit_jax.data.moving_digits import ROOM, Places, enlarge, render
from skipdit_jax.data.sources import TEXT, Example
from skipdit_jax.data.texts import arrays_of, mask_of
from skipdit_jax.files import sha256_of

PLACE = 3.0  # pixels that a place is wide and high: a fifth of the room
EMPTY = ""
VARIATIONS = 64  # of each digit, in pictures
EMBEDDED = ("prompts", "t5/text", "t5/mask")  # arrays of a file of `encoders.embeds`


class CaptionTable:
    """Embeddings of captions by the caption.

    Attributes:
      texts: the shape of an example's embeddings.
      null_text: those of the empty caption.
      fingerprint: of the file.

    Raises:
      ValueError: no such file, or one without a caption that training may ask for.
    """

    def __init__(self, path: str | Path, phrasings: Sequence[str]):
        wanted = "wanted embeddings of benchmarks.digit_words"
        try:
            arrays = arrays_of(path)
        except ValueError as error:
            raise ValueError(f"data.path: {error}, {wanted}") from error
        if missing := [name for name in EMBEDDED if name not in arrays]:
            raise ValueError(f"data.path: {path} holds no {missing[0]}, {wanted}")
        prompts, self._text, self._mask = (arrays[name] for name in EMBEDDED)
        self._rows = {str(prompt): row for row, prompt in enumerate(prompts)}
        for caption in (EMPTY, *(caption for caption, _ in sayings(phrasings))):
            if caption not in self._rows:
                raise ValueError(f"data.path: {path} holds no {caption!r}, wanted all captions")
        self.texts = {TEXT: self._text.shape[1:]}
        self.null_text = self[EMPTY]
        self.fingerprint = sha256_of(Path(path))

    def __getitem__(self, caption: str) -> Example:
        row = self._rows[caption]
        return {TEXT: self._text[row], mask_of(TEXT): self._mask[row]}


class _CaptionedDigits:
    """What pictures and clips share; see `ClipSource` and `Source`."""

    def __init__(self, split: str, path: str, phrasings: Sequence[str]):
        still = digits.load_digits(split)
        self._labels, self._glyphs = still.labels, enlarge(still.images)
        self._table, self._phrasings = CaptionTable(path, phrasings), phrasings
        self.texts, self.null_text = self._table.texts, self._table.null_text
        self.fingerprint = self._table.fingerprint

    def _draw(
        self, index: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, dict[str, int], Example]:
        """A glyph, what happens to it, and the embeddings of a caption that tells some of it."""
        drawn = {name: int(rng.integers(TOLD[name])) for name in ("way", "pace", "place")}
        said = Said(digit=int(self._labels[index]), **drawn)
        caption = caption_of(str(rng.choice(self._phrasings)), said)
        return self._glyphs[index][None], drawn, {"label": np.int32(0)} | self._table[caption]


class DigitClips(_CaptionedDigits):
    """A new motion and a new phrasing with every draw."""

    def __init__(self, split: str, path: str, *, outward: bool = False):
        super().__init__(split, path, CLIPS)
        self._outward = outward

    def __len__(self) -> int:
        return len(self._labels)

    def draw(self, index: int, window: Window, rng: np.random.Generator) -> Example:
        """See `ClipSource`."""
        glyph, drawn, example = self._draw(index, rng)
        way, pace = WAYS[drawn["way"]], PACES[drawn["pace"]]
        corners = _straight(rng, way, pace, window, self._outward)
        return example | {"image": render(glyph, corners)}


class DigitPictures(_CaptionedDigits):
    """Each digit at so many places: example i is the same every time."""

    def __init__(self, split: str, path: str):
        super().__init__(split, path, PICTURES)

    def __len__(self) -> int:
        return len(self._labels) * VARIATIONS

    def __getitem__(self, index: int) -> Example:
        rng = np.random.default_rng(index)
        glyph, drawn, example = self._draw(index % len(self._labels), rng)
        place = np.array(PLACES[drawn["place"]], np.float64)
        corner = ROOM / 2 + (ROOM - PLACE) / 2 * place
        corner += rng.uniform(-PLACE / 2, PLACE / 2, 2)
        return example | {"image": render(glyph, corner[None, None])[0]}


def _straight(
    rng: np.random.Generator,
    way: tuple[int, int],
    pace: tuple[float, float],
    window: Window,
    outward: bool,
) -> Places:
    """Top left corners (y, x) on a straight line between the walls, slower if it is too long.

    Outward lines begin in the middle of the axes that they move along, or behind it as far as the
    wall before them asks for.
    """
    direction = np.array(way) / np.linalg.norm(way)
    span = max(window.span - 1, 1)
    speed = min(rng.uniform(*pace), ROOM / span)
    moved = speed * span * direction
    low, high = np.maximum(0, -moved), ROOM - np.maximum(0, moved)
    if outward:
        low, high = (
            np.where(moved > 0, np.minimum(ROOM / 2, high), low),
            np.where(moved < 0, np.maximum(ROOM / 2, low), high),
        )
    start = rng.uniform(low, high)
    times = window.stride * np.arange(window.num_frames)
    return (start + speed * times[:, None] * direction)[:, None]
