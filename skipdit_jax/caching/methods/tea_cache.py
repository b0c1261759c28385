"""TeaCache (arXiv 2411.19108): the first block's modulated input tells how far the output moved."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from skipdit_jax.caching.decisions import Decision, check_over
from skipdit_jax.caching.method import Method
from skipdit_jax.caching.plan import Plan, Run
from skipdit_jax.caching.planning import decided, reuse_middle
from skipdit_jax.caching.probes import FirstInput
from skipdit_jax.caching.rules import IDENTITY, Accumulate, Polynomial, accumulate
from skipdit_jax.published import TEACACHE_POLYNOMIALS

UNFITTED = "identity"
DEGREE = 4


@dataclass(frozen=True, kw_only=True)
class TeaCache(Method):
    """Reuses what all stages added while the changes of a cheap quantity sum up to little.

    With m the modulated input of the first block, of each step, and a = 0 behind a computed step,

        a += p(sum |m_i - m_(i-1)| / sum |m_(i-1)|);    reuse if a < threshold

    The first and the last step are computed.

    Attributes:
      threshold: of a; published with the polynomials of video models: 0.1 and 0.2.
      polynomial: p, coefficients of degree 4 and below, the highest first; or the name of a model
        for which one was published (`published.TEACACHE_POLYNOMIALS`); "identity": none was fitted.
      over: whose m decides, "mean" of all samples, "max" or "each"; see `decisions.OVER`.
    """

    NAME: ClassVar[str] = "teacache"
    PAPER: ClassVar[str] = "arXiv 2411.19108"
    EXAMPLE: ClassVar[str] = "teacache:0.2"
    KEEPS: ClassVar[str] = "the first block's input, and what all stages add"
    STATIC: ClassVar[bool] = False
    title: ClassVar[str] = "TeaCache"

    threshold: float | int = 0.1
    polynomial: str | Polynomial = UNFITTED
    over: str = "mean"

    def __post_init__(self):
        """Raises ValueError for settings that mean nothing."""
        check_over("TeaCache", self.over)
        known = (UNFITTED, *TEACACHE_POLYNOMIALS)
        if isinstance(self.polynomial, str) and self.polynomial not in known:
            wanted = f"one of {', '.join(known)}, or coefficients"
            raise ValueError(f"TeaCache: polynomial is {self.polynomial!r}, wanted {wanted}")
        if len(self._coefficients) > DEGREE + 1:
            found = len(self._coefficients)
            raise ValueError(f"TeaCache: found {found} coefficients, wanted at most {DEGREE + 1}")

    @property
    def _coefficients(self) -> Polynomial:
        if not isinstance(self.polynomial, str):
            return self.polynomial
        return IDENTITY if self.polynomial == UNFITTED else TEACACHE_POLYNOMIALS[self.polynomial]

    def plan(self, run: Run) -> Plan:
        """The plan of a run; see `CachePolicy`."""
        if not run.sublayers:
            raise ValueError("TeaCache: the model shows no input of a sub-layer to look at")
        step = np.arange(run.steps)
        free = (step > 0) & (step < run.steps - 1)
        missing = (0.0,) * (DEGREE + 1 - len(self._coefficients))
        numbers = accumulate(run.steps, self.threshold, (*missing, *self._coefficients))
        plan = reuse_middle(run, free, 0, 0, residual=True)
        return decided(plan, Decision(FirstInput(), Accumulate(), over=self.over), free, numbers)
