"""Reports of comparisons: the numbers are those of samples and plans, and the pages work."""

import json

import numpy as np
import pytest

from skipdit_jax.cli import compare, report, sample
from skipdit_jax.cli.build import prepare_sampling
from skipdit_jax.cli.options import parse
from skipdit_jax.evaluation.fidelity import psnr, ssim
from tests.cli import makers
from tests.visualise.pages import visited

CACHES = ("N2", "teacache:0.3", "fora:2")
LABELS = ("--class-labels", "1", "2")


@pytest.fixture(scope="module")
def told(small, tmp_path_factory):
    """A report with the samples of all variants beside it."""
    folder = tmp_path_factory.mktemp("report")
    files = ["--out", folder / "a.png", "--npz", folder / "a.npz", "--report", folder / "r.html"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sample, "use_compilation_cache", lambda: None)
        flags = ["--ckpt", small, *LABELS, "--sampler", "ddim", "--compare", *CACHES, *files]
        assert sample.main([str(flag) for flag in flags]) == 0
    return folder


def numbers(folder):
    return json.loads((folder / "r.json").read_text())


def test_marks_are_those_of_the_samples(told):
    """Samples of the .npz are bytes: half a level of 255 away from what was marked, at most."""
    with np.load(told / "a.npz") as file:
        samples, names = file["arr_0"] / 127.5 - 1, file["variant"]
    rows = {row["name"]: row for row in numbers(told)["variants"]}
    assert set(rows) == set(names.tolist())
    (full,) = [name for name in rows if name.startswith("full")]
    assert rows[full]["psnr"] is None, "infinite"
    for name in set(rows) - {full}:
        pair = samples[names == name][-2:], samples[names == full]
        assert rows[name]["ssim"] == pytest.approx(ssim(*pair, 2.0).mean(), abs=0.01), name
        if rows[name]["psnr"] < 40:
            assert rows[name]["psnr"] == pytest.approx(psnr(*pair, 2.0).mean(), abs=0.3), name


def test_costs_and_steps_are_those_of_the_plans(told, small):
    job = prepare_sampling(parse(["--ckpt", str(small), *LABELS, "--sampler", "ddim"]))
    flops = job.settings._replace(cache=None).sampler(job.model).summary(2).flops / 1e12
    rows = {row["name"].partition(",")[0]: row for row in numbers(told)["variants"]}
    for name, text in (("Skip-Cache N2-1000-20", "N2"), ("FORA fora(every=2)", "fora:2")):
        (policy,) = compare._named(job, [text])
        sampler = job.settings._replace(cache=policy).sampler(job.model)
        row = rows[next(known for known in rows if known.startswith(name.split(" ")[0]))]
        assert row["computed"] == (~sampler.plan.reuse).tolist()
        assert row["tflop"] == pytest.approx(flops / sampler.ceiling)
        assert row["compared"] is None
    (deciding,) = [row for name, row in rows.items() if name.startswith("TeaCache")]
    reused = np.array(deciding["compared"])[1:-1] < 0.3
    assert np.array_equal(~reused, deciding["computed"][1:-1])
    # All stages are reused: a reused step has no FLOPs that count.
    assert deciding["ceiling"] == pytest.approx(makers.STEPS / sum(deciding["computed"]))


def test_curves_have_fewer_steps_of_both_solvers(told):
    rows = numbers(told)["variants"]
    assert {row["steps"] for row in rows if row["curve"] == "fewer steps"} >= {6, 4, 3, 2}
    better = {row["steps"] for row in rows if row["curve"] == "fewer steps of dpm++"}
    assert better == {6, 4, 3, 2}
    moved = numbers(told)["drift"]
    assert [len(one) for one in moved.values()] == [makers.STEPS, makers.STEPS]
    assert min(min(one[1:]) for one in moved.values()) > 0


def test_the_page_works_in_a_browser(told, tmp_path):
    seen, console = visited(told / "r.html", tmp_path)
    assert console == []
    pictures = str(2 * len(numbers(told)["variants"]))
    assert (seen["pictures"], seen["shown"], seen["opened"]) == (pictures, pictures, "true")


def test_several_models_stand_on_one_page(small, tmp_path):
    """Pictures and clips; what was calibrated stands beside what was measured."""
    clips = makers.save_small(tmp_path / "c.safetensors", None, "latte", num_frames=3, depth=8)
    out = tmp_path / "r.html"
    flags = ["--num-sampling-steps", "4", "--sampler", "ddim", "--class-labels", "1"]
    models = ["--models", str(small), str(clips), "--caches", "block-cache(every=2, front=2)"]
    assert report.main([*models, *flags, "--out", str(out)]) == 0
    found = numbers(tmp_path)["models"]
    assert [*found] == ["small.safetensors", "c.safetensors"]
    seen, console = visited(out, tmp_path)
    assert console == []
    assert seen["shown"] == seen["pictures"]
    assert seen["stills"] == str(len(found["c.safetensors"]["variants"])), "clips paused"
    assert sorted(p.name for p in tmp_path.glob("r.*")) == ["r.html", "r.json"]


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--report", "r.html"], "--report: tells of a comparison, wanted --compare"),
        (["--compare", "--report", "r.txt"], "wanted a name that ends in .html"),
        (["--compare", "--report", "no/such\0"], "--report"),
        (["--compare", "--report", "a.html", "--npz", "a.json"], "is written by this run"),
    ],
)
def test_reports_that_cannot_be_are_told_first(small, own_folder, capsys, flags, told):
    with pytest.raises(SystemExit) as caught:
        sample.main(["--ckpt", str(small), *flags])
    assert caught.value.code == 2
    assert told in capsys.readouterr().err
    assert not [*own_folder.iterdir()]
