"""The encode tool as two processes, and with four devices: the folder that one of each makes."""

import numpy as np
import pytest

from tests.cli.encode_kit import contents, examples, flags, save_vae
from tests.data.pictures import write_tree
from tests.distributed.processes import finish, free_port, start

ROUNDING = 1e-5  # of a part of a batch


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Folders of one process, of two, and of one with four devices; what the two printed."""
    root = tmp_path_factory.mktemp("encode")
    vae, photos = save_vae(root / "vae.safetensors"), write_tree(root / "photos")

    def encode(name, *more, devices=1):
        typed = flags(photos, vae, root / name, "--dtype", "float32", "--kind", "sample", *more)
        return start("-m", "skipdit_jax.cli.encode", *typed, devices=devices)

    cluster = [f"--coordinator=localhost:{free_port()}", "--num-processes=2"]
    finish([encode("one"), encode("wide", devices=4)])
    printed = finish([encode("two", *cluster, f"--process-id={n}") for n in range(2)])
    return root, printed


def test_two_processes_write_the_bytes_of_one(folders):
    root, _ = folders
    assert contents(root / "two") == contents(root / "one")


def test_only_the_first_process_prints(folders):
    _, (first, second) = folders
    assert "written  10 examples" in first
    assert not {"source", "written", "train"} & set(second.split())


def test_four_devices_give_the_numbers_of_one(folders):
    root, _ = folders
    one, wide = examples(root / "one"), examples(root / "wide")
    np.testing.assert_allclose(wide["sample"], one["sample"], atol=ROUNDING)
    np.testing.assert_array_equal(wide["label"], one["label"])
