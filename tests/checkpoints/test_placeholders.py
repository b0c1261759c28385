"""What may stand beside weights: all that torch's safe mode reads, and inert objects."""

import collections
import pathlib
import pickle

import numpy as np
import pytest

from skipdit_jax.checkpoints.errors import CheckpointError
from skipdit_jax.checkpoints.pickles import Instructions, Machine
from skipdit_jax.checkpoints.placeholders import KNOWN, find
from skipdit_jax.checkpoints.records import Record
from skipdit_jax.checkpoints.torch_files import read_torch_file
from skipdit_jax.weights import open_known
from tests.checkpoints.states import state_at, torch_state
from tests.checkpoints.torch_makers import call, dictionary, name, pickled, plain, tensor, write_zip


def run(data):
    return Machine(Instructions(data)).run()


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason="torch is not installed: nothing to compare with")


@pytest.fixture
def beside(tmp_path):
    """Writes {"ema": weights of torch's, "args": whatever} and returns (path, weights)."""

    def write(args):
        arrays = torch_state(False)
        content = {"ema": state_at(arrays, [str(n) for n in range(len(arrays))]), "args": args}
        members = [(str(n), array.tobytes()) for n, array in enumerate(arrays.values())]
        return write_zip(tmp_path / "x.pt", dictionary(content), members), arrays

    return write


OBJECTS = {
    "a dict subclass": name("easydict", "EasyDict")
    + pickle.EMPTY_TUPLE
    + pickle.NEWOBJ
    + plain("lr")
    + plain(1e-4)
    + pickle.SETITEM
    + plain({"lr": 1e-4})
    + pickle.BUILD,
    "a list subclass": call(name("omegaconf.listconfig", "ListConfig"))
    + plain(1)
    + pickle.APPEND
    + plain(({"a": 1}, {"slot": 2}))
    + pickle.BUILD,
    "a class of __main__": call(name("__main__", "TrainArgs"), plain("x")),
    "a whole module": call(name("torch.nn.modules.linear", "Linear")) + plain({}) + pickle.BUILD,
    "a path": plain(pathlib.PurePosixPath("a/b")),
    "a number of numpy": plain(np.float64(2)),
    "an array of numpy": plain(np.arange(3)),
    "a defaultdict": plain(collections.defaultdict(list, {"a": [1]})),
    "sets": plain([{1, 2}, frozenset({(1, 2)}), set()]),
    "odd keys": plain({(1, (2, 3)): 1, b"x": 2, 1j: 3}),
}


@pytest.mark.parametrize("case", OBJECTS)
def test_objects_beside_the_weights_do_not_matter(beside, case):
    path, arrays = beside(OBJECTS[case])
    checkpoint = open_known(path)
    assert checkpoint.which == "ema"
    bias = checkpoint.handles["blocks.0.attn.qkv.bias"].read()
    np.testing.assert_array_equal(bias, arrays["blocks.0.attn.qkv.bias"])


def test_what_objects_hold_is_kept_as_data():
    made = run(pickled(OBJECTS["a dict subclass"]))
    assert type(made) is Record
    assert made.name == "easydict.EasyDict"
    assert made.fields["lr"] == 1e-4
    assert run(pickle.dumps({1, 2}, 4)).fields == {"(items)": [1, 2]}
    path = run(pickle.dumps(pathlib.PurePosixPath("a/b"), 2))
    assert path.fields == {"arguments": ("a", "b")}


REFUSED = [
    ("builtins", "eval"),
    ("__builtin__", "getattr"),
    ("copyreg", "_reconstructor"),
    ("functools", "partial"),
    ("operator", "attrgetter"),
    ("webbrowser", "open"),
    ("torch.hub", "load"),
    ("numpy.testing._private.utils", "runstring"),
    ("evil", "os.system"),
    ("evil", "subprocess.Popen"),
    ("evil package", "Class"),
    ("evil", "Class\x1b[2J"),
    ("skipdit_jax.registry.kinds", "Family"),
]


@pytest.mark.parametrize(("module", "attribute"), REFUSED)
def test_functions_and_pythons_own_library_are_refused(beside, module, attribute):
    path, _ = beside(plain(module) + plain(attribute) + pickle.STACK_GLOBAL)
    with pytest.raises(CheckpointError, match="which no checkpoint may do"):
        open_known(path)


def test_an_object_is_never_called_again(beside):
    placeholder = call(name("evil", "Class"))
    path, _ = beside(call(placeholder, plain("true")))
    with pytest.raises(CheckpointError, match="calls a Record, no function"):
        open_known(path)


