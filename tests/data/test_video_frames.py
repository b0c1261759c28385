"""Reading against a reference: all frames of a file decoded one after the other."""

import sys

import av
import numpy as np
import pytest

from skipdit_jax.data import video_frames
from skipdit_jax.data.sources import BrokenExampleError
from tests.data.videos import COUNT, number_of, write_video

ODD_TIMES = [int(time) for time in np.cumsum(np.random.default_rng(0).integers(10, 90, COUNT))]
X264 = {"g": 12, "bf": 3, "qp": 10}
FILES = {
    "several_gops.mp4": {**X264},
    "no_count_in_the_header.mkv": {**X264},
    "one_gop.mp4": {**X264, "g": 250},
    "open_gops.mkv": {"x264_params": "open-gop=1:keyint=12:bframes=3:b-pyramid=normal:qp=10"},
    "gradual_refresh.mkv": {"x264_params": "intra-refresh=1:keyint=12:qp=10"},
    "interlaced.mp4": {"x264_params": "interlaced=1:keyint=12:qp=10"},
    "odd_times.mp4": {**X264, "times": ODD_TIMES},
    "odd_times.mkv": {**X264, "times": ODD_TIMES},
    "cut_by_an_edit_list.mp4": {**X264, "times": [40 * n - 200 for n in range(COUNT)]},
    "times_by_decoding_order.avi": {**X264},
    "stream.ts": {**X264},
    "plain.avi": {"codec": "mpeg4", "g": 12, "b": 10_000_000},
    "b_frames.avi": {"codec": "mpeg4", "g": 12, "bf": 2, "b": 10_000_000},
    "hidden_frames.webm": {
        "codec": "libvpx",
        "auto_alt_ref": 1,
        "lag_in_frames": 16,
        "b": 10_000_000,
    },
    "vp9.webm": {"codec": "libvpx-vp9", "g": 12, "cpu_used": 8, "b": 10_000_000},
}
SEEKABLE = ("several_gops.mp4", "no_count_in_the_header.mkv", "open_gops.mkv", "odd_times.mp4")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("videos")


def written(folder, name):
    path = folder / name
    return path if path.exists() else write_video(path, **FILES[name])


def reference(path):
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def read(path, choose):
    return video_frames.read_frames(path, choose, np.asarray)


def starting(start, stride=3, frames=4):
    return lambda count: start + stride * np.arange(frames)


@pytest.mark.parametrize("name", FILES)
def test_frames_are_those_of_decoding_in_order(folder, name):
    path = written(folder, name)
    want = reference(path)
    seen = [number_of(frame) for frame in want]
    assert seen == list(range(COUNT - len(want), COUNT))
    for start in range(len(want) - 9):
        got = read(path, starting(start))
        np.testing.assert_array_equal(np.stack(got), want[start : start + 10 : 3])
    counts = []
    read(path, lambda count: counts.append(count) or np.arange(1))
    assert set(counts) == {len(want)}


@pytest.mark.parametrize("name", SEEKABLE)
def test_usual_files_are_not_decoded_from_their_start(folder, name, monkeypatch):
    path = written(folder, name)
    want = reference(path)
    monkeypatch.setattr(video_frames, "_from_start", None)
    got = read(path, starting(30))
    np.testing.assert_array_equal(np.stack(got), want[30:40:3])


def test_what_is_read_does_not_depend_on_what_was_before(folder):
    """A file where some seeks go wrong: times and counts are remembered, failures are not."""
    path = written(folder, "gradual_refresh.mkv")
    for starts in ((30, 2), (2, 30)):
        video_frames._index.cache_clear()
        video_frames._count.cache_clear()
        frames = {start: read(path, starting(start)) for start in starts}
        for start, got in frames.items():
            assert [number_of(one) for one in got] == list(range(start, start + 10, 3))


def test_names_may_hold_anything_a_file_system_takes(folder):
    path = folder / "100%03d http:x \N{SNOWMAN}.mp4"
    path.write_bytes(written(folder, "several_gops.mp4").read_bytes())
    assert len(read(path, starting(0))) == 4


def test_titles_that_are_no_utf8_are_no_damage(folder):
    path = folder / "titled.mkv"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "cafe"
        stream = container.add_stream("libx264", rate=10)
        stream.height, stream.width = 16, 16
        frame = av.VideoFrame.from_ndarray(np.full((16, 16, 3), 99, np.uint8), format="rgb24")
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    latin = "caf\N{LATIN SMALL LETTER E WITH ACUTE}".encode("latin-1")
    data = path.read_bytes()
    assert data.count(b"cafe") == 1
    path.write_bytes(data.replace(b"cafe", latin))
    [got] = read(path, lambda count: np.arange(1))
    assert abs(got.astype(int) - 99).max() <= 2


def damaged(path, name, at=0.5, length=4000):
    """A copy with its middle overwritten."""
    data = bytearray(path.read_bytes())
    start = int(at * len(data))
    data[start : start + length] = bytes(length)
    copy = path.with_name(name)
    copy.write_bytes(data)
    return copy


def test_unreadable_files_are_named_in_one_line(folder):
    whole = written(folder, "several_gops.mp4")
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "text.mp4").write_text("no video")
    (folder / "half.mp4").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    for name in ("empty.mp4", "text.mp4", "half.mp4"):
        with pytest.raises(BrokenExampleError, match=f"{name}: Invalid data found") as caught:
            read(folder / name, starting(0))
        assert "\n" not in str(caught.value)
    with pytest.raises(BrokenExampleError, match=r"gone\.mp4: No such file or directory$"):
        read(folder / "gone.mp4", starting(0))


@pytest.mark.parametrize("name", ["plain.avi", "several_gops.mp4"])
def test_damaged_frames_are_not_passed_on(folder, name):
    path = damaged(written(folder, name), f"damaged_{name}")
    with pytest.raises(BrokenExampleError, match=r"frame [0-9]+ is damaged|Invalid data"):
        read(path, lambda count: np.arange(count))


def test_sound_without_pictures_is_named(folder):
    path = folder / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        silence = av.AudioFrame.from_ndarray(
            np.zeros((1, 4096), np.float32), format="fltp", layout="mono"
        )
        silence.sample_rate = 44100
        container.mux(stream.encode(silence))
        container.mux(stream.encode())
    with pytest.raises(BrokenExampleError, match=r"sound\.mp4: no video in it"):
        read(path, starting(0))


def test_a_missing_library_is_named(folder, monkeypatch):
    path = written(folder, "several_gops.mp4")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ValueError, match=r"gops\.mp4: found no av, wanted: pip install") as e:
        read(path, starting(0))
    assert not isinstance(e.value, BrokenExampleError)
