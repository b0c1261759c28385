"""Plans: what each step of a run computes, decided on the host before anything is traced.

A plan fills up to three sockets, nested in this order:

    guide     which halves of [cond; uncond] a step runs
      trunk     which stages it runs
        sub       which sub-layers of these stages

Its sockets are hashable and fixed when a program is traced; the kind of every step, and the numbers
that go with it, are data. Kinds of a socket are numbered from the cheapest to the one that computes
everything.

Where a method decides as it runs (`decisions`), the plan says at which steps it may: the trunk's
kind of such a step is the cheapest, and the loop may find another.
"""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int

from skipdit_jax.typing import StepFlags

Site = tuple[int, str]
"""A sub-layer: its stage and its name."""


class Run(NamedTuple):
    """What a method may know of a sampling run when it plans.

    Attributes:
      timesteps: int [S], in sampling order (descending). They count as of a process of 1000, for
        which all intervals were published: those of a model trained on T steps come as
        floor(1000 t / T).
      num_stages: U.
      num_skips: K.
      sublayers: names of the sub-layers of a stage that can be cached, in the order they run.
      guided: whether the network batch is [cond; uncond].
      restarts: steps that must be computed, and behind which nothing older may be used: a half that
        a guide left out before has nothing of the past.
      noise: float64 [S], the share of noise in each step's latents: 0 is data, 1 pure noise; None
        where nobody says.
      grid: rows and columns of the tokens of a picture or frame; None where nobody tells.
    """

    timesteps: Int[np.ndarray, "S"]
    num_stages: int
    num_skips: int
    sublayers: tuple[str, ...] = ()
    guided: bool = False
    restarts: tuple[int, ...] = ()
    noise: Float[np.ndarray, "S"] | None = None
    grid: tuple[int, int] | None = None

    @property
    def steps(self) -> int:
        """S."""
        return len(self.timesteps)

    def sites(self, *names: str) -> tuple[Site, ...]:
        """Every sub-layer of these names (none: of all), stage by stage."""
        wanted = names or self.sublayers
        return tuple((u, n) for u in range(self.num_stages) for n in self.sublayers if n in wanted)


class Ring(NamedTuple):
    """How many values of the past a socket keeps of each thing it caches.

    Attributes:
      slots: R. With 1 a reused value is the kept one; with more it is their weighted sum.
      folds: the last slot is for what forecasts left behind: a computed step first writes there the
        sum that it would have taken for its own value. Of all reused values this one alone goes on
        to count, so a reusing step writes nothing.
    """

    slots: int = 1
    folds: bool = False


class RingRows(NamedTuple):
    """What a ring of R > 1 slots does at each step.

    Of sub-layers that are not computed together, one for each site: [S,sites] and [S,sites,R].

    Attributes:
      write: int32 [S], the slot that a step writes.
      weights: float32 [S,R], of the slots in a reused value, or in what is folded.
    """

    write: Int[np.ndarray, "S ..."]
    weights: Float[np.ndarray, "S ... R"]


class Span(NamedTuple):
    """A range of stages whose result may come from a cache.

    Attributes:
      lo: its first stage.
      hi: the stage behind its last.
      residual: False keeps what leaves it (Skip-Cache); True what it added to its input.
      skips: also keep the outputs of its stages that later ones fuse; without, there may be none.
    """

    lo: int
    hi: int
    residual: bool = False
    skips: bool = False

    def feeds(self, num_stages: int, num_skips: int) -> tuple[int, ...]:
        """Its stages whose output is fused behind it."""
        pushing = range(self.lo, min(self.hi, num_skips))
        return tuple(u for u in pushing if num_stages - 1 - u >= self.hi)


class Trunk(NamedTuple):
    """The trunk socket: kind i reuses span i, the last kind computes all stages.

    Attributes:
      spans: at most one of them is reused at a step.
      ring: what is kept of each.
      head: the one thing kept is the network's output; `spans` is then empty, and a reusing step
        runs nothing at all.
    """

    spans: tuple[Span, ...]
    ring: Ring = Ring()
    head: bool = False

    @property
    def kinds(self) -> int:
        """How many kinds of step there are."""
        return len(self.spans) + 1 + self.head


class Tokens(NamedTuple):
    """How MLPs that a step does not compute whole are computed for some tokens of each frame.

    Attributes:
      sizes: for each kind of step, for each site, how many tokens are gathered: at least as many as
        any step of the kind chooses. What is surplus is computed and dropped.
      grid: rows and columns of the tokens of a frame.
      score: by which tokens are chosen: one of `contracts.WORTHS`, or `RANDOM`.
    """

    sizes: tuple[tuple[int, ...], ...]
    grid: tuple[int, int]
    score: str


RANDOM = "random"  # draws in place of what attention tells


class Sub(NamedTuple):
    """The socket of sub-layers.

    Attributes:
      sites: which can be reused; all others are computed at every step.
      kinds: for each kind of step, for each site, whether it is computed. Empty where the steps
        are of too many kinds: then a flag for each site is data, with a conditional of its own.
      ring: what is kept of each.
      gated: keep an update behind its gate, and reuse it with its old gate.
      tokens: which tokens of reused sites are computed; None: none. There are kinds then, one slot,
        and no gates are kept.
    """

    sites: tuple[Site, ...]
    kinds: tuple[tuple[bool, ...], ...]
    ring: Ring = Ring()
    gated: bool = False
    tokens: Tokens | None = None


