"""From what a user names to one file: folders that hold weights, and weights split over files."""

import json
import os
from pathlib import Path
from typing import Any

from skipdit_jax.checkpoints.errors import CheckpointError, naming, shown
from skipdit_jax.checkpoints.handles import TensorHandle
from skipdit_jax.checkpoints.hub import Tell, fetch, parse
from skipdit_jax.checkpoints.limits import MAX_HEADER_BYTES
from skipdit_jax.checkpoints.safetensors_files import read_safetensors_file
from skipdit_jax.checkpoints.state_dicts import Ask, choose
from skipdit_jax.checkpoints.torch_files import read_torch_file

SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt", ".bin")
"""Of files of weights, the safest first."""

INDEX_SUFFIX = ".index.json"  # of the table that tells which shard holds which tensor
COMMON = tuple(
    f"{stem}{suffix}{index}"
    for suffix in (".safetensors", ".bin")
    for stem in ("diffusion_pytorch_model", "pytorch_model", "model")
    for index in ("", INDEX_SUFFIX)
)
"""What diffusers and transformers call their weights, which may lie beside other .bin files."""

DISTRIBUTED = ".metadata"  # of torch.distributed.checkpoint, beside __0_0.distcp
CONFIG = "config.json"  # of diffusers and transformers, beside the weights
KINDS = ("_class_name", "model_type")
"""Keys of a config.json that say what its network is: of diffusers, and of transformers."""

MAX_JSON_BYTES = MAX_HEADER_BYTES  # an index names as many tensors as a header
MAX_SHARDS = 1000
SHOWN = 4  # names in a message


def weights_file(folder: Path) -> Path:
    """Returns the one file of weights in a folder, or the index of one that is split.

    Raises:
      CheckpointError: there is none, or more than one that could be meant; a distributed checkpoint
        of torch, with the command that makes a file of it.
    """
    if (folder / DISTRIBUTED).exists() or any(folder.glob("*.distcp")):
        raise CheckpointError(
            "is a distributed checkpoint of torch, wanted one file: python -m "
            f"torch.distributed.checkpoint.format_utils dcp_to_torch {folder} {folder}.pt"
        )
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    for common in COMMON:
        if common in names:
            return folder / common
    found = [name for name in names if name.endswith((*SUFFIXES, INDEX_SUFFIX))]
    if len(found) == 1:
        return folder / found[0]
    if found:
        raise CheckpointError(
            f"is no file, and a folder of several: {', '.join(found[:SHOWN])}: name one of them"
        )
    inner = [name for name in names if (folder / name).is_dir() and _has_weights(folder / name)]
    hint = f"; there are some in {', '.join(inner[:SHOWN])}" if inner else ""
    raise CheckpointError(
        f"is no file, and a folder without weights, wanted a run folder or a file{hint}"
    )


def is_index(path: Path) -> bool:
    """Whether a file tells where the tensors of a split state dict lie."""
    return path.name.endswith(INDEX_SUFFIX)


def fetch_whole(source: str | os.PathLike[str], tell: Tell | None = None) -> Path:
    """Like `hub.fetch`; of the index of a split state dict also the files that it names.

    Raises:
      CheckpointError: one of them cannot be had, or the index is damaged.
    """
    path, remote = fetch(source, tell), parse(source)
    if remote is None or not is_index(path):
        return path
    with naming(path):
        names = sorted(set(_weight_map(path).values()))
    for name in names:
        if not (path.parent / name).is_file():
            fetch(remote.beside(name), tell)
    return path


def read_shards(index: Path) -> dict[str, TensorHandle]:
    """Returns the tensors of a state dict that is split over the files of an index, by name.

    Raises:
      CheckpointError: a damaged index, a shard that is not there, or one that lacks its tensors.
    """
    table = _weight_map(index)
    shards = {file: _read_shard(index.parent, file) for file in sorted(set(table.values()))}
    missing = [name for name, file in table.items() if name not in shards[file]]
    if missing:
        some = ", ".join(map(shown, missing[:SHOWN]))
        raise CheckpointError(f"{len(missing)} of its tensors are not in their files: {some}")
    return {name: shards[file][name] for name, file in table.items()}


def described(path: Path) -> dict[str, Any]:
    """Returns what the config.json of diffusers or transformers beside a file says of its network.

    Empty if there is none; other programs have files of that name, which say nothing here.
    """
    config = path.parent / CONFIG
    if not config.is_file():
        return {}
    try:
        stated = read_json(config)
    except CheckpointError:  # of no program that writes weights
        return {}
    return stated if any(isinstance(stated.get(kind), str) for kind in KINDS) else {}


def read_json(path: Path) -> dict[str, Any]:
    """Returns the dict in a JSON file.

    Raises:
      CheckpointError: it is too large, or no such file.
    """
    with path.open("rb") as file:
        data = file.read(MAX_JSON_BYTES + 1)
    if len(data) > MAX_JSON_BYTES:
        raise CheckpointError(f"{path.name} has more than {MAX_JSON_BYTES} bytes")
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path.name} is no JSON: {shown(str(error))}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path.name} holds a {type(content).__name__}, wanted a dict")
    return content


def _weight_map(index: Path) -> dict[str, str]:
    """Which file holds which tensor; all of them are beside the index."""
    table = read_json(index).get("weight_map")
    if not isinstance(table, dict) or not all(isinstance(file, str) for file in table.values()):
        raise CheckpointError("has no weight_map of names and files")
    files = sorted(set(table.values()))
    if len(files) > MAX_SHARDS:
        raise CheckpointError(f"names {len(files)} files, wanted at most {MAX_SHARDS}")
    for name in files:
        if Path(name).name != name or not name.endswith(SUFFIXES):
            raise CheckpointError(f"names the file {shown(name)!r}, wanted one beside it")
    return table


def _read_shard(folder: Path, name: str) -> dict[str, TensorHandle]:
    path = folder / name
    if not path.is_file():
        raise CheckpointError(f"the file {shown(name)!r} that it names is not beside it")
    if path.suffix == SUFFIXES[0]:
        return read_safetensors_file(path).handles
    return choose(read_torch_file(path), Ask(prefix=""), ()).handles


def _has_weights(folder: Path) -> bool:
    return any(path.name.endswith((*SUFFIXES, INDEX_SUFFIX)) for path in folder.iterdir())
