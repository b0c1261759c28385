"""A conversion moves every bit to its place, or writes nothing."""

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file

from skipdit_jax import trees
from skipdit_jax.checkpoints import CheckpointError
from skipdit_jax.checkpoints.conversion import choose_layout
from skipdit_jax.weights import open_known
from tests.checkpoints.conversions import (
    FAMILIES,
    SOURCES,
    arrays_of,
    convert,
    held,
    loaded,
    native,
    other_weights,
)
from tests.checkpoints.states import torch_state, write_state, write_wrapped
from tests.checkpoints.test_vae import as_convolutions, renamed

TARGETS = {"x.bin": "torch", "y.safetensors": "torch", "z.safetensors": "native"}
TABLES = ("pos_embed", "temp_embed")


def same(got, want):
    assert got.keys() == want.keys()
    for name, array in want.items():
        found = np.asarray(got[name])
        assert (found.dtype, found.shape) == (array.dtype, array.shape), name
        assert found.tobytes() == np.asarray(array).tobytes(), name
    return True


def told(*args, **options):
    with pytest.raises(CheckpointError) as caught:
        convert(*args, **options)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("layout", SOURCES)
@pytest.mark.parametrize("family", FAMILIES)
def test_there_and_back_keeps_every_bit(tmp_path, family, layout, target):
    arrays = arrays_of(family)
    source = SOURCES[layout](tmp_path, arrays)
    path = tmp_path / "out" / target
    path.parent.mkdir()
    which = layout if layout in ("ema", "model") else None
    convert(source, path, to=TARGETS[target], which=which)
    assert [file.name for file in path.parent.iterdir()] == [target]
    if TARGETS[target] == "torch":
        assert same(held(path), arrays)
    else:
        assert same(trees.flatten(loaded(path)), trees.flatten(loaded(source, which)))
        convert(path, path.with_name("back.pt"))
        assert same(held(path.with_name("back.pt")), arrays)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_native_file_is_that_of_the_way_through_memory(tmp_path, family):
    arrays = arrays_of(family)
    convert(SOURCES["bare"](tmp_path, arrays), tmp_path / "y.safetensors")
    wanted = native(tmp_path / "z.safetensors", arrays)
    assert same(load_file(tmp_path / "y.safetensors"), load_file(wanted))
    ours, theirs = (open_known(tmp_path / name) for name in ("y.safetensors", wanted.name))
    assert list(ours.handles) == list(theirs.handles)
    assert ours.metadata.pop("converted_from") == {"file": "x.pt", "weights": "bare"}
    assert ours.metadata == theirs.metadata


@pytest.mark.golden("ckpt")
@pytest.mark.parametrize("which", ["ema", "model"])
def test_recorded_training_files_are_split_as_torch_would(golden, tmp_path, which):
    torch = pytest.importorskip("torch", reason="torch is not installed: nothing to read with")
    torch.serialization.add_safe_globals([__import__("argparse").Namespace])
    source = golden / "train_full.pt"
    wanted = torch.load(source, weights_only=True)[which]
    conversion = convert(source, tmp_path / "x.safetensors", which=which)
    assert set(conversion.checkpoint.others) == {"model", "ema", "opt", "args"} - {which}
    convert(source, tmp_path / "direct.pt", which=which)
    convert(tmp_path / "x.safetensors", tmp_path / "back.pt")
    direct = torch.load(tmp_path / "direct.pt", weights_only=True)
    assert list(direct) == list(wanted)
    back = torch.load(tmp_path / "back.pt", weights_only=True)
    assert back.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert torch.equal(direct[name].view(torch.int32), tensor.view(torch.int32)), name
        if name not in TABLES:  # the native file does not hold them
            assert torch.equal(back[name].view(torch.int32), tensor.view(torch.int32)), name
        assert torch.allclose(back[name], tensor, rtol=0, atol=1e-6), name


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16])
@pytest.mark.parametrize("family", FAMILIES)
def test_narrow_types_are_rounded_as_numpy_rounds(tmp_path, family, dtype):
    arrays = arrays_of(family)
    wanted = {n: a if n in TABLES else a.astype(dtype) for n, a in arrays.items()}
    source = SOURCES["bare"](tmp_path, arrays)
    convert(source, tmp_path / "y.pt", dtype=dtype)
    assert same(held(tmp_path / "y.pt"), wanted)
    convert(source, tmp_path / "y.safetensors", dtype=dtype)
    assert {array.dtype for array in held(tmp_path / "y.safetensors").values()} == {np.dtype(dtype)}
    convert(tmp_path / "y.safetensors", tmp_path / "back.pt")
    assert same(held(tmp_path / "back.pt"), wanted)
    convert(tmp_path / "y.safetensors", tmp_path / "wide.safetensors", "native", np.float32)
    convert(tmp_path / "wide.safetensors", tmp_path / "wide.pt")
    assert same(held(tmp_path / "wide.pt"), {n: a.astype(np.float32) for n, a in wanted.items()})


