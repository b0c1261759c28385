"""A family and a caching method of somebody else, as a package beside ours would hold them.

The network is a row of residual perceptrons with long skips on a picture's pixels, conditioned on a
direction in the plane: nothing in the library knows what that is.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import skipdit_jax as sd
from skipdit_jax.caching.planning import reuse_middle
from skipdit_jax.checkpoints.layouts import WeightLayout
from skipdit_jax.checkpoints.rules import Rule, linear
from skipdit_jax.contracts import Costs


@dataclass(frozen=True, kw_only=True)
class ArrowConfig:
    FAMILY: ClassVar[str] = "Arrow"

    side: int = 4
    width: int = 8
    depth: int = 6
    dtype: str = "float32"
    param_dtype: str = "float32"
    remat: str = "none"


@dataclass(frozen=True)
class Directions:
    """A condition of its own kind: unit vectors [B,2]; the null is the zero vector."""

    has_null: ClassVar[bool] = True

    def prepare(self, given, rows):
        vectors = np.asarray(given, np.float32)
        if vectors.shape != (rows, 2):
            raise ValueError(f"directions: found shape {vectors.shape}, wanted ({rows}, 2)")
        return jnp.asarray(vectors)

    def null(self, condition):
        return jnp.zeros_like(condition)

    def of_batch(self, batch):
        turned = batch["label"].astype(jnp.float32)
        return jnp.stack([jnp.cos(turned), jnp.sin(turned)], axis=-1)

    def drop(self, key, condition):
        kept = jax.random.bernoulli(key, 0.9, condition.shape[:1])
        return jnp.where(kept[:, None], condition, jnp.zeros_like(condition))

    def examples(self, rows):
        return jax.ShapeDtypeStruct((rows, 2), jnp.float32)


class Arrow(nn.Module):
    config: ArrowConfig

    learns_variance: ClassVar[bool] = False
    conditioning: ClassVar[Directions] = Directions()

    @property
    def sample_shape(self):
        return (self.config.side, self.config.side, 1)

    @property
    def num_stages(self):
        return self.config.depth

    @property
    def num_skips(self):
        return self.config.depth // 2

    @property
    def costs(self):
        products = 2 * self.config.side**2 * self.config.width**2
        return Costs(
            stage=products, fuse=products, num_stages=self.num_stages, num_skips=self.num_skips
        )

    def example_inputs(self, rows=1):
        x = jax.ShapeDtypeStruct((rows, *self.sample_shape), jnp.float32)
        return x, jax.ShapeDtypeStruct((rows,), jnp.float32), self.conditioning.examples(rows)

    def setup(self):
        width = self.config.width
        self.enter, self.leave, self.turn = nn.Dense(width), nn.Dense(1), nn.Dense(width)
        self.stages = [nn.Dense(width) for _ in range(self.num_stages)]
        self.joins = [nn.Dense(width) for _ in range(self.num_skips)]

    def embed(self, x, t, direction):
        h = self.enter(x.reshape(len(x), -1, 1))
        return h, self.turn(direction) + jnp.sin(t)[:, None]

    def run(self, h, c, skips, lo, hi):
        skips, first = dict(skips), self.num_stages - self.num_skips
        for u in range(lo, hi):
            if u >= first:
                h = h + self.joins[u - first](skips[self.num_stages - 1 - u])
            h = h + nn.tanh(self.stages[u](h) + c[:, None])
            if u < self.num_skips:
                skips[u] = h
        return h, skips

    def head(self, h, c):
        return self.leave(h).reshape(len(h), *self.sample_shape)

    def __call__(self, x, t, direction):
        h, c = self.embed(x, t, direction)
        return self.head(self.run(h, c, {}, 0, self.num_stages)[0], c)


def fields_of_shapes(shapes, num_heads=None):
    depth = sum(name.startswith("body.") and name.endswith(".bias") for name in shapes)
    return {"width": shapes["enter.bias"][0], "depth": depth}


LAYOUT = WeightLayout(
    name="arrow",
    label="Arrow",
    sign=r"turn\.weight",
    fields_of_shapes=fields_of_shapes,
    rules=lambda config: (
        *linear("enter", "enter"),
        *linear("turn", "turn"),
        *linear("leave", "leave"),
        *linear("body.{i}", "stages_{i}"),
        *linear("join.{i}", "joins_{i}"),
    ),
)
assert all(isinstance(rule, Rule) for rule in LAYOUT.rules({}))


@dataclass(frozen=True)
class EveryOther:
    """A caching method of its own: odd steps reuse all but `ends` stages at each end."""

    ends: int | None = None

    title: ClassVar[str] = "every other"

    def resolved(self, published: Any):
        if self.ends is None and isinstance(published, EveryOther):
            return published
        return self

    def plan(self, run):
        reuse = np.arange(run.steps) % 2 == 1
        return reuse_middle(run, reuse, self.ends or 1, self.ends or 1, residual=False)


class Registered(NamedTuple):
    family: str
    policy: str


def register():
    """What such a package does when it is imported."""
    sd.register_policy("every-other", EveryOther)
    sd.register_family(
        sd.Family(
            label="Arrow",
            config=ArrowConfig,
            module=Arrow,
            layout=LAYOUT,
            sizes={"S": {"depth": 6}, "L": {"depth": 10}},
            further={"arrow-tiny": {"depth": 4}},
            guidance=2.0,
            cache=lambda config: EveryOther(ends=2),
            pixels_per_latent=1,
        )
    )
    return Registered("arrow", "every-other")
