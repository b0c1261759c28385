"""sample.py on a small model of clips: an MP4, a GIF and a strip; bad input is one line."""

import sys

import av
import numpy as np
import pytest
from PIL import Image, ImageSequence

from skipdit_jax.cli import compare, sample
from skipdit_jax.cli.runner import Result
from skipdit_jax.cli.sample import main
from skipdit_jax.runs import previews
from skipdit_jax.visualise.grids import CELL, MARGIN, to_uint8
from tests.cli import makers

FRAMES, SIDE = 3, 4
SHOWN = ["mp4", "gif", "png"]


@pytest.fixture(scope="module")
def moving(tmp_path_factory):
    """A model of clips [3,4,4,1] as a native file that recommends settings."""
    metadata = {"sampling": {"steps": 4, "guidance": 2.0, "cache": "N2", "num_samples": 1}}
    path = tmp_path_factory.mktemp("moving") / "moving.safetensors"
    return makers.save_small(path, metadata, "latte", num_frames=FRAMES, depth=8)


@pytest.fixture(scope="module")
def moving_latents(tmp_path_factory):
    path = tmp_path_factory.mktemp("latents") / "latents.safetensors"
    return makers.save_small(path, None, "latte", num_frames=FRAMES, depth=8, in_channels=4)


@pytest.fixture
def drawn(monkeypatch):
    """Replaces sampling by zeros, where only what happens to them matters."""

    def draw(job, _progress):
        shape = (job.count, *job.model.config.sample_shape)
        return Result(np.zeros(shape, np.float32), compile_seconds=1.0, run_seconds=2.0)

    monkeypatch.setattr(sample, "run", draw)


def run(*flags):
    assert main([str(flag) for flag in flags]) == 0


def arrays(path):
    with np.load(path) as file:
        return dict(file)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def gif_frames(path):
    with Image.open(path) as image:
        return [np.asarray(frame.convert("L")) for frame in ImageSequence.Iterator(image)]


def mp4_size(path):
    with av.open(path) as container:
        frames = list(container.decode(video=0))
        return len(frames), frames[0].height, frames[0].width


