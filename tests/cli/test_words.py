"""sample.py --prompt alone: the bundled models of text, without a download."""

import numpy as np
import pytest
from PIL import Image

from skipdit_jax.cli.sample import main
from skipdit_jax.evaluation.judges.moving_digits import centres
from tests.cli.test_decode import refused

FEW = ("--num-sampling-steps", "12", "--npz", "out.npz")


def test_words_alone_become_a_clip(own_folder, capsys):
    prompt = "an eight moving down"
    assert main(["--prompt", prompt, "--out", "eight.mp4", *FEW, "--cache", "N2"]) == 0
    told = capsys.readouterr().out
    assert "model    latte-t2v-digits: 6 stages, 3 skips, 8x32x32x1" in told
    assert f"prompt   {prompt}" in told
    names = {path.name for path in own_folder.iterdir()}
    assert names == {"eight.mp4", "eight.gif", "eight.png", "eight.txt", "out.npz"}
    with Image.open("eight.png") as strip:
        assert strip.text["Description"] == prompt
    moved = np.diff(centres(np.load("out.npz")["arr_0"] / 127.5 - 1), axis=1).mean(axis=1)[0]
    assert moved[0] > 0.3
    assert abs(moved[1]) < moved[0] * np.tan(np.pi / 8)  # of the eight ways down is the nearest


def test_words_alone_become_a_picture(own_folder, capsys):
    flags = ("--out", "three.png", *FEW, "--offload-text")  # which is always done
    assert main(["--prompt", "a three at the top left", *flags]) == 0
    assert "model    pixart-digits: 8 stages, 4 skips, 32x32x1" in capsys.readouterr().out
    picture = np.load("out.npz")["arr_0"] / 127.5 - 1
    assert np.all(centres(picture[:, None])[0, 0] < 12)


def test_a_text_has_no_place_for_classes(capsys):
    flags = ("--prompt", "a three", "--class-labels", "3")
    assert "--class-labels: the model draws what a text says" in refused(capsys, *flags)


@pytest.mark.parametrize("suffix", ["gif", "MP4"])
def test_how_the_file_ends_says_what_is_wanted(own_folder, capsys, suffix):
    main(["--prompt", "a one", "--out", f"one.{suffix}", "--num-sampling-steps", "2"])
    assert "model    latte-t2v-digits" in capsys.readouterr().out
