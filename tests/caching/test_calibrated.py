"""Calibrated caches: files that read back, other models and runs that are refused, resampling."""

import dataclasses
import json
import re

import numpy as np
import pytest

from skipdit_jax.caching.calibrated import (
    Calibrated,
    MadeFor,
    load_calibrated,
    read_cache,
    resampled,
)
from skipdit_jax.caching.methods.block_cache import BlockCache
from skipdit_jax.caching.methods.skip_cache import SkipCache
from skipdit_jax.caching.plan import Run

FULL = (0, 3, 4, 8)
RUN = Run(np.arange(9)[::-1] * 100, num_stages=6, num_skips=3)
MADE = MadeFor(
    digest="ab" * 32,
    num_stages=6,
    num_skips=3,
    timesteps=tuple(RUN.timesteps.tolist()),
    sampler="ddim",
    guidance=1.5,
)


@pytest.fixture
def saved(tmp_path):
    policy = SkipCache(full=FULL, branch=2)
    Calibrated(policy=policy, made_for=MADE, found={"PSNR dB": 40.5}).save(tmp_path / "s.json")
    return tmp_path / "s.json"


def test_a_file_reads_back_and_plans_its_list(saved):
    cache = load_calibrated(saved)
    assert (cache.policy, cache.made_for) == (SkipCache(full=FULL, branch=2), MADE)
    assert cache.found == {"PSNR dB": 40.5}
    reuse = cache.plan(RUN).reuse
    assert np.flatnonzero(~reuse).tolist() == list(FULL)
    assert cache.misfits(MADE.digest, "ddim", 1.5, RUN.timesteps) == ()


@pytest.mark.parametrize(
    ("run", "told"),
    [
        (RUN._replace(num_stages=8, num_skips=4), "made for 6 stages with 3 skips, found 8 with 4"),
        (
            RUN._replace(timesteps=RUN.timesteps + 1),
            "9 steps from 800 to 0, found 9 steps from 801",
        ),
        (
            RUN._replace(timesteps=np.arange(20)[::-1]),
            "found 20 steps from 19 to 0; :resa",
        ),
    ],
)
def test_what_it_was_not_made_for_is_refused(saved, run, told):
    with pytest.raises(ValueError, match=told):
        load_calibrated(saved).plan(run)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"digest": "cd" * 32}, r"made for the weights abababababab..., found cdcdcdcdcdcd..."),
        ({"sampler": "ddpm"}, "made for the sampler ddim, found ddpm"),
        ({"guidance": 4.0}, "made for guidance 1.5, found 4"),
    ],
)
def test_other_weights_and_ways_to_sample_are_refused(saved, change, told):
    usual = {"digest": MADE.digest, "sampler": "ddim", "guidance": 1.5, "timesteps": RUN.timesteps}
    with pytest.raises(ValueError, match=told):
        load_calibrated(saved).misfits(**{**usual, **change})
    (line,) = load_calibrated(saved, resample=True).misfits(**{**usual, **change})
    assert re.search(told, line)


def test_another_length_is_resampled_where_asked(saved):
    longer = RUN._replace(timesteps=np.arange(17)[::-1] * 50)
    cache = read_cache(f"{saved}:resample")
    assert np.flatnonzero(~cache.plan(longer).reuse).tolist() == [0, 6, 8, 16]
    (line,) = cache.misfits(MADE.digest, "ddim", 1.5, longer.timesteps)
    assert line == f"{saved}:resample: 9 steps from 800 to 0 resampled to 17 steps from 800 to 0"


@pytest.mark.parametrize("change", [{"kind": "other"}, {"cache": "none"}, {"made for": {}}, None])
def test_other_files_are_told_in_one_line(saved, change):
    found = json.loads(saved.read_text())
    saved.write_text("no JSON" if change is None else json.dumps({**found, **change}))
    with pytest.raises(ValueError, match=r"s.json: found no calibrated cache \(") as caught:
        load_calibrated(saved)
    assert "\n" not in str(caught.value)


def test_lists_of_blocks_reuse_all_other_steps():
    policy = BlockCache(full=FULL)
    assert np.flatnonzero(~policy.plan(RUN._replace(num_skips=0)).reuse).tolist() == list(FULL)
    with pytest.raises(ValueError, match="an interval beside a list"):
        dataclasses.replace(policy, every=2)
    with pytest.raises(ValueError, match="neither every nor full"):
        BlockCache()


@pytest.mark.parametrize("wanted", [5, 20, 31, 50, 100])
def test_another_length_keeps_the_number_of_computed_steps(wanted):
    full = (0, 1, 2, 29, 49)
    other = resampled(full, 50, wanted)
    assert len(set(other)) == len(full)
    assert list(other) == sorted(other)
    assert (other[0], other[-1]) == (0, wanted - 1)
    assert resampled(full, 50, 50) == full


def test_a_shorter_run_than_the_list_is_refused():
    with pytest.raises(ValueError, match="found 5 computed steps, wanted at most 4"):
        resampled((0, 1, 2, 3, 4), 50, 4)
