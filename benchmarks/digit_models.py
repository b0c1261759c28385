"""Models of digits, and the ways to sample them that the quality benchmark sets side by side."""

import argparse
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from benchmarks import report
from skipdit_jax.caching.methods.block_cache import BlockCache
from skipdit_jax.caching.methods.skip_cache import SkipCache
from skipdit_jax.caching.plan import CachePolicy, Kinds
from skipdit_jax.caching.summary import CacheSummary, summarise
from skipdit_jax.data.digits import IMAGE_SIZE, NUM_CLASSES
from skipdit_jax.evaluation.fidelity import psnr
from skipdit_jax.pipeline import METHODS, Sampler, sample_keys
from skipdit_jax.registry.samples import num_classes
from skipdit_jax.typing import Params
from skipdit_jax.weights import load_opened, model_of, open_weights
from skipdit_jax.weights.recipe import read_diffusion, read_recipe

PICTURE = (IMAGE_SIZE, IMAGE_SIZE, 1)
INTERVALS = (2, 3, 4)  # N
Row = dict[str, Any]


@dataclass(frozen=True)
class Subject:
    """A model to examine, with the options of `Sampler` for its run without cache."""

    model: nn.Module
    params: Params
    options: dict[str, Any]

    @property
    def name(self) -> str:
        family = self.model.config.FAMILY
        if not self.model.num_skips:
            return family
        return "Skip-DiT" if family == "DiT" else f"{family}-skip"

    def __str__(self):
        """The settings of the run without cache."""
        told = {**self.options, "diffusion": self.options["diffusion"].schedule}
        return ", ".join(f"{name} {value}" for name, value in told.items())


class Cost(NamedTuple):
    """What some samples have cost.

    Attributes:
      computed: steps, on average over batches.
      reused: steps likewise.
      gflop: of one sample.
      ceiling: FLOPs of as many steps without cache, over these.
    """

    computed: float
    reused: float
    gflop: float
    ceiling: float


@dataclass(frozen=True)
class Case:
    """One way to sample a subject."""

    name: str
    subject: Subject
    changes: dict[str, Any]

    @property
    def sampler(self) -> Sampler:
        options = {**self.subject.options, **self.changes, "details": True}
        return Sampler(self.subject.model, **options)

    @property
    def decides(self) -> bool:
        """Whether the samples say which steps are reused."""
        plan = self.sampler.plan
        return plan is not None and plan.sockets.decision is not None

    @property
    def summary(self) -> CacheSummary:
        return self.sampler.summary(batch=1)

    def draw(self, given: Any, seed: int, batch: int) -> np.ndarray:
        """One picture or clip per label or text, the same for every batch size.

        Args:
          given: labels, or a condition of texts.
          seed: of the noise.
          batch: at a time.

        Returns:
          float32 in [-1, 1].
        """
        return self.draw_counted(given, seed, batch)[0]

    def draw_counted(self, given: Any, seed: int, batch: int) -> tuple[np.ndarray, Cost]:
        """The same, and what it has cost: where samples decide, as these did."""
        sampler, parts, ran = self.sampler, [], []
        for first in range(0, len(given), batch):
            asked = jax.tree.map(lambda leaf: leaf[first : first + batch], given)  # noqa: B023
            keys = sample_keys(jax.random.key(seed), first, len(asked))
            drawn = sampler(self.subject.params, keys, asked)
            parts.append(np.asarray(drawn.samples))
            ran.append(drawn.kinds)
        return np.clip(np.concatenate(parts), -1, 1), self._cost(sampler, ran)

    def _cost(self, sampler: Sampler, ran: list[Kinds]) -> Cost:
        steps, costs = len(sampler.inputs.t), self.subject.model.costs
        one = summarise(sampler.plan, steps, costs, rows=1, ran=ran)
        computed = steps * one.full_steps / one.steps
        full = steps * costs.total() * (2 if sampler.guidance.doubles else 1)
        return Cost(computed, steps - computed, full / one.ceiling / 1e9, one.ceiling)


def add_flags(
    parser: argparse.ArgumentParser, *, per_class: int, batch: int, start: int, stop: int
) -> None:
    """Adds the flags of the quality benchmarks, which have these defaults."""
    add = parser.add_argument
    add("--per-class", type=int, default=per_class, metavar="N")
    add("--batch", type=int, default=batch, help="samples at a time")
    add("--seed", type=int, default=0)
    add_sampler_flags(parser)
    add("--every", type=int, nargs="+", default=INTERVALS, metavar="N")
    add("--start", type=int, default=start, help="cache below this timestep")
    add("--stop", type=int, default=stop, help="and above this one")
    add("--json", type=Path, metavar="FILE", help="also write the figures here")


