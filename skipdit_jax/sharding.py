"""One mesh of devices, and where every array of a run lies on it.

Axes: "data" holds copies of the weights, "fsdp" holds parts of the weights and gathers them when
they are needed, "tensor" holds parts of the MLP's width and of the attention heads. The rows of a
batch are split over "data" and "fsdp" together and repeated over "tensor". Programs stay as written
for one device (the partitioner of XLA adds the communication), so a batch is always the global one.

A family's table of rules says which axis splits which dimension (`registry.FAMILIES`). A rule is
searched in paths, so that one table fits weights, their averages, and moments of an optimiser,
whose paths end alike: "blocks_0/attn/qkv/kernel", "0/mu/blocks_0/attn/qkv/kernel".
"""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Int

DATA, FSDP, TENSOR = AXES = ("data", "fsdp", "tensor")
ROWS = (DATA, FSDP)  # the axes that split the rows of a batch
REST = -1  # an axis that takes all devices the others leave
SMALLEST_SPLIT = 4096  # elements; below it a message costs more than the memory is worth


class Split(NamedTuple):
    """Where parameters of some name are split.

    Attributes:
      pattern: regular expression, searched in the path; the first rule that is found counts.
      axes: for each dimension the mesh axis that splits it, or None.
    """

    pattern: str
    axes: tuple[str | None, ...]


