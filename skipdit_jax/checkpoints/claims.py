"""What a file claims of its network, compared with what it holds before anything is computed.

Everything here is arithmetic on the config and the header: no table is made and nothing is traced.
"""

import math
from collections.abc import Mapping
from typing import Any

from skipdit_jax.checkpoints.errors import CheckpointError, naming
from skipdit_jax.checkpoints.limits import (
    MAX_BLOCKS,
    MAX_SHARING,
    MAX_TABLE,
    SMALL_FILE,
    SMALL_TABLE,
)
from skipdit_jax.checkpoints.load import Checkpoint
from skipdit_jax.trees import Misfits


def check_claims(checkpoint: Checkpoint, config: Mapping[str, Any]) -> None:
    """Makes sure that a file holds as much as the network that it describes is going to cost.

    Args:
      checkpoint: see `load.open_checkpoint`.
      config: fields of the config of that network.

    Raises:
      CheckpointError: more blocks than tensors, or than any network has; a large fixed table of
        another width than that of the file, or too large a one; tensors that share so many
        numbers that they would take several times the size of the file.
    """
    blocks, tables = checkpoint.family.claims(config)
    with naming(checkpoint.path):
        most = min(len(checkpoint.handles), MAX_BLOCKS)
        if blocks > most:
            raise CheckpointError(
                f"describes a network of {blocks} blocks, wanted at most {most}: it has "
                f"{len(checkpoint.handles)} tensors"
            )
        for name, shape in tables.items():
            found = checkpoint.handles[name].shape if name in checkpoint.handles else shape
            differs = len(found) != len(shape) or found[-1] != shape[-1]
            if differs and math.prod(shape) > SMALL_TABLE:
                misfit = str(Misfits((), (), ((name, found, shape),)))
                raise CheckpointError(f"does not fit the model: {misfit}")
            if math.prod(shape) > MAX_TABLE:
                raise CheckpointError(
                    f"describes a network with {name} of {shape[1]} x {shape[2]} numbers, wanted "
                    f"at most {MAX_TABLE} in all"
                )
        _check_sharing(checkpoint)


def _check_sharing(checkpoint: Checkpoint) -> None:
    handles = checkpoint.handles.values()
    wanted = sum(math.prod(handle.shape) * handle.dtype.itemsize for handle in handles)
    held = sum(path.stat().st_size for path in {handle.path for handle in handles})
    if wanted > MAX_SHARING * max(held, SMALL_FILE):
        raise CheckpointError(
            f"its tensors would take {wanted} bytes, and it has {held}: they share their numbers"
        )
