"""cli.evaluate: samples in, a table and a JSON file out."""

import json
import re

import numpy as np
import pytest

from skipdit_jax.cli import evaluate
from skipdit_jax.evaluation import extraction, gathering
from skipdit_jax.evaluation.distances import frechet_between
from skipdit_jax.evaluation.fidelity import psnr, ssim
from skipdit_jax.evaluation.moments import fit_gaussian
from skipdit_jax.evaluation.references import ReferenceStatistics, write_reference
from tests.cli.evaluation_kit import numbers, packed, put_in_place, write
from tests.evaluation import edges
from tests.evaluation.edges import pictures

pytestmark = pytest.mark.usefixtures("compiled_once")
OURS, REAL = pictures(9), pictures(9, seed=1)


@pytest.fixture(autouse=True)
def asked(monkeypatch, tmp_path):
    return put_in_place(monkeypatch, tmp_path)


@pytest.fixture
def ours(tmp_path):
    return packed(tmp_path / "ours.npz", OURS)


@pytest.fixture
def real(tmp_path):
    return packed(tmp_path / "real.npz", REAL)


def run(*flags):
    return evaluate.main([str(flag) for flag in flags])


def pooled(levels):
    return np.asarray(edges.call({"filters": edges.FILTERS}, levels)["pool"])


def test_all_numbers_of_pictures_against_pictures(ours, real, own_folder, capsys):
    flags = ("--samples", ours, "--reference", real, "--metrics-json", "deep/numbers.json")
    assert run(*flags) == 0
    found = numbers(own_folder / "deep" / "numbers.json")
    assert list(found) == ["fid", "sfid", "is", "precision", "recall", "kid"]
    wanted = frechet_between(fit_gaussian(pooled(OURS)), fit_gaussian(pooled(REAL)))
    assert found["fid"] == pytest.approx(wanted, rel=1e-4)
    out = capsys.readouterr().out
    assert f"samples  {ours}: 9 of 16x20x3\nagainst  {real}: 9 of 16x20x3\n" in out
    for title, name in {"FID": "fid", "sFID": "sfid", "KID": "kid", "recall": "recall"}.items():
        assert re.search(rf"^{title} +{re.escape(f'{found[name]:.6g}')} ", out, re.MULTILINE)
    assert "note     9 samples, fewer than 10,000: Fréchet distances are too large" in out
    assert out.endswith("written  deep/numbers.json\n")


def test_the_file_says_all_that_fixes_the_numbers(ours, real, own_folder, asked):
    flags = ["--samples", ours, "--reference", real, "--metrics", "fid,is", "--resamples", "3"]
    flags += ["--resize", "pytorch-fid", "--metrics-seed", "7", "--num-samples", "8"]
    flags += ["--metrics-batch-size", "3", "--metrics-json", "numbers.json"]
    assert run(*flags) == 0
    told = json.loads((own_folder / "numbers.json").read_text())
    typed = " ".join(["python -m skipdit_jax.cli.evaluate", *map(str, flags)])
    assert told["command"] == typed
    assert told["samples"]["count"] == 8
    assert told["samples"]["shape"] == [16, 20, 3]
    assert told["reference"]["place"] == str(real)
    assert told["reference"]["count"] == 9
    assert told["choices"]["resamples"] == 3
    assert told["choices"]["seed"] == 7
    assert told["networks"]["inception"]["preprocessing"] == "pytorch-fid"
    assert {"processor", "devices", "versions"} <= told.keys()
    [fid, score] = told["scores"]
    assert fid["low"] <= fid["value"] <= fid["high"]
    assert score["low"] is None
    [choice] = asked
    assert (choice.batch, choice.rule, choice.source) == (3, "pytorch-fid", None)


