"""Caches that decide, and that choose tokens: measured speedup over the FLOPs that they spent.

A method that decides is set so that it computes about half of the steps: what its threshold has to
be for that depends on the weights, which are random here. What deciding costs is measured by
itself, all that a decision adds to a step in a loop of its own, and with a threshold of nothing,
where every step is computed: against no cache it is the whole difference.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import skipdit_jax as sd
from benchmarks.cache_settings import ada_cache
from benchmarks.speedup import MIB, Bench, Case, against
from benchmarks.timing import interleaved
from skipdit_jax.caching import deciding
from skipdit_jax.caching.decisions import Live, Seen, Told
from skipdit_jax.caching.plan import CachePolicy
from skipdit_jax.caching.summary import CacheSummary
from skipdit_jax.layers.attention import attend, attention_received
from skipdit_jax.models.stack import bind

Threshold = Callable[[float], CachePolicy]


DECIDING: dict[str, Threshold] = {
    "TeaCache": lambda threshold: sd.TeaCache(threshold=threshold),
    "first-block cache": lambda threshold: sd.FirstBlockCache(threshold=threshold),
    "DBCache, front 2": lambda threshold: sd.DBCache(threshold=threshold, front=2, warmup=2),
    "AdaCache": ada_cache,
    "SeaCache": lambda threshold: sd.SeaCache(threshold=threshold),
    "EasyCache": lambda threshold: sd.EasyCache(threshold=threshold, first=2),
}
TOKENS = ("toca:3", "duca:3")

CPU_CASES = (Case("DiT-S/2", 50), Case("DiT-B/2", 50))
GPU_CASES = tuple(Case("DiT-XL/2", 50, batch, 4.0, "bfloat16") for batch in (1, 8, 32))
QUICK_CASES = (Case("DiT-S/2", 8, fields=(("depth", 3), ("input_size", 8))),)
COST_STEPS = 12  # a decision costs the same at each of them
DECISIONS = 500  # in a row, alone
TOGETHER = 2  # samples, where each may decide for itself

ROWS, HEADS, HEAD_DIM = 2, 12, 64  # of DiT-B, guided
TOKENS_OF_MAPS, QUICK_TOKENS = (256, 1024), (16,)

HALF = 1.7, 2.3  # a ceiling between these is near enough to one of 2
BOUNDS = 1e-4, 1e2  # of thresholds
TRIALS = 10


def _cases(quick: bool, models: Sequence[str]) -> list[Case]:
    cases = GPU_CASES if jax.default_backend() == "gpu" else CPU_CASES
    chosen = QUICK_CASES if quick else cases
    return [case for case in chosen if case.model.startswith(tuple(models))]


def settle(bench: Bench, make: Threshold, program: Any) -> tuple[sd.Sampler, CacheSummary]:
    """The sampler that computes about half of its steps, or comes nearest, and what it has cost.

    Args:
      bench: of the model.
      make: the method of a threshold.
      program: compiled of any of them: the threshold is data.
    """
    low, high = np.log(BOUNDS)
    tried = []
    for _ in range(TRIALS):
        sampler = bench.with_cache(make(float(np.exp((low + high) / 2))), details=True)
        drawn = program(*sampler.arguments(bench.params, bench.keys, bench.labels))
        summary = sampler.summary(bench.case.batch, [drawn.kinds])
        tried.append((abs(np.log(summary.ceiling / np.mean(HALF))), sampler, summary))
        if HALF[0] <= summary.ceiling <= HALF[1]:
            break
        if summary.ceiling < HALF[0]:
            low = (low + high) / 2
        else:
            high = (low + high) / 2
    _, sampler, summary = min(tried, key=lambda one: one[0])
    return sampler, summary


def measure(quick: bool, rounds: int, models: Sequence[str] = ("",)) -> list[dict[str, object]]:
    """Rows of the table: the methods of each model against no cache, all interleaved.

    Args:
      quick: tiny sizes.
      rounds: of all variants in turn.
      models: beginnings of the names of those to measure.
    """
    return [row for case in _cases(quick, models) for row in _rows(Bench(case), rounds)]


def _rows(bench: Bench, rounds: int) -> list[dict[str, object]]:
    calls, summaries = {}, {}
    for name, make in DECIDING.items():
        program = bench.compile(bench.with_cache(make(1.0), details=True))
        sampler, summaries[name] = settle(bench, make, program)
        calls[name] = bench.call(program, sampler)
    for name in TOKENS:
        sampler = bench.with_cache(name)
        calls[name], summaries[name] = _ready(bench, sampler), sampler.summary(bench.case.batch)
    calls["none"] = _ready(bench, bench.with_cache(None))
    times = interleaved(calls, rounds, warm_ups=1)
    return [
        {
            "model": f"{bench.case.model} {bench.case.dtype}",
            "batch": bench.case.batch,
            "cache": name,
            "computed + reused": f"{summary.full_steps} + {summary.cached_steps}",
            **against(times["none"], times[name], summary.ceiling),
            "cache MiB": summary.cache_bytes / MIB,
        }
        for name, summary in summaries.items()
    ]


def _ready(bench: Bench, sampler: sd.Sampler) -> Callable[[], object]:
    return bench.call(bench.compile(sampler), sampler)


def measure_cost(
    quick: bool, rounds: int, models: Sequence[str] = ("",)
) -> list[dict[str, object]]:
    """Rows of the table: every step computed, with decisions and without, interleaved.

    In a batch one number decides for all, and then each sample for itself, in calls of one sample:
    against no cache that is what a method must save first.
    """
    rows = []
    for case in _cases(quick, models)[:1]:
        for batch in (1, TOGETHER):
            rows += _costs(Bench(replace(case, steps=COST_STEPS, batch=batch)), rounds)
    return rows


def _costs(bench: Bench, rounds: int) -> list[dict[str, object]]:
    samplers = {("no cache", ""): bench.with_cache(None)}
    for name, make in DECIDING.items():
        for over in ("mean", "each")[: bench.case.batch]:
            samplers[name, over] = bench.with_cache(replace(make(0.0), over=over))
    times = interleaved(
        {str(key): _ready(bench, sampler) for key, sampler in samplers.items()}, rounds, warm_ups=1
    )
    first, *others = (times[str(key)] for key in samplers)
    step = first.median / COST_STEPS
    alone = {name: _alone(bench, make(0.0), rounds) for name, make in DECIDING.items()}
    return [
        {
            "model": f"{bench.case.model} {bench.case.dtype}",
            "batch": bench.case.batch,
            "cache": name,
            "over": over,
            "a full step ms": 1e3 * step,
            "a decision alone ms": 1e3 * alone[name],
            "% of a step": 100 * alone[name] / step,
            "deciding % of it (median)": 100 * (timing.median / first.median - 1),
            "deciding % of it (min)": 100 * (timing.minimum / first.minimum - 1),
        }
        for (name, over), timing in zip(list(samplers)[1:], others, strict=True)
    ]


def _alone(bench: Bench, cache: CachePolicy, rounds: int) -> float:
    """Seconds of all that a decision adds to a step: probe, metric, rule, what it keeps.

    What the network makes for it anyway is given, and changes at each turn, so that nothing is
    taken out of the loop.
    """
    sampler = bench.with_cache(cache)
    trunk, decision = sampler.program.sockets.trunk, sampler.program.sockets.decision
    assert trunk is not None
    assert decision is not None
    params, x, _, condition, inputs, steps, _ = sampler.arguments(
        bench.params, bench.keys, bench.labels
    )
    t = np.full(len(x), inputs.t[0])
    row = jax.tree.map(lambda column: jnp.asarray(column[len(column) // 2]), steps.rows.decision)
    movement = decision.movement(None)

    @jax.jit
    def before(params: Any, x: jax.Array) -> Any:
        model = bind(bench.model, params)
        h, c = model.embed(x, t, condition)
        seen, _ = deciding.before(model, trunk, x, t, condition, row)
        output = model.head(model.run(h, c, {}, 0, model.num_stages)[0], c)
        live = deciding.empty(model, sampler.program.sockets, x, t, condition)
        return seen.embedded, seen.h, output, live

    @jax.jit
    def decide(params: Any, x: jax.Array, embedded: Any, h: Any, output: Any, live: Live) -> Any:
        model, probe, rule = bind(bench.model, params), decision.probe, decision.rule

        def one(live: Live, turn: jax.Array) -> tuple[Live, jax.Array]:
            moved = jax.tree.map(lambda leaf: leaf * turn, (x, embedded and embedded[0], h))
            seen = Seen(model, moved[0], embedded and (moved[1], embedded[1]), moved[2], row)
            saw, number = probe.measure(seen, live.probe, movement)
            verdict = rule.judge(live.own, number, row, 0)
            _, past = decision.forecast.follow(live.past, row.step, verdict.computes)
            kept = jax.tree.map(lambda leaf: (leaf * turn).astype(leaf.dtype), live.probe)
            kept, computed = probe.inside(kept), verdict.computes
            renewed = probe.renew(saw, live.probe, kept, computed, output * turn, movement)
            verdict = rule.learn(verdict, probe.behind(renewed, movement), row)
            told = Told(computed.astype(jnp.int32), verdict.compared)
            return Live(renewed, verdict.own, past, told), verdict.compared

        return jax.lax.scan(one, live, jnp.linspace(1.0, 2.0, DECISIONS))

    given = params, x, *before(params, x)
    calls: dict[str, Callable[[], object]] = {"": partial(_called, decide, *given)}
    return interleaved(calls, rounds, warm_ups=1)[""].median / DECISIONS


def measure_scores(quick: bool, rounds: int) -> list[dict[str, object]]:
    """Rows of the table: attention alone, and with the attention that each token receives.

    That is taken from the map that the implementation makes, where it makes one ("once"), or from a
    second pass behind a barrier, as a fused kernel would need ("again").
    """
    return [_scores(tokens, rounds) for tokens in (QUICK_TOKENS if quick else TOKENS_OF_MAPS)]


def _scores(tokens: int, rounds: int) -> dict[str, object]:
    shape = (ROWS, tokens, HEADS, HEAD_DIM)
    q, k, v = (jax.random.normal(key, shape) for key in jax.random.split(jax.random.key(0), 3))

    def second(q: jax.Array, k: jax.Array, v: jax.Array) -> tuple[jax.Array, jax.Array]:
        return attend(q, k, v), attention_received(*jax.lax.optimization_barrier((q, k)))

    programs = {
        "alone": jax.jit(attend),
        "once": jax.jit(lambda q, k, v: (attend(q, k, v), attention_received(q, k))),
        "again": jax.jit(second),
    }
    times = interleaved(
        {name: partial(_called, program, q, k, v) for name, program in programs.items()}, rounds
    )
    alone = times["alone"].median
    return {
        "tokens": tokens,
        "attention ms": 1e3 * alone,
        **{
            f"scores {name} %": 100 * (times[name].median / alone - 1) for name in ("once", "again")
        },
    }


def _called(program: Callable[..., Any], *arrays: jax.Array) -> object:
    return jax.block_until_ready(program(*arrays))
