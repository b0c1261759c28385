"""How examples are numbered, batched, rounded and written, without any autoencoder."""

import numpy as np
import pytest

from skipdit_jax.data.config import DataConfig
from skipdit_jax.data.encoding import FullBatches, ShardPlan, as_stored, describe_shards
from skipdit_jax.data.latent_files import (
    FORMATS,
    Manifest,
    read_manifest,
    shard_name,
    write_latents,
    write_manifest,
    write_shard,
)
from skipdit_jax.data.latents import find_damage, shard_labels
from skipdit_jax.data.open import open_once
from skipdit_jax.data.sources import ANY_CLASS, BROKEN
from tests.data.videos import SPAN, number_of

SHAPE = (2, 3, 1)


def plan(pictures=7, mirrored=False, shard_size=4, batch_size=2):
    return ShardPlan(
        pictures=pictures, mirrored=mirrored, shard_size=shard_size, batch_size=batch_size
    )


def columns(count):
    rng = np.random.default_rng(count)
    mean, logvar = rng.normal(size=(2, count, *SHAPE)).astype(np.float16)
    return {"mean": mean, "logvar": logvar, "label": np.arange(count, dtype=np.int32)}


def manifest(format):
    return Manifest(format=format, arrays=("mean", "logvar"), shape=SHAPE, dtype="float16")


class Levels:
    """Pictures whose left pixel tells their number."""

    def __len__(self):
        return 7

    def __getitem__(self, index):
        image = np.zeros(SHAPE, np.uint8)
        image[:, 0] = 51 * index
        return {"image": image, "label": np.int32(index), BROKEN: ()}


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("sizes", [(7, 4, 2), (1, 8, 4), (12, 6, 4)])
def test_every_example_is_in_one_batch_of_one_shard(mirrored, sizes):
    pictures, shard_size, batch_size = sizes
    made = plan(pictures, mirrored, shard_size, batch_size)
    pieces = [piece for shard in range(made.shards) for piece in made.pieces(shard)]
    numbers = [number for piece in pieces for number in piece.numbers]
    assert numbers == list(range(pictures * (2 if mirrored else 1)))
    for piece in pieces:
        assert 0 < len(piece.numbers) <= batch_size
        assert {number // shard_size for number in piece.numbers} == {piece.shard}


def test_short_batches_are_filled_up_and_mirror_images_follow():
    made = plan(pictures=3, mirrored=True, shard_size=8, batch_size=4)
    batches = FullBatches(Levels(), made, made.pieces(0))
    assert len(batches) == 2
    assert batches[0]["image"].shape == (4, *SHAPE)
    assert batches[1]["label"].tolist() == [2, 2, 2, 2]
    plain, mirror = batches[0]["image"][2:]
    np.testing.assert_array_equal(plain[0, :, 0], np.float32([-0.6, -1, -1]))
    np.testing.assert_array_equal(mirror, plain[:, ::-1])


@pytest.mark.parametrize("field", ["shard_size", "batch_size"])
def test_odd_sizes_and_mirror_images_do_not_go_together(field):
    with pytest.raises(ValueError, match=f"{field}: found 3, wanted an even number"):
        plan(mirrored=True, **{field: 3})
    with pytest.raises(ValueError, match=f"{field}: found 0, wanted 1 or more"):
        plan(**{field: 0})


@pytest.mark.parametrize(
    ("worst", "dtype"), [(1e5, "float16"), (np.nan, "float32"), (-np.inf, "float32")]
)
def test_numbers_that_cannot_be_stored_name_their_example(worst, dtype):
    numbers = np.zeros((3, *SHAPE), np.float32)
    numbers[1, 0, 0, 0] = worst
    with pytest.raises(ValueError, match=r"example 9 \(picture 4, mirrored\): mean goes up to"):
        as_stored({"mean": numbers}, dtype, plan(mirrored=True), first=8)
    numbers[1] = 6e4
    assert as_stored({"mean": numbers}, dtype, plan(), first=8)["mean"].dtype == dtype


@pytest.mark.parametrize("format", FORMATS)
def test_the_same_shard_has_the_same_bytes(tmp_path, format):
    for name in "ab":
        write_shard(tmp_path / name, columns(300), manifest(format))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    labels = shard_labels(tmp_path / "a", manifest(format))
    assert labels.tolist() == list(range(300))


@pytest.mark.parametrize("format", FORMATS)
def test_a_disk_that_takes_no_file_is_an_error_of_the_system(tmp_path, format):
    with pytest.raises(OSError, match="No such file or directory"):
        write_shard(tmp_path / "gone" / "a", columns(1), manifest(format))


@pytest.mark.parametrize("format", FORMATS)
def test_a_manifest_tells_what_the_shards_hold(tmp_path, format):
    made = plan(pictures=6)
    names = [shard_name(number, format) for number in range(2)]
    write_shard(tmp_path / names[0], columns(4), manifest(format))
    with pytest.raises(ValueError, match=f"1 shards are missing, first {names[1]}"):
        describe_shards(tmp_path, made, manifest(format))
    write_shard(tmp_path / names[1], columns(3), manifest(format))
    with pytest.raises(ValueError, match=f"{names[1]}: holds 3 examples, wanted 2"):
        describe_shards(tmp_path, made, manifest(format))
    write_shard(tmp_path / names[1], columns(2), manifest(format))
    full = describe_shards(tmp_path, made, manifest(format), encoding={"seed": 3})
    assert (full.max_label, full.encoding) == (3, {"seed": 3})
    assert full.shards == dict(zip(names, (4, 2), strict=True))
    write_manifest(tmp_path, full)
    assert read_manifest(tmp_path) == full
    assert find_damage(tmp_path) == []
    (tmp_path / names[1]).write_bytes(b"short")
    (damage,) = find_damage(tmp_path)
    assert damage.startswith(f"{names[1]} has SHA-256")


def test_write_latents_gives_checksums_too(tmp_path):
    examples = [{"sample": np.zeros(SHAPE, np.float16), "label": 1}] * 3
    made = write_latents(tmp_path / "set", examples, shard_size=2)
    assert set(made.checksums) == set(made.shards)
    assert find_damage(tmp_path / "set") == []
    write_manifest(tmp_path / "set", Manifest(**{**vars(made), "checksums": {}}))
    with pytest.raises(ValueError, match="no checksum for each shard"):
        find_damage(tmp_path / "set")


def test_clips_begin_where_seed_and_number_say(tree):
    def starts(seed, order):
        config = DataConfig(name="videos", path=str(tree))
        clips = open_once(config, sample_shape=(3, 16, 16, 3), num_classes=ANY_CLASS, seed=seed)
        found = {index: number_of(clips[index]["image"][0]) - 12 * index for index in order}
        return [found[index] for index in range(len(clips))]

    drawn = {seed: starts(seed, range(4)) for seed in range(8)}
    assert starts(3, [2, 0, 3, 1]) == drawn[3]
    assert {start for some in drawn.values() for start in some} == set(range(SPAN - 2))
