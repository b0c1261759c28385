"""Bad input to cli.evaluate: one line, exit code 2, nothing written, no network read."""

import pickle

import numpy as np
import pytest

from skipdit_jax.cli import evaluate
from tests.cli.evaluation_kit import packed, put_in_place, write
from tests.cli.makers import save_small
from tests.cli.test_evaluate import published
from tests.data.pictures import cut_short
from tests.evaluation.edges import pictures


@pytest.fixture(autouse=True)
def asked(monkeypatch, tmp_path):
    return put_in_place(monkeypatch, tmp_path)


@pytest.fixture
def refused(own_folder, capsys, asked):
    """Runs flags that must be refused and returns the one line."""

    def run(*flags, networks=False):
        before = sorted(own_folder.rglob("*"))
        with pytest.raises(SystemExit) as stopped:
            evaluate.main([str(flag) for flag in flags])
        told = capsys.readouterr()
        assert stopped.value.code == 2
        assert told.err.startswith("python -m skipdit_jax.cli.evaluate: error: ")
        assert told.err.count("\n") == 1
        assert sorted(own_folder.rglob("*")) == before
        if not networks:
            assert told.out == ""
            assert asked == []
        return told.err

    return run


@pytest.fixture
def ours(tmp_path):
    return packed(tmp_path / "ours.npz", pictures(6))


@pytest.fixture
def clips(tmp_path):
    return packed(tmp_path / "clips.npz", pictures(3, shape=(16, 8, 8, 3)))


FLAGS = {
    "no reference": (["--metrics", "fid"], "fid: found no reference, wanted one"),
    "unknown metric": (["--metrics", "fid,ssimm"], "found ssimm, wanted some of fid, sfid, is"),
    "no metric": (["--metrics", ","], "found none, wanted some of fid"),
    "one resample": (["--resamples", "1"], "found 1 resample, wanted 0, or 2 or more"),
    "resamples below 0": (["--resamples", "-1"], "--resamples"),
    "no folder to write into": (["--metrics-json", "/dev/null/a.json"], "--metrics-json /dev/null"),
    "a folder to write": (["--metrics-json", "."], "--metrics-json .: is a folder, wanted a file"),
    "too many samples": (["--num-samples", "7"], "ours.npz: found 6 samples, wanted 7"),
    "no samples": (["--num-samples", "0"], "--num-samples"),
    "too many parts": (["--is-parts", "7"], "is: found 6 samples in "),
    "batch of none": (["--metrics-batch-size", "0"], "--metrics-batch-size"),
    "unknown rule": (["--resize", "clean"], "'adm', 'pytorch-fid'"),
    "unknown trunk": (["--lpips-net", "squeeze"], "'alex', 'vgg'"),
    "fvd of pictures": (["--metrics", "fvd", "--reference", "CLIPS"], "16x20x3, wanted clips"),
    "reference of clips": (["--reference", "CLIPS"], "16x8x8x3, wanted pictures"),
    "pairs of clips": (["--metrics", "psnr", "--reference", "CLIPS"], "found 3 samples, wanted 6"),
    "reference missing": (["--reference", "none.npz"], "none.npz: is not there, wanted a file, a "),
    "reference of no kind": (["--reference", "/dev/null"], "/dev/null: "),
    "split missing": (["--reference", "digits:val"], "found 'val'"),
    "empty value": (["--reference", ""], "--reference: found an empty value"),
    "unknown flag": (["--metric", "fid"], "--metric"),
    "seed of text": (["--metrics-seed", "x"], "--metrics-seed"),
}


@pytest.mark.parametrize("case", FLAGS)
def test_flags(refused, ours, clips, case):
    flags, words = FLAGS[case]
    typed = [str(clips) if word == "CLIPS" else word for word in flags]
    assert words in refused("--samples", ours, *typed)


def test_samples_are_wanted(refused):
    assert "--samples" in refused("--metrics", "is")


PLACES = {
    "nothing": (lambda path: None, "is not there, wanted a file, a folder or NAME:SPLIT"),
    "an empty folder": (lambda path: path.mkdir(), "is empty, wanted pictures, videos or samples"),
    "a run that stands still": (
        lambda path: (path.mkdir(), (path / "run.json").touch()),
        "has no samples.npz, wanted a run of sample.py that is finished",
    ),
    "text": (lambda path: path.write_text("x"), "wanted a folder, an .npz file or weights"),
}


@pytest.mark.parametrize("case", PLACES)
def test_places_without_samples(refused, tmp_path, case):
    make, words = PLACES[case]
    make(tmp_path / "place")
    assert words in refused("--samples", tmp_path / "place")


def test_latents(refused, tmp_path):
    latents = save_small(tmp_path / "latents.safetensors", in_channels=4)
    words = "draws latents or reads texts, wanted its samples: sample.py --num-fid-samples N"
    assert words in refused("--samples", latents, "--num-samples", "2")
    packed(tmp_path / "latents.npz", np.zeros((3, 4, 4, 4), np.float32))
    assert "found float32 (3, 4, 4, 4), wanted pictures" in refused(
        "--samples", tmp_path / "latents.npz"
    )


