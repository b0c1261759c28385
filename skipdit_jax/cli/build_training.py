"""The composition root of training: from a config and a run folder to everything one run needs.

Nothing is trained here, and the run folder is touched last: whatever is wrong is told at once.
"""

import dataclasses
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import flax.linen as nn
import grain
import jax
import ml_collections

from skipdit_jax import registry
from skipdit_jax.checkpoints import store
from skipdit_jax.data.digits import load_digits
from skipdit_jax.data.loader import ArraySource, make_batches
from skipdit_jax.diffusion.schedules import Diffusion
from skipdit_jax.training.logs import Record
from skipdit_jax.training.loop import LoopConfig, Step
from skipdit_jax.training.optimizer import (
    OptimizerConfig,
    make_optimizer,
    make_schedule,
    trainable_mask,
)
from skipdit_jax.training.state import TrainState, create_state, from_items, to_items
from skipdit_jax.training.step import make_train_step
from skipdit_jax.typing import Params

# What a run cannot change halfway; the rest (steps, rates, lengths) may.
FIXED_BY_RUN = ("model", "data", "diffusion", "seed", "batch_size", "ema_decay", "trainable")
OPTIMIZER_NAMES = {"lr_schedule": "schedule", "lr_final_fraction": "final_fraction"}
"""Names in a config, which is flat, that differ from those of `OptimizerConfig`."""
SECTIONS = ("model", "data", "diffusion")
OWN_NAMES = ("batch_size", "seed", "ema_decay", "dtype")
OPTIONAL = ("sampling",)
Config = TypeVar("Config", bound=Any)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """One run, ready to train.

    Attributes:
      workdir: run folder; exists.
      resolved: the config as plain JSON-able values.
      model: the backbone.
      state: where to start, before the first step or as restored.
      step: the jitted step.
      batches: at the position that belongs to `state`.
      loop: lengths.
      learning_rate: step -> rate.
    """

    workdir: Path
    resolved: Record
    model: nn.Module
    state: TrainState
    step: Step
    batches: grain.DatasetIterator
    loop: LoopConfig
    learning_rate: Callable[[int], Any]

    @property
    def checkpoints(self) -> Path:
        """Folder of the saved states."""
        return self.workdir / "checkpoints"


def prepare(config: ml_collections.ConfigDict, workdir: Path) -> Job:
    """Checks and makes everything, and restores the newest checkpoint of the run folder.

    Args:
      config: see configs/digits_skip.py for all names.
      workdir: run folder, made if missing.

    Raises:
      ValueError: a value that nothing can be made of, or a run folder of another config.
      OSError: the run folder cannot be written.
    """
    resolved = json.loads(config.to_json())
    flat = _flat_names(resolved)
    loop = _made(LoopConfig, flat)
    optimizing = _made(OptimizerConfig, flat)
    diffusion = _section(Diffusion, resolved["diffusion"], "diffusion")
    batches = make_data(resolved)
    options = {**resolved["model"], "dtype": resolved["dtype"]}
    model = registry.create_model(options.pop("name"), **options)
    shapes = registry.abstract_params(model)
    optimizer = make_optimizer(optimizing, shapes)

    def apply(params: Any, x: Any, t: Any, y: Any) -> Any:
        return model.apply({"params": params}, x, t, y)

    step = make_train_step(
        apply,
        diffusion,
        optimizer,
        num_classes=model.config.num_classes,
        class_dropout_prob=model.config.class_dropout_prob,
        mask=trainable_mask(shapes, optimizing.trainable) if optimizing.trainable else None,
    )
    init_key, run_key = jax.random.split(jax.random.key(resolved["seed"]))

    def first_state(params: Params) -> TrainState:
        return create_state(params, optimizer, run_key, (resolved["ema_decay"],))

    abstract = jax.eval_shape(lambda params: to_items(first_state(params)), shapes)
    restored = find_checkpoint(workdir / "checkpoints", abstract, resolved)
    if restored is None:
        state = first_state(registry.init_params(model, init_key))
    else:
        state = from_items(restored.items, like=run_key)
        batches.set_state(restored.metadata["data"])
    workdir.mkdir(parents=True, exist_ok=True)
    _write(workdir / "config.json", json.dumps(resolved, indent=2) + "\n")
    return Job(
        workdir=workdir,
        resolved=resolved,
        model=model,
        state=state,
        step=step,
        batches=batches,
        loop=loop,
        learning_rate=make_schedule(optimizing),
    )


def make_data(resolved: Record) -> grain.DatasetIterator:
    """Returns the endless batches that the config names, at their start."""
    data = resolved["data"]
    if data.get("name") != "digits":
        raise ValueError(f"data.name: got {data.get('name')!r}, want 'digits'")
    digits = load_digits(data.get("split", "train"))
    source = ArraySource(digits.images, digits.labels)
    return make_batches(source, batch_size=resolved["batch_size"], seed=resolved["seed"])


def find_checkpoint(root: Path, abstract: store.Items, resolved: Record) -> store.Restored | None:
    """Reads the newest checkpoint into these shapes, or returns None where there is none.

    Raises:
      ValueError: it was made with another model, seed, data or batch size: the run would not be
        the one that its config describes.
    """
    step = store.latest_step(root)
    if step is None:
        return None
    saved = store.read_metadata(root, step)["config"]
    for name in FIXED_BY_RUN:
        if saved[name] != resolved[name]:
            raise ValueError(
                f"{root}: {name} was {saved[name]}, now {resolved[name]}: use another --workdir"
            )
    return store.restore(root, abstract, step)


def _flat_names(resolved: Record) -> Record:
    """Checks the names of a config and returns its flat ones as our dataclasses call them."""
    configs = (LoopConfig, OptimizerConfig)
    fields = {field.name for config in configs for field in dataclasses.fields(config)}
    ours = {name: OPTIMIZER_NAMES.get(name, name) for name in resolved}
    missing = [name for name in (*SECTIONS, *OWN_NAMES, "steps", "lr") if name not in resolved]
    known = {*fields, *SECTIONS, *OWN_NAMES, *OPTIONAL}
    unknown = [name for name in resolved if ours[name] not in known]
    if missing or unknown:
        raise ValueError(f"config: missing {missing}, unknown {unknown}")
    flat = {ours[name]: value for name, value in resolved.items() if ours[name] in fields}
    return {**flat, "trainable": tuple(flat.get("trainable", ()))}


def _made(config: type[Config], flat: Mapping[str, Any]) -> Config:
    """Makes a dataclass of those of the flat names that are its own."""
    own = {field.name for field in dataclasses.fields(config)}
    return config(**{name: value for name, value in flat.items() if name in own})


def _section(config: type[Config], values: Mapping[str, Any], place: str) -> Config:
    known = [field.name for field in dataclasses.fields(config)]
    if unknown := sorted(set(values) - set(known)):
        raise ValueError(f"{place}: unknown {', '.join(unknown)}; it takes {', '.join(known)}")
    return config(**values)


def _write(path: Path, text: str) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(text)
    os.replace(part, path)
