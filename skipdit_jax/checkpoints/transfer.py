"""One transfer of a file, from a server that is not believed.

What comes is compared with what was claimed: where it starts, how long it is, of which version, how
it is encoded, how fast. Nothing is written beyond the claimed size.
"""

import re
import time
from typing import Any, BinaryIO

from huggingface_hub import constants
from huggingface_hub.utils import get_session, hf_raise_for_status, tqdm

LEAST_SPEED = 1000  # bytes a second: DiT-XL would take a month
PATIENCE = 60.0  # seconds over which the speed is looked at
MAX_BYTES = 2**36  # of a file whose size the server does not tell; the largest released has 2**34
PARTIAL_CONTENT = 206
NO_SUCH_PART = 416
NAME_SHOWN = 40  # characters beside the bar

_RANGE = re.compile(r"bytes (?P<start>[0-9]{1,18})-[0-9]{1,18}/(?P<size>[0-9]{1,18}|\*)")


class TransferError(OSError):
    """A server that does not do what it said; one line."""


def http_get(
    url: str,
    file: BinaryIO,
    *,
    tag: str,
    proven: bool,
    size: int | None,
    headers: dict[str, str],
    name: str,
) -> None:
    """Fetches what is missing of a file; one that cannot be gone on with is begun anew.

    Args:
      url: where from.
      file: open to read and write, at its end; what it holds is of this tag.
      tag: that the server gave for the version, without quotes; "" if it gave none.
      proven: whether the tag is the checksum of the content, which is compared in the end.
      size: that the server claimed; None if it did not.
      headers: of the request.
      name: for the bar.

    Raises:
      TransferError: the answer is not what was claimed; the file is empty then, or the part of it
        that came stays if that can be gone on with.
      OSError, HTTPError: the connection broke, or the server has no such file.
    """
    start = file.tell()
    if start and not tag:
        start = _emptied(file)  # nothing tells whether the rest is of the same version
    if start and start == size:
        return
    asked = {**headers, "Accept-Encoding": "identity"}
    if start:
        asked["Range"] = f"bytes={start}-"
        if not proven:
            asked["If-Range"] = f'"{tag}"'
    timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
    with get_session().stream("GET", url, headers=asked, timeout=timeout) as response:
        if response.status_code == NO_SUCH_PART:
            _emptied(file)
            raise TransferError(f"the server has nothing from byte {start} on")
        hf_raise_for_status(response)
        reason = _misfit(response, start, size, tag, proven)
        if reason:
            _emptied(file)
            raise TransferError(reason)
        if response.status_code != PARTIAL_CONTENT:
            start = _emptied(file)
        with tqdm(
            desc=name[-NAME_SHOWN:],
            total=size,
            initial=start,
            unit="B",
            unit_scale=True,
            disable=None,
        ) as bar:
            _receive(response, file, start, size, bar)


def _emptied(file: BinaryIO) -> int:
    file.seek(0)
    file.truncate()
    return 0


def _misfit(response: Any, start: int, size: int | None, tag: str, proven: bool) -> str:
    """Why an answer cannot be the rest of the file, or all of it; empty if it can."""
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding != "identity":
        return (
            f"the server sent it encoded as {encoding[:NAME_SHOWN]!r}, wanted the bytes themselves"
        )
    found = response.headers.get("ETag")
    # Behind a redirection stands another server, whose tags are its own.
    same = found == f'"{tag}"' and not response.history
    if response.status_code == PARTIAL_CONTENT:
        stated = response.headers.get("Content-Range", "")
        match = _RANGE.fullmatch(stated)
        fits = match and int(match["start"]) == start and match["size"] in ("*", str(size))
        if not start or not fits:
            return (
                f"the server sent the part {stated[:NAME_SHOWN]!r}, wanted all from byte {start} on"
            )
        return (
            "" if proven or same else "the server does not tell whether its file is still the same"
        )
    changed = found is not None and found.removeprefix("W/").strip('"') != tag
    if tag and changed and not proven and not response.history:
        return "the file was changed on the server while it was fetched"
    return ""


def _receive(response: Any, file: BinaryIO, start: int, size: int | None, bar: Any) -> None:
    most = MAX_BYTES if size is None else size
    there, since, at = start, time.monotonic(), start
    for chunk in response.iter_raw():
        if there + len(chunk) > most:
            _emptied(file)
            raise TransferError(f"the server sends more than the {most:,} bytes that it claimed")
        file.write(chunk)
        there += len(chunk)
        bar.update(len(chunk))
        passed = time.monotonic() - since
        if passed > PATIENCE:
            if there - at < LEAST_SPEED * passed:
                raise TransferError(
                    f"{there - at:,} bytes came in {passed:.0f} s, wanted {LEAST_SPEED} a second"
                )
            since, at = time.monotonic(), there
    if size is not None and there != size:
        raise TransferError(f"the server sent {there:,} of {size:,} bytes")
