"""Any value of a config can be changed by a flag, in its own type; unknown names are refused."""

import dataclasses

import ml_collections
import pytest

from configs import digits_skip
from skipdit_jax import registry, runs
from skipdit_jax.cli import train
from skipdit_jax.data.config import DataConfig
from skipdit_jax.diffusion.schedules import Diffusion
from skipdit_jax.runs.evaluation_config import EvaluationConfig
from skipdit_jax.runs.train_config import (
    InitConfig,
    ProfileConfig,
    check_same_run,
    read_train_config,
)
from skipdit_jax.sharding import MeshConfig
from skipdit_jax.training.loop import LoopConfig
from skipdit_jax.training.optimizer import OptimizerConfig
from skipdit_jax.weights.recipe import Recipe

BARE = """
import ml_collections
def get_config():
  return ml_collections.ConfigDict(
    {"steps": 3, "lr": 1, "model": {"name": "Latte-S/2"}, "data": {"name": "moving_digits"}})
"""
TEXTS = {bool: ("true", True), int: ("7", 7), float: ("0.5", 0.5), str: ("some", "some")}
LISTS = {
    "tuple[str, ...]": ("('a', 'b')", ("a", "b")),
    "tuple[float, float]": ("(0.1, 0.2)", (0.1, 0.2)),
}
RENAMED = {"schedule": "lr_schedule", "final_fraction": "lr_final_fraction"}


def fields():
    """(name of a flag, its text, the value that is meant) of every dataclass behind a config."""
    behind = {
        "data": DataConfig,
        "diffusion": Diffusion,
        "mesh": MeshConfig,
        "init": InitConfig,
        "profile": ProfileConfig,
        "evaluation": EvaluationConfig,
        "sampling": Recipe,
        "model": registry.FAMILIES["latte"].config,
        "": LoopConfig,
        " ": OptimizerConfig,
    }
    for section, kind in behind.items():
        for field in dataclasses.fields(kind):
            if section == "model" and field.name in ("dtype", "remat"):
                continue  # stand in the config itself
            name = RENAMED.get(field.name, field.name) if section == " " else field.name
            first = str(field.type).split(" | ")[0]
            plain = getattr(field.type, "__name__", first)
            by_name = {kind.__name__: pair for kind, pair in TEXTS.items()}
            text, value = {**by_name, **LISTS}.get(plain) or {**by_name, **LISTS}[first]
            yield f"{section.strip()}.{name}".removeprefix("."), text, value


def parsed(tmp_path, *flags):
    path = tmp_path / "bare.py"
    path.write_text(BARE)
    return train.parse(["--config", str(path), "--workdir", "run", *flags]).config


def held(config, name):
    for part in name.split("."):
        config = config[part]
    return config


@pytest.mark.parametrize(("name", "text", "value"), [*fields()])
def test_every_field_can_be_typed_though_the_file_does_not_set_it(tmp_path, name, text, value):
    config = parsed(tmp_path, f"--config.{name}={text}")
    assert held(config, name) == value
    assert type(held(config, name)) is type(value)


@pytest.mark.parametrize(
    ("flags", "name", "value"),
    [
        (["--config.model.input_size=(16, 8)"], "model.input_size", (16, 8)),
        (["--config.model.input_size", "16"], "model.input_size", 16),
        (["--config.data.image_size=None"], "data.image_size", None),
        (["--config.lr=0.25"], "lr", 0.25),  # a whole number in the file
        (["--config.data.flip"], "data.flip", True),
        (["--noconfig.data.shuffle"], "data.shuffle", False),
        (["--config.model.name=DiT-S/2", "--config.model.skip=true"], "model.skip", True),
        (["--config.ema_extra=(0.9, 0.99)"], "ema_extra", (0.9, 0.99)),
    ],
    ids=str,
)
def test_values_keep_the_type_of_their_field(tmp_path, flags, name, value):
    found = held(parsed(tmp_path, *flags), name)
    assert (found, type(found)) == (value, type(value))


