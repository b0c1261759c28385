"""train.py: a config file and a run folder in, a trained model out; the same command resumes.

    python train.py --config FILE.py --workdir RUN [--config.NAME=VALUE ...]

FILE.py says how to run it and what it reaches (configs/digits_skip.py; docs/training.md has all
names). A bare NAME is NAME.py in this folder, else the config of that name that comes with the
package. RUN gets config.json (as resolved), metrics.jsonl and tensorboard/ (the curves),
checkpoints/ (the whole state), samples/ (grids, with --config.sample_every) and ema.safetensors
(averaged weights and all that sampling needs: sample.py --ckpt RUN).
Many processes: --distributed finds a cluster (Slurm, Kubernetes, TPU), or give --coordinator
HOST:PORT --num-processes N --process-id I.
Exit codes: 0 done, 2 bad input or data, or a disk that is full (one line on stderr), 3 the loss
stopped being finite; 130, 143 or 138 stopped by Ctrl-C, SIGTERM or SIGUSR1 and saved.
"""

import logging
import re
import signal
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from skipdit_jax.cli.errors import (
    BAD_INPUT,
    OneLineParser,
    one_line,
    show_any_name,
    told_in_one_line,
)
from skipdit_jax.optional import require

with told_in_one_line("train.py"):
    require("train", "training")  # the imports below need it

import ml_collections
from absl import flags
from ml_collections import config_flags

from skipdit_jax import sharding
from skipdit_jax.checkpoints import CheckpointError
from skipdit_jax.cli import distributed
from skipdit_jax.cli.interrupts import Interrupts, code_of, interruptible
from skipdit_jax.cli.memory import enough_memory
from skipdit_jax.cli.runner import use_compilation_cache
from skipdit_jax.cli.terminal import Terminal, describe_end, describe_job
from skipdit_jax.cli.together import leave
from skipdit_jax.data.sources import DataError
from skipdit_jax.runs import RunFolder, prepare_training, run_training
from skipdit_jax.runs.config_fields import open_fields
from skipdit_jax.runs.config_files import open_config, shipped_configs
from skipdit_jax.runs.train_config import field_types
from skipdit_jax.training.loop import IN_FLIGHT, DivergedError

