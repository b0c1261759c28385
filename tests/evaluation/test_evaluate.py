"""From sets to numbers: each metric against its function, computed apart, and what is refused."""

import numpy as np
import pytest

from skipdit_jax.evaluation import evaluate as whole
from skipdit_jax.evaluation.distances import frechet_between
from skipdit_jax.evaluation.evaluate import Reference, check_possible, evaluate
from skipdit_jax.evaluation.extraction import Extractor
from skipdit_jax.evaluation.fidelity import psnr, ssim
from skipdit_jax.evaluation.inception_score import inception_score
from skipdit_jax.evaluation.intervals import resampled
from skipdit_jax.evaluation.kernel_distance import kernel_distance
from skipdit_jax.evaluation.manifolds import precision_recall
from skipdit_jax.evaluation.moments import fit_gaussian
from skipdit_jax.evaluation.references import ReferenceStatistics
from skipdit_jax.evaluation.scores import METRICS, Choices, check_names, networks_of
from skipdit_jax.evaluation.sets import HeldSet, SetToCome
from tests.evaluation import edges
from tests.evaluation.edges import Counting, pictures

ALL = ("fid", "sfid", "is", "pr", "kid")
OURS, REAL = pictures(14), pictures(12, seed=1)
FAR = 1e-12


@pytest.fixture(scope="module")
def extractors():
    def apart(params, levels):
        pair = levels.astype("float32")
        return {"value": (pair[:, 0] - pair[:, 1]).mean(axis=(1, 2, 3))}

    return {
        "inception": Counting(),
        "i3d": Counting(edges.clips_call, batch=2),
        "lpips": Extractor(apart, {}, 4, "apart"),
    }


def features(rows, function=edges.call):
    return {k: np.asarray(v) for k, v in function({"filters": edges.FILTERS}, rows).items()}


def frechet(first, second):
    return frechet_between(fit_gaussian(first), fit_gaussian(second))


def scores(extractors, names, ours=OURS, real=REAL, statistics=None, choices=None):
    held = None if real is None else HeldSet("real", real)
    reference = Reference(held, statistics)
    found = evaluate(HeldSet("ours", ours), reference, names, extractors, choices)
    return {score.metric: score for score in found}


def test_each_number_is_that_of_its_function(extractors):
    found = scores(extractors, ALL)
    (a, b), close = (features(OURS), features(REAL)), {"rel": 1e-4}
    assert found["fid"].value == pytest.approx(frechet(a["pool"], b["pool"]), **close)
    assert found["sfid"].value == pytest.approx(frechet(a["spatial"], b["spatial"]), **close)
    score = inception_score(a["logits"])
    assert found["is"].value == pytest.approx(score.mean, **close)
    assert found["is"].spread == pytest.approx(score.std, **close)
    inside = precision_recall(a["pool"], b["pool"], 3)
    assert found["precision"].value == inside.samples_inside.mean()
    assert found["recall"].value == inside.reference_inside.mean()
    kid = kernel_distance(a["pool"], b["pool"], 100, 12, 0)
    assert found["kid"].value == pytest.approx(kid.mean, rel=1e-3, abs=1e-6)
    better = {name: score.better for name, score in found.items()}
    assert [name for name in better if better[name] == "higher"] == ["is", "precision", "recall"]


def test_numbers_come_in_the_order_that_was_asked_for(extractors):
    assert list(scores(extractors, ("kid", "pr", "is"))) == ["kid", "precision", "recall", "is"]


def test_a_network_looks_once_at_each_set_for_all_metrics(extractors):
    before = extractors["inception"].rows
    scores(extractors, ALL)
    assert extractors["inception"].rows - before == len(OURS) + len(REAL)


def test_choices_reach_the_functions(extractors):
    choices = Choices(seed=3, subsets=5, subset_size=4, neighbours=2, parts=7, resamples=4)
    found = scores(extractors, ALL, choices=choices)
    a, b = features(OURS), features(REAL)
    kid = kernel_distance(a["pool"], b["pool"], 5, 4, 3)
    assert found["kid"].value == pytest.approx(kid.mean, rel=1e-3, abs=1e-6)
    assert found["is"].value == pytest.approx(inception_score(a["logits"], parts=7).mean, rel=1e-4)
    inside = precision_recall(a["pool"], b["pool"], 2)
    assert found["recall"].value == inside.reference_inside.mean()
    real = fit_gaussian(b["pool"])
    wanted = resampled(lambda x: frechet_between(fit_gaussian(x), real), a["pool"], 4, seed=3)
    assert found["fid"].high == pytest.approx(wanted.high, rel=1e-3)
    assert found["fid"].low >= 0
    assert scores(extractors, ("fid",))["fid"].low is None


