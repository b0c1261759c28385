"""Many samples for FID: what a folder gets, and that stopped runs end as undisturbed ones."""

import contextlib
import errno
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from skipdit_jax.cli import many, sample
from skipdit_jax.cli.build import prepare_sampling
from skipdit_jax.cli.options import parse

COUNT, BATCH = 7, 3


def flags(checkpoint, folder, *more):
    common = ("--per-proc-batch-size", BATCH, "--sample-dir", folder, "--seed", 5)
    typed = ("--ckpt", checkpoint, "--num-fid-samples", COUNT, *common, *more)
    return [str(flag) for flag in typed]


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def whole(small, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "deep" / "samples"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sample, "use_compilation_cache", lambda: None)
        assert sample.main(flags(small, folder)) == 0
    return folder


def test_the_folder_holds_pictures_and_all_of_them_in_one_file(whole):
    names = [f"{number:06d}.png" for number in range(COUNT)]
    assert sorted(contents(whole)) == sorted([*names, "run.json", "samples.npz"])
    with np.load(whole / "samples.npz") as file:
        pictures, labels = file["arr_0"], file["labels"]
    assert pictures.dtype == np.uint8
    assert pictures.shape == (COUNT, 4, 4, 1)
    for name, picture in zip(names, pictures, strict=True):
        with Image.open(whole / name) as image:
            np.testing.assert_array_equal(np.asarray(image), picture[:, :, 0])
    assert labels.dtype == np.int64
    assert len(np.unique(pictures.reshape(COUNT, -1), axis=0)) == COUNT


def test_they_are_the_samples_of_these_labels(small, whole, own_folder):
    with np.load(whole / "samples.npz") as file:
        pictures, labels = file["arr_0"], file["labels"]
    typed = ["--class-labels", *map(str, labels), "--seed", "5", "--npz", "a.npz"]
    assert sample.main(["--ckpt", str(small), *typed]) == 0
    with np.load(own_folder / "a.npz") as file:
        distance = np.abs(file["arr_0"].astype(int) - pictures.astype(int))
    assert distance.max() <= 1  # another batch, another rounding


