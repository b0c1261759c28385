"""The files and the words of `cli.stability`."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from skipdit_jax.calibration.similarity import deep_stage
from skipdit_jax.cli.job import SamplingJob
from skipdit_jax.cli.stability_report import Asked, Report, arrays_of, facts_of
from skipdit_jax.files import replacing_path
from skipdit_jax.visualise import stability as figures

SIMILARITY, SURFACE, SPECTRA, ERRORS = "similarity", "surface", "spectra", "cache_error"
NUMBERS, FACTS = "stability.npz", "stability.json"

Reports = Mapping[str, tuple[SamplingJob, Asked, Report]]
"""Name of a model -> itself, what was asked, what was found."""


def names(kind: str) -> list[str]:
    """All files that may be written, with figures of this kind."""
    return [NUMBERS, FACTS, *(f"{name}.{kind}" for name in (SIMILARITY, SURFACE, SPECTRA, ERRORS))]


def write(out: Path, kind: str, reports: Reports, run: Mapping[str, Any]) -> list[Path]:
    """Writes numbers, facts and figures.

    Args:
      out: the folder, which is made.
      kind: of the figures, without a dot.
      reports: of all models.
      run: what the facts say besides.

    Returns:
      The paths of the files.

    Raises:
      OSError: a file cannot be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {}
    for name, (_, asked, report) in reports.items():
        arrays |= {"coordinates": asked.coordinates, f"{name}: t": asked.t}
        arrays |= arrays_of(name, report)
    facts = {name: facts_of(*of) for name, of in reports.items()}
    numbers, told = out / NUMBERS, out / FACTS
    with replacing_path(numbers) as new, new.open("wb") as file:
        np.savez(file, **arrays)
    with replacing_path(told) as new:
        new.write_text(json.dumps({**run, "models": facts}, indent=1, allow_nan=False) + "\n")
    return [numbers, told, *draw(out, kind, reports)]


def draw(out: Path, kind: str, reports: Reports) -> list[Path]:
    """Draws all figures, that of spectra where a model has skips."""
    path = {name: out / f"{name}.{kind}" for name in (SIMILARITY, SURFACE, SPECTRA, ERRORS)}
    found = {name: report for name, (_, _, report) in reports.items()}
    alike = {
        name: {"cosine": one.similarity.cosine, "relative L1": one.similarity.relative}
        for name, one in found.items()
    }
    deep = {name: deep_stage(job.model.num_stages) for name, (job, _, _) in reports.items()}
    figures.draw_similarity(path[SIMILARITY], alike, deep)
    coordinates = next(iter(reports.values()))[1].coordinates
    figures.draw_surfaces(path[SURFACE], _panels(reports), coordinates)
    pairs = {name: (one.errors.predicted, one.errors.measured) for name, one in found.items()}
    figures.draw_cache_errors(path[ERRORS], pairs)
    spectra = {name: one.spectra._asdict() for name, one in found.items() if len(one.spectra.whole)}
    if not spectra:
        return [path[name] for name in (SIMILARITY, SURFACE, ERRORS)]
    figures.draw_spectra(path[SPECTRA], spectra)
    return [*path.values()]


def _panels(reports: Reports) -> dict[str, dict[str, np.ndarray]]:
    """Loss and deep feature at each place in the process: models may count other timesteps."""
    panels: dict[str, dict[str, np.ndarray]] = {}
    for name, (_, asked, report) in reports.items():
        shown = {"loss": report.around.loss, "deep feature, relative L1": report.around.feature}
        panels[name] = {
            f"{what}, t = {t}": values[..., number]
            for what, values in shown.items()
            for number, t in enumerate(asked.t.tolist())
        }
    return panels


def described(reports: Reports) -> str:
    """What was found, for people: a line for each model."""
    lines = []
    for name, (job, _, report) in reports.items():
        cosines = report.similarity.cosine[1:, deep_stage(job.model.num_stages)]
        cosine = float(cosines.mean()) if len(cosines) else math.nan
        correlation = report.errors.correlation
        shown = "none" if correlation is None else f"{correlation:.3f}"
        ratio = "none" if report.errors.ratio is None else f"{report.errors.ratio:.3g}"
        lines.append(
            f"{name}: deep feature at neighbouring steps, cosine {cosine:.4f}; "
            f"foretold and measured cache errors, correlation {shown}, median ratio {ratio}"
        )
    return "\n".join(lines)
