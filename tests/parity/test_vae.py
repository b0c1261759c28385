"""The autoencoders against the originals: moments, pictures, clips, every intermediate."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from skipdit_jax.checkpoints.rules import tensor_entries
from skipdit_jax.encoders.autoencoder import TEMPORAL_EPSILON, SpatioTemporalBlock
from skipdit_jax.encoders.blocks import ResnetBlock, SpatialAttention
from skipdit_jax.encoders.pixels import decode_latents, encode_pixels
from skipdit_jax.encoders.vae import split_moments
from skipdit_jax.layers.convolution import ALONG_FRAMES
from skipdit_jax.registry import AUTOENCODERS, abstract_params, layout_of
from skipdit_jax.trees import flatten, unflatten
from skipdit_jax.visualise.grids import decoded_to_uint8
from tests.parity.goldens import assert_close, channel_last, deviation

FORWARD = 2e-5  # measured 1.1e-5
PROBE = 1e-5  # measured 3.7e-6
FORGOTTEN = 1e-3
LEVEL = 1  # of 255

pictures = pytest.mark.golden("vae")
clips = pytest.mark.golden("vae_temporal")
both = pytest.mark.golden("vae", "vae_temporal")


def vae_of(golden):
    """The autoencoder that the golden's config describes."""
    temporal = "sd/decoder.time_conv_out.weight" in golden
    kind = AUTOENCODERS["vae_temporal" if temporal else "vae"]
    known = {field.name for field in dataclasses.fields(kind.config)}
    return kind.module(kind.config(**{k: v for k, v in golden.config.items() if k in known}))


def params_of(golden, vae):
    """The recorded parameters as our tree; every one of them is used."""
    family = layout_of(vae)
    entries = tensor_entries(family.rules(vars(vae.config)), abstract_params(vae))
    assert golden.under("sd/").keys() == entries.keys()
    return unflatten(
        {
            entry.path: jnp.asarray(entry.transform.from_torch(golden["sd/" + name]))
            for name, entry in entries.items()
        }
    )


def frames_of(array, count):
    """[(B F),C,H,W] -> [B,F,H,W,C]."""
    return channel_last(array).reshape(-1, count, *channel_last(array).shape[1:])


def given(golden, key, frames):
    """Latents in/`key` as the decoder takes them."""
    array = golden[f"in/{key}"]
    return channel_last(array) if frames is None else frames_of(array, frames)


@functools.lru_cache(maxsize=8)
def traced(vae, method):
    """A compiled call that also returns what every module put out, by path."""

    def run(params, x):
        out, inside = vae.apply({"params": params}, x, method=method, capture_intermediates=True)
        return out, {path: leaf[0] for path, leaf in flatten(inside["intermediates"]).items()}

    return jax.jit(run)


@functools.lru_cache(maxsize=8)
def apply(module):
    """A compiled call of a single module."""
    return jax.jit(lambda params, x: module.apply({"params": params}, x))


ENCODED = {
    "conv_in": "conv_in",
    "mid_attn": "mid/attention",
    "mid": "mid",
    "out": "",
}
DECODED = {
    "conv_in": "conv_in",
    "mid_res0": "mid/resnets_0",
    "mid_res0_spatial": "mid/resnets_0/spatial",
    "mid_res0_temporal": "mid/resnets_0/temporal",
    "mid_attn": "mid/attention",
    "mid": "mid",
    "conv_norm_out": "norm_out",
    "conv_out": "conv_out",
}


def path_of(name):
    """Our path of a recorded module of the original: "enc/down_0", "dec/up_1", "up_1"..."""
    if name == "dec/post_quant_conv":
        return "post_quant_conv"
    side, part = name.split("/") if "/" in name else ("dec", name)
    part = re.sub(r"^(down|up)_(\d+)", r"\1_blocks_\2", part).replace("_res_", "/resnets_")
    names, half = (ENCODED, "encoder") if side == "enc" else (DECODED, "decoder")
    return "/".join(filter(None, (half, names.get(part, part))))


