"""Finding, loading, comparing and damaging golden files.

A test that wants one is marked `@pytest.mark.golden("dit*")` and takes the fixture `golden`: it
runs once for each file of that stem in each folder of `--golden`. A required stem that no folder
holds is a failure, an optional one is passed over; files of what is not built are left alone.
"""

import fnmatch
import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

REQUIRED = (
    "dit",
    "dit_skip",
    "dit_diffusers",
    "dit_skip_cache",
    "dit_skip_cache_50",
    "diffusion",
    "latte",
    "latte_skip",
    "latte_skip_cache",
    "latte_skip_cache_cfg",
    "latte_img_skip",
    "train_step",
    "cache_schedule",
    "vae",
    "vae_temporal",
    "ckpt",
    "ckpt_hostile",
    "l2c",
    "deepcache_plans",
    "magcache",
    "latte_diffusers",
    "mt5_encoder",
    "bert_encoder",
    "prompts_clean",
    "schedulers",
    "inception_fid",
    "i3d_fvd",
    "metrics",
    "real_weights",
)
OPTIONAL = (  # too large to carry: run where a folder has them
    "latte_skip_depth28",
    "fora",
    "taylorseer",
    "taylorseer_diffusers",
    "smoothcache",
    "delta_dit",
    "faster_50",
    "faster_250",
    "toca",
    "toca_small",
    "toca_ddpm250",
    "duca",
    "duca_small",
    "pab",
    "fastercache",
    "fbcache",
    "teacache",
    "dbcache",
    "dbcache_latte",
    "adacache",
    "seacache",
    "pixart",
    "latte_t2v_skip",
    "latte_t2v_skip_cache",
    "hunyuan_dit",
    "hunyuan_dit_cache",
    "hunyuan_dit_cond",
    "hunyuan_diffusers",
    "t5_encoder",
)
SUFFIXES = (".npz", ".tar.xz", ".json", "")


@dataclass(frozen=True)
class Missing:
    """A golden that should be there and is not."""

    stem: str
    folders: tuple[Path, ...]


@dataclass
class Golden:
    """Arrays of one golden file in a folder; `config` holds the original's arguments.

    Of sets b and e, `facts` is all that the file says of itself.
    """

    stem: str
    arrays: dict[str, np.ndarray]
    config: dict = field(default_factory=dict)
    folder: Path = Path()
    facts: dict = field(default_factory=dict)

    def __getitem__(self, key):
        return self.arrays[key]

    def __contains__(self, key):
        return key in self.arrays

    def under(self, prefix):
        """Arrays whose key starts with prefix, without it."""
        return {k[len(prefix) :]: v for k, v in self.arrays.items() if k.startswith(prefix)}

    def beside(self, name):
        """Another golden file of the same folder."""
        return load(self.folder / name)

    def damaged(self, key, region=(), by=1e-3):
        """A copy with one element of an array off by a thousandth (or `by`) of its rms.

        It is the largest element of `array[region]`: of the part that a test compares.
        """
        arrays = dict(self.arrays)
        arrays[key] = np.array(arrays[key])
        part = arrays[key][region or ...]
        where = np.unravel_index(np.argmax(np.abs(part)), part.shape)
        if part.dtype == bool:
            part[where] = ~part[where]
        elif np.issubdtype(part.dtype, np.integer):
            part[where] += 1
        else:
            part[where] += by * max(np.sqrt(np.mean(np.square(part, dtype=np.float64))), 1e-3)
        return replace(self, arrays=arrays)


def load(path):
    """Reads an .npz golden whole."""
    with np.load(path) as archive:
        arrays = {key: archive[key] for key in archive.files}
    config = facts = json.loads(str(arrays.pop("config"))) if "config" in arrays else {}
    if "config_json" in arrays:  # of sets b and e
        facts = json.loads(arrays.pop("config_json").tobytes())
        config = facts.get("config", facts)
    return Golden(path.stem, arrays, config, path.parent, facts)


def _candidates(folder, stem):
    places = [folder, *(folder / sub for sub in ("a", "b", "c", "d", "e"))]
    return [place / (stem + suffix) for place in places for suffix in SUFFIXES]


def find(patterns, folders):
    """Pairs (path or Missing, test id) for the known stems that match any of the patterns."""
    known = (*REQUIRED, *OPTIONAL)
    stems = [s for s in known if any(fnmatch.fnmatchcase(s, p) for p in patterns)]
    if not stems:
        raise ValueError(f"no golden is called {', '.join(patterns)}")
    folders = [folder.resolve() for folder in folders]  # tests may work in another directory
    pairs = []
    for stem in stems:
        hits = [p for folder in folders for p in _candidates(folder, stem) if p.exists()]
        if not hits and stem in REQUIRED:
            pairs.append((Missing(stem, tuple(folders)), f"{stem}-missing"))
        for number, hit in enumerate(hits):
            pairs.append((hit, stem if len(hits) == 1 else f"{stem}-{number}"))
    return pairs


def deviations(got, want):
    """|got - want| / rms(want) of each element; inf for NaN, and for other shapes."""
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    if got.shape != want.shape:
        return np.array(np.inf)
    rms = float(np.sqrt(np.mean(np.square(want)))) if want.size else 1.0
    found = np.abs(got - want) / max(rms, np.finfo(np.float64).tiny)
    return np.where(np.isfinite(found), found, np.inf)


def deviation(got, want):
    """The largest of `deviations`: what the limits of docs/notes.md, Goldens, are for."""
    return float(np.max(deviations(got, want), initial=0.0))


def assert_close(got, want, limit, name):
    """Fails with the name and the figure if the deviation is above the limit."""
    found = deviation(got, want)
    assert found <= limit, f"{name}: deviation {found:.2e}, wanted at most {limit:.0e}"


def channel_last(array):
    """[..., C, H, W] -> [..., H, W, C]."""
    return np.moveaxis(array, -3, -1)