def test_a_model_without_a_number(refused, small):
    assert "is a model, wanted --num-samples" in refused("--samples", small)


def test_sizes_that_differ(refused, tmp_path):
    folder = write(tmp_path / "mixed", pictures(2))
    write(folder / "more", pictures(1, shape=(9, 9, 3)))
    line = refused("--samples", folder, networks=True)
    assert "found 9x9 pixels, wanted 20x16 as 000.png has (--image-size" in line


def test_a_broken_picture(refused, tmp_path):
    folder = write(tmp_path / "broken", pictures(2))
    cut_short(folder / "001.png")
    assert "001.png: " in refused("--samples", folder, networks=True)


class Evil:
    def __reduce__(self):
        return (print, ("executed",))


def bad_references(folder):
    good = packed(folder / "good.npz", pictures(6)).read_bytes()
    yield "cut", good[:-100], "not a zip file"
    yield "empty", b"", "not a zip file"
    yield "pickle", pickle.dumps(Evil()), "not a zip file"
    np.savez(folder / "x.npz", arr_0=np.array([Evil()], object))
    yield "objects", (folder / "x.npz").read_bytes(), "found Python objects"
    np.savez(folder / "x.npz", mu=np.zeros(3), sigma=np.array([Evil()], object))
    yield (
        "objects of statistics",
        (folder / "x.npz").read_bytes(),
        "found Python objects, wanted numbers",
    )
    np.savez(folder / "x.npz", mu=np.zeros(3), sigma=np.full((3, 3), np.nan))
    yield "nan", (folder / "x.npz").read_bytes(), "found NaN or infinite numbers"
    np.savez(folder / "x.npz", mu=np.zeros(3), sigma=np.eye(4))
    yield "misfit", (folder / "x.npz").read_bytes(), "found shapes (3,) and (4, 4)"
    np.savez(folder / "x.npz", mu=np.zeros(3))
    yield "half", (folder / "x.npz").read_bytes(), "no array arr_0, it has mu"


def test_references_that_are_none(refused, ours, tmp_path):
    for name, content, words in bad_references(tmp_path):
        path = tmp_path / "reference.npz"
        path.write_bytes(content)
        line = refused("--samples", ours, "--reference", path)
        assert f"{path}: " in line, name
        assert words in line, name


def test_a_file_that_is_damaged_further_on(refused, tmp_path):
    path = packed(tmp_path / "damaged.npz", pictures(200))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    assert "damaged.npz: Bad CRC-32" in refused("--samples", path, networks=True)


@pytest.mark.parametrize("name", ["pr", "kid", "psnr"])
def test_statistics_where_samples_are_wanted(refused, ours, tmp_path, name):
    known = published(tmp_path / "known.npz", True)
    line = refused("--samples", ours, "--reference", known, "--metrics", name)
    assert f"{name}: found statistics of a reference, wanted its samples" in line


def test_statistics_without_spatial_ones(refused, ours, tmp_path):
    known = published(tmp_path / "known.npz", False)
    line = refused("--samples", ours, "--reference", known, "--metrics", "fid,sfid")
    assert "sfid: found a reference without mu_s and sigma_s" in line


def test_statistics_of_another_network(refused, ours, tmp_path):
    known = tmp_path / "known.npz"
    np.savez(known, mu=np.zeros(3), sigma=np.eye(3))
    line = refused("--samples", ours, "--reference", known, "--metrics", "fid")
    assert "fid: found statistics of 3 features, wanted 4 of inception" in line


@pytest.mark.parametrize(("name", "fewest"), [("fid", 2), ("kid", 2), ("pr", 4)])
def test_too_few_samples(refused, tmp_path, ours, name, fewest):
    few = packed(tmp_path / "few.npz", pictures(fewest - 1))
    for places in ((few, ours), (ours, few)):
        line = refused("--samples", places[0], "--reference", places[1], "--metrics", name)
        assert f"{name}: found {fewest - 1} samples in {few}, wanted {fewest} or more" in line


def test_clips_that_are_too_short(refused, tmp_path):
    short = packed(tmp_path / "short.npz", pictures(3, shape=(8, 8, 8, 3)))
    line = refused("--samples", short, "--reference", short)
    assert "clips of 8 frames, wanted 9 or more for FVD" in line


def test_pairs_of_other_sizes(refused, ours, tmp_path):
    other = packed(tmp_path / "other.npz", pictures(6, shape=(20, 16, 3)))
    line = refused("--samples", ours, "--reference", other, "--metrics", "ssim")
    assert "6 samples of 16x20x3 and 6 of 20x16x3, wanted as many of one size" in line


def test_pictures_too_small_for_lpips(refused, ours, monkeypatch):
    monkeypatch.setattr(evaluate, "evaluate", lambda *_: pytest.fail("it was told too late"))
    flags = ("--metrics", "psnr,lpips")
    line = refused("--samples", ours, "--reference", ours, *flags, networks=True)
    assert "found pictures of 20x16, wanted sides of 31 or more for alex" in line
