"""Inception score: how sure a classifier is of each picture, and how evenly it names all classes.

Salimans et al. 1606.03498, section 4, of the class probabilities p(y|x) of an Inception network:

(1)  IS = exp( mean over x of KL(p(y|x) || p(y)) ),   p(y) = mean over x of p(y|x)

It is taken of parts of the set and averaged. Evaluators differ in what they call parts, and (1)
grows with the size of a part: say which. It knows nothing of real pictures.
"""

import itertools
from typing import NamedTuple

import numpy as np

from skipdit_jax.evaluation.features import Features, checked

ADM_PART = 5000
"""Consecutive samples of a part in the evaluator of ADM (Dhariwal & Nichol 2105.05233)."""


class InceptionScore(NamedTuple):
    """Mean and population standard deviation of (1) over the parts, between 1 and K."""

    mean: float
    std: float


def inception_score(
    logits: Features, every: int = ADM_PART, parts: int | None = None
) -> InceptionScore:
    """Inception score (1) of logits [N,K], in float64.

    The evaluator of ADM, whose numbers DiT cites, takes logits *without* the bias of the last
    layer, pool [N,2048] @ weights [2048,1008], and parts of 5000 of which the last may be shorter;
    others take logits with the bias and `parts=10`.

    Args:
      logits: [N,K], in the order of the samples.
      every: samples of a part; the last part holds the rest.
      parts: a number of parts that differ by one sample at most, instead of `every`.

    Raises:
      ValueError: no samples, fewer than parts, numbers that are not finite, or parts below 1.
    """
    x = checked("inception_score", logits, fewest=1 if parts is None else parts)
    if min(every, parts or 1) < 1 or parts == 0:
        raise ValueError(f"inception_score: found every {every}, parts {parts}, wanted 1 or more")
    if parts is None:
        edges = [*range(0, len(x), every), len(x)]
    else:
        edges = [len(x) * i // parts for i in range(parts + 1)]
    scores = [_score(x[a:b]) for a, b in itertools.pairwise(edges)]
    return InceptionScore(float(np.mean(scores)), float(np.std(scores)))


def _score(logits: np.ndarray) -> float:
    """(1) of one part, by logarithms: a probability that underflows adds 0, not NaN."""
    from scipy.special import log_softmax, logsumexp  # heavy; every command line imports this

    logs = log_softmax(np.asarray(logits, np.float64), axis=1)
    overall = logsumexp(logs, axis=0, keepdims=True) - np.log(len(logs))
    return float(np.exp((np.exp(logs) * (logs - overall)).sum(axis=1).mean()))
