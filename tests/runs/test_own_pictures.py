"""From a folder of pictures to samples asked for by the names of its classes."""

import logging

import jax
import numpy as np
import pytest

import skipdit_jax as sd
from skipdit_jax import registry, runs, trees, weights
from skipdit_jax.checkpoints import CheckpointError
from skipdit_jax.cli import sample, train
from skipdit_jax.cli.build import prepare_sampling
from skipdit_jax.cli.options import parse
from skipdit_jax.data.config import DataConfig
from skipdit_jax.data.open import open_data
from skipdit_jax.data.sources import ANY_CLASS
from skipdit_jax.runs.class_names import read_class_names, to_labels
from skipdit_jax.runs.starting import first_params
from skipdit_jax.runs.train_config import InitConfig, check_same_run
from tests.data.pictures import write_tree

pytestmark = [
    # ml_collections loads config files by a method that Python is giving up.
    pytest.mark.filterwarnings(r"ignore:the load_module\(\):DeprecationWarning"),
]
TINY = {"input_size": 8, "depth": 2, "hidden_size": 16, "num_heads": 2}
CLASSES = ("cat", "dog", "great owl, grey")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_tree(tmp_path_factory.mktemp("own") / "photos", classes=CLASSES, count=2)


@pytest.fixture(scope="module")
def config(photos):
    """What the one command of the docs gives, smaller."""
    found = train.parse(["--config", f"folder:{photos}", "--workdir", "x"]).config
    with found.unlocked():
        found.model.update(TINY)
    found.steps, found.batch_size, found.sample_every = 1, 2, 0
    return found


@pytest.fixture(scope="module")
def run(tmp_path_factory, config):
    """The folder of a run before its first step."""
    job = runs.prepare_training(config, tmp_path_factory.mktemp("run"))
    with runs.RunFolder(job) as files:
        files.export(job.state)
    return job.workdir


def test_the_config_counts_the_classes(config, photos):
    assert (config.data.path, config.model.num_classes) == (str(photos), len(CLASSES))


def test_pictures_alone_are_learned_without_classes(tmp_path):
    flat = write_tree(tmp_path, classes=("flat",)) / "flat"
    found = train.parse(["--config", f"folder:{flat}", "--workdir", "x"]).config
    assert (found.model.num_classes, found.sampling.guidance) == (0, 1)


def test_earlier_runs_read_pictures_as_stored():
    now = {"data": {"name": "folder", "orientation": "upright"}}
    before = {"data": {"name": "folder"}}
    with pytest.raises(ValueError, match=r"^x: data\.orientation was stored, now upright: use "):
        check_same_run(before, now, "x")
    check_same_run(before, {"data": {"name": "folder", "orientation": "stored"}}, "x")
    check_same_run({"data": {"name": "latents"}}, {"data": {**now["data"], "name": "latents"}}, "x")


def test_a_folder_that_is_not_there_is_named(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        train.main(["--config", "folder:nowhere", "--workdir", str(tmp_path / "run")])
    assert stopped.value.code == 2
    told = capsys.readouterr().err
    assert "no folder 'nowhere', wanted one folder for each class" in told
    assert told.count("\n") == 1


def test_another_number_of_classes_is_told(photos, caplog):
    def opened(num_classes):
        data = DataConfig(name="folder", path=str(photos))
        rest = {"sample_shape": (8, 8, 3), "batch_size": 1, "seed": 0}
        return open_data(data, num_classes=num_classes, **rest)

    named = r"3 class folders, wanted labels 0\.\.1 \(num_classes\): set model.num_classes to 3$"
    with pytest.raises(ValueError, match=named):
        opened(2)
    assert opened(3).classes == opened(ANY_CLASS).classes == CLASSES
    with caplog.at_level(logging.WARNING):
        opened(5)
    (told,) = [record.getMessage() for record in caplog.records]
    assert "found 3 classes, wanted num_classes 5: labels 3..4 are never seen" in told
    assert "model.num_classes=3 fits" in told


def test_names_of_classes_are_kept_and_taken_as_labels(run):
    names = ["--class-labels", "great owl, grey", "cat", "0,1"]
    job = prepare_sampling(parse(["--ckpt", str(run), "--cache", "none", *names]))
    assert job.labels.tolist() == [2, 0, 0, 1]
    assert "classes  2 great owl, grey, 0 cat, 1 dog\n" in sample.describe_run(job)


def test_other_names_are_refused_with_those_there_are(run, capsys):
    with pytest.raises(SystemExit) as stopped:
        sample.main(["--ckpt", str(run), "--class-labels", "emu"])
    assert stopped.value.code == 2
    told = capsys.readouterr().err
    assert "--class-labels 'emu': wanted whole numbers or names of classes: cat, dog, great" in told


def test_names_of_any_letters_are_told_in_one_line():
    assert sample.describe_classes(np.array([0, 1, 0, 2]), ["a\nb\x1b[2J", "dog"]) == (
        r"0 'a\nb\x1b[2J', 1 dog, 2"
    )


def test_names_must_be_those_of_one_class():
    assert to_labels([1, "b", "a"], ["a", "b"]) == (1, 1, 0)
    with pytest.raises(ValueError, match=r"'a': found labels \[0, 2\] of that name, wanted a numb"):
        to_labels(["a"], ["a", "b", "a"])


@pytest.mark.parametrize("stated", ["cat", [1, 2], ["a"] * 4, None])
def test_damaged_names_are_refused(run, stated):
    checkpoint = weights.open_weights(run)
    checkpoint.metadata["classes"] = stated
    with pytest.raises(
        CheckpointError, match="metadata 'classes' is of no use, wanted names of at"
    ):
        read_class_names(checkpoint, 3)


def test_the_number_of_classes_is_changed_from_python(run):
    """All but the label table is taken over, which is drawn as for a new model."""
    model, params = sd.load_checkpoint(run, num_classes=7, allow_missing=["y_embedder*"])
    before = trees.flatten(sd.load_checkpoint(run)[1])
    drawn = trees.flatten(registry.init_params(model, jax.random.key(0)))
    assert model.config.num_classes == 7
    for path, leaf in trees.flatten(params).items():
        wanted = drawn if path.startswith("y_embedder") else before
        np.testing.assert_array_equal(leaf, wanted[path])
    started, notes = first_params(model, jax.random.key(0), InitConfig(ckpt=str(run)))
    jax.tree.map(np.testing.assert_array_equal, started, params)
    told = "the label table is drawn anew: the checkpoint has 3 classes, the model 7 classes"
    assert told in notes
    none = sd.create_model("DiT-S/4-skip", in_channels=3, num_classes=0, **TINY)
    with pytest.warns(UserWarning, match="trained with schedule"):
        params = sd.load_checkpoint(run, none, allow_missing=["y_embedder*"])
    assert "y_embedder" not in params
    with pytest.raises(CheckpointError, match="y_embedder"):
        sd.load_checkpoint(run, num_classes=7)
    with pytest.raises(CheckpointError, match="y_embedder"):
        sd.load_checkpoint(run, num_classes=7, allow_missing=["skip_*"])
