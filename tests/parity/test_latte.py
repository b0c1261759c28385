"""Latte and Latte-skip against the original: outputs, every intermediate, guidance, joint forward.

"e1/" is the unconditional model, "e2/" the one with class labels; their weights are the same.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from skipdit_jax.diffusion.schedules import Diffusion
from skipdit_jax.sampling.guidance import doubled, mix
from skipdit_jax.training.draws import Draws
from skipdit_jax.training.step import make_loss
from skipdit_jax.trees import flatten, unflatten
from skipdit_jax.typing import JointLabels
from tests.parity.goldens import assert_close, channel_last, deviation
from tests.parity.models import entries_of, inputs_of, model_of, params_of

FORWARD = 2e-5  # golden/README.md, with the original's timestep frequencies
GUIDED = 2e-5
FORGOTTEN = 1e-3
# As in test_train_step.py: losses follow forwards, gradients what float32 leaves of them.
LOSS, GRADIENT = 1e-5, 2e-5

EXTRAS = {"e1": {"num_classes": 0, "class_dropout_prob": 0.0}, "e2": {}}
each_model = pytest.mark.golden("latte", "latte_skip", "latte_skip_depth28")
joint = pytest.mark.golden("latte_img_skip")


def given(golden, extras, prefix="", **changes):
    """(model, variables, (x, t, y)) of one of the two kinds."""
    model = model_of(golden, **EXTRAS[extras], **changes)
    x, t, y = inputs_of(golden, prefix)
    variables = {"params": params_of(golden, model)}
    return model, variables, (x, t, y if model.config.num_classes else None)


def check_output(golden):
    for extras in EXTRAS:
        model, variables, inputs = given(golden, extras)
        out = jax.jit(model.apply)(variables, *inputs)
        assert_close(out, channel_last(golden[f"{extras}/out"]), FORWARD, f"{extras}/out")
        assert_close(out, channel_last(golden[f"{extras}/out_f64"]), FORWARD, f"{extras}/out_f64")


def of_frames(h):
    """[B,F,N,D] as the original has it in and after spatial blocks: [(B F),N,D]."""
    return h.reshape(-1, *h.shape[2:])


def of_places(h):
    """[B,F,N,D] as the original has it after temporal blocks: [(B N),F,D]."""
    return of_frames(jnp.swapaxes(h, 1, 2))


def trace(model, variables, inputs):
    """{name of a module of the original: its output} of a forward run stage by stage."""

    def calls(tree):
        return {name: module["__call__"] for name, module in tree.items() if "__call__" in module}

    (h, c), inside = model.apply(variables, *inputs, method="embed", capture_intermediates=True)
    seen = calls(inside["intermediates"])
    seen["x_embedder"] = [of_frames(seen["x_embedder"][0])]
    skips = {}
    for u in range(model.num_stages):
        (h, skips), inside = model.apply(
            variables, h, c, skips, u, u + 1, method="run", capture_intermediates=True
        )
        modules = inside["intermediates"]
        seen[f"blocks.{2 * u}"] = [of_frames(modules[f"blocks_{2 * u}"]["__call__"][0])]
        seen[f"blocks.{2 * u + 1}"] = [of_places(modules[f"blocks_{2 * u + 1}"]["__call__"][0])]
        for name in [n for n in modules if n.startswith("skip_fusions_")]:
            j = name.rsplit("_", 1)[1]
            seen[f"skip_norms.{j}"] = [of_frames(modules[name]["norm"]["__call__"][0])]
            seen[f"skip_linears.{j}"] = [of_frames(modules[name]["__call__"][0])]
    _, inside = model.apply(variables, h, c, method="head", capture_intermediates=True)
    seen["final_layer"] = [of_frames(inside["intermediates"]["final_layer"]["__call__"][0])]
    return seen


def check_trace(golden):
    for extras in EXTRAS:
        seen = trace(*given(golden, extras))
        wanted = golden.under(f"{extras}/trace/")
        assert wanted
        for name, want in wanted.items():
            assert_close(seen[name][0], want, FORWARD, f"{extras}/trace/{name}")


def check_guidance(golden):
    """All channels are guided; only the first half of x counts."""
    model, variables, (x, _, _) = given(golden, "e2")
    t, y = (jnp.asarray(golden[f"e2/cfg/{name}"]) for name in "ty")
    half = x[: len(x) // 2]
    both = model.apply(variables, doubled(half), t.astype(jnp.float32), y.astype(jnp.int32))
    out = mix(both, jnp.float32(golden["e2/cfg/scale"]), model.config.in_channels)
    want = channel_last(golden["e2/cfg/out"])[: len(half)]
    assert_close(out, want, GUIDED, "e2/cfg/out")


CHECKS = {
    "e1/out": check_output,
    "e2/out": check_output,
    "e2/trace/blocks.2": check_trace,
    "e2/trace/blocks.3": check_trace,
    "e1/trace/final_layer": check_trace,
    "e2/cfg/out": check_guidance,
}


@each_model
@pytest.mark.parametrize("check", sorted(set(CHECKS.values()), key=lambda f: f.__name__))
def test_original(golden, check):
    check(golden)
    assert golden.arrays  # the checks assert; this says that there was something to check


@pytest.mark.golden("latte", "latte_skip")
@pytest.mark.parametrize("key", CHECKS)
def test_damage_is_seen(golden, key):
    with pytest.raises(AssertionError):
        CHECKS[key](golden.damaged(key, region=slice(0, 1)))


@pytest.mark.golden("latte_skip")
def test_every_tensor_matters(golden):
    model, variables, inputs = given(golden, "e2")
    apply = jax.jit(lambda params: model.apply({"params": params}, *inputs))
    want = channel_last(golden["e2/out"])
    for path, leaf in flatten(variables["params"]).items():
        forgotten = unflatten({**flatten(variables["params"]), path: jnp.zeros_like(leaf)})
        assert deviation(apply(forgotten), want) > FORGOTTEN, path


@pytest.mark.golden("latte", "latte_skip")
def test_single_frames_need_no_other_weights(golden):
    """A clip of fewer frames takes the first rows of the frame table."""
    model, variables, (x, t, y) = given(golden, "e2")
    fewer = model_of(golden, num_frames=x.shape[1] - 1)
    short = x[:, :-1]
    got = fewer.apply(variables, short, t, y)
    assert np.array_equal(np.asarray(got), np.asarray(model.apply(variables, short, t, y)))
    with pytest.raises(ValueError, match=r"Latte: \d+ video frames, wanted 1 to"):
        fewer.apply(variables, x, t, y)


def joint_labels(golden, drop_video, drop_image):
    """Labels after the recorded dropout: one draw for a clip, one for all of its images."""
    null = golden.config["num_classes"]
    video = np.where(drop_video, null, golden["y"])
    images = np.where(drop_image[:, None], null, golden["y_image"])
    return JointLabels(jnp.asarray(video, jnp.int32), jnp.asarray(images, jnp.int32))


def check_joint(golden):
    x, t, _ = inputs_of(golden)
    for kind in ("nodrop", "drop"):
        model, variables, _ = given(golden, "e2")
        drops = (golden[f"e2/{kind}/drop_{what}"] for what in ("y", "image"))
        y = joint_labels(golden, *drops)
        out = model.apply(variables, x, t, y)
        assert_close(out, channel_last(golden[f"e2/{kind}/out"]), FORWARD, f"e2/{kind}/out")
    seen, frames = trace(model, variables, (x, t, y)), model.config.num_frames
    for name, want in golden.under("e2/drop/trace/").items():
        if name.startswith("y_embedder@"):
            continue  # the original embeds the images of each clip by a call of its own
        got = seen[name][0]
        assert_close(got, want, FORWARD, f"e2/drop/trace/{name}")
    video, images = seen["y_embedder"]
    assert_close(video, golden["e2/drop/trace/y_embedder@0"], FORWARD, "video labels")
    for i in range(len(images)):
        want = golden[f"e2/drop/trace/y_embedder@{i + 1}"][0]
        assert_close(images[i], want, FORWARD, f"image labels of clip {i}")
    assert frames < x.shape[1]


def check_joint_unconditional(golden):
    model, variables, _ = given(golden, "e1")
    x, t, y = inputs_of(golden)
    out = model.apply(variables, x, t, JointLabels(y, jnp.asarray(golden["y_image"], jnp.int32)))
    assert_close(out, channel_last(golden["e1/out"]), FORWARD, "e1/out")


def check_joint_plain(golden):
    """The same weights without skips, and the video alone."""
    x, t, y = inputs_of(golden)
    plain = model_of(golden, skip=False)
    labels = JointLabels(y, jnp.asarray(golden["y_image"], jnp.int32))
    out = plain.apply({"params": params_of(golden, plain)}, x, t, labels)
    assert_close(out, channel_last(golden["base/e2/nodrop/out"]), FORWARD, "base/e2/nodrop/out")
    model, variables, _ = given(golden, "e2")
    out = model.apply(variables, x[:, : model.config.num_frames], t, y)
    want = channel_last(golden["e2/video_only_eval/out"])
    assert_close(out, want, FORWARD, "e2/video_only_eval/out")


def check_joint_loss(golden):
    """The mean is taken over all frames, those of the images too."""
    model, variables, _ = given(golden, "e2")
    entries = entries_of(model)

    def apply(params, x, t, y):
        return model.apply({"params": params}, x, t, y)

    drops = (golden[f"e2/drop/drop_{what}"] for what in ("y", "image"))
    draws = Draws(
        t=jnp.asarray(golden["loss/t"], jnp.int32),
        noise=jnp.asarray(channel_last(golden["loss/noise"])),
        labels=joint_labels(golden, *drops),
    )
    x = jnp.asarray(channel_last(golden["loss/x_start"]))
    gradient = jax.jit(jax.value_and_grad(make_loss(apply, Diffusion()), has_aux=True))
    (_, terms), grads = gradient(variables["params"], x, draws)
    for name in ("mse", "vb", "loss"):
        assert_close(getattr(terms, name), golden[f"loss/{name}"], LOSS, f"loss/{name}")
    leaves = flatten(grads)
    compared = 0
    for name, entry in entries.items():
        got = entry.transform.to_torch(np.asarray(leaves[entry.path]))
        norm = float(golden[f"loss/grad_norm/{name}"])
        assert abs(np.linalg.norm(got) - norm) <= GRADIENT * norm, name
        if f"loss/grad/{name}" in golden:
            assert_close(got, golden[f"loss/grad/{name}"], GRADIENT, f"loss/grad/{name}")
            compared += 1
    assert compared


JOINT = {
    "e2/nodrop/out": check_joint,
    "e2/drop/out": check_joint,
    "e2/drop/trace/blocks.1": check_joint,
    "e2/drop/trace/skip_norms.0": check_joint,
    "e1/out": check_joint_unconditional,
    "base/e2/nodrop/out": check_joint_plain,
    "e2/video_only_eval/out": check_joint_plain,
    "loss/vb": check_joint_loss,
    "loss/grad/y_embedder.embedding_table.weight": check_joint_loss,
    "loss/grad_norm/blocks.1.mlp.fc1.weight": check_joint_loss,
}


@joint
@pytest.mark.parametrize("check", sorted(set(JOINT.values()), key=lambda f: f.__name__))
def test_joint_training_of_the_original(golden, check):
    check(golden)
    assert dataclasses.is_dataclass(golden)


@joint
@pytest.mark.parametrize("key", JOINT)
def test_damage_to_joint_training_is_seen(golden, key):
    with pytest.raises(AssertionError):
        JOINT[key](golden.damaged(key))
