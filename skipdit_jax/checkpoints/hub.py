"""Weights by name: paths, hf://OWNER/REPO/FILE[@REVISION], and https:// addresses.

A file is fetched once and kept in `cache_folder`; what is there is used without asking anybody, so
files can also be put there by hand. A download that broke off goes on where it stopped, also in
another process, as long as the server still has the same version. What `huggingface_hub` has in its
own cache is used as it is.
"""

import hashlib
import json
import os
import re
import shutil
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
from filelock import FileLock
from huggingface_hub import constants
from huggingface_hub.errors import HFValidationError, HTTPError, OfflineModeIsEnabled
from huggingface_hub.utils import build_hf_headers, validate_repo_id

from skipdit_jax.checkpoints.atomic import replacing_file
from skipdit_jax.checkpoints.errors import CheckpointError, MissingFile, naming, shown
from skipdit_jax.checkpoints.transfer import http_get
from skipdit_jax.files import cache_home, check_replaceable, sha256_of

HUB = "hf://"
WEB = ("https://", "http://")
NOT_FOUND = 404
MAX_PART = 200  # bytes of a part of a name: 255 are the limit, and temporary files have longer ones
MAX_SOURCE = 2000  # characters of all of it
ATTEMPTS = 3  # of a transfer that breaks off; each goes on where the last one stopped
SHA256 = re.compile(r"[0-9a-f]{64}")
RECORD = ".json"  # suffix of what is known of a fetched file
PARTIAL = ".incomplete"
TAG_DIGITS = 16  # of the digest that tells versions of a file apart

_ON_HUB = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)/(?P<file>[^@]+?)(?:@(?P<revision>[^@]+))?")

_OTHER_SCHEME = re.compile(r"[a-z][a-z0-9+.-]+:/")  # "C:/" is a disk
_HOST = re.compile(rb"[0-9A-Za-z._-]+|[0-9A-Fa-f:.]+")

Tell = Callable[[str], None]


def cache_folder() -> Path:
    """Where fetched files are kept: $XDG_CACHE_HOME/skipdit_jax/weights or below ~/.cache."""
    return cache_home() / "weights"


@dataclass(frozen=True)
class Remote:
    """A file that is somewhere else.

    Attributes:
      source: as it was typed.
      url: where to fetch it.
      path: where it is kept.
      hub: (repository, file, revision) on the hub; None for another server.
    """

    source: str
    url: str
    path: Path
    hub: tuple[str, str, str | None] | None = None

    def beside(self, name: str) -> str:
        """The source of another file in the same folder."""
        if self.hub is None:
            return f"{self.source.rsplit('/', 1)[0]}/{name}"
        repo, file, revision = self.hub
        folder = "/".join([repo, *file.split("/")[:-1]])
        return f"{HUB}{folder}/{name}" + (f"@{revision}" if revision else "")


def parse(source: str | os.PathLike[str]) -> Remote | None:
    """Returns where a file is to be fetched, or None for one of this machine.

    Raises:
      CheckpointError: the name begins with hf:// or https:// but names no file, or like an address
        of another kind.
    """
    text = os.fspath(source)
    if text.startswith(HUB):
        match = _ON_HUB.fullmatch(text.removeprefix(HUB))
        remote = match and _of_hub(text, match["repo"], match["file"], match["revision"])
        if not remote:
            raise CheckpointError(
                f"{shown(text)}: wanted hf://OWNER/REPO/FILE or .../FILE@REVISION"
            )
        return remote
    if text.startswith(WEB):
        place = text.split("://", 1)[1]
        if place.count("/") < 1 or not _is_plain(place) or not _is_address(text):
            raise CheckpointError(f"{shown(text)}: wanted https://HOST/FOLDER/FILE")
        return Remote(text, text, cache_folder() / place)
    if _OTHER_SCHEME.match(text) and not os.path.lexists(text):
        raise CheckpointError(f"{shown(text)}: wanted a path, hf://... or https://...")
    return None