class TokenRows(NamedTuple):
    """Numbers of the choice of tokens.

    Attributes:
      chosen: int32 [S,sites], how many of its tokens are; LEFT leaves ages as they are, too.
      step: int32 [S], which step it is: draws follow from it.
      age: float32 [S], what each step that did not choose a token adds to its score.
      bonus: float32 [S], what multiplies the best score of each square of tokens.
    """

    chosen: Int[np.ndarray, "S sites"]
    step: Int[np.ndarray, "S"]
    age: Float[np.ndarray, "S"]
    bonus: Float[np.ndarray, "S"]


LEFT = -1  # a count


class SubRows(NamedTuple):
    """Numbers of the socket of sub-layers.

    Attributes:
      ring: of its ring; None with one slot.
      flags: bool [S,sites], computed or not, if there are no kinds; else None.
      tokens: of the choice of tokens, where there is one.
    """

    ring: RingRows | None = None
    flags: Bool[np.ndarray, "S sites"] | None = None
    tokens: TokenRows | None = None


class Sockets(NamedTuple):
    """What a program is traced for, hashable; None is an empty socket.

    `decision` (`decisions.Decision`) fills none of its own: it chooses among the trunk's kinds.
    """

    guide: Any = None
    trunk: Trunk | None = None
    sub: Sub | None = None
    decision: Any = None

    @property
    def draws(self) -> bool:
        """Whether something is chosen at random."""
        tokens = None if self.sub is None else self.sub.tokens
        return tokens is not None and tokens.score == RANDOM

    def kinds(self) -> "Kinds":
        """How many kinds of step each has; None if it is empty, or its flags are data."""
        sub = None if self.sub is None else len(self.sub.kinds) or None
        return Kinds(self.guide and self.guide.kinds, self.trunk and self.trunk.kinds, sub)


class Kinds(NamedTuple):
    """The kind of every step, int32 [S], or of one step; None for an empty socket."""

    guide: Any = None
    trunk: Any = None
    sub: Any = None


class Rows(NamedTuple):
    """Numbers of every step, leading axis S; None where a socket needs none."""

    guide: Any = None
    trunk: RingRows | None = None
    sub: SubRows | None = None
    decision: Any = None


class Plan(NamedTuple):
    """A caching schedule over the S model calls of one sampling run."""

    sockets: Sockets
    kinds: Kinds
    rows: Rows = Rows()

    @property
    def steps(self) -> int:
        """S."""
        flags = None if self.rows.sub is None else self.rows.sub.flags
        return next(len(a) for a in (*self.kinds, flags) if a is not None)

    @property
    def reuse(self) -> StepFlags:
        """True where a step leaves out anything, or may."""
        return ~np.all(np.stack(self.full()), axis=0)

    def full(self) -> list[StepFlags]:
        """Of each filled socket, where it computes everything."""
        found = []
        if self.sockets.guide is not None:
            found.append(self.kinds.guide == self.sockets.guide.kinds - 1)
        if self.sockets.trunk is not None:
            found.append(self.kinds.trunk == self.sockets.trunk.kinds - 1)
        if self.sockets.sub is not None:
            found.append(self.computed().all(axis=1))
        return found

    def computed(self) -> Bool[np.ndarray, "S sites"]:
        """Which sites of the socket of sub-layers each step computes whole."""
        sub, rows = self.sockets.sub, self.rows.sub
        if sub is None or rows is None:
            return np.ones((self.steps, 0), bool)
        return rows.flags if rows.flags is not None else np.array(sub.kinds)[self.kinds.sub]

    def shares(self, surplus: bool = True) -> Float[np.ndarray, "S sites"]:
        """How much of each site each step computes, 0 to 1; with surplus tokens or without."""
        sub, rows = self.sockets.sub, self.rows.sub
        whole = self.computed()
        if sub is None or sub.tokens is None or rows is None or rows.tokens is None:
            return whole.astype(np.float64)
        sizes = np.array(sub.tokens.sizes)[self.kinds.sub]
        some = sizes if surplus else np.maximum(rows.tokens.chosen, 0)
        return np.where(whole, 1.0, some / np.prod(sub.tokens.grid))


@runtime_checkable
class CachePolicy(Protocol):
    """A caching method: a small frozen dataclass that plans a run.

    Its fields are its settings; `notation` writes and reads them by name.
    """

    @property
    def title(self) -> str:
        """What to call the method where people read it."""
        ...

    def resolved(self, published: Any) -> "CachePolicy":
        """Fills what was left open with the settings published for a model's family.

        Args:
          published: the policy of the family, of whatever method; None if there is none. A method
            that leaves nothing open, or knows nothing of that policy, ignores it.
        """
        ...

    def plan(self, run: Run) -> Plan:
        """Returns the plan of a run, made by the functions of `planning`.

        Raises:
          ValueError: the model cannot follow it, with the reason.
        """
        ...
