"""PixArt-alpha against the original: outputs, every intermediate, tables, single modules, loops."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import skipdit_jax as sd
from skipdit_jax.checkpoints import pixart_original
from skipdit_jax.layers.positions import sincos_2d
from skipdit_jax.models.text import TextBlock, TextVectors
from skipdit_jax.models.text_conditions import TextCondition
from skipdit_jax.pipeline import sample_keys
from skipdit_jax.trees import flatten, unflatten
from tests.parity.goldens import assert_close, channel_last, deviation
from tests.parity.models import params_of
from tests.parity.text_models import apply, model_of, trace

FORWARD = 2e-5  # docs/notes.md, Goldens
PROBE = 1e-5
TABLE = 1e-6
LOOP = 1e-4  # of the frequencies of another library; of each step's rms
FORGOTTEN = 1e-3

golden_file = pytest.mark.golden("pixart")
NAMES = {  # of the recording -> of our trace
    "tokens": "tokens",
    "time_emb": "t_embedder",
    "resolution_emb": "size_embedder",
    "aspect_emb": "ratio_embedder",
    "emb": "emb",
    "t6": "t6",
    "caption": "text_projection",
    "block_0_attn1": "blocks_0/attn",
    "block_0_attn2": "blocks_0/cross_attn",
    "block_0_ff": "blocks_0/mlp",
    "proj_out": "final_layer",
}


def given(golden, case):
    """(model, parameters, (x, t, condition)) of a recorded case."""
    arrays = golden.under(f"in/{case}/")
    x = channel_last(arrays["x"])
    config = golden.config["configs"][golden.config["cases"][case]]
    model = model_of("pixart", config, input_size=x.shape[1:-1])
    size = None
    if model.config.size_condition:
        size = jnp.concatenate([arrays["resolution"], arrays["aspect_ratio"]], axis=1)
    mask = jnp.asarray(arrays["mask"], jnp.float32) if "mask" in arrays else None
    condition = TextCondition(jnp.asarray(arrays["enc"]), mask, size)
    inputs = jnp.asarray(x), jnp.asarray(arrays["t"], jnp.float32), condition
    return model, params_of(golden, model), inputs


def check_outputs(golden, *only):
    found = only or golden.under("out/")
    assert found
    for case in found:
        model, params, inputs = given(golden, case)
        out = apply(model, params, *inputs)
        assert_close(out, channel_last(golden[f"out/{case}"]), FORWARD, f"out/{case}")


def check_trace(golden):
    cases = sorted({key.split("/")[0] for key in golden.under("mid/")})
    assert any("ms" in case for case in cases)
    for case in cases:
        model, params, inputs = given(golden, case)
        seen = trace(model, params, *inputs)
        for name, want in golden.under(f"mid/{case}/").items():
            got = seen[NAMES.get(name, name.replace("block_", "blocks_"))]
            assert_close(got, want, FORWARD, f"mid/{case}/{name}")


def check_probes(golden):
    """A block on inputs so small that the epsilon of its norms shows."""
    model, params, _ = given(golden, "base")
    x, shared, text = (golden[f"probe/block0/{name}"] for name in ("x", "t6", "caption"))
    blocks = jnp.asarray(shared).reshape(len(x), 6, -1)
    c = TextVectors(blocks, blocks[:, :1], jnp.asarray(text), None)
    out = TextBlock(model.config).apply({"params": params["blocks_0"]}, jnp.asarray(x), c)
    assert_close(out, golden["probe/block0/out"], PROBE, "probe/block0/out")


def check_tables(golden):
    cases = {"plain": "base", "scaled": "scaled", "half": "ms", "nonsquare_plain": "nonsquare"}
    for name, case in cases.items():
        config = golden.config["configs"][name.removeprefix("nonsquare_")]
        size = channel_last(golden[f"in/{case}/x"]).shape[1:-1]
        ours = model_of("pixart", config, input_size=size).config
        rows, columns = (side // ours.patch_size for side in ours.grid)
        table = sincos_2d(rows, columns, ours.hidden_size, ours.extent)[None]
        want = golden[f"table/pos_embed/{name}"]
        np.testing.assert_allclose(table, want, rtol=0, atol=TABLE, err_msg=name)


METHODS = {"ddim": ("ddim", "leading"), "dpmpp": ("dpm++", "linspace")}
"""Recorded sampler -> ours, and the spacing that it is published with."""


def loops(golden):
    """[(model, sampler)] of the recorded loops."""
    keys = [key.split("/") for key in golden.under("loop/")]
    return sorted({(model, sampler) for model, sampler, *_ in keys if sampler in METHODS})


def check_loops(golden, hoist=True):
    """[prompt; negative], each with its own mask; the first 4 of the guided channels go on."""
    assert {sampler for _, sampler in loops(golden)} == METHODS.keys()
    for name, sampler in loops(golden):
        z = channel_last(golden[f"loop/{name}/noise"])
        config = golden.config["configs"][name]
        model = model_of("pixart", config, input_size=z.shape[1:-1])
        arrays = golden.under(f"loop/{name}/")
        condition = TextCondition(
            arrays["enc"], arrays["mask"], null_text=arrays["neg"], null_mask=arrays["neg_mask"]
        )
        recorded = golden.under(f"loop/{name}/{sampler}/")
        method, spacing = METHODS[sampler]
        program = sd.Sampler(
            model,
            steps=f"{spacing}{len(recorded['t'])}",
            method=method,
            guidance=golden.config["guidance_scale"],
            taps=True,
            hoist=hoist,
        )
        assert np.array_equal(program.inputs.t, recorded["t"])
        params = params_of(golden, model)
        _, taps = program(params, sample_keys(jax.random.key(0), 0, len(z)), condition, z)
        channels = model.config.in_channels
        pairs = {"guided": taps.model_output[..., :channels], "latents": taps.sample}
        for key, got in pairs.items():
            for step, want in enumerate(channel_last(recorded[key])):
                assert_close(got[step], want, LOOP, f"loop/{name}/{sampler}/{key} of step {step}")


CHECKS = {
    "out/ms_nonsquare": check_outputs,
    "mid/ms/resolution_emb": check_trace,
    "probe/block0/out": check_probes,
    "table/pos_embed/half": check_tables,
    "loop/ms128/ddim/latents": check_loops,
    "loop/plain/dpmpp/latents": check_loops,
}


@golden_file
@pytest.mark.parametrize("check", dict.fromkeys(CHECKS.values()), ids=lambda check: check.__name__)
def test_original(golden, check):
    check(golden)
    assert golden.arrays  # the checks assert; this says that there was something to check


@golden_file
def test_loops_that_read_the_text_at_each_step(golden):
    check_loops(golden, hoist=False)
    assert loops(golden)


@golden_file
@pytest.mark.parametrize("key", CHECKS)
def test_damage_is_seen(golden, key):
    if key not in golden:
        pytest.skip(f"this golden has no {key}")
    only = [key.removeprefix("out/")] if key.startswith("out/") else []
    with pytest.raises(AssertionError):
        CHECKS[key](golden.damaged(key), *only)


@golden_file
@pytest.mark.parametrize("kind", ["plain", "ms"])
def test_the_authors_names_are_the_recorded_ones(golden, kind):
    """Ours of diffusers, in the order in which one of the authors' holds them."""
    lines = pixart_original.table(
        pixart_original.Size(golden.config["params"]["layers"], kind == "ms")
    )
    ours = {}
    for line in sorted(lines, key=lambda line: line.part):
        ours.setdefault(line.theirs[0], []).append(line.own)
    recorded = golden.config[f"mapping_{kind}"]
    assert ours == {name: own for name, own, rule in recorded if rule != "recompute"}


