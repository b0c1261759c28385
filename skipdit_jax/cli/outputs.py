"""The files that sample.py writes: checked before anything is computed, written whole."""

import contextlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from skipdit_jax.checkpoints.atomic import replacing_file
from skipdit_jax.cli.options import SampleOptions
from skipdit_jax.files import check_folder, check_replaceable
from skipdit_jax.visualise.grids import FORMATS, to_uint8
from skipdit_jax.visualise.report import NUMBERS
from skipdit_jax.visualise.video import FRAMES_PER_SECOND, load_encoder, save_gif, save_mp4

MP4, GIF, PICTURE, ARRAYS, TEXTS = ".mp4", ".gif", ".png", ".npz", ".txt"
MOVIES = {MP4: save_mp4, GIF: save_gif}
PAGE = ".html"


class Targets(NamedTuple):
    """Where the results go.

    Attributes:
      picture: PNG, JPEG or WebP file; None where nothing can be shown.
      arrays: .npz file; None if none was asked for.
      movies: MP4 and GIF file of clips; none for pictures.
      texts: the prompts, a line each, in the order of the samples; None without prompts.
      curve: picture of what a cache that decides has compared; None if none was asked for.
      report: page of a comparison, with its numbers beside it; None likewise.
    """

    picture: Path | None
    arrays: Path | None
    movies: tuple[Path, ...] = ()
    texts: Path | None = None
    curve: Path | None = None
    report: Path | None = None

    @property
    def shown(self) -> list[Path]:
        """What a person can look at."""
        return [*self.movies] if self.picture is None else [*self.movies, self.picture]

    @property
    def files(self) -> list[Path]:
        """All of them."""
        numbers = None if self.report is None else self.report.with_suffix(NUMBERS)
        others = (self.arrays, self.texts, self.curve, self.report, numbers)
        return [*self.shown, *(path for path in others if path is not None)]


def choose_targets(
    options: SampleOptions, pixels: bool, clips: bool = False, texts: bool = False
) -> Targets:
    """Returns the files to write, after making sure that they can be.

    Clips are shown three times, as NAME.mp4, NAME.gif and NAME.png (a strip of frames; .jpg, .jpeg
    or .webp if --out says so), whichever of the three --out names. Latents cannot be shown one by
    one: they go to --npz, or to --out with the suffix .npz.

    Args:
      options: what was typed.
      pixels: whether samples are pictures or clips, not latents.
      clips: whether samples have frames.
      texts: whether they show prompts, which then stand beside the picture, in NAME.txt.

    Raises:
      ValueError: a name that cannot be written, one name for two files, or no encoder of MP4.
    """
    out, suffix = options.out, options.out.suffix.lower()
    suffixes = (*MOVIES, *FORMATS) if clips else (*FORMATS,)
    visible = pixels or options.compare is not None
    if suffix not in suffixes and (visible or suffix != ARRAYS):
        raise ValueError(f"--out {out}: wanted a name that ends in {' or '.join(suffixes)}")
    if visible:
        picture = out if suffix in FORMATS else out.with_suffix(PICTURE)
        movies = [out if s == suffix else out.with_suffix(s) for s in MOVIES if clips]
        targets = Targets(picture, options.npz, tuple(movies))
    else:
        targets = Targets(None, options.npz or out.with_suffix(ARRAYS))
    if texts:
        targets = targets._replace(texts=out.with_suffix(TEXTS))
        check_writable("--out", out.with_suffix(TEXTS))
    if options.plot_decisions is not None:
        targets = _with_curve(targets, options.plot_decisions)
    if options.report is not None:
        targets = _with_report(targets, options.report)
    if targets.arrays in targets.shown:
        raise ValueError(f"--out and --npz are both {targets.arrays}")
    if targets.arrays is not None and targets.arrays == targets.texts:
        raise ValueError(f"--npz {targets.arrays}: the prompts stand there, wanted another file")
    read = (options.ckpt, options.vae, options.prompts, options.prompt_embeds)
    places = {Path(place).resolve() for place in (*read, *(options.text_encoder or ())) if place}
    for path in targets.files:
        if path.resolve() in places:
            flags = {options.npz: "--npz", options.plot_decisions: "--plot-decisions"}
            flags[options.report] = "--report"
            flag = flags.get(path, "--out")
            raise ValueError(f"{flag} {path}: is read by this run, wanted another file")
    for path in targets.shown:
        check_writable("--out", path)
    if targets.arrays is not None:
        check_writable("--npz" if options.npz else "--out", targets.arrays)
    if targets.movies:
        load_encoder()
    return targets


