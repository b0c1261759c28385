"""The table of released checkpoints against the models of those names."""

import math

import jax
import pytest

from skipdit_jax import registry
from skipdit_jax.checkpoints import hub
from skipdit_jax.checkpoints.pipelines import is_repository
from skipdit_jax.checkpoints.released import RELEASED, VAE_SOURCES, count_numbers, recognise
from skipdit_jax.registry import AUTOENCODERS, abstract_params

MODELS = [row for row in RELEASED if row.model]
names = pytest.mark.parametrize("row", MODELS, ids=lambda row: row.source.rsplit("/", 1)[1])


def sizes(tree):
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


@names
def test_counts_are_those_of_the_models(row):
    model = registry.create_model(row.model, **row.config)
    tables = registry.FAMILIES[row.family].layout.fixed_tables(vars(model.config))
    counted = sizes(registry.abstract_params(model)) + count_numbers(
        table.shape for table in tables.values()
    )
    assert counted == row.numbers
    assert registry.family_of(model) == row.family


@names
def test_published_settings_are_what_a_sample_takes_by_default(row):
    model = registry.create_model(row.model, **row.config)
    guided = registry.published_sampling(model).guidance if model.conditioning.has_null else 1.0
    assert guided == row.sampling.guidance
    published = registry.published_sampling(model)
    assert row.sampling.vae in VAE_SOURCES or row.pipeline
    assert published.method.startswith(row.sampling.method)
    assert str(row.sampling.steps) in published.steps
    assert ("--cache" in row.flags) == (model.num_skips > 0)


@pytest.mark.parametrize("row", [r for r in RELEASED if r.family == "vae"], ids=lambda r: r.source)
def test_counts_of_autoencoders(row):
    kind = AUTOENCODERS[row.family]
    assert sizes(abstract_params(kind.module(kind.config()))) == row.numbers


@pytest.mark.parametrize("row", RELEASED, ids=lambda row: row.source)
def test_sources_can_be_fetched_by_name_and_are_recognised_by_their_keys(row):
    if not is_repository(row.source):
        assert hub.parse(row.source).path.name == row.source.rsplit("/", 1)[1]
    known = recognise(row.family, row.numbers)
    assert (known.family, known.model, known.config) == (row.family, row.model, row.config)


def test_nothing_else_is_recognised():
    assert recognise("dit", 5) is None
    assert recognise("latte", RELEASED[0].numbers) is None


def test_file_sizes_are_those_of_float32():
    copies = {"DiT-XL-2-skip.pt": 4, "Latte-skip.pt": 2}  # with the state of AdamW; model and ema
    for row in RELEASED:
        if row.gigabytes is not None:
            count = copies.get(row.source.rsplit("/", 1)[1], 1)
            assert 4e-9 * count * row.numbers == pytest.approx(row.gigabytes, rel=0.02)
