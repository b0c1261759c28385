"""Files of torch.save, real ones and forged ones, read without torch."""

import re
import zipfile

import ml_dtypes
import numpy as np
import pytest

from skipdit_jax.checkpoints.errors import CheckpointError
from skipdit_jax.checkpoints.torch_files import read_torch_file
from skipdit_jax.weights import open_known
from tests.checkpoints.subprocesses import in_subprocess
from tests.checkpoints.torch_makers import (
    dictionary,
    plain,
    state,
    storage,
    tensor,
    write_legacy,
    write_zip,
)

NUMBERS = np.arange(24, dtype=np.float32)
ONE = dictionary({"weight": tensor("0", (24,))})


def tensors(file):
    return {key: file.handle(record).read() for key, record in file.content.items()}


def refused(path):
    with pytest.raises(CheckpointError) as caught:
        read_torch_file(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert "TypeCheckError" not in message  # a slip of ours, not of the file
    return message.removeprefix(str(path))


def same_bits(got, want):
    return got.dtype == want.dtype and got.shape == want.shape and got.tobytes() == want.tobytes()


def test_both_formats_give_the_same_arrays(tmp_path):
    arrays = {"a": NUMBERS.reshape(4, 6), "b": np.float16([[1.5]]), "c": np.int64([-(2**62)])}
    items, members = state(arrays)
    newer = write_zip(tmp_path / "newer.pt", items, members)
    older = write_legacy(tmp_path / "older.pt", items, list(enumerate_arrays(arrays)))
    for path in (newer, older):
        read = tensors(read_torch_file(path))
        assert read.keys() == arrays.keys()
        assert all(same_bits(read[key], arrays[key]) for key in arrays)


def enumerate_arrays(arrays):
    return ((str(number), array) for number, array in enumerate(arrays.values()))


VIEWS = {
    "whole": ((24,), (1,), 0, NUMBERS),
    "transposed": ((6, 4), (1, 6), 0, NUMBERS.reshape(4, 6).T),
    "window": ((2, 3), (6, 1), 7, NUMBERS.reshape(4, 6)[1:3, 1:4]),
    "every third": ((8,), (3,), 0, NUMBERS[::3]),
    "a number": ((), (), 23, NUMBERS[23]),
    "repeated row": ((3, 6), (0, 1), 6, np.tile(NUMBERS[6:12], (3, 1))),
    "nothing": ((0, 5), (5, 1), 0, np.empty((0, 5), np.float32)),
    "axes of one": ((1, 24, 1), (99, 1, 99), 0, NUMBERS[None, :, None]),
}


def test_views_of_one_storage(tmp_path):
    items = {k: tensor("0", s, st, o, 24) for k, (s, st, o, _) in VIEWS.items()}
    path = write_zip(tmp_path / "views.pt", dictionary(items), [("0", NUMBERS.tobytes())])
    read = tensors(read_torch_file(path))
    for key, (shape, _, _, want) in VIEWS.items():
        assert read[key].shape == shape
        np.testing.assert_array_equal(read[key], want, err_msg=key)


def test_only_the_wanted_stretch_of_a_storage_is_read(tmp_path):
    items = dictionary({"row": tensor("0", (6,), offset=6, numel=24)})
    path = write_zip(tmp_path / "row.pt", items, [("0", NUMBERS.tobytes())])
    file = read_torch_file(path)
    row = file.handle(file.content["row"]).read()
    assert row.base.nbytes == row.nbytes == 24


@pytest.mark.golden("ckpt")
def test_recorded_files_of_one_state_hold_the_same_bits(golden):
    files = {
        kind: tensors(read_torch_file(golden / f"bare_skip{kind}.pt"))
        for kind in ("", "_legacy_format", "_shared_storage")
    }
    for kind in ("_legacy_format", "_shared_storage"):
        assert files[kind].keys() == files[""].keys()
        assert all(same_bits(files[kind][key], files[""][key]) for key in files[""]), kind


@pytest.mark.golden("ckpt")
def test_recorded_half_precision_files_are_the_rounded_weights(golden):
    full = tensors(read_torch_file(golden / "bare_skip.pt"))
    for kind, dtype in (("fp16", np.float16), ("bf16", ml_dtypes.bfloat16)):
        half = tensors(read_torch_file(golden / f"bare_skip_{kind}.pt"))
        assert all(same_bits(half[key], full[key].astype(dtype)) for key in full), kind


@pytest.mark.golden("ckpt")
def test_recorded_arguments_are_inert_data(golden):
    content = read_torch_file(golden / "train_full.pt").content
    assert set(content) == {"model", "ema", "opt", "args"}
    assert content["args"].name == "argparse.Namespace"
    assert content["args"].fields["num_workers"] == 4
    assert content["opt"]["param_groups"][0]["betas"] == (0.9, 0.999)


@pytest.mark.golden("ckpt")
def test_recorded_files_are_read_as_torch_reads_them(golden):
    torch = pytest.importorskip("torch", reason="torch is not installed: nothing to compare with")
    torch.serialization.add_safe_globals([__import__("argparse").Namespace])
    paths = sorted(golden.glob("*.pt"))
    assert paths
    for path in paths:
        compare_with_torch(torch, read_torch_file(path), torch.load(path, weights_only=True))


def compare_with_torch(torch, file, loaded):
    def walk(ours, theirs, place):
        if isinstance(theirs, torch.Tensor):
            read = file.handle(ours).read()
            bits = theirs.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
            assert read.tobytes() == bits, place
            assert read.shape == tuple(theirs.shape), place
            assert str(read.dtype) == str(theirs.dtype).removeprefix("torch."), place
        elif isinstance(theirs, dict):
            assert list(ours) == list(theirs), place
            for key, value in theirs.items():
                walk(ours[key], value, f"{place}.{key}")
        elif isinstance(theirs, list | tuple):
            for number, value in enumerate(theirs):
                walk(ours[number], value, f"{place}[{number}]")
        elif hasattr(theirs, "__dict__"):
            assert ours.fields == vars(theirs), place
        else:
            assert ours == theirs, place

    walk(file.content, loaded, file.path.name)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_every_type_and_view_is_read_as_torch_reads_it(tmp_path, zipped):
    torch = pytest.importorskip("torch", reason="torch is not installed: nothing to write with")
    kinds = (
        "float32",
        "float16",
        "bfloat16",
        "float64",
        "int64",
        "int32",
        "int16",
        "int8",
        "uint8",
        "bool",
    )
    generator = torch.Generator().manual_seed(0)
    numbers = torch.randint(0, 100, (4, 6), generator=generator)
    content = {kind: numbers.to(getattr(torch, kind)) for kind in kinds}
    base = torch.randn(5, 8, generator=generator)
    content |= {
        "transposed": base.t(),
        "slice": base[1:4, ::2],
        "expanded": base[0].expand(3, 8),
        "parameter": torch.nn.Parameter(base),
        "number": torch.tensor(3.5),
        "empty": torch.empty(0, 4),
        "nested": [{"sizes": base.shape}, (base[2], None)],
    }
    path = tmp_path / "all.pt"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    compare_with_torch(torch, read_torch_file(path), content)
    options = {"dtype": torch.bfloat16, "device": torch.device("cuda:0")}
    torch.save(options, path, _use_new_zipfile_serialization=zipped)
    read = read_torch_file(path).content
    assert read["dtype"].name == "torch.bfloat16"
    assert read["device"].fields == {"where": ("cuda", 0)}


def zip_with_flag(path):
    """A zip whose storage claims to be encrypted: bit 0 of the flags, in both of its headers."""
    data = bytearray(write_zip(path, ONE, [("0", NUMBERS.tobytes())]).read_bytes())
    local = data.rindex(b"PK\x03\x04", 0, data.index(b"archive/data/0"))
    central = data.rindex(b"PK\x01\x02", 0, data.rindex(b"archive/data/0"))
    data[local + 6] |= 1
    data[central + 8] |= 1
    path.write_bytes(data)
    return path


BYTES = NUMBERS.tobytes()
FORGED_ZIPS = {
    "storage missing": (lambda p: write_zip(p, ONE, []), "'0' of its tensors is not in the file"),
    "storage short": (lambda p: write_zip(p, ONE, [("0", BYTES[:-4])]), "92 bytes.*need 96"),
    "storage long": (lambda p: write_zip(p, ONE, [("0", BYTES + b"1234")]), "100 bytes.*need 96"),
    "compressed": (
        lambda p: write_zip(p, ONE, [("0", BYTES)], compression=zipfile.ZIP_DEFLATED),
        "compressed",
    ),
    "encrypted": (zip_with_flag, "encrypted"),
    "big endian": (lambda p: write_zip(p, ONE, [("0", BYTES)], order=b"big"), "byte order"),
    "other zip": (lambda p: write_zip(p, ONE, [], root="a/b"), "not made by torch"),
    "huge": (
        lambda p: write_zip(p, dictionary({"w": tensor("0", (2**40,))}), [("0", BYTES)]),
        "need 4398046511104",
    ),
}


@pytest.mark.parametrize("case", FORGED_ZIPS)
def test_forged_zips_are_refused(tmp_path, case):
    make, reason = FORGED_ZIPS[case]
    assert re.search(reason, refused(make(tmp_path / "forged.pt")))


def test_a_member_that_is_there_twice_is_refused(tmp_path):
    path = tmp_path / "twice.pt"
    with pytest.warns(UserWarning, match="Duplicate"):
        write_zip(path, ONE, [("0", BYTES), ("0", BYTES)])
    assert "twice" in refused(path)


FORGED_LEGACY = {
    "protocol": ({"protocol": 1000}, "protocol 1001"),
    "byte order": ({"little": False}, "byte order"),
    "negative count": ({"counts": [-1]}, "leaves the file"),
    "huge count": ({"counts": [2**62]}, "leaves the file"),
    "small count": ({"counts": [23]}, "92 bytes"),
}


@pytest.mark.parametrize("case", FORGED_LEGACY)
def test_forged_legacy_files_are_refused(tmp_path, case):
    options, reason = FORGED_LEGACY[case]
    path = write_legacy(tmp_path / "forged.pt", ONE, [("0", NUMBERS)], **options)
    assert reason in refused(path)


@pytest.mark.parametrize(
    "members", [[], [("1", NUMBERS)], [("0", NUMBERS), ("0", NUMBERS)]], ids=len
)
def test_legacy_storages_must_be_those_of_the_tensors(tmp_path, members):
    assert "storage" in refused(write_legacy(tmp_path / "forged.pt", ONE, members))


def test_views_of_storages_from_before_torch_0_4_are_refused(tmp_path):
    view = storage("0", 24, view=plain(("1", 0, 12)))
    path = write_legacy(tmp_path / "old.pt", dictionary({"w": view}), [("0", NUMBERS)])
    assert "storage" in refused(path)


def test_missing_files_folders_and_unreadable_ones(tmp_path):
    with pytest.raises(CheckpointError, match="No such file"):
        open_known(tmp_path / "none.pt")
    with pytest.raises(CheckpointError, match="is no file"):
        open_known(tmp_path)


def test_a_file_cut_after_it_was_opened_is_told(tmp_path):
    path = write_zip(tmp_path / "cut.pt", ONE, [("0", BYTES)])
    file = read_torch_file(path)
    handle = file.handle(file.content["weight"])
    path.write_bytes(path.read_bytes()[: handle.start + 8])
    with pytest.raises(CheckpointError, match="ends 88 bytes before"):
        handle.read()


@pytest.mark.golden("ckpt")
def test_damaged_bytes_are_read_or_refused_but_nothing_else(golden, tmp_path):
    outcomes = in_subprocess("tests.checkpoints.fuzz", golden, tmp_path)
    assert set(outcomes) == {"bare_skip", "bare_skip_legacy_format"}
    for kind, counts in outcomes.items():
        assert counts["read"] > 0, kind
        assert counts["refused"] > 0, kind
        assert counts["lines"] == counts["refused"], kind
