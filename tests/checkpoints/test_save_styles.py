"""What training scripts save around weights and before their names: found, told, or asked for."""

import json

import numpy as np
import pytest

from skipdit_jax.checkpoints.errors import CheckpointError
from skipdit_jax.weights import load_checkpoint, open_known, open_weights
from tests.checkpoints.states import state_at, torch_state, write_state, write_wrapped
from tests.checkpoints.test_load import write_safetensors
from tests.checkpoints.torch_makers import dictionary, plain, write_zip

RAW, AVERAGED = 1.0, 2.0  # in the telltale tensor


def state(mark, prefix=""):
    """A small DiT whose patch bias says which weights it is."""
    arrays = torch_state(False)
    arrays["x_embedder.proj.bias"][:] = mark
    return {prefix + name: array for name, array in arrays.items()}


def mark(checkpoint):
    return float(checkpoint.handles["x_embedder.proj.bias"].read()[0])


NUMBER = np.ones(1, np.float32)
AVERAGED_MODEL = {"n_averaged": np.int64([3]), **state(AVERAGED, "module.")}
LIGHTNING = {**state(RAW, "net."), "loss.lpips.weight": NUMBER}
EMA_PYTORCH = {
    **state(RAW, "online_model."),
    **state(AVERAGED, "ema_model."),
    "initted": NUMBER,
    "step": NUMBER,
}
STYLES = {
    "state_dict": ({"state_dict": state(RAW)}, "state_dict", RAW),
    "model_state_dict": ({"model_state_dict": state(RAW)}, "model_state_dict", RAW),
    "net": ({"net": state(RAW)}, "net", RAW),
    "model, model_ema": (
        {"model": state(RAW), "model_ema": state(AVERAGED)},
        "model_ema",
        AVERAGED,
    ),
    "state_dict, state_dict_ema": (
        {"state_dict": state(RAW), "state_dict_ema": state(AVERAGED)},
        "state_dict_ema",
        AVERAGED,
    ),
    "Lightning": ({"state_dict": LIGHTNING}, "state_dict", RAW),
    "Lightning with DDP": ({"state_dict": state(RAW, "model.module.")}, "state_dict", RAW),
    "AveragedModel": ({"ema": AVERAGED_MODEL, "model": state(RAW)}, "ema", AVERAGED),
    "ema_pytorch": ({"ema": EMA_PYTORCH, "model": state(RAW)}, "ema", AVERAGED),
    "a key of one's own": ({"dit_b2": state(RAW), "critic": {"w": NUMBER}}, "dit_b2", RAW),
    "two keys of one's own": (
        {"generator": state(RAW), "generator_ema": state(AVERAGED)},
        "generator_ema",
        AVERAGED,
    ),
    "compiled parts": (
        {
            "model": {
                name.replace("blocks.0.", "blocks.0._orig_mod."): array
                for name, array in state(RAW, "_orig_mod.").items()
            }
        },
        "model",
        RAW,
    ),
}


@pytest.mark.parametrize("style", STYLES)
def test_weights_are_found(tmp_path, style):
    groups, which, number = STYLES[style]
    checkpoint = open_known(write_wrapped(tmp_path / "x.pt", groups))
    assert (checkpoint.which, mark(checkpoint)) == (which, number)
    assert checkpoint.handles.keys() == torch_state(False).keys()
    assert set(checkpoint.others) == groups.keys() - {which}


def test_nested_weights_are_found(tmp_path):
    arrays = state(RAW)
    weights = state_at(arrays, [str(number) for number in range(len(arrays))])
    members = [(str(number), array.tobytes()) for number, array in enumerate(arrays.values())]
    for inner, outer, which in (("net", "ema", "ema/net"), ("mine", "run", "run/mine")):
        content = {"epoch": plain(3), outer: dictionary({inner: weights, "step": plain(1)})}
        path = write_zip(tmp_path / "x.pt", dictionary(content), members)
        for key in (None, which):
            checkpoint = open_known(path, key=key)
            assert (checkpoint.which, mark(checkpoint)) == (which, RAW)
            assert checkpoint.others == ("epoch",)


@pytest.mark.parametrize(
    ("ask", "number"),
    [({"weights": "model"}, RAW), ({"weights": "ema"}, AVERAGED), ({"key": "model"}, RAW)],
)
def test_either_of_two_can_be_asked_for(tmp_path, ask, number):
    for groups in (
        {"model": state(RAW), "model_ema": state(AVERAGED)},
        {"net": state(RAW), "ema_model": state(AVERAGED), "model": state(RAW)},
    ):
        assert mark(open_known(write_wrapped(tmp_path / "x.pt", groups), **ask)) == number
    both = write_state(tmp_path / "y.pt", EMA_PYTORCH)
    if "weights" in ask:
        assert mark(open_known(both, **ask)) == number
    assert mark(open_known(both, prefix="online_model.")) == RAW


def test_what_was_chosen_is_told(tmp_path):
    lightning = open_known(write_wrapped(tmp_path / "x.pt", {"state_dict": LIGHTNING}))
    assert lightning.notes == (
        "names that begin with net. are taken as the network's",
        "1 tensors of other names are left out: loss.lpips.weight",
    )
    two = {"model": state(RAW), "net": state(AVERAGED), "ema": {}}
    (empty, taken) = open_known(write_wrapped(tmp_path / "x.pt", two)).notes
    assert empty == "'ema' holds no tensors"
    assert taken == "'model' is taken, not net: --key takes another"
    assert open_known(write_state(tmp_path / "x.pt", state(RAW))).notes == ()


