"""Runs a training job to its end, saving and logging into its folder."""

from collections.abc import Callable

from skipdit_jax.checkpoints.store import Store
from skipdit_jax.contracts import JointBackbone
from skipdit_jax.runs.folder import RunFolder
from skipdit_jax.runs.job import CHECKPOINTS, TrainingJob
from skipdit_jax.training.logs import Record
from skipdit_jax.training.loop import Hooks, train
from skipdit_jax.training.profiling import Profiler
from skipdit_jax.training.state import TrainState, to_items
from skipdit_jax.training.throughput import Meter, peak_flops, train_flops


def run_training(
    job: TrainingJob,
    folder: RunFolder | None = None,
    watch: Callable[[Record], None] = lambda record: None,
    stop: Callable[[int], bool] = lambda done: False,
) -> TrainState:
    """Trains to the end of the job; a job that was stopped goes on, prepared anew.

    Args:
      job: see `job.prepare_training`.
      folder: of the run, made from the job if not given; closed in the end.
      watch: called with every record of the loop: step, loss, lr, images_per_second...
      stop: see `Hooks`.

    Returns:
      The last state.

    Raises:
      DivergedError: the loss stopped being finite; the last good checkpoint is kept.
      DataError: an example that cannot be read.
    """
    config = job.config
    files = RunFolder(job) if folder is None else folder
    profiler = Profiler(job.workdir / "profile", config.profile.start, config.profile.steps)
    keeping = {"keep": config.keep_last, "keep_every": config.keep_every}
    with Store(job.workdir / CHECKPOINTS, **keeping) as checkpoints, files:

        def save(step: int, state: TrainState) -> None:
            metadata = {"config": config.resolved, "data": job.batches.get_state()}
            checkpoints.save(step, to_items(state), metadata)
            files.export(state)

        def log(record: Record) -> None:
            skipped = {"skipped": job.batches.skipped} if config.data.skip_broken else {}
            files.record({**record, **skipped})
            watch({**record, **skipped})

        hooks = Hooks(
            learning_rate=job.learning_rate,
            save=save,
            log=log,
            sample=files.sample,
            evaluate=files.evaluate,
            before_step=profiler.before_step,
            stop=stop,
        )
        try:
            return train(job.state, job.step, job.batches, config.loop, hooks, _meter(job))
        finally:
            profiler.close()
            job.batches.close()


def _meter(job: TrainingJob) -> Meter:
    kind = job.mesh.devices.flat[0].device_kind
    model, images, costs = job.model, job.config.data.use_image_num, job.model.costs
    if images and isinstance(model, JointBackbone):
        costs = model.joint_costs(images)
    return Meter(train_flops(costs), peak_flops(kind, job.config.model["dtype"]), job.mesh.size)
