"""Pickles of nested dicts of numpy arrays: every way of writing them, and what is refused."""

import pickle
import struct

import numpy as np
import pytest

from skipdit_jax import registry
from skipdit_jax.checkpoints import CheckpointError, array_pickles, open_checkpoint
from skipdit_jax.checkpoints.array_pickles import LEAD_BYTES, is_array_pickle, read_array_pickle
from tests.checkpoints import attack_kit as kit
from tests.checkpoints.array_makers import RECONSTRUCT, array, dtype, held, nested, one, whole
from tests.checkpoints.torch_makers import call, group, name, plain

ORDERS = {"C": np.ascontiguousarray, "F": np.asfortranarray}
TYPES = ("float16", "float32", "float64", "int32", "int64")
OTHER_NUMPY = {b"numpy._core": b"numpy.core", b"numpy.core": b"numpy._core"}
LENGTH = 2 + array_pickles.FRAME_BYTES  # of what stands before a frame


def arrays(order="C"):
    """One of each type and rank."""
    drawn = np.random.default_rng(0).normal(size=(2, 3, 4)) * 9
    found = {kind: ORDERS[order](drawn.astype(kind)) for kind in TYPES}
    return found | {"row": drawn[0, 0], "number": np.array(drawn[0, 0, 0]), "none": drawn[:0]}


def of_other_numpy(data, protocol):
    """The same pickle as the other of numpy 1 and 2 writes it."""
    [(ours, theirs)] = [(old, new) for old, new in OTHER_NUMPY.items() if old in data]
    if protocol < 4:
        return data.replace(ours, theirs)
    for module in (b".multiarray", b".numeric"):
        old, new = ours + module, theirs + module
        data = data.replace(bytes([len(old)]) + old, bytes([len(new)]) + new)
    return data[:3] + struct.pack("<Q", len(data) - LENGTH) + data[LENGTH:]


@pytest.mark.parametrize("other", [False, True])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_what_numpy_writes_is_read(tmp_path, protocol, order, other):
    path, wanted = tmp_path / "x.ckpt", arrays(order)
    data = pickle.dumps({"outer": {"inner": wanted}, "beside": wanted["row"]}, protocol)
    path.write_bytes(of_other_numpy(data, protocol) if other else data)
    assert is_array_pickle(path.read_bytes()[:LEAD_BYTES])
    found = read_array_pickle(path)
    assert found.keys() == {"beside", *(f"outer/inner/{name}" for name in wanted)}
    for key, want in wanted.items():
        got = found[f"outer/inner/{key}"]
        assert (got.shape, got.dtype) == (want.shape, want.dtype), key
        assert got.read().tobytes() == want.tobytes(), key


def test_part_of_an_array_is_read(tmp_path):
    """As dialects take one of several equal parts of a tensor."""
    path, want = tmp_path / "x", np.arange(12, dtype=np.float32).reshape(6, 2)
    path.write_bytes(pickle.dumps({"qkv.weight": want}))
    whole_one = read_array_pickle(path)["qkv.weight"]
    fields = vars(whole_one) | {"start": 2 * 2 * 4, "shape": (2, 2)}
    assert np.array_equal(type(whole_one)(**fields).read(), want[2:4])


def test_files_of_torch_are_none(tmp_path):
    for protocol in (2, 4):
        assert not is_array_pickle(pickle.dumps([1, 2], protocol)[:LEAD_BYTES])
    assert not is_array_pickle(b"PK\x03\x04" + bytes(LEAD_BYTES))
    assert not is_array_pickle(b"")
    assert not is_array_pickle(b"\x80\x02")


SYSTEM = plain("touch hacked")
HUGE = pickle.LONG1 + b"\x08" + struct.pack("<q", 2**62)
DEEP = array()
for _ in range(array_pickles.MAX_DEPTH):
    DEEP = one(DEEP)
WRITTEN = pickle.dumps({"a": np.ones((2, 3), np.float32)}, 4)

