"""The wheel, built from a copy of the tree, and its commands in an environment of its own."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from pathlib import Path

import jax
import pytest
from PIL import Image

import skipdit_jax
from skipdit_jax.optional import EXTRAS

ROOT = Path(__file__).parents[1]
PIP = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input"]
NAMES = (
    "caches",
    "calibrate",
    "convert",
    "encode",
    "evaluate",
    "models",
    "report",
    "sample",
    "stability",
    "train",
)
COMMANDS = {f"skipdit-{name}" for name in NAMES}
TINY = {
    "steps": 2,
    "batch_size": 4,
    "warmup_steps": 1,
    "sample_every": 0,
    "data.workers": 1,
    "model.depth": 2,
    "model.hidden_size": 8,
    "model.num_heads": 2,
}


def start(*command, cwd, **environment):
    """What a command prints; fails with its error output if it fails."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    quick = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_backend_optimization_level=0"}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**inherited, **quick, **{name: str(value) for name, value in environment.items()}},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.stderr[-2000:]}"
    return done.stdout


def files_of_the_tree():
    """Files that git has, and new ones that it does not ignore; what lies beside stays out."""
    listed = start("git", "ls-files", "-co", "--exclude-standard", "-z", cwd=ROOT)
    return [name for name in listed.split("\0") if name and (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy: setuptools leaves build/ and an egg-info in the folder it builds."""
    tree = tmp_path_factory.mktemp("tree")
    for name in files_of_the_tree():
        if not name.startswith("tests/golden/"):
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, tree / name)
    stale = tree / "build" / "lib" / "skipdit_jax" / "gone.py"
    stale.parent.mkdir(parents=True)
    stale.write_text("")
    flags = ("--no-deps", "--no-build-isolation", "--wheel-dir", "dist")
    start(*PIP, "wheel", ".", *flags, cwd=tree)
    [built] = (tree / "dist").iterdir()
    return built


@pytest.fixture(scope="module")
def base_only(tmp_path_factory):
    """A folder that hides the packages of all extras when it comes first in PYTHONPATH."""
    folder = tmp_path_factory.mktemp("hidden")
    # flax brings optax, and orbax absl, whatever is asked for.
    hidden = {name for names in EXTRAS.values() for name in names} - {"absl", "optax"}
    for name in hidden:
        (folder / f"{name}.py").write_text("raise ImportError('hidden')")
    return folder


@pytest.fixture
def installed(wheel, tmp_path):
    """Folder of the commands of a new environment: ours from the wheel, the rest from here."""
    environment = tmp_path / "environment"
    start(sys.executable, "-m", "venv", "--without-pip", environment, cwd=tmp_path)
    python = environment / "bin" / "python"
    start(*PIP, "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=tmp_path)
    [packages] = environment.glob("lib/python*/site-packages")
    (packages / "others.pth").write_text(str(Path(jax.__file__).parents[1]))
    return python.parent


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as file:
        names = {name for name in file.namelist() if ".dist-info/" not in name}
        [metadata] = [name for name in file.namelist() if name.endswith(".dist-info/METADATA")]
        told = message_from_bytes(file.read(metadata))
    tree = files_of_the_tree()
    package = {name for name in tree if name.startswith("skipdit_jax/")}
    configs = {f"skipdit_jax/{name}" for name in tree if name.startswith("configs/")}
    assert names == package | configs
    assert {"skipdit_jax/py.typed", "skipdit_jax/configs/digits_skip.py"} <= names
    assert any(name.startswith("skipdit_jax/assets/") for name in names)
    assert told["Version"] == skipdit_jax.__version__
    extras = {"all", "cuda", "dev", "metrics", "plot", "tfds", "train", "video", "wandb"}
    assert set(told.get_all("Provides-Extra")) == extras
    assert 'jax[cuda13]; extra == "cuda"' in told.get_all("Requires-Dist")


def test_a_source_distribution_leaves_the_tests_behind(wheel):
    tree = wheel.parents[1]
    code = "from setuptools import build_meta; print(build_meta.build_sdist('dist'))"
    name = start(sys.executable, "-c", code, cwd=tree).splitlines()[-1]
    with tarfile.open(tree / "dist" / name) as file:
        members = {member.partition("/")[2] for member in file.getnames()}
    assert {"pyproject.toml", "configs/digits_skip.py", "skipdit_jax/pipeline/calls.py"} <= members
    assert not any(member.startswith("tests") for member in members)


def test_installed_commands_work_in_an_empty_folder(installed, base_only, tmp_path):
    (tmp_path / "empty").mkdir()

    def run(command, *flags, **environment):
        cache = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
        return start(installed / command, *flags, cwd=tmp_path / "empty", **cache, **environment)

    assert {path.name for path in installed.glob("skipdit-*")} == COMMANDS
    assert "Skip-DiT/DiT-XL-2-skip.pt" in run("skipdit-models", PYTHONPATH=base_only)
    assert "fora:3" in run("skipdit-caches", PYTHONPATH=base_only)
    assert "--caches" in run("skipdit-report", "--help", PYTHONPATH=base_only)
    assert "--speedup X" in run("skipdit-calibrate", "--help", PYTHONPATH=base_only)
    assert "--beside MODEL" in run("skipdit-stability", "--help", PYTHONPATH=base_only)
    assert "SOURCE TARGET" in run("skipdit-convert", "--help", PYTHONPATH=base_only)
    assert "--data SOURCE" in run("skipdit-encode", "--help")
    assert "--cache-step" in run("python", "-m", "skipdit_jax.cli.sample", "--help")
    assert "digits_skip" in run("python", "-m", "skipdit_jax.cli.train", "--help")
    flags = ("--num-sampling-steps", "2", "--class-labels", "3")
    told = run("skipdit-sample", *flags, PYTHONPATH=base_only)
    assert f"weights  {installed.parent}/" in told, "the bundled ones of another installation"
    with Image.open(tmp_path / "empty" / "samples.png") as picture:
        assert picture.width > 64
    # digits_plain starts from digits_skip; a worker process imports the command anew.
    flags = [f"--config.{name}={value}" for name, value in TINY.items()]
    assert "step 2" in run("skipdit-train", "--config", "digits_plain", "--workdir=run", *flags)
    assert (tmp_path / "empty" / "run" / "ema.safetensors").exists()
