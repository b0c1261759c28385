"""The networks of the library keep the contracts: every member is there, and fits the others."""

import jax
import pytest

import skipdit_jax as sd
from skipdit_jax import registry
from skipdit_jax.contracts import Backbone, Conditioning, Network, NetworkConfig, StagedModel
from skipdit_jax.models.dit import DiT, DiTConfig
from skipdit_jax.models.stack import bind

SMALL = {"hidden_size": 16, "num_heads": 2, "input_size": 4, "depth": 4}
CLASSES = {**SMALL, "num_classes": 5}
TEXT = {**SMALL, "hidden_size": 24, "depth": 2, "text_width": 8, "text_tokens": 5}
NAMES = {
    "DiT-S/2": CLASSES,
    "DiT-S/2-skip": CLASSES,
    "Latte-S/2": CLASSES,
    "Latte-S/2-skip": CLASSES,
    "PixArt-S/2-skip": {**TEXT, "size_condition": True},
    "LatteT2V-S/2-skip": TEXT,
    "HunYuan-DiT-g/2-v1.1": {**TEXT, "hidden_size": 16, "depth": 4, "t5_width": 8},
}
ROWS = 3


@pytest.fixture(params=NAMES)
def model(request):
    return sd.create_model(request.param, **NAMES[request.param])


def test_a_model_has_every_member(model):
    assert isinstance(model, Backbone)
    assert isinstance(model.config, NetworkConfig)
    assert isinstance(model.conditioning, Conditioning)


def test_example_inputs_fit_a_call_and_its_shapes_are_as_told(model):
    x, *others = model.example_inputs(ROWS)
    assert x.shape == (ROWS, *model.sample_shape)
    variables = {"params": registry.abstract_params(model)}
    out = jax.eval_shape(model.apply, variables, x, *others)
    *grid, channels = model.sample_shape
    assert out.shape == (ROWS, *grid, channels * (2 if model.learns_variance else 1))


def test_the_three_calls_in_a_row_are_the_whole_call(model):
    """By shape; tests/sampling/test_identities.py compares the numbers."""
    params, inputs = registry.abstract_params(model), model.example_inputs(ROWS)

    def staged(params, *inputs):
        bound = bind(model, params)
        assert isinstance(bound, StagedModel)
        h, c = bound.embed(*inputs)
        h, skips = bound.run(h, c, {}, 0, bound.num_stages)
        assert sorted(skips) == list(range(bound.num_skips))
        return bound.head(h, c)

    whole = jax.eval_shape(model.apply, {"params": params}, *inputs)
    assert jax.eval_shape(staged, params, *inputs).shape == whole.shape


def test_costs_count_the_stages_and_skips_of_the_model(model):
    costs = model.costs
    assert (costs.num_stages, costs.num_skips) == (model.num_stages, model.num_skips)
    assert costs.total() == costs.num_stages * costs.stage + costs.num_skips * costs.fuse


@pytest.mark.parametrize("kind", registry.AUTOENCODERS.values(), ids=lambda kind: kind.name)
def test_autoencoders_are_networks_too(kind):
    vae = kind.module(kind.config(block_out_channels=(32, 32)))
    assert isinstance(vae, Network)
    assert registry.family_of(vae) == kind.name
    out = jax.eval_shape(
        vae.apply, {"params": registry.abstract_params(vae)}, *vae.example_inputs(2)
    )
    assert out.shape == vae.example_inputs(2)[0].shape


def test_a_network_of_no_family_is_told():
    class OwnConfig(DiTConfig):
        """A config class of somebody else: what tells a family is exactly its class."""

    strange = DiT(OwnConfig(**SMALL))
    assert registry.kind_of(strange) is None
    assert registry.published_sampling(strange) == (1.0, None, None, "ddpm", "250")
    assert registry.sharding_rules(strange) == ()
    with pytest.raises(
        ValueError,
        match="DiT belongs to no family: dit, latte, pixart, latte_t2v, hunyuan_dit, vae",
    ):
        registry.family_of(strange)