def _of_hub(text: str, repo: str, file: str, revision: str | None) -> Remote | None:
    """Where a file of the hub is; None for names that none of its files can have."""
    folder = repo if revision is None else f"{repo}@{revision.replace('/', '%2F')}"
    if not _is_repo(repo) or not _is_plain(f"{folder}/{file}"):
        return None
    url = huggingface_hub.hf_hub_url(repo, file, revision=revision)
    return Remote(text, url, cache_folder() / folder / file, (repo, file, revision))


def _is_plain(place: str) -> bool:
    """Whether a path can be one of this machine: no part is empty, too long or leads elsewhere."""
    return (
        len(place) <= MAX_SOURCE
        and place.isprintable()
        and not any("\ud800" <= character <= "\udfff" for character in place)
        and all(
            part not in ("", ".", "..") and len(part.encode()) <= MAX_PART
            for part in place.split("/")
        )
    )


def _is_repo(name: str) -> bool:
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def _is_address(text: str) -> bool:
    """Whether a request can be made of an address: a host with a name, a port that there is."""
    try:
        parts = urllib.parse.urlsplit(text)
        host, port = (parts.hostname or "").encode("idna"), parts.port
    except ValueError:  # also of the port, and of names that no host can have
        return False
    return bool(_HOST.fullmatch(host)) and port != 0 and not {"?", "#", " ", "\\"} & {*text}


def find(source: str | os.PathLike[str]) -> Path | None:
    """Returns the file if it is on this machine, in our cache or the hub's; fetches nothing.

    Raises:
      CheckpointError: see `parse`.
    """
    remote = parse(source)
    if remote is None:
        with naming(source):  # a name that no file can have
            return Path(source) if Path(source).exists() else None
    return _cached(remote)


def fetch(source: str | os.PathLike[str], tell: Tell | None = None) -> Path:
    """Returns the file on this machine, after fetching it if it is not here yet.

    Args:
      source: a path, which is returned as it is, hf://OWNER/REPO/FILE[@REVISION], or https://...
      tell: called with a line before a download, and one with size and checksum after it.

    Raises:
      CheckpointError: it cannot be had; one line with the reason, and which file to put where.
    """
    remote = parse(source)
    if remote is None:
        with naming(source):
            Path(source).exists()  # raises for a name that no file can have
        return Path(source)
    if here := _cached(remote):  # also in a folder that cannot be written
        return here
    tell = tell or (lambda line: None)
    try:
        remote.path.parent.mkdir(parents=True, exist_ok=True)
        # Processes of one run share the folder: the first fetches, the others find the file.
        with FileLock(remote.path.with_name(f".{remote.path.name}.lock")):
            return _cached(remote) or _download(remote, tell)
    except CheckpointError:
        raise
    except (OSError, HTTPError, ValueError) as error:  # a server may send any header
        kind = MissingFile if _status(error) == NOT_FOUND else CheckpointError
        raise kind(
            f"{source}: is not on this machine and cannot be fetched ({_reason(error)}"
            f"{_kept(remote.path)}); get {remote.url} in another way and put it at {remote.path}"
        ) from error


def checksum(path: Path) -> str | None:
    """The SHA-256 of a file of the cache as it was fetched; None if it came in another way."""
    record = path.with_name(f".{path.name}{RECORD}")
    return json.loads(record.read_text())["sha256"] if record.is_file() else None


def _cached(remote: Remote) -> Path | None:
    if remote.path.is_file():
        return remote.path
    if remote.hub is not None:
        repo, file, revision = remote.hub
        cached = huggingface_hub.try_to_load_from_cache(repo, file, revision=revision)
        if isinstance(cached, str):
            return Path(cached)
    return None


