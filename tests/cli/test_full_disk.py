"""A disk that fills up while files are written: one line that names one, and the same command goes
on once there is room. Training: tests/training/test_loop.py."""

import errno
import json
import os
from pathlib import Path

import pytest

from skipdit_jax.cli import convert, encode, sample, together
from tests.cli.encode_kit import flags, save_vae
from tests.data.pictures import write_tree

DRAW = ("--num-sampling-steps", "2", "--cache", "none", "--class-labels", "1")
MANY = ("--num-sampling-steps", "2", "--num-fid-samples", "3", "--per-proc-batch-size", "2")


ROOMY = 100
pytestmark = pytest.mark.usefixtures("compiled_once")


class Disk:
    """A disk on which so many more files find room."""

    def __init__(self, monkeypatch):
        self.room, replace = ROOMY, os.replace

        def full(temporary, target):
            if self.room == 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # as write() does
            self.room -= 1
            replace(temporary, target)

        monkeypatch.setattr("skipdit_jax.files.os.replace", full)


@pytest.fixture
def disk(monkeypatch):
    monkeypatch.setattr(encode, "use_compilation_cache", lambda: None)
    return Disk(monkeypatch)


def commands(small, tmp_path):
    """{name: (main, flags, files for which there is room, the one for which there is none)}."""
    vae, photos = save_vae(tmp_path / "vae.safetensors"), write_tree(tmp_path / "photos", count=6)
    latents = flags(photos, vae, "lat", "--format", "npz")
    return {
        "sample": (sample.main, ["--ckpt", small, *DRAW, "--npz", "a.npz"], 1, "a.npz"),
        "fid": (sample.main, ["--ckpt", small, *MANY, "--sample-dir", "fid"], 3, "fid/000002.png"),
        "encode": (encode.main, latents, 2, "lat/latents-00001.npz"),
        "convert": (convert.main, [small, "a.pt"], 0, "a.pt"),
    }


@pytest.mark.parametrize("name", ["sample", "fid", "encode", "convert"])
def test_one_line_names_the_file_and_the_same_command_goes_on(
    name, small, tmp_path, own_folder, disk, capsys
):
    main, typed, room, told = commands(small, tmp_path)[name]
    disk.room = room
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in typed])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "No space left on device" in line
    assert str(own_folder / told) in line or line.split("error: ")[1].startswith(told)
    whole = [path for path in Path().rglob("*") if path.is_file()]
    assert len(whole) == room, "nothing half-written, no locks, no temporary files"
    disk.room = ROOMY
    assert main([str(word) for word in typed]) == 0
    assert Path(told).is_file()


@pytest.mark.parametrize("name", ["fid", "encode"])
def test_the_other_processes_are_told(name, small, tmp_path, disk, monkeypatch, capsys):
    """What ends them is tested in test_together.py, with two processes in its slow part."""
    told = {}

    class Store:
        def key_value_set(self, key, value, allow_overwrite=False):
            told[key] = value

    class EndedError(Exception):
        pass

    def end(code):
        raise EndedError(code)

    main, typed, room, file = commands(small, tmp_path)[name]
    disk.room = room
    monkeypatch.setattr(together, "store", Store)
    monkeypatch.setattr(together, "_exit", end)
    monkeypatch.setattr(together, "LEAVING", together.threading.Event())
    with pytest.raises(EndedError, match="2"):
        main([str(word) for word in typed])
    reason = json.loads(told["skipdit_jax/ended/0"])
    assert (reason["code"], reason["process"]) == (2, 0)
    assert Path(file).name in reason["text"]
    assert reason["text"] in capsys.readouterr().err
    assert together.LEAVING.is_set()
