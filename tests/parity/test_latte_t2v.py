"""LatteT2V, plain and with skips, against the original: outputs, every intermediate, loss, loops.

Recordings of the original hold one set of weights for both ("out/skip", "out/plain"), those of
diffusers the plain model alone ("out").
"""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import skipdit_jax as sd
from skipdit_jax.caching.intervals import interval_reuse
from skipdit_jax.diffusion.schedules import Diffusion
from skipdit_jax.layers.positions import sincos_2d
from skipdit_jax.models import latte_t2v
from skipdit_jax.models.text import TextBlock, TextVectors
from skipdit_jax.models.text_conditions import TextCondition
from skipdit_jax.pipeline import sample_keys
from skipdit_jax.training.draws import Draws
from skipdit_jax.training.step import make_loss
from skipdit_jax.trees import flatten, unflatten
from tests.parity.goldens import assert_close, deviation
from tests.parity.models import params_of
from tests.parity.text_models import apply, model_of, trace

FORWARD = 2e-5  # docs/notes.md, Goldens
PROBE = 1e-5
LOSS = 1e-5
LOOP = 2e-4  # of each step's rms: its latents grow to 30
FORGOTTEN = 1e-3

original = pytest.mark.golden("latte_t2v_skip")
loops = pytest.mark.golden("latte_t2v_skip_cache")


def frames_last(array):
    """[B,C,F,H,W] -> [B,F,H,W,C]."""
    return jnp.asarray(np.moveaxis(array, -4, -1))


class Case:
    """One recorded call.

    Attributes:
      model: with skips or without.
      params: the recorded weights.
      inputs: (x, t, condition).
    """

    def __init__(self, golden, x, t, enc, mask=None, **changes):
        """Names of arrays; the size of the clip is that of the recording."""
        clip = frames_last(golden[x])
        config = golden.config.get("model") or golden.config["diffusers"]
        self.model = model_of("latte_t2v", config, input_size=clip.shape[2:-1], **changes)
        self.params = params_of(golden, self.model)
        seen = None if mask is None else jnp.asarray(golden[mask], jnp.float32)
        condition = TextCondition(jnp.asarray(golden[enc]), seen)
        self.inputs = clip, jnp.asarray(golden[t], jnp.float32), condition

    def out(self):
        return apply(self.model, self.params, *self.inputs)


def case_of(golden, name, skip):
    """The call that the original recorded under that name."""
    x, t, enc, mask, changes = "in/latents", "in/timestep", "in/enc", None, {}
    if name.startswith("joint"):
        x, enc = "in/joint_latents", "in/joint_enc"
    if name == "nonsquare":
        x, t = "in/latents_nonsq", "in/timestep_1"
    if name == "one_frame":
        x = "in/latents_1f"
    if name.endswith("mask"):
        mask = "in/joint_mask" if name.startswith("joint") else "in/mask"
    if name == "no_temporal":
        changes = {"temporal": False}
    case = Case(golden, x, t, enc, mask, skip=skip, **changes)
    if name == "nonsquare":  # the first clip's text
        clip, time, condition = case.inputs
        case.inputs = clip, time, TextCondition(condition.text[: len(clip)])
    return case


def check_outputs(golden, *only):
    found = only or [key for key in golden.under("out/") if not key.endswith("joint_nockpt")]
    for key in found:
        kind, name = key.split("/")
        want = frames_last(golden[f"out/{key}"])
        assert_close(case_of(golden, name, kind == "skip").out(), want, FORWARD, f"out/{key}")
    assert found


def check_forgotten_frames(golden, monkeypatch):
    """Without checkpointing the original forgets the table of frames in joint training."""
    monkeypatch.setattr(
        latte_t2v, "sincos_1d", lambda places, width: np.zeros((len(places), width))
    )
    for kind in ("skip", "plain"):
        case = case_of(golden, "joint", kind == "skip")
        want = frames_last(golden[f"out/{kind}/joint_nockpt"])
        out = case.model.apply({"params": case.params}, *case.inputs)
        assert_close(out, want, FORWARD, f"out/{kind}/joint_nockpt")


SPATIAL = {"norm1": "norm1", "attn1": "attn", "attn2": "cross_attn", "norm2": "norm2", "ff": "mlp"}
NAMES = {
    "pos_embed": "tokens",
    "embedded_timestep": "t_embedder",
    "adaln6": "t6",
    "caption": "text_projection",
    "proj_out": "final_layer",
    "skip_norm_0": "skip_fusions_0/norm",
    **{f"spatial0_{name}": f"blocks_0/{ours}" for name, ours in SPATIAL.items()},
    "temporal0_norm1": "temporal_blocks_0/norm1",
    "temporal0_attn1": "temporal_blocks_0/attn",
    "temporal0_norm3": "temporal_blocks_0/norm2",
    "temporal0_ff": "temporal_blocks_0/mlp",
}