def _with_curve(targets: Targets, curve: Path) -> Targets:
    if curve.suffix.lower() not in FORMATS:
        wanted = f"wanted a name that ends in {' or '.join(FORMATS)}"
        raise ValueError(f"--plot-decisions {curve}: {wanted}")
    if curve in targets.files:
        raise ValueError(f"--plot-decisions {curve}: is written by this run, wanted another file")
    check_writable("--plot-decisions", curve)
    return targets._replace(curve=curve)


def _with_report(targets: Targets, report: Path) -> Targets:
    if report.suffix != PAGE:
        raise ValueError(f"--report {report}: wanted a name that ends in {PAGE}")
    for path in (report, report.with_suffix(NUMBERS)):
        if path in targets.files:
            raise ValueError(f"--report {path}: is written by this run, wanted another file")
        check_writable("--report", path)
    return targets._replace(report=report)


def check_writable(flag: str, path: Path) -> None:
    """Raises ValueError, beginning with the flag, where no file can be written.

    A folder that is missing does not matter: `make_folders` makes it.
    """
    if path.is_dir():
        raise ValueError(f"{flag} {path}: is a folder, wanted a file")
    try:
        check_folder(path.parent)
        with contextlib.suppress(FileNotFoundError):
            path.lstat()  # of a name that is too long
    except OSError as error:
        raise ValueError(
            f"{flag} {path}: cannot write into {path.parent}: {error.strerror}"
        ) from error
    try:
        check_replaceable(path)
    except OSError as error:
        raise ValueError(f"{flag} {path}: {error.strerror}") from error


def make_folders(paths: Iterable[Path]) -> None:
    """Makes the folders of files that are about to be written.

    Raises:
      OSError: one cannot be made.
    """
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)


def save_movies(
    paths: Sequence[Path],
    frames: UInt8[np.ndarray, "F height width C"],
    fps: int | None = None,
    description: str = "",
) -> None:
    """Writes frames to each file, as its suffix says.

    Args:
      paths: of MP4 and GIF files.
      frames: of the movie.
      fps: frames per second; None is that of the published samples.
      description: text that the files carry.

    Raises:
      OSError: a file cannot be written.
    """
    for path in paths:
        MOVIES[path.suffix.lower()](path, frames, fps or FRAMES_PER_SECOND, description)


def save_texts(path: Path, texts: Sequence[str]) -> None:
    """Writes a line for each sample.

    Raises:
      CheckpointError: the file cannot be written.
    """
    lines = [" ".join(text.split()) for text in texts]
    with replacing_file(path) as file:
        file.write("".join(f"{line}\n" for line in lines).encode())


def save_arrays(
    path: Path, samples: np.ndarray, labels: np.ndarray | None, pixels: bool, **more: Any
) -> None:
    """Writes samples [n,H,W,C] or [n,F,H,W,C] to an .npz file.

    Args:
      path: its name is kept, whatever the suffix.
      samples: float32.
      labels: of each sample, written as int64 [n]; None for an unconditional model.
      pixels: pictures are written as `arr_0`, uint8 by `to_uint8`; latents as `latents`, float32.
      **more: arrays under further names.

    Raises:
      CheckpointError: the file cannot be written.
      ValueError: pictures that hold NaN.
    """
    arrays: dict[str, Any] = {"arr_0": to_uint8(samples)} if pixels else {"latents": samples}
    if labels is not None:
        arrays["labels"] = labels.astype(np.int64)
    with replacing_file(path) as file:
        np.savez(file, **(arrays | more))
