"""What a network makes of many pictures or clips, in batches of one size, on all devices.

The program is compiled once: what is missing in the last batch is filled up with its last row, and
what comes of that falls away. Every row is a matter of its own, so that neither the size of batches
nor the order of samples changes a feature beyond rounding.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np

from skipdit_jax import compiler, sharding

Call = Callable[[Any, Any], Any]
"""(parameters, uint8 [B,...]) -> tree of arrays [B,...]; traceable."""


class Extractor:
    """A compiled network with its parameters on the devices.

    Attributes:
      batch: rows of a call, a multiple of the number of devices.
      identity: tells what it computes from other networks, in a file name.
    """

    def __init__(self, call: Call, params: Any, batch: int, identity: str):
        """Places the parameters.

        Args:
          call: see `Call`.
          params: its first argument.
          batch: rows of a call; rounded up so that the devices of this process share it evenly.
          identity: a digest of the network, its weights and how pixels are made ready.

        Raises:
          ValueError: a batch below 1.
        """
        if batch < 1:
            raise ValueError(f"evaluation: found batch {batch}, wanted 1 or more")
        mesh, self.identity = sharding.local_mesh(), identity
        self.batch = -(-batch // mesh.size) * mesh.size
        self._split = sharding.batch_sharding(mesh)
        self._params = jax.device_put(params, sharding.replicated(mesh))
        self._call, self._program = call, compiler.jit(call)

    def check(self, shape: tuple[int, ...]) -> None:
        """Traces the network on rows of this shape; whatever it says against them is raised."""
        rows = jax.ShapeDtypeStruct((self.batch, *shape), np.uint8)
        jax.eval_shape(self._call, self._params, rows)

    def __call__(self, chunks: Iterable[np.ndarray]) -> Iterator[Any]:
        """Yields trees of numpy arrays [n,...], n = `batch` but for the last, in order.

        The devices work on one batch while the next is read and the one before is fetched.

        Args:
          chunks: arrays [n,...] of one shape beyond n, of any n.
        """
        last: tuple[Any, int] | None = None
        for rows, count in batches_of(chunks, self.batch):
            made = self._program(self._params, jax.device_put(rows, self._split))
            if last is not None:
                yield _cut(*last)
            last = made, count
        if last is not None:
            yield _cut(*last)


def batches_of(chunks: Iterable[np.ndarray], batch: int) -> Iterator[tuple[np.ndarray, int]]:
    """Joins and divides arrays into ones of `batch` rows; (rows, how many of them count).

    Args:
      chunks: arrays [n,...] of any n.
      batch: rows of each array; the last is filled up with its last row.
    """
    held: list[np.ndarray] = []
    count = 0
    for chunk in chunks:
        held, count = [*held, chunk], count + len(chunk)
        if count >= batch:
            joined = np.concatenate(held)
            whole = count - count % batch
            yield from ((joined[at : at + batch], batch) for at in range(0, whole, batch))
            held, count = [joined[whole:]], count - whole
    if count:
        joined = np.concatenate(held)
        yield np.concatenate([joined, np.repeat(joined[-1:], batch - count, axis=0)]), count


def _cut(made: Any, count: int) -> Any:
    return jax.tree.map(lambda leaf: np.asarray(leaf)[:count], made)
