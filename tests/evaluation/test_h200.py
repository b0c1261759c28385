"""Networks of metrics compiled for an H200, without one: run with `pytest -m h200`."""

import pytest

from benchmarks import metrics
from skipdit_jax.registry import abstract_params
from skipdit_jax.trees import flatten
from tests.caching import hlo
from tests.caching.on_h200 import MARKS, Compiler

pytestmark = MARKS
FUSED = "__cudnn$convBiasActivationForward"
PLAIN = ("convolution", "__cudnn$convForward")
# Type, and convolutions whose kernel is larger than what they read: their output is scaled.
NETWORKS = {"inception": ("float32", 0), "i3d": ("bfloat16", 4)}
CARD_BYTES = 141e9  # NVIDIA H200 data sheet


@pytest.fixture(scope="module", params=NETWORKS)
def compiled(request, tmp_path_factory):
    """(figures, every instruction, convolutions, how many of them are scaled after)."""
    name, (dtype, after) = request.param, NETWORKS[request.param]
    command = ("benchmarks.metrics", "--dtype", dtype)
    figures, program = Compiler(tmp_path_factory, *command)(name)
    leaves = flatten(abstract_params(metrics.made_of(name, dtype)[0]))
    kernels = sum(path.endswith("kernel") and leaf.ndim > 2 for path, leaf in leaves.items())
    lines = [line for body in program.computations.values() for line in body]
    return figures, lines, kernels, after


def test_every_convolution_is_one_call_with_what_follows_it(compiled):
    _, lines, kernels, after = compiled
    assert hlo.count(lines, FUSED) == kernels - after
    assert sum(hlo.count(lines, name) for name in PLAIN) == after


def test_the_published_batch_fits(compiled):
    figures, *_ = compiled
    assert figures["temp_bytes"] + figures["argument_bytes"] < CARD_BYTES / 2
