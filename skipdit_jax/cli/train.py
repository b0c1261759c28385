"""train.py: a config file and a run folder in, a trained model out; the same command resumes.

    python train.py --config FILE.py --workdir RUN [--config.NAME=VALUE ...]

FILE.py says how to run it and what it reaches (configs/digits_skip.py; docs/training.md has all
names). A bare NAME is NAME.py in this folder, else the config of that name that comes with the
package. RUN gets config.json (as resolved), metrics.jsonl and tensorboard/ (the curves),
checkpoints/ (the whole state), samples/ (grids, with --config.sample_every) and ema.safetensors
(averaged weights and all that sampling needs: sample.py --ckpt RUN).
Many processes: --distributed finds a cluster (Slurm, Kubernetes, TPU), or give --coordinator
HOST:PORT --num-processes N --process-id I.
Exit codes: 0 done, 2 bad input or data (one line on stderr), 3 the loss stopped being finite.
"""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import ml_collections
from absl import flags
from ml_collections import config_flags

from skipdit_jax import sharding, weights
from skipdit_jax.checkpoints.store import Store
from skipdit_jax.cli import distributed
from skipdit_jax.cli.errors import BAD_INPUT, OneLineParser, one_line, told_in_one_line
from skipdit_jax.cli.reports import Reports
from skipdit_jax.cli.runner import use_compilation_cache
from skipdit_jax.data.sources import DataError
from skipdit_jax.runs.config_files import find_config, shipped_configs
from skipdit_jax.runs.job import CHECKPOINTS, TrainingJob, prepare_training
from skipdit_jax.training.logs import Record
from skipdit_jax.training.loop import DivergedError, Hooks, train
from skipdit_jax.training.profiling import Profiler
from skipdit_jax.training.state import TrainState, ema_name, to_items
from skipdit_jax.training.throughput import Meter, peak_flops, train_flops

PROGRAM = "train.py"
DIVERGED = 3
FLAG_ERRORS = (flags.Error, TypeError, OSError, ImportError)
"""What absl and ml_collections raise for flags and config files that cannot be used."""


class Command(NamedTuple):
    """A command line read.

    Attributes:
      config: of the run.
      workdir: run folder.
      cluster: how processes find each other.
    """

    config: ml_collections.ConfigDict
    workdir: Path
    cluster: distributed.Cluster


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
      argv: the flags, without the program's name; None for those of the process.

    Returns:
      The exit code, 0 or 3.

    Raises:
      SystemExit: with code 2 for bad input.
    """
    argv = sys.argv[1:] if argv is None else argv
    if {"--help", "-h"} & set(argv):
        print(f"{__doc__}\nShipped configs: {', '.join(shipped_configs())}")
        return 0
    use_compilation_cache()
    flags.FLAGS.mark_as_parsed()  # grain's worker processes ask absl for theirs
    with told_in_one_line(PROGRAM):
        command = parse(argv)
        distributed.initialize(command.cluster)
        job = prepare_training(command.config, command.workdir)
        reports = Reports(job)
    for note in job.notes:
        reports.tell(note)
    try:
        run(job, reports)
    except DataError as error:
        print(f"{PROGRAM}: error: {one_line(error)}", file=sys.stderr)
        return BAD_INPUT
    except DivergedError as error:
        print(f"{PROGRAM}: {error}; {job.workdir} keeps its last checkpoint", file=sys.stderr)
        return DIVERGED
    return 0


def parse(argv: Sequence[str]) -> Command:
    """Reads --config FILE or NAME, --config.NAME=VALUE, --workdir RUN and the flags of a cluster.

    Raises:
      ValueError: an unknown or malformed flag, or no readable config file.
    """
    parser = OneLineParser(prog=PROGRAM, add_help=False)
    parser.add_argument("--config")
    distributed.add_flags(parser)
    found, others = parser.parse_known_args(argv)
    cluster = distributed.from_flags(vars(found))
    file = [] if found.config is None else [f"--config={find_config(found.config)}"]
    values, line = flags.FlagValues(), [PROGRAM, *file, *others]
    config = config_flags.DEFINE_config_file(
        "config", None, "Experiment.", flag_values=values, sys_argv=line
    )
    workdir = flags.DEFINE_string("workdir", None, "Run folder.", flag_values=values)
    try:
        rest = values(line)[1:]
        if rest or config.value is None or not workdir.value:
            raise ValueError(f"want --config FILE and --workdir RUN, and no {rest or 'other'}")
        config.value.to_dict()
    except (AttributeError, KeyError) as error:
        name = str(error).strip("\"'")
        raise ValueError(f"--config: the config file sets no {name!r}, add it there") from error
    except FLAG_ERRORS as error:
        raise ValueError(one_line(error)) from error
    return Command(config.value, Path(workdir.value), cluster)


def run(job: TrainingJob, reports: Reports) -> TrainState:
    """Trains to the end of the job, logging and saving into its run folder.

    Args:
      job: see `build_training.prepare`.
      reports: where its records and pictures go.

    Raises:
      DivergedError: the loss stopped being finite; the last good checkpoint is kept.
    """
    config = job.config
    kind = job.mesh.devices.flat[0].device_kind
    images = config.data.use_image_num
    costs = job.model.joint_costs(images) if images else job.model.costs
    meter = Meter(train_flops(costs), peak_flops(kind, config.model["dtype"]), job.mesh.size)
    profiler = Profiler(job.workdir / "profile", config.profile.start, config.profile.steps)
    keeping = {"keep": config.keep_last, "keep_every": config.keep_every}
    with Store(job.workdir / CHECKPOINTS, **keeping) as checkpoints, reports:

        def save(step: int, state: TrainState) -> None:
            metadata = {"config": config.resolved, "data": job.batches.get_state()}
            checkpoints.save(step, to_items(state), metadata)
            export(job, state)

        def log(record: Record) -> None:
            skipped = {"skipped": job.batches.skipped} if config.data.skip_broken else {}
            reports.record({**record, **skipped})

        hooks = Hooks(
            learning_rate=job.learning_rate,
            save=save,
            log=log,
            sample=reports.sample,
            before_step=profiler.before_step,
        )
        try:
            return train(job.state, job.step, job.batches, config.loop, hooks, meter)
        finally:
            profiler.close()
            job.batches.close()


def export(job: TrainingJob, state: TrainState) -> None:
    """Writes the averaged weights with all that sampling needs to know; process 0 does."""
    ema = sharding.to_host(state.ema[ema_name(job.config.ema_decays[0])])
    if not distributed.is_main():
        return
    weights.export_checkpoint(
        job.workdir / weights.RUN_WEIGHTS,
        ema,
        job.model.clone(config=dataclasses.replace(job.model.config, remat="none")),
        layout="native",
        diffusion=job.config.resolved["diffusion"],
        sampling=job.config.sampling,
        training={"step": int(state.step), "config": job.config.resolved},
    )


if __name__ == "__main__":
    sys.exit(main())
