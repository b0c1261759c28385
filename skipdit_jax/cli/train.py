"""train.py: a config file and a run folder in, a trained model out; the same command resumes.

    python train.py --config FILE.py --workdir RUN [--config.NAME=VALUE ...]

FILE.py says how to run it and what it reaches (configs/digits_skip.py has all names). RUN gets
config.json (as resolved), metrics.jsonl (the loss curve), checkpoints/ (the whole state) and
ema.safetensors (averaged weights and all that sampling needs: sample.py --ckpt RUN).
Exit codes: 0 done, 2 bad input (one line on stderr), 3 the loss stopped being finite.
"""

import dataclasses
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import ml_collections
from absl import flags
from ml_collections import config_flags

from skipdit_jax.checkpoints import save_native
from skipdit_jax.checkpoints.store import Store
from skipdit_jax.cli.build_training import Job, prepare
from skipdit_jax.cli.errors import one_line, told_in_one_line
from skipdit_jax.cli.runner import use_compilation_cache
from skipdit_jax.training.logs import JsonLog, Record
from skipdit_jax.training.loop import DivergedError, train
from skipdit_jax.training.state import TrainState, ema_name, to_items

PROGRAM = "train.py"
DIVERGED = 3
FLAG_ERRORS = (flags.Error, AttributeError, KeyError, TypeError, OSError, ImportError)
"""What absl and ml_collections raise for flags and config files that cannot be used."""


def main(argv: Sequence[str]) -> int:
    """Runs the command line.

    Args:
      argv: the flags, without the program's name.

    Returns:
      The exit code, 0 or 3.

    Raises:
      SystemExit: with code 2 for bad input.
    """
    if {"--help", "-h"} & set(argv):
        print(__doc__)
        return 0
    use_compilation_cache()
    with told_in_one_line(PROGRAM):
        job = prepare(*parse(argv))
    if job.state.step > 0:
        print(f"resuming {job.workdir} at step {job.state.step}", flush=True)
    try:
        run(job, report=lambda line: print(line, flush=True))
    except DivergedError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return DIVERGED
    return 0


def parse(argv: Sequence[str]) -> tuple[ml_collections.ConfigDict, Path]:
    """Reads --config FILE, --config.NAME=VALUE and --workdir RUN.

    Raises:
      ValueError: an unknown or malformed flag, or no readable config file.
    """
    values, command = flags.FlagValues(), [PROGRAM, *argv]
    config = config_flags.DEFINE_config_file(
        "config", None, "Experiment.", flag_values=values, sys_argv=command
    )
    workdir = flags.DEFINE_string("workdir", None, "Run folder.", flag_values=values)
    try:
        rest = values(command)[1:]
        if rest or config.value is None or not workdir.value:
            raise ValueError(f"want --config FILE and --workdir RUN, and no {rest or 'other'}")
        config.value.to_dict()
    except FLAG_ERRORS as error:
        raise ValueError(one_line(error)) from error
    return config.value, Path(workdir.value)


def run(job: Job, report: Callable[[str], None]) -> TrainState:
    """Trains to the end of the job, logging and saving into its run folder.

    Args:
      job: see `build_training.prepare`.
      report: called with each line for the user.

    Raises:
      DivergedError: the loss stopped being finite; the last good checkpoint is kept.
    """
    log = JsonLog(job.workdir / "metrics.jsonl", resumed_step=int(job.state.step))

    def on_record(record: Record) -> None:
        log.write(record)
        known = {name: value for name, value in record.items() if value is not None}
        report(" ".join(f"{name} {value:.5g}" for name, value in known.items()))

    with Store(job.checkpoints) as checkpoints:

        def save(step: int, state: TrainState) -> None:
            metadata = {"config": job.resolved, "data": job.batches.get_state()}
            checkpoints.save(step, to_items(state), metadata)
            export(job, state)

        return train(
            job.state,
            job.step,
            job.batches,
            job.loop,
            learning_rate=job.learning_rate,
            save=save,
            log=on_record,
        )


def export(job: Job, state: TrainState) -> None:
    """Writes the averaged weights with all that sampling needs to know."""
    save_native(
        job.workdir / "ema.safetensors",
        state.ema[ema_name(job.resolved["ema_decay"])],
        dataclasses.asdict(job.model.config),
        diffusion=job.resolved["diffusion"],
        sampling=job.resolved.get("sampling", {}),
        training={"step": int(state.step), "config": job.resolved},
    )
