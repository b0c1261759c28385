"""Statistics of features against four published evaluators, PSNR and SSIM against two libraries.

The evaluators are those of ADM (guided-diffusion), pytorch-fid, torch-fidelity and two codes of
FVD. Recorded are the features and the numbers that each made of them.
"""

import dataclasses

import numpy as np
import pytest

from skipdit_jax.evaluation import distances, fidelity
from skipdit_jax.evaluation.inception_score import inception_score
from skipdit_jax.evaluation.manifolds import precision_recall, squared_radii
from skipdit_jax.evaluation.moments import fit_gaussian

FRECHET, SCORE, DECIBEL, SIMILARITY = 1e-5, 1e-6, 1e-5, 1e-6  # absolute
SHARE = 1e-7  # some are recorded as float32
MOMENTS, RADII, HALF_RADII = 1e-6, 1e-5, 1e-2  # relative
PARTS = ("adm/", "pytorch_fid/", "torch_fidelity/", "fvd/")
FEW = (8, 9)  # videos of the recorded distances of low rank
CAP = 100.0  # dB of equal frames in common evaluators; ours says infinite

golden_file = pytest.mark.golden("metrics")


def frechet(first, second):
    def of(golden):
        a, b = golden[f"feat/{first}"], golden[f"feat/{second}"]
        return distances.frechet_of_features(a, b)

    return of


def videos(real=None, fake=None):
    return lambda golden: distances.frechet_of_videos(
        golden["fvd/real"][:real], golden["fvd/fake"][:fake]
    )


def adm_score(which, **parts):
    """As ADM: of logits without bias."""
    return lambda golden: (
        inception_score(golden[f"feat/{which}"] @ golden["softmax_W"], **parts).mean
    )


def score(golden):
    found = inception_score(golden["feat/logits"], parts=5)
    return {"inception_score_mean": found.mean, "inception_score_std": found.std}


def shares(golden, swapped=False, **options):
    sets = [golden["feat/sample"], golden["feat/ref"]]
    return precision_recall(*reversed(sets) if swapped else sets, **options)


def summary(golden):
    found = shares(golden)
    mean = 2 / (1 / found.precision + 1 / found.recall)
    return {"precision": found.precision, "recall": found.recall, "f_score": mean}


NUMBERS = {
    "adm/fid": (frechet("ref", "sample"), FRECHET),
    "adm/fid_constant": (frechet("ref", "constant"), FRECHET),
    "adm/fid_low_rank": (frechet("low_ref", "low_sample"), FRECHET),
    "adm/fid_low_vs_full": (frechet("low_ref", "sample"), FRECHET),
    "adm/fid_same": (frechet("ref", "ref"), FRECHET),
    "adm/sfid": (frechet("ref_spatial", "sample_spatial"), FRECHET),
    "adm/inception_score": (adm_score("sample"), SCORE),
    "adm/inception_score_ref_split32": (adm_score("ref", every=32), SCORE),
    "adm/inception_score_split7": (adm_score("sample", every=7), SCORE),
    "adm/precision": (lambda g: shares(g).precision, SHARE),
    "adm/precision_fp16": (lambda g: shares(g, half=True).precision, SHARE),
    "adm/precision_k5": (lambda g: shares(g, neighbours=5).precision, SHARE),
    "adm/precision_swapped": (lambda g: shares(g, swapped=True).precision, SHARE),
    "adm/recall": (lambda g: shares(g).recall, SHARE),
    "adm/recall_fp16": (lambda g: shares(g, half=True).recall, SHARE),
    "adm/recall_swapped": (lambda g: shares(g, swapped=True).recall, SHARE),
    "fvd/styleganv": (videos(), FRECHET),
    "fvd/styleganv_low_rank": (videos(*FEW), FRECHET),
    "fvd/styleganv_single": (videos(1, 1), FRECHET),
    "fvd/videogpt": (videos(), FRECHET),
    "fvd/videogpt_low_rank": (videos(*FEW), FRECHET),
    "pytorch_fid/fid": (frechet("ref", "sample"), FRECHET),
    "pytorch_fid/fid_low_rank": (frechet("low_ref", "low_sample"), FRECHET),
    "torch_fidelity/fid": (frechet("ref", "sample"), FRECHET),
    "torch_fidelity/isc_5_splits_noshuffle": (score, SCORE),
    "torch_fidelity/prc": (summary, SHARE),
}
"""Recorded number -> (what ours is, how far it may be away)."""


