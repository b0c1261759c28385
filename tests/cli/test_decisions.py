"""What sample.py tells and draws of a cache that decides."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from skipdit_jax.cli.sample import main
from skipdit_jax.visualise import curves

RUN = ["--class-labels", "3", "--num-sampling-steps", "8", "--sampler", "ddim"]


@pytest.mark.parametrize("more", ["", ",over='each'"])
def test_the_run_and_its_curve_tell_the_same_steps(tmp_path, capsys, more):
    out, curve = tmp_path / "three.png", tmp_path / "new" / "curve.png"
    cache = f"teacache(threshold=0.3{more})"
    main([*RUN, "--cache", cache, "--out", str(out), "--plot-decisions", str(curve)])
    told = capsys.readouterr().out
    assert str(curve) in told
    strip = np.asarray(Image.open(curve))[-1, :: curves.BAR + curves.GAP]
    kinds = [tuple(pixel.tolist()) for pixel in strip]
    assert set(kinds) == {curves.COMPUTED, curves.REUSED}
    assert kinds[0] == curves.COMPUTED
    assert f"{kinds.count(curves.COMPUTED)} steps computed, {kinds.count(curves.REUSED)}" in told
    if not more:
        steps = "".join("x" if kind == curves.COMPUTED else "." for kind in kinds)
        assert f"steps    {steps} " in told


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--cache", "N2"], "found cache N2"),
        (["--cache", "none"], "found cache none, wanted one that decides"),
        (["--cache", "teacache:0.3", "--plot-decisions", "curve.pdf"], "wanted a name that ends"),
        (["--cache", "teacache:0.3", "--out", "curve.png"], "is written by this run"),
        (["--compare", "teacache:0.3"], "wanted no --compare beside it"),
    ],
)
def test_what_cannot_be_drawn_is_refused(capsys, flags, told):
    with pytest.raises(SystemExit) as caught:
        main([*RUN, "--plot-decisions", "curve.png", *flags])
    assert caught.value.code == 2
    assert told in capsys.readouterr().err
    assert not [*Path.cwd().iterdir()]
