"""Networks of metrics against the evaluators that people cite: every stage, every preprocessing.

The recordings hold no weights: these are made from a seed by the recipe that stands in them.
"""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from skipdit_jax import registry
from skipdit_jax.checkpoints.released_metrics import METRIC_WEIGHTS
from skipdit_jax.checkpoints.rules import tensor_entries
from skipdit_jax.evaluation.networks import pixels
from skipdit_jax.evaluation.networks.i3d import I3D, I3DConfig
from skipdit_jax.evaluation.networks.inception import InceptionV3
from skipdit_jax.evaluation.networks.lpips import Lpips, LpipsConfig
from skipdit_jax.trees import flatten, unflatten
from skipdit_jax.weights.metrics import load_metric_network
from tests.parity import recipe
from tests.parity.goldens import assert_close, channel_last, deviation

# docs/notes.md, Goldens.
FEATURES, CLIPS, DISTANCES = 5e-5, 1e-4, 1e-5
RESIZED = 1e-3  # of 255
CORNER = 24  # of a picture that was recorded, top right; 12 of a clip
RULES = {"tf_rule": "adm", "pytorch_fid": "pytorch-fid"}
CLIP_RULES = {"styleganv": "stylegan-v", "videogpt": "videogpt"}

inception = pytest.mark.golden("inception_fid")
clips = pytest.mark.golden("i3d_fvd")
metrics = pytest.mark.golden("metrics")


def params_of(network, tensors):
    """Weights by the names of torch as our tree; what is of training or left out has no place."""
    layout = registry.layout_of(network)
    entries = tensor_entries(layout.rules(vars(network.config)), registry.abstract_params(network))
    return unflatten(
        {
            entry.path: jnp.asarray(entry.transform.from_torch(tensors[name]))
            for name, entry in entries.items()
        }
    )


@functools.lru_cache(maxsize=4)
def traced(network):
    """A compiled call that also returns what every block put out, by path."""

    def run(params, *inputs):
        out, inside = network.apply({"params": params}, *inputs, capture_intermediates=True)
        return out, {path: leaf[0] for path, leaf in flatten(inside["intermediates"]).items()}

    return jax.jit(run)


@functools.lru_cache(maxsize=4)
def drawn(seed, shapes):
    return recipe.build(seed, {name: tuple(shape) for name, shape in json.loads(shapes).items()})


def weights(facts):
    return drawn(facts["seed"], json.dumps(facts["shapes"]))


def means(x):
    """Over everything but rows and channels."""
    return np.asarray(x).mean(axis=tuple(range(1, x.ndim - 1)))


def check_inception(golden, rule):
    """Pools, spatial features and logits by one rule of resizing."""
    tensors = weights(golden.facts)
    network = InceptionV3()
    levels = jnp.asarray(channel_last(golden["in/images_uint8"]))
    read = pixels.for_inception(levels, RULES[rule])
    found, inside = traced(network)(params_of(network, tensors), read)
    stages = dict(zip((64, 192, 768), found.early, strict=True)) | {2048: found.pool}
    stages |= {"spatial7": found.spatial}
    stages["logits"] = np.asarray(found.logits) + tensors["fc.bias"]
    if rule == "tf_rule":
        stages["logits_unbiased"] = found.logits
        blocks = golden.under("mid_mean/")
        assert len(blocks) == 16
        for name, want in blocks.items():
            assert_close(means(inside[f"{name}/__call__"]), want, FEATURES, name)
    else:
        stages["logits_nobias"] = found.logits
    for name, got in stages.items():
        assert_close(got, golden[f"{rule}/{name}"], FEATURES, f"{rule}/{name}")


@inception
@pytest.mark.parametrize("rule", RULES)
def test_inception_gives_the_recorded_features(golden, rule):
    check_inception(golden, rule)


@inception
@pytest.mark.parametrize("key", ["tf_rule/2048", "tf_rule/spatial7", "mid_mean/Mixed_7c"])
def test_damaged_features_are_noticed(golden, key):
    with pytest.raises(AssertionError, match=key.split("/")[1]):
        check_inception(golden.damaged(key), "tf_rule")


@inception
def test_the_weights_of_the_recipe_are_those_of_the_recording(golden):
    tensors = weights(golden.facts)
    for name, (first, total, squares) in golden.facts["check"].items():
        wide = tensors[name].astype(np.float64)
        found = wide.reshape(-1)[0], wide.sum(), np.square(wide).sum()
        assert found == pytest.approx((first, total, squares), rel=1e-9)


@inception
@pytest.mark.parametrize(("key", "half_pixels"), [("tf_rule", False), ("half_pixel", True)])
def test_pictures_are_resized_as_recorded(golden, key, half_pixels):
    levels = jnp.asarray(channel_last(golden["in/images_uint8"]))
    found = np.asarray(pixels.resize(levels, 299, 299, half_pixels))
    want = golden[f"resize/{key}_0_0"]
    assert np.abs(found[0, :CORNER, -CORNER:, 0] - want).max() < RESIZED


