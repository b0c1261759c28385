"""sample.py --compare: the variants, what they cost, the numbers and the picture."""

import math

import numpy as np
import pytest
from PIL import Image

import skipdit_jax as sd
from skipdit_jax.cli import compare
from skipdit_jax.cli.build import prepare_sampling
from skipdit_jax.cli.options import parse
from skipdit_jax.cli.sample import main
from skipdit_jax.cli.settings import Settings
from skipdit_jax.diffusion.schedules import Diffusion
from skipdit_jax.visualise.grids import CELL, MARGIN


def variants(*flags):
    options = parse([str(flag) for flag in flags])
    return compare.make_variants(prepare_sampling(options), options.compare or ())


@pytest.fixture
def some():
    """Names of variants, where only what they drew matters."""
    return [compare.Variant(name, None, steps=8, ceiling=1.0) for name in ("full", "a", "b")]


def test_fewer_steps_cost_no_more_than_the_cached_runs(small):
    full, *rest = variants("--ckpt", small, "--num-sampling-steps", 50)
    cached, fewer = rest[:3], rest[3:]
    assert [v.name for v in cached] == [f"Skip-Cache N{n}-1000-20" for n in (2, 3, 4)]
    assert full.steps == 50
    assert full.sampler.plan is None
    assert full.ceiling == 1
    assert [v.steps for v in cached] == [50, 50, 50]
    assert 1 < cached[0].ceiling < cached[1].ceiling < cached[2].ceiling
    for cheap, few in zip(cached, fewer, strict=True):
        assert few.ceiling >= cheap.ceiling, "fewer steps cost more"
        assert full.steps / (few.steps + 1) < cheap.ceiling, "one more step would have fitted"


def test_the_flags_choose_range_and_branch(small):
    _, first, *_ = variants("--ckpt", small, "--cache", "N9-700-300", "--cache-at-branch", 1)
    assert first.name == "Skip-Cache N2-700-300"
    assert first.sampler.plan.sockets.trunk.spans[0].lo == 1


def test_the_n_of_the_flags_is_among_them(small):
    rows = variants("--ckpt", small, "--cache", "N9-700-300")
    names = [row.name for row in rows if row.name.startswith("Skip-Cache")]
    assert names == [f"Skip-Cache N{n}-700-300" for n in (2, 3, 4, 9)]
    rows = variants("--ckpt", small, "--cache-step", 5)
    assert [row.name for row in rows][1:5] == [f"Skip-Cache N{n}-1000-20" for n in (2, 3, 4, 5)]


def test_any_caches_are_compared_with_fewer_steps_of_equal_flops(small):
    asked = ("fora:3", "taylor(interval=4)", "N3", "fora")
    rows = variants("--ckpt", small, "--num-sampling-steps", 50, "--compare", *asked)
    assert [row.name for row in rows if row.steps == 50] == [
        "full",
        "FORA fora",
        "TaylorSeer taylor",
        "Skip-Cache N3-1000-20",
    ]
    cached, fewer = rows[1:4], rows[4:]
    assert cached[0].sampler.cache == sd.Fora(every=3)
    for cheap, few in zip(cached, fewer, strict=True):
        assert 50 / (few.steps + 1) < cheap.ceiling <= few.ceiling == 50 / few.steps


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--compare", "N3", "--cache", "N4"], "wanted no other flags of caches"),
        (["--compare", "N3", "none"], "the full run is always among them"),
        (["--compare", "fora:x"], "fora:x"),
        (["--compare", "delta"], "wanted a model without skips"),
    ],
)
def test_a_list_that_cannot_be_is_told(small, flags, told):
    with pytest.raises(ValueError, match=told):
        variants("--ckpt", small, *flags)


