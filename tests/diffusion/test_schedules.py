import numpy as np
import pytest

from skipdit_jax.diffusion.schedules import (
    SCHEDULES,
    Diffusion,
    Parameterization,
    training_betas,
)

SPACINGS = ("", "250", "7", "1", "ddim25", "10,15,25")


# Lin et al. 2305.08891, table 1: signal-to-noise ratio and sqrt(ᾱ) at the last timestep.
@pytest.mark.parametrize(
    ("schedule", "snr", "signal"),
    [
        ("linear", 4.036e-5, 0.006353),
        ("squaredcos_cap_v2", 2.428e-9, 4.928e-5),
        ("scaled_linear", 0.004682, 0.068265),
    ],
)
def test_published_end_of_the_schedule(schedule, snr, signal):
    tables = Diffusion(schedule=schedule).tables
    assert tables.alpha_bar[-1] / (1 - tables.alpha_bar[-1]) == pytest.approx(snr, rel=2e-4)
    assert tables.sqrt_alpha_bar[-1] == pytest.approx(signal, rel=2e-4)


@pytest.mark.parametrize(
    ("schedule", "first", "last"),
    [("linear", 1e-4, 0.02), ("scaled_linear", 0.00085, 0.012)],
)
def test_published_range_of_betas(schedule, first, last):
    betas = training_betas(schedule, 1000)
    assert betas[[0, -1]] == pytest.approx([first, last], rel=1e-12)


def test_a_shorter_linear_schedule_ends_at_a_like_noise():
    long, short = (Diffusion(num_timesteps=t).tables.alpha_bar[-1] for t in (1000, 250))
    assert np.log(short) == pytest.approx(np.log(long), rel=0.03)


def test_other_ranges():
    tables = Diffusion(schedule="scaled_linear", beta_range=(0.00085, 0.03)).tables
    assert tables.beta[[0, -1]] == pytest.approx([0.00085, 0.03], rel=1e-9)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("spacing", SPACINGS)
def test_respacing_keeps_the_noise_levels_of_the_kept_steps(schedule, spacing):
    full = Diffusion(schedule=schedule)
    kept = full.respace(spacing)
    want = full.tables.alpha_bar[kept.timesteps]
    # betas within 1e-7 of 1 (few steps, cosine) leave 1 - β nine digits
    np.testing.assert_allclose(kept.tables.alpha_bar, want, rtol=1e-7)
    np.testing.assert_allclose(np.cumprod(1 - kept.tables.beta), want, rtol=1e-7)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("spacing", SPACINGS)
def test_coefficients_are_finite_float32_rows(schedule, spacing):
    diffusion = Diffusion(schedule=schedule, spacing=spacing)
    for name, column in diffusion.coefficients()._asdict().items():
        assert column.dtype == np.float32, name
        assert column.shape == (diffusion.num_steps,), name
        assert np.isfinite(column).all(), name


def test_neighbours_of_a_step():
    c = Diffusion(spacing="50").coefficients()
    np.testing.assert_array_equal(c.alpha_bar_prev[1:], c.alpha_bar[:-1])
    np.testing.assert_array_equal(c.alpha_bar_next[:-1], c.alpha_bar[1:])
    assert (c.alpha_bar_prev[0], c.alpha_bar_next[-1]) == (1, 0)
    assert c.nonzero.tolist() == [0] + [1] * 49


def test_respacing_starts_from_the_training_process():
    diffusion = Diffusion(spacing="50", variance="fixed_small")
    assert diffusion.respace("10").respace("50") == diffusion
    assert hash(diffusion.respace("10").respace("50")) == hash(diffusion)


def test_the_traced_part_is_the_same_for_every_schedule():
    a = Diffusion(schedule="linear", spacing="50", prediction="v")
    b = Diffusion(schedule="squaredcos_cap_v2", spacing="ddim50", prediction="v")
    assert a.parameterization == b.parameterization == Parameterization(prediction="v")
    assert type(a.parameterization) is Parameterization


def test_tables_cannot_be_changed_by_accident():
    diffusion = Diffusion(spacing="50")
    for shared in (diffusion.timesteps, *diffusion.tables):
        with pytest.raises(ValueError, match="read-only"):
            shared[0] = 0


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"schedule": "cosine"}, "schedule: found 'cosine', wanted one of linear"),
        ({"prediction": "score"}, "prediction: found 'score', wanted one of epsilon"),
        ({"variance": "learned"}, "variance: found 'learned', wanted one of learned_range"),
        ({"num_timesteps": 0}, "num_timesteps: found 0"),
        ({"num_timesteps": 20}, "num_timesteps 20: largest beta is 1"),
        ({"spacing": "1001"}, "spacing '1001'"),
        ({"beta_range": (0.02, 1e-4)}, "beta_range: found"),
        ({"beta_range": (0.0, 0.02)}, "beta_range: found"),
        ({"beta_range": (1e-4, float("nan"))}, "beta_range: found"),
        ({"schedule": "squaredcos_cap_v2", "beta_range": (1e-4, 0.02)}, "takes none"),
    ],
)
def test_bad_settings_are_refused_in_one_line(fields, named):
    with pytest.raises(ValueError, match=named) as caught:
        Diffusion(**fields)
    assert "\n" not in str(caught.value)
