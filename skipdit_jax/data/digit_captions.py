"""What is said of digits that move or stand: the captions of the bundled models of text.

A phrasing is a sentence with gaps. Clips are told by digit, way and pace, pictures by digit and
place. Some phrasings are held out of training: they measure whether words are understood, not
sentences remembered.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
WITH_AN = (8,)  # an eight

WAYS = ((-1, 0), (1, 0), (0, -1), (0, 1), (-1, -1), (-1, 1), (1, -1), (1, 1))
"""(down, right) of each way that a digit moves: up, down, left, right, then the diagonals."""
PACES = ((0.7, 1.1), (1.6, 2.0))
"""Pixels a frame, from and to: slow, fast."""
PLACES = tuple(itertools.product((-1, 0, 1), repeat=2))
"""(down, right) of the middle, of each place of a picture."""

GAPS: dict[str, tuple[str, tuple[str, ...]]] = {
    "a": ("digit", tuple(f"{'an' if n in WITH_AN else 'a'} {d}" for n, d in enumerate(DIGITS))),
    "digit": ("digit", DIGITS),
    "number": ("digit", tuple(map(str, range(len(DIGITS))))),
    "way": (
        "way",
        (
            "up",
            "down",
            "left",
            "right",
            "up and left",
            "up and right",
            "down and left",
            "down and right",
        ),
    ),
    "to": (
        "way",
        (
            "up",
            "down",
            "to the left",
            "to the right",
            "up and to the left",
            "up and to the right",
            "down and to the left",
            "down and to the right",
        ),
    ),
    "wards": (
        "way",
        (
            "upwards",
            "downwards",
            "leftwards",
            "rightwards",
            "upwards and left",
            "upwards and right",
            "downwards and left",
            "downwards and right",
        ),
    ),
    "slowly": ("pace", ("slowly", "quickly")),
    "slow": ("pace", ("slow", "fast")),
    "spot": (
        "place",
        (
            "top left",
            "top",
            "top right",
            "left",
            "middle",
            "right",
            "bottom left",
            "bottom",
            "bottom right",
        ),
    ),
    "at": (
        "place",
        (
            "at the top left",
            "at the top",
            "at the top right",
            "on the left",
            "in the middle",
            "on the right",
            "at the bottom left",
            "at the bottom",
            "at the bottom right",
        ),
    ),
    "near": (
        "place",
        (
            "near the upper left corner",
            "near the upper edge",
            "near the upper right corner",
            "near the left edge",
            "near the centre",
            "near the right edge",
            "near the lower left corner",
            "near the lower edge",
            "near the lower right corner",
        ),
    ),
}
"""Gap of a phrasing -> what of `Said` fills it, and how each value reads there."""

CLIPS = (
    *("{a} moving {way}", "{a} drifting {to}", "{a} sliding {to}", "{a} going {way}"),
    *("{a} that moves {to}", "{a} that drifts {wards}", "the digit {number} moving {to}"),
    *("the digit {number}, drifting {way}", "the number {digit} moving {wards}"),
    *("the number {number} slides {to}", "{digit} going {wards}", "{number} moving {way}"),
    *("a handwritten {digit} gliding {to}", "a white {digit} on black, moving {way}"),
    *("a clip of {a} moving {to}", "a video of the digit {digit} drifting {wards}"),
    *("{digit}, {way}", "{a} floats {wards}", "{a} on its way {to}", "{a} travels {to}"),
    *("{wards} goes {a}", "drifting {to}: {a}", "moving {way}, the digit {number}"),
    *("{a} heads {to}", "{a} {slowly} moving {way}", "{a} moving {slowly} {to}"),
    *("{a} drifting {to} {slowly}", "the digit {number}, {slowly} {way}"),
    *("the digit {digit} {slowly} sliding {to}", "the number {number} {slowly} goes {wards}"),
    *("a {slow} {digit} moving {to}", "a {slow} {digit} going {way}", "a {slow} {digit}, {way}"),
    *("a {slow} handwritten {digit} that drifts {wards}", "{slowly}, {a} moves {to}"),
    *("{slowly} and {wards}, the digit {number}", "a clip of a {slow} {digit} drifting {way}"),
    *("a video of {a} that {slowly} slides {to}", "{number} going {slowly} {wards}"),
    *("{digit} moving {way}, {slow}", "{a} gliding {slowly} {to}"),
    *("{a} that floats {to} at a {slow} pace", "at a {slow} pace {a} travels {wards}"),
    *("{a} heads {slowly} {to}", "the {slow} digit {digit} drifts {to}", "{to} {slowly} moves {a}"),
    *("{a}", "the digit {number} on the move"),
)
"""Phrasings of clips to train on."""
CLIPS_HELD_OUT = (
    *("a video of {a} going {to}", "the number {number}, moving {wards}"),
    *("the handwritten digit {digit} travels {way}", "{a} floating {to}"),
    *("watch {a} drift {wards}", "{way} moves the number {digit}"),
    *("a clip of the digit {number} that glides {to}", "{slowly} the digit {number} drifts {way}"),
    *("a {slow} {digit} that travels {to}", "the number {digit} heads {wards}, {slowly}"),
    *("{a}, {slow}, going {to}", "there is {a} {slowly} moving {way}"),
)
PICTURES = (
    *("{a} {at}", "{a} drawn {at}", "the digit {number} {at}", "the digit {digit}, {at}"),
    *("the number {number} {near}", "{a} {near}", "a handwritten {digit} {at}", "{digit}, {spot}"),
    *("a picture of {a} {at}", "a picture of the digit {number} {near}", "{number} {at}"),
    *("{at}, {a}", "{spot}: the number {digit}", "a white {digit} on black, {near}"),
    *("{a} that sits {at}", "the number {digit} stands {at}", "{near} is {a}"),
    *("a photo of {a} {near}", "{a}", "the digit {number}"),
)
"""Phrasings of pictures to train on."""
PICTURES_HELD_OUT = (
    *("a picture of the number {digit}, {spot}", "{at} stands the digit {number}"),
    *("there is {a} {near}", "a handwritten {number} that sits {at}", "a white {digit} {at}"),
    "{near} you see {a}",
)


@dataclasses.dataclass(frozen=True)
class Said:
    """What a caption tells; None is left open.

    Attributes:
      digit: 0 to 9.
      way: number of one of WAYS.
      pace: number of one of PACES.
      place: number of one of PLACES.
    """

    digit: int | None = None
    way: int | None = None
    pace: int | None = None
    place: int | None = None


TOLD = {
    "digit": len(DIGITS),
    "way": len(WAYS),
    "pace": len(PACES),
    "place": len(PLACES),
}
"""What captions tell -> how many values it has."""


def gaps_of(phrasing: str) -> dict[str, str]:
    """What a phrasing tells -> the gap that it has for it, in the order of GAPS.

    >>> gaps_of("the digit {number}, {slowly} {way}")
    {'digit': 'number', 'way': 'way', 'pace': 'slowly'}
    """
    return {told: gap for gap, (told, _) in GAPS.items() if f"{{{gap}}}" in phrasing}


def caption_of(phrasing: str, said: Said) -> str:
    """The sentence.

    >>> caption_of("{a} moving {way}", Said(digit=8, way=1))
    'an eight moving down'
    """
    words = {gap: GAPS[gap][1][getattr(said, told)] for told, gap in gaps_of(phrasing).items()}
    return phrasing.format(**words)


def sayings(phrasings: Sequence[str]) -> Iterator[tuple[str, Said]]:
    """Every sentence of some phrasings, with what it tells."""
    for phrasing in phrasings:
        told = list(gaps_of(phrasing))
        for values in itertools.product(*(range(TOLD[name]) for name in told)):
            said = Said(**dict(zip(told, values, strict=True)))
            yield caption_of(phrasing, said), said
