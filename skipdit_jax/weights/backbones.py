"""Weights of diffusion models: files, folders and addresses in, files out."""

import os
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax

from skipdit_jax.checkpoints import (
    Checkpoint,
    CheckpointError,
    export_state_dict,
    save_native,
)
from skipdit_jax.checkpoints.hub import Tell
from skipdit_jax.checkpoints.layouts import OWN_NAMES, Layouts
from skipdit_jax.checkpoints.load import NATIVE
from skipdit_jax.checkpoints.pipelines import TRANSFORMER, open_pipeline
from skipdit_jax.checkpoints.sources import fetch_whole
from skipdit_jax.contracts import Backbone
from skipdit_jax.registry import (
    BUNDLED,
    FAMILIES,
    carrying,
    default_diffusion,
    family_of,
    init_params,
    layout_of,
    trained,
)
from skipdit_jax.typing import Params
from skipdit_jax.weights.labels import allows_new_labels, other_classes, without_label_table
from skipdit_jax.weights.networks import (
    fields_of,
    filled,
    layouts_of,
    network_of,
    open_known,
)
from skipdit_jax.weights.recipe import DIFFUSION, facts_of, read_diffusion
from skipdit_jax.weights.run_folders import is_of_run, open_run
from skipdit_jax.weights.schedulers import with_scheduler


def open_weights(
    source: str | os.PathLike[str],
    weights: str | None = None,
    key: str | None = None,
    prefix: str | None = None,
    tell: Tell | None = None,
    layouts: Layouts | None = None,
) -> Checkpoint:
    """Opens a checkpoint file, or the averaged weights of a training run's folder.

    Args:
      source: a native file, a torch file or .safetensors state dict, the index of one that is
        split, a run folder or one of its checkpoints, RUN/checkpoints/STEP, or a folder with one
        such file; a pipeline of diffusers, a folder with model_index.json; or where one is to be
        fetched, hf://OWNER/REPO/FILE[@REVISION], https://..., of a pipeline hf://OWNER/REPO.
      weights: "ema" or "model" where a torch file or a run holds both; None prefers ema.
      key: of the dict in a torch file that holds the weights, "outer/inner" of nested ones; None
        finds it.
      prefix: what the names of the weights begin with; None finds it.
      tell: called with a line before and after each download.
      layouts: see `open_known`.

    Raises:
      CheckpointError: nothing there, or nothing that can be read.
    """
    bundled = BUNDLED.get(os.fspath(source))
    if bundled is None or bundled.weights is None or Path(source).exists():
        pipeline = open_pipeline(source, tell)
        path = fetch_whole(source, tell) if pipeline is None else pipeline.weights(TRANSFORMER)
    else:
        pipeline, path = None, bundled.weights
    if not is_of_run(path):
        return with_scheduler(open_known(path, weights, key, prefix, layouts), pipeline)
    if key is not None or prefix is not None:
        raise CheckpointError(f"{path}: is of a run, wanted no --key, --prefix")
    return open_run(path, weights)


def load_opened(
    checkpoint: Checkpoint,
    model: Backbone,
    allow_missing: Sequence[str] = (),
    key: jax.Array | None = None,
    keep_dtype: bool = False,
) -> Params:
    """Fills the parameters of a model from an opened checkpoint; see `load_checkpoint`."""
    if checkpoint.family.name != family_of(model):
        raise CheckpointError(
            f"{checkpoint.path}: holds a {checkpoint.family.label} model, "
            f"wanted family {family_of(model)!r}"
        )
    if other_classes(checkpoint, model) is not None and allows_new_labels(
        checkpoint, allow_missing
    ):
        checkpoint = without_label_table(checkpoint)
    key = jax.random.key(0) if key is None else key
    init = init_params(model, key) if allow_missing else None
    return filled(checkpoint, model, allow_missing=allow_missing, init=init, keep_dtype=keep_dtype)


def model_of(checkpoint: Checkpoint, **overrides: Any) -> Any:
    """Makes the model that an opened checkpoint belongs to.

    Args:
      checkpoint: from `open_weights`.
      **overrides: see `network_of`.
    """
    return network_of(checkpoint, FAMILIES, "a diffusion model", **overrides)


