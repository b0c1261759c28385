"""A small PyTorch twin of InceptionV3 as of FID, for benchmarks only.

Eager modules under the names of its published file, built from the specification's table of
branches; weights come through the library's own table.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from skipdit_jax.checkpoints.rules import tensor_entries
from skipdit_jax.checkpoints.rules_metrics import inception_rules
from skipdit_jax.evaluation.networks import inception as ours
from skipdit_jax.evaluation.networks.blocks import Branch, Fork, Unit
from skipdit_jax.trees import flatten

POOLS = {
    ours.average: nn.AvgPool2d(3, 1, 1, count_include_pad=False),
    ours.largest: nn.MaxPool2d(3, 1, 1),
    ours.halve: nn.MaxPool2d(3, 2),
}
STEM = {"Conv2d_1a_3x3": (3, 32, 3, 2, 0), "Conv2d_2a_3x3": (32, 32, 3, 1, 0)}
STEM |= {"Conv2d_2b_3x3": (32, 64, 3, 1, 1), "Conv2d_3b_1x1": (64, 80, 1, 1, 0)}
STEM |= {"Conv2d_4a_3x3": (80, 192, 3, 1, 0)}
POOLED = ("Conv2d_2b_3x3", "Conv2d_4a_3x3")


class _Convolution(nn.Module):
    def __init__(self, inputs: int, outputs: int, size: Any, stride: int, padding: Any):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, size, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=ours.EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.bn(self.conv(x)), inplace=True)


class _Mixed(nn.Module):
    def __init__(self, branches: tuple[Branch, ...], inputs: int):
        super().__init__()
        self.branches, self.outputs = branches, 0
        for branch in branches:
            width = inputs
            for part in branch:
                units = part.units if isinstance(part, Fork) else (part,)
                if isinstance(units[0], Unit):
                    for unit in units:
                        self.add_module(unit.name, _unit(unit, width))
                    width = sum(unit.features for unit in units)
            self.outputs += width

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self._branch(branch, x) for branch in self.branches], dim=1)

    def _branch(self, branch: Branch, x: Tensor) -> Tensor:
        for part in branch:
            if isinstance(part, Unit):
                x = getattr(self, part.name)(x)
            elif isinstance(part, Fork):
                x = torch.cat([getattr(self, unit.name)(x) for unit in part.units], dim=1)
            else:
                x = POOLS[part](x)
        return x


def _unit(unit: Unit, inputs: int) -> _Convolution:
    padding = 0 if unit.stride > 1 else tuple(n // 2 for n in unit.size)
    return _Convolution(inputs, unit.features, unit.size, unit.stride, padding)


class Twin(nn.Module):
    """Pixels [B,3,H,W] to (pool, spatial, logits)."""

    def __init__(self) -> None:
        super().__init__()
        for name, sizes in STEM.items():
            self.add_module(name, _Convolution(*sizes))
        width = STEM["Conv2d_4a_3x3"][1]
        for name, branches in ours.MIXED.items():
            mixed = _Mixed(branches, width)
            self.add_module(name, mixed)
            width = mixed.outputs
        self.fc = nn.Linear(width, ours.CLASSES, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        for name in STEM:
            x = getattr(self, name)(x)
            x = POOLS[ours.halve](x) if name in POOLED else x
        for name in ours.MIXED:
            x = getattr(self, name)(x)
            if name == ours.SPATIAL_BLOCK:
                spatial = x[:, : ours.SPATIAL_CHANNELS].permute(0, 2, 3, 1).flatten(1)
        pool = x.mean(dim=(2, 3))
        return pool, spatial, self.fc(pool)


def inception_twin(params: Mapping[str, Any]) -> Twin:
    """The twin with these weights, ready to evaluate."""
    twin, leaves = Twin(), flatten(params)
    entries = tensor_entries(inception_rules({}), params)
    state = {
        name: torch.from_numpy(np.array(entry.transform.to_torch(np.asarray(leaves[entry.path]))))
        for name, entry in entries.items()
    }
    missing, surplus = twin.load_state_dict(state, strict=False)
    if surplus or any("num_batches_tracked" not in name for name in missing):
        raise ValueError(f"twin: missing {missing}, surplus {surplus}")
    return twin.eval()