def test_several_networks_are_asked_about(tmp_path):
    path = write_wrapped(tmp_path / "x.pt", {"a": state(RAW), "b": state(RAW)})
    with pytest.raises(CheckpointError, match=r"several networks, at a, b: say which with --key"):
        open_known(path)
    assert open_known(path, key="b").which == "b"
    path = write_state(tmp_path / "y.pt", {**state(RAW, "a."), **state(RAW, "b.")})
    with pytest.raises(CheckpointError, match=r"begin with a\., b\.: say which with --prefix"):
        open_known(path)
    assert mark(open_known(path, prefix="b.")) == RAW


@pytest.mark.parametrize(
    ("ask", "reason"),
    [
        ({"key": "opt"}, "'opt' is a int, wanted a dict"),
        ({"key": "x/y"}, "has no key 'x/y': it has model, opt"),
        ({"prefix": "net."}, "no name that begins with 'net.': it has pos_embed"),
    ],
)
def test_what_is_not_there_is_told(tmp_path, ask, reason):
    path = write_state(tmp_path / "x.pt", state(RAW))
    if "key" in ask:
        write_zip(path, dictionary({"model": plain({}), "opt": plain(1)}))
    with pytest.raises(CheckpointError, match=reason):
        open_known(path, **ask)


def test_prefixes_of_safetensors_are_seen_through(tmp_path):
    path = write_safetensors(tmp_path / "x.safetensors", state(RAW, "model."), {"format": "pt"})
    assert mark(open_known(path)) == RAW
    with pytest.raises(CheckpointError, match="wanted no --key"):
        open_known(path, key="model")


def test_python_takes_key_and_prefix(tmp_path):
    groups = {"a": state(RAW, "x."), "b": state(RAW)}
    path = write_wrapped(tmp_path / "x.pt", groups)
    model, params = load_checkpoint(path, state_key="a", prefix="x.", num_heads=2)
    assert model.config.depth == 2
    assert float(params["x_embedder"]["bias"][0]) == RAW


def sharded(folder, arrays, index="diffusion_pytorch_model.safetensors.index.json"):
    """A state dict split over two files, with the index of diffusers."""
    names = sorted(arrays)
    table = {}
    for number, part in enumerate((names[::2], names[1::2])):
        file = f"part-{number}.safetensors"
        write_safetensors(folder / file, {name: arrays[name] for name in part}, {"format": "pt"})
        table |= dict.fromkeys(part, file)
    (folder / index).write_text(json.dumps({"metadata": {}, "weight_map": table}))
    return folder / index


def test_weights_split_over_files_are_one_state_dict(tmp_path):
    index = sharded(tmp_path, state(RAW))
    for source in (index, tmp_path):
        checkpoint = open_weights(source)
        assert checkpoint.path == index
        assert mark(checkpoint) == RAW
        assert checkpoint.handles.keys() == torch_state(False).keys()


BROKEN = {
    "lost shard": (lambda d: (d / "part-1.safetensors").unlink(), "'part-1.safetensors' that it"),
    "other shard": (
        lambda d: (d / "part-0.safetensors").replace(d / "part-1.safetensors"),
        "part-0.safetensors",
    ),
    "no JSON": (lambda d: next(d.glob("*.json")).write_text("{"), "is no JSON"),
    "no table": (lambda d: next(d.glob("*.json")).write_text("{}"), "no weight_map"),
    "elsewhere": (
        lambda d: next(d.glob("*.json")).write_text('{"weight_map": {"a": "../x.safetensors"}}'),
        "wanted one beside it",
    ),
    "no such tensor": (
        lambda d: next(d.glob("*.json")).write_text('{"weight_map": {"a": "part-0.safetensors"}}'),
        "1 of its tensors are not in their files: a",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_damaged_index_is_told(tmp_path, case):
    sharded(tmp_path, state(RAW))
    damage, reason = BROKEN[case]
    damage(tmp_path)
    with pytest.raises(CheckpointError, match=reason):
        open_weights(tmp_path)


def test_a_folder_with_one_file_is_that_file(tmp_path):
    path = write_state(tmp_path / "last.ckpt", state(RAW))
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "._last.ckpt").write_text("x")
    assert open_weights(tmp_path).path == path
    write_state(tmp_path / "other.pt", state(RAW))
    with pytest.raises(CheckpointError, match=r"several: last\.ckpt, other\.pt: name one"):
        open_weights(tmp_path)


def test_folders_without_weights_say_what_they_are(tmp_path):
    (tmp_path / "transformer").mkdir()
    write_state(tmp_path / "transformer" / "x.bin", state(RAW))
    with pytest.raises(CheckpointError, match="there are some in transformer"):
        open_weights(tmp_path)
    (tmp_path / ".metadata").write_bytes(b"\x80")
    (tmp_path / "__0_0.distcp").write_bytes(b"")
    with pytest.raises(CheckpointError, match=f"dcp_to_torch {tmp_path} {tmp_path}.pt"):
        open_weights(tmp_path)
