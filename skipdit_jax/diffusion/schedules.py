"""Noise schedules: everything about a diffusion that does not depend on data.

All arithmetic is numpy float64 on the host, before any tracing; `coefficients` casts once.

Sources: Ho et al. 2006.11239 (linear betas), Nichol & Dhariwal 2102.09672 (squared-cosine betas,
respacing), Rombach et al. 2112.10752 (scaled-linear betas), Lin et al. 2305.08891 (betas that end
at pure noise), Lipman et al. 2210.02747 and Liu et al. 2209.03003 (straight paths, "flow").
"""

import dataclasses
import itertools
import math
from functools import cached_property

import numpy as np
from jaxtyping import Int

from skipdit_jax.diffusion.spacing import kept_timesteps
from skipdit_jax.diffusion.tables import (
    Coefficients,
    Table,
    Tables,
    make_coefficients,
    make_tables,
    read_only,
)

FLOW = "flow"
"""Straight paths x_t = (1 - q) x_0 + q ε, q in [0, 1], and what a network predicts there: ε - x_0.

A network is given 1000 q. Such a process has no betas, and samplers of its own."""
SCHEDULES = ("linear", "squaredcos_cap_v2", "scaled_linear")
"""Those of betas."""
WITHOUT_BETA_RANGE = ("squaredcos_cap_v2", FLOW)
PREDICTIONS = ("epsilon", "xstart", "v")
"""Those of betas."""
VARIANCES = ("learned_range", "fixed_small", "fixed_large")

