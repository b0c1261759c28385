"""Makes pickles of numpy arrays byte by byte, also ones that no pickler would write."""

import pickle
import struct

from tests.checkpoints.attack_kit import text
from tests.checkpoints.torch_makers import call, group, name, plain

RECONSTRUCT = "numpy.core.multiarray", "_reconstruct"


def held(data):
    return pickle.BINBYTES + struct.pack("<I", len(data)) + data


def dtype(kind=None, order="<"):
    """Instructions for numpy.dtype(kind), which are those of "f4" if not told otherwise."""
    made = call(name("numpy", "dtype"), text("f4") if kind is None else kind, plain(0), plain(1))
    return made + group(plain(3), text(order)) + pickle.BUILD


def array(data=None, shape=None, kind=None, order=pickle.NEWFALSE):
    """Instructions for an array; one number of 4 bytes if not told otherwise."""
    made = call(name(*RECONSTRUCT), name("numpy", "ndarray"), group(plain(0)), held(b"b"))
    shape = group(plain(1)) if shape is None else shape
    data = held(bytes(4)) if data is None else data
    kind = dtype() if kind is None else kind
    return made + group(plain(1), shape, kind, order, data) + pickle.BUILD


def nested(items):
    """Instructions for a dict from instructions to instructions; no memo is used."""
    return pickle.EMPTY_DICT + b"".join(k + v + pickle.SETITEM for k, v in items)


def one(value, key="a"):
    return nested([(text(key), value)])


def whole(instructions):
    return pickle.PROTO + b"\x04" + instructions + pickle.STOP
