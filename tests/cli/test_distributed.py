"""Flags of runs of several processes: what is refused, before anything is started."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from skipdit_jax.cli import distributed
from skipdit_jax.cli.distributed import Cluster
from skipdit_jax.sharding import leads


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"coordinator": "node:1"}, "found 1 of them, wanted all three"),
        ({"num_processes": 2, "process_id": 0}, "found 2 of them"),
        ({"coordinator": "node", "num_processes": 2, "process_id": 0}, "HOST:PORT"),
        ({"coordinator": ":9", "num_processes": 2, "process_id": 0}, "HOST:PORT"),
        ({"coordinator": "node:99999", "num_processes": 2, "process_id": 0}, "HOST:PORT"),
        ({"coordinator": "node:1", "num_processes": 2, "process_id": 2}, "wanted 0..1"),
        ({"coordinator": "node:1", "num_processes": 0, "process_id": 0}, "process-id 0"),
        ({"coordinator": "node:1", "num_processes": 2, "process_id": -1}, "process-id -1"),
        ({"detect": True, "process_id": 0}, "by itself"),
    ],
)
def test_flags_that_make_no_run(flags, words):
    with pytest.raises(ValueError, match=words) as told:
        Cluster(**flags)
    assert "\n" not in str(told.value)


def test_without_flags_the_process_is_alone(capsys):
    distributed.initialize(Cluster())
    assert not jax.distributed.is_initialized()
    assert leads()
    distributed.wait_for_all("nobody else comes")
    distributed.say("hello")
    assert capsys.readouterr().out == "hello\n"


def test_detection_without_a_cluster_is_told():
    """In a process of its own: JAX joins others only before its first computation."""
    code = (
        "from skipdit_jax.cli.distributed import Cluster, initialize\n"
        "initialize(Cluster(detect=True))"
    )
    lonely = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "OMPI", "KUBERN"))}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        env=lonely,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "ValueError: --distributed: no usable Slurm" in done.stderr