@pytest.mark.parametrize(
    ("function", "argument"),
    [("bytearray", 2**40), ("bytes", 2**40), ("complex", "1" * 99), ("bytes", [1])],
)
def test_builders_take_nothing_but_what_pickles_write(function, argument):
    with pytest.raises(CheckpointError, match="made of"):
        run(pickled(call(name("__builtin__", function), plain(argument))))


def test_an_object_among_the_weights_is_named(beside):
    path, _ = beside(plain(None))
    write_zip(path, dictionary({"ema": call(name("models", "DiT"))}))
    with pytest.raises(CheckpointError, match=r"'ema' is an object of models\.DiT.*state_dict"):
        open_known(path)


def test_every_name_of_torchs_safe_mode_is_known(torch):
    allowed = torch._weights_only_unpickler._get_allowed_globals()
    assert len(allowed) > 100
    unknown = [dotted for dotted in allowed if find(*dotted.rsplit(".", 1)) is None]
    assert not unknown
    assert "torch.float8_e4m3fn" in KNOWN


@pytest.mark.filterwarnings("ignore")  # some types are experimental
def test_what_torchs_safe_mode_reads_is_read(torch, tmp_path):
    ones = torch.ones(2, 3)
    with_attribute = ones.clone()
    with_attribute.note = "x"
    negative = torch.complex(ones, ones).conj().imag  # its numbers lie with the other sign
    beside = {
        "bytes": b"x\xff",
        "bytearray": bytearray(b"x"),
        "set": {1, "a"},
        "complex": 1j,
        "counter": collections.Counter("aab"),
        "ordered": collections.OrderedDict(a=1),
        "keys": {(1, 2): 3, torch.float16: 4},
        "tensors": [ones.to(torch.complex64), ones.to(torch.complex64).conj(), negative],
        "sparse": ones.to_sparse(),
        "meta": torch.empty(2, device="meta"),
        "dtype": [torch.float8_e5m2, torch.uint16, torch.strided],
        "attribute": with_attribute,
        "half complex": torch.zeros(2, dtype=torch.complex32),
    }
    kinds = ("uint16", "uint32", "uint64", "float8_e4m3fn", "float8_e5m2")
    weights = {kind: ones.to(getattr(torch, kind)) for kind in kinds}
    weights |= {
        "expanded": torch.tensor([2.5]).expand(4, 5),
        "every other": torch.arange(12.0).reshape(3, 4)[:, ::2],
        "attribute": with_attribute,
        "parameter": torch.nn.Parameter(ones),
    }
    path = tmp_path / "all.pt"
    for zipped in (True, False):
        if not zipped:  # torch cannot read these in its older format either
            weights = {key: value for key, value in weights.items() if key not in kinds}
            del beside["half complex"]
        torch.save({"w": weights, **beside}, path, _use_new_zipfile_serialization=zipped)
        torch.load(path, weights_only=True)
        file = read_torch_file(path)
        assert file.content["bytes"] == b"x\xff"
        assert file.content["complex"] == 1j
        assert file.content["counter"] == {"a": 2, "b": 1}
        assert sorted(map(str, file.content["set"].fields["arguments"][0])) == ["1", "a"]
        assert isinstance(file.content["tensors"][2], Record)  # not with the wrong sign
        for key, value in weights.items():
            got = file.handle(file.content["w"][key]).read()
            want = value.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
            assert got.tobytes() == want, key
            assert got.shape == tuple(value.shape), key


@pytest.mark.filterwarnings("ignore")  # torch warns of what it is going to drop
def test_quantised_tensors_are_read_beside_weights_and_named_among_them(torch, tmp_path):
    quantised = torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.quint8)
    path = tmp_path / "q.pt"
    torch.save({"q": quantised}, path)
    torch.load(path, weights_only=True)
    assert isinstance(read_torch_file(path).content["q"], Record)
    with pytest.raises(CheckpointError, match=r"holds q \(torch\._utils\._rebuild_qtensor\)"):
        open_known(path)


def test_a_repeated_tensor_is_bounded(beside, tmp_path):
    row = tensor("0", (2**12, 2**12), strides=(0, 0), numel=1)
    path = write_zip(tmp_path / "r.pt", dictionary({"a": row}), [("0", b"\0" * 4)])
    assert read_torch_file(path).content["a"].shape == (2**12, 2**12)
    many = dictionary({str(n): row for n in range(6)})
    write_zip(path, many, [("0", b"\0" * 4)])
    with pytest.raises(CheckpointError, match="repeat"):
        open_known(path)
