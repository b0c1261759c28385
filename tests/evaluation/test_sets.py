"""Sets of samples: what is in them, in which order, from any sample on, and what is refused."""

import os

import numpy as np
import pytest
from PIL import Image

from skipdit_jax.data.images import centre_crop
from skipdit_jax.data.sources import ArraySource, DataError
from skipdit_jax.evaluation.sets import (
    FirstOf,
    FolderSet,
    HeldSet,
    PackedSet,
    SetToCome,
)
from skipdit_jax.runs.sample_sets import SourceSet
from tests.data.pictures import cut_short
from tests.evaluation.edges import pictures


def write(folder, *names, shape=(6, 5, 3), seed=0):
    """Pictures of these names; their levels in order."""
    levels = pictures(len(names), seed, shape)
    for name, one in zip(names, levels, strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(one.squeeze()).save(folder / name)
    return levels


def all_of(samples, start=0, size=2):
    return np.concatenate([np.zeros((0, *samples.shape), np.uint8), *samples.chunks(start, size)])


def packed(path, array, save=np.savez):
    save(path, arr_0=array)
    return path


def sets(root):
    """One set of every kind, with what is in it."""
    colour, clips = pictures(7), pictures(5, shape=(3, 4, 6, 3))
    grey = pictures(6, shape=(8, 8, 1))
    yield "held", HeldSet("held", colour), colour
    yield "colour", PackedSet(packed(root / "colour.npz", colour)), colour
    yield "grey", PackedSet(packed(root / "grey.npz", grey)), grey
    yield "clips", PackedSet(packed(root / "clips.npz", clips)), clips
    small = packed(root / "small.npz", colour, np.savez_compressed)
    yield "compressed", PackedSet(small), colour
    shown = write(root / "x", *[f"{n}.png" for n in range(7)])
    yield "folder", FolderSet(root / "x"), shown
    source = ArraySource(grey, np.zeros(6, np.int32))
    yield "source", SourceSet("source", source, (8, 8, 1), "known"), grey
    yield "first", FirstOf(HeldSet("held", colour), 5), colour[:5]


KINDS = ("held", "colour", "grey", "clips", "compressed", "folder", "source", "first")


@pytest.mark.parametrize("kind", KINDS)
def test_samples_come_whole_and_in_order_from_any_on(tmp_path, kind):
    [(samples, wanted)] = [(one, levels) for name, one, levels in sets(tmp_path) if name == kind]
    assert len(samples) == len(wanted)
    assert samples.shape == wanted.shape[1:]
    for size in (1, 2, 3, 100):
        for start in (0, 1, 4, len(wanted)):
            chunks = list(samples.chunks(start, size))
            assert all(len(chunk) == size for chunk in chunks[:-1])
            assert all(chunk.dtype == np.uint8 for chunk in chunks)
            np.testing.assert_array_equal(all_of(samples, start, size), wanted[start:])


def test_a_folder_is_read_with_all_below_it_by_the_bytes_of_names(tmp_path):
    names = ["B.png", "a/2.png", "a/10.png", "a/b/c.jpeg", "b.PNG", "é.png", "z.bmp"]
    levels = write(tmp_path, *names)
    found = all_of(FolderSet(tmp_path))
    order = sorted(range(len(names)), key=lambda n: os.fsencode(names[n]))
    assert [names[n] for n in order][:3] == ["B.png", "a/10.png", "a/2.png"]
    assert len(found) == len(names)
    for row, n in enumerate(order):
        if not names[n].endswith(".jpeg"):
            np.testing.assert_array_equal(found[row], levels[n])


def test_what_begins_with_a_dot_and_what_is_no_picture_is_not_there(tmp_path):
    levels = write(tmp_path, "a.png", ".b.png", ".hidden/c.png", "d/.e.png")
    (tmp_path / "run.json").write_text("{}")
    np.testing.assert_array_equal(all_of(FolderSet(tmp_path)), levels[:1])


def test_links_are_followed_and_circles_end(tmp_path):
    levels = write(tmp_path, "set/a.png", "store/b.png")
    os.symlink(tmp_path / "store", tmp_path / "set" / "more")
    os.symlink(tmp_path / "set", tmp_path / "set" / "up")
    np.testing.assert_array_equal(all_of(FolderSet(tmp_path / "set")), levels)


def test_pictures_of_any_colours_become_three_channels(tmp_path):
    grey = write(tmp_path, "a.png", shape=(6, 5, 1))
    np.testing.assert_array_equal(all_of(FolderSet(tmp_path)), np.repeat(grey, 3, axis=-1))


def test_sizes_that_differ_are_told_with_the_remedy(tmp_path):
    write(tmp_path, "a.png", "b.png")
    write(tmp_path, "c.png", shape=(6, 7, 3))
    samples = FolderSet(tmp_path)
    with pytest.raises(ValueError, match=r"c\.png: found 7x6 pixels, wanted 5x6 as a") as caught:
        all_of(samples)
    assert "--image-size" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_size_is_cut_as_training_does(tmp_path):
    write(tmp_path, "a.png", shape=(40, 30, 3))
    write(tmp_path, "b.png", shape=(9, 12, 3))
    found = FolderSet(tmp_path, 8)
    assert found.shape == (8, 8, 3)
    for row, name in zip(all_of(found), ("a.png", "b.png"), strict=True):
        with Image.open(tmp_path / name) as image:
            np.testing.assert_array_equal(row, np.asarray(centre_crop(image, (8, 8))))


def test_broken_pictures_are_told_by_name(tmp_path):
    write(tmp_path, "a.png", "b.png", shape=(40, 40, 3))
    cut_short(tmp_path / "b.png")
    with pytest.raises(DataError, match=r"b\.png: "):
        all_of(FolderSet(tmp_path))
    (tmp_path / "b.png").write_text("no picture")
    with pytest.raises(DataError, match=r"b\.png: ") as caught:
        all_of(FolderSet(tmp_path))
    assert "\n" not in str(caught.value)
    assert "0x" not in str(caught.value)  # of an object's address


def test_folders_without_pictures_are_told(tmp_path):
    with pytest.raises(ValueError, match=r"found no pictures, wanted at least one"):
        FolderSet(tmp_path)
    (tmp_path / "a.txt").touch()
    with pytest.raises(ValueError, match=r"found no pictures but 1 \.txt"):
        FolderSet(tmp_path)
    with pytest.raises(OSError, match="none"):
        FolderSet(tmp_path / "none")


def test_a_picture_too_large_to_be_honest_is_told(tmp_path, monkeypatch):
    write(tmp_path, "a.png", shape=(40, 40, 3))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(DataError, match=r"a\.png: "):
        FolderSet(tmp_path)


def fingerprints(*samples):
    return len({one.fingerprint for one in samples})


def test_other_samples_have_another_fingerprint(tmp_path):
    for name, seed in (("a", 0), ("b", 1)):  # without compression all files are of one size
        write(tmp_path / name, *[f"{n:03d}.bmp" for n in range(70)], seed=seed)
    first, second = (FolderSet(tmp_path / name) for name in "ab")
    assert fingerprints(first, second, FolderSet(tmp_path / "a", 4), FirstOf(first, 3)) == 4
    assert fingerprints(first, FolderSet(tmp_path / "a")) == 1
    changed = tmp_path / "a" / "001.bmp"  # one that a look at some of them would miss
    changed.write_bytes((tmp_path / "b" / "001.bmp").read_bytes())
    os.utime(changed, ns=(1, 1))
    assert fingerprints(first, FolderSet(tmp_path / "a")) == 2


def test_the_same_bytes_of_another_shape_are_other_samples():
    levels = pictures(4, shape=(8, 2, 3))
    assert fingerprints(HeldSet("a", levels), HeldSet("b", levels.reshape(4, 2, 8, 3))) == 2
    assert fingerprints(HeldSet("a", levels), HeldSet("b", levels.copy())) == 1


def test_a_file_that_was_written_anew_is_another_set(tmp_path):
    path = packed(tmp_path / "a.npz", pictures(3))
    before = PackedSet(path)
    packed(path, pictures(3, seed=1))
    os.utime(path, ns=(1, 1))
    assert fingerprints(before, PackedSet(path)) == 2


def test_the_first_of_a_set_are_read_no_further():
    seen = []

    class Watched(HeldSet):
        def chunks(self, start, size):
            for chunk in super().chunks(start, size):
                seen.append(len(chunk))
                yield chunk

    samples = FirstOf(Watched("all", pictures(9)), 4)
    assert len(all_of(samples, 0, 2)) == 4
    assert seen == [2, 2]
    with pytest.raises(ValueError, match="all: found 9 samples, wanted 10"):
        FirstOf(Watched("all", pictures(9)), 10)


def test_levels_of_sets_in_memory_are_those_that_were_stored():
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    scaled = levels.astype(np.float32) / 127.5 - 1
    source = ArraySource(scaled, np.zeros(1, np.int32))
    np.testing.assert_array_equal(all_of(SourceSet("x", source, (16, 16, 1), "")), levels)


@pytest.mark.parametrize(
    "samples", [np.zeros((2, 3, 3), np.uint8), np.zeros((2, 3, 3, 3)), np.zeros(3, np.uint8)]
)
def test_arrays_that_are_no_pictures_are_refused(samples):
    with pytest.raises(ValueError, match=r"mine: found .* wanted uint8 \[N,H,W,C\]"):
        HeldSet("mine", samples)


def test_samples_to_come_cannot_be_read_yet():
    to_come = SetToCome("later", 4, (8, 8, 3))
    assert (len(to_come), to_come.shape) == (4, (8, 8, 3))
    with pytest.raises(ValueError, match="later: found no samples yet"):
        all_of(to_come)
