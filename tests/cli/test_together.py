"""Processes of one run end together: what needs no processes is tested without."""

import jax
import pytest

from skipdit_jax.cli import together
from skipdit_jax.training.loop import IN_FLIGHT
from tests.cli import makers
from tests.cli.encode_kit import flags as encode_flags
from tests.cli.encode_kit import save_vae
from tests.data.pictures import write_tree
from tests.distributed.processes import free_port, start

AHEAD = IN_FLIGHT + 1


class Shared:
    """The calls of JAX's key-value store that are used."""

    def __init__(self):
        self.values = {}

    def key_value_set(self, key, value, allow_overwrite=False):
        if key in self.values and not allow_overwrite:
            raise jax.errors.JaxRuntimeError(f"ALREADY_EXISTS: key {key} already exists.")
        self.values[key] = value

    def key_value_dir_get(self, prefix):
        return [(key, value) for key, value in self.values.items() if key.startswith(prefix)]


@pytest.fixture
def shared(monkeypatch):
    store = Shared()
    monkeypatch.setattr(together, "store", lambda: store)
    return store


@pytest.mark.parametrize("lag", [0, 1, 2])
@pytest.mark.usefixtures("shared")
def test_all_stop_after_the_same_step_however_far_one_lags(lag):
    """One is asked after its step 5 while the other has done 5 - lag or 5 + lag steps."""
    for other in (5 - lag, 5 + lag):
        assert together.agree_to_stop(None, other, AHEAD) is None
    stopped = [
        next(done for done in range(first, 20) if together.agree_to_stop(asked, done, AHEAD))
        for first, asked in ((5, 15), (6 - lag, None), (6 + lag, None), (6, 2))
    ]
    assert stopped == [5 + AHEAD] * 4
    assert together.agree_to_stop(2, 5 + AHEAD, AHEAD) == 15


def test_a_process_alone_stops_at_once_and_tells_nobody():
    assert together.store() is None
    assert together.agree_to_stop(15, 3, AHEAD) == 15
    assert together.agree_to_stop(None, 3, AHEAD) is None
    together.leave(2, "reason")


def test_the_reason_is_that_of_the_process_that_has_it(shared, monkeypatch, capsys):
    codes = []
    monkeypatch.setattr(together, "_exit", codes.append)
    together.leave(2, "a.png: cannot be read")
    code, text = together._reason()
    together._leave_with("train.py", code, text)
    assert codes == [2, 2]
    err = capsys.readouterr().err
    assert err == "train.py: ended with process 0: a.png: cannot be read\n"


@pytest.mark.slow
@pytest.mark.parametrize("broken", [0, 1])
def test_two_processes_end_with_the_broken_picture_of_one(tmp_path, broken):
    """Without it both wait for five minutes and are aborted."""
    photos = write_tree(tmp_path / "photos", count=6, shape=(8, 8, 3))
    (photos / "dog" / "5.png").write_bytes(b"no picture")
    values = {"data.name": "folder", "data.path": photos, "data.shuffle": False, "batch_size": 4}
    values |= {"model.in_channels": 3, "model.num_classes": 2, "model.depth": 2, "steps": 100}
    values |= {"sample_every": 0, "warmup_steps": 1, "seed": broken}
    flags = [f"--config.{name}={value}" for name, value in values.items()]
    flags += ["--config=configs/digits_skip.py", f"--workdir={tmp_path / 'run'}"]
    end_together("train.py", flags, "5.png")


@pytest.mark.slow
def test_two_processes_end_with_the_sample_that_one_cannot_write(tmp_path):
    """The second batch is that of process 1."""
    folder = tmp_path / "fid"
    folder.mkdir()
    (folder / "000002.png").symlink_to(tmp_path / "missing" / "000002.png")
    flags = ["--ckpt", makers.save_small(tmp_path / "small.safetensors"), "--cache", "none"]
    flags += ["--num-sampling-steps", "2", "--num-fid-samples", "8", "--per-proc-batch-size", "2"]
    end_together("sample.py", [*flags, "--sample-dir", folder], "missing")


@pytest.mark.slow
def test_two_processes_end_with_the_picture_that_one_cannot_encode(tmp_path):
    vae, photos = save_vae(tmp_path / "vae.safetensors"), write_tree(tmp_path / "photos", count=20)
    (photos / "dog" / "9.png").write_bytes(b"no picture")
    typed = encode_flags(photos, vae, tmp_path / "latents")
    end_together("-m", ["skipdit_jax.cli.encode", *typed], "9.png")


def end_together(program, flags, told):
    """Both processes end with code 2 and one line with the reason of the one that has it."""
    cluster = [f"--coordinator=localhost:{free_port()}", "--num-processes=2"]
    processes = [start(program, *flags, *cluster, f"--process-id={n}") for n in range(2)]
    errors = [process.communicate(timeout=200)[1] for process in processes]
    assert [process.returncode for process in processes] == [2, 2]
    for text in errors:
        (line,) = text.splitlines()
        assert told in line
    assert sum("ended with process" in text for text in errors) == 1
