"""Small text encoders in folders, as transformers and diffusers lay them out."""

import json
import shutil
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from skipdit_jax import registry
from skipdit_jax.weights import export_text_encoder
from tests.networks import random_params

GOLDEN = Path(__file__).parents[1] / "golden"
SPM, VOCAB = GOLDEN / "spm_tiny.model", GOLDEN / "bert_vocab.txt"
T5 = {"vocab_size": 224, "hidden_size": 8, "depth": 2, "num_heads": 2, "head_dim": 4}
T5 |= {"mlp_width": 12, "num_buckets": 8, "max_distance": 16}
BERT = {"vocab_size": 160, "hidden_size": 8, "depth": 2, "num_heads": 2, "mlp_width": 12}
BERT |= {"max_positions": 80}
FIELDS = {"t5": T5, "bert": BERT}
STATED = {
    "t5": {"model_type": "t5", "relative_attention_max_distance": 16, "d_model": 8},
    "bert": {"model_type": "bert", "num_attention_heads": 2, "hidden_act": "gelu"},
}
PIECES = {"t5": (SPM, "spiece.model"), "bert": (VOCAB, "vocab.txt")}


def make(family, **changes):
    """(network, parameters)."""
    network = registry.build(family, {**FIELDS[family], **changes})
    return network, random_params(network)


def put(folder, family, vocabulary=None, file="model.safetensors", **changes):
    """A folder of weights with a config.json; the vocabulary lies in it or in another one."""
    folder.mkdir(parents=True, exist_ok=True)
    network, params = make(family, **changes)
    export_text_encoder(folder / file, params, network)
    (folder / "config.json").write_text(json.dumps(STATED[family]))
    source, name = PIECES[family]
    (vocabulary or folder).mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, (vocabulary or folder) / name)
    return network, params


def split(folder, count, stem="model", suffix=".safetensors", write=save_file):
    """Splits the one file of weights in a folder over several with an index."""
    whole = folder / "model.safetensors"
    tensors = load_file(whole)
    whole.unlink()
    names, table = sorted(tensors), {}
    for number in range(count):
        file = f"{stem}-{number + 1:05}-of-{count:05}{suffix}"
        part = {name: np.ascontiguousarray(tensors[name]) for name in names[number::count]}
        write(part, folder / file)
        table |= dict.fromkeys(part, file)
    index = folder / f"{stem}{suffix}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 0}, "weight_map": table}))
    return index
