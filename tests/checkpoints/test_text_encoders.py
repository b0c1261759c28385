"""Files of text encoders: every name of the released ones, whole and split ones, wrong ones."""

import json
import shutil

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import skipdit_jax as sd
from skipdit_jax import registry
from skipdit_jax.checkpoints import CheckpointError
from skipdit_jax.checkpoints.arrays import ArraySpec
from skipdit_jax.checkpoints.dialects import from_own, to_own
from skipdit_jax.checkpoints.handles import TensorHandle, contiguous_strides
from skipdit_jax.checkpoints.layouts import recognise
from skipdit_jax.checkpoints.rules import tensor_entries
from skipdit_jax.checkpoints.torch_write import write_torch_file
from skipdit_jax.trees import flatten
from skipdit_jax.weights import export_text_encoder
from tests.checkpoints.test_layouts import recorded
from tests.encoders.tiny_texts import STATED, make, put, split

TABLE, TIED = "shared.weight", "encoder.embed_tokens.weight"
MT5_XL = {"vocab_size": 250112, "hidden_size": 2048, "num_heads": 32, "mlp_width": 5120}
RELEASED = {  # file -> (family, what differs from its defaults)
    "T5-v1.1-xxl-encoder": ("t5", {}),
    "mT5-xl-encoder": ("t5", MT5_XL),
    "BertModel-hunyuan-clip": ("bert", {}),
}


@pytest.mark.parametrize("stem", RELEASED)
def test_every_name_and_shape_of_a_released_file_belongs_to_one_parameter(stem, tmp_path):
    """Both ways, by shapes alone."""
    facts, theirs = recorded(stem)
    family, changes = RELEASED[stem]
    layout = recognise(theirs, registry.text_layouts())
    assert layout.name == family
    dialect = layout.dialect(theirs)
    kind = np.dtype(np.float32)
    handles = {
        n: TensorHandle(tmp_path, 0, kind, s, contiguous_strides(s)) for n, s in theirs.items()
    }
    own = {n: h.shape for n, h in (to_own(dialect, handles) if dialect else handles).items()}
    network = registry.build(family, layout.fields_of_shapes(own, None))
    assert network.config == registry.build(family, changes).config
    rules = layout.rules(vars(network.config))
    entries = tensor_entries(rules, registry.abstract_params(network))
    assert {name: entry.torch_shape for name, entry in entries.items()} == own
    assert sum(int(np.prod(shape)) for shape in own.values()) == facts["n_params"]
    if dialect:
        zero = kind.type(0)
        specs = {
            n: ArraySpec(s, kind, lambda s=s: np.broadcast_to(zero, s)) for n, s in own.items()
        }
        back = from_own(dialect, specs, vars(network.config))
        assert {n: spec.shape for n, spec in back.items()} == theirs
    assert len(theirs) == facts["n_tensors"]


def assert_same(read, params):
    found, wanted = flatten(read), flatten(params)
    assert found.keys() == wanted.keys()
    for path, leaf in wanted.items():
        assert np.array_equal(found[path], leaf), path


@pytest.mark.parametrize("family", ["t5", "bert"])
@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_a_folder_is_read(tmp_path, family, file):
    network, params = put(tmp_path / "encoder", family, file=file)
    encoder = sd.load_text_encoder(tmp_path / "encoder", dtype="float32")
    assert encoder.network.config == network.config
    assert_same(encoder.params, params)
    assert (encoder.length, encoder.tokenizer.size) == ((120, 219) if family == "t5" else (77, 157))


@pytest.mark.parametrize(
    ("family", "layout"), [("t5", "transformers"), ("t5", "native"), ("bert", "native")]
)
def test_other_layouts_are_read_back(tmp_path, family, layout):
    network, params = put(tmp_path, family)
    export_text_encoder(tmp_path / "model.safetensors", params, network, layout=layout)
    encoder = sd.load_text_encoder(tmp_path / "model.safetensors", dtype="float32")
    assert encoder.network.config == network.config
    assert_same(encoder.params, params)
    if layout == "transformers":
        tensors = load_file(tmp_path / "model.safetensors")
        assert np.array_equal(tensors[TABLE], tensors[TIED])


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_a_split_folder_is_read(tmp_path, suffix):
    _, params = put(tmp_path, "t5")

    def write_torch(part, path):
        specs = {n: ArraySpec(a.shape, a.dtype, lambda a=a: a) for n, a in part.items()}
        write_torch_file(path, specs)

    write = save_file if suffix == ".safetensors" else write_torch
    index = split(tmp_path, 3, "model" if write is save_file else "pytorch_model", suffix, write)
    for source in (tmp_path, index):
        assert_same(sd.load_text_encoder(source, dtype="float32").params, params)
    next(tmp_path.glob(f"*-00002-*{suffix}")).unlink()
    with pytest.raises(
        CheckpointError, match=r"the file '.*-00002-.*' that it names is not beside it"
    ):
        sd.load_text_encoder(tmp_path)


def test_the_published_types_are_the_default(tmp_path):
    put(tmp_path / "t5", "t5")
    put(tmp_path / "bert", "bert")
    t5, bert = (sd.load_text_encoder(tmp_path / name) for name in ("t5", "bert"))
    assert {leaf.dtype.name for leaf in jax.tree.leaves(t5.params)} == {"bfloat16"}
    assert {leaf.dtype.name for leaf in jax.tree.leaves(bert.params)} == {"float32"}
    wide = sd.load_text_encoder(tmp_path / "t5", wo_param_dtype="float32")
    types = {
        path.split("/")[-2]: leaf.dtype.name
        for path, leaf in flatten(wide.params).items()
        if "/mlp/" in path
    }
    assert types == {"wi_0": "bfloat16", "wi_1": "bfloat16", "wo": "float32"}