@pytest.mark.parametrize("kind", ["npz", "compressed", "folder"])
def test_pairs_need_no_network(ours, real, own_folder, tmp_path, kind, asked, capsys):
    places = ours, real
    if kind == "folder":
        places = write(tmp_path / "a", OURS), write(tmp_path / "b", REAL)
    elif kind == "compressed":
        places = [
            packed(tmp_path / f"{name}z.npz", levels, np.savez_compressed)
            for name, levels in (("a", OURS), ("b", REAL))
        ]
    flags = ("--samples", places[0], "--reference", places[1], "--metrics", "psnr,ssim")
    assert run(*flags, "--metrics-json", "n.json") == 0
    a, b = (x / 127.5 - 1 for x in (OURS, REAL))
    found = numbers(own_folder / "n.json")
    assert found["psnr"] == pytest.approx(psnr(a, b).mean(), rel=1e-12)
    assert found["ssim"] == pytest.approx(ssim(a, b).mean(), rel=1e-12)
    assert asked == []
    out = capsys.readouterr().out
    assert re.search(r"^PSNR .* dB  \[", out, re.MULTILINE)
    assert "note" not in out  # of Fréchet distances


def test_equal_samples_have_a_file_that_every_reader_of_json_reads(ours, own_folder):
    flags = ("--samples", ours, "--reference", ours, "--metrics", "psnr")
    assert run(*flags, "--metrics-json", "n.json") == 0
    told = json.loads((own_folder / "n.json").read_text(), parse_constant=pytest.fail)
    assert told["scores"][0]["value"] == "inf"


def test_pairs_are_of_the_first_samples_of_a_larger_reference(ours, tmp_path, own_folder):
    longer = packed(tmp_path / "longer.npz", np.concatenate([REAL, OURS]))
    flags = ("--reference", longer, "--metrics", "psnr", "--metrics-json", "n.json")
    assert run("--samples", ours, *flags) == 0
    a, b = (x / 127.5 - 1 for x in (OURS, REAL))
    assert numbers(own_folder / "n.json")["psnr"] == pytest.approx(psnr(a, b).mean(), rel=1e-12)
    assert run("--samples", ours, "--num-samples", "4", *flags) == 0
    few = psnr(a[:4], b[:4]).mean()
    assert numbers(own_folder / "n.json")["psnr"] == pytest.approx(few, rel=1e-12)


def published(path, spatial, **beside):
    real = edges.call({"filters": edges.FILTERS}, REAL)
    space = fit_gaussian(np.asarray(real["spatial"])) if spatial else None
    write_reference(path, ReferenceStatistics(fit_gaussian(pooled(REAL)), space, {}))
    with np.load(path) as file:
        np.savez(path, **{name: file[name] for name in file.files}, **beside)
    return path


@pytest.mark.parametrize(
    ("spatial", "beside", "names"),
    [
        (True, {}, ["fid", "sfid", "is"]),
        (False, {}, ["fid", "is"]),
        (True, {"arr_0": REAL}, ["fid", "sfid", "is", "precision", "recall", "kid"]),
        (False, {"arr_0": REAL}, ["fid", "sfid", "is", "precision", "recall", "kid"]),
    ],
)
def test_without_metrics_all_that_the_reference_allows(
    ours, real, tmp_path, own_folder, spatial, beside, names, capsys
):
    known = published(tmp_path / "known.npz", spatial, **beside)
    assert run("--samples", ours, "--reference", known, "--metrics-json", "n.json") == 0
    assert f"against  statistics of {known}" in capsys.readouterr().out
    found = numbers(own_folder / "n.json")
    assert list(found) == names
    assert run("--samples", ours, "--reference", real, "--metrics-json", "n.json") == 0
    wanted = numbers(own_folder / "n.json")
    assert found == pytest.approx({name: wanted[name] for name in names}, rel=1e-3, abs=1e-6)


def test_without_a_reference_the_inception_score(ours, capsys):
    assert run("--samples", ours, "--progress") == 0
    out = capsys.readouterr().out
    assert re.search(r"^Inception score +\d", out, re.MULTILINE)
    assert "against" not in out


def test_clips_have_fvd(tmp_path, own_folder, asked):
    places = [
        packed(tmp_path / f"{seed}.npz", pictures(3, seed=seed, shape=(9, 16, 16, 3)))
        for seed in range(2)
    ]
    flags = ("--samples", places[0], "--reference", places[1], "--clip-preprocessing", "videogpt")
    assert run(*flags, "--metrics-json", "n.json") == 0
    assert list(numbers(own_folder / "n.json")) == ["fvd"]
    assert [(choice.name, choice.rule, choice.batch) for choice in asked] == [
        ("i3d", "videogpt", 4)
    ]


