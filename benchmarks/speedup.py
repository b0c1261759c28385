"""How much of the saved FLOPs Skip-Cache turns into saved time, and the drivers compared."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax

import skipdit_jax as sd
from benchmarks.timing import Timing, interleaved, once
from benchmarks.weights import random_condition, random_params
from skipdit_jax.caching.plan import CachePolicy
from skipdit_jax.caching.summary import MIB, CacheSummary
from skipdit_jax.pipeline import sample_keys
from skipdit_jax.sampling.drivers import DRIVERS

INTERVALS = (2, 3, 4)
DRIVER_INTERVAL = 3


@dataclass(frozen=True)
class Case:
    """A sampling run: the cache is the published one (k = 1, and 4 for DiT-XL)."""

    model: str
    steps: int
    batch: int = 1
    guidance: float = 1.0
    dtype: str = "float32"
    fields: tuple[tuple[str, int], ...] = ()


CPU_CASES = (
    Case("DiT-S/2-skip", 50),
    Case("DiT-B/2-skip", 50),
    Case("DiT-XL/2-skip", 12),
    Case("Latte-S/2-skip", 50, fields=(("num_frames", 8), ("input_size", 16))),
)
GPU_CASES = (
    Case("DiT-S/2-skip", 50, batch=4, guidance=4.0),
    Case("DiT-XL/2-skip", 250, batch=4, guidance=4.0, dtype="bfloat16"),
    Case("Latte-XL/2-skip", 250, batch=1, dtype="bfloat16"),
)
QUICK_CASES = (
    Case("DiT-S/2-skip", 8),
    Case("Latte-S/2-skip", 8, fields=(("num_frames", 2), ("input_size", 4))),
)


class Bench:
    """A model with weights, keys and labels, from which samplers are compiled."""

    def __init__(self, case: Case):
        self.case = case
        types = {"dtype": case.dtype, "param_dtype": case.dtype}
        self.model = sd.create_model(case.model, **types, **dict(case.fields))
        self.params = random_params(self.model)
        self.keys = sample_keys(jax.random.key(0), 0, case.batch)
        self.labels = random_condition(self.model, case.batch)

    def sampler(self, every: int | None, driver: str = "scan", **options: Any) -> sd.Sampler:
        cache = None if every is None else sd.SkipCache(every=every)
        return self.with_cache(cache, driver, **options)

    def with_cache(
        self, cache: CachePolicy | str | None, driver: str = "scan", **options: Any
    ) -> sd.Sampler:
        case, options = self.case, {"driver": driver, **options}
        return sd.Sampler(
            self.model, steps=case.steps, guidance=case.guidance, cache=cache, **options
        )

    def compile(self, sampler: sd.Sampler):
        return sampler.lower(self.params, self.keys, self.labels).compile()

    def call(self, program, sampler: sd.Sampler):
        arguments = jax.device_put(sampler.arguments(self.params, self.keys, self.labels))
        return lambda: jax.block_until_ready(program(*arguments))


def _row(case: Case, every: int, summary: CacheSummary, full: Timing, cached: Timing):
    """One line. A cached step's time is what the full steps leave of the cached run."""
    step = full.median / summary.steps
    left = cached.median - summary.full_steps * step
    by_flops = step * summary.cached_flops / summary.full_flops
    return {
        "model": f"{case.model} {case.dtype}",
        "steps": summary.steps,
        "batch": case.batch,
        "N": every,
        "computed + reused": f"{summary.full_steps} + {summary.cached_steps}",
        **against(full, cached, summary.ceiling),
        "full step ms": 1e3 * step,
        "cached step ms": 1e3 * left / summary.cached_steps,
        "by FLOPs ms": 1e3 * by_flops,
        "samples/s": case.batch / cached.median,
    }


def against(full: Timing, cached: Timing, ceiling: float) -> dict[str, object]:
    """The columns of a speedup and of the part of its ceiling that was reached."""
    median, best = full.median / cached.median, full.minimum / cached.minimum
    return {
        "uncached s": full.median,
        "cached s": cached.median,
        "speedup (median)": median,
        "speedup (min)": best,
        "ceiling": ceiling,
        "of ceiling (median)": _share(median / ceiling),
        "of ceiling (min)": _share(best / ceiling),
    }


def _share(of_ceiling: float) -> float | str:
    """The part of the ceiling that was reached; what is beyond it is noise, and marked."""
    return f"{of_ceiling:.4g} (noise)" if of_ceiling > 1 else of_ceiling


def measure(quick: bool, rounds: int, models: Sequence[str] = ("",)) -> list[dict[str, object]]:
    """Rows of the table of `measure_cases` for the models of classes.

    Args:
      quick: tiny sizes.
      rounds: of all variants in turn.
      models: beginnings of the names of those to measure.
    """
    cases = GPU_CASES if jax.default_backend() == "gpu" else CPU_CASES
    return measure_cases(QUICK_CASES if quick else cases, rounds, models)


def measure_cases(
    cases: Sequence[Case], rounds: int, models: Sequence[str] = ("",)
) -> list[dict[str, object]]:
    """Every N against no cache, interleaved; one program serves every N."""
    rows = []
    for case in cases:
        if not case.model.startswith(tuple(models)):
            continue
        bench = Bench(case)
        plain = bench.sampler(None)
        samplers = {every: bench.sampler(every) for every in INTERVALS}
        program = bench.compile(samplers[INTERVALS[0]])
        calls = {"none": bench.call(bench.compile(plain), plain)}
        calls |= {f"N{n}": bench.call(program, sampler) for n, sampler in samplers.items()}
        times = interleaved(calls, rounds)
        for every, sampler in samplers.items():
            summary = sampler.summary(case.batch)
            row = _row(case, every, summary, times["none"], times[f"N{every}"])
            rows.append({**row, "temp MiB": program.memory_analysis().temp_size_in_bytes / MIB})
    return rows


def compare_drivers(quick: bool, rounds: int) -> list[dict[str, object]]:
    """Rows of the table: one plan under each driver, with what it costs to compile."""
    case = (QUICK_CASES if quick else CPU_CASES)[0]
    bench = Bench(case)
    calls, compiling = {}, {}
    for driver in DRIVERS:
        sampler = bench.sampler(DRIVER_INTERVAL, driver)
        jax.clear_caches()  # the sections before may have compiled the same program
        program, compiling[driver] = once(lambda s=sampler: bench.compile(s))
        calls[driver] = bench.call(program, sampler)
    times = interleaved(calls, rounds)
    return [
        {
            "driver": driver,
            "model": case.model,
            "steps": case.steps,
            "N": DRIVER_INTERVAL,
            "trace + compile s": compiling[driver],
            "s (median)": times[driver].median,
            "s (min)": times[driver].minimum,
        }
        for driver in DRIVERS
    ]
