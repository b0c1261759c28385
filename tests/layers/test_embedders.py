"""Tables and patches by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from skipdit_jax.layers.embedders import patchify, timestep_frequencies, unpatchify
from skipdit_jax.layers.positions import sincos_1d, sincos_2d


def test_patches_are_row_column_channel():
    x = jnp.arange(2 * 4 * 6 * 3.0).reshape(2, 4, 6, 3)
    tokens = np.asarray(patchify(x, 2))
    assert tokens.shape == (2, 6, 12)
    second = np.asarray(x)[0, 0:2, 2:4]  # row 0, column 1 of the patch grid
    assert np.array_equal(tokens[0, 1], second.reshape(-1))


def test_unpatchify_is_the_inverse():
    x = jnp.arange(2 * 4 * 6 * 3.0).reshape(2, 4, 6, 3)
    assert np.array_equal(unpatchify(patchify(x, 2), 4, 6, 2), x)


def test_positions_encode_column_then_row():
    table = sincos_2d(2, 3, 8)
    row, column = 1, 2
    want = [sincos_1d(np.array([float(axis)]), 4)[0] for axis in (column, row)]
    assert table.shape == (6, 8)
    np.testing.assert_allclose(table[row * 3 + column], np.concatenate(want), atol=1e-7)
    assert np.array_equal(table[0], [0, 0, 1, 1] * 2)


def test_odd_widths_are_refused():
    with pytest.raises(ValueError, match="multiple of 4"):
        sincos_2d(2, 2, 6)


def test_frequencies_fall_from_one_to_the_period():
    frequencies = timestep_frequencies()
    assert frequencies[0] == 1
    ratios = np.diff(np.log(frequencies.astype(np.float64)))
    np.testing.assert_allclose(ratios, -np.log(10_000) / 128, rtol=1e-4)
