"""sample.py as a user starts it: a process of its own, from any folder."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from skipdit_jax.cli import runner

ROOT = Path(__file__).parents[2]


def start(folder, *flags, **environment):
    return subprocess.run(
        [sys.executable, ROOT / "sample.py", *flags],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", **environment},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def test_without_flags_it_samples_all_ten_digits(own_folder, tmp_path):
    done = start(own_folder, "--npz", "a.npz", XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert (done.returncode, done.stderr) == (0, "")
    with np.load(own_folder / "a.npz") as file:
        assert sorted(set(file["labels"].tolist())) == list(range(10))
        assert file["arr_0"].shape[1:] == (8, 8, 1)
    with Image.open(own_folder / "samples.png") as image:
        assert image.size[0] > 10 * 64, "too small to see"
    for words in ("dit-digits", "reused", "% saved", "s to compile", "images/s", "samples.png"):
        assert words in done.stdout
    kept = [path.name for path in (tmp_path / "cache" / "skipdit_jax").iterdir()]
    assert any(name.startswith("jit_sampling_run-") for name in kept), "the sampler was not kept"


def test_bad_input_ends_the_process_with_2(own_folder):
    done = start(own_folder, "--cache", "N0")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("sample.py: error: ")
    assert done.stderr.count("\n") == 1
    assert not list(own_folder.iterdir())


@pytest.fixture
def kept_config():
    """Takes the compilation cache away for a test and gives it back."""
    options = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: jax.config.values[name] for name in options}
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.mark.usefixtures("kept_config")
def test_the_compilation_cache_is_in_the_users_cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "new"))
    assert runner.use_compilation_cache() == tmp_path / "new" / "skipdit_jax"
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "new" / "skipdit_jax")
    # JAX's own limit is 1.0 s, and small models compile in less.
    assert jax.config.jax_persistent_cache_min_compile_time_secs <= 0.2


@pytest.mark.usefixtures("kept_config")
def test_a_cache_that_the_user_chose_stays(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "mine"))
    assert runner.use_compilation_cache() is None
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "mine")
    assert not list(tmp_path.glob("skipdit_jax"))


@pytest.mark.usefixtures("kept_config")
def test_without_a_folder_to_write_there_is_no_cache(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert runner.use_compilation_cache() is None
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert runner.use_compilation_cache() is None
    assert jax.config.jax_compilation_cache_dir is None
