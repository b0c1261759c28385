"""Five recorded AdamW steps of the original: losses, every gradient, parameters, averages.

"full" trains all parameters, "stage1" only the skip norms and skip linears of a converted model.
"""

import numpy as np
import jax
import jax.numpy as jnp
import pytest

from skipdit_jax.checkpoints.families import DIT
from skipdit_jax.checkpoints.rules import layout
from skipdit_jax.diffusion.schedules import Diffusion
from skipdit_jax.registry import abstract_params, build
from skipdit_jax.training.optimizer import OptimizerConfig, make_optimizer, trainable_mask
from skipdit_jax.training.state import create_state, ema_name
from skipdit_jax.training.step import Draws, make_loss, make_update
from skipdit_jax.trees import flatten, unflatten
from tests.parity import goldens

STAGES = {"full": (), "stage1": (r"^skip_fusions_\d+/",)}
# golden/README.md; the decoder's likelihood at t = 0 is noisy in float32.
LOSS, LOSS_T0, GRADIENT, GRADIENT_T0, NORM = 2e-5, 8e-5, 1e-5, 7e-4, 1e-5
# Absolute, in units of the parameters.
PARAM1, PARAM5, EMA = 1e-6, 1e-5, {"0.9999": 1e-8, "0.9": 1e-5}
RAN_STEPS = 5


class Case:
    """One stage of a golden: our model at the recorded parameters, and its names."""

    def __init__(self, golden, stage):
        config, patterns = golden.config, STAGES[stage]
        options = "input_size patch_size in_channels hidden_size depth num_heads mlp_ratio"
        options = [*options.split(), "class_dropout_prob", "num_classes", "learn_sigma"]
        fields = {name: config[name] for name in options}
        self.model = build("dit", {**fields, "skip": config["cls"] == "DiT_skip"})
        self.entries = layout(DIT.rules(fields), abstract_params(self.model))
        self.params = self.tree(golden.under("sd/"))
        self.decays = config["ema_decays"]
        self.mask = trainable_mask(self.params, patterns)
        beta1, beta2 = config["betas"]
        optimizing = OptimizerConfig(
            lr=config["lr"],
            beta1=beta1,
            beta2=beta2,
            eps=config["eps"],
            weight_decay=config["weight_decay"],
            trainable=patterns,
        )
        self.optimizer = make_optimizer(optimizing, self.params)
        diffusion = Diffusion(spacing=config["diffusion"])
        self.loss = make_loss(self.apply, diffusion, self.mask if patterns else None)

    def apply(self, params, x, t, y):
        return self.model.apply({"params": params}, x, t, y)

    def tree(self, state_dict):
        """Our parameter tree of a recorded state dict."""
        return unflatten(
            {
                entry.path: jnp.asarray(entry.transform.from_torch(state_dict[name]))
                for name, entry in self.entries.items()
            }
        )

    def named(self, tree):
        """{torch name: array in torch's layout} of the trained leaves of one of our trees."""
        leaves, trained = flatten(tree), flatten(self.mask)
        return {
            name: entry.transform.to_torch(np.asarray(leaves[entry.path]))
            for name, entry in self.entries.items()
            if trained[entry.path]
        }


def batch(golden, step):
    """Images and draws of one recorded batch."""
    images = goldens.channel_last(golden["data/x_start"][step])
    noise = goldens.channel_last(golden["data/noise"][step])
    t, labels = (golden[f"data/{name}"][step].astype(np.int32) for name in ("t", "y_effective"))
    return jnp.asarray(images), Draws(*map(jnp.asarray, (t, noise, labels)))


def without_key_bias(name, array):
    """Leaves out the key third of attn.qkv.bias: softmax ignores it, its true gradient is zero.

    What is recorded there is rounding noise, which Adam turns into moves of about lr.
    """
    if not name.endswith("attn.qkv.bias"):
        return array
    query, _, value = np.split(array, 3)
    return np.concatenate([query, value])


def run(golden, stage):
    """Everything that the golden records of a stage: {key: (ours, limit, whether absolute)}."""
    case = Case(golden, stage)
    found = {}
    gradient = jax.jit(jax.value_and_grad(case.loss, has_aux=True))
    (_, _), grads = gradient(case.params, *batch(golden, 0))
    if stage == "full":
        for name, array in case.named(grads).items():
            found[f"grad/{name}"] = array, GRADIENT, False
    t0_step = int(np.flatnonzero((golden["data/t"] == 0).any(axis=1))[0])
    (_, terms), grads = gradient(case.params, *batch(golden, t0_step))
    for name, values in terms._asdict().items():
        found[f"t0_terms/{name}"] = values, LOSS_T0, False
    if stage == "full":
        for name, array in case.named(grads).items():
            found[f"grad_t0/{name}"] = array, GRADIENT_T0, False
    return found | follow(golden, case)


def follow(golden, case):
    """Losses, gradient norms, parameters and averages along the recorded steps."""
    update = jax.jit(make_update(case.loss, case.optimizer, case.decays))
    terms_of = jax.jit(lambda params, images, draws: case.loss(params, images, draws)[1])
    state = create_state(case.params, case.optimizer, jax.random.key(0), case.decays)
    steps = len(golden["data/t"])
    terms, norms, found = [], [], {}
    for step in range(steps):
        images, draws = batch(golden, step)
        terms.append(terms_of(state.params, images, draws))
        state, metrics = update(state, images, draws)
        norms.append(metrics.grad_norm)
        if step + 1 in (1, steps):
            limit = PARAM1 if step == 0 else PARAM5
            for name, array in case.named(state.params).items():
                found[f"param{step + 1}/{name}"] = array, limit, True
    for field in ("loss", "mse", "vb"):
        found[field] = np.stack([getattr(term, field) for term in terms]), LOSS_T0, False
    found["grad_norm"] = np.stack(norms), NORM, False
    for decay in case.decays:
        for name, array in case.named(state.ema[ema_name(decay)]).items():
            found[f"ema{decay}/{name}"] = array, EMA[str(decay)], True
    return found


def misfits(golden, stage, found):
    """One line per array that is not as recorded, or not recorded, or not ours."""
    wanted = golden.under(f"{stage}/")
    lines = [f"{key}: recorded but not checked" for key in wanted if key not in found]
    for key, (ours, limit, absolute) in found.items():
        name = key.split("/", 1)[-1]
        ours, want = without_key_bias(name, np.asarray(ours)), without_key_bias(name, wanted[key])
        error = np.abs(ours - want).max() if absolute else goldens.deviation(ours, want)
        if not error <= limit:
            lines.append(f"{stage}/{key}: {error:.2e}, wanted at most {limit:.0e}")
    return lines
