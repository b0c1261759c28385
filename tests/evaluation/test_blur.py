"""Every metric prefers clean photographs to blurred ones, and a little blur to much."""

import numpy as np
import pytest
from PIL import Image, ImageFilter
from sklearn.datasets import load_sample_images

from skipdit_jax.checkpoints.released_metrics import METRIC_WEIGHTS
from skipdit_jax.evaluation.evaluate import Reference, evaluate
from skipdit_jax.evaluation.sets import HeldSet
from skipdit_jax.weights.metrics import NetworkChoice, load_extractor
from tests.evaluation.edges import Counting

SIDE, FRAMES = 64, 9
RADII = (0, 1, 3)  # of the blur, in pixels


def crops():
    """Shuffled squares of two photographs, uint8 [n,64,64,3]."""
    found = [
        photo[top : top + SIDE, left : left + SIDE]
        for photo in load_sample_images().images
        for top in range(0, photo.shape[0] - SIDE, SIDE)
        for left in range(0, photo.shape[1] - SIDE, SIDE)
    ]
    return np.random.default_rng(0).permutation(np.stack(found))


def blurred(levels, radius):
    soft = ImageFilter.GaussianBlur(radius)
    flat = levels.reshape(-1, *levels.shape[-3:])
    rows = [np.asarray(Image.fromarray(one).filter(soft)) for one in flat]
    return np.stack(rows).reshape(levels.shape)


@pytest.fixture(scope="module")
def photos():
    """(48 clean, as many of other places)."""
    found = crops()
    return found[:48], found[48:96]


def values(ours, real, names, extractors, radii=RADII, keep=None):
    """{metric: (which way is better, its values at every radius)}."""
    found = {}
    for radius in radii:
        samples = HeldSet(f"blurred by {radius}", blurred(ours, radius) if radius else ours)
        reference = Reference(HeldSet("real", real))
        for score in evaluate(samples, reference, names, extractors, keep=keep):
            found.setdefault(score.metric, (score.better, []))[1].append(score.value)
    return found


def check(found):
    for metric, (better, numbers) in found.items():
        assert numbers == sorted(numbers, reverse=better == "higher"), (metric, numbers)
        assert len(set(numbers)) == len(numbers), (metric, numbers)


def test_sets_of_pictures(photos):
    """By strengths of edges: what an untrained InceptionV3 makes of a blur means nothing."""
    names = ("fid", "sfid", "is", "pr", "kid")
    found = values(*photos, names, {"inception": Counting(batch=16)})
    for name in ("precision", "recall"):
        clean, *_, much = found.pop(name)[1]
        assert clean > 0.5 > much
    assert len(found) == 4
    check(found)


def test_pairs_of_pictures(photos):
    check(values(photos[0], photos[0], ("psnr", "ssim"), {}, RADII[1:]))


def packaged(name):
    """The published network, where its package is installed."""
    if METRIC_WEIGHTS[name].place is None:
        pytest.skip(f"{METRIC_WEIGHTS[name].distribution} is not installed")
    rule = {"i3d": "stylegan-v"}.get(name, "")
    return load_extractor(NetworkChoice(name, None, rule, batch=2)).extractor


def test_lpips_of_published_weights(photos):
    few = photos[0][:4]
    check(values(few, few, ("lpips",), {"lpips": packaged("lpips-alex")}))


def test_fvd_of_published_weights(photos, tmp_path):
    """A window moves over two photographs; of so few clips it is told against themselves alone."""
    clips = np.stack([photos[0][:2, :, at : at + 32] for at in range(FRAMES)], axis=1)
    assert clips.shape == (2, FRAMES, SIDE, 32, 3)
    check(values(clips, clips, ("fvd",), {"i3d": packaged("i3d")}, (0, 3), tmp_path))
