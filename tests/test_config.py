"""Dataclasses of plain values take what their annotations say, and nothing that looks alike."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import pytest

from skipdit_jax import config, registry
from skipdit_jax.diffusion.schedules import Diffusion


@dataclasses.dataclass(frozen=True)
class Plain:
    whole: int = 1
    number: float = 1.0
    truth: bool = False
    text: str = ""
    size: int | tuple[int, int] = 1
    maybe: float | None = None
    pair: tuple[float, float] | None = None
    names: tuple[str, ...] = ()
    widths: Sequence[int] = (1,)
    anything: object = None


GOOD = [
    ("whole", -4_000_000_000),
    ("number", 4),
    ("truth", True),
    ("text", "a"),
    ("size", 3),
    ("size", (3, 4)),
    ("maybe", None),
    ("maybe", 2),
    ("pair", (0.1, 1)),
    ("names", ()),
    ("names", ("a", "b")),
    ("widths", (1, 2, 3)),
    ("anything", {1: 2}.keys),
]
BAD = [
    ("whole", 64.0, "a whole number"),
    ("whole", True, "a whole number"),
    ("whole", "64", "a whole number"),
    ("whole", None, "a whole number"),
    ("whole", 2**32, "a number of at most 4294967295"),
    ("number", math.nan, "a finite number"),
    ("number", math.inf, "a finite number"),
    ("number", False, "a finite number"),
    ("number", "4.0", "a finite number"),
    ("truth", 7, "true or false"),
    ("truth", 1, "true or false"),
    ("truth", "False", "true or false"),
    ("text", 1, "text"),
    ("size", 8.0, "a whole number or a list of 2 x a whole number"),
    ("size", (8, 8, 8), "a whole number or a list of 2 x a whole number"),
    ("size", (8, 8.0), "a whole number or a list of 2 x a whole number"),
    ("pair", (0.1, math.nan), "a list of 2 x a finite number or None"),
    ("pair", 0.1, "a list of 2 x a finite number or None"),
    ("names", "abc", "a list of text"),
    ("names", (1,), "a list of text"),
    ("widths", 4, "a list of a whole number"),
    ("widths", (4, True), "a list of a whole number"),
]


@pytest.mark.parametrize(("name", "value"), GOOD)
def test_values_of_the_annotated_type_stay_as_they_are(name, value):
    made = config.make(Plain, {name: value}, "here")
    assert getattr(made, name) == value
    if isinstance(value, tuple):
        assert config.make(Plain, {name: list(value)}, "here") == made


@pytest.mark.parametrize(("name", "value", "wanted"), BAD)
def test_values_of_another_type_are_told(name, value, wanted):
    with pytest.raises(ValueError, match=r"^here: ") as error:
        config.make(Plain, {name: value}, "here")
    assert str(error.value) == f"here: {name}: found {value!r}, wanted {wanted}"


def test_numbers_of_numpy_become_pythons_own():
    made = config.make(Plain, {"whole": np.int64(3), "number": np.float32(0.5)}, "here")
    assert (type(made.whole), type(made.number)) == (int, float)
    assert (made.whole, made.number) == (3, 0.5)


def test_errors_echo_no_more_than_a_line():
    for values in ({"whole": "x" * 10**6}, {"y" * 10**6: 1}, {f"n{i}": 1 for i in range(10**4)}):
        with pytest.raises(ValueError, match=r"^here: ") as error:
            config.make(Plain, values, "here")
        assert len(str(error.value)) < 300


@pytest.mark.parametrize(
    "fields",
    [
        {"hidden_size": 64.0},
        {"skip": 7},
        {"depth": True},
        {"mlp_ratio": 0},
        {"mlp_ratio": -1.0},
        {"mlp_ratio": 1e308, "hidden_size": 2**31},
        {"mlp_ratio": math.nan},
        {"class_dropout_prob": math.nan},
        {"input_size": [8, 8, 8]},
        {"input_size": 8.0},
        {"dtype": 3},
        {"num_classes": None},
    ],
)
@pytest.mark.parametrize("family", ["dit", "latte"])
def test_no_model_is_made_of_another_type(family, fields):
    with pytest.raises(ValueError, match=next(iter(fields))):
        registry.build(family, fields)


def test_a_process_has_a_bounded_number_of_timesteps():
    assert Diffusion(num_timesteps=4000).num_steps == 4000
    for schedule in ("linear", "squaredcos_cap_v2"):
        with pytest.raises(ValueError, match="num_timesteps: found 1000000000, wanted 1 to 100000"):
            Diffusion(num_timesteps=10**9, schedule=schedule)
