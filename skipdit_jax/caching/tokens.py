"""Token by token: an MLP that a step does not compute whole is computed for some of its tokens.

Chosen tokens are gathered, computed, and scattered into the ring of the MLP, whose value is then
reused as a whole. A kind of step gathers a fixed number of tokens; how many of them are chosen is
data, and the surplus is dropped, so results do not depend on these numbers.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from skipdit_jax.caching import rings
from skipdit_jax.caching.plan import LEFT, RANDOM, Ring, Site, Sub, SubRows, TokenRows, Tokens
from skipdit_jax.caching.rings import Access, Part
from skipdit_jax.contracts import Hook, Sublayer

SCORED_BY = {"mlp": "attn", "tmlp": "tattn"}
"""MLP -> the attention of its block, which tells what its tokens are worth."""

SQUARE = 2  # side of the squares of tokens whose best one gets the bonus
AGE, WORTH = "age", "worth"
Kept = dict[Site, Array]
"""Of each site its ring, and beside it "mlp age" and "mlp worth", each [1,B,..,N]."""

Scores = Float[Array, "rows *frames N"]


def beside(site: Site, what: str) -> Site:
    """Where something stands that is kept of an MLP's tokens."""
    return site[0], f"{site[1]} {what}"


def hook(
    sub: Sub,
    number: int,
    row: SubRows,
    part: Part | None,
    keys: Key[Array, "rows"] | None,
    after: Kept,
) -> Hook:
    """What the seam calls at a step of kind `number`; leaves what is kept in `after`.

    Args:
      sub: the socket, with `tokens`.
      number: of the kind.
      row: numbers of the step.
      part: which rows of what is kept are those of the network.
      keys: one for each row; only random choices need them.
      after: what is kept, a dict of this trace.
    """
    places = {site: place for place, site in enumerate(sub.sites)}
    access = Access(Ring(), part=part)

    def update(sublayer: Sublayer) -> tuple[Any, Array]:
        site = sublayer.stage, sublayer.name
        if site not in places:
            return sublayer.plain()
        place = places[site]
        if sub.kinds[number][place]:
            return sublayer.gate, _whole(sub, access, sublayer, after)
        if sublayer.name in SCORED_BY:
            _some(sub, number, place, row.tokens, access, keys, sublayer, after)
        return sublayer.gate, access.read(after[site])

    return update


def _whole(sub: Sub, access: Access, sublayer: Sublayer, after: Kept) -> Array:
    """Computes a sub-layer for all tokens, and what they are worth; they are as good as new."""
    stage, name = sublayer.stage, sublayer.name
    value = sublayer.run(sublayer.x)
    after[stage, name] = access.write(after[stage, name], value)
    for mlp, attention in SCORED_BY.items():
        worth, age = (beside((stage, mlp), what) for what in (WORTH, AGE))
        if name == attention and worth in after:
            assert sublayer.worth is not None
            assert sub.tokens is not None
            told = sublayer.worth(sublayer.x, sub.tokens.score)
            after[worth] = access.write(after[worth], told)
        if name == mlp:
            after[age] = access.write(after[age], jnp.zeros(value.shape[:-1], jnp.float32))
    return value


def _some(
    sub: Sub,
    number: int,
    place: int,
    rows: TokenRows | None,
    access: Access,
    keys: Key[Array, "rows"] | None,
    sublayer: Sublayer,
    after: Kept,
) -> None:
    """Computes an MLP for the tokens that are chosen of it (arXiv 2410.05317, section 3.2)."""
    assert sub.tokens is not None
    assert rows is not None
    site, count = sub.sites[place], rows.chosen[place]
    at_age = beside(site, AGE)
    age = access.read(after[at_age])
    older = age + (count != LEFT).astype(age.dtype)
    size = sub.tokens.sizes[number][place]
    if size:
        if sub.tokens.score == RANDOM:
            worth = draw(keys, rows.step, place, age.shape[1:])
        else:
            worth = normalised(access.read(after[beside(site, WORTH)]))
        score = with_bonus(worth + rows.age * age, sub.tokens, rows.bonus)
        chosen = choose_tokens(score, count, size)
        update = sublayer.run(_gathered(sublayer.x, chosen))
        new = _scattered(access.read(after[site]), chosen, update)
        after[site] = access.write(after[site], new)
        older = _scattered(older, chosen, jnp.zeros(chosen.shape, jnp.float32))
    after[at_age] = access.write(after[at_age], older)


