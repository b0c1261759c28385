"""sample.py in this process, on small models: what is written, printed and promised."""

import numpy as np
import pytest
from PIL import Image

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
    run("--ckpt", small, "--npz", "a.npz")
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
    for words in ("small.safetensors", "8 steps", "N3-1000-20 at branch 1", "guidance 2"):
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


@pytest.mark.parametrize("batch", [2, 5, 8])
def test_a_sample_does_not_depend_on_its_batch(small, reference, batch):
    labels = ("--class-labels", 1, 2, 3, 9, 0)
    run("--ckpt", small, *labels, "--npz", "b.npz", "--batch-size", batch)
    found = arrays("b.npz")
    assert found["labels"].tolist() == reference["labels"].tolist()
    assert distance(found["arr_0"], reference["arr_0"]) <= 1  # of 255: float32 rounding


@pytest.mark.parametrize(
    "flags",
    [
        ("--seed", 1),
        ("--class-labels", 1, 2, 3, 9, 1),
        ("--cfg-scale", 1),
        ("--num-sampling-steps", "10,5"),
        ("--sampler", "ddim"),
        ("--cache", "none"),
        ("--cache-step", 4),
    ],
    ids=lambda flags: flags[0],
)
def test_every_setting_matters(small, reference, flags):
    run("--ckpt", small, "--class-labels", 1, 2, 3, 9, 0, "--npz", "b.npz", *flags)
    assert distance(arrays("b.npz")["arr_0"], reference["arr_0"]) > 1


def test_n_of_one_is_no_cache(small):
    base = ("--ckpt", small, "--class-labels", 4, "--npz")
    run(*base, "a.npz", "--cache-step", 1)
    run(*base, "b.npz", "--cache", "none")
    assert distance(arrays("a.npz")["arr_0"], arrays("b.npz")["arr_0"]) <= 1


def test_progress_counts_the_steps_of_all_batches(small, capsys):
    run("--ckpt", small, "--class-labels", 1, 2, 3, "--batch-size", 2, "--progress")
    assert f"{2 * makers.STEPS}/{2 * makers.STEPS}" in capsys.readouterr().err


def test_latents_are_written_as_they_are_with_a_note(plain_latents, own_folder, capsys):
    run("--ckpt", plain_latents, "--num-sampling-steps", 3, "--class-labels", 5)
    assert [p.name for p in own_folder.iterdir()] == ["samples.npz"]
    found = arrays("samples.npz")
    assert sorted(found) == ["labels", "latents"]
    assert found["latents"].dtype == np.float32
    assert found["latents"].shape == (1, 4, 4, 4)
    assert "no autoencoder" in capsys.readouterr().out


def test_an_unconditional_model_needs_no_labels(tmp_path):
    path = makers.save_small(tmp_path / "u.safetensors", num_classes=0)
    run("--ckpt", path, "--num-sampling-steps", 2, "--num-samples", 3, "--npz", "u.npz")
    found = arrays("u.npz")
    assert sorted(found) == ["arr_0"]
    assert found["arr_0"].shape == (3, 4, 4, 1)
    with Image.open("samples.png") as image:  # 2 columns, 2 rows
        assert image.size == (MARGIN + 2 * (CELL + MARGIN), MARGIN + 2 * (CELL + MARGIN))


def test_a_state_dict_of_torch_needs_only_its_heads(tmp_path):
    path = makers.save_small(tmp_path / "t.pt", skip=True)
    run("--ckpt", path, "--num-heads", 2, "--num-sampling-steps", 2, "--cfg-scale", 1)
    assert Image.open("samples.png").size[0] == MARGIN + 10 * (CELL + MARGIN)


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
