"""Settings of every caching method, and of these the ones nearest to what a benchmark asks for."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from benchmarks.digit_models import Case, Subject
from benchmarks.full_steps import effects_of
from skipdit_jax.caching import notation
from skipdit_jax.caching.methods.ada_cache import CODEBOOKS, AdaCache
from skipdit_jax.caching.methods.faster_diffusion import FasterDiffusion
from skipdit_jax.caching.methods.smooth_cache import SmoothCache
from skipdit_jax.caching.plan import CachePolicy
from skipdit_jax.calibration import full_steps
from skipdit_jax.cli.calibrate import SAMPLES

TARGETS = (1.5, 2.0, 3.0)
THRESHOLDS = 0.01, 2.56, 17  # first, last, how many: a factor of the root of 2 lies between them
FACTORS = 0.125, 32.0, 17
TRIAL_SEED = 1000  # of samples that are drawn to see what a threshold comes to: none of the table's
NEAR = 1.15  # a setting this many times off a target does not stand for it
UNCACHED, FEWER = "no cache", "fewer steps"


class Setting(NamedTuple):
    """A cache, and its name: the notation, or words where that would list every step."""

    name: str
    cache: CachePolicy | str


class Way(NamedTuple):
    """One way to sample, the method that it belongs to, and the ceiling that it comes near to."""

    method: str
    case: Case
    target: float = 1.0


def _written(pattern: str, *values: Sequence[object]) -> Iterator[Setting]:
    """A notation with each of these values, or tuples of values, in its place."""
    for value in values:
        text = pattern.format(*value) if isinstance(value, tuple) else pattern.format(value)
        yield Setting(text, text)


def _skip_cache(steps: int) -> Iterator[Setting]:
    yield from _written("N{}", *range(2, 9))  # in the window published for the family
    yield from _written("N{}-1000-20", *range(2, 13))


def _deep_cache(steps: int) -> Iterator[Setting]:
    shares = (0.6, 0.5, 0.4, 0.3, 0.26, 0.2, 0.14, 0.1)
    return _written("deepcache:{}", *sorted({max(2, round(s * steps)) for s in shares}))


def _key_steps(steps: int) -> Iterator[Setting]:
    yield Setting("faster-diffusion", "faster-diffusion")
    for every in (2, 3, 4, 5, 8):
        name = f"faster-diffusion, one key step of {every}"
        yield Setting(name, FasterDiffusion(full=tuple(range(0, steps, every))))


def _delta(steps: int) -> Iterator[Setting]:
    return _written("delta:{}", *range(2, 9))


def _block_cache(steps: int) -> Iterator[Setting]:
    return _written("block-cache(every={})", *range(2, 9))


def _fora(steps: int) -> Iterator[Setting]:
    return _written("fora:{}", *range(2, 7))


def _foca(steps: int) -> Iterator[Setting]:
    return _written("fora(every={}, forecast='foca')", *range(2, 7))


def _taylor(steps: int) -> Iterator[Setting]:
    return _written("taylor:{}:1", *range(2, 7))


def _taylor_squares(steps: int) -> Iterator[Setting]:
    return _written("taylor:{}:2", *range(2, 7))


def _taylor_lite(steps: int) -> Iterator[Setting]:
    return _written("taylor(interval={}, lite=True)", *range(2, 7))


def _pab(steps: int) -> Iterator[Setting]:
    """Published ranges and window; then all of the run, since only attention is left out."""
    yield from _written("pab:{}:{}", (2, 3), (4, 6))
    yield from _written("pab(spatial={0}, temporal={0}, low=-1, high=1001)", 4, 8)


def _smooth(steps: int) -> Iterator[Setting]:
    """Even schedules in place of calibrated ones: attention rarer than the MLPs."""
    for attention, mlp in ((2, 1), (4, 1), (3, 2), (4, 3), (6, 3), (6, 4), (8, 5)):
        every = {"attn": attention, "tattn": attention, "mlp": mlp, "tmlp": mlp}
        masks = {name: [int(i % n == 0) for i in range(steps)] for name, n in every.items()}
        name = f"smooth, attention 1 of {attention}, MLP 1 of {mlp}"
        yield Setting(name, SmoothCache.of(masks))


def _mag_cache(steps: int) -> Iterator[Setting]:
    """Ratios of 1 in place of calibrated ones: K steps are reused in a row."""
    pattern = "mag(ratios=(1.0,), threshold=1.0, max_skips={}, retention={})"
    return _written(pattern, (1, 0.2), (1, 0.0), (2, 0.2), (2, 0.0), (3, 0.1))


def _faster_cache(steps: int) -> Iterator[Setting]:
    yield Setting("faster-cache", "faster-cache")
    pattern = "faster-cache(guidance_every={}, attention_every={})"
    yield from _written(pattern, (10, 2), (10, 4), (20, 8))


def _thresholds(pattern: str) -> Iterator[Setting]:
    """Of methods that decide: what a threshold comes to depends on model and steps."""
    return _written(pattern, *(float(f"{value:.2g}") for value in np.geomspace(*THRESHOLDS)))


def _tea_cache(steps: int) -> Iterator[Setting]:
    return _thresholds("teacache:{}")


def _first_block(steps: int) -> Iterator[Setting]:
    return _thresholds("first-block:{}")


def _db_cache(steps: int) -> Iterator[Setting]:
    return _thresholds("db-cache(threshold={}, front=2, warmup=2)")


def _ada_cache(steps: int) -> Iterator[Setting]:
    for factor in np.geomspace(*FACTORS):
        yield Setting(f"adacache, fast, thresholds x {factor:.2g}", ada_cache(factor))


def ada_cache(factor: float) -> AdaCache:
    """Its published codebook with all thresholds so many times as far; 0 computes every step."""
    entries = tuple((float(factor * bound), rate) for bound, rate in CODEBOOKS["fast"])
    return AdaCache(codebook=entries)


def _sea_cache(steps: int) -> Iterator[Setting]:
    return _thresholds("seacache:{}")


def _easy_cache(steps: int) -> Iterator[Setting]:
    return _thresholds("easycache(threshold={}, first=2)")


def _toca(steps: int) -> Iterator[Setting]:
    return _written("toca:{}", *range(2, 9))


def _duca(steps: int) -> Iterator[Setting]:
    return _written("duca:{}", *range(2, 9))


METHODS: dict[str, Callable[[int], Iterable[Setting]]] = {
    "Skip-Cache": _skip_cache,
    "DeepCache": _deep_cache,
    "Faster Diffusion": _key_steps,
    "Delta-DiT": _delta,
    "block cache": _block_cache,
    "FORA": _fora,
    "FoCa": _foca,
    "TaylorSeer": _taylor,
    "TaylorSeer, order 2": _taylor_squares,
    "TaylorSeer lite": _taylor_lite,
    "PAB": _pab,
    "SmoothCache": _smooth,
    "MagCache": _mag_cache,
    "FasterCache": _faster_cache,
    "TeaCache": _tea_cache,
    "first-block cache": _first_block,
    "DBCache": _db_cache,
    "AdaCache": _ada_cache,
    "SeaCache": _sea_cache,
    "EasyCache": _easy_cache,
    "ToCa": _toca,
    "DuCa": _duca,
}
SEARCHED = {"Skip-Cache, searched": "N2-1000-20", "block cache, searched": "block-cache(every=2)"}
"""Methods whose lists of computed steps are measured first, with the range of stages reused."""

PLAIN = ("Faster Diffusion", "Delta-DiT", "block cache", "FORA", "MagCache")
"""Methods that gain from a model without skips, or need one."""


def choose(
    subject: Subject,
    methods: Sequence[str],
    given: np.ndarray,
    targets: Sequence[float] = TARGETS,
    fewer: Sequence[float] = (),
) -> tuple[list[Way], list[str]]:
    """The run without cache, each method at its settings nearest to the targets, fewer steps.

    Args:
      subject: what to sample.
      methods: keys of `METHODS` or `SEARCHED`.
      given: labels of a batch: it is drawn to see what a method that decides comes to.
      targets: FLOPs of the run without cache over those wanted.
      fewer: the same of the runs of fewer steps; () for the same.

    Returns:
      The ways, each setting once, and a line for each method that has none.
    """
    steps = len(Case(UNCACHED, subject, {}).sampler.inputs.t)
    ways, left_out = [Way(UNCACHED, Case(f"{steps} steps", subject, {}))], []
    for method in methods:
        if method in SEARCHED:
            settings = searched(subject, SEARCHED[method], targets)
        else:
            settings = METHODS[method](steps)
        cases, reason = _possible(subject, settings, given, max(targets))
        near = {case.name: (case, t) for t in reversed(targets) for case in _nearest(cases, t)}
        if not near:
            left_out.append(f"{method}: {'no setting comes near' if cases else reason}")
        ways += [Way(method, *found) for found in reversed(near.values())]
    return [*ways, *fewer_steps(subject, steps, fewer or targets)], left_out


def fewer_steps(subject: Subject, steps: int, targets: Sequence[float]) -> list[Way]:
    """Runs without cache of so many times fewer steps."""
    lengths = {max(1, round(steps / target)): target for target in reversed(targets)}
    return [
        Way(FEWER, Case(f"{n} steps", subject, {"steps": n}), target)
        for n, target in reversed(lengths.items())
    ]


def searched(subject: Subject, cache: str, targets: Sequence[float]) -> Iterator[Setting]:
    """The lists that `cli.calibrate` would write for these ceilings."""
    policy = notation.read(cache)
    sampler = Case("", subject, {"cache": policy}).sampler
    summary, steps = sampler.summary(batch=1), len(sampler.inputs.t)
    full = [full_steps.computed_steps(summary, target) for target in targets]
    effects = effects_of(subject, SAMPLES, full_steps.lags_for(steps, min(full)), policy)
    for count in dict.fromkeys(full):
        chosen = full_steps.choose_full_steps(effects, count).full
        yield Setting(f"searched, {count} steps", full_steps.with_full_steps(policy, chosen))


def _possible(
    subject: Subject, settings: Iterable[Setting], given: np.ndarray, most: float
) -> tuple[list[tuple[float, Case]], str]:
    """The settings that the model can follow, with their ceilings; and why it cannot the last.

    Thresholds ascend: behind the first that saves more than anybody wants, none is tried.
    """
    cases: list[tuple[float, Case]] = []
    reason = ""
    for setting in settings:
        case = Case(setting.name, subject, {"cache": setting.cache})
        try:
            ceiling = ceiling_of(case, given)
        except ValueError as error:
            reason = str(error)
            continue
        cases.append((ceiling, case))
        if case.decides and ceiling > most * NEAR:
            break
    return cases, reason


def ceiling_of(case: Case, given: np.ndarray) -> float:
    """Of a method that decides, what these samples come to."""
    if case.decides:
        return case.draw_counted(given, TRIAL_SEED, len(given))[1].ceiling
    return case.sampler.ceiling


def _nearest(cases: list[tuple[float, Case]], target: float) -> list[Case]:
    """The first of the nearest cases; none if it is far off."""
    distances = [abs(math.log(ceiling / target)) for ceiling, _ in cases]
    if not distances or min(distances) > math.log(NEAR):
        return []
    return [cases[distances.index(min(distances))][1]]
