"""Files appear whole or not at all; what is no file is never replaced, and no remains pile up."""

import os
import re
import signal
import socket
import stat
import subprocess
import sys

import numpy as np
import pytest

from skipdit_jax import files
from skipdit_jax.checkpoints import CheckpointError
from skipdit_jax.checkpoints.atomic import replacing_file
from skipdit_jax.checkpoints.safetensors_files import write_safetensors_file
from skipdit_jax.checkpoints.torch_write import write_torch_file
from skipdit_jax.cli import convert, sample
from skipdit_jax.cli.outputs import save_arrays
from skipdit_jax.registry import ASSETS
from skipdit_jax.visualise.grids import save_png
from skipdit_jax.visualise.video import save_gif, save_mp4

FRAMES = np.zeros((2, 8, 8, 3), np.uint8)
WRITERS = {
    "x.png": lambda path: save_png(path, FRAMES[0]),
    "x.gif": lambda path: save_gif(path, FRAMES),
    "x.mp4": lambda path: save_mp4(path, FRAMES),
    "x.npz": lambda path: save_arrays(path, FRAMES[None].astype(np.float32), None, False),
    "x.pt": lambda path: write_torch_file(path, {}),
    "x.safetensors": lambda path: write_safetensors_file(path, {}, {}),
}


@pytest.fixture(autouse=True)
def _every_folder_is_new():
    files.remove_stale.cache_clear()


def write(path, data):
    with files.replacing_path(path) as temporary:
        temporary.write_bytes(data)


@pytest.mark.parametrize("name", WRITERS)
def test_a_pipe_is_never_replaced(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises((OSError, CheckpointError), match="is a pipe, wanted a file"):
        WRITERS[name](tmp_path / name)
    assert stat.S_ISFIFO((tmp_path / name).stat().st_mode)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("device", ["/dev/full", "/dev/null"])
def test_a_device_is_never_replaced(device, tmp_path):
    for path in (device, tmp_path / "link"):
        if path != device:
            path.symlink_to(device)
        with pytest.raises(OSError, match="is a device"):
            write(path, b"1")
    assert stat.S_ISCHR(os.stat(device).st_mode)


def test_a_socket_is_never_replaced(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s")
        with pytest.raises(CheckpointError, match="s: is a socket"), replacing_file("s"):
            pass


ASSET = str(ASSETS / "dit_digits.safetensors")
CALLS = [
    (sample, ["--out", "PIPE.png"], "--out"),
    (sample, ["--npz", "PIPE.npz"], "--npz"),
    (sample, ["--npz", "/dev/full"], "--npz"),
    (convert, [ASSET, "PIPE.pt"], "TARGET"),
    (convert, [ASSET, "PIPE.safetensors", "--to", "native"], "TARGET"),
]


@pytest.mark.parametrize(("program", "argv", "flag"), CALLS)
def test_the_command_lines_tell_it_before_they_work(
    program, argv, flag, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    for name in (name for name in argv if name.startswith("PIPE")):
        os.mkfifo(name)
    with pytest.raises(SystemExit, match="2"):
        program.main(argv)
    told = capsys.readouterr().err
    assert re.search(
        rf"error: {flag} \S+: is a (pipe|device), wanted a file or a new name\n$", told
    )
    assert told.count("\n") == 1


def test_a_link_is_written_through_and_stays(tmp_path):
    (tmp_path / "there").mkdir()
    kept, link = tmp_path / "there" / "file", tmp_path / "link"
    kept.write_bytes(b"old")
    link.symlink_to("there/file")
    write(link, b"new")
    assert (link.is_symlink(), kept.read_bytes()) == (True, b"new")
    kept.unlink()  # the link leads nowhere now
    write(link, b"newer")
    assert (link.is_symlink(), kept.read_bytes()) == (True, b"newer")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "link", "there"]


def test_links_that_lead_in_a_circle_are_told(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="symbolic links"):
        write(tmp_path / "a", b"1")


def test_new_files_have_the_permissions_that_people_expect(tmp_path):
    write(tmp_path / "ours", b"1")
    (tmp_path / "plain").write_bytes(b"1")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


KILLED = """
import runpy, sys, time
replacing_path = runpy.run_path(sys.argv[2])["replacing_path"]  # the package is slow to import
with replacing_path(sys.argv[1]) as path:
    path.write_bytes(b"x" * 1000)
    print("writing", flush=True)
    time.sleep(60)
"""


def writing(target):
    """A process that holds a temporary file of the target open."""
    argv = [sys.executable, "-c", KILLED, str(target), files.__file__]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "writing\n"
    return process


def test_what_killed_processes_leave_goes_away_and_a_living_ones_stays(tmp_path):
    killed, alive = writing(tmp_path / "weights"), writing(tmp_path / "weights")
    try:
        killed.send_signal(signal.SIGKILL)
        killed.communicate()
        assert len(list(tmp_path.iterdir())) == 2
        write(tmp_path / "other", b"1")
        rest = sorted(path.name for path in tmp_path.iterdir())
        assert len(rest) == 2
        assert f".{alive.pid}." in rest[0]
    finally:
        alive.kill()
        alive.communicate()


def temporary(folder, host, process):
    path = folder / f".w.{host}.{process}.0123abcd.tmp"
    path.write_bytes(b"")
    return path


def test_files_of_other_hosts_and_other_programs_stay(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    ours = temporary(tmp_path, files._HOST, ended.pid)
    others = {
        temporary(tmp_path, "another-host", ended.pid),
        temporary(tmp_path, files._HOST, os.getpid()),
        temporary(tmp_path, files._HOST, 1),
    }
    for name in (".w.tmp", "w.tmp", f"w.{files._HOST}.{ended.pid}.0123abcd.tmp"):
        (tmp_path / name).write_bytes(b"")
        others.add(tmp_path / name)
    write(tmp_path / "new", b"1")
    assert set(tmp_path.iterdir()) == {*others, tmp_path / "new"}
    assert not ours.exists()


def test_a_locked_file_stays_whatever_its_process_number_says(tmp_path):
    """A process in another container, whose number means nothing here, still holds its lock."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    path = tmp_path / f".w.{files._HOST}.{ended.pid}.0123abcd.tmp"
    with files._held(path):
        files.remove_stale(tmp_path)
        assert path.exists()
    files.remove_stale.cache_clear()
    files.remove_stale(tmp_path)
    assert not path.exists()


def test_what_belongs_to_others_keeps_nobody_from_writing(tmp_path, monkeypatch):
    """As in /tmp, where everybody writes and only the owner removes."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    theirs, unlink = temporary(tmp_path, files._HOST, ended.pid), files.Path.unlink

    def sticky(path, **options):
        if path == theirs:
            raise PermissionError(1, "Operation not permitted")
        unlink(path, **options)

    monkeypatch.setattr(files.Path, "unlink", sticky)
    write(tmp_path / "a", b"1")
    assert {path.name for path in tmp_path.iterdir()} == {theirs.name, "a"}


def test_a_folder_is_looked_through_once(tmp_path, monkeypatch):
    """A run of 50,000 samples writes as often into one folder."""
    looks, scandir = [], os.scandir
    monkeypatch.setattr(files.os, "scandir", lambda folder: looks.append(folder) or scandir(folder))
    for number in range(20):
        write(tmp_path / str(number), b"1")
    assert looks == [tmp_path]


def test_long_names_still_have_a_temporary(tmp_path):
    write(tmp_path / ("n" * 255), b"1")
    assert [path.name for path in tmp_path.iterdir()] == ["n" * 255]