@golden_file
@pytest.mark.parametrize("name", ["plain", "scaled", "half"])
def test_recorded_tables_of_positions_show_their_scale(golden, tmp_path, name):
    config = golden.config["configs"][name]
    model, path = model_of("pixart", config), tmp_path / "x.safetensors"
    sd.export_checkpoint(path, params_of(golden, model), model, layout="original")
    save_file({**load_file(path), "pos_embed": golden[f"table/pos_embed/{name}"]}, path)
    read, _ = sd.load_checkpoint(path, num_heads=config["num_attention_heads"])
    assert (read.config.grid, read.config.extent) == (model.config.grid, model.config.extent)


@golden_file
def test_every_tensor_matters(golden):
    """A tensor that the import forgot, left at zero, shows."""
    model, params, inputs = given(golden, "ms")
    want = channel_last(golden["out/ms"])
    for path, leaf in flatten(params).items():
        forgotten = unflatten({**flatten(params), path: jnp.zeros_like(leaf)})
        if path.endswith("/k/bias"):  # softmax ignores it
            continue
        assert deviation(apply(model, forgotten, *inputs), want) > FORGOTTEN, path


@golden_file
def test_a_size_that_is_not_told_is_that_of_the_latents(golden):
    """Height and width in pixels, 8 for each latent, and their exact ratio."""
    model, _, (x, _, condition) = given(golden, "ms128_nonsquare")
    made = model.conditioning.prepare(dataclasses.replace(condition, size=None), len(x))
    height, width = model.config.grid
    assert np.array_equal(made.size[0], np.float32([8 * height, 8 * width, height / width]))
