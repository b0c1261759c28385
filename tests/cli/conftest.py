import pytest

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