def test_a_disk_that_fills_up_while_samples_are_joined_costs_none(
    small, whole, tmp_path, monkeypatch, capsys
):
    folder = tmp_path / "samples"
    shutil.copytree(whole, folder)
    (folder / "samples.npz").unlink()
    before = contents(folder)

    class Full:
        def write(self, data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(many, "_entry", lambda *_: contextlib.nullcontext(Full()))
    assert "No space left on device" in refused(flags(small, folder), capsys)
    assert contents(folder) == before


def test_an_interrupted_run_ends_as_an_undisturbed_one(small, whole, tmp_path, monkeypatch):
    folder = tmp_path / "samples"
    true_save, saved = many.save_png, []

    def killed_at_the_fifth(path, picture):
        if len(saved) == 4:
            path.with_name(f".{path.name}.123.tmp").write_bytes(b"half a pict")
            raise KeyboardInterrupt
        saved.append(path.name)
        true_save(path, picture)

    monkeypatch.setattr(many, "save_png", killed_at_the_fifth)
    with pytest.raises(SystemExit) as ended:
        sample.main(flags(small, folder))
    assert ended.value.code == 130
    assert not (folder / "samples.npz").exists()
    before = {name: (folder / name).stat().st_mtime_ns for name in saved}
    monkeypatch.setattr(many, "save_png", true_save)
    assert sample.main(flags(small, folder)) == 0
    assert contents(folder) == contents(whole)
    assert before == {name: (folder / name).stat().st_mtime_ns for name in saved}


def test_damaged_files_are_named_and_drawn_again(small, whole, tmp_path, capsys):
    folder = shutil.copytree(whole, tmp_path / "samples")
    (folder / "samples.npz").unlink()
    good = (folder / "000001.png").read_bytes()
    (folder / "000001.png").write_bytes(good[: len(good) // 2])
    (folder / "000002.png").write_bytes(b"")
    (folder / "000003.png").write_bytes(good[:20] + b"\xff" * (len(good) - 20))
    Image.new("L", (9, 9)).save(folder / "000006.png")
    assert sample.main(flags(small, folder)) == 0
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("damaged")]
    assert told == [f"damaged  {folder}/00000{n}.png: drawn again" for n in (1, 2, 3, 6)]
    assert contents(folder) == contents(whole)


def test_a_file_that_cannot_be_mended_is_named(small, whole, tmp_path, capsys, monkeypatch):
    folder = shutil.copytree(whole, tmp_path / "samples")
    (folder / "000004.png").write_bytes(b"")
    monkeypatch.setattr(many, "draw", lambda _job, tasks, _progress=False: task_files(tasks))
    assert "000004.png: damaged" in refused(flags(small, folder), capsys)
    assert contents(folder)["samples.npz"] == contents(whole)["samples.npz"]


def task_files(tasks):
    """Leaves the files of tasks empty, as a disk that loses everything would."""
    for task in tasks:
        for path in task.missing.values():
            path.write_bytes(b"")


@pytest.mark.parametrize("processes", [1, 2, 3, 5])
def test_processes_share_all_samples_without_overlap(small, tmp_path, processes):
    job = prepare_sampling(parse(flags(small, tmp_path / "samples")))
    shares = [many.find_tasks(job, process, processes) for process in range(processes)]
    names = [path.name for share in shares for task in share for path in task.missing.values()]
    assert sorted(names) == [f"{number:06d}.png" for number in range(COUNT)]


def test_latents_are_packed_as_they_are(plain_latents, tmp_path, capsys):
    folder = tmp_path / "samples"
    more = ("--num-sampling-steps", 2, "--cfg-scale", 1)
    assert sample.main(flags(plain_latents, folder, *more)) == 0
    with np.load(folder / "samples.npz") as file:
        assert file["latents"].dtype == np.float32
        for number, latents in enumerate(file["latents"]):
            np.testing.assert_array_equal(latents, np.load(folder / f"{number:06d}.npy"))
    assert "these are latents" in capsys.readouterr().out


def refused(argv, capsys):
    with pytest.raises(SystemExit) as stopped:
        sample.main([str(flag) for flag in argv])
    assert stopped.value.code == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    return told


def test_a_folder_of_another_run_is_left_alone(small, whole, capsys):
    before = contents(whole)
    argv = [*flags(small, whole), "--cfg-scale", "3"]
    assert "samples of guidance 2.0, wanted 3.0" in refused(argv, capsys)
    assert contents(whole) == before


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--num-fid-samples", 5], "wanted --sample-dir"),
        (["--sample-dir", "x"], "wanted --num-fid-samples"),
        (["--num-fid-samples", 5, "--sample-dir", "x", "--compare"], "wanted no --compare"),
        (
            ["--num-fid-samples", 5, "--sample-dir", "x", "--class-labels", 1, "--npz", "a"],
            "wanted no --class-labels, --npz",
        ),
        (["--coordinator", "a:1", "--num-processes", 2, "--process-id", 0], "only with --num-fid"),
        (["--num-fid-samples", 2 * 10**9, "--sample-dir", "x"], "wanted at most 10000000"),
        (["--num-fid-samples", 5, "--sample-dir", "/dev/null/x"], "cannot write into /dev/null/x"),
        (
            ["--num-fid-samples", 5, "--sample-dir", "x", "--per-proc-batch-size", 2 * 10**9],
            "wanted at most 1000000",
        ),
        (["--num-fid-samples", 0], "wanted a whole number >= 1"),
        (["--process-id", 0], "belong together"),
    ],
)
def test_flags_that_contradict_each_other(argv, words, capsys, own_folder):
    assert words in refused(argv, capsys)
    assert not list(own_folder.iterdir())


def test_a_batch_that_the_devices_cannot_split(small, monkeypatch, capsys):
    monkeypatch.setattr("jax.local_device_count", lambda: 2)
    told = refused(flags(small, "x"), capsys)
    assert "--per-proc-batch-size 3: cannot be split over the 2 devices" in told
