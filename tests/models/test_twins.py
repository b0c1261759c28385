"""Our models against the eager ones of the benchmark, which PyTorch runs: other implementations."""

import re

import numpy as np
import pytest

import skipdit_jax as sd
from benchmarks.weights import scaled_params
from skipdit_jax.trees import flatten, unflatten
from tests.networks import apply

CLOSE = 5e-5  # cosines of t near 999 differ by 2e-5 and more between libraries in float32
SMALL = {"hidden_size": 48, "num_heads": 2, "depth": 4, "input_size": (8, 12)}
TEXT = {**SMALL, "text_width": 24, "text_tokens": 7}
TWO_TEXTS = {**TEXT, "depth": 6, "t5_width": 32, "t5_tokens": 9, "pooled_width": 20}
UNSEEN = ("/k/bias", "cross_attn/k_norm/bias")
"""Alike for all keys: softmax ignores them, where they are not turned."""
CASES = {
    "DiT-S/2-skip": SMALL,
    "PixArt-S/2": {**TEXT, "sample_size": 8},
    "PixArt-S/2-skip": {**TEXT, "sample_size": 128, "size_condition": True},
    "LatteT2V-S/2": {**TEXT, "num_frames": 1},
    "LatteT2V-S/2-skip": {**TEXT, "num_frames": 3},
    "HunYuan-DiT-g/2": TWO_TEXTS,
    "HunYuan-DiT-g/2-v1.1": {**TWO_TEXTS, "input_size": (12, 8)},
}


@pytest.fixture(scope="module")
def forward():
    torch = pytest.importorskip("torch", reason="torch is not installed (requirements-torch.txt)")
    from benchmarks import forward

    with torch.inference_mode():
        yield forward


@pytest.fixture(params=CASES)
def rivals(request, forward):
    """(model, its parameters, the twin, inputs of two rows)."""
    model = sd.create_model(request.param, **CASES[request.param])
    params = scaled_params(model)
    return model, params, forward.twin_of(model, params), forward.inputs_of(model, 2)


def test_a_twin_computes_the_same_function(rivals, forward):
    model, params, twin, inputs = rivals
    theirs = twin(*forward.torch_inputs(*inputs))
    assert forward.deviation(apply(model, params, *inputs), theirs) < CLOSE


def test_every_tensor_is_read(rivals, forward):
    """A tensor that either side left out would make the comparison blind to it."""
    model, params, twin, inputs = rivals
    theirs = twin(*forward.torch_inputs(*inputs))
    leaves, rng = flatten(params), np.random.default_rng(2)
    for path, leaf in leaves.items():
        if path.endswith(UNSEEN) or _of_one_frame(model, path):
            continue
        noise = rng.standard_normal(leaf.shape, np.float32)
        other = unflatten({**leaves, path: leaf + noise})
        assert forward.deviation(apply(model, other, *inputs), theirs) > CLOSE, path


def _of_one_frame(model, path):
    """Whether it only says how much of one frame the same frame sees."""
    return model.sample_shape[0] == 1 and re.search(r"temporal_blocks_\d+/attn/[qk]/", path)


def test_the_benchmark_runs(forward):
    rows = forward.measure(quick=True, rounds=1, threads=1)
    assert {row["model"].split()[0] for row in rows} == {name for name, _, _ in forward.QUICK_CASES}
    for row in rows:
        ratio = row["ours ms (median)"] / row["torch ms (median)"]
        assert row["ratio (median)"] == pytest.approx(ratio)