@pytest.mark.parametrize("family", ["dit", "latte"])
@pytest.mark.parametrize("dtype", [None, np.float32])
def test_tables_of_half_precision_files_are_kept_as_rounded(tmp_path, family, dtype):
    halves = {name: array.astype(np.float16) for name, array in arrays_of(family).items()}
    source = SOURCES["bare"](tmp_path, halves)
    conversion = convert(source, tmp_path / "y.safetensors", dtype=dtype)
    assert set(conversion.rounded) == set(TABLES) & set(halves)
    assert same(trees.flatten(loaded(tmp_path / "y.safetensors")), trees.flatten(loaded(source)))
    convert(tmp_path / "y.safetensors", tmp_path / "back.pt")
    assert same(
        held(tmp_path / "back.pt"), {n: a.astype(dtype or a.dtype) for n, a in halves.items()}
    )


@pytest.mark.parametrize("older", [renamed, as_convolutions])
@pytest.mark.parametrize("family", ["vae", "vae_temporal"])
def test_older_autoencoders_are_taken_and_not_renamed_on_the_way(tmp_path, family, older):
    arrays = older(arrays_of(family))
    source = SOURCES["bare"](tmp_path, arrays)
    convert(source, tmp_path / "y.bin")
    assert same(held(tmp_path / "y.bin"), arrays)
    convert(source, tmp_path / "y.safetensors")
    convert(tmp_path / "y.safetensors", tmp_path / "new.bin")
    assert same(held(tmp_path / "new.bin"), arrays_of(family))


def test_metadata_goes_from_native_to_native(tmp_path):
    more = {"diffusion": {"schedule": "linear"}, "sampling": {"steps": 50}}
    source = native(tmp_path / "x.safetensors", arrays_of("dit"), **more)
    convert(source, tmp_path / "y.safetensors", to="native", dtype=ml_dtypes.bfloat16)
    conversion = convert(tmp_path / "y.safetensors", tmp_path / "z.safetensors", to="native")
    assert list(conversion.metadata) == [*more, "converted_from"]
    metadata = open_known(tmp_path / "z.safetensors").metadata
    assert {key: metadata[key] for key in more} == more
    first = {"file": "x.safetensors", "weights": "native"}
    assert metadata["converted_from"] == {
        "file": "y.safetensors",
        "weights": "native",
        "converted_from": first,
    }


def test_every_tensor_has_its_row(tmp_path):
    arrays = arrays_of("dit")
    forth = convert(SOURCES["ema"](tmp_path, arrays), tmp_path / "y.safetensors")
    assert {row.name for row in forth.rows} == arrays.keys()
    assert [row.name for row in forth.rows if row.spec is None] == ["pos_embed"]
    assert list(forth.tensors) == list(held(tmp_path / "y.safetensors"))
    back = convert(tmp_path / "y.safetensors", tmp_path / "y.pt")
    assert [row.target for row in back.rows if row.found is None] == ["pos_embed"]
    assert list(back.tensors) == list(held(tmp_path / "y.pt"))
    pairs = {row.name: row.target for row in forth.rows if row.spec is not None}
    assert {row.target: row.name for row in back.rows if row.found is not None} == pairs


LAYOUTS = [
    ("bare", "y.pt", None, "torch"),
    ("bare", "y.pth", "torch", "torch"),
    ("bare", "y.safetensors", None, "native"),
    ("bare", "y.safetensors", "torch", "torch"),
    ("native", "y.bin", None, "torch"),
    ("native", "y.safetensors", None, "torch"),
    ("native", "y.safetensors", "native", "native"),
]


