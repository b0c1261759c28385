"""A network of plain functions with the seam, traced and compiled in a fraction of a real one's."""

from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from skipdit_jax.caching import planning
from skipdit_jax.caching.engine import EMPTY
from skipdit_jax.caching.plan import Run
from skipdit_jax.contracts import Seam, StagedModel
from skipdit_jax.diffusion.schedules import Diffusion, Parameterization
from skipdit_jax.sampling import loop
from skipdit_jax.sampling.denoiser import make_denoiser
from skipdit_jax.sampling.guidance import Guidance
from skipdit_jax.sampling.steppers import Ddim

IMAGE = ("attn", "mlp")
CLIP = ("attn", "mlp", "tattn", "tmlp")  # one stage of Latte: a spatial block, then a temporal one
STAGES, WIDTH, SIDE, CHANNELS, BATCH = 4, 8, 2, 2, 2
SCALE = 2.0  # of guidance


class Kind(NamedTuple):
    """A kind of network: what a policy is told of it."""

    skips: int = 0
    names: tuple[str, ...] = IMAGE
    guided: bool = True

    def __str__(self):
        family = "latte" if self.names == CLIP else "dit"
        return family + "-skip" * (self.skips > 0) + "-guided" * self.guided


EVERY_KIND = [
    Kind(skips, names, guided)
    for names in (IMAGE, CLIP)
    for skips in (0, STAGES // 2)
    for guided in (True, False)
]


@lru_cache
def network(kind):
    """A StagedModel: each sub-layer mixes tokens or features, behind a gate of the condition."""
    rng = np.random.default_rng(len(kind.names) + kind.skips)

    def weight(rows, columns):
        return (rng.standard_normal((rows, columns)) / np.sqrt(rows)).astype(np.float32)

    tokens = SIDE * SIDE
    enter, leave = weight(CHANNELS, WIDTH), weight(WIDTH, CHANNELS)
    labels, fuse = weight(3, WIDTH), [weight(2 * WIDTH, WIDTH) for _ in range(kind.skips)]
    places = {
        (u, n): (weight(WIDTH, WIDTH), weight(WIDTH, WIDTH), weight(tokens, tokens))
        for u in range(STAGES)
        for n in kind.names
    }

    def embed(x, t, y):
        h = x.reshape(len(x), tokens, CHANNELS) @ enter
        return h, jnp.asarray(labels)[y] + jnp.sin(
            t[:, None] * jnp.arange(1.0, WIDTH + 1)[None] / 300
        )

    def sublayer(seam, name, h, c):
        gate, inner, mixing = places[seam.stage, name]
        run = partial(_mlp, inner) if name.endswith("mlp") else partial(_attention, inner, mixing)
        worth = None if name.endswith("mlp") else _worth
        gate, update = seam(name, jnp.tanh(h) + c[:, None], (c @ gate)[:, None], run, worth)
        return h + gate * update

    def run(h, c, skips, lo, hi, hook=None):
        for u in range(lo, hi):
            if u >= STAGES - kind.skips:
                joined = jnp.concatenate([h, skips[STAGES - 1 - u]], axis=-1)
                h = joined @ fuse[u - STAGES + kind.skips]
            for name in kind.names:
                h = sublayer(Seam(hook, u), name, h, c)
            if u < kind.skips:
                skips = {**skips, u: h}
        return h, skips

    def head(h, c):
        return ((jnp.tanh(h) + c[:, None]) @ leave).reshape(len(h), SIDE, SIDE, CHANNELS)

    return StagedModel(embed, run, head, STAGES, kind.skips)


def _mlp(inner, x):
    return jnp.tanh(x @ inner)


def _attention(inner, mixing, x):
    """Batched on the left as well, so that no product changes the order of its axes."""
    return jnp.matmul(jnp.broadcast_to(mixing, (len(x), *mixing.shape)), x @ inner)


def _worth(x, kind):
    return jnp.sum(jnp.abs(x), axis=-1)


class Moving(NamedTuple):
    """A stepper that goes so much of the way of DDIM: 0 stays where it is."""

    share: Any
    stochastic: bool = False

    def initialise(self, x):
        return ()

    def step(self, kind, c, model_output, x, noise, state):
        there, _ = Ddim().step(kind, c, model_output, x, noise, state)
        return x + self.share * (there - x), state


class Drawn(NamedTuple):
    """A finished run: its plan (None without a cache), and what every step made."""

    plan: Any
    taps: Any


def run_of(kind, steps):
    """What a policy is told."""
    diffusion = Diffusion(spacing=str(steps))
    timesteps = diffusion.timesteps[::-1]
    more = {"noise": diffusion.noise_at(timesteps.astype(np.float64)), "grid": (SIDE, SIDE)}
    return Run(timesteps, STAGES, kind.skips, kind.names, kind.guided, **more)


def draw(kind, policy, steps=6, driver="scan", still=False, seed=0):
    """Samples with the toy; `still` repeats the first step's input at all of them."""
    plan = policy and policy.plan(run_of(kind, steps))
    if plan is not None:
        planning.check(plan, run_of(kind, steps))
    inputs = loop.step_inputs(Diffusion(spacing=str(steps)), Guidance(scale=SCALE))
    if still:
        inputs = inputs._replace(t=np.full_like(inputs.t, inputs.t[0]))
    x = np.random.default_rng(seed).standard_normal((BATCH, SIDE, SIDE, CHANNELS))
    data = x.astype(np.float32), np.float32(not still), inputs
    planned = loop.Steps(plan.kinds, plan.rows) if plan else loop.Steps()
    sockets = plan.sockets if plan else EMPTY
    if driver == "scan":
        return Drawn(plan, jax.device_get(run(*data, planned, kind, sockets)))
    fixed = jax.jit(lambda *data: _traced(*data, planned, kind, sockets, driver))
    return Drawn(plan, jax.device_get(fixed(*data)))


def _traced(x, share, inputs, planned, kind, sockets, driver):
    labels = jnp.arange(BATCH, dtype=jnp.int32) % 2
    null = jnp.full_like(labels, 2) if kind.guided else None
    denoiser = make_denoiser(network(kind), x, labels, null, None, sockets)
    how = Parameterization(variance="fixed_small")
    _, taps = loop.run(
        denoiser,
        Moving(share),
        how,
        x,
        inputs,
        lambda index: jnp.zeros_like(x),
        plan=planned,
        driver=driver,
        taps=True,
        details=True,
    )
    return taps


@partial(jax.jit, static_argnums=(4, 5))
def run(x, share, inputs, planned, kind, sockets):
    """One program for all plans of the same sockets."""
    return _traced(x, share, inputs, planned, kind, sockets, "scan")
