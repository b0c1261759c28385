"""Pictures and clips that have captions, as examples {"image", "label" (0), "caption"}."""

import tempfile
from functools import partial
from pathlib import Path

import numpy as np

from skipdit_jax.data.captions import LIST_ENDING, Captioned, FilesBeside, ListedFiles
from skipdit_jax.data.clips import Choose, Window
from skipdit_jax.data.images import ENDINGS, read_image, to_pixels
from skipdit_jax.data.listing import contents, ending
from skipdit_jax.data.sources import CAPTION, BrokenExampleError, Example
from skipdit_jax.data.tar_shards import TAR, TarShards
from skipdit_jax.data.video_frames import Pixels, read_frames
from skipdit_jax.data.videos import SUFFIXES
from skipdit_jax.optional import load

NO_LABEL = np.int32(0)


def open_captioned(path: str | Path, *, clips: bool) -> Captioned:
    """Finds the files of a source and their captions, see `captions`.

    Args:
      path: a folder of files or of tar shards, one shard, or a list.
      clips: whether videos are wanted, or pictures.

    Raises:
      ValueError: none of these, or nothing in it.
    """
    path, endings = Path(path), SUFFIXES if clips else ENDINGS
    if ending(path.name) == LIST_ENDING and path.is_file():
        return ListedFiles(path)
    if ending(path.name) == TAR and path.is_file():
        return TarShards([path], endings)
    if not path.is_dir():
        raise ValueError(
            f"data.path: no folder, {TAR} or {LIST_ENDING} {str(path)!r}, wanted one of files with "
            "captions"
        )
    shards = [path / name for name in contents(path).files if ending(name) == TAR]
    return TarShards(shards, endings) if shards else FilesBeside(path, endings)


class CaptionedImages:
    """Pictures with captions; see `images.read_image` for the rest."""

    def __init__(
        self,
        files: Captioned,
        *,
        size: tuple[int, int],
        channels: int,
        orientation: str = "upright",
    ):
        self._files, self._size, self._channels = files, size, channels
        self._orientation = orientation

    def __len__(self) -> int:
        return len(self._files.names)

    def __getitem__(self, index: int) -> Example:
        caption = self._files.caption(index)
        image = read_image(
            self._files.media(index),
            name=self._files.names[index],
            size=self._size,
            channels=self._channels,
            orientation=self._orientation,
        )
        return {"image": image, "label": NO_LABEL, CAPTION: caption}


class CaptionedClips:
    """Videos with captions, see `clips.ClipSource`."""

    def __init__(
        self,
        files: Captioned,
        *,
        size: tuple[int, int],
        channels: int,
        orientation: str = "upright",
    ):
        self._files, self._orientation = files, orientation
        self._take = partial(to_pixels, size=size, channels=channels)
        load("av", files.names[0])

    def __len__(self) -> int:
        return len(self._files.names)

    def draw(self, index: int, window: Window, rng: np.random.Generator) -> Example:
        """See `ClipSource`."""
        name, caption = self._files.names[index], self._files.caption(index)
        choose = partial(window.choose, at=rng.random(), name=name)
        media = self._files.media(index)
        frames = (
            self._frames(media, choose)
            if isinstance(media, Path)
            else self._frames_of(media, name, choose)
        )
        return {"image": np.stack(frames), "label": NO_LABEL, CAPTION: caption}

    def _frames(self, path: Path, choose: Choose) -> list[Pixels]:
        return read_frames(path, choose, self._take, orientation=self._orientation)

    def _frames_of(self, data: bytes, name: str, choose: Choose) -> list[Pixels]:
        """Of a video inside a shard: FFmpeg wants a file."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"video{ending(name)}"
            path.write_bytes(data)
            try:
                return self._frames(path, choose)
            except BrokenExampleError as error:
                raise BrokenExampleError(name, error.reason) from error
