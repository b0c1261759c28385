"""The report of two models: numbers in its files are those computed apart."""

import json

import jax
import numpy as np
import pytest
from PIL import Image

import skipdit_jax as sd
from skipdit_jax.caching.plan import Span
from skipdit_jax.calibration.full_steps import measure
from skipdit_jax.calibration.search import error_of
from skipdit_jax.checkpoints.digests import digest
from skipdit_jax.cli import stability
from skipdit_jax.cli.build import draw_labels
from skipdit_jax.pipeline import sample_keys
from tests.cli import makers

RUN = ["--num-sampling-steps", "6", "--sampler", "ddim", "--cfg-scale", "1", "--seed", "5"]
ASKED = ["--samples", "4", "--every", "2", "3", "--random", "1", "--points", "3", "--span", "0.1"]
SKIP, PLAIN = "skip.safetensors", "plain.safetensors"
FIGURES = {"similarity.png", "surface.png", "spectra.png", "cache_error.png"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Folder, facts and arrays of a skip model and a plain one."""
    folder = tmp_path_factory.mktemp("models")
    skip = makers.save_small(folder / SKIP)
    plain = makers.save_small(folder / PLAIN, skip=False, depth=3)
    out = folder / "report"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stability, "use_compilation_cache", lambda: None)
        flags = ["--ckpt", str(skip), "--beside", str(plain), "--at", "300", "--out", str(out)]
        assert stability.main([*RUN, *ASKED, *flags]) == 0
    with np.load(out / "stability.npz") as arrays:
        return out, json.loads((out / "stability.json").read_text()), dict(arrays)


@pytest.fixture(scope="module")
def apart(made):
    """The skip model, its weights, keys and labels as the program takes them."""
    model, params = sd.load_checkpoint(made[0].parent / SKIP)
    labels = draw_labels(5, 4, makers.SMALL["num_classes"])
    return model, params, sample_keys(jax.random.key(5), 0, 4), labels


def sampler(model, cache):
    return sd.Sampler(model, steps=6, method="ddim", cache=cache)


def test_facts_say_what_was_measured(made, apart):
    told = made[1]["models"]
    assert [*told] == [SKIP, PLAIN]
    assert [told[name]["skips"] for name in told] == [2, 0]
    assert [told[name]["deep stage"] for name in told] == [2, 1]
    assert told[SKIP]["digest"] == digest(apart[1])
    assert (told[SKIP]["steps"], told[SKIP]["sampler"], told[SKIP]["samples"]) == (6, "ddim", 4)
    assert made[1]["seed"] == 5
    assert made[1]["command"].startswith("python -m skipdit_jax.cli.stability --num-sampling-steps")


def test_spectra_are_those_of_the_weights(made, apart):
    kernels = [np.float64(apart[1][f"skip_fusions_{j}"]["linear"]["kernel"]) for j in range(2)]
    parts = {"whole": slice(None), "deep": slice(16), "skip": slice(16, None)}
    for name, rows in parts.items():
        wanted = [np.linalg.svd(kernel[rows], compute_uv=False)[0] for kernel in kernels]
        np.testing.assert_allclose(made[2][f"{SKIP}: spectra {name}"], wanted, rtol=1e-9)
        np.testing.assert_allclose(made[1]["models"][SKIP]["spectral norms"][name], wanted)
        assert made[1]["models"][PLAIN]["spectral norms"][name] == []


def test_cache_errors_are_those_of_sampling(made, apart):
    model, params, *given = apart
    told, arrays = made[1]["models"][SKIP], made[2]
    wanted = np.asarray(sampler(model, "none")(params, *given), np.float64)
    gaps = [np.diff([*row["full"], 6]).max() - 1 for row in told["cache errors"]]
    uncached, lags = sampler(model, "none"), int(max(gaps))
    (effects,) = measure(uncached, params, [tuple(given)], spans=[Span(1, 3)], lags=lags)
    assert [row["full"] for row in told["cache errors"]][:2] == [[0, 2, 4], [0, 3]]
    for number, row in enumerate(told["cache errors"]):
        cached = sampler(model, sd.SkipCache(full=tuple(row["full"]), branch=1))(params, *given)
        rms = np.sqrt(np.mean((np.asarray(cached) - wanted) ** 2))
        assert arrays[f"{SKIP}: measured rms"][number] == pytest.approx(rms, rel=1e-3)
        assert row["measured rms"] == pytest.approx(rms, rel=1e-3)
        assert row["measured PSNR dB"] == pytest.approx(20 * np.log10(2 / rms), abs=0.01)
        foretold = np.sqrt(error_of(effects, row["full"]) / wanted[0].size)
        assert row["predicted rms"] == pytest.approx(foretold, rel=1e-3)
    pairs = [arrays[f"{SKIP}: {name} rms"] for name in ("predicted", "measured")]
    assert told["correlation"] == pytest.approx(np.corrcoef(*pairs)[0, 1])
    ratio = np.median(pairs[0] / pairs[1])
    assert told["predicted / measured, median"] == pytest.approx(ratio)


def test_summaries_are_those_of_the_arrays(made):
    for name, told in made[1]["models"].items():
        arrays = {key.removeprefix(f"{name}: "): value for key, value in made[2].items()}
        assert arrays["similarity cosine"].shape == (6, told["stages"])
        assert arrays["around loss"].shape == (3, 3, 1)
        means = told["similarity"]["cosine, mean of steps, by block"]
        np.testing.assert_allclose(means, np.nanmean(arrays["similarity cosine"], axis=0))
        (surface,) = told["surface"]
        assert surface["t"] == arrays["t"] == 300
        assert surface["loss"]["middle"] == arrays["around loss"][1, 1, 0]
        assert surface["feature"]["middle"] == 0
        assert surface["feature"]["mean"] == pytest.approx(arrays["around feature"].mean())
    np.testing.assert_allclose(made[2]["coordinates"], [-0.1, 0, 0.1])


def test_figures_are_pictures(made):
    assert {path.name for path in made[0].glob("*.png")} == FIGURES
    for name in FIGURES:
        with Image.open(made[0] / name) as picture:
            assert min(picture.size) > 100
    assert not [*made[0].glob(".*")]


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--points", "4"], "--points 4: wanted an odd number from 3 on"),
        (["--span", "0"], "--span 0: wanted a number above 0"),
        (["--span", "nan"], "--span nan: wanted a number above 0"),
        (["--at", "1000"], "--at 1000: wanted 0 to 999"),
        (["--every", "1"], "found every [1], wanted 2 to 6"),
        (["--every", "9"], "found every [9], wanted 2 to 6"),
        (["--cache", "fora:2"], "wanted skip-cache or"),
        (["--beside", "none.safetensors"], "none.safetensors"),
        (["--format", "pdf"], "invalid choice: 'pdf'"),
        (["--num-sampling-steps", "1"], "found every [2, 3, 4, 5], wanted 2 to 1"),
    ],
)
def test_what_cannot_be_measured_is_told(own_folder, capsys, flags, told):
    with pytest.raises(SystemExit) as caught:
        stability.main([*RUN, *flags, "--out", "report"])
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
    assert not [*own_folder.iterdir()]


def test_a_file_in_the_folders_place_is_told(own_folder, capsys):
    (own_folder / "report").write_text("")
    with pytest.raises(SystemExit) as caught:
        stability.main([*RUN, "--out", "report"])
    assert caught.value.code == 2
    assert "--out report" in capsys.readouterr().err


def test_without_matplotlib_its_extra_is_told(own_folder, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(SystemExit) as caught:
        stability.main([*RUN, "--out", "report"])
    assert caught.value.code == 2
    assert 'pip install "skipdit_jax[plot]"' in capsys.readouterr().err
    assert not [*own_folder.iterdir()]
