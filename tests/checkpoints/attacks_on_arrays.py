"""Pickles of numpy arrays that unfold into more than the file holds."""

import pickle
import struct

from tests.checkpoints import attack_kit as kit
from tests.checkpoints.array_makers import array, dtype, held, nested, one, whole
from tests.checkpoints.attack_kit import RECALL, attack, text
from tests.checkpoints.torch_makers import group

LEVELS = 7
WIDTH = 500


def many(value, width=WIDTH):
    """A dict of so many keys to one value that was named 0."""
    first = (text("0"), value + pickle.BINPUT + b"\0")
    return nested([first, *((text(str(i)), RECALL + b"\0") for i in range(1, width))])


def unfolding(value):
    for _ in range(LEVELS):
        value = many(value)
    return value


@attack
def arrays_that_unfold(path):
    path.write_bytes(whole(unfolding(array())))


@attack
def empty_dicts_that_unfold(path):
    path.write_bytes(whole(unfolding(pickle.EMPTY_DICT)))


@attack
def a_dict_within_itself(path):
    again = b"".join(text(str(i)) + RECALL + b"\0" + pickle.SETITEM for i in range(WIDTH))
    path.write_bytes(whole(pickle.EMPTY_DICT + pickle.BINPUT + b"\0" + again))


@attack
def a_long_name_for_many(path):
    inner = nested((text(str(i)), array()) for i in range(kit.SIZE // 512))
    path.write_bytes(whole(one(inner, "k" * (kit.SIZE // 4))))


@attack
def a_shape_of_huge_numbers(path):
    number = pickle.LONG4 + struct.pack("<i", 1024) + b"\x7f" * 1024
    path.write_bytes(whole(one(array(shape=group(*[number] * (kit.SIZE // 1100))))))


@attack
def a_type_that_unfolds(path):
    kind = pickle.EMPTY_TUPLE
    for slot in range(100):
        put, get = pickle.BINPUT + bytes([slot]), RECALL + bytes([slot])
        kind += put + get + pickle.TUPLE2
    path.write_bytes(whole(one(array(kind=dtype(kind)))))


@attack
def one_array_for_many_names(path):
    size = kit.SIZE // 2
    data = array(held(bytes(size)), group(pickle.BININT + struct.pack("<i", size // 4)))
    path.write_bytes(whole(many(data, kit.SIZE // 64)))


@attack
def small_arrays_without_number(path):
    path.write_bytes(whole(nested((text(str(i)), array()) for i in range(kit.SIZE // 200))))