def path_of(name):
    """Of a recorded intermediate in our trace."""
    for theirs, ours in (("spatial", "blocks"), ("temporal", "temporal_blocks")):
        if name.startswith(f"{theirs}_"):
            return f"{ours}_{int(name.rsplit('_', 1)[1])}"
    return NAMES.get(name, name.replace("skip_linear", "skip_fusions"))


def check_trace(golden):
    for kind in ("skip", "plain"):
        case = case_of(golden, "base", kind == "skip")
        seen = trace(case.model, case.params, *case.inputs)
        wanted = golden.under(f"mid/{kind}/")
        assert wanted
        for name, want in wanted.items():
            got = np.asarray(seen[path_of(name)])
            if name.startswith("temporal"):
                got = np.swapaxes(got, 1, 2)  # [(B N),F,D]
            assert_close(got.reshape(want.shape), want, FORWARD, f"mid/{kind}/{name}")


def check_probes(golden):
    """Single blocks on inputs so small that the epsilon of their norms shows."""
    case = case_of(golden, "base", True)
    x, shared, text = (jnp.asarray(golden[f"probe/{name}"]) for name in ("x", "t6", "enc"))
    blocks = shared.reshape(len(x), 6, -1)
    c = TextVectors(blocks, blocks[:, :1], text, None)
    for name, block, axis in (("spatial", "blocks", -2), ("temporal", "temporal_blocks", -3)):
        h = x if axis == -2 else x[:, :, None]  # a clip of one token each frame
        module = TextBlock(case.model.config, axis)
        out = module.apply({"params": case.params[f"{block}_0"]}, h, c)
        assert_close(out.reshape(x.shape), golden[f"probe/{name}_0"], PROBE, f"probe/{name}_0")


def check_tables(golden):
    config = case_of(golden, "base", True).model.config
    rows, columns = (side // config.patch_size for side in config.grid)
    table = sincos_2d(rows, columns, config.hidden_size, config.extent)
    frames = case_of(golden, "base", True).model.frame_positions(config.num_frames)
    for name, got in {"pos_embed": table[None], "temp_pos_embed": frames[:, :, 0]}.items():
        want = golden[f"buf/{name}"]
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-6, err_msg=f"buf/{name}")


def check_loss(golden):
    """Joint training: the mean is taken over all frames, those of the images too."""
    case = case_of(golden, "joint", True)

    def loss(params, x, t, condition):
        return case.model.apply({"params": params}, x, t, condition)

    _, t, condition = case.inputs
    noise = frames_last(golden["in/joint_noise"])
    draws = Draws(t=t.astype(jnp.int32), noise=noise, condition=condition)
    x = frames_last(golden["in/joint_x0"])
    _, terms = jax.jit(make_loss(loss, Diffusion()))(case.params, x, draws)
    for name in ("mse", "vb", "loss"):
        assert_close(getattr(terms, name), golden[f"loss/{name}"], LOSS, f"loss/{name}")


CHECKS = {
    "out/skip/joint_ckpt_mask": check_outputs,
    "out/plain/no_temporal": check_outputs,
    "mid/skip/temporal0_norm3": check_trace,
    "mid/skip/skip_linear_2": check_trace,
    "probe/spatial_0": check_probes,
    "probe/temporal_0": check_probes,
    "buf/temp_pos_embed": check_tables,
    "loss/vb": check_loss,
}


@original
@pytest.mark.parametrize("check", dict.fromkeys(CHECKS.values()), ids=lambda check: check.__name__)
def test_original(golden, check):
    check(golden)
    assert golden.arrays  # the checks assert; this says that there was something to check


@original
def test_the_original_forgets_frames_without_checkpointing(golden, monkeypatch):
    check_forgotten_frames(golden, monkeypatch)
    assert golden.arrays


@original
@pytest.mark.parametrize("key", CHECKS)
def test_damage_is_seen(golden, key):
    only = [key.removeprefix("out/")] if key.startswith("out/") else []
    with pytest.raises(AssertionError, match=key):
        CHECKS[key](golden.damaged(key), *only)


def diffusers_cases(golden):
    """{name: call} of the recordings of diffusers."""
    return {
        name: Case(
            golden,
            *(f"in/{name}/{part}" for part in ("x", "t", "enc")),
            temporal=name != "no_temporal",
        )
        for name in golden.under("out/")
    }


def check_diffusers(golden):
    for name, case in diffusers_cases(golden).items():
        assert_close(case.out(), frames_last(golden[f"out/{name}"]), FORWARD, f"out/{name}")