HOSTILE = {  # what is told -> the file
    "it asks for os.system, which no checkpoint may do": [
        whole(one(call(name("os", "system"), SYSTEM))),
        whole(one(kit.text("os") + kit.text("system") + pickle.STACK_GLOBAL)),
    ],
    "it asks for builtins.eval, which": whole(one(call(name("builtins", "eval"), SYSTEM))),
    "it asks for numpy.load, which": whole(one(call(name("numpy", "load"), SYSTEM))),
    "calls a str, no function": whole(one(call(kit.text("os.system"), SYSTEM))),
    "calls a Record, no function": whole(one(call(array(), SYSTEM))),
    "without a tuple": whole(one(name(*RECONSTRUCT) + pickle.NONE + pickle.REDUCE)),
    "found a numpy.dtype at 'a', wanted arrays": whole(one(dtype())),
    "found a package.Module at 'a', wanted": whole(one(call(name("package", "Module")))),
    "found a NoneType at 'a', wanted": pickle.dumps({"a": None}),
    "found a list at 'a/b', wanted": pickle.dumps({"a": {"b": [np.ones(1)]}}),
    "found a dict at '', wanted": pickle.dumps({}),
    "found a dict at 'a', wanted": pickle.dumps({"a": {}}),
    "found a dict at 'a/a/a/a/a/a/a/a', wanted": whole(one(DEEP)),
    "found a key of int in 'a', wanted a name": pickle.dumps({"a": {1: np.ones(1)}}),
    "found a key of Key in '', wanted a name": pickle.dumps({(1,): np.ones(1)}),
    "found a key of 300 characters in 'a'": pickle.dumps({"a": {"b" * 300: np.ones(1)}}),
    "found equal names": pickle.dumps({"a/b": np.ones(1), "a": {"b": np.ones(1)}}),
    "a: found an array of type '|O8', wanted <f2, <f4": pickle.dumps({"a": np.array([None])}, 4),
    "a: found a list, wanted 4 bytes": whole(one(array(pickle.EMPTY_LIST))),
    "a: found an array of type '|V8', wanted": pickle.dumps({"a": np.zeros(1, "i4,f4")}, 4),
    "a: found an array of type '<c8', wanted": pickle.dumps({"a": np.zeros(1, "c8")}),
    "a: found an array of type '|S3', wanted": pickle.dumps({"a": np.array([b"abc"])}),
    "a: found an array of type '<f4 ', wanted": whole(one(array(kind=dtype(kit.text("f4 "))))),
    "a: found an array of type '>f4', wanted": pickle.dumps({"a": np.ones(2, ">f4")}, 4),
    "a: found an array of no type": [
        whole(one(array(kind=kit.text("f4")))),
        whole(one(array(kind=dtype(plain(4))))),
    ],
    "a: found 4 bytes, wanted 8 bytes of an array (2,)": whole(one(array(shape=group(plain(2))))),
    "a: found 8 bytes, wanted 4 bytes": whole(one(array(held(bytes(8))))),
    "a: found 0 bytes, wanted 4 bytes": whole(one(array(held(b"")))),
    "a: found an array of a negative or impossible shape": [
        whole(one(array(shape=group(plain(-1))))),
        whole(one(array(shape=group(plain(-2), plain(-2))))),
        whole(one(array(shape=group(HUGE, plain(2), HUGE, pickle.LONG1 + b"\x09" + b"\x7f" * 9)))),
        whole(one(array(shape=group(pickle.NEWTRUE)))),
    ],
    "a: found 4 bytes, wanted 18446744073709551616": whole(one(array(shape=group(HUGE)))),
    "a: found an array of no shape": [
        whole(one(array(shape=plain(1)))),
        whole(one(array(shape=group(*[plain(1)] * 33)))),
    ],
    "a: found an array without contents, or in an order of its own": [
        whole(one(call(name(*RECONSTRUCT), name("numpy", "ndarray"), plain(0), plain(0)))),
        whole(one(array(order=plain(7)))),
        pickle.dumps({"a": np.ones((2, 3, 4)).transpose(1, 0, 2)}, 5),
    ],
    "cut short": [WRITTEN[:-1], WRITTEN[:-20], WRITTEN[: len(WRITTEN) // 2], whole(b"}")[:3]],
    "instruction b'i': not data": whole(one(pickle.INST + b"os\nsystem\n")),
}
CASES = [
    (told, data)
    for told, files in HOSTILE.items()
    for data in (files if isinstance(files, list) else [files])
]


@pytest.mark.parametrize(("told", "data"), CASES, ids=range(len(CASES)))
def test_hostile_pickles_are_told_in_one_line(tmp_path, monkeypatch, told, data):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "x.ckpt"
    path.write_bytes(data)
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(path, registry.metric_layouts())
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert told in message
    assert message.isprintable()
    assert [*tmp_path.iterdir()] == [path]


def test_a_larger_file_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(array_pickles, "MAX_BYTES", 99)
    path = tmp_path / "x.ckpt"
    path.write_bytes(pickle.dumps({"a": np.ones(99)}))
    told = rf"found a pickle of {path.stat().st_size} bytes, wanted at most 99"
    with pytest.raises(CheckpointError, match=told):
        open_checkpoint(path, registry.metric_layouts())


def test_arrays_of_no_network_are_told_with_their_names(tmp_path):
    path = tmp_path / "x.ckpt"
    path.write_bytes(whole(nested([(kit.text("weights"), one(array(), "kernel"))])))
    told = "is of no known family .it has weights/kernel.; this version reads InceptionV3, I3D, LP"
    with pytest.raises(CheckpointError, match=told):
        open_checkpoint(path, registry.metric_layouts())
