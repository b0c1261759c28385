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
CARD_BYTES = 141e9  # NVIDIA H200 data sheet


@pytest.fixture(scope="module", params=[("inception", "float32"), ("i3d", "bfloat16")], ids=str)
def compiled(request, tmp_path_factory):
    """(figures, every instruction, shapes of the kernels)."""
    name, dtype = request.param
    command = ("benchmarks.metrics", "--dtype", dtype)
    figures, program = Compiler(tmp_path_factory, *command)(name)
    leaves = flatten(abstract_params(metrics.made_of(name, dtype)[0]))
    kernels = [leaf.size for path, leaf in leaves.items() if path.endswith("kernel")]
    lines = [line for body in program.computations.values() for line in body]
    return figures, lines, kernels


def test_every_convolution_is_one_call_with_its_norm_and_relu(compiled):
    _, lines, kernels = compiled
    assert hlo.count(lines, FUSED) == len(kernels) - 1  # the last one makes logits
    assert [hlo.count(lines, name) for name in PLAIN] == [0, 0]


def test_the_published_batch_fits(compiled):
    figures, _, _ = compiled
    assert figures["temp_bytes"] + figures["argument_bytes"] < CARD_BYTES / 2
