"""Pools, padding, norms and resizing of the networks of metrics, against their definitions."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from skipdit_jax.evaluation.networks import pixels
from skipdit_jax.evaluation.networks.blocks import (
    FixedNorm,
    NormedConvolution,
    average_pool,
    same_padding,
)
from skipdit_jax.layers.convolution import Convolution, convolve


def maps(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def mean_of_windows(x, window, keep):
    """Every window by itself, cut at the edges."""
    grid = x.shape[1:-1]
    reach = [n // 2 if keep else 0 for n in window]
    starts = [range(-r, n + r - w + 1) for n, w, r in zip(grid, window, reach, strict=True)]
    out = np.empty((len(x), *map(len, starts), x.shape[-1]))
    for place in itertools.product(*(range(len(one)) for one in starts)):
        at = [one[i] for one, i in zip(starts, place, strict=True)]
        cut = tuple(slice(max(a, 0), a + w) for a, w in zip(at, window, strict=True))
        axes = tuple(range(1, x.ndim - 1))
        out[(slice(None), *place)] = x[(slice(None), *cut)].mean(axis=axes, dtype=np.float64)
    return out


@pytest.mark.parametrize(
    ("grid", "window", "keep"),
    [
        ((5, 7), (3, 3), True),
        ((5, 7), (3, 3), False),
        ((2, 2), (3, 5), True),
        ((6, 5), (2, 4), False),
        ((4, 3, 5), (2, 3, 3), False),
        ((4, 3, 5), (3, 1, 3), True),
        ((2, 7, 7), (2, 7, 7), False),
    ],
)
def test_averages_are_those_of_what_lies_inside_each_window(grid, window, keep):
    x = maps(2, *grid, 3)
    found = average_pool(jnp.asarray(x), window, keep)
    assert found.dtype == jnp.float32
    wanted = mean_of_windows(x, window, keep)
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_averages_of_ones_are_ones_in_bfloat16_too():
    ones = jnp.ones((1, 5, 5, 2), jnp.bfloat16)
    found = average_pool(ones, (3, 3), keep=True)
    assert found.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(found, np.float32), 1, rtol=1e-2)


@pytest.mark.parametrize(
    ("grid", "size", "stride", "wanted"),
    [  # by the formula of tensorflow.org/api_docs/python/tf/nn, "Notes on padding"
        ((224,), (7,), (2,), (2, 3)),  # not divisible: max(7 - 2, 0) in all, the larger half behind
        ((5,), (3,), (2,), (1, 1)),  # 5 % 2 = 1: max(3 - 1, 0)
        ((4,), (3,), (2,), (0, 1)),
        ((6,), (3,), (1,), (1, 1)),
        ((7,), (2,), (1,), (0, 1)),
        ((8,), (1,), (2,), (0, 0)),  # never less than none
        ((9,), (2,), (4,), (0, 1)),
    ],
)
def test_same_padding_by_hand(grid, size, stride, wanted):
    assert list(same_padding(grid, size, stride)) == [wanted]


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_same_padding_is_the_one_that_xla_calls_same(size, stride):
    for length in range(1, 12):
        window, step = (size, size), (stride, stride)
        found = list(same_padding((length, length + 3), window, step))
        wanted = jax.lax.padtype_to_pads((length, length + 3), window, step, "SAME")
        assert found == [tuple(map(int, pair)) for pair in wanted]


def places(size, wanted, half_pixels):
    """What each new pixel of a line takes of the old ones: a line with a colour for each pixel."""
    line = jnp.eye(size)[None, :, None]
    return np.asarray(pixels.resize(line, wanted, 1, half_pixels))[0, :, 0]


@pytest.mark.parametrize("half_pixels", [False, True])
def test_the_same_size_is_a_copy(half_pixels):
    x = maps(2, 5, 6, 3)
    np.testing.assert_array_equal(pixels.resize(jnp.asarray(x), 5, 6, half_pixels), x)
    np.testing.assert_array_equal(places(7, 7, half_pixels), np.eye(7))


@pytest.mark.parametrize("half_pixels", [False, True])
@pytest.mark.parametrize(("size", "wanted"), [(3, 8), (8, 3), (5, 299), (1, 4), (64, 299), (7, 1)])
def test_weights_of_a_line_are_shares(size, wanted, half_pixels):
    found = places(size, wanted, half_pixels)
    assert found.min() >= 0
    assert (found > 0).sum(axis=1).max() <= 2
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(
        pixels.resize(jnp.full((1, size, 4, 1), 7.5), wanted, 9, half_pixels), 7.5, rtol=1e-6
    )


@pytest.mark.parametrize(("size", "wanted"), [(6, 18), (18, 6), (32, 75)])
def test_ramps_stay_ramps(size, wanted):
    """Inside: where a new pixel lies between two old ones, (1) gives the ramp at its place."""
    ramp = np.arange(size, dtype=np.float32)
    i = np.arange(wanted)
    for half_pixels, at in (
        (False, i * size / wanted),
        (True, (i + 0.5) * size / wanted - 0.5),
    ):
        found = places(size, wanted, half_pixels) @ ramp
        inside = (at >= 0) & (at <= size - 1)
        assert inside.mean() > 0.8
        np.testing.assert_allclose(found[inside], at[inside], atol=1e-4)
        np.testing.assert_allclose(found[~inside], np.clip(at, 0, size - 1)[~inside], atol=1e-4)


def test_doubling_by_hand():
    line = np.array([0.0, 4.0], np.float32)
    np.testing.assert_allclose(places(2, 4, False) @ line, [0, 2, 4, 4])
    np.testing.assert_allclose(places(2, 4, True) @ line, [0, 1, 3, 4])


def test_rows_and_columns_are_resized_each_by_itself():
    x = maps(1, 4, 5, 2)
    found = pixels.resize(jnp.asarray(x), 7, 3, True)
    wanted = np.einsum("hy,wx,byxc->bhwc", places(4, 7, True), places(5, 3, True), x)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rule", pixels.RULES)
def test_grey_pictures_are_those_of_three_equal_channels(rule):
    grey = np.random.default_rng(0).integers(0, 256, (2, 6, 6, 1), np.uint8)
    colour = np.repeat(grey, 3, axis=-1)
    one, three = (pixels.for_inception(jnp.asarray(x), rule) for x in (grey, colour))
    np.testing.assert_array_equal(one, three)
    assert float(jnp.abs(one).max()) <= 1


def test_clips_are_scaled_by_their_shorter_side_and_cut_to_the_middle():
    wide = np.zeros((1, 2, 4, 12, 1), np.float32)
    wide[:, :, :, 4:8] = 1
    found = np.asarray(pixels.for_i3d(jnp.asarray(wide)))
    assert found.shape == (1, 2, 224, 224, 3)
    np.testing.assert_allclose(found[:, :, :, 60:160], 1, atol=1e-6)
    np.testing.assert_allclose(found, found[:, :, :, ::-1], atol=1e-6)  # the middle is the middle


@pytest.mark.parametrize("use_scale", [True, False])
@pytest.mark.parametrize("grid", [(6, 5), (3, 6, 5)])
def test_a_norm_inside_the_kernel_is_the_norm_behind_the_convolution(grid, use_scale):
    size, channels, features = (3,) * len(grid), 4, 5
    x = jnp.asarray(maps(2, *grid, channels))
    layer = NormedConvolution(features, size, 2, ((0, 0),) * len(grid), use_scale=use_scale)
    shapes = jax.eval_shape(layer.init, jax.random.key(0), x)["params"]
    rng = np.random.default_rng(1)
    params = jax.tree.map(
        lambda leaf: jnp.asarray(rng.uniform(0.5, 1.5, leaf.shape), jnp.float32), shapes
    )
    plain = convolve(x, params["kernel"], 2, ((0, 0),) * len(grid))
    known = {name: np.asarray(leaf, np.float64) for name, leaf in params["norm"].items()}
    assert ("scale" in known) == use_scale
    wanted = (np.asarray(plain, np.float64) - known["mean"]) / np.sqrt(known["variance"] + 1e-3)
    wanted = np.maximum(wanted * known.get("scale", np.ones(features)) + known["bias"], 0)
    found = layer.apply({"params": params}, x)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
    factor, offset = FixedNorm(1e-3, use_scale).apply({"params": params["norm"]}, features)
    alone = np.asarray(plain) * np.asarray(factor) + np.asarray(offset)
    np.testing.assert_allclose(np.maximum(alone, 0), found, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("axes", [2, 3])
def test_strides_take_every_other_place(axes):
    x = jnp.asarray(maps(2, *(7, 9, 5)[:axes], 3))
    kernel = jnp.asarray(maps(*(3,) * axes, 3, 2, seed=1))
    full = convolve(x, kernel)
    every = (slice(None), *(slice(None, None, 2),) * axes)
    found = convolve(x, kernel, 2, ((1, 1),) * axes)
    np.testing.assert_allclose(found, full[every], rtol=1e-4, atol=1e-5)


def test_a_bias_is_added_where_there_is_one():
    x, kernel = jnp.asarray(maps(1, 4, 4, 2)), jnp.asarray(maps(1, 1, 2, 3))
    bias = jnp.array([1.0, -2.0, 3.0], jnp.float32)
    found = Convolution(3, (1, 1)).apply({"params": {"kernel": kernel, "bias": bias}}, x)
    without = Convolution(3, (1, 1), use_bias=False).apply({"params": {"kernel": kernel}}, x)
    np.testing.assert_allclose(found - without, np.broadcast_to(bias, found.shape), atol=1e-6)
