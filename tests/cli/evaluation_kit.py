"""A small network in place of the published ones, for command lines that evaluate."""

import json
from typing import NamedTuple

import jax
import numpy as np
from PIL import Image

from skipdit_jax.cli import evaluate, evaluation_flags
from skipdit_jax.evaluation import evaluate as whole
from skipdit_jax.evaluation.extraction import Extractor
from skipdit_jax.evaluation.networks.calls import lpips_call
from skipdit_jax.evaluation.networks.lpips import Lpips
from skipdit_jax.registry import abstract_params
from skipdit_jax.runs import evaluation as of_runs
from tests.evaluation import edges

CALLS = {"inception": edges.call, "i3d": edges.clips_call}
WIDTHS = {("inception", "pool"): 4, ("inception", "spatial"): 16, ("i3d", "logits"): 8}


def lpips(choice):
    """The true network of no weights."""
    network = Lpips()
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), abstract_params(network))
    return Extractor(lpips_call(network), zeros, choice.batch, "lpips")


class Loaded(NamedTuple):
    """As `weights.metrics.Loaded`."""

    extractor: Extractor
    facts: dict


def put_in_place(monkeypatch, tmp_path):
    """Networks of edges from here on; returns the choices that were loaded, in order."""
    asked = []

    def load(choice, tell=None):
        asked.append(choice)
        if choice.name == "lpips-alex":
            return Loaded(lpips(choice), {})
        extractor = edges.Counting(CALLS[choice.name], choice.batch, f"edges-{choice.rule}")
        return Loaded(extractor, {"network": choice.name, "preprocessing": choice.rule})

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(evaluate, "use_compilation_cache", lambda: None)
    monkeypatch.setattr(whole, "WIDTHS", WIDTHS)
    monkeypatch.setattr(evaluation_flags, "load_extractor", load)
    monkeypatch.setattr(of_runs, "load_extractor", load)
    return asked


def packed(path, levels, save=np.savez, **beside):
    save(path, arr_0=levels, **beside)
    return path


def write(folder, levels):
    """PNG files in order; returns the folder."""
    folder.mkdir()
    for number, picture in enumerate(levels):
        Image.fromarray(picture.squeeze()).save(folder / f"{number:03d}.png")
    return folder


def numbers(path):
    """{metric: value} of a file of --metrics-json."""
    return {score["metric"]: score["value"] for score in json.loads(path.read_text())["scores"]}
