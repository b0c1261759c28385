"""A file with the layout of a published training checkpoint, {model, ema, opt, args}."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import numpy as np

from skipdit_jax.checkpoints.arrays import ArraySpec
from skipdit_jax.checkpoints.export import torch_tensors
from skipdit_jax.checkpoints.torch_write import write_torch_file
from skipdit_jax.registry import abstract_params, layout_of
from skipdit_jax.trees import flatten

FLOAT = np.dtype(np.float32)
RATE = 1e-4  # of learning: only so that the file has such an entry


def write_training_file(path: Path, model: nn.Module) -> None:
    """Writes random averaged weights, and zeros for the weights and both moments of AdamW.

    What is not read may be zero: only its size counts.
    """
    config, family = dataclasses.asdict(model.config), layout_of(model)
    generator = np.random.default_rng(0)
    leaves = {
        name: ArraySpec(
            leaf.shape, FLOAT, lambda s=leaf.shape: generator.standard_normal(s, np.float32)
        )
        for name, leaf in flatten(abstract_params(model)).items()
    }
    ema = torch_tensors(leaves, config, family)
    trained = {n: spec for n, spec in ema.items() if n not in family.fixed_tables(config)}
    content = {
        "model": _zeros(ema),
        "ema": ema,
        "opt": _adamw(trained),
        "args": {"lr": RATE, "global_seed": 0, "image_size": None},
    }
    write_torch_file(path, content)


def _adamw(trained: Mapping[str, ArraySpec]) -> dict[str, Any]:
    """What `torch.optim.AdamW.state_dict` returns."""
    moments = zip(_zeros(trained).values(), _zeros(trained).values(), strict=True)
    state = {
        number: {"step": _zero(()), "exp_avg": first, "exp_avg_sq": second}
        for number, (first, second) in enumerate(moments)
    }
    return {"state": state, "param_groups": [{"lr": RATE, "params": list(state)}]}


def _zeros(tensors: Mapping[str, ArraySpec]) -> dict[str, ArraySpec]:
    return {name: _zero(spec.shape) for name, spec in tensors.items()}


def _zero(shape: tuple[int, ...]) -> ArraySpec:
    return ArraySpec(shape, FLOAT, lambda: np.zeros(shape, FLOAT))