def test_the_same_seed_gives_the_same_numbers(extractors):
    names, choices = (*ALL, "psnr"), Choices(resamples=3, seed=5, subset_size=6)
    first, again = (
        scores(extractors, names, real=REAL, ours=OURS[:12], choices=choices) for _ in "ab"
    )
    assert first == again
    other = Choices(resamples=3, seed=6, subset_size=6)
    changed = scores(extractors, names, ours=OURS[:12], choices=other)
    assert changed["kid"].value != first["kid"].value
    assert changed["fid"].value == first["fid"].value
    assert changed["fid"].spread != first["fid"].spread


def test_pairs_are_held_against_each_other_one_by_one(extractors):
    ours, real = OURS[:12], REAL
    found = scores(extractors, ("psnr", "ssim", "lpips"), ours, real)
    a, b = (x / 127.5 - 1 for x in (ours, real))
    assert found["psnr"].value == pytest.approx(psnr(a, b).mean(), rel=FAR)
    assert found["ssim"].value == pytest.approx(ssim(a, b).mean(), rel=FAR)
    apart = (ours.astype(float) - real).mean(axis=(1, 2, 3))
    assert found["lpips"].value == pytest.approx(apart.mean(), rel=1e-4)
    assert found["psnr"].spread == pytest.approx(psnr(a, b).std(), rel=FAR)
    assert found["psnr"].low < found["psnr"].value < found["psnr"].high


def test_of_a_clip_a_pair_is_the_mean_over_frames(extractors, monkeypatch):
    clips = pictures(5, shape=(3, 12, 12, 1)), pictures(5, seed=1, shape=(3, 12, 12, 1))
    a, b = (x.reshape(-1, 12, 12, 1) / 127.5 - 1 for x in clips)
    wanted = psnr(a, b).reshape(5, 3).mean(axis=1)
    for pairs in (64, 2):
        monkeypatch.setattr(whole, "PAIRS", pairs)
        found = scores(extractors, ("psnr", "lpips"), *clips)
        assert found["psnr"].value == pytest.approx(wanted.mean(), rel=FAR)
        assert found["psnr"].spread == pytest.approx(wanted.std(), rel=1e-9)
        apart = (clips[0].astype(float) - clips[1]).mean()
        assert found["lpips"].value == pytest.approx(apart, rel=1e-3, abs=1e-3)


def test_equal_pairs(extractors):
    found = scores(extractors, ("psnr", "ssim"), REAL, REAL)
    assert found["psnr"].value == np.inf
    assert found["psnr"].low is found["psnr"].high is found["psnr"].spread is None
    assert found["ssim"].value == 1


def test_clips_have_the_distance_of_their_logits(extractors):
    ours, real = pictures(5, shape=(10, 12, 12, 3)), pictures(4, seed=1, shape=(12, 12, 12, 3))
    found = scores(extractors, ("fvd",), ours, real)
    a, b = (features(x, edges.clips_call)["logits"] for x in (ours, real))
    assert found["fvd"].value == pytest.approx(frechet(a, b), rel=1e-4)


def known(spatial=True):
    real = features(REAL)
    space = fit_gaussian(real["spatial"]) if spatial else None
    return ReferenceStatistics(fit_gaussian(real["pool"]), space, {})


def test_published_statistics_are_enough_for_distances(extractors):
    wanted = scores(extractors, ("fid", "sfid", "is"))
    before = extractors["inception"].rows
    found = scores(extractors, ("fid", "sfid", "is"), real=None, statistics=known())
    assert extractors["inception"].rows - before == len(OURS)
    for name, score in wanted.items():
        assert found[name].value == pytest.approx(score.value, rel=1e-4)
    assert scores(extractors, ("fid",), real=None, statistics=known(False))["fid"].value > 0


def test_statistics_are_taken_in_place_of_the_samples_beside_them(extractors):
    other = fit_gaussian(features(pictures(9, seed=7))["pool"])
    statistics = known()._replace(pooled=other)
    found = scores(extractors, ("fid", "kid"), statistics=statistics)
    ours = fit_gaussian(features(OURS)["pool"])
    assert found["fid"].value == pytest.approx(frechet_between(ours, other), rel=1e-4)
    assert found["kid"].value == pytest.approx(scores(extractors, ("kid",))["kid"].value, rel=1e-4)


