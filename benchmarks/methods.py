"""Every caching method against no cache: measured speedup over its FLOP ceiling, bytes, memory."""

from collections.abc import Sequence

import jax

import skipdit_jax as sd
from benchmarks.speedup import MIB, Bench, Case, against
from benchmarks.timing import interleaved
from skipdit_jax.caching import notation

UNCHANGING = sd.MagCache(ratios=(1.0,), threshold=1.0, max_skips=2, retention=0.0)
"""Two of three steps, whatever a calibration would say: what a step costs is the same."""

PLAIN = (
    "fora:3",
    "taylor:4:2",
    "taylor(interval=4, lite=True)",
    "pab:2",
    "delta:2",
    "faster-diffusion",
    "block-cache(every=3)",
    UNCHANGING,
    "faster-cache",
)
SKIPS = ("N3", "deepcache", "faster-diffusion", "fora:3")
CLIPS = ("pab:2:3", "fora:3", "faster-cache")
SMALL_CLIPS = (("num_frames", 8), ("input_size", 16))

CPU_CASES = (
    (Case("DiT-S/2", 24, guidance=4.0), PLAIN),
    (Case("DiT-B/2", 14, guidance=4.0), PLAIN),
    (Case("DiT-S/2-skip", 24, guidance=4.0), SKIPS),
    (Case("Latte-S/2", 24, guidance=4.0, fields=(*SMALL_CLIPS, ("num_classes", 10))), CLIPS),
    (Case("DiT-XL/2", 9), ("fora:3", "taylor:4:1", "delta:2")),
)
GPU_CASES = (
    (Case("DiT-XL/2", 50, batch=4, guidance=4.0, dtype="bfloat16"), PLAIN),
    (Case("DiT-XL/2-skip", 50, batch=4, guidance=4.0, dtype="bfloat16"), SKIPS),
)
QUICK_CASES = ((Case("DiT-S/2", 8, guidance=4.0), ("fora:3", "faster-cache")),)


def measure(quick: bool, rounds: int, models: Sequence[str] = ("",)) -> list[dict[str, object]]:
    """Rows of the table: the methods of each model against no cache, all interleaved.

    Args:
      quick: tiny sizes.
      rounds: of all variants in turn.
      models: beginnings of the names of those to measure.
    """
    cases = GPU_CASES if jax.default_backend() == "gpu" else CPU_CASES
    rows = []
    for case, methods in QUICK_CASES if quick else cases:
        if case.model.startswith(tuple(models)):
            rows += _rows(Bench(case), methods, rounds)
    return rows


def _rows(bench: Bench, methods: Sequence[str | sd.MagCache], rounds: int):
    samplers = {"none": bench.with_cache(None)}
    for method in methods:
        named = method if isinstance(method, str) else notation.write(method)
        samplers[named] = bench.with_cache(method)
    programs = {name: bench.compile(sampler) for name, sampler in samplers.items()}
    times = interleaved(
        {name: bench.call(programs[name], sampler) for name, sampler in samplers.items()},
        rounds,
        warm_ups=1,
    )
    plain = programs["none"].memory_analysis().temp_size_in_bytes
    rows = []
    for name, sampler in list(samplers.items())[1:]:
        summary = sampler.summary(bench.case.batch)
        memory = programs[name].memory_analysis().temp_size_in_bytes
        rows.append(
            {
                "model": f"{bench.case.model} {bench.case.dtype}",
                "steps": summary.steps,
                "cache": name,
                **against(times["none"], times[name], summary.ceiling),
                "cache MiB": summary.cache_bytes / MIB,
                "temp MiB": memory / MIB,
                "before the loop MiB": summary.prepared_bytes / MIB,
                "temp less uncached, of both": (memory - plain)
                / (summary.cache_bytes + summary.prepared_bytes),
            }
        )
    return rows
