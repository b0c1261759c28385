"""One full forward pass, float32, against PyTorch eager on the same cores."""

import jax
import numpy as np
import torch

import skipdit_jax as sd
from benchmarks.timing import interleaved
from benchmarks.torch_twin import torch_twin
from benchmarks.weights import random_params
from skipdit_jax.registry.samples import num_classes

CASES = (  # model, batch
    ("DiT-S/2", 4),
    ("DiT-S/2", 1),
    ("DiT-B/2", 4),
    ("DiT-B/2", 1),
    ("DiT-XL/2-skip", 2),
)
QUICK_CASES = (("DiT-S/2-skip", 1),)
MAX_DEVIATION = 1e-4  # of rms; float32 round-off of both sides is below 1e-5


def _inputs(model, batch: int):
    rng = np.random.default_rng(1)
    x = rng.standard_normal((batch, *model.sample_shape), np.float32)
    t = np.linspace(0, 999, batch, dtype=np.float32)
    return x, t, rng.integers(0, num_classes(model), batch).astype(np.int32)


def _rivals(name: str, batch: int):
    """Two calls of the same function on the same numbers, each returning [B,H,W,C] as numpy."""
    model = sd.create_model(name)
    params = random_params(model)
    x, t, y = _inputs(model, batch)
    forward = jax.jit(lambda params, *inputs: model.apply({"params": params}, *inputs))
    inputs = jax.device_put((x, t, y))
    twin = torch_twin(model.config, params)
    torch_inputs = [torch.from_numpy(a) for a in (x.transpose(0, 3, 1, 2).copy(), t, y)]

    @torch.inference_mode()
    def theirs():
        return twin(*torch_inputs)

    def ours():
        return forward(params, *inputs).block_until_ready()

    return ours, theirs


def _check(name: str, ours, theirs) -> float:
    got, want = np.asarray(ours()), theirs().numpy().transpose(0, 2, 3, 1)
    deviation = float(np.max(np.abs(got - want)) / np.sqrt(np.mean(np.square(want))))
    if deviation > MAX_DEVIATION:
        raise ValueError(f"{name}: the torch twin differs by {deviation:.1e} of rms")
    return deviation


def measure(quick: bool, rounds: int, threads: int) -> list[dict[str, object]]:
    """Rows of the table; ratio = ours / torch, at most 1 is wanted."""
    torch.set_num_threads(threads)
    rows = []
    for name, batch in QUICK_CASES if quick else CASES:
        ours, theirs = _rivals(name, batch)
        deviation = _check(name, ours, theirs)
        times = interleaved({"ours": ours, "torch": theirs}, rounds)
        mine, other = times["ours"], times["torch"]
        rows.append(
            {
                "model": name,
                "batch": batch,
                "ours ms (median)": 1e3 * mine.median,
                "torch ms (median)": 1e3 * other.median,
                "ratio (median)": mine.median / other.median,
                "ours ms (min)": 1e3 * mine.minimum,
                "torch ms (min)": 1e3 * other.minimum,
                "ratio (min)": mine.minimum / other.minimum,
                "deviation / rms": deviation,
            }
        )
    return rows