def normalised(worth: Scores) -> Scores:
    """Of length 1 over the tokens of each frame."""
    return worth / jnp.linalg.norm(worth, axis=-1, keepdims=True)


def draw(
    keys: Key[Array, "rows"] | None, step: Any, place: int, shape: tuple[int, ...]
) -> Float[Array, "rows *frames N"]:
    """Uniform numbers that depend on a sample's key, the step and the site alone."""
    if keys is None:
        raise ValueError("cache: found no keys for tokens that are chosen at random")

    def of_row(key: Any) -> Array:
        own = jax.random.fold_in(jax.random.fold_in(key, step), place)
        return jax.random.uniform(own, shape, jnp.float32)

    return jax.vmap(of_row)(keys)


def with_bonus(score: Scores, tokens: Tokens, bonus: Any) -> Scores:
    """The best score of each square of 2 x 2 tokens, the first of equal ones, times the bonus."""
    (rows, columns), grid = tokens.grid, score.shape[:-1]
    odd = [(0, 0)] * len(grid) + [(0, -rows % SQUARE), (0, -columns % SQUARE)]
    padded = jnp.pad(score.reshape(*grid, *tokens.grid), odd, constant_values=-jnp.inf)
    high, wide = padded.shape[-2] // SQUARE, padded.shape[-1] // SQUARE
    squares = jnp.swapaxes(padded.reshape(*grid, high, SQUARE, wide, SQUARE), -3, -2)
    squares = squares.reshape(*grid, high, wide, SQUARE**2)
    best = jax.nn.one_hot(jnp.argmax(squares, axis=-1), SQUARE**2, dtype=bool)
    best = jnp.swapaxes(best.reshape(*grid, high, wide, SQUARE, SQUARE), -3, -2)
    best = best.reshape(padded.shape)[..., :rows, :columns]
    return score * jnp.where(best.reshape(score.shape), bonus, 1.0)


def choose_tokens(score: Scores, count: Any, size: int) -> Int[Array, "rows *frames K"]:
    """Places of the `count` highest scores, of equal ones the first; behind them, up to `size`,
    places where there is no token."""
    best = jax.lax.top_k(score, size)[1]
    rank = jax.lax.broadcasted_iota(best.dtype, best.shape, best.ndim - 1)
    return jnp.where(rank < count, best, score.shape[-1] + rank)


def _gathered(x: Array, chosen: Int[Array, "rows *frames K"]) -> Array:
    last = x.shape[-2] - 1
    return jnp.take_along_axis(x, jnp.minimum(chosen, last)[..., None], axis=-2)


def _scattered(values: Array, chosen: Int[Array, "rows *frames K"], new: Array) -> Array:
    """The values [..,N] or [..,N,D] with new ones [..,K] or [..,K,D] at the chosen tokens."""

    def of_row(values: Array, chosen: Array, new: Array) -> Array:
        return values.at[chosen].set(new, mode="drop", unique_indices=True)

    for _ in chosen.shape[:-1]:
        of_row = jax.vmap(of_row)
    return of_row(values, chosen, new)


def empty(sub: Sub, found: dict[Site, jax.ShapeDtypeStruct], worths: set[Site]) -> Kept:
    """What is kept of tokens before the first step: ages and worths of 0.

    Args:
      sub: the socket.
      found: shapes of the updates of all sub-layers.
      worths: attentions that tell what tokens are worth.

    Raises:
      ValueError: the model's attention does not.
    """
    assert sub.tokens is not None
    kept: Kept = {}
    for stage, name in sub.sites:
        if name not in SCORED_BY:
            continue
        of_tokens = jax.ShapeDtypeStruct(found[stage, name].shape[:-1], jnp.float32)
        kept[beside((stage, name), AGE)] = rings.empty(sub.ring, of_tokens)
        if sub.tokens.score == RANDOM:
            continue
        if (stage, SCORED_BY[name]) not in worths:
            raise ValueError(
                f"cache: {SCORED_BY[name]} of stage {stage} does not tell what its tokens are "
                f"worth, wanted score={RANDOM!r}"
            )
        kept[beside((stage, name), WORTH)] = rings.empty(sub.ring, of_tokens)
    return kept
