"""From a config and a run folder to everything that one training run needs.

Nothing is trained or written here: whatever is wrong is told at once.
"""

import dataclasses
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import ml_collections
from jax.sharding import Mesh

from skipdit_jax import registry, sharding
from skipdit_jax.checkpoints import store
from skipdit_jax.contracts import Backbone
from skipdit_jax.data.open import open_data
from skipdit_jax.data.sources import ANY_CLASS
from skipdit_jax.diffusion.schedules import FLOW, SCHEDULES
from skipdit_jax.files import check_folder
from skipdit_jax.registry.samples import num_classes
from skipdit_jax.runs.starting import first_params
from skipdit_jax.runs.train_config import TrainConfig, check_same_run, read_train_config
from skipdit_jax.sampling.arguments import as_process
from skipdit_jax.training.feed import Feed
from skipdit_jax.training.loop import TrainStep
from skipdit_jax.training.optimizer import make_optimizer, make_schedule, trainable_mask
from skipdit_jax.training.state import TrainState, create_state, from_items, to_items
from skipdit_jax.training.step import make_train_step
from skipdit_jax.typing import Params
from skipdit_jax.weights.recipe import make_recipe
from skipdit_jax.weights.texts import dropped_caption, texts_in_data

CHECKPOINTS = "checkpoints"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """One run, ready to train.

    Attributes:
      workdir: run folder; may not exist yet.
      config: what was asked for.
      model: the backbone.
      mesh: the devices.
      state: where to start, before the first step or as restored.
      step: the jitted step.
      batches: at the position that belongs to `state`.
      learning_rate: step -> rate.
      notes: what a user should know before it starts, a line each.
    """

    workdir: Path
    config: TrainConfig
    model: Backbone
    mesh: Mesh
    state: TrainState
    step: TrainStep
    batches: Feed
    learning_rate: Callable[[int], Any]
    notes: tuple[str, ...]


def prepare_training(
    config: ml_collections.ConfigDict, workdir: str | os.PathLike[str]
) -> TrainingJob:
    """Checks and makes everything, and restores the newest intact checkpoint of the run folder.

    Args:
      config: see `train_config.default_config` and configs/.
      workdir: run folder.

    Raises:
      ValueError: a value that nothing can be made of, or a run folder of another config.
    """
    asked, workdir = read_train_config(config), Path(workdir)
    try:
        check_folder(workdir)
    except OSError as error:
        raise ValueError(f"{workdir}: no run folder: {error.strerror}") from error
    model = registry.create_model(**asked.model)
    check_recipe(asked, model)
    mesh = sharding.make_mesh(asked.mesh)
    sharding.check_batch(mesh, asked.batch_size, asked.accumulate)
    optimizer = make_optimizer(asked.optimizer, registry.abstract_params(model))
    batches = make_feed(asked, model, mesh)
    state, notes = first_state(asked, model, mesh, optimizer, batches, workdir / CHECKPOINTS)
    return TrainingJob(
        workdir=workdir,
        config=asked,
        model=model,
        mesh=mesh,
        state=state,
        step=make_step(asked, model, mesh, optimizer, state, batches.constants),
        batches=batches,
        learning_rate=make_schedule(asked.optimizer),
        notes=tuple(notes),
    )


def check_recipe(config: TrainConfig, model: Backbone) -> None:
    """Makes sure that what is going to be stored for sampling can be read again.

    Raises:
      ValueError: it means nothing, or the process is none that networks are trained on here.
    """
    if config.diffusion.schedule == FLOW:
        raise ValueError(
            f"diffusion.schedule: found {FLOW!r}, of which networks are sampled here and not "
            f"trained; wanted one of {', '.join(SCHEDULES)}"
        )
    try:
        recipe = make_recipe(config.sampling, model, config.diffusion)
        as_process(config.diffusion, recipe.steps)
    except (TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"sampling: {error}") from error


def make_step(
    config: TrainConfig,
    model: Backbone,
    mesh: Mesh,
    optimizer: Any,
    state: TrainState,
    constants: Mapping[str, Any] | None = None,
) -> TrainStep:
    """Returns the jitted training step of a model, for states that lie like the given one.

    Args:
      config: of the run.
      model: the backbone.
      mesh: the devices.
      optimizer: see `training.optimizer`.
      state: of the run.
      constants: of its data, see `training.step.make_train_step`.
    """

    def apply(params: Any, x: Any, t: Any, condition: Any) -> Any:
        return model.apply({"params": params}, x, t, condition)

    patterns = config.optimizer.trainable
    shapes = registry.abstract_params(model)
    return make_train_step(
        apply,
        config.diffusion,
        optimizer,
        model.conditioning,
        mask=trainable_mask(shapes, patterns) if patterns else None,
        sample_timesteps=config.sample_timesteps,
        accumulate=config.accumulate,
        ema_warmup=config.ema_warmup,
        skip_above=config.optimizer.skip_above,
        constants=constants,
        out_shardings=(
            sharding.shardings(mesh, state, registry.sharding_rules(model)),
            sharding.replicated(mesh),
        ),
    )


def make_feed(config: TrainConfig, model: Backbone, mesh: Mesh) -> Feed:
    """Returns the global batches of a run, on the mesh, at their start."""
    rows = sharding.local_rows(mesh, config.batch_size)
    texts = texts_in_data(model)
    batches = open_data(
        config.data,
        sample_shape=model.sample_shape,
        num_classes=num_classes(model) or ANY_CLASS,
        batch_size=len(rows),
        seed=config.seed,
        process_index=int(rows[0]) // len(rows),
        process_count=config.batch_size // len(rows),
        texts=texts,
    )
    constants = dropped_caption(model, batches.constants) if texts else {}
    put = partial(sharding.global_batch, mesh)
    classes = batches.classes if num_classes(model) else ()
    return Feed(batches, put, classes=classes, constants=constants)


def first_state(
    config: TrainConfig, model: Backbone, mesh: Mesh, optimizer: Any, batches: Feed, root: Path
) -> tuple[TrainState, list[str]]:
    """Restores the newest intact checkpoint together with its data position, or starts anew.

    Returns:
      The state on the mesh, and what a user should know of it, a line each.

    Raises:
      ValueError: the run was started with another config, or its checkpoints are all damaged.
    """
    init_key, run_key = jax.random.split(jax.random.key(config.seed))
    rules = registry.sharding_rules(model)

    def state_of(params: Params) -> TrainState:
        return create_state(params, optimizer, run_key, config.ema_decays)

    shapes = jax.eval_shape(state_of, registry.abstract_params(model))
    items = jax.eval_shape(to_items, shapes)
    restored = store.restore_newest(
        root,
        sharding.abstract(mesh, items, rules),
        accept=lambda saved: check_same_run(saved["config"], config.resolved, str(root)),
    )
    if restored is not None:
        batches.set_state(restored.metadata["data"])
        notes = [f"skipped {line}" for line in restored.skipped]
        notes.append(f"resuming {root.parent} at step {restored.step}")
        return from_items(restored.items, like=run_key), notes
    params, notes = first_params(model, init_key, config.init)
    params = sharding.place(params, sharding.shardings(mesh, params, rules))
    where = sharding.shardings(mesh, shapes, rules)
    return jax.jit(state_of, out_shardings=where)(params), notes
