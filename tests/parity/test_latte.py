"""Latte and Latte-skip against the original: outputs, every intermediate, guidance, joint forward.

"e1/" is the unconditional model, "e2/" the one with class labels; their weights are the same.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from skipdit_jax.diffusion.schedules import Diffusion
from skipdit_jax.models.conditions import JointLabels
from skipdit_jax.sampling.guidance import doubled, mix
from skipdit_jax.training.draws import Draws
from skipdit_jax.training.step import make_loss
from skipdit_jax.trees import flatten, unflatten
from tests.parity.goldens import assert_close, channel_last, deviation
from tests.parity.models import entries_of, inputs_of, model_of, params_of

FORWARD = 2e-5  # docs/notes.md, Goldens
FORGOTTEN = 1e-3
LOSS = 1e-5  # of averages over a whole sample; gradients keep the limit of forwards

EXTRAS = {"e1": {"num_classes": 0, "class_dropout_prob": 0.0}, "e2": {}}
each_model = pytest.mark.golden("latte", "latte_skip", "latte_skip_depth28")
joint_training = pytest.mark.golden("latte_img_skip")


def given(golden, extras, prefix="", **changes):
    """(model, variables, (x, t, y)) of one of the two kinds."""
    model = model_of(golden, **EXTRAS[extras], **changes)
    x, t, y = inputs_of(golden, prefix)
    variables = {"params": params_of(golden, model)}
    return model, variables, (x, t, y if model.config.num_classes else None)


def once(compute):
    """Remembers what our side gives: golden files that differ in outputs only share it."""
    done = {}

    def remembered(golden):
        key = golden.stem, golden["x"].tobytes()
        if key not in done:
            done[key] = jax.device_get(compute(golden))
        return done[key]

    remembered.__name__ = compute.__name__
    return remembered


def compare(golden, ours, limits=None):
    """Everything of ours against the same key of the golden."""
    for key, got in ours.items():
        wanted = golden[key]
        if wanted.ndim == 5:
            wanted = channel_last(wanted)
        assert_close(got, wanted, (limits or {}).get(key.split("/")[-1], FORWARD), key)
    assert ours


@once
def outputs(golden):
    """Each output counts twice: against the original in float32 and in float64."""
    found = {}
    for extras in EXTRAS:
        model, variables, inputs = given(golden, extras)
        out = jax.jit(model.apply)(variables, *inputs)
        found |= {f"{extras}/out": out, f"{extras}/out_f64": out}
    return found


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


@once
def traces(golden):
    found = {}
    for extras in EXTRAS:
        seen = trace(*given(golden, extras))
        names = golden.under(f"{extras}/trace/")
        assert names
        found |= {f"{extras}/trace/{name}": seen[name][0] for name in names}
    return found


@once
def guided(golden):
    """All channels are guided; only the first half of x counts, and is compared."""
    model, variables, (x, _, _) = given(golden, "e2")
    t, y = (jnp.asarray(golden[f"e2/cfg/{name}"]) for name in "ty")
    half = x[: len(x) // 2]
    both = model.apply(variables, doubled(half), t.astype(jnp.float32), y.astype(jnp.int32))
    out = mix(both, jnp.float32(golden["e2/cfg/scale"]), model.config.in_channels)
    return {"e2/cfg/out": out}


def first_half(golden):
    """A golden whose guided output is that of the first half."""
    arrays = {**golden.arrays, "e2/cfg/out": golden["e2/cfg/out"][: len(golden["x"]) // 2]}
    return dataclasses.replace(golden, arrays=arrays)


COMPUTED = {
    "e1/out": outputs,
    "e2/out": outputs,
    "e2/trace/blocks.2": traces,
    "e2/trace/blocks.3": traces,
    "e1/trace/final_layer": traces,
    "e2/cfg/out": guided,
}


@each_model
@pytest.mark.parametrize("compute", [outputs, traces, guided], ids=lambda f: f.__name__)
def test_original(golden, compute):
    compare(first_half(golden), compute(golden))
    assert golden.arrays  # `compare` asserts; this says that there was something to compare


@pytest.mark.golden("latte", "latte_skip")
@pytest.mark.parametrize("key", COMPUTED)
def test_damage_is_seen(golden, key):
    damaged = golden.damaged(key, region=slice(0, 1))
    with pytest.raises(AssertionError, match=key):
        compare(first_half(damaged), COMPUTED[key](golden))


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


@once
def joint(golden):
    x, t, _ = inputs_of(golden)
    model, variables, _ = given(golden, "e2")
    found = {}
    for kind in ("nodrop", "drop"):
        drops = (golden[f"e2/{kind}/drop_{what}"] for what in ("y", "image"))
        y = joint_labels(golden, *drops)
        found[f"e2/{kind}/out"] = jax.jit(model.apply)(variables, x, t, y)
    seen = trace(model, variables, (x, t, y))
    video, images = seen.pop("y_embedder")
    # The original embeds the images of each clip by a call of its own.
    embedded = [video, *(image[None] for image in images)]
    found |= {f"e2/drop/trace/y_embedder@{i}": value for i, value in enumerate(embedded)}
    return found | {f"e2/drop/trace/{name}": value[0] for name, value in seen.items()}


@once
def joint_unconditional(golden):
    model, variables, _ = given(golden, "e1")
    x, t, y = inputs_of(golden)
    labels = JointLabels(y, jnp.asarray(golden["y_image"], jnp.int32))
    return {"e1/out": jax.jit(model.apply)(variables, x, t, labels)}


@once
def joint_plain(golden):
    """The same weights without skips, and the video alone."""
    x, t, y = inputs_of(golden)
    plain = model_of(golden, skip=False)
    labels = JointLabels(y, jnp.asarray(golden["y_image"], jnp.int32))
    out = jax.jit(plain.apply)({"params": params_of(golden, plain)}, x, t, labels)
    model, variables, _ = given(golden, "e2")
    alone = jax.jit(model.apply)(variables, x[:, : model.config.num_frames], t, y)
    return {"base/e2/nodrop/out": out, "e2/video_only_eval/out": alone}


@once
def joint_loss(golden):
    """The mean is taken over all frames, those of the images too."""
    model, variables, _ = given(golden, "e2")

    def apply(params, x, t, y):
        return model.apply({"params": params}, x, t, y)

    drops = (golden[f"e2/drop/drop_{what}"] for what in ("y", "image"))
    draws = Draws(
        t=jnp.asarray(golden["loss/t"], jnp.int32),
        noise=jnp.asarray(channel_last(golden["loss/noise"])),
        condition=joint_labels(golden, *drops),
    )
    x = jnp.asarray(channel_last(golden["loss/x_start"]))
    gradient = jax.jit(jax.value_and_grad(make_loss(apply, Diffusion()), has_aux=True))
    (_, terms), grads = gradient(variables["params"], x, draws)
    found = {f"loss/{name}": getattr(terms, name) for name in LIMITS}
    leaves = flatten(grads)
    for name, entry in entries_of(model).items():
        value = entry.transform.to_torch(np.asarray(leaves[entry.path]))
        found[f"loss/grad_norm/{name}"] = np.linalg.norm(value)
        if f"loss/grad/{name}" in golden:
            found[f"loss/grad/{name}"] = value
    assert sum(key.startswith("loss/grad/") for key in found) > 2
    return found


LIMITS = {"mse": LOSS, "vb": LOSS, "loss": LOSS}
JOINT = {
    "e2/nodrop/out": joint,
    "e2/drop/out": joint,
    "e2/drop/trace/blocks.1": joint,
    "e2/drop/trace/skip_norms.0": joint,
    "e1/out": joint_unconditional,
    "base/e2/nodrop/out": joint_plain,
    "e2/video_only_eval/out": joint_plain,
    "loss/vb": joint_loss,
    "loss/grad/y_embedder.embedding_table.weight": joint_loss,
    "loss/grad_norm/blocks.1.mlp.fc1.weight": joint_loss,
}


@joint_training
@pytest.mark.parametrize("compute", dict.fromkeys(JOINT.values()), ids=lambda f: f.__name__)
def test_joint_training_of_the_original(golden, compute):
    compare(golden, compute(golden), LIMITS)
    assert golden.arrays


@joint_training
@pytest.mark.parametrize("key", JOINT)
def test_damage_to_joint_training_is_seen(golden, key):
    with pytest.raises(AssertionError, match=key):
        compare(golden.damaged(key), JOINT[key](golden), LIMITS)
