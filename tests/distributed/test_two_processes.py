"""train.py as two processes of two devices, weights split over all four: equal to one process."""

import shutil

import numpy as np
import pytest

from skipdit_jax.training.logs import read_log
from tests.distributed.processes import finish, free_port, start

RELATIVE = 1e-5  # sums in another order
STEPS, HALF = 6, 3
FLAGS = {
    "steps": STEPS,
    "checkpoint_every": HALF,
    "log_every": 1,
    "sample_every": STEPS,
    "sampling.steps": 2,
    "sampling.cache": "",
    "batch_size": 8,
    "warmup_steps": 1,
    "model.depth": 2,
    "model.num_heads": 2,
}


def training(workdir, *flags, devices=1):
    """A process of train.py, not yet finished."""
    values = [f"--config.{name}={value}" for name, value in FLAGS.items()]
    config = "--config=configs/digits_skip.py"
    flags = [config, f"--workdir={workdir}", *values, *flags]
    return start("train.py", *flags, devices=devices, cache=workdir.parents[1] / "compiled")


def losses(workdir):
    records = read_log(workdir / "metrics.jsonl")
    assert [record["step"] for record in records] == list(range(1, STEPS + 1))
    return [record["loss"] for record in records]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folders of a run by one process and of the same run by two, and what the two printed."""
    one, two = (tmp_path_factory.mktemp(name) / "run" for name in ("one", "two"))
    finish([training(one)])
    cluster = ["--config.mesh.fsdp=4", f"--coordinator=localhost:{free_port()}"]
    cluster.append("--num-processes=2")
    numbers = [f"--process-id={n}" for n in range(2)]
    printed = finish([training(two, *cluster, number, devices=2) for number in numbers])
    return one, two, printed


def test_two_processes_learn_as_one(runs):
    one, two, _ = runs
    np.testing.assert_allclose(losses(two), losses(one), rtol=RELATIVE)


def test_only_the_first_process_prints_and_both_write_one_run(runs):
    _, two, printed = runs
    assert [text.count("\nstep ") + text.startswith("step ") for text in printed] == [STEPS, 0]
    assert [path.name for path in (two / "samples").iterdir()] == [f"step_{STEPS:07}.png"]
    assert (two / "ema.safetensors").is_file()


def test_one_process_continues_what_two_began(runs):
    one, two, _ = runs
    shutil.rmtree(two / "checkpoints" / str(STEPS))
    (text,) = finish([training(two)])
    assert f"resuming {two} at step {HALF}" in text
    np.testing.assert_allclose(losses(two), losses(one), rtol=RELATIVE)