@pytest.mark.parametrize(("source", "target", "asked", "layout"), LAYOUTS)
def test_the_layout_is_the_other_one_unless_told(tmp_path, source, target, asked, layout):
    checkpoint = open_known(SOURCES[source](tmp_path, arrays_of("dit")))
    assert choose_layout(checkpoint, tmp_path / target, asked) == layout


@pytest.fixture
def source(tmp_path):
    return SOURCES["bare"](tmp_path, arrays_of("dit"))


def test_targets_that_make_no_sense_are_refused(tmp_path, source):
    assert "y.ckpt: ends in '.ckpt'" in told(source, tmp_path / "y.ckpt")
    assert "y.pt: a native file ends in .safetensors" in told(source, tmp_path / "y.pt", "native")
    assert "x.pt: is the source itself" in told(source, source)
    (tmp_path / "link.pt").symlink_to(source)
    assert "link.pt: is the source itself" in told(source, tmp_path / "link.pt")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.pt", "x.pt"]


def damaged(**changes):
    return {**torch_state(True), **changes}


BROKEN = {
    "surplus": ({"more": np.ones(1, np.float32)}, "1 surplus: more"),
    "misshapen": (
        {"skip_norms.0.bias": np.ones(3, np.float32)},
        "skip_norms.0.bias has shape (3,)",
    ),
    "whole numbers": ({"skip_norms.0.bias": np.ones(16, np.int64)}, "bias has type int64"),
    "another table": ({"pos_embed": np.zeros((1, 4, 8), np.float32)}, "pos_embed differs by"),
    "NaN": ({"skip_norms.0.bias": np.full(16, np.nan, np.float32)}, "0.bias holds values that are"),
}


@pytest.mark.parametrize("target", ["y.safetensors", "y.pt"])
@pytest.mark.parametrize("case", BROKEN)
def test_what_does_not_fit_is_told_and_the_target_is_as_it_was(tmp_path, case, target):
    changes, words = BROKEN[case]
    source = write_state(tmp_path / "x.pt", damaged(**changes))
    (tmp_path / target).write_bytes(b"old")
    line = told(source, tmp_path / target)
    assert words in line
    assert "x.pt: " in line
    assert (tmp_path / target).read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.pt", target]


@pytest.mark.parametrize("value", [7e4, -7e4])
def test_numbers_beyond_float16_are_told_by_name(tmp_path, value):
    arrays = damaged()
    arrays["blocks.1.mlp.fc1.weight"][3, 2] = value
    source = write_state(tmp_path / "x.pt", arrays)
    line = told(source, tmp_path / "y.safetensors", dtype=np.float16)
    assert "blocks.1.mlp.fc1.weight holds 7e+04, which is too large for float16" in line
    assert [path.name for path in tmp_path.iterdir()] == ["x.pt"]
    convert(source, tmp_path / "y.safetensors", dtype=ml_dtypes.bfloat16)
    assert np.isfinite(held(tmp_path / "y.safetensors")["blocks_1/mlp/fc1/kernel"]).all()


def test_weights_that_are_not_asked_for_are_not_read(tmp_path):
    poison = {n: np.full_like(a, np.nan) for n, a in other_weights(arrays_of("dit")).items()}
    source = write_wrapped(tmp_path / "x.pt", {"model": poison, "ema": arrays_of("dit")})
    convert(source, tmp_path / "y.pt")
    assert same(held(tmp_path / "y.pt"), arrays_of("dit"))


@pytest.mark.parametrize("target", ["y.safetensors", "y.pt"])
def test_an_interrupted_conversion_leaves_the_old_file(tmp_path, source, target):
    path = tmp_path / target
    path.write_bytes(b"old")
    conversion = convert(source, tmp_path / f"first_{target}")
    turns = iter(range(5))

    def interrupted():
        if next(turns) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        conversion.write(path, interrupted)
    assert path.read_bytes() == b"old"
    assert not [file for file in tmp_path.iterdir() if file.name.endswith(".tmp")]


def test_a_source_that_shrinks_meanwhile_is_told(tmp_path, source):
    conversion = convert(source, tmp_path / "y.safetensors")
    source.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    with pytest.raises(CheckpointError, match=r"x\.pt: ends \d+ bytes before its tensors do"):
        conversion.write(tmp_path / "z.safetensors")
    assert not (tmp_path / "z.safetensors").exists()
