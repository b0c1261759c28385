"""Clips of bytes [B,F,H,W,C] to grids that move, to strips of frames, and to MP4 and GIF files."""

import itertools
import os
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from skipdit_jax.files import replacing_path
from skipdit_jax.optional import load
from skipdit_jax.visualise.grids import Canvas, make_grid, to_image

FRAMES_PER_SECOND = 8  # of the published samples
ENCODER = "libx264"
QUALITY = {"crf": "10"}  # of 0 (lossless) to 51; at 10 a digit's pixels move by few levels of 255
BT709, LIMITED_RANGE = 1, 1  # the codes of H.264: without them players guess, each its own way
CENTISECONDS = 100  # a GIF's clock

Videos = UInt8[np.ndarray, "B F H W C"]
Frames = UInt8[np.ndarray, "F height width C"]


def make_video_grid(videos: Videos, columns: int) -> Frames:
    """Lays clips out row by row, as `make_grid` does with each of their frames.

    Raises:
      ValueError: no clips, clips of no frames, or columns < 1.
    """
    if not videos.shape[1]:
        raise ValueError(f"grid: clips of shape {videos.shape}, wanted 1 or more frames")
    return np.stack([make_grid(videos[:, f], columns) for f in range(videos.shape[1])])


def make_strip(videos: Videos, every: int = 1) -> Canvas:
    """A row for each clip, its frames from left to right.

    Args:
      videos: clips.
      every: show frames 0, every, 2 every, ...

    Raises:
      ValueError: no clips, clips of no frames, or every < 1.
    """
    if every < 1:
        raise ValueError(f"strip: every is {every}, wanted 1 or more")
    shown = videos[:, ::every]
    return make_grid(shown.reshape(-1, *shown.shape[2:]), columns=shown.shape[1])


def save_mp4(
    path: str | os.PathLike[str],
    frames: Frames,
    fps: int = FRAMES_PER_SECOND,
    description: str = "",
) -> None:
    """Writes an MP4 of H.264 (yuv420p, BT.709); the file appears whole or not at all.

    The format wants even sides: an odd one grows by a copy of its last row or column.

    Args:
      path: its name is kept, whatever the suffix.
      frames: of 1 or 3 channels.
      fps: frames per second.
      description: text that the file carries as its comment.

    Raises:
      ValueError: another number of channels, no frames, or no encoder (see `load_encoder`).
      OSError: the file cannot be written, or the encoder refuses the size.
    """
    _check(path, frames, fps)
    av = load_encoder()
    with replacing_path(path) as temporary:
        try:
            _encode(av, temporary, _even(frames), fps, description)
        except av.FFmpegError as error:
            raise OSError(f"{path}: cannot write this MP4: {error}") from error


def save_gif(
    path: str | os.PathLike[str],
    frames: Frames,
    fps: int = FRAMES_PER_SECOND,
    description: str = "",
) -> None:
    """Writes a GIF that repeats for ever; the file appears whole or not at all.

    Grey frames, and those of at most 256 colours, come back exactly; others get the 256 colours
    that suit each frame best. Times are rounded to a GIF's centiseconds so that they do not drift:
    at 8 frames per second frames last 120 and 130 ms in turn. Equal frames in a row become one
    that lasts longer.

    Args:
      path: its name is kept, whatever the suffix.
      frames: of 1 or 3 channels.
      fps: frames per second.
      description: text that the file carries as its comment.

    Raises:
      ValueError: another number of channels, or no frames.
      OSError: the file cannot be written.
    """
    _check(path, frames, fps)
    starts = [CENTISECONDS * frame // fps for frame in range(len(frames) + 1)]
    first, *rest = map(to_image, frames)
    with replacing_path(path) as temporary:
        first.save(
            temporary,
            "GIF",
            save_all=True,
            append_images=rest,
            duration=[10 * (end - start) for start, end in itertools.pairwise(starts)],
            loop=0,
            **({"comment": description.encode()} if description else {}),
            optimize=False,  # Pillow 13 shifts the greys of a frame that holds 255 of the 256
        )


def load_encoder() -> Any:
    """Returns the module `av` after making sure that it can write H.264.

    Raises:
      ValueError: PyAV is missing (MissingExtraError) or too old, or has no such encoder.
    """
    av = load("av", "MP4")
    try:
        av.codec.Codec(ENCODER, "w")
    except ValueError as error:
        raise ValueError(
            f"MP4: the FFmpeg of PyAV {av.__version__} has no H.264 encoder {ENCODER}, "
            "wanted that of the wheels: pip install av"
        ) from error
    return av


def _check(path: str | os.PathLike[str], frames: np.ndarray, fps: int) -> None:
    if not len(frames) or frames.shape[3] not in (1, 3) or fps < 1:
        raise ValueError(
            f"{path}: {len(frames)} frames of {frames.shape[3]} channels, {fps} per second, wanted "
            "1 or more of 1 or 3 channels, 1 or more per second"
        )


def _even(frames: Frames) -> UInt8[np.ndarray, "F height2 width2 C"]:
    height, width = frames.shape[1:3]
    return np.pad(frames, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def _encode(av: Any, path: Path, frames: Frames, fps: int, description: str) -> None:
    """Writes frames of even sides; the index goes first, so that a browser starts at once."""
    options = {"movflags": "+faststart"}
    with av.open(str(path), "w", format="mp4", options=options) as container:
        if description:
            container.metadata["comment"] = description
        stream = container.add_stream(ENCODER, rate=fps, options=QUALITY)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.color_range = LIMITED_RANGE
        context.colorspace = context.color_primaries = context.color_trc = BT709
        for frame in frames:
            # Grey as three channels: FFmpeg's way from grey to yuv420p is off by up to 4 levels.
            colour = np.ascontiguousarray(np.broadcast_to(frame, (*frame.shape[:2], 3)))
            picture = av.VideoFrame.from_ndarray(colour, format="rgb24").reformat(
                format="yuv420p", dst_colorspace=BT709, dst_color_range=LIMITED_RANGE
            )
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