@inception
def test_the_rules_differ_as_recorded(golden):
    """They must not be mixed: a twentieth of a feature."""
    network, tensors = InceptionV3(), weights(golden.facts)
    params = params_of(network, tensors)
    levels = jnp.asarray(channel_last(golden["in/images_uint8"]))
    pools = [traced(network)(params, pixels.for_inception(levels, r))[0].pool for r in pixels.RULES]
    assert deviation(*pools) == pytest.approx(
        golden.facts["deviations"]["fid_vs_tf_rule_2048"], rel=0.05
    )


def clip_of(golden):
    return channel_last(golden["in/video_tchw_01"])[None]


def i3d_of(golden):
    network = I3D(I3DConfig(epsilon=golden.facts["bn_eps"]))
    return network, params_of(network, weights(golden.facts))


def check_i3d(golden, rule):
    """What is read and the logits by one preprocessing; by the second also every block."""
    network, params = i3d_of(golden)
    read = pixels.for_i3d(jnp.asarray(clip_of(golden)), CLIP_RULES[rule])
    corner = np.moveaxis(np.asarray(read)[0, 0, :12, -12:], -1, 0)
    assert_close(corner, golden[f"pre/{rule}_slice"], CLIPS, f"pre/{rule}_slice")
    found, inside = traced(network)(params, read)
    assert_close(found, golden[f"{rule}/logits"], CLIPS, f"{rule}/logits")
    for name, want in golden.under("mid_mean/").items() if rule == "videogpt" else ():
        if f"{name}/__call__" in inside:
            assert_close(means(inside[f"{name}/__call__"]), want, CLIPS, name)


@clips
@pytest.mark.parametrize("rule", CLIP_RULES)
def test_i3d_gives_the_recorded_logits(golden, rule):
    check_i3d(golden, rule)


@clips
@pytest.mark.parametrize("key", ["videogpt/logits", "mid_mean/Mixed_5c", "pre/videogpt_slice"])
def test_damaged_clips_are_noticed(golden, key):
    with pytest.raises(AssertionError, match=key.split("/")[1]):
        check_i3d(golden.damaged(key), "videogpt")


def pair_of(golden):
    """Frame 0 of both videos, [-1, 1]."""
    return [
        jnp.asarray(channel_last(golden[f"img/video{n}"][:, 0]).astype(np.float32) / 127.5 - 1)
        for n in (1, 2)
    ]


def check_lpips(golden, trunk):
    facts = golden.facts["lpips"][trunk] | {"seed": golden.facts["seed"]}
    network = Lpips(LpipsConfig(trunk=trunk))
    found = traced(network)(params_of(network, weights(facts)), *pair_of(golden))[0]
    assert_close(found, golden[f"lpips/{trunk}/per_layer"], DISTANCES, f"{trunk}/per_layer")
    assert_close(found.sum(axis=0), golden[f"lpips/{trunk}/value"], DISTANCES, f"{trunk}/value")


@metrics
@pytest.mark.parametrize("trunk", ["alex", "vgg"])
def test_lpips_gives_the_recorded_distances(golden, trunk):
    check_lpips(golden, trunk)


@metrics
@pytest.mark.parametrize("key", ["value", "per_layer"])
def test_damaged_distances_are_noticed(golden, key):
    with pytest.raises(AssertionError, match=key):
        check_lpips(golden.damaged(f"lpips/alex/{key}"), "alex")


def real(name, **fields):
    """The published weights; skips where the packages that bring them are not installed."""
    if METRIC_WEIGHTS[name].place is None:
        pytest.skip(f"the package {METRIC_WEIGHTS[name].distribution} is not installed")
    return load_metric_network(name, **fields)


@pytest.mark.golden("real_weights")
@pytest.mark.parametrize("trunk", ["alex", "vgg"])
def test_real_lpips_gives_what_the_original_gives(golden, trunk):
    network, params = real(f"lpips-{trunk}")
    found = traced(network)(params, *pair_of(golden.beside("metrics.npz")))[0]
    assert_close(found, golden[f"lpips/{trunk}/per_layer"], CLIPS, trunk)


@pytest.mark.golden("real_weights")
@pytest.mark.parametrize(
    ("epsilon", "rule", "key"),
    [
        (1e-3, "stylegan-v", "eps1e-3/logits"),
        (1e-3, "videogpt", "eps1e-3/logits_videogpt_pre"),
        (1e-5, "stylegan-v", "eps1e-5/logits"),
    ],
)
def test_real_i3d_gives_what_the_original_gives(golden, epsilon, rule, key):
    network, params = real("i3d", epsilon=epsilon)
    read = pixels.for_i3d(jnp.asarray(clip_of(golden.beside("i3d_fvd.npz"))), rule)
    assert_close(traced(network)(params, read)[0], golden[f"i3d/{key}"], CLIPS, key)