Splits = Sequence[Split]


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeshConfig:
    """Devices along each axis; one of them may be -1, all that the others leave.

    Raises:
      ValueError: a number that is neither -1 nor positive, or -1 twice.
    """

    data: int = REST
    fsdp: int = 1
    tensor: int = 1

    def __post_init__(self) -> None:
        sizes = dataclasses.asdict(self)
        for name, size in sizes.items():
            if size != REST and size < 1:
                raise ValueError(f"mesh.{name}: found {size}, wanted 1 or more, or -1 for the rest")
        if list(sizes.values()).count(REST) > 1:
            raise ValueError(f"mesh: found {_product(sizes)}, wanted -1 at most once")

    def resolve(self, devices: int) -> dict[str, int]:
        """Returns the devices along each axis, whose product is `devices`.

        Raises:
          ValueError: the axes do not fit that many devices.

        >>> MeshConfig(fsdp=4).resolve(8)
        {'data': 2, 'fsdp': 4, 'tensor': 1}
        """
        sizes = dataclasses.asdict(self)
        known = math.prod(size for size in sizes.values() if size != REST)
        if devices % known or (REST not in sizes.values() and known != devices):
            raise ValueError(
                f"mesh: {_product(sizes)} does not fit {devices} devices, "
                f"wanted a product of {devices}, or -1 for one axis"
            )
        return {name: devices // known if n == REST else n for name, n in sizes.items()}


def _product(sizes: Mapping[str, int]) -> str:
    return " x ".join(f"{name} {size}" for name, size in sizes.items())


def make_mesh(config: MeshConfig, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Lays the devices out; the tensor axis has the nearest neighbours, then fsdp, then data.

    Args:
      config: devices along each axis.
      devices: those of all processes if not given.

    Raises:
      ValueError: the axes do not fit the devices.
    """
    chosen = jax.devices() if devices is None else list(devices)
    sizes = config.resolve(len(chosen))
    # Auto: the partitioner finds the shardings between inputs and outputs (docs/notes.md, Meshes).
    types = (AxisType.Auto,) * len(AXES)
    return jax.make_mesh(tuple(sizes.values()), AXES, axis_types=types, devices=chosen)


def local_mesh() -> Mesh:
    """The devices of this process alone, all along "data"."""
    return make_mesh(MeshConfig(), jax.local_devices())


def as_auto(mesh: Mesh | AbstractMesh) -> Mesh | AbstractMesh:
    """The same devices with axes of type Auto, which programs written for one device need."""
    if isinstance(mesh, AbstractMesh) or AxisType.Explicit not in mesh.axis_types:
        return mesh
    return Mesh(mesh.devices, mesh.axis_names, axis_types=(AxisType.Auto,) * len(mesh.axis_names))


def off_explicit(tree: Any) -> Any:
    """Arrays of a mesh with Explicit axes, where they lie, as those of `as_auto`; others as is.

    Raises:
      ValueError: a traced array, or one inside `jax.set_mesh`, whose mesh the caller has chosen.
    """
    return jax.tree.map(_off_explicit, tree)


def _off_explicit(leaf: Any) -> Any:
    if not isinstance(leaf, jax.Array):
        return leaf
    traced = isinstance(leaf, jax.core.Tracer)
    at = jax.typeof(leaf).sharding if traced else leaf.sharding
    if not isinstance(at, NamedSharding) or AxisType.Explicit not in at.mesh.axis_types:
        return leaf
    around = jax.sharding.get_abstract_mesh().axis_types
    if not traced and AxisType.Explicit not in around:
        return jax.device_put(leaf, NamedSharding(as_auto(at.mesh), at.spec))
    if traced and not any(at.spec):
        return leaf
    raise ValueError(
        f"sharding: found a mesh with Explicit axes ({', '.join(at.mesh.axis_names)}), "
        "wanted jax.make_mesh(..., axis_types=(jax.sharding.AxisType.Auto,) * number of axes)"
    )


def leads() -> bool:
    """Whether this is the process that writes what is written once."""
    return jax.process_index() == 0


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole array."""
    return NamedSharding(as_auto(mesh), PartitionSpec())


def spec_of(
    path: str, shape: tuple[int, ...], rules: Splits, sizes: Mapping[str, int]
) -> PartitionSpec:
    """Which mesh axes split an array.

    Arrays below `SMALLEST_SPLIT` elements, or that no rule names, are not split; nor is a dimension
    that its axis does not divide, or whose axis has one device.

    Args:
      path: such as "blocks_0/attn/qkv/kernel", with anything in front.
      shape: of the array.
      rules: the family's table.
      sizes: devices along each mesh axis.

    Raises:
      ValueError: the rule has another number of dimensions than the array.

    >>> table = [Split("qkv/kernel$", ("fsdp", "tensor"))]
    >>> spec_of("0/mu/blocks_0/attn/qkv/kernel", (64, 192), table, {"fsdp": 4, "tensor": 5})
    P('fsdp', None)
    """
    axes = next((rule.axes for rule in rules if re.search(rule.pattern, path)), None)
    if axes is None or math.prod(shape) < SMALLEST_SPLIT:
        return PartitionSpec()
    if len(axes) != len(shape):
        raise ValueError(f"sharding: {path} has shape {shape}, its rule {axes}")
    fits = [
        a is not None and sizes[a] > 1 and n % sizes[a] == 0
        for a, n in zip(axes, shape, strict=True)
    ]
    if not any(fits):
        return PartitionSpec()
    return PartitionSpec(*(axis if fit else None for axis, fit in zip(axes, fits, strict=True)))


def shardings(mesh: Mesh | AbstractMesh, tree: Any, rules: Splits) -> Any:
    """Returns the same tree with a `NamedSharding` for each leaf.

    Args:
      mesh: of `make_mesh`.
      tree: arrays or `ShapeDtypeStruct`: weights, a whole `TrainState`, items of a checkpoint...
      rules: the family's table.

    Raises:
      ValueError: a rule has another number of dimensions than an array it names.
    """

    def sharding(path: Any, leaf: Any) -> NamedSharding:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        return NamedSharding(as_auto(mesh), spec_of(name, leaf.shape, rules, mesh.shape))

    return jax.tree_util.tree_map_with_path(sharding, tree)


def abstract(mesh: Mesh, tree: Any, rules: Splits) -> Any:
    """Returns shapes and types of a tree with its `shardings`: what `store.restore` is asked for.

    Args and errors are those of `shardings`.
    """
    return jax.tree.map(
        lambda leaf, at: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=at),
        tree,
        shardings(mesh, tree, rules),
    )


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The first dimension is split over "data" and "fsdp", the others are not."""
    return NamedSharding(as_auto(mesh), PartitionSpec(ROWS))


def check_batch(mesh: Mesh | AbstractMesh, batch_size: int, accumulate: int = 1) -> None:
    """Makes sure that a global batch can be split evenly.

    Args:
      mesh: of `make_mesh`.
      batch_size: of the global batch.
      accumulate: equal parts that it is worked off in, each of them split over the mesh.

    Raises:
      ValueError: it cannot.
    """
    ways = math.prod(mesh.shape[axis] for axis in ROWS)
    if batch_size % (ways * accumulate):
        parts = f" in {accumulate} parts" if accumulate > 1 else ""
        axes = " x ".join(f"{axis} {mesh.shape[axis]}" for axis in ROWS)
        raise ValueError(
            f"batch_size: {batch_size}{parts} cannot be split over {axes}, "
            f"wanted a multiple of {ways * accumulate}"
        )


def local_rows(mesh: Mesh, batch_size: int) -> Int[np.ndarray, "rows"]:
    """Which rows of a global batch this process must feed, ascending.

    Processes whose devices differ only along "tensor" feed the same rows.

    Raises:
      ValueError: the batch cannot be split evenly.
    """
    check_batch(mesh, batch_size)
    places = batch_sharding(mesh).addressable_devices_indices_map((batch_size,))
    starts = {index[0].indices(batch_size)[:2] for index in places.values() if index is not None}
    return np.concatenate([np.arange(*bounds) for bounds in sorted(starts)])


def global_batch(mesh: Mesh, local: Any) -> Any:
    """Joins what the processes feed into one batch on the mesh.

    Args:
      mesh: of `make_mesh`.
      local: tree of numpy arrays [rows, ...], the rows `local_rows` of this process.

    Returns:
      The same tree of arrays [B, ...] of the global batch.
    """
    sharding = batch_sharding(mesh)
    return jax.tree.map(
        lambda leaf: jax.make_array_from_process_local_data(sharding, np.asarray(leaf)), local
    )


def place(tree: Any, where: Any) -> Any:
    """Copies host values, the same in every process, to where their shardings say.

    Args:
      tree: arrays that this process can read; typed keys are allowed.
      where: tree of shardings, of `shardings`.
    """
    return jax.tree.map(_place, tree, where)


def _place(leaf: Any, sharding: NamedSharding) -> jax.Array:
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        data = _place(jax.random.key_data(leaf), sharding)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    host = np.asarray(leaf)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])


def to_host(tree: Any) -> Any:
    """Makes a tree readable in this process: what lies on other processes' devices is fetched.

    All processes must call it; trees that a process can read already are returned as they are.
    """
    if all(leaf.is_fully_addressable for leaf in jax.tree.leaves(tree)):
        return tree
    return multihost_utils.process_allgather(tree, tiled=True)