def rewrite(folder, change):
    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path)


def test_the_second_name_of_the_table_of_pieces_will_do(tmp_path):
    _, params = put(tmp_path, "t5")
    rewrite(tmp_path, lambda t: {TIED if name == TABLE else name: a for name, a in t.items()})
    assert_same(sd.load_text_encoder(tmp_path, dtype="float32").params, params)


def test_two_tables_that_differ_are_told(tmp_path):
    put(tmp_path, "t5")
    rewrite(tmp_path, lambda t: {**t, TIED: t[TABLE] + np.float32(1)})
    with pytest.raises(CheckpointError, match=f"{TIED} differs from {TABLE}, wanted a copy"):
        sd.load_text_encoder(tmp_path)


def test_what_stands_beside_the_encoder_is_left_out(tmp_path):
    _, params = put(tmp_path / "t5", "t5")
    decoder = {"decoder.block.0.layer.0.layer_norm.weight": np.ones(8, np.float32)}
    rewrite(
        tmp_path / "t5", lambda t: {**t, **decoder, "lm_head.weight": np.ones((9, 8), np.float32)}
    )
    assert_same(sd.load_text_encoder(tmp_path / "t5", dtype="float32").params, params)
    _, params = put(tmp_path / "bert", "bert")
    others = {
        "embeddings.position_ids": np.arange(80)[None],
        "pooler.dense.bias": np.ones(8, np.float32),
    }
    rewrite(tmp_path / "bert", lambda t: {**t, **others})
    assert_same(sd.load_text_encoder(tmp_path / "bert").params, params)
    heads = {"cls.predictions.bias": np.ones(8, np.float32)}
    rewrite(tmp_path / "bert", lambda t: {**{f"bert.{name}": a for name, a in t.items()}, **heads})
    assert_same(sd.load_text_encoder(tmp_path / "bert").params, params)


def test_diffusion_models_and_encoders_are_told_apart(tmp_path):
    path = tmp_path / "x.safetensors"
    network, params = make("t5")
    export_text_encoder(path, params, network)
    with pytest.raises(
        CheckpointError, match="is a T5 text encoder checkpoint; this version reads DiT"
    ):
        sd.load_checkpoint(path)
    model, params = sd.load_checkpoint("dit-digits")
    sd.export_checkpoint(path, params, model)
    for source in (path, registry.ASSETS / "dit_digits.safetensors"):
        with pytest.raises(
            CheckpointError, match="; this version reads T5 text encoder, BERT text"
        ):
            sd.load_text_encoder(source)


def state(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def lose(folder, name):
    (folder / name).unlink()


def without(folder, name):
    rewrite(folder, lambda tensors: {key: a for key, a in tensors.items() if key != name})


WRONG = {  # what is told -> (family, what is done to its folder)
    r": found no vocabulary, wanted spiece.model or .* or vocab.txt there or in .*tokenizer": (
        "t5",
        lambda f: lose(f, "spiece.model"),
    ),
    r"spiece.model: is no vocabulary": (
        "t5",
        lambda f: (f / "spiece.model").write_bytes(b"\xff" * 9),
    ),
    r"vocab.txt: has no \[SEP\], \[PAD\], wanted a vocabulary": (
        "bert",
        lambda f: (f / "vocab.txt").write_text("[CLS]\na\n"),
    ),
    r"found a vocabulary of BERT with 157 pieces, wanted one of T5 with at most 224": (
        "t5",
        lambda f: shutil.copyfile(
            put(f / "b", "bert") and f / "b" / "vocab.txt",
            lose(f, "spiece.model") or f / "vocab.txt",
        ),
    ),
    r"folder without weights": ("t5", lambda f: lose(f, "model.safetensors")),
    r"feed_forward_proj 'relu', wanted gated-gelu": (
        "t5",
        lambda f: state(f, feed_forward_proj="relu"),
    ),
    r"hidden_act 'relu', wanted gelu": ("bert", lambda f: state(f, hidden_act="relu")),
    r"1 missing: encoder.final_layer_norm.weight": (
        "t5",
        lambda f: without(f, "encoder.final_layer_norm.weight"),
    ),
    r"cannot tell the model's size: 1 missing: .*relative_attention_bias": (
        "t5",
        lambda f: without(
            f, "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        ),
    ),
    r"no published size: give num_heads": ("bert", lambda f: lose(f, "config.json")),
}


@pytest.mark.parametrize("told", WRONG)
def test_wrong_folders_are_told_in_one_line(tmp_path, told):
    family, damage = WRONG[told]
    folder = tmp_path / "encoder"
    put(folder, family)
    damage(folder)
    with pytest.raises(CheckpointError, match=told) as caught:
        sd.load_text_encoder(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def test_a_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(
        CheckpointError, match=r"nothing: is not there, wanted the folder of a text encoder"
    ):
        sd.load_text_encoder(tmp_path / "nothing")
    with pytest.raises(
        ValueError, match=r"clean: found 'wash', wanted one of caption, lower, strip"
    ):
        sd.load_text_encoder(tmp_path, clean="wash")


def test_bert_takes_its_heads_from_the_caller_too(tmp_path):
    put(tmp_path, "bert")
    lose(tmp_path, "config.json")
    assert sd.load_text_encoder(tmp_path, num_heads=4).network.config.num_heads == 4
    assert STATED["bert"]["num_attention_heads"] == 2
