"""sample.py in this process, on small models: what is written, printed and promised."""

import numpy as np
import pytest
from PIL import Image

from skipdit_jax.cli import many, sample
from skipdit_jax.cli.build import prepare_sampling
from skipdit_jax.cli.options import parse
from skipdit_jax.cli.runner import Result
from skipdit_jax.cli.sample import main
from skipdit_jax.visualise.grids import CELL, MARGIN
from tests.cli import makers


def run(*flags):
    assert main([str(flag) for flag in flags]) == 0


def arrays(path):
    with np.load(path) as file:
        return dict(file)


def distance(a, b):
    return np.abs(a.astype(int) - b.astype(int)).max()


def test_the_checkpoint_decides_what_was_not_typed(small, own_folder, capsys):
    run("--ckpt", small, "--npz", "a.npz", "--batch-size", 5)  # the program of `reference`
    found = arrays("a.npz")
    assert found["arr_0"].dtype == np.uint8
    assert found["arr_0"].shape == (20, 4, 4, 1)
    assert found["labels"].tolist() == [*range(10), *range(10)]
    assert sorted(p.name for p in own_folder.iterdir()) == ["a.npz", "samples.png"]
    with Image.open("samples.png") as image:
        assert image.format == "PNG"
        assert image.size == (MARGIN + 10 * (CELL + MARGIN), MARGIN + 2 * (CELL + MARGIN))
        shown = np.asarray(image)
    centres = slice(MARGIN + CELL // 8, None, CELL // 4)  # of the pixels of the first cell
    np.testing.assert_array_equal(shown[centres, centres][:4, :4], found["arr_0"][0, :, :, 0])
    told = capsys.readouterr()
    assert told.err == ""
    for words in ("small.safetensors", "steps 8", "N3-1000-20 at branch 1", "guidance 2"):
        assert words in told.out
    for words in ("3 steps computed, 5 reused", "% saved", "s to compile", "images/s", "written"):
        assert words in told.out


@pytest.fixture(scope="module")
def reference(small, tmp_path_factory):
    path = tmp_path_factory.mktemp("reference") / "a.npz"
    out = path.with_suffix(".png")
    run("--ckpt", small, "--class-labels", "1,2", 3, "9,0", "--npz", path, "--out", out)
    return arrays(path)


def test_labels_come_by_spaces_and_commas(reference):
    assert reference["labels"].tolist() == [1, 2, 3, 9, 0]


def test_a_sample_does_not_depend_on_its_batch(small, reference, capsys):
    labels = ("--class-labels", 1, 2, 3, 9, 0)
    run("--ckpt", small, *labels, "--npz", "b.npz", "--batch-size", 2, "--progress")
    found = arrays("b.npz")
    assert found["labels"].tolist() == reference["labels"].tolist()
    assert distance(found["arr_0"], reference["arr_0"]) <= 1  # of 255: float32 rounding
    calls = makers.STEPS * 3  # batches: 2, 2 and 1 filled up
    assert f"{calls}/{calls}" in capsys.readouterr().err, "the bar did not count every step"


def test_another_seed_gives_other_samples(small, reference):
    run("--ckpt", small, "--class-labels", 1, 2, 3, 9, 0, "--npz", "b.npz", "--seed", 1)
    assert distance(arrays("b.npz")["arr_0"], reference["arr_0"]) > 25


@pytest.fixture
def drawn(monkeypatch):
    """Replaces sampling by zeros, where only what happens to them matters."""

    def draw(job, _progress):
        shape = (job.count, *job.model.config.sample_shape)
        return Result(np.zeros(shape, np.float32), compile_seconds=1.0, run_seconds=2.0)

    monkeypatch.setattr(sample, "run", draw)


@pytest.mark.usefixtures("drawn")
@pytest.mark.parametrize(
    ("flags", "name"), [([], "samples.npz"), (["--out", "a.png"], "a.npz"), (["--npz", "b"], "b")]
)
def test_latents_are_written_as_they_are_with_a_note(
    plain_latents, own_folder, capsys, flags, name
):
    run("--ckpt", plain_latents, "--class-labels", 5, *flags)
    assert [p.name for p in own_folder.iterdir()] == [name]
    found = arrays(name)
    assert sorted(found) == ["labels", "latents"]
    assert found["latents"].dtype == np.float32
    assert found["latents"].shape == (1, 4, 4, 4)
    assert "these are latents" in capsys.readouterr().out


@pytest.mark.usefixtures("drawn")
@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.png", "PNG"), ("a.jpg", "JPEG"), ("a.JPEG", "JPEG"), ("a.webp", "WEBP")],
)
def test_a_picture_is_of_the_kind_that_its_name_says_in_a_new_folder(small, name, kind):
    run("--ckpt", small, "--out", f"new/deep er/{name}", "--npz", "arrays/a.npz")
    with Image.open(f"new/deep er/{name}") as image:
        assert image.format == kind
        shown = np.asarray(image.convert("L")).astype(int)
    assert abs(shown[CELL // 2, CELL // 2] - 128) < 4  # a zero, and what JPEG makes of it
    assert arrays("arrays/a.npz")["arr_0"].shape == (20, 4, 4, 1)


@pytest.mark.usefixtures("drawn")
def test_without_a_cache_nothing_is_said_of_it(small, capsys):
    run("--ckpt", small, "--cache", "none")
    (cost,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("cost")]
    assert "8 steps computed; " in cost
    assert "faster" not in cost


@pytest.mark.usefixtures("drawn")
def test_names_of_any_bytes_are_written_and_told(small, own_folder, capsys):
    run("--ckpt", small, "--out", "n\udcff.png")
    assert [path.name for path in own_folder.iterdir()] == ["n\udcff.png"]
    assert "n\\udcff.png" in capsys.readouterr().out


@pytest.mark.usefixtures("drawn")
def test_an_unconditional_model_needs_no_labels(tmp_path):
    path = makers.save_small(tmp_path / "u.safetensors", num_classes=0)
    run("--ckpt", path, "--num-samples", 3, "--npz", "u.npz")
    found = arrays("u.npz")
    assert sorted(found) == ["arr_0"]
    assert found["arr_0"].shape == (3, 4, 4, 1)
    with Image.open("samples.png") as image:  # 2 columns, 2 rows
        assert image.size == (MARGIN + 2 * (CELL + MARGIN), MARGIN + 2 * (CELL + MARGIN))


def test_samples_that_are_no_numbers_are_told(small, own_folder, monkeypatch, capsys):
    def nothing(_job, _progress):
        return Result(np.full((20, 4, 4, 1), np.nan, np.float32), 1.0, 1.0)

    monkeypatch.setattr(sample, "run", nothing)
    with pytest.raises(SystemExit, match="2"):
        main(["--ckpt", str(small)])
    assert "NaN" in capsys.readouterr().err
    assert not list(own_folder.iterdir())


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_latents_that_are_none_are_told(plain_latents, own_folder, monkeypatch, capsys, number):
    """As they are for pictures: with --out and among many samples."""

    def nothing(_job, _progress):
        return Result(np.full((10, 4, 4, 4), number, np.float32), 1.0, 1.0)

    monkeypatch.setattr(sample, "run", nothing)
    with pytest.raises(SystemExit, match="2"):
        main(["--ckpt", str(plain_latents), "--out", "z.npz"])
    assert "error: samples: some values are NaN or infinite" in capsys.readouterr().err
    flags = ["--ckpt", str(plain_latents), "--num-fid-samples", "2", "--per-proc-batch-size", "1"]
    job = prepare_sampling(parse([*flags, "--sample-dir", "many"]))
    many.open_folder(job)
    with pytest.raises(SystemExit, match="2"):
        many.write(job, many.find_tasks(job, 0, 1)[0], np.full((1, 4, 4, 4), number, np.float32))
    assert [path.name for path in own_folder.rglob("*") if path.is_file()] == ["run.json"]


def test_help_shows_defaults_and_examples(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    told = capsys.readouterr().out
    for words in ("--cache-at-branch", "default: samples.png", "python sample.py --compare"):
        assert words in told


def test_a_bug_of_ours_keeps_its_traceback(small, monkeypatch):
    def broken(*_args, **_options):
        raise ValueError("a bug")

    monkeypatch.setattr("skipdit_jax.cli.sample.run", broken)
    with pytest.raises(ValueError, match="a bug"):
        main(["--ckpt", str(small)])
