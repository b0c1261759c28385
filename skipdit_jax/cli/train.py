"""train.py: a config file and a run folder in, a trained model out; the same command resumes.

The run folder holds config.json (resolved), metrics.jsonl (the loss curve), checkpoints/ (the
whole state) and ema.safetensors (averaged weights with their model config, for sampling).
Exit codes: 0 done, 2 bad input, 3 the loss stopped being finite.
"""

import dataclasses
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import ml_collections
from absl import flags
from ml_collections import config_flags

from skipdit_jax import registry
from skipdit_jax.checkpoints import store
from skipdit_jax.checkpoints.native import save_native
from skipdit_jax.data.digits import load_digits
from skipdit_jax.data.loader import ArraySource, make_batches
from skipdit_jax.diffusion.schedules import Diffusion
from skipdit_jax.training.logs import JsonLog, Record
from skipdit_jax.training.loop import DivergedError, LoopConfig, train
from skipdit_jax.training.optimizer import (
    OptimizerConfig,
    make_optimizer,
    make_schedule,
    trainable_mask,
)
from skipdit_jax.training.state import TrainState, create_state, ema_name, from_items, to_items
from skipdit_jax.training.step import make_train_step

BAD_INPUT, DIVERGED = 2, 3
# What a run cannot change halfway; the rest (steps, rates, lengths) may.
FIXED_BY_RUN = ("model", "data", "diffusion", "seed", "batch_size", "ema_decay", "trainable")


def main(argv: Sequence[str]) -> int:
    """Runs the command line and returns its exit code; a problem is told in one line."""
    try:
        config, workdir = parse(argv)
        run(config, workdir, report=print)
    except DivergedError as error:
        print(f"train.py: {error}", file=sys.stderr)
        return DIVERGED
    except (ValueError, OSError) as error:
        print(f"train.py: {_one_line(error)}", file=sys.stderr)
        return BAD_INPUT
    return 0


def parse(argv: Sequence[str]) -> tuple[ml_collections.ConfigDict, Path]:
    """Reads --config FILE, --config.NAME=VALUE overrides and --workdir RUN.

    Raises:
      ValueError: an unknown or malformed flag, or no readable config file.
    """
    values = flags.FlagValues()
    config = config_flags.DEFINE_config_file(
        "config", None, "Experiment, see configs/.", flag_values=values, sys_argv=list(argv)
    )
    workdir = flags.DEFINE_string("workdir", None, "Run folder.", flag_values=values)
    try:
        rest = values(list(argv))
    except (flags.Error, AttributeError, KeyError, TypeError, OSError, ImportError) as error:
        raise ValueError(_one_line(error)) from error
    if rest[1:]:
        raise ValueError(f"got {rest[1:]}, want --config FILE --workdir RUN only")
    if config.value is None or not workdir.value:
        raise ValueError("want --config FILE and --workdir RUN")
    return config.value, Path(workdir.value)


def run(
    config: ml_collections.ConfigDict, workdir: Path, report: Callable[[str], None]
) -> TrainState:
    """Trains from the newest checkpoint of the run folder, or from the start.

    Args:
      config: see configs/digits_skip.py for all names.
      workdir: run folder, made if missing.
      report: called with each line for the user.

    Raises:
      ValueError: a config value that nothing can be built from, or a run folder of another config.
      DivergedError: the loss stopped being finite.
    """
    resolved = json.loads(config.to_json())
    loop = LoopConfig(
        steps=config.steps, log_every=config.log_every, checkpoint_every=config.checkpoint_every
    )
    batches = make_data(config)
    state, step_fn, learning_rate, model = make_training(config)
    restored = resume(workdir / "checkpoints", state, resolved)
    if restored is not None:
        state = from_items(restored.items, like=state)
        batches.set_state(restored.metadata["data"])
        report(f"resuming {workdir} at step {restored.step}")
    workdir.mkdir(parents=True, exist_ok=True)
    _write(workdir / "config.json", json.dumps(resolved, indent=2) + "\n")
    log = JsonLog(workdir / "metrics.jsonl", resumed_step=int(state.step))

    def on_record(record: Record) -> None:
        log.write(record)
        report(
            " ".join(f"{name} {value:.5g}" for name, value in record.items() if value is not None)
        )

    with store.Store(workdir / "checkpoints") as checkpoints:

        def save(step: int, state: TrainState) -> None:
            metadata = {"config": resolved, "data": batches.get_state()}
            checkpoints.save(step, to_items(state), metadata)
            export(workdir / "ema.safetensors", state, model, resolved)

        return train(
            state, step_fn, batches, loop, learning_rate=learning_rate, save=save, log=on_record
        )


def make_data(config: ml_collections.ConfigDict) -> Any:
    """Returns the endless batches that the config names, at their start."""
    if config.data.name != "digits":
        raise ValueError(f"data.name: got {config.data.name!r}, want 'digits'")
    digits = load_digits(config.data.split)
    source = ArraySource(digits.images, digits.labels)
    return make_batches(source, batch_size=config.batch_size, seed=config.seed)


def make_training(config: ml_collections.ConfigDict) -> tuple[TrainState, Any, Any, Any]:
    """Returns the state before the first step, the jitted step, the rate, and the model."""
    options = dict(config.model)
    model = registry.create_model(options.pop("name"), dtype=config.dtype, **options)
    diffusion = Diffusion(**config.diffusion)
    optimizing = OptimizerConfig(
        lr=config.lr,
        schedule=config.lr_schedule,
        steps=config.steps,
        warmup_steps=config.warmup_steps,
        final_fraction=config.lr_final_fraction,
        beta1=config.beta1,
        beta2=config.beta2,
        weight_decay=config.weight_decay,
        clip_norm=config.clip_norm,
        trainable=tuple(config.trainable),
    )
    init_key, run_key = jax.random.split(jax.random.key(config.seed))
    params = registry.init_params(model, init_key)
    optimizer = make_optimizer(optimizing, params)

    def apply(params: Any, x: Any, t: Any, y: Any) -> Any:
        return model.apply({"params": params}, x, t, y)

    step_fn = make_train_step(
        apply,
        diffusion,
        optimizer,
        num_classes=model.config.num_classes,
        class_dropout_prob=model.config.class_dropout_prob,
        mask=trainable_mask(params, optimizing.trainable) if optimizing.trainable else None,
    )
    state = create_state(params, optimizer, run_key, (config.ema_decay,))
    return state, step_fn, make_schedule(optimizing), model


def resume(root: Path, state: TrainState, resolved: Record) -> store.Restored | None:
    """Reads the newest checkpoint, or returns None where there is none.

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
    return store.restore(root, to_items(state), step)


def export(path: Path, state: TrainState, model: Any, resolved: Record) -> None:
    """Writes the averaged weights with all that sampling needs to know."""
    ema = state.ema[ema_name(resolved["ema_decay"])]
    save_native(
        path,
        ema,
        dataclasses.asdict(model.config),
        diffusion=resolved["diffusion"],
        sampling=resolved.get("sampling", {}),
        training={"step": int(state.step), "config": resolved},
    )


def _write(path: Path, text: str) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(text)
    os.replace(part, path)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