def check_number(golden, name):
    compute, limit = NUMBERS[name]
    assert compute(golden) == pytest.approx(golden.facts["expected"][name], rel=0, abs=limit), name


def check_moments(golden, which):
    mean, covariance = fit_gaussian(golden[f"feat/{which}"])
    np.testing.assert_allclose(mean, golden[f"stat/mu_{which}"], atol=MOMENTS)
    np.testing.assert_allclose(covariance, golden[f"stat/sigma_{which}"], atol=MOMENTS)


def check_radii(golden, which):
    want = golden[f"prec/radii_{which}"][:, 0]
    found = squared_radii(golden[f"feat/{which}"])
    np.testing.assert_allclose(found, want, rtol=RADII)
    half = squared_radii(golden[f"feat/{which}"], half=True)
    np.testing.assert_allclose(half, want, rtol=HALF_RADII)


def check_insides(golden, half):
    found = shares(golden, half=half)
    np.testing.assert_array_equal(found.samples_inside, golden["prec/sample_inside"][:, 0])
    np.testing.assert_array_equal(found.reference_inside, golden["prec/ref_inside"][:, 0])


def frames(golden, peak):
    """All frames of the two sets of videos, [B*T,H,W,3] from 0 to this peak."""
    for name in ("img/video1", "img/video2"):
        video = golden[name]
        pictures = np.moveaxis(video.reshape(-1, *video.shape[2:]), 1, -1)
        yield pictures.astype(np.float64) / (255 / peak)


def check_psnr(golden):
    want = golden["psnr/common_01"]
    found = fidelity.psnr(*frames(golden, 1.0), peak=1.0).reshape(want.shape)
    capped = np.where(np.isinf(found), CAP, found)
    np.testing.assert_allclose(capped, want, rtol=0, atol=DECIBEL)
    expected = golden.facts["expected"]
    assert capped.mean() == pytest.approx(expected["psnr/common_video_mean"], abs=DECIBEL)
    found = fidelity.psnr(*frames(golden, 255.0), peak=255.0).reshape(want.shape)
    np.testing.assert_allclose(found, golden["psnr/skimage_uint8"], rtol=0, atol=DECIBEL)


def check_ssim(golden):
    for name, peak in (("common_01", 1.0), ("skimage_gaussian_01", 1.0), GAUSSIAN):
        want = golden[f"ssim/{name}"]
        found = fidelity.ssim(*frames(golden, peak), peak=peak).reshape(want.shape)
        np.testing.assert_allclose(found, want, rtol=0, atol=SIMILARITY, err_msg=name)
    expected = golden.facts["expected"]["ssim/common_video_mean"]
    assert golden["ssim/common_01"].mean() == pytest.approx(expected, abs=SIMILARITY)


GAUSSIAN = ("skimage_gaussian_uint8", 255.0)


@golden_file
def test_every_number_is_compared(golden):
    recorded = {name for name in golden.facts["expected"] if name.startswith(PARTS)}
    assert recorded == {*NUMBERS}


@golden_file
@pytest.mark.parametrize("name", NUMBERS)
def test_numbers(golden, name):
    check_number(golden, name)


@golden_file
@pytest.mark.parametrize("which", ["ref", "sample"])
@pytest.mark.parametrize("check", [check_moments, check_radii])
def test_parts_of_them(golden, check, which):
    check(golden, which)


@golden_file
@pytest.mark.parametrize("half", [False, True])
def test_who_lies_inside(golden, half):
    check_insides(golden, half)


@golden_file
@pytest.mark.parametrize("check", [check_psnr, check_ssim])
def test_pictures(golden, check):
    check(golden)


