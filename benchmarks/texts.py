"""Models of text: Skip-Cache over its FLOP ceiling, and texts read once or at each step."""

from collections.abc import Sequence

import jax

from benchmarks.speedup import MIB, Bench, Case, measure_cases
from benchmarks.timing import interleaved

CLIPS = (("num_frames", 4), ("input_size", 16))
NARROW = (("hidden_size", 192), ("num_heads", 4))
TEXTS = (("text_width", 144), ("t5_width", 288), ("pooled_width", 144))
"""Of HunYuan-DiT: narrower by as much as the blocks, so that texts keep their share."""

CPU_CASES = (
    Case("LatteT2V-S/2-skip", 20, fields=(*CLIPS, ("depth", 8))),
    Case("LatteT2V-S/2-skip", 20, fields=(*CLIPS, *NARROW, ("depth", 28))),
    Case("HunYuan-DiT-g/2", 20, fields=(*NARROW, *TEXTS, ("input_size", 32))),
)
GPU_CASES = (
    Case("LatteT2V-XL/2-skip", 50, guidance=7.5, dtype="bfloat16"),
    Case("HunYuan-DiT-g/2", 100, guidance=6.0, dtype="bfloat16"),
)
TINY = (("hidden_size", 32), ("num_heads", 2), ("input_size", 4), ("text_tokens", 8))
QUICK_CASES = (
    Case("LatteT2V-S/2-skip", 8, fields=(*TINY, ("num_frames", 2), ("depth", 4))),
    Case("HunYuan-DiT-g/2", 8, fields=(*TINY, *TEXTS, ("depth", 6))),
)
PICTURES = Case("PixArt-S/2-skip", 20, fields=(("input_size", 32),))
"""256 tokens that read 120 of text: where keys and values cost most."""

HOISTED_INTERVALS = (None, 2)


def _cases(quick: bool) -> tuple[Case, ...]:
    if quick:
        return QUICK_CASES
    return GPU_CASES if jax.default_backend() == "gpu" else CPU_CASES


def measure(quick: bool, rounds: int, models: Sequence[str] = ("",)) -> list[dict[str, object]]:
    """Rows of the table: see `speedup.measure`."""
    return measure_cases(_cases(quick), rounds, models)


def measure_hoisting(
    quick: bool, rounds: int, models: Sequence[str] = ("",)
) -> list[dict[str, object]]:
    """Rows of the table: texts read once before the loop against at each step, interleaved."""
    rows = []
    for case in (*_cases(quick), *(() if quick else (PICTURES,))):
        if case.model.startswith(tuple(models)):
            rows += _hoisting(Bench(case), rounds)
    return rows


def _hoisting(bench: Bench, rounds: int) -> list[dict[str, object]]:
    variants = {
        (every, hoist): bench.sampler(every, hoist=hoist)
        for every in HOISTED_INTERVALS
        for hoist in (False, True)
    }
    programs = {key: bench.compile(sampler) for key, sampler in variants.items()}
    times = interleaved(
        {str(key): bench.call(programs[key], sampler) for key, sampler in variants.items()}, rounds
    )
    rows = []
    for every in HOISTED_INTERVALS:
        always, once = times[str((every, False))], times[str((every, True))]
        rows.append(
            {
                "model": f"{bench.case.model} {bench.case.dtype}",
                "cache": "none" if every is None else f"N{every}",
                "at each step s": always.median,
                "once s": once.median,
                "faster (median)": always.median / once.median,
                "faster (min)": always.minimum / once.minimum,
                "kept MiB": variants[every, True].summary(bench.case.batch).digest_bytes / MIB,
            }
        )
    return rows
