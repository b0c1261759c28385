"""kill -9 while latents are encoded: the folder ends, byte for byte, as an undisturbed one."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.encode_kit import contents, flags, save_vae
from tests.data.pictures import write_tree

ROOT = Path(__file__).parents[2]
DEADLINE = 120.0
MOMENTS = [(1, "before"), (2, "after"), (1, "before"), (4, "before")]
"""Of each run in turn: before the settings, after a shard, before one, before the manifest."""


@pytest.fixture
def environment(tmp_path):
    cache = {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    return {**os.environ, **cache, "JAX_PLATFORMS": "cpu"}


def finish(process):
    out, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0, err
    return out


def start(environment, *command):
    return subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_kills_around_every_kind_of_file_change_nothing(tmp_path, environment):
    save_vae(tmp_path / "vae.safetensors")
    photos = write_tree(tmp_path / "photos")
    whole, broken = (
        flags(photos, tmp_path / "vae.safetensors", tmp_path / name, "--flip")
        for name in ("whole", "broken")
    )
    runs = [(whole, None), *((broken, moment) for moment in MOMENTS), (broken, None)]
    process = start(environment, "tests.cli.encode_kit", json.dumps(runs))
    ends = json.loads(finish(process).splitlines()[-1])
    assert ends == [0, *[-signal.SIGKILL] * len(MOMENTS), 0]
    assert contents(tmp_path / "broken") == contents(tmp_path / "whole")
    assert len(contents(tmp_path / "whole")) == 6  # 4 shards, settings, manifest


@pytest.mark.slow
@pytest.mark.parametrize("format", ["array_record", "npz"])
def test_kills_at_random_moments_change_nothing(tmp_path, environment, format):
    save_vae(tmp_path / "vae.safetensors")
    photos = write_tree(tmp_path / "photos", count=300, shape=(64, 64, 3))

    def encode(name):
        more = ("--format", format, "--image-size", 64, "--kind", "sample")
        typed = flags(photos, tmp_path / "vae.safetensors", tmp_path / name, *more)
        return start(environment, "skipdit_jax.cli.encode", *typed)

    finish(encode("whole"))
    chance, dead = random.Random(format), 0
    for _ in range(12):
        process = encode("broken")
        process.stdout.readline()  # everything is loaded
        time.sleep(chance.uniform(0, 1.5))
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=DEADLINE)
        dead += process.returncode == -signal.SIGKILL
    assert dead
    finish(encode("broken"))
    assert contents(tmp_path / "broken") == contents(tmp_path / "whole")
