"""Attention: every implementation is the same function, and a choice is kept."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from skipdit_jax.layers.attention import attend, resolve


def heads(dtype=jnp.float32):
    keys = jax.random.split(jax.random.key(0), 3)
    return [jax.random.normal(key, (2, 5, 3, 8), dtype) for key in keys]


@pytest.mark.parametrize(("dtype", "atol"), [(jnp.float32, 1e-6), (jnp.bfloat16, 2e-2)])
def test_implementations_agree(dtype, atol):
    q, k, v = heads(dtype)
    fold, xla = attend(q, k, v, "fold"), attend(q, k, v, "xla")
    assert fold.dtype == xla.dtype == dtype
    np.testing.assert_allclose(*(np.asarray(a, np.float32) for a in (fold, xla)), atol=atol)


def test_uniform_weights_average_the_values():
    _, k, v = heads()
    out = attend(jnp.zeros_like(k), k, v, "fold")
    mean = np.broadcast_to(np.mean(v, axis=1, keepdims=True), out.shape)
    np.testing.assert_allclose(out, mean, atol=1e-6)


def test_softmax_is_float32_under_bfloat16():
    """Logits of 300 overflow no exponential, and 255 equal weights still sum to one."""
    q, k, v = (jnp.full((1, 255, 1, 8), fill, jnp.bfloat16) for fill in (10.0, 10.0, 1.0))
    out = attend(q, k, v, "fold")
    assert out.dtype == jnp.bfloat16
    assert np.all(np.asarray(out, np.float32) == 1.0)


@pytest.mark.parametrize(
    ("platform", "dtype", "dim", "chosen"),
    [
        ("cpu", jnp.float32, 72, "fold"),
        ("gpu", jnp.bfloat16, 72, "cudnn"),
        ("gpu", jnp.bfloat16, 20, "xla"),
        ("gpu", jnp.bfloat16, 136, "xla"),
        ("gpu", jnp.float32, 72, "xla"),
        ("tpu", jnp.bfloat16, 72, "xla"),
    ],
)
def test_auto_takes_the_fastest_that_runs(platform, dtype, dim, chosen):
    assert resolve("auto", platform, dtype, dim) == chosen


def test_an_explicit_choice_never_falls_back():
    q, k, v = heads(jnp.bfloat16)
    assert resolve("cudnn", "cpu", jnp.bfloat16, 8) == "cudnn"
    with pytest.raises((RuntimeError, ValueError, NotImplementedError), match=r"(?i)cudnn"):
        jax.block_until_ready(attend(q, k, v, "cudnn"))


def test_unknown_implementation():
    with pytest.raises(ValueError, match="auto, xla, cudnn, fold"):
        resolve("flash", "cpu", jnp.float32, 8)
