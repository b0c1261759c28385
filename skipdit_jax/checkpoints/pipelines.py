"""Folders of several networks with their settings, as diffusers saves a pipeline.

    model_index.json                 {"transformer": ["diffusers", "PixArtTransformer2DModel"], ...}
    transformer/  config.json, weights, or an index and its shards
    vae/  text_encoder/  tokenizer/  scheduler/scheduler_config.json  ...

The folder may be on this machine, or a repository of the hub, hf://OWNER/REPO[@REVISION]: then of
each part only the files that are asked for are fetched.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skipdit_jax.checkpoints.errors import CheckpointError, parsing, shown
from skipdit_jax.checkpoints.hub import HUB, WEB, Tell, fetch
from skipdit_jax.checkpoints.members import fetch_weights, first_there, member
from skipdit_jax.checkpoints.sources import COMMON, CONFIG, fetch_whole, read_json

INDEX = "model_index.json"
TRANSFORMER, VAE, TEMPORAL_VAE = "transformer", "vae", "vae_temporal_decoder"
PAIR = 2  # library and class of a part

_REPOSITORY = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[^@]+))?")


@dataclass(frozen=True)
class Pipeline:
    """A folder of networks.

    Attributes:
      source: as it was typed.
      classes: of each part, such as {"transformer": "PixArtTransformer2DModel"}.
      tell: called with a line before and after each download.
    """

    source: str
    classes: dict[str, str]
    tell: Tell | None = None

    def file(self, part: str, names: Sequence[str]) -> Path:
        """The first of these files of a part that is there, on this machine.

        Raises:
          CheckpointError: none of them is there, or it cannot be had.
        """
        found = first_there(member(self.source, part), names, self.tell)
        return self._there(None if found is None else fetch_whole(found, self.tell), part, names)

    def _there(self, path: Path | None, part: str, names: Sequence[str]) -> Path:
        if path is None:
            raise CheckpointError(f"{self.source}: found no {part}/{' or '.join(names)} in it")
        return path

    def weights(self, part: str) -> Path:
        """The weights of a network: one file, or the index of several; its config.json beside it.

        Raises:
          CheckpointError: there are none, or they cannot be had.
        """
        self._check_part(part)
        path = fetch_weights(member(self.source, part), COMMON, self.tell)
        return self._there(path, part, COMMON)

    def settings(self, part: str, name: str = CONFIG) -> dict[str, Any]:
        """What a JSON file of a part says.

        Raises:
          CheckpointError: it is not there, or no JSON.
        """
        self._check_part(part)
        path = self.file(part, [name])
        with parsing(path):
            return read_json(path)

    def _check_part(self, part: str) -> None:
        if part not in self.classes:
            parts = ", ".join(self.classes) or "nothing"
            raise CheckpointError(
                f"{self.source}: is a pipeline of {shown(parts)}, wanted one with a {part}"
            )


def open_pipeline(source: str | os.PathLike[str], tell: Tell | None = None) -> Pipeline | None:
    """Like `find_pipeline`, of a repository that has to be one.

    Raises:
      CheckpointError: a repository without that file, or one that is damaged.
    """
    found, text = find_pipeline(source, tell), os.fspath(source)
    if found is None and is_repository(text):
        raise CheckpointError(f"{text}: has no {INDEX}, wanted one, or hf://OWNER/REPO/FILE")
    return found


def find_pipeline(source: str | os.PathLike[str], tell: Tell | None = None) -> Pipeline | None:
    """Opens a folder with a model_index.json; None for a source of another kind.

    Args:
      source: a folder, or hf://OWNER/REPO[@REVISION]; others are not looked into.
      tell: see `hub.fetch`.

    Raises:
      CheckpointError: the file is damaged, or nobody can tell whether it is there.
    """
    text = os.fspath(source)
    if text.startswith((HUB, *WEB)) and not is_repository(text):
        return None
    index = first_there(text, [INDEX], tell)
    if index is None:
        return None
    path = fetch(index)
    with parsing(path):
        return Pipeline(text, _classes(read_json(path)), tell)


def is_repository(source: str) -> bool:
    """Whether a source names a whole repository of the hub, no file in it."""
    return source.startswith(HUB) and bool(_REPOSITORY.fullmatch(source.removeprefix(HUB)))


def fetch_part(source: str | os.PathLike[str], *parts: str, tell: Tell | None = None) -> Path:
    """Like `sources.fetch_whole`; of a pipeline the weights of the first of these parts it has."""
    pipeline = open_pipeline(source, tell)
    if pipeline is None:
        return fetch_whole(source, tell)
    return pipeline.weights(next((part for part in parts if part in pipeline.classes), parts[-1]))


def _classes(index: dict[str, Any]) -> dict[str, str]:
    """The parts that are there; an optional one that is not has the class null."""
    pairs = {name: value for name, value in index.items() if isinstance(value, list)}
    found = {name: value[1] for name, value in pairs.items() if len(value) == PAIR}
    return {name: kind for name, kind in found.items() if isinstance(kind, str)}