def add_sampler_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that `load_subject` reads."""
    add = parser.add_argument
    add("--steps", help="number or spacing")
    add("--method", choices=METHODS)
    add("--guidance", type=float)
    add("--eta", type=float, help="noise of ddim")
    add("--clip", action=argparse.BooleanOptionalAction, default=None)


def facts(program: str, argv: Sequence[str], subjects: Iterable[Subject]) -> dict[str, str]:
    """What a reader must know of a run: the command, the machine, how each model is sampled."""
    return {
        "command": shlex.join(["python", "-m", program, *argv]),
        "device": jax.devices()[0].device_kind,
        **report.environment(len(os.sched_getaffinity(0))),
        **{subject.name: str(subject) for subject in subjects},
    }


def load_subject(
    source: Path,
    flags: argparse.Namespace,
    frame: tuple[int, ...] = PICTURE,
    classes: int = NUM_CLASSES,
) -> Subject:
    """Reads a model of digits and how to sample it: flags, else what the checkpoint recommends.

    Args:
      source: the checkpoint.
      flags: options of `Sampler`; None is not given.
      frame: (H, W, C) of a picture, or of each frame of a clip.
      classes: that it knows; 0 of a model of text.

    Raises:
      ValueError: no checkpoint, or not one of digits.
    """
    checkpoint = open_weights(source)
    model = model_of(checkpoint)
    shape, found = model.sample_shape, num_classes(model)
    if (shape[-3:], found) != (frame, classes):
        raise ValueError(f"{source}: makes {shape} of {found} classes, wanted {frame} of {classes}")
    diffusion = read_diffusion(checkpoint, model)
    recipe = read_recipe(checkpoint, diffusion, model)
    recommended = {name: getattr(recipe, name) for name in ("steps", "method", "guidance", "eta")}
    recommended["clip"] = True if recipe.clip is None else recipe.clip  # as sample.py does pixels
    typed = {name: getattr(flags, name) for name in recommended}
    options = {name: recommended[name] if typed[name] is None else typed[name] for name in typed}
    options["diffusion"] = diffusion
    return Subject(model, load_opened(checkpoint, model), options)


def caches(subject: Subject, flags: argparse.Namespace) -> Iterator[tuple[str, CachePolicy]]:
    """The policies that fit a subject, by name."""
    window = {"start": flags.start, "stop": flags.stop}
    for every in flags.every:
        if subject.model.num_skips:
            cache = SkipCache(every=every, branch=1, **window)
            yield f"Skip-Cache {cache}", cache
        else:
            last = subject.model.num_stages - 2
            yield f"blocks 1..{last}, N={every}", BlockCache(every=every, front=1, back=1, **window)
            yield f"all blocks, N={every}", BlockCache(every=every, front=0, back=0, **window)


def cached_cases(subject: Subject, flags: argparse.Namespace) -> list[Case]:
    """With each cache."""
    return [Case(name, subject, {"cache": cache}) for name, cache in caches(subject, flags)]


def examined(
    cases: Sequence[Case],
    given: Any,
    marks: Callable[[np.ndarray], Row],
    frame: tuple[int, ...],
    *,
    seed: int,
    batch: int,
) -> Iterator[Row]:
    """A row for each case: steps, ceiling, marks of its samples, and how like the first's they are.

    Args:
      cases: the run without cache first.
      given: see `Case.draw`.
      marks: of samples.
      frame: (H, W, C) of a picture, or of each frame of a clip.
      seed: see `Case.draw`.
      batch: see `Case.draw`.
    """
    reference = full_flops = None
    for case in cases:
        start = time.perf_counter()
        samples = case.draw(given, seed, batch)
        seconds = time.perf_counter() - start
        note = f"{case.subject.name}, {case.name}: {seconds:.0f} s with compilation"
        print(note, file=sys.stderr, flush=True)
        likeness, summary = "", case.summary
        if reference is None:
            reference, full_flops = samples, summary.flops
        else:
            likeness = float(psnr(*(s.reshape(-1, *frame) for s in (samples, reference))).mean())
        yield {
            "sampling": case.name,
            "computed + reused": f"{summary.full_steps} + {summary.cached_steps}",
            "ceiling": full_flops / summary.flops,
            **marks(samples),
            "PSNR dB": likeness,
        }


def make_cases(subject: Subject, flags: argparse.Namespace) -> list[Case]:
    """Without cache; with each cache; without cache in fewer steps, equal to these in FLOPs.

    Raises:
      ValueError: settings that the model cannot follow.
    """
    cached = cached_cases(subject, flags)
    lengths = sorted({case.summary.equal_flops_steps for case in cached}, reverse=True)
    fewer = [Case(f"no cache, {n} steps", subject, {"steps": n}) for n in lengths]
    return [Case("no cache", subject, {}), *cached, *fewer]