def test_what_was_not_typed_is_not_added(tmp_path):
    """A run of an earlier version must find the config that it was started with."""
    config = parsed(tmp_path, "--config.model.patch_size=4")
    assert config.model.to_dict() == {"name": "Latte-S/2", "patch_size": 4}
    assert set(config.to_dict()) == {"steps", "lr", "model", "data"}


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("stepps=3", "did you mean --config.steps?"),
        ("model.patchsize=4", "did you mean --config.model.patch_size?"),
        ("modle.depth=4", "did you mean --config.model?"),
        ("depth=4", "did you mean --config.model.depth?"),
        ("model.dtype=bfloat16", "did you mean --config.dtype?"),
        ("sampling.colour=blue", "It takes steps, method"),
        ("model.depth=four", "invalid literal"),
        ("model.mlp_ratio=wide", "model.mlp_ratio"),
        ("data.flip=perhaps", "data.flip"),
        ("steps=9e9", "steps"),
        ("trainable[0]=x", "trainable"),
        ("model.depth.more=1", "depth"),
        ("model=3", "not a dict"),
    ],
)
def test_a_name_or_value_that_means_nothing_is_refused(tmp_path, flag, words):
    with pytest.raises(ValueError, match="--config") as caught:
        parsed(tmp_path, f"--config.{flag}")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("steps", "many", "steps: found 'many', wanted a whole number"),
        ("steps", 3.0, "steps: found 3.0, wanted a whole number"),
        ("lr", float("nan"), "lr: found nan, wanted a finite number"),
        ("weight_decay", float("inf"), "weight_decay: found inf, wanted a finite number"),
        ("batch_size", 2 * 10**9, "batch_size: found 2000000000, wanted at most 1000000"),
        ("batch_size", True, "batch_size: found True"),
        ("seed", -1, "seed: found -1, wanted a whole number from 0 to 4294967295"),
        ("seed", 10**20, "seed: found 1"),
        ("trainable", (3,), "trainable: found"),
        ("model", 3, "model: found 3"),
        ("data", None, "data: found None"),
        ("model.depth", "12", "model.depth: found '12', wanted a whole number"),
        ("model.input_size", (8, 8, 8), "model.input_size: found"),
        ("model.remat", "blocks", "model.remat: wanted remat, of the config itself"),
        ("diffusion.num_timesteps", 10.5, "diffusion.num_timesteps: found 10.5"),
        ("data.path", len, "data.path: found builtin_function_or_method"),
        ("sampling.colour", "blue", "sampling: unknown option colour"),
        ("model.name", 3, "model.name: found 3, wanted text"),
    ],
)
def test_values_of_a_file_are_compared_with_their_fields(name, value, words):
    config = runs.load_config("digits_skip", beside=__file__)
    *section, last = name.split(".")
    holder = held(config, section[0]) if section else config
    if last in holder:
        del holder[last]
    holder[last] = value
    with pytest.raises(ValueError, match=last) as caught:
        read_train_config(config)
    assert words in str(caught.value)


def test_the_defaults_fit_their_own_fields():
    config = runs.default_config()
    config.model.name, config.data.name = "DiT-S/2", "digits"
    assert read_train_config(config).resolved["model"] == {"name": "DiT-S/2"}
    assert isinstance(config, ml_collections.ConfigDict)


def test_a_run_of_an_earlier_version_continues():
    """Its config lacks what was added since, whose default is what it did."""
    now = read_train_config(digits_skip.get_config()).resolved
    data = {name: value for name, value in now["data"].items() if not name.startswith("frame")}
    check_same_run({**now, "data": data}, now, "run")
    with pytest.raises(ValueError, match=r"data\.frame_stride was 1, now 2: use another"):
        check_same_run(
            {**now, "data": data}, {**now, "data": {**now["data"], "frame_stride": 2}}, "run"
        )
