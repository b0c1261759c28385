"""The released checkpoints: every name and every shape, both ways, without any memory.

tests/golden/layouts holds what the files list, {name: shape}, and their counts.
"""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from skipdit_jax import registry
from skipdit_jax.checkpoints.layouts import recognise
from skipdit_jax.checkpoints.rules import tensor_entries

FOLDER = Path(__file__).parent.parent / "golden" / "layouts"
RELEASED = {  # file -> (model, what its configuration changes)
    "DiT-XL-2-skip": ("DiT-XL/2-skip", {}),
    "Latte-XL-2-c2v-ucf101-plain": ("Latte-XL/2", {"num_classes": 101}),
    "Latte-skip-c2v-ucf101": ("Latte-XL/2-skip", {"num_classes": 101}),
    "Latte-skip-c2v-ffs-sky-taichi": ("Latte-XL/2-skip", {"class_dropout_prob": 0.0}),
}


def recorded(stem):
    facts = json.loads((FOLDER / f"{stem}.json").read_text())
    return facts, {name: tuple(shape) for name, shape in facts["tensors"].items()}


def shapes_of(model):
    """{torch name: shape} of the state dict that the model is exported to."""
    family, config = registry.layout_of(model), vars(model.config)
    entries = tensor_entries(family.rules(config), registry.abstract_params(model))
    tables = {name: table.shape for name, table in family.fixed_tables(config).items()}
    return {**{name: entry.torch_shape for name, entry in entries.items()}, **tables}


@pytest.mark.parametrize("stem", RELEASED)
def test_every_name_and_shape_belongs_to_one_parameter(stem):
    facts, wanted = recorded(stem)
    name, changes = RELEASED[stem]
    found = shapes_of(registry.create_model(name, **changes))
    assert found == wanted
    assert len(found) == facts["n_tensors"]
    assert sum(int(np.prod(shape)) for shape in found.values()) == facts["n_elements"]


@pytest.mark.parametrize("stem", RELEASED)
def test_the_model_is_read_off_the_names_and_shapes(stem):
    _, shapes = recorded(stem)
    name, changes = RELEASED[stem]
    family = recognise(shapes, registry.weight_layouts())
    model = registry.build(family.name, family.fields_of_shapes(shapes, None))
    assert model.config == registry.create_model(name, **changes).config


AUTOENCODERS = {  # file -> family
    "AutoencoderKL-sd-vae-ft-mse": "vae",
    "AutoencoderKL-sd-vae-ft-mse-oldnames": "vae",
    "AutoencoderKLTemporalDecoder-svd": "vae_temporal",
}


@pytest.mark.parametrize("stem", AUTOENCODERS)
def test_every_name_and_shape_of_an_autoencoder_belongs_to_one_parameter(stem):
    facts, wanted = recorded(stem)
    family = recognise(wanted, registry.weight_layouts())
    kind = registry.AUTOENCODERS[AUTOENCODERS[stem]]
    assert family.name == AUTOENCODERS[stem]
    config = kind.config(**family.fields_of_shapes(wanted, None))
    assert config == kind.config()
    params = registry.abstract_params(kind.module(config))
    table = family.rules(vars(config))
    entries = tensor_entries(family.respell(table, wanted), params)
    assert {name: entry.torch_shape for name, entry in entries.items()} == wanted
    assert len({entry.path for entry in entries.values()}) == len(wanted)
    newest = {name: entry.torch_shape for name, entry in tensor_entries(table, params).items()}
    _, today = recorded(stem.removesuffix("-oldnames"))
    assert newest == today
    assert len(wanted) == facts.get("n_tensors", len(wanted))
    elements = sum(int(np.prod(shape)) for shape in wanted.values())
    assert elements == facts.get("n_elements", elements)


METRICS = {"InceptionV3-FID": "inception", "I3D-Kinetics400-pytorch": "i3d"}  # file -> family


@pytest.mark.parametrize("stem", METRICS)
def test_every_name_and_shape_of_a_metric_network_belongs_to_one_parameter(stem):
    facts, wanted = recorded(stem)
    assert len(wanted) == facts["n_tensors"]
    assert sum(int(np.prod(shape)) for shape in wanted.values()) == facts["n_elements"]
    family = recognise(wanted, registry.metric_layouts())
    assert family.name == METRICS[stem]
    used = {name: s for name, s in wanted.items() if not re.fullmatch(family.beside, name)}
    assert wanted.keys() - used.keys() == ({"fc.bias"} if family.name == "inception" else set())
    network = registry.build(family.name, family.fields_of_shapes(used, None))
    assert network == registry.METRIC_NETWORKS[family.name].module()
    assert shapes_of(network) == used