def test_a_set_by_name(tmp_path, own_folder):
    digits = packed(tmp_path / "digits.npz", pictures(6, shape=(8, 8, 1)))
    flags = ("--samples", digits, "--reference", "digits:test", "--metrics", "fid,kid")
    assert run(*flags, "--metrics-json", "n.json") == 0
    told = json.loads((own_folder / "n.json").read_text())
    assert told["reference"]["name"] == "digits:test"
    assert told["reference"]["count"] == 355


def test_pictures_of_many_sizes_are_cut_to_one(tmp_path, ours, own_folder):
    folder = write(tmp_path / "mixed", pictures(4, shape=(30, 20, 3)))
    for number, picture in enumerate(pictures(4, shape=(20, 30, 3))):
        write(tmp_path / "mixed" / str(number), [picture])
    flags = ("--samples", folder, "--image-size", "16", "--metrics", "is")
    assert run(*flags, "--metrics-json", "n.json") == 0
    assert json.loads((own_folder / "n.json").read_text())["samples"]["shape"] == [16, 16, 3]


def test_a_model_is_drawn_from(small, own_folder, capsys):
    flags = ("--samples", small, "--num-samples", "5", "--seed", "2", "--metrics", "psnr,ssim")
    assert run(*flags, "--reference", small, "--metrics-json", "n.json") == 0
    assert f"{small}: 5 of 4x4x1" in capsys.readouterr().out
    assert numbers(own_folder / "n.json") == {"psnr": "inf", "ssim": 1}


def test_a_stopped_run_goes_on_where_it_stood(ours, real, monkeypatch, own_folder, capsys):
    flags = ("--samples", ours, "--reference", real, "--metrics", "kid")
    flags += ("--metrics-batch-size", "2", "--metrics-json", "n.json")
    assert run(*flags) == 0
    whole = numbers(own_folder / "n.json")
    monkeypatch.setattr(gathering, "PIECE", 4)
    seen, cut = [], extraction._cut

    def stopped(*made):
        if len(seen) == 7:
            raise KeyboardInterrupt
        return cut(*made)

    def watched(*made):
        seen.append(made)
        return stopped(*made)

    monkeypatch.setattr(extraction, "_cut", watched)
    with pytest.raises(SystemExit) as ended:
        run(*flags)
    assert ended.value.code == 130
    monkeypatch.setattr(extraction, "_cut", lambda *made: (seen.append(made), cut(*made))[1])
    seen.clear()
    assert run(*flags) == 0
    assert len(seen) == 1 + 5  # of 9 samples of each set 8 and none were kept
    assert numbers(own_folder / "n.json") == pytest.approx(whole, rel=1e-4, abs=1e-9)


def test_without_a_place_to_keep_anything(ours, real, own_folder, monkeypatch):
    flags = ("--samples", ours, "--reference", real, "--metrics-json", "n.json")
    assert run(*flags) == 0
    wanted = numbers(own_folder / "n.json")
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    assert run(*flags) == 0
    assert numbers(own_folder / "n.json") == wanted


def test_nothing_stays_in_the_cache_but_statistics(ours, real, tmp_path):
    for _ in range(2):
        assert run("--samples", ours, "--reference", real, "--metrics", "fid") == 0
    kept = tmp_path / "cache" / "skipdit_jax" / "evaluation"
    assert [path.name for path in kept.iterdir()] == ["statistics"]
    assert len(list((kept / "statistics").iterdir())) == 1
    assert run("--samples", ours, "--reference", real, "--resize", "pytorch-fid") == 0
    assert (
        run("--samples", ours, "--reference", real, "--metrics", "fid", "--resize", "pytorch-fid")
        == 0
    )
    assert len(list((kept / "statistics").iterdir())) == 2


def test_statistics_of_another_network_are_told_first(ours, tmp_path, monkeypatch, asked, capsys):
    known = published(tmp_path / "known.npz", False)
    monkeypatch.setattr("skipdit_jax.evaluation.evaluate.WIDTHS", {("inception", "pool"): 2048})
    with pytest.raises(SystemExit) as ended:
        run("--samples", ours, "--reference", known, "--metrics", "fid")
    assert ended.value.code == 2
    assert "fid: found statistics of 4 features, wanted 2048" in capsys.readouterr().err