def observed(golden, vae, params):
    """{key of the golden: (ours, theirs)} of moments, what is decoded, and all in between."""
    moments, inside = traced(vae, "encode")(params, channel_last(golden["in/x"]))
    raw = jnp.concatenate(moments, axis=-1)
    seen = {"out/moments": (raw, channel_last(golden["out/moments"]))}
    frames = len(golden["in/z"]) if vae.config.CLIPS else None
    out, decoded = traced(vae, "decode")(params, given(golden, "z", frames))
    key = f"out/dec_F{frames}" if frames else "out/dec"
    seen[key] = (out.reshape(-1, *out.shape[-3:]), channel_last(golden[key]))
    inside |= decoded
    for name, want in golden.under("mid/").items():
        got = inside[f"{path_of(name)}/__call__"]
        if want.ndim == 5:  # [B,C,F,H,W]
            want = np.moveaxis(want, 1, -1)
        else:
            got, want = got.reshape(-1, *got.shape[-3:]), channel_last(want)
        seen[f"mid/{name}"] = got, want
    return seen


def check_trace(golden):
    vae = vae_of(golden)
    for name, (got, want) in observed(golden, vae, params_of(golden, vae)).items():
        assert_close(got, want, FORWARD, name)


def check_latents(golden):
    """Mean, clipped log-variance, the draw with recorded noise, the scaled latents."""
    vae = vae_of(golden)
    moments = encode_pixels(vae, params_of(golden, vae), channel_last(golden["in/x"]))
    sample = moments.at(jnp.asarray(channel_last(golden["in/eps"])))
    found = {
        "mean": moments.mean,
        "logvar": moments.logvar,
        "std": jnp.exp(0.5 * moments.logvar),
        "sample": sample,
        "latents_scaled": sample * vae.config.scaling_factor,
    }
    for name, got in found.items():
        assert_close(got, channel_last(golden[f"out/{name}"]), FORWARD, name)
    far = split_moments(jnp.asarray(channel_last(golden["probe/moments_x40"])))
    want = channel_last(golden["probe/logvar_clamped"])
    assert np.array_equal(far.logvar, want)
    std = channel_last(golden["probe/std_clamped"])
    assert_close(jnp.exp(0.5 * far.logvar), std, FORWARD, "probe/std_clamped")


def check_pictures(golden):
    """From scaled latents to what the published pipelines store."""
    vae = vae_of(golden)
    latents = channel_last(golden["in/z"]) * np.float32(vae.config.scaling_factor)
    pixels = np.asarray(decode_latents(vae, params_of(golden, vae), latents))
    assert_close(pixels, channel_last(golden["out/dec"]), FORWARD, "out/dec")
    shown = np.clip(pixels / 2 + 0.5, 0, 1)
    want = channel_last(golden["out/image_hunyuan_01"])
    assert_close(shown, want, FORWARD, "out/image_hunyuan_01")
    check_bytes(pixels, channel_last(golden["out/pixels_latte_u8"]))


def check_clips(golden):
    """Clips of one frame, two clips at once, and 16 frames as 14 and 2 that do not meet."""
    vae = vae_of(golden)
    params = params_of(golden, vae)
    for key in ("dec_F1", "dec2_B2F3"):
        latents = given(golden, "z2" if key.startswith("dec2") else "z", int(key[-1]))
        out, _ = traced(vae, "decode")(params, latents)
        got = out.reshape(-1, *out.shape[-3:])
        assert_close(got, channel_last(golden[f"out/{key}"]), FORWARD, key)
    latents = np.moveaxis(golden["in/latents16"], 1, -1)  # [1,16,h,w,c], scaled
    pixels = np.asarray(decode_latents(vae, params, latents))
    chunks = [golden[f"out/video16_chunk{i}"] for i in range(2)]
    assert_close(pixels[0], channel_last(np.concatenate(chunks)), FORWARD, "out/video16_chunk")
    check_bytes(pixels, golden["out/video16_u8"])


def check_bytes(pixels, want):
    got = decoded_to_uint8(pixels)
    assert got.shape == want.shape
    assert np.abs(got.astype(int) - want).max() <= LEVEL


