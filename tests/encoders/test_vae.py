"""What must hold of an autoencoder with any weights: slices, chunks, tiles, sizes, types."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from skipdit_jax.encoders.blocks import group_norm, upsample
from skipdit_jax.encoders.pixels import (
    DecodeOptions,
    _in_chunks,
    _in_tiles,
    blend_weights,
    decode_latents,
    encode_pixels,
    tile_starts,
)
from skipdit_jax.encoders.vae import Moments, sample_moments
from skipdit_jax.layers.convolution import Convolution
from skipdit_jax.registry import AUTOENCODERS
from tests.distributed.processes import run_module
from tests.encoders.tiny import TINY, make
from tests.parity.goldens import deviation

BFLOAT16 = 2e-2  # a few roundings to 8 bits; measured 1.1e-2
SUMS = 1e-5  # other shapes, other orders of summation; measured 1e-6


@functools.lru_cache(maxsize=1)
def drawn():
    """Latents of four pictures."""
    return jax.random.normal(jax.random.key(0), (4, 6, 10, 4))


@functools.lru_cache(maxsize=1)
def whole():
    """What they decode to."""
    vae, params = make("vae")
    return np.asarray(decode_latents(vae, params, drawn()))


def test_slices_of_the_batch_change_nothing():
    vae, params = make("vae")
    got = decode_latents(vae, params, drawn(), DecodeOptions(rows=2))
    assert deviation(got, whole()) <= SUMS


def test_slices_need_less_memory():
    vae, params = make("vae")
    latents = jax.ShapeDtypeStruct((16, 8, 8, 4), jnp.float32)

    def scratch(rows):
        lowered = decode_latents.lower(vae, params, latents, DecodeOptions(rows=rows))
        return lowered.compile().memory_analysis().temp_size_in_bytes

    assert scratch(1) < scratch(None) / 4


def test_rows_that_do_not_divide_the_batch_are_told():
    vae, params = make("vae")
    with pytest.raises(ValueError, match="4 rows cannot be split into slices of 3"):
        decode_latents(vae, params, drawn(), DecodeOptions(rows=3))


def test_one_tile_is_the_whole():
    vae, params = make("vae")
    got = decode_latents(vae, params, drawn(), DecodeOptions(tile=10, overlap=3))
    assert np.array_equal(got, whole())


def test_tiles_of_a_local_function_are_exact():
    """Where a pixel depends on its latent only, cutting and blending must not show."""
    z = drawn()
    for tile, overlap in ((4, 1), (5, 4), (3, 0)):
        got = jax.jit(_in_tiles(upsample, tile, overlap, 2))(z)
        np.testing.assert_allclose(got, upsample(z), rtol=1e-6, atol=1e-6)


def test_tiles_come_near_the_whole():
    """Group norms of a tile are not those of the picture; the middle of random weights is kept."""
    vae, params = make("vae")
    errors = [
        np.sqrt(np.mean((decode_latents(vae, params, drawn(), options) - whole()) ** 2))
        / np.std(whole())
        for options in (DecodeOptions(tile=3, overlap=1), DecodeOptions(tile=6, overlap=4))
    ]
    assert errors[1] < errors[0]
    assert errors[1] < 0.2  # measured 0.10


@pytest.mark.parametrize(
    ("size", "tile", "overlap"), [(17, 6, 2), (7, 6, 5), (64, 16, 0), (5, 9, 3)]
)
def test_tiles_cover_everything_with_weights_of_one(size, tile, overlap):
    starts, side = tile_starts(size, tile, overlap), min(tile, size)
    assert starts[0] == 0
    assert starts[-1] + side == size
    assert all(side - step >= overlap for step in np.diff(starts))
    total = np.zeros(size)
    for start, weights in zip(starts, blend_weights(starts, side, size), strict=True):
        total[start : start + side] += weights
    np.testing.assert_allclose(total, 1, rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rows": 0}, "rows is 0"),
        ({"frames": 0}, "frames is 0"),
        ({"tile": 0}, "tile is 0"),
        ({"tile": 8, "overlap": 8}, "overlap is 8, wanted 0 or more and less than tile 8"),
    ],
)
def test_impossible_options_are_told(options, words):
    with pytest.raises(ValueError, match=words):
        DecodeOptions(**options)


def test_chunks_of_frames_do_not_see_each_other():
    def decode(clip):
        return clip - jnp.mean(clip, axis=1, keepdims=True)

    clip = jax.random.normal(jax.random.key(0), (2, 7, 3, 2, 1))
    for chunk in (2, 6, 9):
        parts = [decode(clip[:, i : i + chunk]) for i in range(0, 7, chunk)]
        got = jax.jit(_in_chunks(decode, chunk))(clip)
        np.testing.assert_allclose(got, np.concatenate(parts, axis=1), atol=1e-6)


def test_frames_of_pictures_are_decoded_by_themselves():
    vae, params = make("vae")
    clips = drawn().reshape(2, 2, 6, 10, 4)
    got = decode_latents(vae, params, clips, DecodeOptions(rows=1))
    assert got.shape == (2, 2, 12, 20, 3)
    assert deviation(np.reshape(got, whole().shape), whole()) <= SUMS
    pixels = jnp.asarray(whole())
    moments = encode_pixels(vae, params, pixels)
    by_frame = encode_pixels(vae, params, pixels.reshape(2, 2, 12, 20, 3), rows=2)
    for one, other in zip(moments, by_frame, strict=True):
        assert deviation(np.reshape(other, one.shape), one) <= SUMS


def test_bfloat16_is_near_float32():
    vae, _ = make("vae", dtype="bfloat16")
    _, params = make("vae")
    got = decode_latents(vae, params, drawn())
    assert got.dtype == jnp.float32
    error = np.sqrt(np.mean((got - whole()) ** 2)) / np.std(whole())
    assert 0 < error < BFLOAT16
    moments = jax.eval_shape(lambda: encode_pixels(vae, params, jnp.asarray(whole())))
    assert {leaf.dtype for leaf in moments} == {np.dtype("float32")}


@pytest.mark.parametrize("size", [(7, 10), (2, 3)])
def test_sides_need_no_factor(size):
    """A rest of a side that fills no latent falls away, as in the published convolution."""
    vae, params = make("vae")
    pixels = jax.random.normal(jax.random.key(1), (1, *size, 3))
    moments = encode_pixels(vae, params, pixels)
    assert moments.mean.shape == (1, size[0] // 2, size[1] // 2, 4)
    assert np.isfinite(moments.mean).all()


def test_the_stride_begins_at_the_first_pixel():
    """A kernel that picks its first place keeps the even rows; its last, those two further on."""
    x = jax.random.normal(jax.random.key(2), (1, 7, 6, 1))
    convolution = Convolution(1, stride=2, padding=((0, 1), (0, 1)))
    zeros = jnp.zeros((3, 3, 1, 1))

    def picked(place):
        params = {"kernel": zeros.at[place, place].set(1.0), "bias": jnp.zeros(1)}
        return convolution.apply({"params": params}, x)[0, :, :, 0]

    np.testing.assert_allclose(picked(0), x[0, 0:6:2, 0:6:2, 0], atol=1e-6)
    padded = np.pad(x[0, :, :, 0], ((0, 1), (0, 1)))
    np.testing.assert_allclose(picked(2), padded[2:8:2, 2:8:2], atol=1e-6)


def test_group_norm_normalises_each_group():
    x = jnp.asarray(np.random.default_rng(3).normal(3, 5, (2, 4, 5, 6, 8)), jnp.float32)
    out = np.asarray(group_norm(x, 2, 2, 0.0)).reshape(2, 4, 30, 2, 4)
    np.testing.assert_allclose(out.mean(axis=(2, 4)), 0, atol=1e-5)
    np.testing.assert_allclose(out.var(axis=(2, 4)), 1, rtol=1e-5)
    along = np.asarray(group_norm(x, 2, 3, 0.0)).reshape(2, 120, 2, 4)
    np.testing.assert_allclose(along.mean(axis=(1, 3)), 0, atol=1e-5)


def test_draws_have_the_moments():
    moments = Moments(jnp.full((1, 50, 50, 4), 2.0), jnp.full((1, 50, 50, 4), -1.0))
    drawn = np.asarray(sample_moments(moments, jax.random.key(0)))
    assert abs(drawn.mean() - 2) < 0.02
    assert abs(drawn.var() / np.exp(-1) - 1) < 0.05


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"latent_channels": 0}, "latent_channels is 0, wanted 1 or more"),
        ({"block_out_channels": ()}, "block_out_channels is ()"),
        ({"block_out_channels": (8, 10)}, "wanted multiples of norm_num_groups 4"),
        ({"scaling_factor": 0.0}, "scaling_factor is 0.0, wanted above 0"),
        ({"dtype": "float16"}, "dtype is 'float16'"),
    ],
)
@pytest.mark.parametrize("family", AUTOENCODERS)
def test_configs_that_describe_nothing_are_told(family, changes, words):
    config = AUTOENCODERS[family].config
    with pytest.raises(ValueError, match=config.FAMILY) as told:
        config(**{**TINY, **changes})
    assert words in str(told.value)


def test_a_temporal_decoder_needs_two_blocks_around_its_attention():
    with pytest.raises(ValueError, match="layers_per_block is 1, wanted 2 or more"):
        make("vae_temporal", layers_per_block=1)


@pytest.mark.parametrize(
    ("family", "method", "shape", "words"),
    [
        ("vae", "encode", (1, 8, 8, 4), "wanted 3 channels"),
        ("vae", "encode", (1, 1, 8, 3), "sides of 2 or more"),
        ("vae", "encode", (8, 8, 3), r"wanted \[B,H,W,C\]"),
        ("vae", "decode", (1, 8, 8, 3), "wanted 4 channels"),
        ("vae_temporal", "decode", (1, 8, 8, 4), r"wanted \[B,F,h,w,c\]"),
    ],
)
def test_other_inputs_are_told(family, method, shape, words):
    vae, params = make(family)
    with pytest.raises(ValueError, match=words):
        vae.apply({"params": params}, jnp.zeros(shape), method=method)


def test_a_batch_split_over_devices_is_decoded_where_it_lies():
    """All rows at once, or one on each device at a time: no device waits for another."""
    for found in json.loads(run_module("tests.encoders.sharded", devices=2)).values():
        assert found["deviation"] <= SUMS
        assert found["rows"] == [2, 2]
        assert not found["messages"]
