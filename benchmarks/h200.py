"""Compiles a cached sampler for an H200 on a machine that has none: HLO, memory, compile time.

    python -m benchmarks.h200 --model DiT-XL/2-skip --steps 250 --hlo /tmp/sampler.hlo

runs in a process of its own, because XLA reads its flags once, and prints one line of JSON. It
needs the compiler but neither a GPU nor NVIDIA's libraries (CONTRIBUTING.md):

    pip install --no-deps jax-cuda13-pjrt==X jax-cuda13-plugin==X      # X = the version of jax

Autotuning is off, so real compile times are longer and some kernels differ; copies, concatenations,
conditionals, attention calls and buffer sizes are real. The target, `h200.txtpb`, is a trimmed copy
of openxla/xla, xla/backends/gpu/target_config/specs/h200.txtpb (Apache-2.0).
"""

import argparse
import importlib.util
import json
import os
import sys
import time
from pathlib import Path

TARGET = Path(__file__).with_name("h200.txtpb")
INSTALL = (
    "pip install --no-deps jax-cuda13-pjrt==X jax-cuda13-plugin==X, X being the version of jax"
)
PLUGINS = ("jax_plugins.xla_cuda13", "jax_cuda13_plugin")
XLA_FLAGS = "--xla_gpu_autotune_level=0 --xla_gpu_enable_triton_gemm=false"
CUDNN_VERSION = 91000  # the cuDNN of h200.txtpb, as jax writes it
BATCH = 4
GUIDANCE = 4.0


def available() -> bool:
    """Whether the packages that compile for an NVIDIA card are installed."""
    try:
        return all(importlib.util.find_spec(name) is not None for name in PLUGINS)
    except ModuleNotFoundError:
        return False


def prepare() -> None:
    """Settings that must stand before jax is imported."""
    os.environ.setdefault("JAX_SKIP_CUDA_CONSTRAINTS_CHECK", "1")
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {XLA_FLAGS}".strip()


def pretend_cudnn() -> None:
    """Answers for the absent card when JAX asks which cuDNN it has."""
    from jax._src.cudnn import fused_attention_stablehlo

    fused_attention_stablehlo.check_cudnn_version = lambda: CUDNN_VERSION


def abstract(tree):
    """Shapes and types placed on the absent H200."""
    import jax
    from jax.experimental import topologies
    from jax.sharding import NamedSharding, PartitionSpec

    topology = topologies.get_topology_desc(
        platform="cuda", target_config=TARGET.read_text(), topology="1x1x1"
    )
    sharding = NamedSharding(topologies.make_mesh(topology, (1,), ("x",)), PartitionSpec())
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding), tree)


def compile_sampler(options: argparse.Namespace):
    """Returns (jax.stages.Compiled, seconds to trace and lower, seconds to compile)."""
    import jax

    import skipdit_jax as sd
    from benchmarks.weights import random_condition
    from skipdit_jax.pipeline import sample_keys
    from skipdit_jax.registry import abstract_params

    if options.attention == "cudnn":
        pretend_cudnn()
    model = sd.create_model(
        options.model,
        dtype=options.dtype,
        param_dtype=options.dtype,
        attention=options.attention,
        **json.loads(options.overrides),
    )
    sampler = sd.Sampler(
        model,
        steps=options.steps,
        guidance=GUIDANCE,
        cache=options.cache,
        driver=options.driver,
        hoist=not options.text_at_each_step,
    )
    keys = sample_keys(jax.random.key(0), 0, options.batch)
    # The weights decide where the program runs: arrays that are tied to no device follow them.
    params = abstract(abstract_params(model))
    start = time.perf_counter()
    lowered = sampler.lower(params, keys, random_condition(model, options.batch))
    middle = time.perf_counter()
    extra = {"xla_gpu_dot_merger_threshold_mb": "32"} if options.merge_dots else None
    compiled = lowered.compile(compiler_options=extra)
    return compiled, middle - start, time.perf_counter() - middle


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="DiT-XL/2-skip")
    parser.add_argument("--overrides", default="{}", help="model options as JSON")
    parser.add_argument("--steps", default="250")
    parser.add_argument("--cache", default="N3-1000-20", help="in the notation of docs/caching.md")
    parser.add_argument("--driver", default="scan")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--attention", default="cudnn")
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--merge-dots", action="store_true", help="XLA's default, for comparison")
    parser.add_argument(
        "--text-at-each-step", action="store_true", help="not once before the loop, for comparison"
    )
    parser.add_argument("--hlo", type=Path, help="file for the text of the compiled program")
    return parser


def main() -> None:
    """Compiles one program and prints its figures as JSON."""
    options = _parser().parse_args()
    if not available():
        sys.exit(f"benchmarks.h200: no compiler for an H200; {INSTALL}")
    prepare()
    compiled, lowering, compiling = compile_sampler(options)
    memory = compiled.memory_analysis()
    if options.hlo:
        options.hlo.write_text(compiled.as_text())
    figures = {
        "lower_s": lowering,
        "compile_s": compiling,
        "temp_bytes": memory.temp_size_in_bytes,
        "argument_bytes": memory.argument_size_in_bytes,
        "output_bytes": memory.output_size_in_bytes,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
