"""What weights say of sampling from them: a model that was loaded carries it, and never looks."""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from skipdit_jax.caching.plan import CachePolicy
from skipdit_jax.contracts import Backbone
from skipdit_jax.diffusion.schedules import Diffusion
from skipdit_jax.registry.kinds import Family, kind_of

Model = TypeVar("Model", bound=Backbone)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trained:
    """How the weights of a model want to be sampled where nobody says otherwise.

    Attributes:
      diffusion: the process that they were trained on.
      clip: whether predicted pictures are clipped to [-1, 1].
      cache: the recommended policy, which completes a notation such as "N3"; None: as published.
      latent_scale: what latents were multiplied by; None is what the autoencoder says.
      metadata: all of it in the words of a native file, to be written again.
    """

    diffusion: Diffusion
    clip: bool = False
    cache: CachePolicy | None = None
    latent_scale: float | None = None
    metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def trained(model: Backbone) -> Trained | None:
    """What a model carries; None of one that was not made from a file."""
    return getattr(model, "trained", None)


def carrying(model: Model, facts: Trained) -> Model:
    """Returns a model that carries facts; the same one if its family has no place for them."""
    fields = {field.name for field in dataclasses.fields(model)}  # type: ignore[arg-type]
    return model.clone(trained=facts) if "trained" in fields else model


def default_diffusion(model: Backbone) -> Diffusion:
    """The process that the weights of a loaded model were trained on, else the published one."""
    carried = trained(model)
    return published_diffusion(model) if carried is None else carried.diffusion


def published_diffusion(model: Backbone) -> Diffusion:
    """The process of the published models: that of the family, else linear betas and noise."""
    kind = kind_of(model)
    own = kind.diffusion(model.config) if isinstance(kind, Family) else None
    if own is not None:
        return own
    return Diffusion(variance="learned_range" if model.learns_variance else "fixed_large")
