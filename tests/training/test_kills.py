"""kill -9 at random moments: every restart finds an intact checkpoint, and the end is bit-equal."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from skipdit_jax.checkpoints.store import restore, steps_in

ROOT = Path(__file__).parents[2]
EVERY = 3  # saves follow each other so closely that many kills fall into one
LONGEST_LIFE = 2.0  # seconds of training before a kill
DEADLINE = 120.0
FLAGS = {
    "checkpoint_every": EVERY,
    "log_every": 1,
    "sample_every": 0,
    "batch_size": 4,
    "warmup_steps": 1,
    "model.depth": 2,
    "model.hidden_size": 8,
    "model.num_heads": 2,
}


def start(workdir, cache, steps):
    """A training process of its own, whose programs come from a shared cache."""
    flags = [f"--config.{name}={value}" for name, value in {**FLAGS, "steps": steps}.items()]
    command = [sys.executable, "train.py", "--config=configs/digits_skip.py", *flags]
    environment = {
        **os.environ,
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    return subprocess.Popen(
        [*command, f"--workdir={workdir}"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    out, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0, err
    return out


def killed(process, seconds):
    """Waits for the first step, lets it train for a while, kills it; returns what it printed."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("step "):
            break
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    out, err = process.communicate(timeout=DEADLINE)
    assert process.returncode in (0, -signal.SIGKILL), err
    return "".join(lines) + out


def last_state(workdir, steps):
    root = workdir / "checkpoints"
    assert steps_in(root)[0] == steps
    return restore(root, {"params": None, "ema": None, "train": None})


# A bare None asks orbax for whatever was saved, and it says so.
@pytest.mark.filterwarnings("ignore:Sharding info not provided:UserWarning")
@pytest.mark.parametrize(
    ("kills", "steps"), [(1, 24), pytest.param(20, 60, marks=pytest.mark.slow)]
)
def test_kills_at_random_moments_change_nothing(tmp_path, kills, steps):
    chance = random.Random(kills)
    straight, broken, cache = (tmp_path / name for name in ("straight", "broken", "cache"))
    finish(start(straight, cache, steps))
    dead = 0
    for _ in range(kills):
        process = start(broken, cache, steps)
        out = killed(process, chance.uniform(0, LONGEST_LIFE / max(kills / 2, 2)))
        assert "skipped" not in out
        dead += process.returncode != 0
    assert dead
    out = finish(start(broken, cache, steps))
    assert "skipped" not in out
    want, got = (last_state(run, steps) for run in (straight, broken))
    jax.tree.map(np.testing.assert_array_equal, got.items, want.items)
    assert got.metadata["data"] == want.metadata["data"]
