"""Networks of metrics: InceptionV3 against PyTorch eager on a CPU, all of them for an absent H200.

    python -m benchmarks.metrics --model inception --dtype bfloat16

compiles a network and what makes bytes ready for it, in a process of its own (benchmarks/h200.py
says why and what it needs), and prints one line of JSON.
"""

import argparse
import json
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks import compiling, h200
from benchmarks.timing import interleaved, ours_and_torch

SIDE, CELLS = 256, 16  # pixels, and squares of one colour: noise looks alike to the last layers
BATCHES, QUICK_BATCHES = (1, 16, 64), (2,)
RULE = "pytorch-fid"  # its resize is torch's own
GAIN = 2**0.5  # of kernels before a ReLU: without it pictures are lost among the biases
MAX_DEVIATION = 1e-4  # of rms; float32 round-off of both sides is below 1e-5
LEVELS = {  # bytes that a network is given
    "inception": ((256, SIDE, SIDE, 3),),
    "i3d": ((16, 16, SIDE, SIDE, 3),),
    "lpips-vgg": ((64, SIDE, SIDE, 3),) * 2,
}
DTYPES = ("float32", "bfloat16")


def made_of(name: str, dtype: str = "float32"):
    """Returns (network, function of its parameters and of bytes)."""
    import jax.numpy as jnp

    from skipdit_jax.evaluation.networks import i3d, inception, lpips, pixels

    types = {"dtype": dtype, "param_dtype": dtype}
    network, ready = {
        "inception": (
            inception.InceptionV3(inception.InceptionConfig(**types)),
            lambda levels: pixels.for_inception(levels, RULE),
        ),
        "i3d": (
            i3d.I3D(i3d.I3DConfig(**types)),
            lambda levels: pixels.for_i3d(levels.astype(jnp.float32) / pixels.LEVELS),
        ),
        "lpips-vgg": (
            lpips.Lpips(lpips.LpipsConfig(trunk="vgg", **types)),
            lambda levels: 2 * levels.astype(jnp.float32) / pixels.LEVELS - 1,
        ),
    }[name]
    return network, lambda params, *levels: network.apply({"params": params}, *map(ready, levels))


def pictures(count: int) -> np.ndarray:
    """Squares of random colours, uint8 [count,SIDE,SIDE,3]."""
    coarse = np.random.default_rng(1).integers(0, 256, (count, CELLS, CELLS, 3), np.uint8)
    return coarse.repeat(SIDE // CELLS, axis=1).repeat(SIDE // CELLS, axis=2)


def rivals():
    """Functions of pictures that give (pool, spatial, logits): ours, compiled, and torch's two.

    torch computes faster or slower by where its channels stand; pytorch-fid has them first.
    """
    import jax
    import torch

    from benchmarks.torch_inception import inception_twin
    from benchmarks.weights import scaled_params

    network, function = made_of("inception")
    params = scaled_params(network, gain=GAIN)
    compiled = jax.jit(function)
    size = network.example_inputs()[0].shape[1:3]

    def ours(levels):
        return jax.block_until_ready(compiled(params, levels))[:3]

    def theirs(layout):
        twin = inception_twin(params).to(memory_format=layout)

        @torch.inference_mode()
        def call(levels):
            x = torch.from_numpy(levels).permute(0, 3, 1, 2).contiguous(memory_format=layout)
            x = torch.nn.functional.interpolate(x.float() / 255, size, mode="bilinear")
            return twin(2 * x - 1)

        return call

    first, last = theirs(torch.contiguous_format), theirs(torch.channels_last)
    return {"ours": ours, "channels first": first, "channels last": last}


def deviation(ours, theirs) -> float:
    """The largest difference over the rms of what torch gives, of all features."""
    pairs = [(np.asarray(a), b.numpy()) for a, b in zip(ours, theirs, strict=True)]
    return max(float(np.abs(a - b).max() / np.sqrt(np.mean(np.square(b)))) for a, b in pairs)


def measure(quick: bool, rounds: int, threads: int) -> list[dict[str, object]]:
    """Rows of the table, two for each batch; ratio = ours / torch, at most 1 is wanted.

    Args:
      quick: one small batch.
      rounds: of all in turn.
      threads: cores for torch.
    """
    import torch

    torch.set_num_threads(threads)
    functions = rivals()
    rows = []
    for batch in QUICK_BATCHES if quick else BATCHES:
        levels = pictures(batch)
        made = {name: function(levels) for name, function in functions.items()}
        times = interleaved({k: partial(f, levels) for k, f in functions.items()}, rounds)
        mine, want = times.pop("ours"), made.pop("ours")
        for layout, other in times.items():
            found = deviation(want, made[layout])
            if found > MAX_DEVIATION:
                raise ValueError(f"batch {batch}: the torch twin differs by {found:.1e} of rms")
            rows.append(
                {
                    "pictures": batch,
                    "torch": layout,
                    **ours_and_torch(mine, other),
                    "deviation / rms": found,
                }
            )
    return rows


def measure_h200(quick: bool) -> list[dict[str, object]]:
    """Rows of the table of compiled programs."""
    rows = []
    programs = [(name, dtype) for name in LEVELS for dtype in DTYPES]
    for name, dtype in programs[:1] if quick else programs:
        command = ("benchmarks.metrics", "--model", name, "--dtype", dtype)
        figures = compiling.in_fresh_process(*command)
        rows.append(
            {
                "network": name,
                "bytes read": " and ".join(str(list(shape)) for shape in LEVELS[name]),
                "dtype": dtype,
                "trace + lower s": figures["lower_s"],
                "compile s": figures["compile_s"],
                "temp MiB": figures["temp_bytes"] / compiling.MIB,
                "weights and inputs MiB": figures["argument_bytes"] / compiling.MIB,
                "TFLOP": figures["flops"] / 1e12,
            }
        )
    return rows


def compile_for_h200(name: str, dtype: str, text: Path | None) -> dict[str, float]:
    """Traces and compiles; seconds, bytes, and the FLOPs that XLA counts before optimising."""
    import jax

    from skipdit_jax.registry import abstract_params

    network, function = made_of(name, dtype)
    levels = [jax.ShapeDtypeStruct(shape, np.uint8) for shape in LEVELS[name]]
    arguments = abstract_params(network), *levels
    flops = jax.jit(function).lower(*arguments).cost_analysis()["flops"]
    start = time.perf_counter()
    lowered = jax.jit(function).lower(*h200.abstract(arguments))
    middle = time.perf_counter()
    compiled = lowered.compile()
    done, memory = time.perf_counter(), compiled.memory_analysis()
    if text is not None:
        text.write_text(compiled.as_text())
    return {
        "lower_s": middle - start,
        "compile_s": done - middle,
        "temp_bytes": memory.temp_size_in_bytes,
        "argument_bytes": memory.argument_size_in_bytes,
        "output_bytes": memory.output_size_in_bytes,
        "flops": flops,
    }


def main() -> None:
    """Compiles one network and prints its figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=LEVELS, default="inception")
    parser.add_argument("--dtype", choices=DTYPES, default="bfloat16")
    parser.add_argument("--hlo", type=Path, help="file for the text of the compiled program")
    options = parser.parse_args()
    if not h200.available():
        sys.exit(f"benchmarks.metrics: no compiler for an H200; {h200.INSTALL}")
    h200.prepare()
    print(json.dumps(compile_for_h200(options.model, options.dtype, options.hlo)))


if __name__ == "__main__":
    main()
