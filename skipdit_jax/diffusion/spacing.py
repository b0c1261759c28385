"""Which of the T training timesteps a sampler visits, and how a user writes that down.

Notations (T = 1000):
    ""          every timestep
    "250"       250 evenly spaced timesteps, first and last included
    "10,15,25"  T cut into 3 equal sections with 10, 15 and 25 evenly spaced timesteps
    "ddim50"    every (T/50)-th timestep from 0 (the integer stride of Song et al. 2010.02502)

One step is the last timestep in every notation, where the others of a run begin too: the published
samplers take 0, where the network believes the noise it is given to be a picture.
"""

import re

import numpy as np
from jaxtyping import Int

_NUMBER = re.compile(r"[0-9]{1,9}")
_DDIM_PREFIX = "ddim"
_SHOWN = 60
"""Characters of a refused notation that an error message repeats."""


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
    if text.lower().startswith(_DDIM_PREFIX):
        kept = _integer_stride(num_timesteps, _count(text[len(_DDIM_PREFIX) :], spacing))
    else:
        kept = _sections(num_timesteps, [_count(part, spacing) for part in text.split(",")])
    return kept if len(kept) > 1 else np.asarray([num_timesteps - 1], dtype=np.int64)


def _count(text: str, spacing: str) -> int:
    """Reads one positive number of steps out of a notation."""
    number = text.strip()
    if _NUMBER.fullmatch(number) is None or int(number) == 0:
        raise ValueError(
            f"spacing {spacing[:_SHOWN]!r}: {number[:_SHOWN]!r} is not a number of steps; wanted "
            "'', 'N', 'N,N,...' or 'ddimN' with N >= 1"
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
