"""What a cache report tells of one model: the comparison that was run, step by step too."""

from collections.abc import Mapping, Sequence
from typing import Any

from skipdit_jax.caching import notation
from skipdit_jax.calibration.drift import OUTPUT, PROBE, measure_drift, watching_changes
from skipdit_jax.cli.compare import (
    FEWER,
    STOCHASTIC_NOTE,
    Score,
    Variant,
    as_bytes,
    draws_other_noise,
    first_batch,
    of_steps,
)
from skipdit_jax.cli.job import SamplingJob
from skipdit_jax.cli.looks import looks_of
from skipdit_jax.cli.machine import hardware
from skipdit_jax.cli.runner import decisions_of, make_batch
from skipdit_jax.cli.settings import Settings
from skipdit_jax.evaluation.extraction import Extractor
from skipdit_jax.sampling.methods import can_clip, read_method
from skipdit_jax.visualise.charts import Series, chart, strip
from skipdit_jax.visualise.report import Samples, Section
from skipdit_jax.visualise.video import FRAMES_PER_SECOND

SHARES = (0.75, 0.5, 1 / 3, 0.25)  # of the steps: where the curves of fewer steps have points
BETTER = "dpm++"  # of second order; `sampling.methods`
TITLE = "Caches compared"
SHOWN = 12  # samples in a row
TERA = 1e12
BETTER_NOTE = (
    f"{FEWER} of {BETTER} end near other samples than many steps of the sampler do: its curve has "
    "a ceiling of its own"
)


def curve_variants(job: SamplingJob, variants: Sequence[Variant]) -> list[Variant]:
    """Fewer steps, and fewer of a better solver, for the curves of a report.

    Args:
      job: what is sampled.
      variants: of `compare.make_variants`, the full run first; no number of steps comes twice.
    """
    full, *others = variants
    known = {one.steps for one in others if one.name == FEWER} | {full.steps}
    flops, added = full.sampler.summary(job.count).flops, []
    for share in SHARES:
        steps = max(1, round(share * full.sampler.diffusion.num_steps))
        for name, settings in ((FEWER, job.settings), *_better(job.settings)):
            try:
                made = of_steps(job, settings, steps, flops)
            except ValueError:  # the better solver does not know this process
                continue
            if name != FEWER or made.steps not in known:
                added.append(made._replace(name=name))
    return added


def _better(settings: Settings) -> list[tuple[str, Settings]]:
    """The better solver under the name of its curve; none where it is the sampler already."""
    if settings.method.startswith(BETTER):
        return []
    clip = settings.clip and can_clip(read_method(BETTER))
    return [(f"{FEWER} of {BETTER}", settings._replace(method=BETTER, eta=0.0, clip=clip))]


def section_of(
    job: SamplingJob, scores: Sequence[Score], command: str, looks: Extractor | None = None
) -> tuple[Section, dict[str, Any]]:
    """The section of a model, and the same as numbers.

    Args:
      job: what was sampled.
      scores: of `compare.measure`, the full run first.
      command: what was typed.
      looks: LPIPS; None leaves it out.
    """
    flops = scores[0].variant.sampler.summary(job.count).flops / TERA
    rows = [_row(one, flops, job) for one in scores]
    for row, value in zip(rows, looks_of(looks, scores) if looks else [], strict=False):
        row["lpips"] = value
    moved = _moved(job, scores[0].variant)
    facts = _facts(job, scores[0].variant, command)
    foretold = [line for line in map(_foretold, scores, [job.count] * len(scores)) if line]
    notes = [STOCHASTIC_NOTE.removeprefix("note").strip()] * draws_other_noise(job.settings)
    if any(BETTER in row["name"] for row in rows):
        notes.append(BETTER_NOTE)
    section = Section(
        title=job.name,
        facts=facts,
        tables={"Quality and cost": [_told(r) for r in rows], "Foretold and measured": foretold},
        charts=_charts(rows, moved),
        samples=[
            Samples(row["name"], pictures[:SHOWN])
            for row, pictures in zip(rows, as_bytes(scores, job.pixels), strict=True)
        ],
        columns=[title.replace("\n", " ") for title in job.titles[:SHOWN]],
        strips={
            row["name"]: strip(row["computed"], f"computed steps of {row['name']}") for row in rows
        },
        notes=[*job.notes, *notes],
        fps=job.fps or FRAMES_PER_SECOND,
    )
    numbers = {"facts": facts, "variants": rows, "drift": moved, "foretold": foretold}
    return section, numbers


