"""One run at a time in a folder."""

import json
import os
import socket
import subprocess
import sys
from unittest.mock import Mock

import pytest

from skipdit_jax.runs import RunFolder, TrainingJob, locks
from skipdit_jax.runs.locks import LOCK, RECORD, FolderLock

HOLDER = """
import runpy, sys, time
from pathlib import Path
FolderLock = runpy.run_path(sys.argv[2])["FolderLock"]  # without importing the whole package
lock = FolderLock(Path(sys.argv[1]), "held")
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(locks, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(locks, "WATCH_SECONDS", 0.5)


def test_a_second_run_is_refused_by_the_name_of_the_first_and_a_killed_one_is_not_there(tmp_path):
    folder = tmp_path / "run"
    command = [sys.executable, "-c", HOLDER, str(folder), locks.__file__]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        who = f"process {holder.pid} on {socket.gethostname()}"
        with pytest.raises(ValueError, match=f"^--workdir R: in use by {who}, wanted another"):
            FolderLock(folder, "--workdir R")
        holder.kill()
        holder.wait()
    assert (folder / RECORD).exists()
    with FolderLock(folder, "--workdir R"):
        assert json.loads((folder / RECORD).read_text())["process"] == os.getpid()
    assert not os.listdir(folder)


def test_two_in_one_process_exclude_each_other_too(tmp_path):
    with FolderLock(tmp_path, "a"), pytest.raises(ValueError, match=f"process {os.getpid()}"):
        FolderLock(tmp_path, "b")
    with FolderLock(tmp_path, "c"):
        assert {LOCK, RECORD} == set(os.listdir(tmp_path))


@pytest.mark.usefixtures("quick")
def test_a_holder_on_another_host_is_known_by_its_beat(tmp_path, monkeypatch):
    """Where the disk knows no locks between hosts, that of the other host seems free."""
    first = FolderLock(tmp_path, "a")
    os.rename(tmp_path / LOCK, tmp_path / "elsewhere")
    monkeypatch.setattr(locks.socket, "gethostname", lambda: "another")
    with pytest.raises(ValueError, match=f"in use by process {os.getpid()} on "):
        FolderLock(tmp_path, "b")
    first._over.set()  # killed: no beats any more
    first._beats.join()
    FolderLock(tmp_path, "c").close()
    first._lock.release()


@pytest.mark.parametrize("text", ["", "null", "[1]", '{"host": "x"'])
def test_a_record_that_is_none_is_no_holder(tmp_path, text):
    (tmp_path / RECORD).write_text(text)
    with FolderLock(tmp_path, "a"):
        assert json.loads((tmp_path / RECORD).read_text())["process"] == os.getpid()
    assert not (tmp_path / RECORD).exists()


def test_training_holds_its_folder(tmp_path):
    config = Mock(resolved={}, wandb="", loop=Mock(sample_every=0, evaluate_every=0))
    job = Mock(spec=TrainingJob, workdir=tmp_path / "run", config=config, state=Mock(step=0))
    with RunFolder(job), pytest.raises(ValueError, match=r"^--workdir .*: in use by process"):
        RunFolder(job)
    with RunFolder(job):
        pass
    assert not {LOCK, RECORD} & set(os.listdir(tmp_path / "run"))
