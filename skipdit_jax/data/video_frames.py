"""Frames of video files by number, decoded by FFmpeg through PyAV.

Frame k is the k-th that decoding from the start gives: the k-th in order of presentation. For the
usual codecs the packets of a file, which are read without decoding, tell the times of all frames;
decoding then starts at the last keyframe before the first wanted one. What it gives is compared
with these times, and where they differ, or the packets tell nothing, the file is decoded from its
start. Nothing is remembered but facts about files: what is read does not depend on what was before.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image

from skipdit_jax.data.clips import Choose
from skipdit_jax.data.sources import BrokenExampleError, unreadable
from skipdit_jax.data.video_geometry import frame_picture
from skipdit_jax.optional import load

# One packet of these is one shown frame. Not so in VP8 (packets that are never shown) and MPEG-4
# part 2 (two frames packed into one, as by old versions of DivX and XviD).
ONE_FRAME_PACKETS = frozenset({"h264", "hevc", "vp9", "av1", "libdav1d"})
KNOWN_INDICES = 1024
"""Files of which the times are remembered: 8 bytes for each frame."""
KNOWN_COUNTS = 65_536

Pixels = UInt8[np.ndarray, "H W C"]
Take = Callable[[Image.Image], Pixels]
Show = Callable[[Any, Any], Image.Image]


def read_frames(
    path: Path, choose: Choose, take: Take, *, orientation: str = "upright"
) -> list[Pixels]:
    """Decodes some frames of a video file, as a player shows them.

    Args:
      path: the file.
      choose: number of frames of the file -> numbers of the wanted ones, ascending. May be called
        again with another number.
      take: picture of a frame -> what is kept of it.
      orientation: "upright", as its file asks, or "stored"; see `video_geometry`.

    Raises:
      BrokenExampleError: the file cannot be decoded, or whatever `choose` raises.
      MissingExtraError: PyAV is not installed, or too old.
    """
    av = load("av", str(path))
    try:
        index = _index(path)
        show = partial(frame_picture, name=str(path), orientation=orientation)
        frames = index and _from_keyframe(path, index, choose(len(index.times)), take, show)
        return frames or _from_start(path, choose(_count(path)), take, show)
    except (av.error.FFmpegError, OSError) as error:
        reason = error.strerror or str(error) or type(error).__name__
        raise unreadable(str(path), error, " ".join(reason.split())) from error


class _Index(NamedTuple):
    """Presentation times of all frames and of the keyframes, ascending."""

    times: Int[np.ndarray, "N"]
    keys: Int[np.ndarray, "K"]


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """The file and its first video stream."""
    av = load("av", str(path))
    # Titles in no UTF-8 are no reason to refuse a file: PyAV 19 passes them on, older ones raise.
    lenient = {} if int(av.__version__.partition(".")[0]) >= 19 else {"metadata_errors": "ignore"}
    # Without "file:", a colon in the name makes FFmpeg take what is before it for a protocol.
    with av.open(f"file:{path}", **lenient) as container:
        if not container.streams.video:
            raise BrokenExampleError(str(path), "no video in it")
        stream = container.streams.video[0]
        # The threads and workers of the pipeline read several files at once.
        stream.codec_context.thread_count = 1
        yield container, stream


@functools.lru_cache(maxsize=KNOWN_INDICES)
def _index(path: Path) -> _Index | None:
    """Times of the frames by the packets of a file; None where these do not tell."""
    with _opened(path) as (container, stream):
        if stream.codec.name not in ONE_FRAME_PACKETS:
            return None
        packets = [
            (packet.pts, packet.is_keyframe, packet.is_discard or packet.is_corrupt)
            for packet in container.demux(stream)
            if packet.size
        ]
        stated = stream.frames
    if not packets or any(pts is None or unsound for pts, _, unsound in packets):
        return None
    times = np.unique([pts for pts, _, _ in packets])
    if not packets[0][1] or len(times) != len(packets) or stated not in (0, len(packets)):
        return None
    return _Index(times, np.sort([pts for pts, is_key, _ in packets if is_key]))


@functools.lru_cache(maxsize=KNOWN_COUNTS)
def _count(path: Path) -> int:
    """Number of frames that decoding gives."""
    with _opened(path) as (container, stream):
        return sum(1 for _ in container.decode(stream))


def _from_start(path: Path, wanted: Int[np.ndarray, "F"], take: Take, show: Show) -> list[Pixels]:
    """Decodes everything up to the last wanted frame."""
    numbers = set(wanted.tolist())
    frames: list[Pixels] = []
    with _opened(path) as (container, stream):
        for number, frame in enumerate(container.decode(stream)):
            if number in numbers:
                if frame.is_corrupt:
                    raise BrokenExampleError(str(path), f"frame {number} is damaged")
                frames.append(take(show(frame, stream)))
            if number == wanted[-1]:
                return frames
    raise BrokenExampleError(str(path), f"frame {wanted[len(frames)]} cannot be decoded")


def _from_keyframe(
    path: Path, index: _Index, wanted: Int[np.ndarray, "F"], take: Take, show: Show
) -> list[Pixels] | None:
    """Decodes from the keyframe before the wanted frames; None where the file is not as indexed."""
    times, numbers = index.times, set(wanted.tolist())
    key_time = index.keys[np.searchsorted(index.keys, times[wanted[0]], side="right") - 1]
    number = int(np.searchsorted(times, key_time))
    frames: list[Pixels] = []
    with _opened(path) as (container, stream):
        if number:
            container.seek(int(key_time), stream=stream)
        for frame in container.decode(stream):
            if frame.pts is None or frame.is_corrupt:
                return None
            # A seek may end at an earlier keyframe, and frames that are shown before a keyframe may
            # stand behind it.
            if frame.pts < key_time:
                continue
            # A gradual refresh, marked as a keyframe, gives whole pictures only some frames later.
            if frame.pts != times[number]:
                return None
            if number in numbers:
                frames.append(take(show(frame, stream)))
            if number == wanted[-1]:
                return frames
            number += 1
    return None
