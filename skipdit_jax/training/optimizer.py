"""AdamW with a learning-rate schedule, clipping, and parameters chosen by regular expression.

AdamW is that of Loshchilov and Hutter, "Decoupled weight decay regularization" (2019); DiT trains
with a constant rate 1e-4, betas (0.9, 0.999), no weight decay and no warm-up (Peebles and Xie,
"Scalable diffusion models with transformers", 2023, section 4), which are the defaults here.
"""

import dataclasses
import re
from typing import Any

import jax
import optax

from skipdit_jax import trees
from skipdit_jax.typing import Params

SCHEDULES = ("constant", "cosine", "linear")
GRADIENT_RULES = ("clip_norm", "clip_from", "skip_above")


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """How parameters move.

    Attributes:
      lr: peak learning rate.
      schedule: after warm-up, "constant", "cosine" or "linear" (both down to
        `lr * final_fraction` at `steps`).
      steps: length of the run, where a decaying schedule ends.
      warmup_steps: steps of linear rise from 0 to `lr`; a shorter run ends on the way up.
      final_fraction: last learning rate of a decaying schedule, as a fraction of `lr`.
      beta1, beta2, eps: of Adam.
      weight_decay: decoupled, on all trainable parameters.
      clip_norm: gradients are scaled down to this global norm; 0 leaves them alone.
      skip_above: a step whose gradient has a larger global norm, or one that is NaN, moves nothing
        (Skip-DiT trains LatteT2V so, with 0.02); 0 makes every step.
      clip_from: first step that clips; Latte lets a run settle before (arXiv 2401.03048).
      trainable: regular expressions searched in parameter paths such as "blocks_0/attn/qkv/kernel".
        A parameter that matches one is trained; none given trains all. Frozen parameters take no
        optimiser memory.
    """

    lr: float = 1e-4
    schedule: str = "constant"
    steps: int = 1
    warmup_steps: int = 0
    final_fraction: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0
    clip_norm: float = 0.0
    clip_from: int = 0
    skip_above: float = 0.0
    trainable: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.schedule not in SCHEDULES:
            raise ValueError(f"lr_schedule: found {self.schedule!r}, wanted one of {SCHEDULES}")
        if not self.lr > 0:
            raise ValueError(f"lr: found {self.lr}, wanted a positive number")
        for name in ("warmup_steps", "final_fraction", "weight_decay", *GRADIENT_RULES):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}: found {getattr(self, name)}, wanted 0 or more")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}: found {getattr(self, name)}, wanted a number in [0, 1)")


def make_schedule(config: OptimizerConfig) -> optax.Schedule:
    """Returns step -> learning rate (step 0 is the first update)."""
    decay_steps = max(config.steps - config.warmup_steps, 1)
    if config.schedule == "cosine":
        after = optax.cosine_decay_schedule(config.lr, decay_steps, config.final_fraction)
    elif config.schedule == "linear":
        after = optax.linear_schedule(config.lr, config.lr * config.final_fraction, decay_steps)
    else:
        after = optax.constant_schedule(config.lr)
    if not config.warmup_steps:
        return after
    # The first update must move something: start one part above zero.
    start = config.lr / config.warmup_steps
    warmup = optax.linear_schedule(start, config.lr, max(config.warmup_steps - 1, 1))
    return optax.join_schedules([warmup, after], [config.warmup_steps])


def trainable_mask(params: Params, patterns: tuple[str, ...]) -> Params:
    """Returns a tree like `params` of bools: True where the parameter is trained.

    Raises:
      ValueError: a pattern is no regular expression or matches no parameter.
    """
    paths = list(trees.flatten(params))
    chosen: set[str] = set() if patterns else set(paths)
    for pattern in patterns:
        try:
            matched = [path for path in paths if re.search(pattern, path)]
        except re.error as error:
            raise ValueError(f"trainable: {pattern!r} is no regular expression: {error}") from error
        if not matched:
            raise ValueError(f"trainable: {pattern!r} matches no parameter, e.g. not {paths[0]!r}")
        chosen.update(matched)
    return trees.unflatten({path: path in chosen for path in paths})


def make_optimizer(config: OptimizerConfig, params: Params) -> optax.GradientTransformation:
    """Returns AdamW over the trainable parameters; all others get a zero update and no state.

    Args:
      config: see `OptimizerConfig`.
      params: the parameter tree (arrays or `ShapeDtypeStruct`), read for its paths only.
    """
    adamw = optax.adamw(
        make_schedule(config),
        config.beta1,
        config.beta2,
        config.eps,
        weight_decay=config.weight_decay,
    )
    transform = optax.chain(*_clipping(config), adamw)
    if not config.trainable:
        return _with_promotion(transform)
    labels = jax.tree.map(
        lambda train: "train" if train else "frozen", trainable_mask(params, config.trainable)
    )
    transforms = {"train": transform, "frozen": optax.set_to_zero()}
    return _with_promotion(optax.partition(transforms, labels))


def _clipping(config: OptimizerConfig) -> list[optax.GradientTransformation]:
    if not config.clip_norm:
        return []
    clip = optax.clip_by_global_norm(config.clip_norm)
    if not config.clip_from:
        return [clip]
    return [optax.conditionally_transform(clip, lambda step: step >= config.clip_from)]


def _with_promotion(transform: optax.GradientTransformation) -> optax.GradientTransformation:
    """Lets optax alone mix types: it raises Python floats to the power of int32 step counts."""

    def update(grads: Params, state: Any, params: Params | None = None) -> tuple[Params, Any]:
        with jax.numpy_dtype_promotion("standard"):
            return transform.update(grads, state, params)

    return optax.GradientTransformation(transform.init, update)
