import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from skipdit_jax.cli import sample
from tests.cli import makers


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    """Every test runs in an empty folder and leaves JAX's compilation cache alone."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setattr(sample, "use_compilation_cache", lambda: None)
    return work


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """A skip model of pixels as a native file that recommends settings."""
    metadata = {
        "diffusion": {"schedule": "squaredcos_cap_v2"},
        "sampling": {"steps": makers.STEPS, "guidance": 2.0, "cache": "N3", "num_samples": 2},
    }
    return makers.save_small(tmp_path_factory.mktemp("small") / "small.safetensors", metadata)


@pytest.fixture(scope="session")
def plain_latents(tmp_path_factory):
    """A plain model of latents without metadata."""
    path = tmp_path_factory.mktemp("latents") / "latents.safetensors"
    return makers.save_small(path, skip=False, in_channels=4)


@pytest.fixture(scope="module")
def compiled_once(tmp_path_factory):
    """Programs are shared by the tests of this file, as they are by the runs of a user."""
    options = {
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("compiled")),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
    }
    before = {name: jax.config.values[name] for name in options}
    for values in (options, before):
        for name, value in values.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()
        if values is options:
            yield
