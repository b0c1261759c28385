"""Clips: grids, strips, and files that other programs' decoders read back."""

import sys

import av
import numpy as np
import pytest
from PIL import Image, ImageSequence

from skipdit_jax.visualise import grids, video


def clips(count, frames, height=2, width=3, channels=1):
    """Frame f of clip i is full of 10 i + f."""
    values = (10 * np.arange(count)[:, None] + np.arange(frames)).astype(np.uint8)
    shape = (count, frames, height, width, channels)
    return np.broadcast_to(values[:, :, None, None, None], shape).copy()


def noise(frames, height, width, channels, seed=0):
    """Blocks of 8x8 pixels of any level, on a white edge, as in a grid of enlarged digits."""
    rng = np.random.default_rng(seed)
    cells = rng.integers(0, 256, (frames, height, width, channels)).astype(np.uint8)
    pixels = cells.repeat(8, axis=1).repeat(8, axis=2)
    return np.pad(pixels, ((0, 0), (4, 4), (4, 4), (0, 0)), constant_values=grids.BACKGROUND)


def decode_mp4(path):
    """(stream's facts, times, frames [F,H,W,3])."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        facts = (stream.codec_context.name, stream.pix_fmt, stream.average_rate)
        length = float(stream.duration * stream.time_base)
    times = [float(frame.time) for frame in frames]
    return facts, [*times, length], np.stack([frame.to_ndarray(format="rgb24") for frame in frames])


def decode_gif(path):
    """(times repeated, milliseconds of each frame, frames [F,H,W,3])."""
    times, shown = [], []
    with Image.open(path) as image:
        loop = image.info["loop"]
        for frame in ImageSequence.Iterator(image):
            times.append(frame.info["duration"])
            shown.append(np.asarray(frame.convert("RGB")))
    return loop, times, np.stack(shown)


def distance(a, b):
    return np.abs(a.astype(int) - b.astype(int))


def test_the_rule_of_pictures_is_that_of_published_clips():
    x = np.random.default_rng(0).uniform(-1.1, 1.1, (2, 3, 8, 8, 3))
    published = np.clip((x * 0.5 + 0.5) * 255 + 0.5, 0, 255).astype(np.uint8)
    np.testing.assert_array_equal(grids.to_uint8(x), published)


def test_decoded_frames_are_cut_where_samples_are_rounded():
    levels = np.arange(255)
    just_below = ((levels + 0.75) / 127.5 - 1).reshape(1, 5, 3, 17, 1)  # of 255, + 3/4
    np.testing.assert_array_equal(grids.decoded_to_uint8(just_below).ravel(), levels)
    np.testing.assert_array_equal(grids.to_uint8(just_below).ravel(), levels + 1)
    with pytest.raises(ValueError, match="NaN"):
        grids.decoded_to_uint8(just_below * np.nan)


def test_every_frame_of_a_grid_is_the_grid_of_that_frame():
    moving = video.make_video_grid(clips(5, 4), columns=3)
    m = grids.MARGIN
    assert moving.shape == (4, m + 2 * (2 + m), m + 3 * (3 + m), 1)
    for i in range(5):
        top, left = m + i // 3 * (2 + m), m + i % 3 * (3 + m)
        cell = moving[:, top : top + 2, left : left + 3]
        assert (cell == (10 * i + np.arange(4))[:, None, None, None]).all()


def test_a_strip_has_a_row_for_each_clip_and_goes_on_to_the_right():
    strip = video.make_strip(clips(2, 5, channels=3), every=2)  # frames 0, 2, 4
    m = grids.MARGIN
    assert strip.shape == (m + 2 * (2 + m), m + 3 * (3 + m), 3)
    assert strip[m :: 2 + m, m :: 3 + m, 0].tolist() == [[0, 2, 4], [10, 12, 14]]


def test_grids_and_strips_of_nothing_are_refused():
    for count, frames in ((0, 3), (3, 0)):
        with pytest.raises(ValueError, match="grid"):
            video.make_video_grid(clips(count, frames), columns=2)
        with pytest.raises(ValueError, match="grid"):
            video.make_strip(clips(count, frames))
    with pytest.raises(ValueError, match="every is 0"):
        video.make_strip(clips(1, 1), every=0)


@pytest.mark.parametrize("channels", [1, 3])
def test_an_mp4_is_h264_at_8_frames_per_second_and_looks_the_same(tmp_path, channels):
    frames = noise(16, 5, 9, 1).repeat(channels, axis=3)
    video.save_mp4(tmp_path / "a.mp4", frames)
    facts, times, shown = decode_mp4(tmp_path / "a.mp4")
    assert facts == ("h264", "yuv420p", 8)
    assert times == [i / 8 for i in range(17)]
    assert shown.shape == (16, 48, 80, 3)
    error = distance(shown, frames.repeat(3 // channels, axis=3))
    assert error.max() <= 8  # of 255
    assert error.mean() < 1
    assert list(tmp_path.iterdir()) == [tmp_path / "a.mp4"]


def test_colours_of_an_mp4_come_back(tmp_path):
    frames = np.zeros((3, 32, 48, 3), np.uint8)
    frames[:, :16], frames[:, 16:] = (200, 30, 90), (20, 160, 250)
    video.save_mp4(tmp_path / "a.mp4", frames)
    shown = decode_mp4(tmp_path / "a.mp4")[2]
    inside = np.r_[0:12, 20:32]  # yuv420p has one colour for 2x2 pixels, so edges of colour blur
    assert distance(shown[:, inside], frames[:, inside]).max() <= 3


@pytest.mark.parametrize(("height", "width"), [(1, 1), (33, 40), (40, 33), (51, 67)])
def test_an_mp4_of_odd_size_and_one_frame_grows_by_its_edge(tmp_path, height, width):
    frames = np.full((1, height, width, 1), 90, np.uint8)
    frames[:, -1:] = frames[:, :, -1:] = 250
    video.save_mp4(tmp_path / "a.mp4", frames)
    _, times, shown = decode_mp4(tmp_path / "a.mp4")
    assert times == [0.0, 0.125]
    assert shown.shape == (1, height + height % 2, width + width % 2, 3)
    assert distance(shown[:, :height, :width], frames).max() <= 12
    assert distance(shown[:, height - 1 :, width - 1 :], np.array(250)).max() <= 12


def test_another_rate_is_another_length(tmp_path):
    video.save_mp4(tmp_path / "a.mp4", noise(6, 2, 2, 1), fps=3)
    assert decode_mp4(tmp_path / "a.mp4")[1][-1] == 2.0
    video.save_gif(tmp_path / "a.gif", noise(6, 2, 2, 1), fps=3)
    assert sum(decode_gif(tmp_path / "a.gif")[1]) == 2000


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("left_out", [None, 77])
def test_greys_of_a_gif_come_back_bit_for_bit(tmp_path, channels, left_out):
    rng = np.random.default_rng(1)
    frames = rng.integers(0, 256, (16, 37, 53, 1)).astype(np.uint8)
    frames[1, frames[1] == left_out] = 0  # one frame of 255 of the 256 greys
    frames[7:, 5:] = frames[7, 5:]  # then only a part moves
    frames = frames.repeat(channels, axis=3)
    video.save_gif(tmp_path / "a.gif", frames)
    loop, times, shown = decode_gif(tmp_path / "a.gif")
    assert loop == 0, "it does not repeat for ever"
    assert times == [120, 130] * 8  # 8 frames per second in centiseconds
    np.testing.assert_array_equal(shown, frames.repeat(3 // channels, axis=3))
    assert list(tmp_path.iterdir()) == [tmp_path / "a.gif"]


def test_few_colours_of_a_gif_come_back_bit_for_bit(tmp_path):
    rng = np.random.default_rng(2)
    palette = rng.integers(0, 256, (200, 3)).astype(np.uint8)
    frames = palette[rng.integers(0, 200, (4, 20, 30))]
    video.save_gif(tmp_path / "a.gif", frames)
    np.testing.assert_array_equal(decode_gif(tmp_path / "a.gif")[2], frames)


def test_many_colours_of_a_gif_come_back_nearly(tmp_path):
    height = np.linspace(0, 255, 40)[:, None]
    width = np.linspace(0, 255, 60)[None, :]
    frame = np.stack(np.broadcast_arrays(height, width, 255 - height / 2 - width / 2), axis=-1)
    frames = np.stack([frame, frame[::-1]]).astype(np.uint8)
    video.save_gif(tmp_path / "a.gif", frames)
    assert distance(decode_gif(tmp_path / "a.gif")[2], frames).mean() < 5


def test_equal_frames_of_a_gif_last_as_long_together(tmp_path):
    still = noise(1, 2, 2, 1).repeat(8, axis=0)
    video.save_gif(tmp_path / "a.gif", still)
    assert sum(decode_gif(tmp_path / "a.gif")[1]) == 1000


@pytest.mark.parametrize("save", [video.save_mp4, video.save_gif])
@pytest.mark.parametrize(
    ("shape", "fps", "words"),
    [
        ((0, 4, 4, 1), 8, "0 frames of 1 channels"),
        ((2, 4, 4, 2), 8, "2 frames of 2 channels"),
        ((2, 4, 4, 1), 0, "0 per second"),
    ],
)
def test_what_is_no_clip_is_refused_in_one_line(tmp_path, save, shape, fps, words):
    with pytest.raises(ValueError, match=words) as caught:
        save(tmp_path / "a.b", np.zeros(shape, np.uint8), fps)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("save", [video.save_mp4, video.save_gif])
def test_a_failing_write_leaves_what_was_there(tmp_path, monkeypatch, save):
    path = tmp_path / "a.b"
    save(path, noise(2, 2, 2, 1))
    before = path.read_bytes()

    def full_disk(*_args, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full_disk)
    with pytest.raises(OSError, match="No space"):
        save(path, noise(3, 2, 2, 1, seed=1))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("save", [video.save_mp4, video.save_gif])
def test_a_missing_folder_is_told(tmp_path, save):
    with pytest.raises(OSError, match="No such file"):
        save(tmp_path / "missing" / "a.b", noise(2, 2, 2, 1))
    assert not list(tmp_path.iterdir())


def test_a_size_that_the_encoder_refuses_leaves_nothing(tmp_path):
    with pytest.raises(OSError, match=r"a\.mp4: cannot write this MP4") as caught:
        video.save_mp4(tmp_path / "a.mp4", np.zeros((1, 2, 20_000, 1), np.uint8))
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_an_encoder_that_fails_on_the_way_leaves_nothing(tmp_path, monkeypatch):
    true_frame, made = av.VideoFrame.from_ndarray, []

    def breaks(*args, **options):
        made.append(args)
        if len(made) == 3:
            raise av.error.ExternalError(-1, "Generic error in an external library")
        return true_frame(*args, **options)

    class Frame:
        from_ndarray = staticmethod(breaks)

    monkeypatch.setattr(av, "VideoFrame", Frame)
    with pytest.raises(OSError, match="Generic error"):
        video.save_mp4(tmp_path / "a.mp4", noise(5, 2, 2, 1))
    assert len(made) == 3
    assert not list(tmp_path.iterdir())


def test_without_pyav_one_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ValueError, match=r"^MP4: found no av, wanted: pip install") as caught:
        video.save_mp4(tmp_path / "a.mp4", noise(1, 2, 2, 1))
    assert "\n" not in str(caught.value)
    video.save_gif(tmp_path / "a.gif", noise(1, 2, 2, 1))  # needs no PyAV


def test_without_an_encoder_one_line_says_so(monkeypatch):
    monkeypatch.setattr(video, "ENCODER", "libx999")
    with pytest.raises(ValueError, match=r"no H\.264 encoder libx999") as caught:
        video.load_encoder()
    assert "\n" not in str(caught.value)
