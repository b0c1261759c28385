"""pyproject.toml is where requirements stand; the files beside it and the code agree with it."""

import ast
import re
import runpy
import sys
import tomllib
from pathlib import Path

import pytest

from skipdit_jax import optional
from skipdit_jax.checkpoints.released_metrics import METRIC_WEIGHTS
from skipdit_jax.weights.metrics import EXTRA

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MADE = runpy.run_path(str(ROOT / ".ci" / "requirements.py"))["files"]()
MODULES = {
    "absl-py": "absl",
    "beautifulsoup4": "bs4",
    "huggingface-hub": "huggingface_hub",
    "orbax-checkpoint": "orbax",
    "pillow": "PIL",
    "scikit-learn": "sklearn",
}
UNSEEN = {"importlib_resources"}  # TFDS imports it and does not ask for it


def modules(lines):
    """Top modules that requirements bring."""
    names = [re.match(r"[\w-]+", line)[0] for line in lines]
    return {MODULES.get(name.replace("_", "-"), name.replace("-", "_")) for name in names}


def imported():
    """Top modules that the package imports anywhere, without its own and Python's."""
    found = set()
    for path in (ROOT / "skipdit_jax").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add(node.module.partition(".")[0])
    return found - {"skipdit_jax"} - sys.stdlib_module_names


@pytest.mark.parametrize("name", MADE)
def test_files_are_as_made_of_pyproject(name):
    assert (ROOT / name).read_text() == MADE[name], "run python .ci/requirements.py"


def test_every_range_has_two_ends():
    full = [line for line in MADE["requirements.txt"].splitlines() if not line.startswith("#")]
    assert len(full) > 20
    for line in full:
        assert re.fullmatch(r"[\w-]+>=[\d.]+,<[\d.]+(; .*)?", line), line


def test_extras_bring_the_modules_that_the_errors_name():
    extras = PROJECT["optional-dependencies"]
    for extra, names in optional.EXTRAS.items():
        assert modules(extras[extra]) - UNSEEN == set(names), extra


def test_an_extra_brings_the_packages_of_published_metric_weights():
    pinned = [line.partition("==") for line in PROJECT["optional-dependencies"][EXTRA]]
    assert all(version for _, _, version in pinned)
    packages = {row.distribution for row in METRIC_WEIGHTS.values() if row.package}
    assert {name for name, _, _ in pinned} == packages
    everything = MADE["requirements.txt"] + MADE["requirements-dev.txt"]
    assert not any(name in everything for name in packages)


def test_whatever_is_imported_is_required():
    named = {name for names in optional.EXTRAS.values() for name in names}
    assert imported() <= modules(PROJECT["dependencies"]) | named | {"threadpoolctl"}
