"""Text encoders against the originals: hidden states of every layer, tables, single modules."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from skipdit_jax import registry
from skipdit_jax.checkpoints.rules import tensor_entries
from skipdit_jax.encoders.t5 import T5Mlp, distance_buckets
from skipdit_jax.layers.mlp import Mlp
from skipdit_jax.layers.norms import LayerNorm, RmsNorm
from skipdit_jax.trees import flatten, unflatten
from tests.parity.goldens import assert_close, deviation

FORWARD = 1e-5  # measured 3e-6
PROBE = 1e-5
FORGOTTEN = 1e-3
HALF = 0.05  # bfloat16 has 8 bits; rms of the difference

t5 = pytest.mark.golden("t5_encoder", "mt5_encoder")
bert = pytest.mark.golden("bert_encoder")
both = pytest.mark.golden("t5_encoder", "mt5_encoder", "bert_encoder")


def kind_of(golden):
    return registry.TEXT_ENCODERS["bert" if "bert" in golden.stem else "t5"]


def network_of(golden, **changes):
    """The encoder that the names, the shapes and the config of the recording describe."""
    layout = kind_of(golden).layout
    stated = {**golden.config, "model_type": layout.name}
    told = layout.described(stated)
    shapes = {name: array.shape for name, array in golden.under("sd/").items()}
    fields = layout.fields_of_shapes(shapes, told.get("num_heads"))
    return registry.build(layout.name, {**fields, **told, **changes})


def params_of(golden, network):
    entries = tensor_entries(kind_of(golden).layout.rules({}), registry.abstract_params(network))
    tied = {"encoder.embed_tokens.weight"} if "sd/shared.weight" in golden else set()
    assert golden.under("sd/").keys() - tied == entries.keys()
    return unflatten(
        {
            entry.path: jnp.asarray(entry.transform.from_torch(golden["sd/" + name]))
            for name, entry in entries.items()
        }
    )


@functools.lru_cache(maxsize=8)
def traced(network):
    """A compiled call that also returns what every module put out, by path."""

    def run(params, ids, mask):
        out, inside = network.apply({"params": params}, ids, mask, capture_intermediates=True)
        seen = flatten(inside["intermediates"])
        return out, {path.removesuffix("/__call__"): leaf[0] for path, leaf in seen.items()}

    return jax.jit(run)


def observed(golden, network, params):
    """{key of the golden: (ours, theirs)} of all hidden states."""
    ids = golden["ids"].astype(np.int32)
    out, inside = traced(network)(params, ids, golden["mask"])
    depth = network.config.depth
    first = "tokens" if "sd/shared.weight" in golden else "norm"
    found = {"hidden_0": inside[first], "out": out, f"hidden_{depth}": out}
    found |= {f"hidden_{i}": inside[f"blocks_{i - 1}"] for i in range(1, depth)}
    found["out_nomask"], _ = traced(network)(params, ids, None)
    if "long_ids" in golden:
        found["long_out"], _ = traced(network)(params, golden["long_ids"].astype(np.int32), None)
    recorded = {key for key in golden.arrays if key.startswith(("hidden", "out", "long_out"))}
    assert found.keys() == recorded
    return {key: (got, golden[key]) for key, got in found.items()}


def check_hidden(golden):
    network = network_of(golden)
    for name, (got, want) in observed(golden, network, params_of(golden, network)).items():
        assert_close(got, want, FORWARD, name)


def check_places(golden):
    """Buckets are whole numbers, and the bias is looked up in a table: both are exact."""
    network = network_of(golden)
    config, want = network.config, golden["rel_bucket_160"]
    found = distance_buckets(*want.shape, config.num_buckets, config.max_distance)
    assert np.array_equal(found, want)
    variables = {"params": params_of(golden, network)}
    places = network.apply(variables, want.shape[1], method="places")
    assert np.array_equal(places[:, : len(want)], golden["rel_bias_160"])


def check_probes(golden):
    """Single modules on inputs so small that the epsilon of the norms shows."""
    network = network_of(golden)
    params, config, x = params_of(golden, network), network.config, jnp.asarray(golden["probe/x"])
    if "probe/ff_x" in golden:
        norm = RmsNorm(epsilon=config.norm_epsilon)
        part, inner = {"params": params["blocks_0"]["mlp"]}, jnp.asarray(golden["probe/ff_x"])
        found = {
            "final_layer_norm": norm.apply({"params": params["norm"]}, x),
            "layer_norm_0_0": norm.apply({"params": params["blocks_0"]["attn_norm"]}, x),
            "ff_0": T5Mlp(config).apply(part, inner),
        }
    else:
        norm = LayerNorm(epsilon=config.norm_epsilon)
        hidden = Mlp(config.mlp_width, activation=functools.partial(jax.nn.gelu, approximate=False))
        part, inner = {"params": params["blocks_0"]["mlp"]}, jnp.asarray(golden["probe/inter_x"])
        _, inside = hidden.apply(part, inner, capture_intermediates=True)
        raw = inside["intermediates"]["fc1"]["__call__"][0]
        found = {
            "embeddings_LayerNorm": norm.apply({"params": params["norm"]}, x),
            "intermediate_0": jax.nn.gelu(raw, approximate=False),
        }
    for name, got in found.items():
        assert_close(got, golden[f"probe/{name}"], PROBE, f"probe/{name}")


T5 = {
    "hidden_0": check_hidden,
    "hidden_1": check_hidden,
    "out": check_hidden,
    "out_nomask": check_hidden,
    "long_out": check_hidden,
    "rel_bias_160": check_places,
    "rel_bucket_160": check_places,
    "probe/final_layer_norm": check_probes,
    "probe/layer_norm_0_0": check_probes,
    "probe/ff_0": check_probes,
}
BERT = {
    "hidden_0": check_hidden,
    "hidden_2": check_hidden,
    "out": check_hidden,
    "out_nomask": check_hidden,
    "probe/embeddings_LayerNorm": check_probes,
    "probe/intermediate_0": check_probes,
}


def checks(table):
    return sorted(set(table.values()), key=lambda function: function.__name__)


@t5
@pytest.mark.parametrize("check", checks(T5))
def test_t5(golden, check):
    check(golden)
    assert golden.arrays  # the checks assert; this says that there was something to check


@bert
@pytest.mark.parametrize("check", checks(BERT))
def test_bert(golden, check):
    check(golden)
    assert golden.arrays


@t5
@pytest.mark.parametrize("key", T5)
def test_damage_is_seen(golden, key):
    with pytest.raises(AssertionError):
        T5[key](golden.damaged(key))


@bert
@pytest.mark.parametrize("key", BERT)
def test_damage_to_bert_is_seen(golden, key):
    with pytest.raises(AssertionError):
        BERT[key](golden.damaged(key))


@both
def test_every_tensor_matters(golden):
    network = network_of(golden)
    params = flatten(params_of(golden, network))
    for path, leaf in params.items():
        if path.endswith("attn/k/bias"):
            continue  # softmax takes the same number off all keys
        forgotten = unflatten({**params, path: jnp.zeros_like(leaf)})
        seen = observed(golden, network, forgotten).values()
        assert max(deviation(got, want) for got, want in seen) > FORGOTTEN, path


@both
def test_half_precision_keeps_its_islands(golden):
    """What goes from block to block, the norms and the last linear of T5's MLPs stay float32."""
    network = network_of(golden, dtype="bfloat16", param_dtype="bfloat16")
    exact = params_of(golden, network)
    params = jax.tree.map(
        lambda leaf, like: leaf.astype(like.dtype), exact, registry.abstract_params(network)
    )
    out, inside = traced(network)(params, golden["ids"].astype(np.int32), golden["mask"])
    wide = [path for path in inside if path.startswith("blocks_") and path.count("/") == 0]
    assert len(wide) == network.config.depth
    assert {inside[path].dtype for path in wide} == {jnp.dtype(jnp.float32)}
    assert out.dtype == jnp.float32
    difference = np.asarray(out) - golden["out"]
    assert np.sqrt(np.mean(difference**2) / np.mean(golden["out"] ** 2)) < HALF
    assert deviation(out, golden["out"]) > FORWARD  # it is another precision


@t5
def test_wo_may_be_stored_wide(golden):
    network = network_of(golden, param_dtype="bfloat16", wo_param_dtype="float32")
    types = {path: leaf.dtype for path, leaf in flatten(registry.abstract_params(network)).items()}
    wide = {path for path, dtype in types.items() if dtype == jnp.float32}
    assert wide == {f"blocks_{i}/mlp/wo/kernel" for i in range(network.config.depth)}