def check_probes(golden):
    """Single modules on inputs so small that the norms' epsilon shows."""
    vae = vae_of(golden)
    middle = params_of(golden, vae)["decoder"]["mid"]
    x = jnp.asarray(channel_last(golden["probe/x"]))
    sizes = x.shape[-1], vae.config.norm_num_groups
    attention = apply(SpatialAttention(sizes[1]))(middle["attention"], x)
    found = {"mid_attn": attention}
    block = middle["resnets_0"]
    if vae.config.CLIPS:
        found["mid_resnet_0"] = apply(SpatioTemporalBlock(*sizes))(block, x[None])[0]
        found["spatial_res_block"] = apply(ResnetBlock(*sizes))(block["spatial"], x)
        temporal = ResnetBlock(*sizes, ALONG_FRAMES, TEMPORAL_EPSILON)
        got = apply(temporal)(block["temporal"], x[None])
        want = np.moveaxis(golden["probe/temporal_res_block"], 1, -1)
        assert_close(got, want, PROBE, "probe/temporal_res_block")
    else:
        found["mid_resnet_0"] = apply(ResnetBlock(*sizes))(block, x)
    for name, got in found.items():
        assert_close(got, channel_last(golden[f"probe/{name}"]), PROBE, f"probe/{name}")


PICTURES = {
    "out/moments": check_trace,
    "out/dec": check_trace,
    "mid/enc/down_0_res_0": check_trace,
    "mid/enc/out": check_trace,
    "mid/dec/up_1": check_trace,
    "out/latents_scaled": check_latents,
    "probe/logvar_clamped": check_latents,
    "out/image_hunyuan_01": check_pictures,
    "out/pixels_latte_u8": check_pictures,
    "probe/mid_attn": check_probes,
}
CLIPS = {
    "out/moments": check_trace,
    "mid/mid_res0_temporal": check_trace,
    "mid/up_0": check_trace,
    "out/dec_F1": check_clips,
    "out/dec2_B2F3": check_clips,
    "out/video16_chunk1": check_clips,
    "out/video16_u8": check_clips,
    "probe/temporal_res_block": check_probes,
    "probe/mid_resnet_0": check_probes,
}


FEW = ("out/dec_F1", "probe/temporal_res_block")  # damage of which the default run makes sure


def checks(table):
    return sorted(set(table.values()), key=lambda function: function.__name__)


@pictures
@pytest.mark.parametrize("check", checks(PICTURES))
def test_the_original(golden, check):
    check(golden)
    assert golden.arrays  # the checks assert; this says that there was something to check


@clips
@pytest.mark.parametrize("check", checks(CLIPS))
def test_the_original_of_clips(golden, check):
    check(golden)
    assert golden.arrays


def damaged(golden, key):
    """Off by a thousandth, or by one level more than rounding may explain."""
    if golden[key].dtype != np.uint8:
        return golden.damaged(key)
    levels = golden[key].astype(int)
    levels.flat[0] += (LEVEL + 1) * (1 if levels.flat[0] < 128 else -1)
    return dataclasses.replace(golden, arrays={**golden.arrays, key: levels.astype(np.uint8)})


@pictures
@pytest.mark.parametrize("key", PICTURES)
def test_damage_is_seen(golden, key):
    with pytest.raises(AssertionError):
        PICTURES[key](damaged(golden, key))


@clips
@pytest.mark.parametrize(
    "key", [pytest.param(k, marks=() if k in FEW else pytest.mark.slow) for k in CLIPS]
)
def test_damage_to_clips_is_seen(golden, key):
    with pytest.raises(AssertionError):
        CLIPS[key](damaged(golden, key))


def without_effect(path, leaf, groups):
    """Softmax takes the same number off all keys; a norm of single channels takes a bias off."""
    return path.endswith("attention/k/bias") or (
        path.endswith("conv1/bias") and leaf.size == groups
    )


@both
def test_every_tensor_matters(golden):
    vae = vae_of(golden)
    params = flatten(params_of(golden, vae))
    for path, leaf in params.items():
        if not without_effect(path, leaf, vae.config.norm_num_groups):
            forgotten = unflatten({**params, path: jnp.zeros_like(leaf)})
            seen = observed(golden, vae, forgotten).values()
            assert max(deviation(got, want) for got, want in seen) > FORGOTTEN, path
