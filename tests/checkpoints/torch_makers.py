"""Makes files of torch byte by byte, also ones that torch itself would never write."""

import pickle
import struct
import zipfile

import numpy as np

MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)
STORAGES = {"float32": "FloatStorage", "float16": "HalfStorage", "int64": "LongStorage"}


def name(module, attribute):
    return pickle.GLOBAL + f"{module}\n{attribute}\n".encode()


def plain(value):
    """Instructions that push a plain value: those of Python's own pickler."""
    return pickle.dumps(value, protocol=2)[2:-1]


def group(*items):
    return pickle.MARK + b"".join(items) + pickle.TUPLE


def dictionary(items):
    """Instructions for a dict from keys to instructions."""
    pairs = b"".join(plain(key) + value + pickle.SETITEM for key, value in items.items())
    return pickle.EMPTY_DICT + pairs


def call(function, *arguments):
    return function + group(*arguments) + pickle.REDUCE


def storage(key, numel, kind="FloatStorage", view=b""):
    identity = (plain("storage"), name("torch", kind), plain(key), plain("cpu"), plain(numel))
    return group(*identity, view) + pickle.BINPERSID


def tensor(key, shape, strides=None, offset=0, numel=None, kind="FloatStorage"):
    """Instructions for a tensor; contiguous and as large as its storage if not told otherwise."""
    strides = (
        [int(np.prod(shape[i + 1 :])) for i in range(len(shape))] if strides is None else strides
    )
    held = storage(key, int(np.prod(shape)) if numel is None else numel, kind)
    hooks = call(name("collections", "OrderedDict"))
    view = (held, plain(offset), plain(tuple(shape)), plain(tuple(strides)), plain(False), hooks)
    return call(name("torch._utils", "_rebuild_tensor_v2"), *view)


def pickled(instructions):
    return pickle.PROTO + b"\x02" + instructions + pickle.STOP


def write_zip(path, instructions, members=(), root="archive", order=b"little", **options):
    """Writes the newer format; members are (storage key, bytes) pairs, taken one at a time."""
    with zipfile.ZipFile(path, "w", **options) as archive:
        archive.writestr(f"{root}/data.pkl", pickled(instructions))
        archive.writestr(f"{root}/byteorder", order)
        for key, data in members:
            archive.writestr(f"{root}/data/{key}", data)
        archive.writestr(f"{root}/version", b"3\n")
    return path


def write_legacy(path, instructions, members, protocol=1001, little=True, counts=None):
    """Writes the format before torch 1.6; members are (storage key, array) pairs."""
    system = {"protocol_version": protocol, "little_endian": little, "type_sizes": {}}
    parts = [MAGIC, pickle.dumps(protocol, 2), pickle.dumps(system, 2), pickled(instructions)]
    parts.append(pickle.dumps([key for key, _ in members], 2))
    for number, (_, array) in enumerate(members):
        count = array.size if counts is None else counts[number]
        parts += [struct.pack("<q", count), array.tobytes()]
    path.write_bytes(b"".join(parts))
    return path


def state(arrays):
    """Instructions for {name: array}, and the members that hold them."""
    items = {
        key: tensor(str(i), a.shape, kind=STORAGES[a.dtype.name])
        for i, (key, a) in enumerate(arrays.items())
    }
    members = [(str(i), a.tobytes()) for i, a in enumerate(arrays.values())]
    return dictionary(items), members
