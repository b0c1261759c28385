"""Files in a folder that is here or elsewhere, by the name of the folder."""

import os
from collections.abc import Iterable
from pathlib import Path

from skipdit_jax.checkpoints.atomic import replacing_file
from skipdit_jax.checkpoints.errors import MissingFile, naming
from skipdit_jax.checkpoints.hub import HUB, WEB, Tell, fetch, find, parse
from skipdit_jax.checkpoints.sources import CONFIG, fetch_whole


def member(folder: str | os.PathLike[str], name: str) -> str:
    """The source of a file in a folder: a path, hf://OWNER/REPO[/FOLDER][@REVISION], https://...

    >>> member("hf://owner/repo@v1", "config.json")
    'hf://owner/repo/config.json@v1'
    """
    text = os.fspath(folder)
    if not text.startswith((HUB, *WEB)):
        return os.path.join(text, name)
    place, at, revision = text.partition("@") if text.startswith(HUB) else (text, "", "")
    return f"{place.rstrip('/')}/{name}{at}{revision}"


def first_there(
    folder: str | os.PathLike[str], names: Iterable[str], tell: Tell | None = None
) -> str | None:
    """Returns the source of the first of some files that a folder has; it is fetched.

    What is on this machine already goes before what comes earlier and would have to be fetched.

    Args:
      folder: see `member`.
      names: of files in it.
      tell: see `fetch`.

    Raises:
      CheckpointError: nobody can tell, because the server cannot be reached or refuses.
    """
    sources = [member(folder, name) for name in names]
    for source in sources:
        if find(source) is not None:
            return source
    for source in sources:
        if parse(source) is None:
            continue
        try:
            fetch(source, tell)
        except MissingFile:
            continue
        return source
    return None


def fetch_weights(
    folder: str | os.PathLike[str], names: Iterable[str], tell: Tell | None = None
) -> Path | None:
    """The first of these files of weights in a folder, or the index of several, on this machine.

    The config.json that describes them comes along: it may lie in the hub's own cache, and they in
    ours.

    Returns:
      None if there is none of them.

    Raises:
      CheckpointError: one cannot be had.
    """
    described = first_there(folder, [CONFIG], tell)
    found = first_there(folder, names, tell)
    if found is None:
        return None
    path = fetch_whole(found, tell)
    target = path.parent / CONFIG
    if described is not None and not target.exists():
        with naming(target), replacing_file(target) as file:
            file.write(fetch(described).read_bytes())
    return path