@pytest.mark.golden("latte_diffusers")
def test_diffusers(golden):
    check_diffusers(golden)
    assert {"base", "one_frame", "nonsquare"} <= golden.under("out/").keys()


@pytest.mark.golden("latte_diffusers")
def test_damage_to_diffusers_is_seen(golden):
    kept = {key: value for key, value in golden.arrays.items() if "/base" in key or "sd/" in key}
    one = dataclasses.replace(golden, arrays=kept)
    with pytest.raises(AssertionError, match="out/base"):
        check_diffusers(one.damaged("out/base"))


@pytest.mark.golden("latte_diffusers")
def test_every_tensor_matters(golden):
    """A tensor that the import forgot, left at zero, shows."""
    case = diffusers_cases(golden)["base"]
    leaves, want = flatten(case.params), frames_last(golden["out/base"])
    for path, leaf in leaves.items():
        if path.endswith("/k/bias"):  # softmax ignores it
            continue
        forgotten = unflatten({**leaves, path: jnp.zeros_like(leaf)})
        assert deviation(apply(case.model, forgotten, *case.inputs), want) > FORGOTTEN, path


def replay(golden, variant, hoist):
    """(plan, taps) of the recorded loop under our Skip-Cache; "full" has none."""
    settings, steps = golden.config, f"leading{golden.config['steps']}"
    z = frames_last(golden["noise"])
    model = model_of("latte_t2v", settings["model"], input_size=z.shape[2:-1], skip=True)
    start, stop = settings["thresholds"]
    cache = None
    if variant != "full":
        cache = sd.SkipCache(every=int(variant[1:]), branch=1, start=start, stop=stop)
    sampler = sd.Sampler(
        model,
        steps=steps,
        method="ddim",
        guidance=settings["guidance_scale"],
        cache=cache,
        taps=True,
        hoist=hoist,
    )
    negative, prompt = golden["enc"]
    condition = TextCondition(prompt[None], null_text=negative[None])
    params = params_of(golden.beside(settings["weights_file"]), model)
    _, taps = sampler(params, sample_keys(jax.random.key(0), 0, len(z)), condition, z)
    assert np.array_equal(sampler.diffusion.timesteps[::-1], golden["timesteps"])
    return sampler.plan, taps


def check_loop(golden, variant, hoist=True):
    plan, taps = replay(golden, variant, hoist)
    reuse = np.zeros(len(golden["timesteps"]), bool) if plan is None else plan.reuse
    assert np.array_equal(reuse, golden[f"{variant}/cached"]), f"{variant}/cached"
    uncond, cond = (frames_last(a) for a in np.moveaxis(golden[f"{variant}/model_out"], 1, 0))
    scale, latents = (
        golden.config["guidance_scale"],
        frames_last(golden[f"{variant}/latents"][:, 0]),
    )
    channels = latents.shape[-1]
    guided = (uncond + scale * (cond - uncond))[..., :channels]
    for step, want in enumerate(guided):
        got = taps.model_output[step, 0, ..., :channels]
        assert_close(got, want, LOOP, f"{variant}/model_out of step {step}")
        assert_close(taps.sample[step, 0], latents[step], LOOP, f"{variant}/latents of step {step}")


VARIANTS = ("full", "N2", "N3", "N4")


@loops
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("hoist", [True, False], ids=["text read once", "at each step"])
def test_cached_loops(golden, variant, hoist):
    check_loop(golden, variant, hoist)
    assert f"{variant}/cached" in golden


@loops
@pytest.mark.parametrize("key", ["cached", "latents", "model_out"])
def test_damage_to_loops_is_seen(golden, key):
    region = (slice(9, 10),) if key != "cached" else ()
    with pytest.raises(AssertionError, match=f"N3/{key}"):
        check_loop(golden.damaged(f"N3/{key}", region, by=1e-2), "N3")


@loops
def test_schedules_of_the_originals(golden):
    """Which steps they cached, for many numbers of steps; those of HunYuan-DiT are of one kind."""
    recorded = json.loads((golden.folder / "cache_schedules.json").read_text())
    offsets = {"latte_t2v": 0, "hunyuan": 1}
    for family, offset in offsets.items():
        for case in recorded[family]:
            steps, (start, stop) = case["steps"], case.get("thresholds", THRESHOLDS)
            timesteps = np.arange(steps)[::-1] * (1000 // steps) + offset
            assert [timesteps[0], timesteps[-1]] == [case["first_t"], case["last_t"]]
            reuse = interval_reuse(timesteps, case["N"], start, stop)
            assert "".join("01"[int(one)] for one in reuse) == case["cached"], case


THRESHOLDS = (700, 50)
