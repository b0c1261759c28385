"""One optimiser step as pure functions: draw, loss, update, and the jitted whole.

The draws are apart from the update, so that a test (or a replay) can feed recorded ones.
A model is seen only as `apply(params, x, t, y) -> output`.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from skipdit_jax.compiler import COMPILER_OPTIONS
from skipdit_jax.diffusion.gaussian import q_sample, take
from skipdit_jax.diffusion.losses import Losses, training_losses
from skipdit_jax.diffusion.schedules import Diffusion
from skipdit_jax.training.state import TrainState
from skipdit_jax.typing import Labels, Latents, Params, PRNGKey

Apply = Callable[[Params, Latents, Float[Array, "B"], Labels], Latents]
LossFn = Callable[..., tuple[Float[Array, ""], Losses]]


class Draws(NamedTuple):
    """The chance in one step.

    Attributes:
      t: indices into the diffusion's steps, int32 [B].
      noise: standard normal, like the images.
      labels: class labels int32 [B], some of them replaced by the null class.
    """

    t: Int[Array, "B"]
    noise: Latents
    labels: Labels


class Metrics(NamedTuple):
    """Float32 scalars of one step: mean loss and its two terms, norm of the whole gradient."""

    loss: Float[Array, ""]
    mse: Float[Array, ""]
    vb: Float[Array, ""]
    grad_norm: Float[Array, ""]


def draw(
    key: PRNGKey,
    images: Latents,
    labels: Labels,
    *,
    num_timesteps: int,
    num_classes: int,
    class_dropout_prob: float,
) -> Draws:
    """Draws uniform timesteps, noise, and which labels become the null class `num_classes`."""
    t_key, noise_key, drop_key = jax.random.split(key, 3)
    batch = labels.shape
    drop = jax.random.uniform(drop_key, batch) < class_dropout_prob
    return Draws(
        t=jax.random.randint(t_key, batch, 0, num_timesteps),
        noise=jax.random.normal(noise_key, images.shape),
        labels=jnp.where(drop, jnp.int32(num_classes), labels),
    )


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
        output = apply(params, xt, model_t, draws.labels)
        terms = training_losses(diffusion, coefficients, draws.t, output, images, xt, draws.noise)
        return jnp.mean(terms.loss), terms

    return loss


def make_update(
    loss: LossFn, optimizer: optax.GradientTransformation
) -> Callable[[TrainState, Latents, Draws], tuple[TrainState, Metrics]]:
    """Returns update(state, images, draws) -> next state and metrics, a pure function."""

    def update(state: TrainState, images: Latents, draws: Draws) -> tuple[TrainState, Metrics]:
        (mean, terms), grads = jax.value_and_grad(loss, has_aux=True)(state.params, images, draws)
        metrics = Metrics(mean, jnp.mean(terms.mse), jnp.mean(terms.vb), optax.tree.norm(grads))
        return apply_gradients(state, grads, optimizer), metrics

    return update


def apply_gradients(
    state: TrainState, grads: Params, optimizer: optax.GradientTransformation
) -> TrainState:
    """Moves the parameters, then every average towards them."""
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    ema = {name: update_ema(mean, params, float(name)) for name, mean in state.ema.items()}
    return TrainState(state.step + 1, params, ema, opt_state, state.key)


def update_ema(ema: Params, params: Params, decay: float) -> Params:
    """Returns decay * ema + (1 - decay) * params, in float32, each product rounded by itself.

    Rounding as the original does keeps averages equal to its own for the whole run.
    """
    return jax.tree.map(
        lambda mean, leaf: _unfused_add(mean * decay, leaf.astype(jnp.float32) * (1 - decay)),
        ema,
        params,
    )


def _unfused_add(a: Array, b: Array) -> Array:
    """Sums two products; the test, which changes nothing, gives both a second use.

    XLA drops optimization barriers on CPU, and LLVM then contracts a product that is only added
    into a fused multiply-add: measured, one unit in the last place per step at a decay of 0.9999.
    """
    return jnp.where(jnp.isnan(a) | jnp.isnan(b), jnp.nan, a + b)


def make_train_step(
    apply: Apply,
    diffusion: Diffusion,
    optimizer: optax.GradientTransformation,
    *,
    num_classes: int,
    class_dropout_prob: float,
    mask: Params | None = None,
) -> Callable[[TrainState, Mapping[str, Any]], tuple[TrainState, Metrics]]:
    """Returns the jitted step(state, batch) -> (state, metrics); the given state is donated.

    Args:
      apply: (params, x [B,H,W,C], t [B] float32, labels [B]) -> [B,H,W,C_out].
      diffusion: noise schedule and parameterisation.
      optimizer: see `optimizer.make_optimizer`.
      num_classes: classes without the null class; 0 trains without conditions.
      class_dropout_prob: probability of replacing a label by the null class `num_classes`.
      mask: tree of bools from `optimizer.trainable_mask`, or None to train all.

    The batch holds "image" float32 [B,H,W,C] in [-1, 1] and "label" int32 [B].
    """
    update = make_update(make_loss(apply, diffusion, mask), optimizer)
    dropout = class_dropout_prob if num_classes else 0.0

    def step(state: TrainState, batch: Mapping[str, Any]) -> tuple[TrainState, Metrics]:
        draws = draw(
            jax.random.fold_in(state.key, state.step),
            batch["image"],
            batch["label"],
            num_timesteps=len(diffusion.timesteps),
            num_classes=num_classes,
            class_dropout_prob=dropout,
        )
        return update(state, batch["image"], draws)

    return jax.jit(step, donate_argnums=0, compiler_options=COMPILER_OPTIONS)
