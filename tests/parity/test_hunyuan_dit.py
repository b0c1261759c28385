"""HunYuan-DiT against the original: outputs, every intermediate, conditions, rotary tables.

Files of the original and of diffusers hold the weights in their own names; both are read as files.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

import skipdit_jax as sd
from skipdit_jax.caching.engine import empty_state, evaluate
from skipdit_jax.caching.plan import Kinds, Rows, Run
from skipdit_jax.checkpoints import hunyuan_original
from skipdit_jax.layers.rotary import rotary_tables
from skipdit_jax.models.hunyuan_dit import HunYuanBlock, Vectors
from skipdit_jax.models.stack import bind
from skipdit_jax.models.text_conditions import TextCondition
from skipdit_jax.models.two_texts import TwoTexts
from skipdit_jax.pipeline import sample_keys
from skipdit_jax.registry import published_sampling
from skipdit_jax.sampling.guidance import Strength, mix
from skipdit_jax.sampling.methods import read_method
from skipdit_jax.trees import flatten
from tests.parity.goldens import assert_close, channel_last
from tests.parity.text_models import apply, modules_of

FORWARD = 2e-5  # docs/notes.md, Goldens
PROBE = 1e-5
LOOP = 5e-5  # of each step's rms, free running
TABLE = 2e-6

original = pytest.mark.golden("hunyuan_dit")
conditioned = pytest.mark.golden("hunyuan_dit_cond")
diffusers = pytest.mark.golden("hunyuan_diffusers")
KINDS = {"size": jnp.float32, "style": jnp.int32}


def texts(golden, **more):
    """Both recorded texts with their masks."""
    pairs = (("in/enc", "in/mask"), ("in/enc_t5", "in/mask_t5"))
    return TwoTexts(
        *(
            TextCondition(jnp.asarray(golden[text]), jnp.asarray(golden[mask], jnp.float32))
            for text, mask in pairs
        ),
        **{name: jnp.asarray(golden[key], KINDS[name]) for name, key in more.items()},
    )


class Case:
    """A recorded call: model, parameters read from a file, (x, t, condition)."""

    def __init__(self, golden, folder, prefix, x, **more):
        """`more`: size and style by the names of their arrays."""
        images = jnp.asarray(channel_last(golden[x]))
        path = folder / "hunyuan.safetensors"
        save_file({n: np.ascontiguousarray(a) for n, a in golden.under(prefix).items()}, path)
        self.model, self.params = sd.load_checkpoint(path, input_size=images.shape[1:-1])
        t = jnp.asarray(golden["in/t"], jnp.float32)
        self.inputs = images, t, texts(golden, **more)

    def out(self):
        return apply(self.model, self.params, *self.inputs)


SHAPES = {"square": "in/x_sq", "nonsquare": "in/x_nsq"}
NAMES = {
    "mlp_t5": "t5_projection",
    "text_states": "text",
    "block0_modulation": "blocks_0/modulation",
    "block0_norm1": "blocks_0/norm",
    "block0_attn1_qnorm": "blocks_0/attn/q_norm",
    "block0_attn1_knorm": "blocks_0/attn/k_norm",
    "block0_attn1": "blocks_0/attn",
    "block0_norm3": "blocks_0/cross_norm",
    "block0_attn2_qnorm": "blocks_0/cross_attn/q_norm",
    "block0_attn2": "blocks_0/cross_attn",
    "block0_norm2": "blocks_0/mlp_norm",
    "block0_mlp": "blocks_0/mlp",
    "block5_skip_norm": "skip_fusions_0/norm",
    "block5_skip_linear": "skip_fusions_0",
}
HEADS_FIRST = ("block0_attn1_qnorm", "block0_attn1_knorm")  # [B,h,N,d]


@functools.partial(jax.jit, static_argnums=0)
def trace(model, params, *inputs):
    """{name: array} of everything that the recordings hold of a forward pass."""
    (h, c), found = modules_of(model, params, "embed", *inputs)
    found |= {"c": c.c, "text": c.text}
    (h, _), seen = modules_of(model, params, "run", h, c, {}, 0, model.num_stages)
    _, last = modules_of(model, params, "head", h, c)
    return {**found, **seen, **last}


def check_outputs(golden, folder):
    for name, x in SHAPES.items():
        out = Case(golden, folder, "sd/", x).out()
        assert_close(out, channel_last(golden[f"out/{name}"]), FORWARD, f"out/{name}")


def check_trace(golden, folder):
    case = Case(golden, folder, "sd/", "in/x_sq")
    seen = trace(case.model, case.params, *case.inputs)
    for name, want in golden.under("mid/").items():
        path = f"blocks_{int(name[6:])}" if name.startswith("block_") else NAMES.get(name, name)
        got = np.asarray(seen[path])
        got = np.swapaxes(got, 1, 2) if name in HEADS_FIRST else got
        assert_close(got.reshape(want.shape), want, FORWARD, f"mid/{name}")


def check_tables(golden, folder):
    for key in golden.under("rope88/"):
        size, kind = key.split("/")
        got = rotary_tables(*map(int, size.split("x")), 88)[("cos", "sin").index(kind)]
        np.testing.assert_allclose(got, golden[f"rope88/{key}"], rtol=0, atol=TABLE, err_msg=key)


def check_probes(golden, folder):
    """The first norm of a block, its shift, and a block as a whole, on inputs of size 1e-3."""
    case = Case(golden, folder, "sd/", "in/x_sq")
    block = HunYuanBlock(case.model.config)
    x, c, text = (jnp.asarray(golden[f"probe/{name}"]) for name in ("x", "c", "text"))
    places = tuple(
        map(jnp.asarray, rotary_tables(4, 4, x.shape[-1] // case.model.config.num_heads))
    )
    _, inside = block.apply(
        {"params": case.params["blocks_0"]},
        x,
        Vectors(c, text, places),
        capture_intermediates=True,
    )
    got = inside["intermediates"]["norm"]["__call__"][0]
    assert_close(got, golden["probe/norm1"], PROBE, "probe/norm1")


CHECKS = {
    "out/nonsquare": check_outputs,
    "mid/block5_skip_linear": check_trace,
    "mid/text_states": check_trace,
    "rope88/6x10/sin": check_tables,
    "probe/norm1": check_probes,
}


@original
@pytest.mark.parametrize("check", dict.fromkeys(CHECKS.values()), ids=lambda check: check.__name__)
def test_original(golden, tmp_path, check):
    check(golden, tmp_path)
    assert golden.arrays  # the checks assert; this says that there was something to check


@original
@pytest.mark.parametrize("key", CHECKS)
def test_damage_is_seen(golden, tmp_path, key):
    with pytest.raises(AssertionError):
        CHECKS[key](golden.damaged(key), tmp_path)


@original
def test_skips_are_as_released(golden, tmp_path):
    model = Case(golden, tmp_path, "sd/", "in/x_sq").model
    assert model.num_skips == model.num_stages // 2 - 1


@conditioned
@pytest.mark.parametrize("variant", ["both", "size", "style"])
def test_sizes_and_styles(golden, tmp_path, variant):
    more = {"size": "in/image_meta_size", "style": "in/style"}
    told = {name: key for name, key in more.items() if variant in (name, "both")}
    case = Case(golden, tmp_path, f"sd/{variant}/", "in/x_nsq", **told)
    want = channel_last(golden[f"out/{variant}"])
    assert_close(case.out(), want, FORWARD, f"out/{variant}")
    wrong = channel_last(golden.damaged(f"out/{variant}")[f"out/{variant}"])
    with pytest.raises(AssertionError, match="deviation"):
        assert_close(case.out(), wrong, FORWARD, "damaged")


@diffusers
@pytest.mark.parametrize("version", ["v12", "v11"])
def test_names_of_diffusers(golden, tmp_path, version):
    """Read as they are, and written in the names of the authors as recorded."""
    told = {"size": "in/image_meta_size", "style": "in/style"} if version == "v11" else {}
    case = Case(golden, tmp_path, f"sd/{version}/", "in/x", **told)
    assert_close(case.out(), channel_last(golden[f"out/{version}"]), FORWARD, f"out/{version}")
    config = case.model.config
    lines = hunyuan_original.table(hunyuan_original.size_of(vars(config)))
    ours = {}
    for line in sorted(lines, key=lambda line: line.part):
        ours.setdefault(line.theirs[0], []).append(line.own)
    recorded = golden.config[f"mapping_{version}"]
    assert ours == {name: own for name, own, _ in recorded}
    swapped = {line.theirs[0] for line in lines if line.how == hunyuan_original.HALVES}
    assert swapped == {name for name, _, rule in recorded if rule == "swap_halves0"}


@diffusers
def test_both_spellings_are_one_network(golden, tmp_path):
    case = Case(golden, tmp_path, "sd/v12/", "in/x")
    path = tmp_path / "original.safetensors"
    sd.export_checkpoint(path, case.params, case.model, layout="original")
    back = flatten(sd.load_checkpoint(path, case.model))
    for name, leaf in flatten(case.params).items():
        assert np.array_equal(back[name], leaf), name


def test_a_grid_and_its_transpose_have_the_same_places():
    """The longer side spans the base, also where it is the height."""
    wide, tall = rotary_tables(48, 80, 88)[0], rotary_tables(80, 48, 88)[0]
    wide, tall = wide.reshape(48, 80, 2, 44), tall.reshape(80, 48, 2, 44)
    assert np.array_equal(wide[:, :, 0], tall[:, :, 1].swapaxes(0, 1))


loops = pytest.mark.golden("hunyuan_dit_cache")


def plan_of(golden, model, variant):
    """Our Skip-Cache of a recorded run such as "N2" or, with two blocks at each end, "N2b2"."""
    every, _, branch = variant.removeprefix("N").partition("b")
    start, stop = golden.config["thresholds"]
    cache = sd.SkipCache(every=int(every), branch=int(branch or 1), start=start, stop=stop)
    return cache.plan(Run(golden["timesteps"], model.num_stages, model.num_skips))


@functools.partial(jax.jit, static_argnums=(0, 1))
def step(model, sockets, params, x, t, condition, state, kind):
    kinds = Kinds(trunk=kind)
    return evaluate(bind(model, params), sockets, x, t, condition, state, kinds, Rows())


def check_loop(golden, folder, run):
    """Every step on the latents that were recorded before it: what is kept is carried along."""
    weights = golden.beside(golden.config["weights_file"])
    case = Case(weights, folder, "sd/", "in/x_sq")
    plan = plan_of(golden, case.model, run.split("/")[1])
    assert np.array_equal(plan.reuse, golden[f"{run}/cached"]), f"{run}/cached"
    condition = texts(
        {
            "in/enc": golden["enc/encoder_hidden_states"],
            "in/mask": golden["enc/text_embedding_mask"],
            "in/enc_t5": golden["enc/encoder_hidden_states_t5"],
            "in/mask_t5": golden["enc/text_embedding_mask_t5"],
        }
    )
    before = np.concatenate([golden["noise"][None], golden[f"{run}/latents"][:-1]])
    x = jnp.asarray(channel_last(np.concatenate([before, before], axis=1)))
    t = jnp.asarray(golden["timesteps"], jnp.float32)[:, None].repeat(2, axis=1)
    state = empty_state(bind(case.model, case.params), plan.sockets, x[0], t[0], condition)
    for i, want in enumerate(channel_last(golden[f"{run}/model_out"])):
        kind = jnp.int32(plan.kinds.trunk[i])
        data = (case.params, x[i], t[i], condition, state, kind)
        out, state = step(case.model, plan.sockets, *data)
        assert_close(out, want, FORWARD, f"{run}/model_out of step {i}")


class Recorded:
    """A sampler that is given the recorded noise of every step in place of what keys draw."""

    stochastic = False  # draws none

    def __init__(self, stepper, noise):
        self.schedule, self.stepper, self.noise = stepper.schedule, stepper, noise

    def initialise(self, x):
        return jnp.int32(0), self.stepper.initialise(x)

    def step(self, kind, c, model_output, x, noise, state):
        index, inner = state
        x, inner = self.stepper.step(kind, c, model_output, x, self.noise[index], inner)
        return x, (index + 1, inner)


def check_sampler(golden, folder, run, hoist=True):
    """The published sampler, free running: v, betas, leading steps, what was learned dropped."""
    weights = golden.beside(golden.config["weights_file"])
    case = Case(weights, folder, "sd/", "in/x_sq")
    method, variant = run.split("/")
    every, _, branch = variant.removeprefix("N").partition("b")
    cache = None
    if variant != "full":
        start, stop = golden.config["thresholds"]
        cache = sd.SkipCache(every=int(every), branch=int(branch or 1), start=start, stop=stop)
    published = published_sampling(case.model)
    stepper = read_method(published.method if method == "ddpm" else method)
    sampler = sd.Sampler(
        case.model,
        steps=published.steps.replace("100", str(golden.config["steps"])),
        stepper=Recorded(stepper, jnp.asarray(channel_last(golden["ddpm/variance_noise"]))),
        guidance=golden.config["guidance_scale"],
        cache=cache,
        taps=True,
        hoist=hoist,
    )
    assert np.array_equal(sampler.inputs.t, golden["timesteps"]), "timesteps"
    z = channel_last(golden["noise"])
    keys = sample_keys(jax.random.key(0), 0, len(z))
    _, taps = sampler(case.params, keys, condition_of(golden), z)
    for i, want in enumerate(channel_last(golden[f"{run}/latents"])):
        assert_close(taps.sample[i], want, LOOP, f"{run}/latents of step {i}")
    uncond, cond = np.moveaxis(channel_last(golden[f"{run}/model_out"]), 1, 0)
    channels = taps.sample.shape[-1]
    guided = (uncond + golden.config["guidance_scale"] * (cond - uncond))[..., :channels]
    assert_close(taps.model_output[:, 0, ..., :channels], guided, LOOP, f"{run}/model_out")


def condition_of(golden):
    """The prompt, and what the original had in front of it: the negative one."""
    texts = (
        ("encoder_hidden_states", "text_embedding_mask"),
        ("encoder_hidden_states_t5", "text_embedding_mask_t5"),
    )
    made = []
    for text, mask in texts:
        (null, text), (null_mask, mask) = golden[f"enc/{text}"], golden[f"enc/{mask}"]
        arrays = (text, mask.astype(np.float32), null, null_mask.astype(np.float32))
        text, mask, null, null_mask = (jnp.asarray(array)[None] for array in arrays)
        made.append(TextCondition(text, mask, null_text=null, null_mask=null_mask))
    return TwoTexts(*made)


@loops
@pytest.mark.parametrize("run", ["ddpm/full", "ddim/full", "ddpm/N2", "ddim/N2b2"])
@pytest.mark.parametrize("hoist", [True, False], ids=["text read once", "at each step"])
def test_published_samplers(golden, tmp_path, run, hoist):
    check_sampler(golden, tmp_path, run, hoist)
    assert f"{run}/latents" in golden


@loops
@pytest.mark.parametrize("key", ["ddpm/full/latents", "ddpm/variance_noise", "noise"])
def test_damage_to_samplers_is_seen(golden, tmp_path, key):
    first = (slice(0, 1),)  # the noise of the last step has no weight
    with pytest.raises(AssertionError, match="latents"):
        check_sampler(golden.damaged(key, first, 1e-1), tmp_path, "ddpm/full")


@original
def test_rescaled_guidance(golden):
    """The original's function takes what is guided already."""
    guided, cond = (golden[f"rescale/{name}"] for name in ("noise_cfg", "noise_pred_text"))
    for key in golden.under("rescale/out_"):
        share = float(key)
        # uncond + 2 (cond - uncond) = guided for uncond = 2 cond - guided
        doubled = jnp.concatenate([cond, 2 * cond - guided])
        strength = Strength(jnp.float32(2.0), jnp.float32(share))
        got = mix(jnp.moveaxis(doubled, 1, -1), strength, cond.shape[1])
        assert_close(got, channel_last(golden[f"rescale/out_{key}"]), FORWARD, key)
        wrong = channel_last(golden.damaged(f"rescale/out_{key}")[f"rescale/out_{key}"])
        with pytest.raises(AssertionError, match="deviation"):
            assert_close(got, wrong, FORWARD, "damaged")


@loops
@pytest.mark.parametrize("run", ["ddpm/N3", "ddim/N2", "ddim/N4", "ddim/N2b2"])
def test_cached_loops(golden, tmp_path, run):
    check_loop(golden, tmp_path, run)
    assert f"{run}/cached" in golden


@loops
@pytest.mark.parametrize("key", ["ddim/N2/model_out", "ddim/N2/cached", "ddim/N2/latents"])
def test_damage_to_loops_is_seen(golden, tmp_path, key):
    region = () if key.endswith("cached") else (slice(8, 9),)
    with pytest.raises(AssertionError, match="ddim/N2"):
        check_loop(golden.damaged(key, region, by=1e-1), tmp_path, "ddim/N2")
