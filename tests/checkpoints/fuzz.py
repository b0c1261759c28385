"""Damages checkpoint files at random and opens them; any error but CheckpointError ends it.

usage: python -m tests.checkpoints.fuzz FOLDER_WITH_CHECKPOINTS FOLDER_TO_WRITE_IN
"""

import json
import random
import sys
from pathlib import Path

from skipdit_jax.checkpoints.errors import CheckpointError
from skipdit_jax.weights import open_known

KINDS = ("bare_skip", "bare_skip_legacy_format")
TRIES = 100
STRUCTURE = 14_000  # bytes at either end of the files that hold more than numbers


def damage(original, chooser):
    """A copy with one or many bytes changed, mostly where the structure is, or with its end cut."""
    data = bytearray(original)
    size = len(data)
    for _ in range(chooser.choice((1, 1, 20))):
        low, high = chooser.choice(((0, STRUCTURE), (size - STRUCTURE, size), (0, size)))
        data[chooser.randrange(low, high)] = chooser.randrange(256)
    if chooser.randrange(5) == 0:
        del data[chooser.randrange(size) :]
    return bytes(data)


def outcome(path):
    try:
        checkpoint = open_known(path)
        for handle in checkpoint.handles.values():
            handle.read()
    except CheckpointError as error:
        return str(error)
    return None


def main(source, target):
    chooser = random.Random(0)
    counts = {}
    for kind in KINDS:
        original = (source / f"{kind}.pt").read_bytes()
        messages = []
        for _ in range(TRIES):
            path = target / "damaged.pt"
            path.write_bytes(damage(original, chooser))
            messages.append(outcome(path))
        refused = [message for message in messages if message is not None]
        counts[kind] = {
            "read": len(messages) - len(refused),
            "refused": len(refused),
            "lines": sum(len(message.splitlines()) for message in refused),
        }
    print(json.dumps(counts))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
