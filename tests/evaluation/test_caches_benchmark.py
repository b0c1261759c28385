"""The benchmark of caches runs on models of a few hundred weights, and goes on where it stood."""

import importlib.util
import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from benchmarks import cache_figure, caches, quality
from benchmarks.cache_records import cells, rows_of
from benchmarks.cache_settings import (
    FEWER,
    METHODS,
    NEAR,
    PLAIN,
    TARGETS,
    Way,
    ceiling_of,
    choose,
)
from benchmarks.digit_models import Case, load_subject
from skipdit_jax.evaluation.judges.digits import fit_digit_classifier
from tests.evaluation.test_quality_benchmark import save

PNG = b"\x89PNG"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The command on a tiny model: a function of more flags, and the file that it keeps."""
    folder = tmp_path_factory.mktemp("caches")
    file = folder / "figures.json"
    model = save(folder / "skip.safetensors", "DiT-S/2-skip")

    def command(*more: str) -> dict:
        argv = ["--quick", "--models", "digits", "--digits", model, "--json", str(file)]
        caches.main([*argv, "--methods", "Skip-Cache", "--ceilings", "1.5", *more])
        return json.loads(file.read_text())["models"]["Skip-DiT"]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quality, "fit_digit_classifier", partial(fit_digit_classifier, epochs=1))
        yield command, file


@pytest.fixture(scope="module")
def first(run):
    return run[0]()


def test_every_row_is_measured(first):
    uncached, *others = first["rows"]
    assert (uncached["ceiling"], uncached["speedup"]) == (1.0, 1.0)
    assert "PSNR dB" not in uncached
    # 2 of 6 steps run all of 4 stages, 4 run the outer two
    assert [(r["method"], r["setting"], r["ceiling"]) for r in others] == [
        ("Skip-Cache", "N3", 6 / (2 + 4 * 2 / 4)),
        (FEWER, "4 steps", 6 / 4),
    ]
    for row in others:
        assert row["SSIM"][0] <= 1
        assert row["s"] > 0


def test_what_is_known_is_not_drawn_again(run, first, monkeypatch):
    command, file = run
    known = json.loads(file.read_text())
    gone = known["models"]["Skip-DiT"]["marks"].pop("4 steps")
    known["models"]["Skip-DiT"]["marks"]["N3"]["0"]["SSIM"] = 0.125
    file.write_text(json.dumps(known))
    again = command()
    assert again["marks"]["4 steps"] == gone
    assert again["marks"]["N3"]["0"]["SSIM"] == 0.125
    assert again["seconds"] == first["seconds"]


def test_figures_of_other_settings_are_not_mixed(run, first, capsys):
    with pytest.raises(SystemExit) as caught:
        run[0]("--per-class", "2")
    assert caught.value.code == 2
    assert "found Skip-DiT of per class 1, wanted 2: take another file" in capsys.readouterr().err


def test_marks_are_means_over_seeds_with_their_spread(first):
    cost = {"computed": 1.0, "reused": 0.0, "gflop": 1.0, "ceiling": 1.0}
    drawn = {str(seed): {**cost, "Fréchet": value} for seed, value in enumerate((1, 2, 6))}
    record = {"seconds": {"one": [3.0, 1.0, 2.0]}, "marks": {"one": drawn}}
    way = Way("method", Case("one", subject=None, changes={}))
    (row,) = rows_of([way], record, (0, 1, 2))
    assert (row["s"], row["Fréchet"]) == (2.0, (3.0, np.std([1, 2, 6], ddof=1)))
    assert cells(row, ["Fréchet", "SSIM"]) == ["3 ± 2.6", ""]


def test_settings_lie_near_their_targets_and_each_stands_once(tmp_path):
    flags = caches.read_flags(["--steps", "50"])
    subject = load_subject(Path(save(tmp_path / "plain.safetensors", "DiT-S/2")), flags)
    labels = np.arange(2, dtype=np.int32)
    ways, left_out = choose(subject, list(METHODS), labels)
    for ceiling in (ceiling_of(way.case, labels) for way in ways if way.method in METHODS):
        assert min(abs(np.log(ceiling / target)) for target in TARGETS) <= np.log(NEAR)
    names = [way.case.name for way in ways]
    assert len(set(names)) == len(names)
    assert {way.method for way in ways} >= set(PLAIN)
    assert [line.partition(":")[0] for line in left_out] == ["Skip-Cache", "DeepCache"]


@pytest.mark.skipif(not importlib.util.find_spec("matplotlib"), reason="matplotlib is missing")
def test_picture(first, tmp_path):
    path = tmp_path / "caches.png"
    cache_figure.check(path)
    cache_figure.draw({"Skip-DiT": first["rows"]}, path)
    assert path.read_bytes().startswith(PNG)
    with pytest.raises(ValueError, match=r"wanted a name that ends in .png"):
        cache_figure.check(tmp_path / "caches.gif")
