"""What is saved beside the arrays of a training checkpoint, and the proof that it is unchanged.

Orbax takes a metadata file that is missing, cut or unparsable for an empty one, and says nothing of
a changed number in it (docs/notes.md, Damage that Orbax does not see). So the file is read here,
strictly, before orbax is asked for anything.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from skipdit_jax.checkpoints.errors import CheckpointError, parsing

Metadata = dict[str, Any]
DIGESTS = "digests"
"""Where the metadata of a checkpoint has the digest of each item."""
SEAL = "metadata"
"""The name of one more digest beside those: of all the rest, and of the digests themselves."""
METADATA_FILE = "_CHECKPOINT_METADATA"  # of a step, as orbax calls it
OURS = "custom_metadata"  # in that file


def seal(metadata: Mapping[str, Any], digests: Mapping[str, str]) -> Metadata:
    """Returns metadata to be saved: with the digests of the items, and one over everything.

    Raises:
      ValueError: an item is called as the seal is.
    """
    if SEAL in digests:
        raise ValueError(f"checkpoint: an item is called {SEAL!r}, wanted another name")
    everything = {**metadata, DIGESTS: dict(digests)}
    return {**metadata, DIGESTS: {**digests, SEAL: _digest(everything)}}


def read_sealed(folder: Path) -> tuple[Metadata, dict[str, str]]:
    """Reads the metadata of one step, and the digests of its items.

    Checkpoints of versions before the seal have the digests of their items alone.

    Raises:
      CheckpointError: it is missing, or not what was saved.
    """
    file = folder / METADATA_FILE
    with parsing(file):
        stored = json.loads(file.read_text())[OURS]
        if not isinstance(stored, dict) or not isinstance(stored.get(DIGESTS), dict):
            raise CheckpointError("holds no digests of what was saved")
        digests = dict(stored[DIGESTS])
        found, metadata = digests.pop(SEAL, None), {**stored, DIGESTS: digests}
        # A damaged name of the seal is not the name of an item.
        unsealed = found is None and all((folder / name).is_dir() for name in digests)
        if not unsealed and found != _digest(metadata):
            raise CheckpointError("is not what was saved: other digest")
    del metadata[DIGESTS]
    return metadata, digests


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
