import pytest

from skipdit_jax.cli import encode, sample
from tests.cli import makers
from tests.cli.encode_kit import SIDE, flags, save_vae
from tests.data.pictures import write_tree


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
def without_compilation_cache():
    """The encode tool leaves it alone, from the first fixture of a file on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encode, "use_compilation_cache", lambda: None)
        yield


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Of a small autoencoder."""
    return save_vae(tmp_path_factory.mktemp("vae") / "vae.safetensors")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Pictures that are cropped to themselves."""
    return write_tree(tmp_path_factory.mktemp("photos") / "set", shape=(SIDE, SIDE, 3))


@pytest.fixture(scope="module")
def finished(tmp_path_factory, photos, weights, without_compilation_cache):
    """A folder of latents that no test changes."""
    folder = tmp_path_factory.mktemp("finished") / "set"
    assert encode.main(flags(photos, weights, folder)) == 0
    return folder
