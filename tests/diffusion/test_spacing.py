import jax
import jax.numpy as jnp
import numpy as np
import pytest

from skipdit_jax.diffusion.schedules import Diffusion
from skipdit_jax.diffusion.spacing import exact_timesteps, kept_timesteps, solver_timesteps
from skipdit_jax.sampling.steppers import Ddim, Ddpm

LENGTHS = (2, 10, 97, 300, 1000)


@pytest.mark.parametrize("length", LENGTHS)
def test_evenly_spaced_steps_reach_both_ends(length):
    for count in range(2, length + 1):
        kept = kept_timesteps(length, str(count))
        gaps = np.diff(kept)
        assert len(kept) == count
        assert (kept[0], kept[-1]) == (0, length - 1)
        assert gaps.min() >= 1
        assert gaps.max() - gaps.min() <= 1


@pytest.mark.parametrize("length", LENGTHS)
def test_every_step_in_four_spellings(length):
    for spacing in ("", "  ", str(length), f"ddim{length}"):
        np.testing.assert_array_equal(kept_timesteps(length, spacing), np.arange(length))


@pytest.mark.parametrize("length", [1, *LENGTHS])
@pytest.mark.parametrize("spacing", ["1", "ddim1", " DDIM 1 "])
def test_one_step_is_the_noisiest(length, spacing):
    """There x is noise, as at the first step of every longer run."""
    assert kept_timesteps(length, spacing).tolist() == [length - 1]


def test_one_step_takes_the_noise_away():
    """A network that calls its whole input noise leaves (1 - sqrt(1 - ᾱ)) / sqrt(ᾱ) of it."""
    process = Diffusion(variance="fixed_small").respace("1")
    c = jax.tree.map(lambda column: jnp.asarray(column[0]), process.coefficients())
    alpha_bar, x = process.tables.alpha_bar[0], jnp.full((1, 2, 2, 4), 3.0)
    left = (1 - np.sqrt(1 - alpha_bar)) / np.sqrt(alpha_bar)
    assert abs(left) < 0.01
    for stepper in (Ddpm(), Ddim()):
        found, _ = stepper.step(process.parameterization, c, x, x, x)
        np.testing.assert_allclose(found, 3.0 * left, atol=1e-3)


def test_words_of_diffusers():
    np.testing.assert_array_equal(kept_timesteps(1000, "leading100+1"), np.arange(100) * 10 + 1)
    np.testing.assert_array_equal(kept_timesteps(1000, "Leading 50"), np.arange(0, 1000, 20))
    assert kept_timesteps(1000, "trailing4").tolist() == [249, 499, 749, 999]
    assert kept_timesteps(1000, "trailing3").tolist() == [332, 666, 999]
    assert kept_timesteps(1000, "linspace4").tolist() == [0, 333, 666, 999]
    for word in ("leading1+1", "trailing1", "linspace1"):
        assert kept_timesteps(1000, word).tolist() == [999]


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("rule", ["leading", "trailing", "linspace"])
def test_words_keep_as_many_as_they_say(rule, length):
    for count in range(2, length + 1, max(1, length // 50)):
        kept = kept_timesteps(length, f"{rule}{count}")
        assert len(kept) == count
        assert kept[-1] < length
        assert np.diff(kept).min() >= 1
        inner = solver_timesteps(length, f"{rule}{min(count, length - 1)}")
        assert np.diff(inner).min(initial=1) >= 1


def test_solvers_leave_out_the_cleanest_point():
    assert solver_timesteps(1000, "linspace3").tolist() == [333, 666, 999]
    assert solver_timesteps(1000, "leading4+1").tolist() == [201, 401, 601, 801]
    assert solver_timesteps(1000, "trailing4").tolist() == [249, 499, 749, 999]
    assert solver_timesteps(1000, "linspace3", last=901).tolist() == [300, 600, 900]
    assert solver_timesteps(1000, "4").tolist() == kept_timesteps(1000, "4").tolist()


def test_only_samplers_between_timesteps_leave_linspace_unrounded():
    assert exact_timesteps(1000, "linspace3").tolist() == [0, 499.5, 999]
    assert exact_timesteps(1000, "leading2+1").tolist() == [1, 501]
    assert exact_timesteps(1000, "3").tolist() == kept_timesteps(1000, "3").tolist()


def test_integer_strides():
    np.testing.assert_array_equal(kept_timesteps(1000, "ddim50"), np.arange(0, 1000, 20))
    assert kept_timesteps(10, "ddim4").tolist() == [0, 3, 6, 9]


def test_sections_are_shifted_evenly_spaced_runs():
    kept = kept_timesteps(100, "10,1,25,3")
    runs = [kept_timesteps(25, "10"), [25], np.arange(50, 75), kept_timesteps(25, "3") + 75]
    np.testing.assert_array_equal(kept, np.concatenate(runs))


def test_the_first_sections_take_the_remainder():
    assert kept_timesteps(11, "4,4,3").tolist() == list(range(11))


@pytest.mark.parametrize(
    ("spelled", "meant"),
    [(" 250\n", "250"), ("10, 15 ,25", "10,15,25"), ("DDIM50", "ddim50"), ("ddim 50", "ddim50")],
)
def test_forgiving_spellings(spelled, meant):
    np.testing.assert_array_equal(kept_timesteps(1000, spelled), kept_timesteps(1000, meant))


@pytest.mark.parametrize(
    "spacing",
    [
        "0",
        "-3",
        "+3",
        "2.5",
        "1e3",
        "1_0",
        "٣",
        "steps",
        "ten\nsteps",
        "10;15",
        "10,",
        ",",
        "10,,25",
        "10,0,25",
        "ddim",
        "ddim0",
        "ddim-5",
        "ddim10,15",
        "1001",
        "ddim300",
        "ddim1001",
        "501,1",
        "leading",
        "leading0",
        "leading10+",
        "leading10+-1",
        "leading10+100",
        "leading 1001",
        "trailing10+1",
        "linspace1001",
        "linspace2.5",
        "9" * 5000,
        ",".join("1" * 1001),
    ],
    ids=lambda spacing: repr(spacing[:12]),
)
def test_refusals_are_one_line_that_names_the_spacing(spacing):
    with pytest.raises(ValueError, match=r"^spacing '") as caught:
        kept_timesteps(1000, spacing)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 250
