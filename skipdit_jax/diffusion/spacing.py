"""Which of the T training timesteps a sampler visits, and how a user writes that down.

Notations (T = 1000):
    ""          every timestep
    "250"       250 evenly spaced timesteps, first and last included
    "10,15,25"  T cut into 3 equal sections with 10, 15 and 25 evenly spaced timesteps
    "ddim50"    every (T/50)-th timestep from 0 (the integer stride of Song et al. 2010.02502)
and the words by which the schedulers of diffusers, and so the text models, name theirs (Lin et al.
2305.08891, table 2):
    "leading50+1"  50 timesteps a stride of T // 50 apart, from the offset on; without "+1" from 0
    "trailing50"   50 timesteps T / 50 apart, down from the last
    "linspace50"   50 timesteps evenly spaced from 0 to the last

Solvers count words in ways of their own (`solver_timesteps`).

One step is the last timestep in every notation, where the others of a run begin too: the published
samplers take 0, where the network believes the noise it is given to be a picture.
"""

import re
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

_NUMBER = re.compile(r"[0-9]{1,9}")
_DDIM_PREFIX = "ddim"
_WORDED = re.compile(r"(leading|trailing|linspace)\s*([0-9]{1,9})\s*(?:\+\s*([0-9]{1,9}))?")
_SHOWN = 60
"""Characters of a refused notation that an error message repeats."""


class Words(NamedTuple):
    """A spacing that names one of the rules of diffusers.

    Attributes:
      rule: "leading", "trailing" or "linspace".
      steps: S, their number.
      offset: of every timestep; of "leading" alone.
    """

    rule: str
    steps: int
    offset: int = 0


def kept_timesteps(num_timesteps: int, spacing: str) -> Int[np.ndarray, "S"]:
    """Timesteps named by a spacing notation, ascending.

    Args:
      num_timesteps: T, length of the training schedule.
      spacing: notation as in the module docstring; spaces around numbers are ignored.

    Returns:
      int64 [S], strictly increasing, within 0..T-1.

    Raises:
      ValueError: the notation cannot be read or asks for more steps than there are.
    """
    text = spacing.strip()
    if not text:
        return np.arange(num_timesteps, dtype=np.int64)
    if words := read_words(num_timesteps, spacing):
        kept = np.round(_of_words(num_timesteps, words, words.steps)).astype(np.int64)
    elif text.lower().startswith(_DDIM_PREFIX):
        kept = _integer_stride(num_timesteps, _count(text[len(_DDIM_PREFIX) :], spacing))
    else:
        kept = _sections(num_timesteps, [_count(part, spacing) for part in text.split(",")])
    return kept if len(kept) > 1 else np.asarray([num_timesteps - 1], dtype=np.int64)


