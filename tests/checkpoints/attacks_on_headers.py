"""Headers of .safetensors and lists of members that cost whoever reads them."""

import json
import struct

from tests.checkpoints.attack_kit import attack, numbers


@attack
def members_without_number(path):
    _many_members(path, 130_000)


@attack
def members_just_allowed(path):
    _many_members(path, 60_000)


def _many_members(path, count):
    """Their headers lie on each other: zipfile would refuse to write that."""
    local = struct.pack("<4s2B4H3L2H", b"PK\3\4", 20, *[0] * 8, 4, 0) + b"a/b0"
    rows = []
    for i in range(count):
        label = f"{i:x}".encode()
        head = struct.pack("<4s4B4H3L5H2L", b"PK\1\2", 20, 0, 20, *[0] * 8, len(label), *[0] * 6)
        rows.append(head + label)
    index = b"".join(rows)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0, 0, len(index), len(local), 0)
    path.write_bytes(local + index + end)


@attack
def a_header_without_end(path):
    _safetensors(path, (EMPTY for _ in numbers()), 2**24 - 2**16)


def _safetensors(path, items, room=2**24, metadata=None):
    parts = [] if metadata is None else [f'"__metadata__":{json.dumps(metadata)}']
    size = sum(map(len, parts))
    for i, item in enumerate(items):
        parts.append(f'"{i:x}":{json.dumps(item, separators=(",", ":"))}')
        size += len(parts[-1]) + 1
        if size > room:
            parts.pop()
            break
    header = ("{" + ",".join(parts) + "}").encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)


EMPTY = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}


@attack
def a_header_just_allowed(path):
    _safetensors(path, (EMPTY for _ in range(60_000)), 2**22 - 2**10)


@attack
def axes_without_number(path):
    shape = [1] * 1_000_000
    _safetensors(path, [{"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}])


@attack
def deep_json(path):
    header = b'{"a":' + b"[" * 2_000_000 + b"]" * 2_000_000 + b"}"
    path.write_bytes(struct.pack("<Q", len(header)) + header)


@attack
def metadata_without_end(path):
    _safetensors(path, [], metadata={f"{i}": "x" for i in range(180_000)})


@attack
def a_block_of_many_digits(path):
    header = json.dumps({f"blocks.{'9' * 10**6}.adaLN_modulation.1.bias": EMPTY}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)