@golden_file
@pytest.mark.parametrize("name", NUMBERS)
def test_another_number_is_seen(golden, name):
    expected, limit = dict(golden.facts["expected"]), NUMBERS[name][1]
    if isinstance(expected[name], dict):
        wrong = {key: value + 3 * limit for key, value in expected[name].items()}
    else:
        wrong = expected[name] + 3 * limit
    other = dataclasses.replace(golden, facts={"expected": {**expected, name: wrong}})
    with pytest.raises(AssertionError):
        check_number(other, name)


DAMAGES = {
    "feat/ref": lambda g: check_number(g, "adm/fid"),
    "feat/sample": lambda g: check_number(g, "adm/fid"),
    "feat/ref_spatial": lambda g: check_number(g, "adm/sfid"),
    "feat/sample_spatial": lambda g: check_number(g, "adm/sfid"),
    "feat/low_ref": lambda g: check_number(g, "adm/fid_low_rank"),
    "feat/low_sample": lambda g: check_number(g, "adm/fid_low_rank"),
    "feat/constant": lambda g: check_number(g, "adm/fid_constant"),
    "feat/logits": lambda g: check_number(g, "torch_fidelity/isc_5_splits_noshuffle"),
    "softmax_W": lambda g: check_number(g, "adm/inception_score"),
    "fvd/real": lambda g: check_number(g, "fvd/styleganv"),
    "fvd/fake": lambda g: check_number(g, "fvd/videogpt"),
    "stat/mu_ref": lambda g: check_moments(g, "ref"),
    "stat/mu_sample": lambda g: check_moments(g, "sample"),
    "stat/sigma_ref": lambda g: check_moments(g, "ref"),
    "stat/sigma_sample": lambda g: check_moments(g, "sample"),
    "prec/radii_ref": lambda g: check_radii(g, "ref"),
    "prec/radii_sample": lambda g: check_radii(g, "sample"),
    "prec/ref_inside": lambda g: check_insides(g, False),
    "prec/sample_inside": lambda g: check_insides(g, False),
    "img/video1": check_psnr,
    "img/video2": check_ssim,
    "psnr/common_01": check_psnr,
    "ssim/common_01": check_ssim,
    "ssim/skimage_gaussian_01": check_ssim,
    "ssim/skimage_gaussian_uint8": check_ssim,
}


@golden_file
@pytest.mark.parametrize("key", DAMAGES)
def test_damage_is_seen(golden, key):
    """One number is off; all logits and pixels: softmax hardly sees the largest."""
    if key == "feat/logits":
        worse = dataclasses.replace(golden, arrays=golden.arrays | {key: golden[key] * 1.001})
    elif golden[key].dtype == np.uint8:
        worse = dataclasses.replace(golden, arrays=golden.arrays | {key: golden[key] // 2})
    else:
        worse = golden.damaged(key, by=1e-2)
    with pytest.raises(AssertionError):
        DAMAGES[key](worse)


def covariance_of_n(golden):
    """FID with covariances divided by N."""
    fits = [fit_gaussian(golden[f"feat/{which}"]) for which in ("ref", "sample")]
    counts = [len(golden[f"feat/{which}"]) for which in ("ref", "sample")]
    (m1, c1), (m2, c2) = fits
    scaled = [c * (n - 1) / n for c, n in zip((c1, c2), counts, strict=True)]
    return distances.frechet_distance(m1, scaled[0], m2, scaled[1])


@golden_file
@pytest.mark.parametrize(
    ("name", "mistaken"),
    [
        ("adm/fid", covariance_of_n),
        ("adm/precision", lambda g: shares(g, neighbours=2).precision),
        ("adm/recall", lambda g: shares(g, swapped=True).recall),
        ("adm/inception_score", adm_score("sample", parts=10)),
    ],
)
def test_known_mistakes_are_seen(golden, name, mistaken):
    assert abs(mistaken(golden) - golden.facts["expected"][name]) > 1e-3
