"""Plans of methods that choose tokens: steps in buckets, each of a fixed number of tokens a site.

How many tokens a step computes of a site must be known when a program is traced. So steps of like
budgets make a kind, which gathers as many tokens of each site as the largest of them chooses there.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from skipdit_jax.caching.plan import (
    Kinds,
    Plan,
    Rows,
    Run,
    Site,
    Sockets,
    Sub,
    SubRows,
    TokenRows,
    Tokens,
)
from skipdit_jax.caching.planning import check_sites

Counts = Int[np.ndarray, "S sites"]
Group = Int[np.ndarray, "steps"]


def choose_tokens(
    run: Run,
    sites: Sequence[Site],
    whole: Bool[np.ndarray, "S sites"],
    count: Counts,
    *,
    buckets: int,
    score: str,
    age: float,
    bonus: float,
) -> Plan:
    """Plans sub-layers that are computed whole, for some tokens, or not at all.

    Args:
      run: of the method.
      sites: which sub-layers; all others are computed at every step.
      whole: where a step computes a site for all tokens.
      count: elsewhere, for how many; see `TokenRows`.
      buckets: how many sizes for steps that compute nothing whole, besides 0.
      score: see `Tokens`.
      age: see `TokenRows`.
      bonus: see `TokenRows`.

    Raises:
      ValueError: the model has no such sub-layers or does not tell the grid of its tokens.
    """
    check_sites(run, sites)
    if run.grid is None:
        raise ValueError("cache plan: found a model without `token_grid`, wanted rows and columns")
    whole, steps = whole.copy(), run.steps
    whole[list(run.restarts)] = True
    gathered = np.where(whole, 0, np.maximum(count, 0))
    index, kinds, sizes = _kinds(whole, gathered, buckets)
    sub = Sub(tuple(sites), kinds, tokens=Tokens(sizes, run.grid, score))
    rows = TokenRows(
        count.astype(np.int32),
        np.arange(steps, dtype=np.int32),
        np.full(steps, age, np.float32),
        np.full(steps, bonus, np.float32),
    )
    return Plan(Sockets(sub=sub), Kinds(sub=index), Rows(sub=SubRows(tokens=rows)))


def _kinds(
    whole: Bool[np.ndarray, "S sites"], gathered: Counts, buckets: int
) -> tuple[Int[np.ndarray, "S"], tuple[tuple[bool, ...], ...], tuple[tuple[int, ...], ...]]:
    """The kind of each step; of each kind what it computes whole, and how many tokens of the rest.

    The cheapest come first: nothing, the buckets, one kind for each way of computing some sites
    whole, all. Nothing and all are always there.
    """
    index = np.zeros(len(whole), np.int32)
    nothing = np.zeros(whole.shape[1], np.int64)
    kinds, sizes = [nothing > 0], [nothing]
    some = np.flatnonzero(~whole.any(axis=1) & gathered.any(axis=1))
    groups = [some[group] for group in in_buckets(gathered[some], buckets)]
    mixed = np.unique(whole[whole.any(axis=1) & ~whole.all(axis=1)], axis=0)
    groups += [np.flatnonzero((whole == row).all(axis=1)) for row in mixed]
    for group in groups:
        index[group] = len(kinds)
        kinds.append(whole[group[0]])
        sizes.append(gathered[group].max(axis=0))
    index[whole.all(axis=1)] = len(kinds)
    kinds.append(np.ones_like(whole[0]))
    sizes.append(nothing)
    return (
        index,
        tuple(tuple(map(bool, kind)) for kind in kinds),
        tuple(tuple(map(int, size)) for size in sizes),
    )


def in_buckets(counts: Counts, buckets: int) -> list[Group]:
    """Cuts steps, from the smallest budget to the largest, into that many groups or fewer.

    All steps of a group compute as much as its largest does at each site; the groups are those
    which compute the least in all. By dynamic programming over where the last group begins.
    """
    order = np.argsort(counts.sum(axis=1), kind="stable")
    ordered, steps = counts[order], len(counts)
    cost = np.full((steps + 1, steps + 1), np.inf)  # of a group [begin, end)
    for end in range(1, steps + 1):
        largest = np.maximum.accumulate(ordered[:end][::-1], axis=0).sum(axis=1)
        cost[:end, end] = (largest * np.arange(1, end + 1))[::-1]
    total, begins = cost[0], [np.zeros(steps + 1, np.int64)]
    for _ in range(1, buckets):
        total[0] = 0
        choices: Float[np.ndarray, "begin end"] = total[:, None] + cost
        begins.append(choices.argmin(axis=0))
        total = choices.min(axis=0)
    groups, end = [], steps
    for begin in reversed(begins):
        if end > 0:
            groups.append(order[begin[end] : end])
            end = begin[end]
    return groups[::-1]