def read_words(num_timesteps: int, spacing: str) -> Words | None:
    """A spacing in the words of diffusers; None of another notation.

    Raises:
      ValueError: more steps than there are, or an offset that has no place.
    """
    match = _WORDED.fullmatch(spacing.strip().lower())
    if match is None:
        return None
    words = Words(match[1], _count(match[2], spacing), int(match[3] or 0))
    if words.steps > num_timesteps:
        raise ValueError(f"spacing {spacing!r}: wanted at most {num_timesteps} steps")
    if words.offset and words.rule != "leading":
        raise ValueError(f"spacing {spacing!r}: an offset is of leading spacing alone")
    if words.offset >= num_timesteps - (words.steps - 1) * (num_timesteps // words.steps):
        raise ValueError(f"spacing {spacing!r}: leads beyond the last of {num_timesteps} timesteps")
    return words


def counted_like(steps: int | str, published: str) -> str:
    """A number of steps alone, laid out as a published spacing lays its own; others as they are.

    Examples:
      >>> counted_like(20, "leading100+1"), counted_like(20, "250"), counted_like("ddim20", "250")
      ('leading20+1', '20', 'ddim20')
    """
    text = str(steps).strip()
    match = _WORDED.fullmatch(published.strip().lower())
    if match is None or _NUMBER.fullmatch(text) is None:
        return text
    return f"{match[1]}{text}" + (f"+{match[3]}" if match[3] else "")


def solver_timesteps(
    num_timesteps: int, spacing: str, last: int | None = None
) -> Float[np.ndarray, "S"]:
    """Timesteps of solvers that never stand at the last point of a spacing, ascending.

    DPM-Solver of diffusers counts the S + 1 ends of its S steps where other samplers count S
    timesteps: of a word it takes one more, and leaves out the cleanest. Other notations are as
    they are.

    Args:
      num_timesteps: T.
      spacing: notation.
      last: how many of the timesteps are used; None all. Of words, but for "trailing".

    Raises:
      ValueError: as many steps as there are timesteps, or more.
    """
    words = read_words(num_timesteps, spacing)
    if words is None or words.rule == "trailing" or words.steps == 1:
        return kept_timesteps(num_timesteps, spacing).astype(np.float64)
    ends, points = last or num_timesteps, words.steps + 1
    if points > ends:
        raise ValueError(
            f"spacing {spacing!r}: this solver counts {points} points, wanted at most {ends}"
        )
    return np.round(_of_words(ends, words, points)[1:])


def exact_timesteps(num_timesteps: int, spacing: str) -> Float[np.ndarray, "S"]:
    """Timesteps of samplers that may stand between two: "linspace" is then not rounded."""
    words = read_words(num_timesteps, spacing)
    if words is None or words.rule != "linspace" or words.steps == 1:
        return kept_timesteps(num_timesteps, spacing).astype(np.float64)
    return _of_words(num_timesteps, words, words.steps)


def _of_words(num_timesteps: int, words: Words, count: int) -> Float[np.ndarray, "S"]:
    """So many timesteps by a rule, ascending and, of "linspace", not rounded."""
    if words.rule == "leading":
        return np.arange(count) * (num_timesteps // count) + float(words.offset)
    if words.rule == "linspace":
        return np.linspace(0, num_timesteps - 1, count)
    return np.round(num_timesteps - np.arange(count)[::-1] * (num_timesteps / count)) - 1


def _count(text: str, spacing: str) -> int:
    """Reads one positive number of steps out of a notation."""
    number = text.strip()
    if _NUMBER.fullmatch(number) is None or int(number) == 0:
        raise ValueError(
            f"spacing {spacing[:_SHOWN]!r}: {number[:_SHOWN]!r} is not a number of steps; wanted "
            "'', 'N', 'N,N,...', 'ddimN', 'leadingN+1', 'trailingN' or 'linspaceN' with N >= 1"
        )
    return int(number)


def _integer_stride(num_timesteps: int, steps: int) -> Int[np.ndarray, "S"]:
    """0, s, 2s, ... below T with the smallest integer stride s that gives exactly `steps`."""
    for stride in range(1, num_timesteps + 1):
        kept = np.arange(0, num_timesteps, stride, dtype=np.int64)
        if len(kept) == steps:
            return kept
    raise ValueError(
        f"spacing 'ddim{steps}': no integer stride through {num_timesteps} timesteps gives "
        f"exactly {steps} steps"
    )


def _sections(num_timesteps: int, counts: list[int]) -> Int[np.ndarray, "S"]:
    """Evenly spaced timesteps in equal sections; the first T mod n sections hold one more."""
    size, longer = divmod(num_timesteps, len(counts))
    kept: list[int] = []
    start = 0
    for section, count in enumerate(counts):
        length = size + (section < longer)
        if count > length:
            raise ValueError(
                f"spacing {','.join(map(str, counts))[:_SHOWN]!r}: {count} steps asked of section "
                f"{section}, which has {length} of the {num_timesteps} timesteps"
            )
        kept += [start + offset for offset in _evenly(length, count)]
        start += length
    return np.asarray(kept, dtype=np.int64)


def _evenly(length: int, count: int) -> list[int]:
    """`count` of 0..length-1, both ends included; one step of a section is its first.

    The running position is accumulated and rounded half to even, as the published samplers do:
    multiples of the stride would round differently at some positions.
    """
    stride = (length - 1) / (count - 1) if count > 1 else 1.0
    position, offsets = 0.0, []
    for _ in range(count):
        offsets.append(round(position))
        position += stride
    return offsets
