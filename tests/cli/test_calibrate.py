"""From a model to a file of computed steps, and from that to pictures of this model alone."""

import json
import re
from pathlib import Path

import pytest

from skipdit_jax.cli import calibrate, sample

LONGER = ["--num-sampling-steps", "12", "--sampler", "ddim", "--cfg-scale", "1"]
RUN = ["--num-sampling-steps", "8", "--sampler", "ddim", "--cfg-scale", "1"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """What `calibrate` writes for the bundled digits, and what it tells."""
    path = tmp_path_factory.mktemp("calibrated") / "fast.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibrate, "use_compilation_cache", lambda: None)
        calibrate.main([*RUN, "--samples", "4", "--full", "3", "--out", str(path)])
    return path


def test_the_file_says_what_was_made_and_for_what(made):
    found = json.loads(made.read_text())
    assert re.fullmatch(r"skip-cache\(branch=1, full=\(0, \d, \d\)\)", found["cache"])
    told = found["found"]
    assert (told["computed"], told["steps"], told["samples"]) == (3, 8, 4)
    assert told["foretold"]["PSNR dB"] >= told["foretold, even"]["PSNR dB"]
    assert found["made for"]["sampler"] == "ddim"
    assert len(found["made for"]["timesteps"]) == 8


def test_the_widest_branch_that_is_worth_its_flops(capsys):
    """Beside the even list of each branch: none of those that may be chosen is foretold better."""
    spent = ["--speedup", "1.5", "--objective", "even", "--out", "made.json"]

    def foretold(*flags):
        calibrate.main([*RUN, "--samples", "4", *spent, *flags])
        found = json.loads(Path("made.json").read_text())
        return found["found"]["foretold"]["PSNR dB"], found["cache"]

    of_each = [foretold("--cache", f"skip-cache(every=2, branch={k})") for k in (1, 2)]
    wide = "skip-cache(every=2, branch=5)"  # by itself it cannot save as much
    best, cache = foretold("--any-branch", "--cache", wide)
    assert best == pytest.approx(max(psnr for psnr, _ in of_each), rel=1e-3)
    assert cache == max(of_each)[1]


def test_seconds_are_foretold_by_flops(made):
    found = json.loads(made.read_text())["found"]
    assert found["seconds"] > 0
    assert found["seconds, no cache"] == pytest.approx(found["ceiling"] * found["seconds"])


def test_another_run_takes_it_where_it_is_told_to(made, capsys):
    longer = [*RUN, "--num-sampling-steps", "12", "--sampler", "ddpm", "--class-labels", "3"]
    sample.main([*longer, "--cache", f"{made}:resample", "--out", "three.png"])
    told = capsys.readouterr().out
    assert "3 steps computed, 9 reused" in told
    assert "made for the sampler ddim, found ddpm" in told
    assert re.search(r"note .*: 8 steps from \d+ to \d+ resampled to 12 steps", told)


def test_comparisons_take_it_for_nothing_else(made, capsys):
    with pytest.raises(SystemExit) as caught:
        sample.main([*RUN, "--cfg-scale", "2", "--class-labels", "3", "--compare", str(made)])
    assert caught.value.code == 2
    assert "made for guidance 1, found 2" in capsys.readouterr().err


def test_sample_py_takes_it(made, capsys):
    sample.main([*RUN, "--class-labels", "3", "--cache", str(made), "--out", "three.png"])
    told = capsys.readouterr().out
    assert f"cache {made}" in told
    assert "3 steps computed, 5 reused" in told


@pytest.mark.parametrize(
    ("method", "cache"),
    [
        ("smooth", "smooth(masks=(('attn', (1, "),
        ("teacache", "teacache(threshold="),
        ("mag", "mag(threshold="),
        ("adacache", "adacache(codebook=(("),
        ("threshold --cache first-block(over='max')", "first-block(threshold="),
    ],
)
def test_other_methods_save_what_was_asked(capsys, method, cache):
    flags = [
        "--method",
        *method.split(),
        "--speedup",
        "1.3",
        "--samples",
        "4",
        "--out",
        "made.json",
    ]
    calibrate.main([*LONGER, *flags])
    found = json.loads(Path("made.json").read_text())
    assert found["cache"].startswith(cache)
    sample.main([*LONGER, "--class-labels", "3", "--cache", "made.json", "--out", "three.png"])
    told = capsys.readouterr().out
    assert "cache made.json" in told
    saved = [float(one) for one in re.findall(r"at most ([\d.]+)x faster", told)]
    assert min(saved) >= 1.2  # other samples may decide a little otherwise


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--num-sampling-steps", "9"], "made for 8 steps"),
        (["--sampler", "ddpm"], "made for the sampler ddim, found ddpm"),
        (["--cfg-scale", "2"], "made for guidance 1, found 2"),
    ],
)
def test_sample_py_takes_it_for_nothing_else(made, capsys, flags, told):
    with pytest.raises(SystemExit) as caught:
        sample.main([*RUN, "--class-labels", "3", "--cache", str(made), *flags])
    assert caught.value.code == 2
    assert re.search(told, capsys.readouterr().err)


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--full", "3", "--out", "fast.txt"], "wanted a name that ends in .json"),
        (["--full", "30", "--out", "fast.json"], "--full 30: wanted at most 8"),
        (["--speedup", "0", "--out", "fast.json"], "found a speedup of 0, wanted 1 to "),
        (["--speedup", "nan", "--out", "fast.json"], "found a speedup of nan, wanted 1 to "),
        (["--speedup", "2", "--cache", "N1", "--out", "fast.json"], "of 2, wanted 1 to 1"),
        (["--budget", "2", "--out", "fast.json"], "wanted a share of 1"),
        (["--speedup", "40", "--out", "fast.json"], "found a speedup of 40, wanted 1 to "),
        (["--speedup", "2", "--cache", "fora:2", "--out", "fast.json"], "wanted skip-cache or"),
        (["--speedup", "40", "--method", "smooth", "--like", "--out", "f.json"], "not allowed"),
        (["--like", "--method", "smooth", "--out", "f.json"], "wanted --speedup, --budget or"),
        (["--error", "0.1", "--out", "f.json"], "--error: is of --method smooth"),
        (["--out", "fast.json"], "one of the arguments"),
        (["--full", "3", "--any-branch", "--out", "f.json"], "--any-branch: wanted --speedup"),
        (["--full", "3", "--method", "mag", "--out", "f.json"], "mag: wanted --speedup or --bud"),
        (["--speedup", "9", "--method", "mag", "--out", "f.json"], "speedup of 9, wanted 1 to"),
        (["--speedup", "2", "--method", "threshold", "--out", "f.json"], "wanted --cache first-"),
    ],
)
def test_what_cannot_be_calibrated_is_told(own_folder, capsys, flags, told):
    with pytest.raises(SystemExit) as caught:
        calibrate.main([*RUN, *flags])
    assert caught.value.code == 2
    assert told in capsys.readouterr().err
    assert not [*own_folder.iterdir()]