def _download(remote: Remote, tell: Tell) -> Path:
    if constants.HF_HUB_OFFLINE:
        raise OfflineModeIsEnabled("HF_HUB_OFFLINE is set")
    check_replaceable(remote.path)
    token = None if remote.hub else False  # of the hub: nobody else may see it
    told = ""
    for attempt in range(1, ATTEMPTS + 1):
        found = _ask(remote, token)  # each time: the file may have become another
        partial = _partial(remote.path, found.etag or "")
        size = "" if found.size is None else f", {found.size:,} bytes"
        line = f"fetching {remote.url}{size}, to {remote.path}"
        if line != told:
            tell(line)
        told = line
        try:
            _transfer(remote, partial, found, build_hf_headers(token=token))
        except (OSError, HTTPError):
            if attempt == ATTEMPTS:
                raise
        else:
            break
    sha256 = _verified(remote, partial, found.etag)
    os.replace(partial, remote.path)
    _record(remote, sha256)
    tell(f"fetched  {remote.path}: {remote.path.stat().st_size:,} bytes, sha256 {sha256}")
    return remote.path


def _ask(remote: Remote, token: bool | None) -> huggingface_hub.HfFileMetadata:
    """Returns what the server says of a file: its tag and size.

    Raises:
      OSError, HTTPError: it cannot be reached, or claims more than there is room for.
    """
    found = huggingface_hub.get_hf_file_metadata(remote.url, token=token)
    room = shutil.disk_usage(remote.path.parent).free
    if found.size is not None and found.size > room:
        raise OSError(f"it has {found.size:,} bytes, the disk has room for {room:,}")
    return found


def _transfer(
    remote: Remote, partial: Path, found: huggingface_hub.HfFileMetadata, headers: dict[str, str]
) -> None:
    """Fetches what is still missing of a file."""
    with partial.open("ab") as file:
        if found.size is not None and file.tell() > found.size:
            file.truncate(0)  # of a server that sent the beginning once more
            file.seek(0)
        http_get(
            remote.url,
            file,
            tag=found.etag or "",
            proven=SHA256.fullmatch(found.etag or "") is not None,
            size=found.size,
            headers=headers,
            name=remote.path.name,
        )
        file.flush()
        os.fsync(file.fileno())


def _partial(path: Path, etag: str) -> Path:
    """The name of an unfinished download of this version; those of other versions go away."""
    tag = hashlib.sha256(etag.encode()).hexdigest()[:TAG_DIGITS]
    partial = path.with_name(f".{path.name}.{tag}{PARTIAL}")
    for other in path.parent.glob(f".{path.name}.*{PARTIAL}"):
        if other != partial:
            other.unlink()
    return partial


def _kept(path: Path) -> str:
    """What is left of a download that broke off."""
    sizes = [partial.stat().st_size for partial in path.parent.glob(f".{path.name}.*{PARTIAL}")]
    return f"; {max(sizes):,} bytes are kept, the next try goes on" if any(sizes) else ""


def _verified(remote: Remote, partial: Path, etag: str | None) -> str:
    """Returns the SHA-256; the hub's tag of a large file is the one that it should have."""
    sha256 = sha256_of(partial)
    if etag is not None and SHA256.fullmatch(etag) and etag != sha256:
        partial.unlink()
        raise CheckpointError(
            f"{remote.source}: was fetched with sha256 {sha256}, wanted {etag}: deleted, try again"
        )
    return sha256


def _record(remote: Remote, sha256: str) -> None:
    known: dict[str, Any] = {"source": remote.source, "url": remote.url, "sha256": sha256}
    with replacing_file(remote.path.with_name(f".{remote.path.name}{RECORD}")) as file:
        file.write(json.dumps(known, indent=1).encode())


def _status(error: BaseException) -> int | None:
    """What the server answered; None if it did not."""
    response = getattr(error, "response", None)
    return None if response is None else response.status_code


def _reason(error: BaseException) -> str:
    """One short line: the hub's own messages have several, with advice for its users."""
    code = _status(error)
    if code is not None:
        return "there is no such file or revision" if code == NOT_FOUND else f"HTTP {code}"
    return " ".join(str(error).split()) or type(error).__name__