LINEAR_RANGE = (1e-4, 0.02)
"""First and last beta at T = 1000 (2006.11239, section 4)."""
SCALED_LINEAR_RANGE = (0.00085, 0.012)
"""First and last beta of Stable Diffusion (2112.10752, released configuration)."""
REFERENCE_TIMESTEPS = 1000
"""T at which the linear range is quoted; other lengths scale it to end at the same noise."""
MAX_TIMESTEPS = 100_000
"""A hundred times the published T; the tables of 10^9, which a file may state, fill any memory."""
COSINE_OFFSET = 0.008
"""s in f(t) = cos^2((t/T + s)/(1 + s) pi/2) (2102.09672, eq. 17)."""
COSINE_MAX_BETA = 0.999
"""Clipping of the squared-cosine betas (2102.09672, section 3.2)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parameterization:
    """What the output of a network means: all that a traced step needs to know of a diffusion.

    Pass this (`diffusion.parameterization`), not the whole `Diffusion`, as a static argument of a
    jitted sampler: another schedule of equal length then compiles nothing.

    Attributes:
      prediction: the first C channels are the noise ("epsilon"), x_0 ("xstart"), v ("v"), or the
        way from x_0 to the noise ("flow").
      variance: "learned_range": C more channels interpolate log variances; "fixed_small": β̃_t;
        "fixed_large": β_t.

    Raises:
      ValueError: unknown choice.
    """

    prediction: str = "epsilon"
    variance: str = "learned_range"

    def __post_init__(self) -> None:
        _check_choice("prediction", self.prediction, (*PREDICTIONS, FLOW))
        _check_choice("variance", self.variance, VARIANCES)

    @property
    def learns_variance(self) -> bool:
        """Whether the network gives 2C channels."""
        return self.variance == "learned_range"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Diffusion(Parameterization):
    """A diffusion process and the part of its timesteps in use; hashable, made of plain values.

    Attributes:
      schedule: "linear", "squaredcos_cap_v2" or "scaled_linear"; or "flow", see `FLOW`.
      num_timesteps: T of the training schedule.
      spacing: which timesteps are kept, see `spacing.kept_timesteps`; "" keeps all.
      beta_range: first and last beta, where they differ from the published ones of the schedule;
        not for "squaredcos_cap_v2".
      zero_snr: ᾱ is stretched so that the last timestep is pure noise (2305.08891, algorithm 1),
        of which a network that predicts noise could say nothing.

    Raises:
      ValueError: unknown choice, unreadable spacing, or betas outside (0, 1).
    """

    schedule: str = "linear"
    num_timesteps: int = REFERENCE_TIMESTEPS
    spacing: str = ""
    beta_range: tuple[float, float] | None = None
    zero_snr: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_choice("schedule", self.schedule, (*SCHEDULES, FLOW))
        if not 1 <= self.num_timesteps <= MAX_TIMESTEPS:
            raise ValueError(
                f"num_timesteps: found {self.num_timesteps}, wanted 1 to {MAX_TIMESTEPS}"
            )
        if self.beta_range is not None:
            _check_beta_range(self.schedule, self.beta_range)
        kept_timesteps(self.num_timesteps, self.spacing)
        _check_prediction(self)
        if self.schedule == FLOW:
            return
        if (largest := self._training_betas.max()) >= 1:
            raise ValueError(
                f"schedule {self.schedule!r} with num_timesteps {self.num_timesteps}: largest beta "
                f"is {largest:.4g}, wanted less than 1"
            )

    @cached_property
    def _training_betas(self) -> Table:
        return training_betas(self.schedule, self.num_timesteps, self.beta_range)

    @cached_property
    def training_alpha_bar(self) -> Table:
        """ᾱ of every training timestep, float64 [T].

        Raises:
          ValueError: schedule "flow", which has none.
        """
        if self.schedule == FLOW:
            raise ValueError(f"schedule {FLOW!r}: has no betas, wanted a sampler of flows")
        alpha_bar = np.cumprod(1.0 - self._training_betas)
        return read_only(_to_pure_noise(alpha_bar) if self.zero_snr else alpha_bar)

    @cached_property
    def timesteps(self) -> Int[np.ndarray, "S"]:
        """Original timestep of each index, int64, ascending: what the network is given."""
        return read_only(kept_timesteps(self.num_timesteps, self.spacing))

    @cached_property
    def tables(self) -> Tables:
        """Float64 tables [S] of the kept steps."""
        return make_tables(self.training_alpha_bar[self.timesteps])

    @property
    def num_steps(self) -> int:
        """S, the number of kept steps."""
        return len(self.timesteps)

    @property
    def parameterization(self) -> Parameterization:
        """The part that a traced step depends on."""
        return Parameterization(prediction=self.prediction, variance=self.variance)

    def noise_at(self, timesteps: Table) -> Table:
        """The share of noise in latents at these timesteps, float64 [S]: q of a flow.

        Of a process of betas sqrt(1-ᾱ) / (sqrt(ᾱ) + sqrt(1-ᾱ)), q of the same ratio of noise to
        data; between two timesteps ᾱ is interpolated.
        """
        if self.schedule == FLOW:
            return timesteps / REFERENCE_TIMESTEPS
        alpha_bar = self.training_alpha_bar
        kept = np.interp(timesteps, np.arange(len(alpha_bar)), alpha_bar)
        data, noise = np.sqrt(kept), np.sqrt(1 - kept)
        return noise / (data + noise)

    def respace(self, spacing: str) -> "Diffusion":
        """The same training process with other kept timesteps."""
        return dataclasses.replace(self, spacing=spacing)

    def coefficients(self) -> Coefficients:
        """Float32 coefficients [S] on the host, index 0 the least noisy step."""
        return make_coefficients(self.tables)


def training_betas(
    schedule: str, num_timesteps: int, beta_range: tuple[float, float] | None = None
) -> Table:
    """Betas of the training process, float64 [T]; see the constants above for the sources."""
    if schedule == "linear":
        scale = REFERENCE_TIMESTEPS / num_timesteps
        first, last = beta_range or LINEAR_RANGE
        return np.linspace(scale * first, scale * last, num_timesteps, dtype=np.float64)
    if schedule == "scaled_linear":
        first, last = beta_range or SCALED_LINEAR_RANGE
        return np.linspace(first**0.5, last**0.5, num_timesteps, dtype=np.float64) ** 2
    alpha_bar = [_cosine_alpha_bar(t / num_timesteps) for t in range(num_timesteps + 1)]
    return np.array(
        [
            min(1 - after / before, COSINE_MAX_BETA)
            for before, after in itertools.pairwise(alpha_bar)
        ]
    )


def _cosine_alpha_bar(fraction: float) -> float:
    """2102.09672, eq. 17, up to the constant f(0) that cancels in the betas."""
    return math.cos((fraction + COSINE_OFFSET) / (1 + COSINE_OFFSET) * math.pi / 2) ** 2


def _to_pure_noise(alpha_bar: Table) -> Table:
    """2305.08891, algorithm 1: sqrt(ᾱ) shifted to end at 0, and scaled to begin where it did."""
    root = np.sqrt(alpha_bar)
    return ((root - root[-1]) * (root[0] / (root[0] - root[-1]))) ** 2


def _check_prediction(diffusion: Diffusion) -> None:
    if (diffusion.schedule == FLOW) is not (diffusion.prediction == FLOW):
        raise ValueError(
            f"prediction {diffusion.prediction!r} with schedule {diffusion.schedule!r}: wanted "
            f"{FLOW!r} for both or for neither"
        )
    if diffusion.zero_snr and diffusion.prediction in ("epsilon", FLOW):
        raise ValueError(f"zero_snr: found prediction {diffusion.prediction!r}, wanted xstart or v")


def _check_beta_range(schedule: str, beta_range: tuple[float, float]) -> None:
    if schedule in WITHOUT_BETA_RANGE:
        raise ValueError(f"beta_range: found {beta_range}, but schedule {schedule!r} takes none")
    first, last = beta_range
    if not 0 < first <= last < 1:
        raise ValueError(f"beta_range: found {beta_range}, wanted 0 < first <= last < 1")


def _check_choice(what: str, found: str, wanted: tuple[str, ...]) -> None:
    if found not in wanted:
        raise ValueError(f"{what}: found {found!r}, wanted one of {', '.join(wanted)}")
