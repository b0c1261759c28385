"""Pickles that cost whoever reads them: steps, keys, names and groups without number."""

import pickle
import struct

from tests.checkpoints import attack_kit as kit
from tests.checkpoints.attack_kit import (
    MEMO,
    PRIME,
    RECALL,
    attack,
    entries,
    fill,
    long,
    numbers,
    text,
)
from tests.checkpoints.torch_makers import MAGIC, call, group, name, storage, tensor, write_zip


@attack
def marks(path):
    write_zip(path, fill(pickle.MARK))


@attack
def marks_of_the_older_format(path):
    path.write_bytes(MAGIC + pickle.dumps(1001, 2) + fill(pickle.MARK))


@attack
def keys_of_one_hash(path):
    write_zip(path, entries(long(i * PRIME) for i in numbers()))


@attack
def keys_that_share_their_last_bits(path):
    write_zip(path, entries(long(i << 40) for i in numbers()))


@attack
def keys_that_are_fractions(path):
    write_zip(
        path,
        entries(pickle.BINFLOAT + struct.pack(">d", float(i * PRIME)) for i in range(1, 10**6)),
    )


@attack
def small_keys(path):
    write_zip(path, entries(pickle.BININT + struct.pack("<i", i) for i in numbers()))


@attack
def keys_in_pairs(path):
    pairs = b"".join(long(i * PRIME) + pickle.NONE + pickle.TUPLE2 for i in range(kit.SIZE // 32))
    listed = pickle.EMPTY_LIST + pickle.MARK + pairs + pickle.APPENDS
    write_zip(path, call(name("collections", "OrderedDict"), listed))


@attack
def one_huge_key(path):
    half = kit.SIZE // 2
    huge = pickle.LONG4 + struct.pack("<i", half) + b"\x7f" * half + MEMO + b"\0"
    again = RECALL + b"\0" + pickle.NONE + pickle.SETITEM
    write_zip(path, pickle.EMPTY_DICT + huge + pickle.NONE + pickle.SETITEM + fill(again, 2))


@attack
def two_long_texts(path):
    long_text = "x" * (kit.SIZE // 4)
    both = text(long_text) + MEMO + b"\0" + text(long_text) + MEMO + b"\1"
    again = (RECALL + b"\0" + pickle.NONE + pickle.SETITEM) + (
        RECALL + b"\1" + pickle.NONE + pickle.SETITEM
    )
    write_zip(path, both + pickle.EMPTY_DICT + fill(again, 2))


def again(function, built):
    """The same call many times, of the same long value."""
    head = name(*function) + MEMO + b"\0" + built + pickle.TUPLE1 + MEMO + b"\1"
    return head + fill(RECALL + b"\0" + RECALL + b"\1" + pickle.REDUCE, 2)


def long_list(items):
    return pickle.EMPTY_LIST + pickle.MARK + fill(items, 4) + pickle.APPENDS


@attack
def a_dict_built_again_and_again(path):
    pair = pickle.NONE + pickle.NONE + pickle.TUPLE2
    write_zip(path, again(("collections", "OrderedDict"), long_list(pair)))


@attack
def a_size_built_again_and_again(path):
    write_zip(path, again(("torch", "Size"), long_list(pickle.NONE)))


@attack
def attributes_set_again_and_again(path):
    state = entries(pickle.BININT + struct.pack("<i", i) for i in range(10**5)) + MEMO + b"\0"
    record = name("argparse", "Namespace") + pickle.EMPTY_TUPLE + pickle.REDUCE
    write_zip(path, state + record + fill(RECALL + b"\0" + pickle.BUILD, 2))


@attack
def deep_tuples(path):
    write_zip(path, pickle.NONE + fill(pickle.TUPLE1))


@attack
def empty_dicts(path):
    write_zip(path, fill(pickle.EMPTY_DICT))


@attack
def names_for_one_value(path):
    write_zip(path, pickle.NONE + fill(pickle.MEMOIZE))


@attack
def names_far_apart(path):
    slots = (pickle.LONG_BINPUT + struct.pack("<I", i * 2**12) for i in range(2**20))
    write_zip(path, pickle.NONE + b"".join(slots))


@attack
def tensors_without_number(path):
    one = tensor("0", (1,)) + MEMO + b"\0" + pickle.POP
    names = (text(f"n{i}") + RECALL + b"\0" + pickle.SETITEM for i in range(10**6))
    items = b"".join(names)[: kit.SIZE - 2**10]
    whole = items[: items.rindex(pickle.SETITEM) + 1]
    first = pickle.EMPTY_DICT + text("first") + one.removesuffix(pickle.POP) + pickle.SETITEM
    write_zip(path, first + whole, [("0", bytes(4))])


@attack
def names_without_end(path):
    write_zip(path, entries(text(f"{i} " + "n" * 200) for i in numbers()))


@attack
def a_group_without_end(path):
    write_zip(path, group(*[storage("0", 1)] * 50_000))
