"""A device without memory for what was asked: one line, with what to make smaller."""

import jax
import jax.numpy as jnp
import pytest

from skipdit_jax.cli import encode, sample, train
from skipdit_jax.cli.memory import enough_memory

PETABYTE = 2**50


def too_much(*_):
    jnp.zeros(PETABYTE, jnp.uint8).block_until_ready()


def ended(main, flags, capsys):
    with pytest.raises(SystemExit) as caught:
        main(list(map(str, flags)))
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "cpu device: Out of memory allocating 1125899906842624 bytes: wanted" in line
    return line


def test_sample_names_the_batch(small, capsys, monkeypatch):
    monkeypatch.setattr(sample, "run", too_much)
    assert "--batch-size" in ended(sample.main, ["--ckpt", small, "--out", "a.png"], capsys)


def test_train_names_its_parts(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(train, "prepare_training", too_much)
    flags = ["--config", "digits_skip", "--workdir", tmp_path / "run"]
    assert "--config.accumulate=2" in ended(train.main, flags, capsys)


def test_encode_names_the_batch(capsys, monkeypatch):
    monkeypatch.setattr(encode, "prepare_encoding", too_much)
    flags = ["--data", "photos", "--vae", "ema", "--out", "latents"]
    assert "--batch-size" in ended(encode.main, flags, capsys)


def test_lists_of_allocations_are_left_out_and_other_errors_pass(capsys):
    told = "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 8 bytes.\nBuffers:\n" * 100
    with pytest.raises(SystemExit), enough_memory("program", "wanted less"):
        raise jax.errors.JaxRuntimeError(told)
    line = "program: error: cpu device: Out of memory while trying to allocate 8 bytes: wanted less"
    assert capsys.readouterr().err == f"{line}\n"
    with pytest.raises(jax.errors.JaxRuntimeError), enough_memory("program", "wanted less"):
        raise jax.errors.JaxRuntimeError("INTERNAL: a bug")
