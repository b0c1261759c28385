"""Pictures of .npz files come in batches and unharmed, and no file does harm."""

import io
import zipfile

import numpy as np
import pytest

from skipdit_jax.evaluation import archives
from skipdit_jax.evaluation.packed_pictures import picture_batches, picture_shape

PICTURES = np.random.default_rng(0).integers(0, 256, (7, 4, 5, 3), np.uint8)


def write(path, save=np.savez, **arrays):
    save(path, **arrays)
    return path


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("batch", [1, 3, 7, 100])
def test_batches(tmp_path, save, batch):
    path = write(tmp_path / "a.npz", save, arr_0=PICTURES, arr_1=np.zeros(7))
    assert picture_shape(path) == PICTURES.shape
    found = list(picture_batches(path, batch))
    assert [len(part) for part in found[:-1]] == [batch] * (len(found) - 1)
    np.testing.assert_array_equal(np.concatenate(found), PICTURES)


def member(content, name="arr_0.npy", method=zipfile.ZIP_DEFLATED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr(name, content)
    return file.getvalue()


def claiming(shape, content=b"", dtype="|u1"):
    """An array whose header says this shape, with this content."""
    file = io.BytesIO()
    header = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_2_0(file, header)
    return member(file.getvalue() + content)


def saved(*arrays, **named):
    file = io.BytesIO()
    np.savez(file, *arrays, **named)
    return file.getvalue()


REFUSED = {
    "empty": (b"", "not a zip file"),
    "no archive": (b"mu = 3\n" * 99, "not a zip file"),
    "cut": (saved(PICTURES)[:-200], "not a zip file"),
    "another name": (saved(x=PICTURES), "no array arr_0, it has x"),
    "no member": (member(b"", name="readme.txt"), "it has none"),
    "objects": (saved(np.array([{}, None], object)), "found Python objects"),
    "floats": (saved(PICTURES / 255), "found float64"),
    "two channels": (saved(PICTURES[..., :2]), r"wanted pictures uint8 \(N, H, W, 1 or 3\)"),
    "no channels": (saved(PICTURES[..., 0]), r"wanted pictures uint8 \(N, H, W, 1 or 3\)"),
    "no pictures": (saved(PICTURES[:0]), "wanted pictures"),
    "order of Fortran": (saved(np.asfortranarray(PICTURES)), "wanted pictures"),
    "fewer bytes": (claiming((9, 4, 5, 3), b"0" * 100), "ends within a picture"),
    "more bytes": (claiming((1, 4, 5, 3), b"0" * 100), "found more bytes"),
    "wide": (claiming((1, 1, 10**9, 3)), "wanted sides of 4096 at most"),
    "more than memory": (claiming((10**9, 4096, 4096, 3)), "found batches of"),
    "beyond 64 bits": (claiming((10**30, 4096, 4096, 3)), "found batches of"),
    "negative": (claiming((-1, 4, 5, 3)), "wanted sizes of 0 or more"),
    "no header": (member(b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 70_000), "[Hh]eader"),
    "version 9": (member(b"\x93NUMPY\x09\x00" + bytes(99)), "npy version"),
    "nested": (member(b"\x93NUMPY\x01\x00\x10\x27" + b"[" * 10_000), "[Hh]eader|nested"),
    "evil name": (member(b"", name="\x1b[2J\n.npy"), r"it has \\x1b\[2J"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(tmp_path, case):
    content, reason = REFUSED[case]
    path = tmp_path / "hostile.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=reason) as caught:
        list(picture_batches(path, 256))
    assert str(caught.value).startswith(f"{path}: ")
    assert str(caught.value).isprintable()


def test_no_file(tmp_path):
    with pytest.raises(ValueError, match=r"none\.npz: No such file"):
        picture_shape(tmp_path / "none.npz")
    with pytest.raises(ValueError, match="Is a directory"):
        picture_shape(tmp_path)
    with pytest.raises(ValueError, match="found batch 0"):
        next(picture_batches(tmp_path, 0))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_any_damaged_byte_gives_the_pictures_or_one_line(tmp_path, save):
    path = write(tmp_path / "a.npz", save, arr_0=PICTURES)
    intact, rng = bytearray(path.read_bytes()), np.random.default_rng(1)
    for place in rng.choice(len(intact), 300):
        broken = bytearray(intact)
        broken[place] ^= 1 << rng.integers(8)
        path.write_bytes(broken)
        try:
            found = np.concatenate(list(picture_batches(path, 3)))
        except ValueError as error:
            assert str(error).isprintable()  # noqa: PT017
        else:
            np.testing.assert_array_equal(found, PICTURES)


def test_a_large_array_is_not_read_for_a_small_one(tmp_path):
    path = write(tmp_path / "a.npz", mu=np.zeros(100, np.float32), raw=np.zeros(9, np.uint8))
    with archives.reading(path) as archive:
        assert archives.small_array(archive, "mu", 100).dtype == np.float64
        assert archives.small_array(archive, "raw", 9, bytes_=True).dtype == np.uint8
        with pytest.raises(ValueError, match=r"mu: found shape \(100,\), wanted 99 numbers"):
            archives.small_array(archive, "mu", 99)
        with pytest.raises(ValueError, match="raw: found uint8, wanted floats"):
            archives.small_array(archive, "raw", 9)
        with pytest.raises(ValueError, match="mu: found float32, wanted uint8"):
            archives.small_array(archive, "mu", 100, bytes_=True)
