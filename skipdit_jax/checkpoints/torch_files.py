"""Reads files of `torch.save` without torch: the zip format and the one before version 1.6.

A zip holds `NAME/data.pkl` and one stored (uncompressed) member `NAME/data/KEY` per storage. The
older format is a row of pickles (magic number, protocol, system, the object, the storage keys)
followed by each storage in the order of the keys: an int64 count, then the elements.
"""

import dataclasses
import io
import os
import zipfile
from pathlib import Path
from typing import Any

from skipdit_jax.checkpoints.errors import CheckpointError, parsing, shown
from skipdit_jax.checkpoints.handles import Span, TensorHandle, check_storage, place
from skipdit_jax.checkpoints.limits import MAX_INDEX_BYTES, MAX_TENSORS
from skipdit_jax.checkpoints.pickles import MAX_PICKLE_BYTES, Instructions, Machine
from skipdit_jax.checkpoints.records import StorageRef, TensorRecord

ZIP_MAGIC = b"PK\x03\x04"
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001
LOCAL_HEADER_BYTES = 30  # of a zip member, before its name; lengths of name and extra at 26 and 28
COUNT_BYTES = 8  # int64 before each storage of the older format
ENCRYPTED = 1  # bit of a zip member's flags


@dataclasses.dataclass(frozen=True)
class TorchFile:
    """What a file holds: its object, with a `TensorRecord` for each tensor, and where they lie."""

    path: Path
    content: Any
    spans: dict[str, Span]

    def handle(self, record: TensorRecord) -> TensorHandle:
        """Returns the readable handle of one of the tensors in `content`."""
        return place(record, self.path, self.spans)


def read_torch_file(path: str | os.PathLike[str]) -> TorchFile:
    """Opens a .pt, .pth or .bin file; reads its structure, none of its numbers.

    Raises:
      CheckpointError: unreadable, truncated, damaged, not of torch, or holding a forbidden name.
    """
    path = Path(path)
    with parsing(path), path.open("rb") as file:
        magic = file.read(len(ZIP_MAGIC))
        file.seek(0)
        if not magic:
            raise CheckpointError("is empty")
        content, storages, spans = (_read_zip if magic == ZIP_MAGIC else _read_legacy)(file)
        for ref in storages.values():
            check_storage(ref, spans)
        return TorchFile(path, content, spans)


Parts = tuple[Any, dict[str, StorageRef], dict[str, Span]]


def _read_zip(file: io.BufferedIOBase) -> Parts:
    members = _members(file)
    pickles = [name for name in members if name.split("/")[1:] == ["data.pkl"]]
    if len(pickles) != 1:
        raise CheckpointError(f"a zip with {len(pickles)} members */data.pkl, not made by torch")
    root = pickles[0].removesuffix("data.pkl")
    _check_byte_order(file, members.get(f"{root}byteorder"))
    code = members[pickles[0]]
    if code.size > MAX_PICKLE_BYTES:
        raise CheckpointError(
            f"its pickle has {code.size} bytes, wanted at most {MAX_PICKLE_BYTES}"
        )
    file.seek(code.start)
    machine = Machine(Instructions(file.read(code.size)))
    content = machine.run()
    folder = f"{root}data/"
    spans = {
        name.removeprefix(folder): span for name, span in members.items() if name.startswith(folder)
    }
    return content, machine.storages, spans


def _check_byte_order(file: io.BufferedIOBase, span: Span | None) -> None:
    if span is not None:  # torch before 2.1 wrote none; all machines that it ran on were little
        file.seek(span.start)
        order = file.read(min(span.size, len(b"little") + 1))
        if order != b"little":
            raise CheckpointError(f"its byte order is {order!r}, wanted little")


class _BoundedReads:
    """A file for `zipfile`, which reads the whole list of members at once, whatever its size."""

    def __init__(self, file: io.BufferedIOBase):
        self.seek, self.tell, self._file = file.seek, file.tell, file

    def read(self, size: int = -1) -> bytes:
        """Returns the bytes; a negative size is that of the end, where `zipfile` looks first."""
        if size > MAX_INDEX_BYTES:
            raise CheckpointError(
                f"a zip whose list of members has {size} bytes, wanted at most {MAX_INDEX_BYTES}"
            )
        return self._file.read(size)


def _members(file: io.BufferedIOBase) -> dict[str, Span]:
    """Returns where the bytes of each member lie."""
    members: dict[str, Span] = {}
    end = os.fstat(file.fileno()).st_size
    try:
        infos = zipfile.ZipFile(_BoundedReads(file)).infolist()  # type: ignore[arg-type]
    except zipfile.BadZipFile as error:
        raise CheckpointError(f"a truncated or damaged zip ({error})") from error
    if len(infos) > MAX_TENSORS:
        raise CheckpointError(f"a zip of {len(infos)} members, wanted at most {MAX_TENSORS}")
    for info in infos:
        if info.filename in members:
            raise CheckpointError(f"holds the member {shown(info.filename)!r} twice")
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & ENCRYPTED:
            raise CheckpointError(f"its member {shown(info.filename)!r} is compressed or encrypted")
        start = _data_start(file, info.header_offset)
        if start + info.file_size > end or info.file_size != info.compress_size:
            raise CheckpointError(f"its member {shown(info.filename)!r} leaves the file")
        members[info.filename] = Span(start, info.file_size)
    return members


def _data_start(file: io.BufferedIOBase, header: int) -> int:
    file.seek(header)
    local = file.read(LOCAL_HEADER_BYTES)
    if not local.startswith(ZIP_MAGIC) or len(local) != LOCAL_HEADER_BYTES:
        raise CheckpointError("a damaged zip: a member does not begin where its index says")
    name, extra = (int.from_bytes(local[at : at + 2], "little") for at in (26, 28))
    return header + LOCAL_HEADER_BYTES + name + extra


def _read_legacy(file: io.BufferedIOBase) -> Parts:
    code = Instructions(file.read(MAX_PICKLE_BYTES))
    try:
        magic = Machine(code).run()
    except CheckpointError as error:
        raise CheckpointError(f"not a file of torch.save: {error}") from error
    if magic != LEGACY_MAGIC:
        raise CheckpointError("not a file of torch.save: a pickle without its magic number")
    protocol, system = Machine(code).run(), Machine(code).run()
    if protocol != LEGACY_PROTOCOL or not isinstance(system, dict):
        raise CheckpointError(f"not a file of torch.save: wanted protocol {LEGACY_PROTOCOL}")
    if system.get("little_endian") is not True:
        raise CheckpointError("its byte order is not little")
    machine = Machine(code)
    content = machine.run()
    keys = Machine(code).run()
    return content, machine.storages, _legacy_spans(file, code.at, keys, machine.storages)


def _legacy_spans(
    file: io.BufferedIOBase, at: int, keys: Any, storages: dict[str, StorageRef]
) -> dict[str, Span]:
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise CheckpointError("its list of storages is damaged")
    end = os.fstat(file.fileno()).st_size
    spans: dict[str, Span] = {}
    for key in keys:
        if key not in storages or key in spans:
            raise CheckpointError(f"holds storage {shown(key)!r} twice or without a tensor")
        file.seek(at)
        count = int.from_bytes(file.read(COUNT_BYTES), "little", signed=True)
        size = count * storages[key].dtype.itemsize
        start = at + COUNT_BYTES
        if size < 0 or start + size > end:
            raise CheckpointError(f"is truncated: storage {shown(key)!r} leaves the file")
        spans[key] = Span(start, size)
        at = start + size
    return spans