def test_what_is_faster_than_its_flops_allow_is_marked_as_noise():
    made = [
        compare.Variant(name, None, 8, c) for name, c in (("full", 1.0), ("a", 1.5), ("b", 2.0))
    ]
    drawn = [np.zeros((1, 8, 8, 1), np.float32)] * 3
    scores = compare.score(made, drawn, [3.0, 1.5, 1.6], pixels=True)
    assert [score.noisy for score in scores] == [False, True, False]
    settings = Settings("8", "ddim", 1.0, None, Diffusion(), 0.0, True, "scan")
    full, first, second, note = compare.table(scores, settings).splitlines()[1:]
    assert "2.00x~" in first
    assert "~" not in full + second
    assert "noise of the measurement" in note
    quiet = compare.score(made, drawn, [3.0, 2.0, 1.6], pixels=True)
    assert "noise" not in compare.table(quiet, settings)


def test_runs_of_equal_steps_are_run_once(small):
    names = [(v.name, v.steps) for v in variants("--ckpt", small, "--num-sampling-steps", 3)]
    assert len(set(names)) == len(names)


def test_scores_are_those_of_known_pictures(some):
    reference = np.linspace(-1, 1, 2 * 8 * 8, dtype=np.float32).reshape(2, 8, 8, 1)
    drawn = [reference, reference + np.float32(0.2), reference]
    scores = compare.score(some, drawn, [3.0, 1.5, 2.0], pixels=True)
    assert [score.speedup for score in scores] == [1.0, 2.0, 1.5]
    assert scores[1].psnr == pytest.approx(20.0, abs=1e-3)  # 20 log10(2 / 0.2)
    assert math.isinf(scores[2].psnr)
    assert scores[2].ssim == pytest.approx(1.0)
    assert scores[1].ssim < 1


def test_latents_are_compared_whatever_their_scale(some):
    reference = np.random.default_rng(0).standard_normal((1, 8, 8, 4)).astype(np.float32)
    pairs = [[s * reference, s * 1.01 * reference] for s in map(np.float32, (1, 50))]
    small_, large = (
        compare.score(some[:2], [a.astype(np.float32) for a in pair], [1.0, 1.0], pixels=False)
        for pair in pairs
    )
    assert small_[1].psnr == pytest.approx(large[1].psnr, abs=1e-3)
    picture = compare.picture(large, ["5"], pixels=False)
    assert picture.shape[2] == 3


def test_one_picture_a_table_and_all_samples(small, own_folder, capsys):
    flags = [
        "--num-sampling-steps",
        "2",
        "--class-labels",
        "3",
        "7",
        "--out",
        "c.png",
        "--npz",
        "c.npz",
        "--progress",
    ]
    assert main(["--ckpt", str(small), "--compare", *flags]) == 0
    assert sorted(p.name for p in own_folder.iterdir()) == ["c.npz", "c.png"]
    told = capsys.readouterr()
    rows = [line for line in told.out.splitlines() if line.startswith(("full", "Skip", "fewer"))]
    with np.load("c.npz") as file:
        found = dict(file)
    assert found["arr_0"].shape == (2 * len(rows), 4, 4, 1)
    assert found["labels"].tolist() == [3, 7] * len(rows)
    names = found["variant"].reshape(len(rows), 2)
    assert names[0].tolist() == ["full, 2 steps"] * 2
    assert names[1].tolist() == ["Skip-Cache N2-1000-20, 2 steps"] * 2
    assert (names[:, 0] == names[:, 1]).all()
    assert (found["arr_0"][:2] != found["arr_0"][2:4]).any(), "the cache changed nothing"
    assert "inf" in rows[0]
    assert "--sampler ddim" in told.out, "ddpm compares pictures of other noise"
    assert f"{4 * len(rows)}/{4 * len(rows)}" in told.err
    with Image.open("c.png") as image:
        assert image.size[1] > len(rows) * (CELL + MARGIN)
        shown = np.asarray(image)
    cell = shown[-CELL - MARGIN : -MARGIN, -CELL - MARGIN : -MARGIN]  # last variant, last label
    small_cell = cell[CELL // 8 :: CELL // 4, CELL // 8 :: CELL // 4]
    np.testing.assert_array_equal(small_cell, found["arr_0"][-1, :, :, 0])
