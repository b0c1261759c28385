"""The inert pickle machine: equal to Python's on data, deaf to everything else."""

import pickle
import random
import struct

import pytest

from skipdit_jax.checkpoints.errors import CheckpointError, parsing
from skipdit_jax.checkpoints.pickles import Instructions, Machine
from skipdit_jax.checkpoints.records import Record, Symbol
from tests.checkpoints.torch_makers import call, group, name, pickled, plain, storage, tensor

DATA = {
    "ints": [0, 1, -1, 255, 256, 65535, 65536, -(2**31), 2**31, 2**63, -(2**70)],
    "floats": [0.0, -1.5, 1e300, float("inf")],
    "texts": ["", "pos_embed", "ä€😀", "x" * 300, "name of a file \udcff"],
    "bytes": [b"", b"\x00\xff", b"y" * 300],
    "numbers": [1j, -2.5 + 3j],
    "rest": (None, True, False, (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), [], {}),
    7: {"nested": {"deeper": [({},)]}},
}


def run(data):
    return Machine(Instructions(data)).run()


def refused(data):
    """Runs a pickle that must be refused and returns the message."""
    with pytest.raises(CheckpointError) as caught, parsing("here"):
        run(data)
    assert "\n" not in str(caught.value)
    assert "TypeCheckError" not in str(caught.value)  # a slip of ours, not of the pickle
    return str(caught.value)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_data_comes_out_as_from_pythons_unpickler(protocol):
    assert run(pickle.dumps(DATA, protocol)) == DATA


@pytest.mark.parametrize("protocol", [2, 4])
def test_shared_and_recursive_lists_stay_shared(protocol):
    shared = [1]
    loop = [shared, shared]
    loop.append(loop)
    result = run(pickle.dumps(loop, protocol))
    assert result[0] is result[1]
    assert result[2] is result


@pytest.mark.parametrize(
    ("module", "attribute"),
    [
        ("os", "system"),
        ("posix", "system"),
        ("builtins", "eval"),
        ("__builtin__", "getattr"),
        ("subprocess", "Popen"),
        ("torch", "load"),
        ("torch.jit", "load"),
        ("collections", "namedtuple"),
        ("argparse", "ArgumentParser"),
        ("skipdit_jax.checkpoints.records", "Record"),
        ("", ""),
    ],
)
def test_other_names_are_refused_by_name(module, attribute):
    dotted = f"{module}.{attribute}"
    assert dotted in refused(pickled(name(module, attribute)))
    stacked = plain(module) + plain(attribute) + pickle.STACK_GLOBAL
    assert dotted in refused(pickled(stacked))


def test_a_namespace_becomes_an_inert_record():
    made = name("argparse", "Namespace") + pickle.EMPTY_TUPLE + pickle.NEWOBJ
    result = run(pickled(made + plain({"lr": 1e-4, "__class__": "x"}) + pickle.BUILD))
    assert isinstance(result, Record)
    assert result.fields == {"lr": 1e-4, "__class__": "x"}
    assert type(result) is Record


def test_a_namespace_hides_no_call():
    made = name("argparse", "Namespace") + pickle.EMPTY_TUPLE + pickle.NEWOBJ
    hidden = call(name("os", "system"), plain("true"))
    fields = pickle.EMPTY_DICT + plain("data_path") + hidden + pickle.SETITEM
    assert "os.system" in refused(pickled(made + fields + pickle.BUILD))


@pytest.mark.parametrize("target", ["torch._utils _rebuild_tensor_v2", "torch FloatStorage"])
def test_attributes_of_allowed_names_cannot_be_set(target):
    # Python's unpickler would put these into the __dict__ of our own function or class.
    state = group(plain(None), plain({"__call__": 1, "build": 2}))
    for attributes in (state, plain({"build": 2})):
        assert "Symbol" in refused(pickled(name(*target.split()) + attributes + pickle.BUILD))


def test_attributes_of_a_tensor_cannot_be_set():
    assert "TensorRecord" in refused(
        pickled(tensor("0", (2,)) + plain({"shape": 9}) + pickle.BUILD)
    )


def test_only_allowed_functions_can_be_called():
    assert "calls a dict" in refused(pickled(plain({}) + pickle.EMPTY_TUPLE + pickle.REDUCE))
    floats = name("torch", "FloatStorage") + pickle.EMPTY_TUPLE
    assert "Symbol" in refused(pickled(floats + pickle.REDUCE))
    assert "Symbol" in refused(pickled(floats + pickle.NEWOBJ))
    assert "tuple" in refused(pickled(name("torch", "Size") + plain([1]) + pickle.REDUCE))


def test_harmless_names_are_data():
    assert isinstance(run(pickled(name("torch", "bfloat16"))), Symbol)
    assert run(pickled(call(name("torch", "Size"), plain((2, 3))))) == (2, 3)
    assert run(pickled(call(name("torch", "device"), plain("cuda"), plain(1)))).name
    pairs = plain([["a", 1], ("b", 2)])
    assert run(pickled(call(name("collections", "OrderedDict"), pairs))) == {"a": 1, "b": 2}


