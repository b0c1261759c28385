"""ToCa (arXiv 2410.05317) and DuCa (arXiv 2412.18911): MLPs renewed token by token.

At a computed step everything is; at the others attention is reused, and each MLP is computed for
its worthiest tokens: those that attention looked at most, and that have waited longest.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Int

from skipdit_jax.caching.buckets import choose_tokens
from skipdit_jax.caching.method import Method
from skipdit_jax.caching.plan import LEFT, RANDOM, Kinds, Plan, Rows, Run, Sockets, Span, Trunk
from skipdit_jax.caching.tokens import SCORED_BY
from skipdit_jax.contracts import WORTHS

SCORES = (*WORTHS, RANDOM)
BUDGET = 2.5  # what multiplies the share of tokens, published
WIDER = (1.4, 0.8)  # the interval of a step is N over the first less the second times s / S
TWOS = (0.2, 0.4)  # of s / S: where it is 2, whatever N

RULES: dict[str, tuple[tuple[float, float], tuple[float, float]]] = {
    "ddim50": ((3.0, -4.0), (0.8, 0.4)),
    "ddpm250": ((1.4, -0.8), (1.8, -1.6)),
}
"""Published budgets: (value at 0, slope) of the factor of steps, over s / S, and of layers."""

Layers = Int[np.ndarray, "S layers"]
LayerOfSite = Int[np.ndarray, "sites"]


@dataclass(frozen=True, kw_only=True)
class ToCa(Method):
    """Renews the MLPs of some tokens at each step, and everything at one of about N.

    Steps are counted from the end, s = S-1 .. 0; a layer l = 0 .. L-1 is an MLP with its attention.

    Attributes:
      interval: N. The interval of a step is N / (1.4 - 0.8 s / S), and 2 for 0.2 S <= s < 0.4 S.
      ratio: share of tokens before the factors of step and layer; 0 is FORA.
      budget: the rule of these factors: "ddim50" (tokens grow to the end and to the last layer) or
        "ddpm250" (a little to the end, fewer in later layers).
      score: what a token is worth: "attention" that it receives; "values", by their norms, needs no
        map of attention; "random".
      age: what a token's score gains in N steps in which it was not computed.
      bonus: what the best token of each square of 2 x 2 gains, as a share of its score.
      mixed: as published, an interval that changes is in force behind the first layer already: that
        layer alone is then computed whole. False computes such a step whole.
      buckets: sizes of what is gathered; fewer compile faster and compute more tokens in vain.
    """

    NAME: ClassVar[str] = "toca"
    PAPER: ClassVar[str] = "arXiv 2410.05317"
    EXAMPLE: ClassVar[str] = "toca:3"
    KEEPS: ClassVar[str] = "updates of attention and MLPs, worth and age of tokens"
    title: ClassVar[str] = "ToCa"

    interval: int = 3
    ratio: float = 0.07
    budget: str = "ddim50"
    score: str = "attention"
    age: float = 0.25
    bonus: float = 0.6
    mixed: bool = True
    buckets: int = 8

    def __post_init__(self):
        """Raises ValueError for settings that mean nothing."""
        for name, least in (("interval", 1), ("ratio", 0), ("buckets", 1)):
            if getattr(self, name) < least:
                found = getattr(self, name)
                raise ValueError(f"{self.title}: {name} is {found}, wanted {least} or more")
        for name, known in (("budget", tuple(RULES)), ("score", SCORES)):
            if getattr(self, name) not in known:
                found = getattr(self, name)
                raise ValueError(f"{self.title}: {name} is {found!r}, wanted {' or '.join(known)}")

    def plan(self, run: Run) -> Plan:
        """The plan of a run; see `CachePolicy`."""
        full, _ = self.computed(run.steps, len(run.sites(*SCORED_BY)))
        return self._tokens(run, full, np.zeros_like(full))

    def computed(self, steps: int, layers: int) -> tuple[Bool[np.ndarray, "S layers"], Layers]:
        """Where a layer is computed whole, and the interval that decided so."""
        full = np.zeros((steps, layers), bool)
        within = np.zeros((steps, layers), np.int64)
        now = self.interval
        for step in range(steps):
            left = steps - 1 - step
            for layer in range(layers):
                within[step, layer] = now
                full[step, layer] = step == 0 or left % now == 0
                if full[step, layer] and layer == 0:
                    now = self._interval(left, steps)
        if not self.mixed:
            full[:], within[:] = full[:, :1], within[:, :1]
        return full, within

    def counts(self, steps: int, layers: int, tokens: int) -> Layers:
        """How many of N tokens each layer chooses at each step."""
        left = np.arange(steps)[::-1, None] / steps
        depth = np.arange(layers)[None] / max(layers - 1, 1)
        (late, slope), (deep, deeper) = RULES[self.budget]
        share = self.ratio * (deep + deeper * depth) * (late + slope * left) * BUDGET
        share = np.clip(share.astype(np.float32), 0, 1)  # the published code rounds here, and below
        return (share * np.float32(tokens)).astype(np.int64)

    def _interval(self, left: int, steps: int) -> int:
        """In float32, and to even numbers where two are as near, as published."""
        if self.ratio == 0:
            return self.interval
        if int(TWOS[0] * steps) <= left < int(TWOS[1] * steps):
            return 2
        start, slope = map(np.float32, WIDER)
        wider = start - slope * np.float32(left) / np.float32(steps)
        return int(np.rint(np.float32(self.interval) / wider))

    def _tokens(
        self, run: Run, full: Bool[np.ndarray, "S layers"], left: Bool[np.ndarray, "S layers"]
    ) -> Plan:
        """The plan of sub-layers; `left` where a layer is neither computed nor reused."""
        mlps, sites = run.sites(*SCORED_BY), run.sites()
        rows, columns = run.grid or (0, 0)
        count = np.where(left, LEFT, self.counts(run.steps, len(mlps), rows * columns))
        layer = _layers(run)
        is_mlp = np.array([name in SCORED_BY for _, name in sites])
        return choose_tokens(
            run,
            sites,
            full[:, layer],
            np.where(is_mlp, count[:, layer], 0),
            buckets=self.buckets,
            score=self.score,
            age=self.age / self.interval,
            bonus=1 + self.bonus,
        )


@dataclass(frozen=True, kw_only=True)
class DuCa(ToCa):
    """ToCa with steps between that take the last stage's output as it was.

    Of the steps that are not computed, those with even (s mod the interval) run nothing but the
    head. The settings are ToCa's.
    """

    NAME: ClassVar[str] = "duca"
    PAPER: ClassVar[str] = "arXiv 2412.18911"
    EXAMPLE: ClassVar[str] = "duca:3"
    KEEPS: ClassVar[str] = "as ToCa, and what leaves the last stage"
    title: ClassVar[str] = "DuCa"

    ratio: float = 0.05
    bonus: float = 0.8

    def plan(self, run: Run) -> Plan:
        """The plan of a run; see `CachePolicy`."""
        full, within = self.computed(run.steps, len(run.sites(*SCORED_BY)))
        countdown = np.arange(run.steps)[::-1, None]
        aggressive = ~full & (countdown % within % 2 == 0)
        aggressive[list(run.restarts)] = False
        inner = self._tokens(run, full, aggressive)
        # Where the first layer alone is computed, what it keeps is renewed, but its output dropped.
        span = Span(int(self.mixed and run.num_stages > 1), run.num_stages)
        kinds = np.where(aggressive[:, -1], 0, 1).astype(np.int32)
        sockets = Sockets(trunk=Trunk((span,)), sub=inner.sockets.sub)
        return Plan(sockets, Kinds(trunk=kinds, sub=inner.kinds.sub), Rows(sub=inner.rows.sub))


def _layers(run: Run) -> LayerOfSite:
    """Which layer each sub-layer belongs to: an MLP ends one."""
    ends = np.array([name in SCORED_BY for _, name in run.sites()], np.int64)
    return np.cumsum(ends) - ends
