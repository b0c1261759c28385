"""Small videos whose frames tell their number: each has noise about a grey level of its own."""

from fractions import Fraction

import numpy as np
from PIL import Image

from skipdit_jax.data.config import DataConfig
from skipdit_jax.data.open import open_data

COUNT = 48
SHAPE = (48, 64)
RATE = 25
DARKEST, STEP, NOISE = 16, 4, 8
# Neighbours differ much, so that a frame predicted badly does not look like the next.
ORDER = np.arange(COUNT) * 29 % COUNT

FRAMES, STRIDE, SPAN, CLASSES = 4, 3, 10, 2
CLIP = (FRAMES, 16, 16, 3)
"""What a model takes that the tests imagine."""


def picture(number, shape=SHAPE):
    """Frame of a number below COUNT, uint8 [H,W,3]."""
    noise = np.random.default_rng(number).integers(-NOISE, NOISE + 1, (*shape, 1))
    return np.repeat(DARKEST + STEP * ORDER[number] + noise, 3, axis=-1).astype(np.uint8)


def number_of(pixels):
    """Which number a frame has, uint8 or float in [-1, 1]."""
    levels = pixels if pixels.dtype == np.uint8 else (pixels + 1) * 127.5
    return int(np.flatnonzero(np.round((levels.mean() - DARKEST) / STEP) == ORDER)[0])


def write_video(path, codec="libx264", *, count=COUNT, shape=SHAPE, times=None, **options):
    """Encodes frames 0..count-1; `times` are their times in milliseconds. Returns path."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        rate = RATE if times is None else 1000
        options = {key.replace("_", "-"): str(value) for key, value in options.items()}
        stream = container.add_stream(codec, rate=rate, options=options)
        stream.height, stream.width = shape
        stream.pix_fmt = "yuv420p"
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(picture(number, shape), format="rgb24")
            frame.pts = number if times is None else times[number]
            frame.time_base = Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_frames(path, count=COUNT, shape=SHAPE, pattern="{:03}.png", first=0):
    """A folder of pictures first..first+count-1; returns it."""
    path.mkdir(parents=True)
    for number in range(count):
        Image.fromarray(picture(first + number, shape)).save(path / pattern.format(number))
    return path


def open_videos(
    path, *, batch_size=4, seed=0, classes=CLASSES, shape=CLIP, process=(0, 1), **config
):
    return open_data(
        DataConfig(name="videos", path=str(path), **{"frame_stride": STRIDE, **config}),
        sample_shape=shape,
        num_classes=classes,
        batch_size=batch_size,
        seed=seed,
        process_index=process[0],
        process_count=process[1],
    )


def take(batches, count):
    return [next(batches) for _ in range(count)]


def numbers(clip):
    return [number_of(frame) for frame in clip]
