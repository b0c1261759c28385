"""sample.py --num-fid-samples evaluates what it draws, and tells first what is missing."""

import json

import numpy as np
import pytest

from skipdit_jax.cli import evaluate, many, sample
from skipdit_jax.evaluation.fidelity import psnr
from tests.cli.evaluation_kit import numbers, packed, put_in_place
from tests.cli.test_decode import refused as refused_line
from tests.cli.test_many import flags
from tests.evaluation.edges import pictures

pytestmark = pytest.mark.usefixtures("compiled_once")
COUNT = 7


@pytest.fixture(autouse=True)
def asked(monkeypatch, tmp_path):
    return put_in_place(monkeypatch, tmp_path)


@pytest.fixture
def other(tmp_path):
    """Samples of another run, in a folder as this program leaves it."""
    folder = tmp_path / "other"
    folder.mkdir()
    packed(folder / "samples.npz", pictures(COUNT, shape=(4, 4, 1)))
    return folder


def test_what_was_drawn_is_held_against_another_run(small, tmp_path, other, own_folder, capsys):
    typed = ["--reference", str(other), "--metrics", "psnr,is", "--metrics-json", "n.json"]
    argv = flags(small, tmp_path / "drawn", *typed)
    assert sample.main(argv) == 0
    out = capsys.readouterr().out
    drawn = np.load(tmp_path / "drawn" / "samples.npz")["arr_0"]
    a, b = (x / 127.5 - 1 for x in (drawn, pictures(COUNT, shape=(4, 4, 1))))
    found = numbers(own_folder / "n.json")
    assert found["psnr"] == pytest.approx(psnr(a, b).mean(), rel=1e-12)
    assert found["is"] > 1
    assert f"PSNR             {found['psnr']:.6g} dB" in out
    told = json.loads((own_folder / "n.json").read_text())
    assert told["command"].split() == ["python", "sample.py", *argv]
    # The same numbers from the folder alone, later.
    again = ["--samples", str(tmp_path / "drawn"), *typed]
    assert evaluate.main(again) == 0
    assert numbers(own_folder / "n.json") == found
    # And from the same command, which draws nothing again.
    before = (tmp_path / "drawn" / "000000.png").stat().st_mtime_ns
    assert sample.main(argv) == 0
    assert (tmp_path / "drawn" / "000000.png").stat().st_mtime_ns == before
    assert numbers(own_folder / "n.json") == found


def test_a_larger_reference_of_real_pictures(small, tmp_path, own_folder):
    real = packed(tmp_path / "real.npz", pictures(20, shape=(4, 4, 1)))
    typed = ("--reference", real, "--metrics-json", "n.json")
    assert sample.main(flags(small, tmp_path / "drawn", *typed)) == 0
    assert list(numbers(own_folder / "n.json")) == [
        "fid",
        "sfid",
        "is",
        "precision",
        "recall",
        "kid",
    ]


REFUSED = {
    "no reference": (["--metrics", "fid"], "fid: found no reference, wanted one"),
    "reference missing": (["--reference", "none"], "none: is not there, wanted a file, a folder"),
    "unknown metric": (["--metrics", "psnrr"], "found psnrr, wanted some of fid"),
    "fvd of pictures": (["--metrics", "fvd", "--reference", "OTHER"], "found samples of 4x4x1"),
    "pairs of other sizes": (
        ["--metrics", "psnr", "--reference", "LARGE"],
        "wanted as many of one",
    ),
    "pairs of fewer": (["--metrics", "psnr", "--reference", "FEW"], "found 5 samples, wanted 7"),
    "too few for a metric": (["--reference", "FEW", "--is-parts", "8"], "wanted 8 or more"),
    "one resample": (["--reference", "OTHER", "--resamples", "1"], "found 1 resample"),
    "nowhere to write": (
        ["--reference", "OTHER", "--metrics-json", "/dev/null/n.json"],
        "--metrics-json /dev/null/n.json: cannot write",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_missing_is_told_before_the_first_sample(
    small, tmp_path, other, capsys, monkeypatch, case
):
    monkeypatch.setattr(many, "draw", lambda *_: pytest.fail("samples were drawn"))
    typed, words = REFUSED[case]
    places = {
        "OTHER": other,
        "LARGE": packed(tmp_path / "large.npz", pictures(COUNT, shape=(5, 5, 1))),
        "FEW": packed(tmp_path / "few.npz", pictures(5, shape=(4, 4, 1))),
    }
    typed = [places.get(word, word) for word in typed]
    assert words in refused_line(capsys, *flags(small, tmp_path / "drawn", *typed))
    assert not (tmp_path / "drawn").exists()


def test_latents_are_refused_before_the_first_of_them(plain_latents, tmp_path, other, capsys):
    typed = ("--reference", other)
    line = refused_line(capsys, *flags(plain_latents, tmp_path / "drawn", *typed))
    assert "--metrics: these are latents, wanted --vae ema, mse or a file beside it" in line
    assert not (tmp_path / "drawn").exists()


@pytest.mark.parametrize(
    "typed", [["--metrics", "is"], ["--reference", "x"], ["--resamples", "20"], ["--lpips", "x"]]
)
def test_a_few_samples_are_not_evaluated(small, capsys, typed):
    line = refused_line(capsys, "--ckpt", small, *typed)
    assert f"{typed[0]}: wanted --num-fid-samples beside it" in line


def test_how_to_evaluate_without_what_is_refused(small, tmp_path, capsys):
    line = refused_line(capsys, *flags(small, tmp_path / "drawn", "--is-parts", "10"))
    assert "--is-parts: wanted --reference or --metrics beside it" in line
    assert not (tmp_path / "drawn").exists()
