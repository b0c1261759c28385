"""Configs by name: those in the working directory, those that are shipped, and their bases."""

import shutil
from importlib.machinery import SourceFileLoader
from types import ModuleType

import pytest

from skipdit_jax.runs.config_files import find_config, load_config, shipped_configs
from skipdit_jax.runs.train_config import read_train_config

OWN = "import ml_collections\ndef get_config():\n  return ml_collections.ConfigDict({'steps': 7})\n"


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def config_of(path):
    """What a config file gives when it is loaded by its path, as train.py does."""
    module = ModuleType("config")
    module.__file__ = str(path)
    SourceFileLoader("config", str(path)).exec_module(module)
    return module.get_config()


@pytest.mark.parametrize("name", shipped_configs())
def test_shipped_configs_are_read_from_any_folder(name, tmp_path):
    folder = shutil.copytree(shipped_configs()[name].parent, tmp_path / "elsewhere")
    config = config_of(folder / f"{name}.py")
    assert config.to_dict() == load_config(name, beside=__file__).to_dict()
    assert read_train_config(config).model["name"]


def test_a_base_is_looked_for_beside_the_file_first(tmp_path):
    alone = shutil.copy(shipped_configs()["digits_stage2"], tmp_path)
    assert config_of(alone).model.hidden_size == 64
    (tmp_path / "digits_skip.py").write_text(OWN)
    assert load_config("digits_skip", beside=alone).to_dict() == {"steps": 7}


def test_a_base_that_does_not_exist_is_named():
    with pytest.raises(ImportError, match=r"my\.py: 'nosuch': found no such config, .*digits_skip"):
        load_config("nosuch", beside="my.py")


def test_what_was_typed_is_a_file_or_a_name(own_folder):
    shipped = str(shipped_configs()["digits_skip"])
    (own_folder / "digits_skip").mkdir()  # a run folder, say
    assert find_config("digits_skip") == shipped
    assert find_config(f"{shipped}:argument") == f"{shipped}:argument"
    (own_folder / "digits_skip.py").write_text(OWN)
    assert find_config("digits_skip") == "digits_skip.py"
    assert find_config("digits_skip.py") == "digits_skip.py"


@pytest.mark.parametrize("text", ["nosuch", "nosuch.py", "configs/digits_skip.py", ".", ""])
def test_the_shipped_names_are_listed_where_there_is_none(text):
    with pytest.raises(ValueError, match=r"found no such config, wanted .*latte_sky"):
        find_config(text)