BAD_VIEWS = {
    "out of bounds": {"shape": (64,), "numel": 16},
    "offset beyond the end": {"shape": (16,), "offset": 1, "numel": 16},
    "negative offset": {"shape": (4,), "offset": -8, "numel": 16},
    "negative stride": {"shape": (4,), "strides": (-1,), "numel": 16, "offset": 3},
    "negative size": {"shape": (-4,), "strides": (1,), "numel": 16},
    "stride too long": {"shape": (4, 4), "strides": (5, 1), "numel": 16},
    "repeats by stride 0": {"shape": (2**20, 2**20), "strides": (0, 0), "numel": 16},
    "beyond int64": {"shape": (2**63,), "strides": (1,), "numel": 16},
    "product beyond int64": {"shape": (2**40, 2**40), "strides": (0, 0), "numel": 16},
    "more strides than sizes": {"shape": (4,), "strides": (4, 1), "numel": 16},
    "a thousand axes": {"shape": (1,) * 1000, "strides": (1,) * 1000, "numel": 16},
    "sizes that are no integers": {"shape": (4.0,), "strides": (1,), "numel": 16},
    "a size of True": {"shape": (True,), "strides": (1,), "numel": 16},
    "negative storage": {"shape": (0,), "numel": -1},
    "storage beyond int64": {"shape": (0,), "numel": 2**80},
}


@pytest.mark.parametrize("case", BAD_VIEWS)
def test_views_that_leave_their_storage_are_refused(case):
    assert refused(pickled(tensor("0", **BAD_VIEWS[case])))


@pytest.mark.parametrize("shape", [(), (1,), (0, 7), (2, 3)])
def test_good_views_are_kept(shape):
    record = run(pickled(tensor("0", shape, numel=6)))
    assert record.shape == shape


def test_one_storage_cannot_have_two_types():
    both = group(storage("0", 4), storage("0", 2, "DoubleStorage"))
    assert "two types" in refused(pickled(both))


@pytest.mark.parametrize(
    "identity",
    [plain("storage"), group(plain("module")), group(*[plain("storage")] * 5)],
)
def test_other_persistent_ids_are_refused(identity):
    assert "persistent id" in refused(pickled(identity + pickle.BINPERSID))


MALFORMED = {
    "nothing": b"",
    "only the end": pickled(b""),
    "no end": b"\x80\x02}",
    "unknown instruction": pickled(b"\xff"),
    "protocol 0 text": b"I1\n.",
    "old class instruction": pickled(b"(ios\nsystem\n"),
    "newer protocol": b"\x80\x09N.",
    "text longer than the file": pickled(b"X\xff\xff\xff\xff"),
    "text of 2^62 bytes": pickled(b"\x8d" + struct.pack("<Q", 2**62)),
    "negative length": pickled(b"\x8b" + struct.pack("<i", -5)),
    "endless name": pickled(b"c" + b"a" * 10_000),
    "broken utf-8": pickled(b"\x8c\x02\xff\xff"),
    "unknown memo": pickled(b"h\x07"),
    "memo of nothing": pickled(b"q\x00"),
    "unopened group": pickled(pickle.TUPLE),
    "odd items": pickled(b"}(Nu"),
    "append to a dict": pickled(b"}Na"),
    "item of a list": pickled(b"]NNs"),
    "list as a key": pickled(b"}]Ns"),
    "dict as a key": pickled(b"}}Ns"),
    "name that is no text": pickled(b"NN" + pickle.STACK_GLOBAL),
    "state that is no dict": pickled(b"}N" + pickle.BUILD),
    "tensor on nothing": pickled(call(name("torch._utils", "_rebuild_tensor_v2"))),
    "tensor on None": pickled(call(name("torch._utils", "_rebuild_tensor"), *[plain(None)] * 4)),
    "parameter of None": pickled(call(name("torch._utils", "_rebuild_parameter"), plain(None))),
    "pairs that are none": pickled(call(name("collections", "OrderedDict"), plain([1, 2]))),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_pickles_are_told_in_one_line(case):
    assert refused(MALFORMED[case])


def test_deep_and_branching_structures_cost_nothing():
    deep = pickled(b"]" * 20_000 + b"a" * 19_999)
    assert isinstance(run(deep), list)
    # Each level holds the one below twice: 2^60 leaves, 60 objects. Nothing may walk over them.
    branching = b"N" + b"q\x00h\x00\x86" * 60
    assert isinstance(run(pickled(branching)), tuple)
    assert len(run(pickled(b"}" + branching + b"Ns"))) == 1  # a key that is never hashed
    assert "no text" in refused(pickled(branching + branching + pickle.STACK_GLOBAL))


def test_random_instructions_never_do_anything_else():
    codes = [*pickle.PROTO, *pickle.MARK, *b"NK}])tuaesRbQc\x81\x85\x86\x87\x93\x94hqX\x8c."]
    chooser = random.Random(0)
    outcomes = set()
    for _ in range(3000):
        data = bytes(chooser.choice(codes) for _ in range(chooser.randrange(1, 12)))
        try:
            with parsing("here"):
                run(data + pickle.STOP)
            outcomes.add("data")
        except CheckpointError:
            outcomes.add("refused")
    assert outcomes == {"data", "refused"}
