"""Options, numeric settings and the golden files of the whole suite."""

import tarfile
from pathlib import Path

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from tests import typechecks
from tests.flags import compile_quickly
from tests.parity import goldens

compile_quickly()
typechecks.install()
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_default_matmul_precision", "highest")


def pytest_addoption(parser):
    parser.addoption(
        "--golden",
        action="append",
        metavar="DIR",
        help="folder of golden files (may repeat); default tests/golden",
    )


def pytest_configure(config):
    config.addinivalue_line(
        "markers", "golden(*stems): run once for each golden file or folder of these names"
    )


def pytest_generate_tests(metafunc):
    marker = metafunc.definition.get_closest_marker("golden")
    if marker is None or "golden" not in metafunc.fixturenames:
        return
    folders = metafunc.config.getoption("--golden") or [Path(__file__).parent / "golden"]
    found = goldens.find(marker.args, [Path(folder) for folder in folders])
    metafunc.parametrize("golden", [f for f, _ in found], ids=[i for _, i in found], indirect=True)


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


@pytest.fixture
def golden(request, tmp_path_factory):
    """A Golden for a file, or the Path of an unpacked folder or of a .json."""
    source = request.param
    if isinstance(source, goldens.Missing):
        pytest.fail(f"golden {source.stem} is missing from {', '.join(map(str, source.folders))}")
    if source.suffix == ".npz":
        return goldens.load(source)
    if source.is_dir() or source.suffix == ".json":
        return source
    return _unpack(source, tmp_path_factory)


def _unpack(archive, tmp_path_factory, _done={}):  # noqa: B006  the default is the session's memory
    if archive not in _done:
        target = tmp_path_factory.mktemp("golden")
        with tarfile.open(archive) as tar:
            tar.extractall(target, filter="data")
        _done[archive] = target / archive.name.removesuffix(".tar.xz")
    return _done[archive]