def cells(picture):
    """The small pictures [rows,columns,4,4] of a grid of enlarged ones."""
    step, pixel = CELL + MARGIN, CELL // SIDE
    rows, columns = picture.shape[0] // step, picture.shape[1] // step
    large = picture[-rows * step :, -columns * step :].reshape(rows, step, columns, step)
    large = large.swapaxes(1, 2)[:, :, :CELL, :CELL]  # cell, then the margin after it
    return large[:, :, pixel // 2 :: pixel, pixel // 2 :: pixel]


def test_an_mp4_a_gif_and_a_strip_show_the_same_clips(moving, own_folder, capsys):
    run("--ckpt", moving, "--class-labels", 3, 1, 4, "--out", "pi.gif", "--npz", "a.npz")
    assert names(own_folder) == ["a.npz", "pi.gif", "pi.mp4", "pi.png"]
    found = arrays("a.npz")
    assert found["arr_0"].dtype == np.uint8
    assert found["arr_0"].shape == (3, FRAMES, SIDE, SIDE, 1)
    assert found["labels"].tolist() == [3, 1, 4]
    clips = found["arr_0"][..., 0]
    assert (clips[:, 0] != clips[:, 1]).any(), "nothing moves"
    with Image.open("pi.png") as image:
        np.testing.assert_array_equal(cells(np.asarray(image)), clips)
    for f, frame in enumerate(gif_frames("pi.gif")):
        np.testing.assert_array_equal(cells(frame)[0], clips[:, f])
    height, width = MARGIN + CELL + MARGIN, MARGIN + 3 * (CELL + MARGIN)
    assert mp4_size("pi.mp4") == (FRAMES, height, width)
    told = capsys.readouterr()
    assert told.err == ""
    for words in ("3x4x4x1", "clips/s", "written  pi.mp4, pi.gif, pi.png, a.npz"):
        assert words in told.out


@pytest.mark.usefixtures("drawn")
@pytest.mark.parametrize(
    ("flags", "written"),
    [
        ([], "samples.gif samples.mp4 samples.png"),
        (["--out", "a.mp4"], "a.gif a.mp4 a.png"),
        (["--out", "a.PNG"], "a.PNG a.gif a.mp4"),
    ],
)
def test_whichever_file_is_named_all_three_are_written(moving, own_folder, flags, written):
    run("--ckpt", moving, *flags)
    assert names(own_folder) == written.split()


@pytest.mark.usefixtures("drawn")
@pytest.mark.parametrize(
    ("flags", "name"),
    [([], "samples.npz"), (["--out", "a.mp4"], "a.npz"), (["--out", "b.npz"], "b.npz")],
)
def test_latents_of_clips_need_no_encoder(
    moving_latents, own_folder, monkeypatch, capsys, flags, name
):
    monkeypatch.setitem(sys.modules, "av", None)
    run("--ckpt", moving_latents, "--class-labels", 5, *flags)
    assert names(own_folder) == [name]
    assert arrays(name)["latents"].shape == (1, FRAMES, SIDE, SIDE, 4)
    assert "these are latents" in capsys.readouterr().out


def test_a_comparison_moves(moving, own_folder, capsys, monkeypatch):
    monkeypatch.setattr(compare, "INTERVALS", (2,))
    flags = ("--class-labels", 3, 7, "--out", "c.mp4", "--npz", "c.npz")
    run("--ckpt", moving, "--compare", *flags)
    assert names(own_folder) == ["c.gif", "c.mp4", "c.npz", "c.png"]
    out = capsys.readouterr().out
    rows = sum(line.startswith(("full", "Skip", "fewer")) for line in out.splitlines())
    clips = arrays("c.npz")["arr_0"].reshape(rows, 2, FRAMES, SIDE, SIDE)
    with Image.open("c.png") as image:
        np.testing.assert_array_equal(cells(np.asarray(image))[:, -2:], clips[:, :, FRAMES // 2])
    for f, frame in enumerate(gif_frames("c.gif")):
        np.testing.assert_array_equal(cells(frame)[:, -2:], clips[:, :, f])
    assert mp4_size("c.mp4")[0] == FRAMES


def test_scores_of_clips_are_means_over_their_frames():
    variants = [compare.Variant(name, None, steps=8, ceiling=1.0) for name in ("full", "a")]
    reference = np.zeros((2, 2, 8, 8, 1), np.float32)
    away = np.array([0.2, 0.02, 0.2, 0.2], np.float32).reshape(2, 2, 1, 1, 1)
    score = compare.score(variants, [reference, reference + away], [1.0, 1.0], pixels=True)[1]
    assert score.psnr == pytest.approx((20 + 40 + 20 + 20) / 4, abs=1e-3)  # 20 log10(2 / away)
    assert 0 < score.ssim < 1


def test_latents_of_clips_are_compared_in_colour():
    samples = np.random.default_rng(0).standard_normal((2, FRAMES, SIDE, SIDE, 4))
    variant = compare.Variant("full", None, steps=8, ceiling=1.0)
    score = compare.score([variant], [samples.astype(np.float32)], [1.0], pixels=False)
    movie = compare.movie(score, ["5", "6"], pixels=False)
    assert movie.shape[::3] == (FRAMES, 3)
    picture = compare.picture(score, ["5", "6"], pixels=False)
    np.testing.assert_array_equal(picture, movie[FRAMES // 2])


def test_many_clips_are_a_folder_of_pictures_and_one_file(moving, tmp_path):
    folder = tmp_path / "samples"
    run(
        "--ckpt", moving, "--num-fid-samples", 3, "--per-proc-batch-size", 2, "--sample-dir", folder
    )
    files = [f"{number:06d}.png" for number in range(3)]
    assert names(folder) == [*files, "run.json", "samples.npz"]
    clips = arrays(folder / "samples.npz")["arr_0"]
    assert clips.shape == (3, FRAMES, SIDE, SIDE, 1)
    assert len(np.unique(clips.reshape(3 * FRAMES, -1), axis=0)) == 3 * FRAMES
    for file, clip in zip(files, clips, strict=True):
        with Image.open(folder / file) as image:  # frames from top to bottom
            np.testing.assert_array_equal(np.asarray(image), clip[..., 0].reshape(-1, SIDE))


@pytest.mark.parametrize("pixels", [True, False])
def test_a_preview_of_clips_is_their_strip(pixels):
    channels = 1 if pixels else 4
    samples = np.random.default_rng(0).uniform(-1, 1, (5, FRAMES, SIDE, SIDE, channels))
    samples = samples.astype(np.float32)
    picture = previews.draw_grid(samples, columns=2, pixels=pixels)
    if not pixels:
        samples = samples / previews.LATENT_SPREAD
    np.testing.assert_array_equal(cells(picture[:, :, 0]), to_uint8(samples)[..., 0])
    assert picture.shape[2] == (1 if pixels else 3)


@pytest.fixture
def refused(moving, own_folder, capsys, monkeypatch):
    """Runs flags that must be refused before anything runs, and returns the one line."""

    def never(*_args, **_options):
        pytest.fail("something ran before the input was checked")

    monkeypatch.setattr(sample, "run", never)
    monkeypatch.setattr(compare, "measure", never)

    def run(*flags):
        before = names(own_folder)
        with pytest.raises(SystemExit, match="2"):
            main(["--ckpt", str(moving), *flags])
        told = capsys.readouterr()
        assert told.out == ""
        assert told.err.startswith("sample.py: error: ")
        assert told.err.count("\n") == 1
        assert names(own_folder) == before
        return told.err

    return run


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--out", "clip"], "ends in .mp4 or .gif or .png"),
        (["--out", "clip.npz"], "ends in .mp4 or .gif or .png"),
        (["--out", "/dev/null/a.mp4"], "cannot write into /dev/null"),
        (["--out", "a.mp4", "--npz", "a.gif"], "--out and --npz are both a.gif"),
    ],
)
def test_names_that_cannot_be_written(refused, flags, words):
    assert words in refused(*flags)


def test_no_file_of_the_three_may_be_a_folder(refused, own_folder):
    (own_folder / "a.gif").mkdir()
    assert "--out a.gif: is a folder" in refused("--out", "a.mp4")


@pytest.mark.parametrize("flags", [[], ["--compare"]])
def test_without_ffmpeg_one_line_says_what_to_install(refused, monkeypatch, flags):
    monkeypatch.setitem(sys.modules, "av", None)
    assert 'pip install "skipdit_jax[video]"' in refused(*flags)


def test_without_an_encoder_one_line_says_so(refused, monkeypatch):
    monkeypatch.setattr("skipdit_jax.visualise.video.ENCODER", "libx999")
    assert "no H.264 encoder libx999" in refused()


@pytest.mark.usefixtures("drawn")
def test_fewer_frames_are_sampled_when_asked_and_more_are_refused(moving, own_folder, capsys):
    run("--ckpt", moving, "--num-frames", FRAMES - 1, "--npz", "a.npz")
    assert arrays("a.npz")["arr_0"].shape[1] == FRAMES - 1
    with pytest.raises(SystemExit) as caught:
        main(["--ckpt", str(moving), "--num-frames", str(FRAMES + 1)])
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert f"has num_frames {FRAMES}, wanted {FRAMES + 1}" in error
    assert error.count("\n") == 1


def test_pictures_have_no_frames(small, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--ckpt", str(small), "--num-frames", "2"])
    assert caught.value.code == 2
    assert "unknown option num_frames" in capsys.readouterr().err
