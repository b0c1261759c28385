"""How much of the saved FLOPs Skip-Cache turns into saved time, and the drivers compared."""

from dataclasses import dataclass

import jax
import numpy as np

import skipdit_jax as sd
from benchmarks.timing import Timing, interleaved, once
from benchmarks.weights import random_params
from skipdit_jax.caching.drivers import DRIVERS
from skipdit_jax.caching.summary import CacheSummary
from skipdit_jax.pipeline import sample_keys

INTERVALS = (2, 3, 4)
DRIVER_INTERVAL = 3


@dataclass(frozen=True)
class Case:
    """A sampling run: branch k is the published one (1, and 4 for XL)."""

    model: str
    steps: int
    batch: int = 1
    guidance: float = 1.0
    dtype: str = "float32"


CPU_CASES = (Case("DiT-S/2-skip", 50), Case("DiT-B/2-skip", 50), Case("DiT-XL/2-skip", 12))
GPU_CASES = (
    Case("DiT-S/2-skip", 50, batch=4, guidance=4.0),
    Case("DiT-XL/2-skip", 250, batch=4, guidance=4.0, dtype="bfloat16"),
)
QUICK_CASES = (Case("DiT-S/2-skip", 8),)


class _Bench:
    """A model with weights, keys and labels, from which samplers are compiled."""

    def __init__(self, case: Case):
        self.case = case
        self.model = sd.create_model(case.model, dtype=case.dtype, param_dtype=case.dtype)
        self.params = random_params(self.model)
        self.keys = sample_keys(jax.random.key(0), 0, case.batch)
        self.labels = np.arange(case.batch, dtype=np.int32)

    def sampler(self, every: int | None, driver: str = "scan") -> sd.Sampler:
        cache = None if every is None else sd.SkipCache(every=every)
        case = self.case
        return sd.Sampler(
            self.model, steps=case.steps, guidance=case.guidance, cache=cache, driver=driver
        )

    def compile(self, sampler: sd.Sampler):
        return sampler.lower(self.params, self.keys, self.labels).compile()

    def call(self, program, sampler: sd.Sampler):
        arguments = jax.device_put(sampler.arguments(self.params, self.keys, self.labels))
        return lambda: program(*arguments).block_until_ready()


def _row(case: Case, every: int, summary: CacheSummary, full: Timing, cached: Timing):
    """One line. A cached step's time is what the full steps leave of the cached run."""
    step = full.median / summary.steps
    left = cached.median - summary.full_steps * step
    by_flops = step * summary.cached_flops / summary.full_flops
    median, best = full.median / cached.median, full.minimum / cached.minimum
    return {
        "model": f"{case.model} {case.dtype}",
        "batch": case.batch,
        "N": every,
        "computed + reused": f"{summary.full_steps} + {summary.cached_steps}",
        "uncached s": full.median,
        "cached s": cached.median,
        "speedup (median)": median,
        "speedup (min)": best,
        "ceiling": summary.ceiling,
        "of ceiling (median)": median / summary.ceiling,
        "of ceiling (min)": best / summary.ceiling,
        "full step ms": 1e3 * step,
        "cached step ms": 1e3 * left / summary.cached_steps,
        "by FLOPs ms": 1e3 * by_flops,
    }


def measure(quick: bool, rounds: int) -> list[dict[str, object]]:
    """Rows of the table: every N against no cache, interleaved; one program serves every N."""
    cases = GPU_CASES if jax.default_backend() == "gpu" else CPU_CASES
    rows = []
    for case in QUICK_CASES if quick else cases:
        bench = _Bench(case)
        plain = bench.sampler(None)
        samplers = {every: bench.sampler(every) for every in INTERVALS}
        program = bench.compile(samplers[INTERVALS[0]])
        calls = {"none": bench.call(bench.compile(plain), plain)}
        calls |= {f"N{n}": bench.call(program, sampler) for n, sampler in samplers.items()}
        times = interleaved(calls, rounds)
        for every, sampler in samplers.items():
            summary = sampler.summary(case.batch)
            rows.append(_row(case, every, summary, times["none"], times[f"N{every}"]))
    return rows


def compare_drivers(quick: bool, rounds: int) -> list[dict[str, object]]:
    """Rows of the table: one plan under each driver, with what it costs to compile."""
    case = (QUICK_CASES if quick else CPU_CASES)[0]
    bench = _Bench(case)
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