PROGRAM = "train.py"
DIVERGED = 3
CHANGE = r"--?(?P<no>no)?config\.(?P<name>[^=]+)(=(?P<text>.*))?"
"""A flag that changes a value of the config, as ml_collections takes it."""
SMALLER = (
    "wanted --config.accumulate=2 (the same batch in parts), --config.remat=blocks, "
    "--config.dtype=bfloat16, more devices (--config.mesh.fsdp) or a smaller --config.batch_size"
)
ORBAX = "orbax"  # folder of its files
FLAG_ERRORS = (flags.Error, TypeError, OSError)
"""What absl and ml_collections raise for flags that cannot be used."""


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
      The exit code: 0, 2, 3 or that of a signal.

    Raises:
      SystemExit: with code 2 for bad input.
    """
    show_any_name()
    argv = sys.argv[1:] if argv is None else argv
    if {"--help", "-h"} & set(argv):
        print(f"{__doc__}\nShipped configs: {', '.join(shipped_configs())}")
        return 0
    with interruptible(PROGRAM) as interrupts, enough_memory(PROGRAM, SMALLER):
        return _run(argv, interrupts)


def _run(argv: Sequence[str], interrupts: Interrupts) -> int:
    use_compilation_cache()
    logging.getLogger("absl").addFilter(_is_not_of_orbax)
    flags.FLAGS.mark_as_parsed()  # grain's worker processes ask absl for theirs
    with told_in_one_line(PROGRAM):
        command = parse(argv)
        distributed.initialize(command.cluster, PROGRAM)
        job = prepare_training(command.config, command.workdir)
        folder = RunFolder(job)
    start = time.monotonic()
    distributed.say(describe_job(job))
    for note in (*job.notes, *folder.notes):
        distributed.say(note)
    steps = job.config.loop.steps
    stop = partial(interrupts.stop_after, ahead=IN_FLIGHT + 1)
    try:
        with interrupts.gracefully(), Terminal(int(job.state.step), steps) as terminal:
            state = run_training(job, folder, terminal.record, stop)
    except (DataError, CheckpointError, OSError) as error:
        return _ended(BAD_INPUT, f"error: {one_line(error)}")
    except DivergedError as error:
        return _ended(DIVERGED, f"{error}; {job.workdir} keeps its last checkpoint")
    if interrupts.asked is None or (done := int(state.step)) == steps:
        distributed.say(describe_end(job, time.monotonic() - start))
        return 0
    if sharding.leads():
        name = signal.Signals(interrupts.asked).name
        text = f"stopped by {name} after step {done} of {steps}, saved: the same command goes on"
        print(f"{PROGRAM}: {text}", file=sys.stderr)
    return code_of(interrupts.asked)


def _is_not_of_orbax(record: logging.LogRecord) -> bool:
    """Orbax logs every error with its traceback, once in each thread, and raises it too."""
    return ORBAX not in Path(record.pathname).parts


def _ended(code: int, text: str) -> int:
    """Tells people, and the other processes, why a run ends."""
    print(f"{PROGRAM}: {text}", file=sys.stderr)
    leave(code, text)
    return code


def parse(argv: Sequence[str]) -> Command:
    """Reads --config FILE or NAME, --config.NAME=VALUE, --workdir RUN and the flags of a cluster.

    Raises:
      ValueError: an unknown or malformed flag, or no readable config file.
    """
    parser = OneLineParser(prog=PROGRAM, add_help=False)
    parser.add_argument("--config")
    parser.add_argument("--workdir")
    distributed.add_flags(parser)
    found, others = parser.parse_known_args(argv)
    cluster = distributed.from_flags(vars(found))
    if found.config is None or found.workdir is None:
        found_instead = " ".join(argv) or "no flags"
        raise ValueError(f"wanted --config FILE and --workdir RUN, found {found_instead}")
    return Command(_read_config(found.config, others), Path(found.workdir), cluster)


def _read_config(file: str, changes: Sequence[str]) -> ml_collections.ConfigDict:
    """What a config file gives, changed by flags such as --config.steps=3."""
    changes = _joined(changes)
    config, typed = open_config(file), _typed(changes)
    model = config.get("model")
    name = model.get("name") if isinstance(model, ml_collections.ConfigDict) else None
    name = typed.get("model.name") or name
    table = field_types(name if isinstance(name, str) else None)
    open_fields(config, table, typed)
    for word in changes:
        flag = word.split("=")[0]
        bare = flag.removeprefix("--")
        if bare != flag and bare in table[""]:
            raise ValueError(f"unknown flag {flag}, did you mean --config.{bare}?")
    values, line = flags.FlagValues(), [PROGRAM, *changes]
    try:
        config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=line)
        rest = values(line)[1:]
    except FLAG_ERRORS as error:
        raise ValueError(one_line(error)) from error
    except (LookupError, AttributeError) as error:
        raise ValueError(f"--config: no place for one of {', '.join(typed)}: {error}") from error
    if rest:
        raise ValueError(f"wanted --config FILE, --workdir RUN and --config.NAME=VALUE, no {rest}")
    return config


def _joined(changes: Sequence[str]) -> list[str]:
    """Makes --config.steps 3 one word, which absl wants where it cannot tell a type."""
    words: list[str] = []
    for word in changes:
        last = re.fullmatch(CHANGE, words[-1], re.DOTALL) if words else None
        if last and last["text"] is None and not last["no"] and not word.startswith("--"):
            words[-1] += f"={word}"
        else:
            words.append(word)
    return words


def _typed(changes: Sequence[str]) -> dict[str, str | None]:
    """{name: text} of flags such as --config.steps=3; None for one without a value."""
    found = [re.fullmatch(CHANGE, word, re.DOTALL) for word in changes]
    return {match["name"]: match["text"] for match in found if match}


if __name__ == "__main__":
    sys.exit(main())
