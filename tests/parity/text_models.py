"""Goldens of models of text: from a recorded config and state dict to our model, traced."""

import functools

import jax

from skipdit_jax.layers.embedders import timestep_features
from skipdit_jax.layers.norms import layer_norm
from skipdit_jax.registry import build
from skipdit_jax.trees import flatten

DEFAULT_SIZES = 128  # sample_size from which on diffusers tells a PixArt sizes


def model_of(family, config, **changes):
    """The model that a recorded config of diffusers describes."""
    side, heads = config["sample_size"], config["num_attention_heads"]
    fields = {
        "input_size": side,
        "sample_size": side,
        "interpolation_scale": config.get("interpolation_scale"),
        "patch_size": config["patch_size"],
        "in_channels": config["in_channels"],
        "hidden_size": heads * config["attention_head_dim"],
        "num_heads": heads,
        "depth": config["num_layers"],
        "learn_sigma": config["out_channels"] == 2 * config["in_channels"],
        "text_width": config["caption_channels"],
    }
    if family == "pixart":
        fields["size_condition"] = config.get("use_additional_conditions", side == DEFAULT_SIZES)
    else:
        fields["num_frames"] = config["video_length"]
    return build(family, {**fields, **changes})


@functools.partial(jax.jit, static_argnums=0)
def apply(model, params, *inputs):
    return model.apply({"params": params}, *inputs)


def modules_of(model, params, method, *arguments):
    """(what a method returns, {path of a module: what it returned})."""
    out, inside = model.apply(
        {"params": params}, *arguments, method=method, capture_intermediates=True
    )
    seen = {
        path.removesuffix("/__call__"): value
        for path, value in flatten(inside["intermediates"]).items()
    }
    return out, {path: value[0] for path, value in seen.items() if isinstance(value, tuple)}


@functools.partial(jax.jit, static_argnums=0)
def trace(model, params, x, t, condition):
    """{name: array} of everything that the recordings hold of a forward pass."""
    (h, c), seen = modules_of(model, params, "embed", x, t, condition)
    found = {"time_proj": timestep_features(t), "tokens": h, **seen}
    found |= {"emb": c.head[:, 0], "t6": c.blocks.reshape(len(t), -1)}
    skips = {}
    for u in range(model.num_stages):
        entering = h
        (h, skips), seen = modules_of(model, params, "run", h, c, skips, u, u + 1)
        found |= seen
        if u == 0:
            found |= norms(seen, "blocks_0", entering)
            if "temporal_blocks_0" in seen:
                video = seen["blocks_0"] + model.frame_positions(entering.shape[1])
                found |= norms(seen, "temporal_blocks_0", video)
    out, seen = modules_of(model, params, "head", h, c)
    return {**found, **seen, "norm_out": layer_norm(h), "out": out}


def norms(seen, block, h):
    """What the norms of a block give, before they are modulated."""
    _, _, gate, *_ = seen[f"{block}/modulation"]
    behind = h + gate * seen[f"{block}/attn"]
    if f"{block}/cross_attn" in seen:
        behind = behind + seen[f"{block}/cross_attn"].reshape(h.shape)
    return {f"{block}/norm1": layer_norm(h), f"{block}/norm2": layer_norm(behind)}
