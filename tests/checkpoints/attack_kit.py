"""What attacks are made of: a list to stand in, and parts of pickles that fill a file."""

import pickle
import struct

SIZE = 2**24 - 2**16  # of each file, with what stands around it
PRIME = 2**61 - 1  # numbers that differ by a multiple of it have one hash
MEMO, RECALL = pickle.BINPUT, pickle.BINGET

ATTACKS = {}
"""{name: writes such a file to a path}."""


def attack(function):
    ATTACKS[function.__name__] = function
    return function


def fill(code, share=1):
    """An instruction as often as it fits into a share of the file."""
    return code * (SIZE // share // len(code))


def long(value):
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return pickle.LONG1 + bytes([len(data)]) + data


def text(value):
    return pickle.BINUNICODE + struct.pack("<I", len(value)) + value.encode()


def entries(keys):
    """A dict of so many keys, as far as they fit."""
    parts, size = [pickle.EMPTY_DICT], 0
    for key in keys:
        parts.append(key + pickle.NONE + pickle.SETITEM)
        size += len(parts[-1])
        if size > SIZE:
            break
    return b"".join(parts)


def numbers():
    return range(10**7)