def _row(score: Score, flops: float, job: SamplingJob) -> dict[str, Any]:
    """All numbers of a variant."""
    variant = score.variant
    computed, compared = _steps_of(job, variant)
    return {
        "name": f"{variant.name}, {variant.steps} steps",
        "curve": variant.name,
        "steps": variant.steps,
        "computed": computed,
        "compared": compared,
        "tflop": flops / variant.ceiling,
        "ceiling": variant.ceiling,
        "seconds": score.seconds,
        "speedup": score.speedup,
        "psnr": score.psnr,
        "ssim": score.ssim,
    }


def _told(row: Mapping[str, Any]) -> dict[str, Any]:
    """The same as a line of a table."""
    return {
        "way to sample": row["name"],
        "computed": f"{sum(row['computed'])} of {row['steps']}",
        "TFLOP": row["tflop"],
        "ceiling": row["ceiling"],
        "seconds": row["seconds"],
        "speedup": row["speedup"],
        "PSNR dB": row["psnr"],
        "SSIM": row["ssim"],
        **({"LPIPS": row["lpips"]} if "lpips" in row else {}),
    }


def _steps_of(job: SamplingJob, variant: Variant) -> tuple[list[bool], list[float] | None]:
    """Which steps were computed, and what a method that decides compared: of the first batch.

    Where samples decide for themselves, those of the first.
    """
    plan, steps = variant.sampler.plan, variant.steps
    if plan is None:
        return [True] * steps, None
    if plan.sockets.decision is None:
        return (~plan.reuse).tolist(), None
    drawn = first_batch(job, job.settings._replace(cache=variant.sampler.cache))
    kinds, compared = decisions_of(*drawn)
    return (kinds == 1).tolist(), compared.astype(float).tolist()


def _moved(job: SamplingJob, full: Variant) -> dict[str, list[float]]:
    """How far the first block's input and the output move from step to step, without cache."""
    if not job.model.costs.sublayers:
        return {}
    batch = make_batch(job, 0)
    found = measure_drift(
        full.sampler, job.params, batch.keys, batch.given, lags=1, watch=watching_changes
    )
    return {name: found.changes(name).tolist() for name in (PROBE, OUTPUT)}


def _charts(rows: Sequence[Mapping[str, Any]], moved: Mapping[str, list[float]]) -> dict[str, str]:
    curves = dict.fromkeys(row["curve"] for row in rows[1:])
    by_time, by_flops = (
        [_curve(name, [row for row in rows if row["curve"] == name], x) for name in curves]
        for x in ("seconds", "tflop")
    )
    steps = [
        Series(told, range(1, len(moved[name])), moved[name][1:])
        for name, told in ((PROBE, "input of the first block"), (OUTPUT, "output"))
        if name in moved
    ]
    deciding = [
        Series(row["name"], range(row["steps"]), row["compared"]) for row in rows if row["compared"]
    ]
    return {
        "Quality against seconds": chart("seconds", "PSNR, dB", by_time),
        "Quality against FLOPs": chart("TFLOP", "PSNR, dB", by_flops),
        "How far the network moves from step to step": chart("step", "relative change", steps),
        "What caches that decide compared": chart("step", "compared number", deciding),
    }


def _curve(name: str, rows: Sequence[Mapping[str, Any]], x: str) -> Series:
    ordered = sorted(rows, key=lambda row: row[x])
    xs, ys = [row[x] for row in ordered], [row["psnr"] for row in ordered]
    return Series(name, xs, ys, [row["name"] for row in ordered])


def _foretold(score: Score, count: int) -> dict[str, Any]:
    """What a calibration foretold beside what was measured; empty for other variants."""
    found = getattr(score.variant.sampler.cache, "found", {})
    line: dict[str, Any] = {}
    psnr = found.get("foretold", {}).get("PSNR dB")
    if psnr is not None:
        line |= {"PSNR dB, foretold": psnr, "PSNR dB": score.psnr}
    if "seconds" in found:
        taken = score.seconds / count
        line |= {"s a sample, foretold": found["seconds"], "s a sample": taken}
    return {"cache": score.variant.name, **line} if line else {}


def _facts(job: SamplingJob, full: Variant, command: str) -> dict[str, str]:
    settings, shape = job.settings, "x".join(map(str, job.model.sample_shape))
    cache = job.settings.cache
    return {
        "model": f"{job.model.num_stages} stages, {job.model.num_skips} skips, {shape}, "
        f"{job.model.config.dtype}",
        "weights": job.source,
        "run": f"{settings.method}, {full.steps} steps, guidance "
        f"{full.sampler.guidance.scale:g}; {job.count} samples, {job.batch} at a time",
        "recommended": "no cache" if cache is None else notation.short(cache),
        **hardware(),
        "command": command,
    }