def load_checkpoint(
    source: str | os.PathLike[str],
    model: Backbone | None = None,
    *,
    weights: str | None = None,
    state_key: str | None = None,
    prefix: str | None = None,
    allow_missing: Sequence[str] = (),
    key: jax.Array | None = None,
    keep_dtype: bool = False,
    **overrides: Any,
) -> Any:
    """Reads weights; without a model, makes it from the file.

    Args:
      source: native file, `.pt`/`.pth`/`.ckpt`/`.bin`, `.safetensors` state dict or the index of a
        split one, a run folder or a folder with one file of weights; where to fetch one,
        hf://OWNER/REPO/FILE[@REVISION] or https://...; or the name of a model that comes with
        weights, such as "dit-digits". Its family is told by its keys. Nothing in it is executed.
      model: what to fill; None makes the model that the file shows.
      weights: "ema" or "model" where the file holds both; None prefers ema.
      state_key: of the dict in a torch file that holds the weights, "outer/inner" of nested ones;
        None finds it.
      prefix: what the names of the weights begin with, such as "net."; None finds it.
      allow_missing: shell patterns of names that the file may lack, e.g. ["skip_*"] to turn a plain
        DiT into a skip model; those parameters are drawn as for a new model. With ["y_embedder*"]
        the label table of another number of classes is drawn anew too.
      key: for parameters that are drawn; None is `jax.random.key(0)`.
      keep_dtype: parameters in the types that the file has, bit for bit, as `export_checkpoint`
        writes them again; else all are of the model's `param_dtype`, float32 if it says no other.
      **overrides: without a model, fields of its config, e.g. `num_heads` or `dtype`.

    Returns:
      The parameters if a model was given, else (model, parameters). Such a model carries what the
      file says of sampling (`registry.Trained`): `sample` and `invert` take its diffusion process,
      clipping and the thresholds of its cache where they are given no others, `load_vae` its factor
      of latents. Steps and guidance are those of the call; `runs.load_sampler` takes these as well.

    Raises:
      CheckpointError: (a ValueError) one line with all that is wrong with the file.

    Examples:
      >>> import skipdit_jax as sd
      >>> from skipdit_jax.registry import ASSETS
      >>> model, params = sd.load_checkpoint(ASSETS / "dit_digits.safetensors")
      >>> model.config.num_classes, model.config.skip
      (10, True)
      >>> model, params = sd.load_checkpoint(
      ...     ASSETS / "dit_digits.safetensors", num_classes=12, allow_missing=["y_embedder*"]
      ... )
      >>> model.config.num_classes
      12
    """
    checkpoint = open_weights(source, weights, state_key, prefix)
    if model is not None:
        if overrides:
            raise ValueError(f"load_checkpoint: {sorted(overrides)} given together with a model")
        params = load_opened(checkpoint, model, allow_missing, key, keep_dtype)
        _warn_of_other_process(checkpoint, model)
        return params
    model = model_of(checkpoint, **overrides)
    params = load_opened(checkpoint, model, allow_missing, key, keep_dtype)
    model = carrying(model, facts_of(checkpoint, model))
    _warn_of_other_process(checkpoint, model)
    return model, params


def _warn_of_other_process(checkpoint: Checkpoint, model: Backbone) -> None:
    """`sample` would draw with the process of the model, whatever the file says."""
    if DIFFUSION not in checkpoint.metadata:
        return
    own = asdict(default_diffusion(model))
    stated = asdict(read_diffusion(checkpoint, model))
    if differing := [name for name in stated if own[name] != stated[name]]:
        found = ", ".join(f"{name} {stated[name]!r}" for name in differing)
        warnings.warn(
            f"{checkpoint.path}: was trained with {found}, which the model does not carry: "
            "give sample(..., diffusion=...), see load_checkpoint",
            stacklevel=3,
        )


def export_checkpoint(
    path: str | os.PathLike[str],
    params: Params,
    model: Backbone,
    *,
    layout: str = OWN_NAMES,
    **metadata: Any,
) -> None:
    """Writes weights for PyTorch, or in our own format.

    Args:
      path: layout "torch": .safetensors, or .pt/.pth/.bin for `torch.load(weights_only=True)`;
        layout "native": .safetensors.
      params: the parameters; every tensor keeps its type, bit for bit.
      model: what they belong to.
      layout: "torch" is the original's bare state dict, fixed tables included; "diffusers" (of DiT
        without skips) has the names of that library; "native" is one .safetensors file that holds
        the model's config.
      **metadata: for the native layout, anything JSON can hold, e.g. `diffusion`; what a loaded
        model carries is written without being given.

    Raises:
      CheckpointError: another suffix, or a file that cannot be written.
      ValueError: another layout.
    """
    if layout == NATIVE:
        carried = trained(model)
        told = {**({} if carried is None else carried.metadata), **metadata}
        save_native(path, params, fields_of(model), family_of(model), **told)
    elif layout in layouts_of(model) and not metadata:
        export_state_dict(path, params, fields_of(model), layout_of(model), layout)
    else:
        known = ", ".join((NATIVE, *layouts_of(model)))
        raise ValueError(
            f"export_checkpoint: layout {layout!r} with metadata {sorted(metadata)}, wanted one of "
            f"{known}; metadata is for {NATIVE} only"
        )