def test_what_statistics_lack_is_taken_from_the_samples_beside_them(extractors):
    found = scores(extractors, ("fid", "sfid"), statistics=known(False))
    for name, score in scores(extractors, ("fid", "sfid")).items():
        assert found[name].value == pytest.approx(score.value, rel=1e-4)


def a_set(count, *shape):
    return SetToCome("some", count, shape)


SMALL, CLIPS = a_set(9, 8, 8, 3), a_set(9, 16, 8, 8, 3)
NOTHING, PUBLISHED = Reference(), Reference(None, known())
REFUSED = {
    "no metrics": ((), SMALL, NOTHING, "metrics: found none"),
    "unknown": (("fid", "is2"), SMALL, NOTHING, "found is2, wanted some of fid, sfid"),
    "no reference": (("fid",), SMALL, NOTHING, "fid: found no reference"),
    "no pairs": (("psnr",), SMALL, NOTHING, "psnr: found no reference"),
    "pr of statistics": (("pr",), SMALL, PUBLISHED, "pr: found statistics of a reference"),
    "kid of statistics": (("kid",), SMALL, PUBLISHED, "kid: found statistics of a reference"),
    "psnr of statistics": (("psnr",), SMALL, PUBLISHED, "psnr: found statistics"),
    "no spatial": (("sfid",), SMALL, Reference(None, known(False)), "without mu_s and sigma_s"),
    "pairs of two numbers": (
        ("ssim",),
        SMALL,
        Reference(a_set(8, 8, 8, 3)),
        "ssim: found 9 samples of 8x8x3 and 8 of 8x8x3, wanted as many of one size",
    ),
    "pairs of two sizes": (
        ("lpips",),
        SMALL,
        Reference(a_set(9, 8, 9, 3)),
        "9 samples of 8x8x3 and 9 of 8x9x3",
    ),
    "clips for fid": (("is",), CLIPS, NOTHING, "found samples of 16x8x8x3, wanted pictures"),
    "a reference of clips": (("fid",), SMALL, Reference(CLIPS), "16x8x8x3, wanted pictures"),
    "pictures for fvd": (("fvd",), SMALL, Reference(CLIPS), "found samples of 8x8x3, wanted clips"),
    "short clips": (
        ("fvd",),
        CLIPS,
        Reference(a_set(9, 8, 8, 8, 3)),
        "clips of 8 frames, wanted 9 or more for FVD",
    ),
    "one sample": (
        ("fid",),
        a_set(1, 8, 8, 3),
        PUBLISHED,
        "fid: found 1 samples in some, wanted 2",
    ),
    "one real sample": (("fid",), SMALL, Reference(a_set(1, 8, 8, 3)), "fid: found 1 samples"),
    "fewer than neighbours": (("pr",), a_set(3, 8, 8, 3), Reference(SMALL), "wanted 4 or more"),
    "no subset": (("kid",), SMALL, Reference(a_set(1, 8, 8, 3)), "kid: found 1 samples"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_had_is_told_before_anything_is_read(case):
    names, samples, reference, reason = REFUSED[case]
    with pytest.raises(ValueError, match=reason) as caught:
        check_possible(names, samples, reference)
    assert "\n" not in str(caught.value)


def test_more_parts_than_samples_are_told():
    with pytest.raises(ValueError, match="is: found 9 samples in some, wanted 10 or more"):
        check_possible(("is",), SMALL, NOTHING, Choices(parts=10))
    check_possible(("is",), SMALL, NOTHING, Choices(parts=9))


@pytest.mark.parametrize(
    "name", [name for name, metric in METRICS.items() if metric.network != "i3d"]
)
def test_the_fewest_samples_that_are_let_pass_are_enough(extractors, name):
    fewest = {"pr": 4, "kid": 2, "fid": 2, "sfid": 2}.get(name, 1)
    found = scores(extractors, (name,), OURS[:fewest], REAL[:fewest])
    assert all(np.isfinite(score.value) for score in found.values())


@pytest.mark.parametrize("field", ["resamples", "subsets", "subset_size", "neighbours"])
def test_impossible_choices_are_told(field):
    with pytest.raises(ValueError, match=f"found {field} -1, wanted"):
        Choices(**{field: -1})


def test_one_resample_has_no_deviation():
    with pytest.raises(ValueError, match="found 1 resample, wanted 0, or 2 or more"):
        Choices(resamples=1)


def test_each_network_is_wanted_once():
    assert networks_of(("psnr", "fid", "kid", "lpips", "sfid")) == ("inception", "lpips")
    assert networks_of(("psnr",)) == ()
    check_names(tuple(METRICS))
