"""One optimiser step as pure functions: draw, loss, update, and the jitted whole.

The draws are apart from the update, so that a test (or a replay) can feed recorded ones.
A model is seen only as `apply(params, x, t, condition) -> output` and its kind of condition.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from skipdit_jax import compiler
from skipdit_jax.contracts import Apply, Conditioning
from skipdit_jax.diffusion.gaussian import q_sample, take
from skipdit_jax.diffusion.losses import Losses, training_losses
from skipdit_jax.diffusion.schedules import Diffusion
from skipdit_jax.training.draws import Draws, TimestepSampler, draw, uniform
from skipdit_jax.training.ema import ema_decay_at, update_ema
from skipdit_jax.training.state import TrainState
from skipdit_jax.typing import Latents, Params

LossFn = Callable[..., tuple[Float[Array, ""], Losses]]


class Metrics(NamedTuple):
    """Float32 scalars of one step: mean loss and its two terms, norm of the whole gradient.

    `skipped` is 1 where the gradient was too large to be followed; None without such a rule.
    """

    loss: Float[Array, ""]
    mse: Float[Array, ""]
    vb: Float[Array, ""]
    grad_norm: Float[Array, ""]
    skipped: Float[Array, ""] | None = None


def make_loss(apply: Apply, diffusion: Diffusion, mask: Params | None = None) -> LossFn:
    """Returns loss(params, images, draws) -> mean loss and the terms of every sample.

    Args:
      apply: the network.
      diffusion: noise schedule and what is predicted; the network is given original timesteps.
      mask: tree of bools; where False no gradient flows into the parameter.
    """

    def loss(params: Params, images: Latents, draws: Draws) -> tuple[Float[Array, ""], Losses]:
        if mask is not None:
            params = jax.tree.map(
                lambda leaf, train: leaf if train else jax.lax.stop_gradient(leaf), params, mask
            )
        coefficients = take(diffusion.coefficients(), draws.t, images.ndim)
        xt = q_sample(coefficients, images, draws.noise)
        model_t = jnp.asarray(diffusion.timesteps, jnp.float32)[draws.t]
        output = apply(params, xt, model_t, draws.condition)
        terms = training_losses(diffusion, coefficients, draws.t, output, images, xt, draws.noise)
        return jnp.mean(terms.loss), terms

    return loss


def make_update(
    loss: LossFn,
    optimizer: optax.GradientTransformation,
    *,
    accumulate: int = 1,
    ema_warmup: bool = False,
    skip_above: float = 0.0,
) -> Callable[[TrainState, Latents, Draws], tuple[TrainState, Metrics]]:
    """Returns update(state, images, draws) -> next state and metrics, a pure function.

    Args:
      loss: see `make_loss`.
      optimizer: see `optimizer.make_optimizer`.
      accumulate: the batch is worked off in this many equal parts, whose gradients are averaged.
      ema_warmup: averages forget their start faster, see `ema.ema_decay_at`.
      skip_above: a step whose gradient has a larger norm, or one that is NaN, moves nothing, not
        even an average: it only counts; 0 makes every step.
    """

    def update(state: TrainState, images: Latents, draws: Draws) -> tuple[TrainState, Metrics]:
        (mean, terms), grads = mean_gradient(loss, state.params, images, draws, accumulate)
        metrics = Metrics(mean, jnp.mean(terms.mse), jnp.mean(terms.vb), optax.tree.norm(grads))
        moved = apply_gradients(state, grads, optimizer, ema_warmup)
        if not skip_above:
            return moved, metrics
        wanted = metrics.grad_norm <= skip_above  # not of NaN
        chosen = {
            part: jax.tree.map(
                lambda new, old: jnp.where(wanted, new, old),
                getattr(moved, part),
                getattr(state, part),
            )
            for part in ("params", "ema", "opt_state")
        }
        skipped = 1 - wanted.astype(jnp.float32)
        return moved._replace(**chosen), metrics._replace(skipped=skipped)

    return update


def mean_gradient(
    loss: LossFn, params: Params, images: Latents, draws: Draws, parts: int = 1
) -> tuple[tuple[Array, Losses], Params]:
    """Returns ((mean loss, terms), gradient) of a batch, worked off in equal parts one by one.

    Raises:
      ValueError: the batch cannot be cut into that many equal parts.
    """
    gradient = jax.value_and_grad(loss, has_aux=True)
    if parts == 1:
        return gradient(params, images, draws)
    if len(images) % parts:
        raise ValueError(
            f"accumulate: {parts} parts of a batch of {len(images)}, wanted equal parts"
        )

    def cut(leaf: Array) -> Array:
        # Part i takes rows i, i + parts, ...: where a mesh splits the rows, every device has some.
        return jnp.moveaxis(leaf.reshape(-1, parts, *leaf.shape[1:]), 1, 0)

    def add(total: Params, part: tuple[Latents, Draws]) -> tuple[Params, tuple[Array, Losses]]:
        found, grads = gradient(params, *part)
        return jax.tree.map(jnp.add, total, grads), found

    zeros = jax.tree.map(jnp.zeros_like, params)
    total, (means, terms) = jax.lax.scan(add, zeros, jax.tree.map(cut, (images, draws)))
    return (jnp.mean(means), terms), jax.tree.map(lambda leaf: leaf / parts, total)


def apply_gradients(
    state: TrainState,
    grads: Params,
    optimizer: optax.GradientTransformation,
    ema_warmup: bool = False,
) -> TrainState:
    """Moves the parameters, then every average towards them."""
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    ema = {}
    for name, mean in state.ema.items():
        decay = float(name)
        ema[name] = update_ema(
            mean, params, ema_decay_at(state.step, decay) if ema_warmup else decay
        )
    return TrainState(state.step + 1, params, ema, opt_state, state.key)


def make_train_step(
    apply: Apply,
    diffusion: Diffusion,
    optimizer: optax.GradientTransformation,
    conditioning: Conditioning,
    *,
    mask: Params | None = None,
    sample_timesteps: TimestepSampler = uniform,
    accumulate: int = 1,
    ema_warmup: bool = False,
    skip_above: float = 0.0,
    constants: Mapping[str, Any] | None = None,
    out_shardings: Any = None,
) -> Callable[[TrainState, Mapping[str, Any]], tuple[TrainState, Metrics]]:
    """Returns the jitted step(state, batch) -> (state, metrics); the given state is donated.

    Args:
      apply: the network; t is float32.
      diffusion: noise schedule and parameterisation.
      optimizer: see `optimizer.make_optimizer`.
      conditioning: of the network: finds its condition in a batch, and drops it.
      mask: tree of bools from `optimizer.trainable_mask`, or None to train all.
      sample_timesteps: see `draws.TIMESTEP_SAMPLERS`.
      accumulate: see `make_update`.
      ema_warmup: see `make_update`.
      skip_above: see `make_update`.
      constants: what the conditioning finds in every batch: the texts of a dropped caption.
      out_shardings: of (state, metrics) on a mesh: the state must stay where it lies.

    The batch holds "image" float32 [B,H,W,C] or [B,F,H,W,C] in [-1, 1] and what the conditioning
    looks for, such as "label" int32 [B].
    """
    update = make_update(
        make_loss(apply, diffusion, mask),
        optimizer,
        accumulate=accumulate,
        ema_warmup=ema_warmup,
        skip_above=skip_above,
    )

    def step(state: TrainState, batch: Mapping[str, Any]) -> tuple[TrainState, Metrics]:
        draws = draw(
            jax.random.fold_in(state.key, state.step),
            batch["image"],
            conditioning.of_batch({**batch, **(constants or {})}),
            conditioning,
            num_timesteps=len(diffusion.timesteps),
            sample_timesteps=sample_timesteps,
        )
        return update(state, batch["image"], draws)

    return compiler.jit(step, donate_argnums=0, out_shardings=out_shardings)
