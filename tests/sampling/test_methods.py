"""Samplers by name, in whole programs: drivers, caches, what compiles, what is refused."""

import jax
import numpy as np
import pytest

import skipdit_jax as sd
from skipdit_jax.diffusion.schedules import FLOW, Diffusion
from skipdit_jax.pipeline import METHODS
from skipdit_jax.sampling.methods import SOLVERS, read_method, write_method
from skipdit_jax.sampling.steppers import DdimReverse, DpmSolver, FlowEuler, FlowHeun
from tests.caching.test_programs import compilations
from tests.networks import random_params

STEPS = 5
TINY = {"depth": 4, "hidden_size": 16, "num_heads": 2, "input_size": 4, "num_classes": 5}
STRAIGHT = Diffusion(schedule=FLOW, prediction=FLOW)
SAMPLERS = {
    "dpm++": {},
    "dpm++sde": {},
    "dpm++(order=3)": {},
    "euler": {"steps": "leading5+1"},
    "ddim(told=True, clip=False)": {"steps": "trailing5"},
    "flow-heun(shift=3.0)": {"diffusion": STRAIGHT, "clip": None},
}
SLOW = ("dpm++(order=3)", "euler", "ddim(told=True, clip=False)")  # five programs each
EACH = [pytest.param(m, marks=pytest.mark.slow) if m in SLOW else m for m in SAMPLERS]
TOLERANCE = 1e-4  # of samples clipped to about 1; other fusions round differently


@pytest.fixture(scope="module")
def tiny():
    model = sd.create_model("DiT-S/2-skip", **TINY)
    return model, random_params(model)


def draw(tiny, method, seed=2, **options):
    model, params = tiny
    usual = {"steps": STEPS, "clip": True, "guidance": 2.0, **SAMPLERS.get(method, {})}
    given = {**usual, **options}
    return np.asarray(
        sd.sample(model, params, jax.random.key(seed), [1, 2], method=method, **given)
    )


@pytest.mark.parametrize("method", EACH)
def test_drivers_agree_and_a_cache_that_never_reuses_changes_nothing(tiny, method):
    """What a solver remembers is carried beside what the cache keeps."""
    found = draw(tiny, method)
    assert np.isfinite(found).all()
    assert np.array_equal(found, draw(tiny, method, cache=sd.SkipCache(every=1, branch=1)))
    size = max(1.0, np.abs(found).max())
    cached = draw(tiny, method, cache=sd.SkipCache(every=2, branch=1))
    assert np.abs(cached - found).max() > 0
    for driver in ("nested", "unrolled"):
        other = draw(tiny, method, cache=sd.SkipCache(every=2, branch=1), driver=driver)
        np.testing.assert_allclose(other / size, cached / size, atol=TOLERANCE)


@pytest.mark.parametrize("method", ["dpm++", "flow-heun(shift=3.0)"])
def test_every_call_of_the_network_is_planned(tiny, method):
    """The kinds that ran are those of the plan; a second call at a timestep counts as its own."""
    model, params = tiny
    options = {"steps": STEPS, "method": method, **SAMPLERS[method]}
    sampler = sd.Sampler(model, cache=sd.SkipCache(every=2, branch=1), details=True, **options)
    drawn = sampler(params, sd.pipeline.sample_keys(jax.random.key(0), 0, 1), [1])
    calls = 2 * STEPS - 1 if "heun" in method else STEPS
    assert len(sampler.inputs.t) == len(sampler.plan.reuse) == calls
    assert np.array_equal(drawn.kinds.trunk == 0, sampler.plan.reuse)
    assert sampler.plan.reuse.any()


def test_nothing_recompiles_for_other_levels(tiny):
    """Spacing, betas, prediction, rule and Karras' levels are data; so are shifts of flows."""
    draw(tiny, "dpm++")
    draw(tiny, "flow-heun(shift=3.0)")
    with compilations() as seen:
        draw(tiny, "dpm++", seed=3, steps="leading5+1", guidance=7.0)
        draw(tiny, "dpm++(karras=True, rule='heun')")
        draw(tiny, "dpm++", diffusion=Diffusion(schedule="scaled_linear"))
        draw(tiny, "flow-heun(lowest='even')", **SAMPLERS["flow-heun(shift=3.0)"])
    assert seen == []


def test_a_run_starts_with_the_noise_of_its_first_level(tiny):
    """Of Euler σ, which is below 1; what the user gives is at that level already."""
    model, params = tiny
    keys = sd.pipeline.sample_keys(jax.random.key(0), 0, 2)

    def begins(method, steps, x=None):
        sampler = sd.Sampler(model, method=method, steps=steps)
        return np.asarray(sampler.arguments(params, keys, [1, 2], x)[1])

    usual = begins("dpm++", "linspace5")
    assert np.array_equal(usual, begins("ddim", 5))
    assert np.array_equal(usual, begins("euler", "leading5"))
    alpha_bar = Diffusion().training_alpha_bar[-1]
    np.testing.assert_allclose(
        begins("euler", "linspace5"), usual * np.sqrt(1 - alpha_bar), rtol=1e-6
    )
    assert np.array_equal(begins("euler", "linspace5", usual), usual)


@pytest.mark.parametrize("method", ["dpm++(order=3, end='first')", "dpm", "euler(end='first')"])
@pytest.mark.parametrize("steps", ["20", "1", "linspace2", ""])
def test_a_step_that_stands_still_is_none(method, steps):
    """From timestep 0 to the noise of timestep 0."""
    schedule = read_method(method).schedule(Diffusion(spacing=steps))
    assert all(np.isfinite(column).all() for column in jax.tree.leaves(schedule.rows))
    if schedule.timesteps[-1] == 0:
        assert schedule.rows.keep[-1] == 1
        assert all(column[-1] == 0 for column in schedule.rows.pull)


def test_levels_between_the_timesteps_of_a_training_are_refused(tiny):
    model, _ = tiny
    process = Diffusion(spacing="ddim50")
    assert sd.Sampler(model, method="dpm++", steps="ddim10", diffusion=process)
    with pytest.raises(ValueError, match="'ddim10' are not among the timesteps of its training"):
        sd.Sampler(model, method="dpm++(karras=True)", steps="ddim10", diffusion=process)


def test_rescaled_guidance(tiny):
    """Its share is data; none is the program without it; at scale 1 there is nothing to rescale."""
    plain, some = (
        draw(tiny, "ddim", guidance=sd.Guidance(scale=4.0, rescale=share)) for share in (0.0, 0.5)
    )
    assert np.array_equal(plain, draw(tiny, "ddim", guidance=sd.Guidance(scale=4.0)))
    assert np.abs(some - plain).max() > 0
    with compilations() as seen:
        draw(tiny, "ddim", guidance=sd.Guidance(scale=4.0, rescale=0.7))
    assert seen == []


@pytest.mark.parametrize("text", [*METHODS, "dpm++(order=1, karras=True)", "flow-euler(shift=3.0)"])
def test_texts_read_back(text):
    assert write_method(read_method(text)) == text
    assert read_method(f" {text} ") == read_method(text)


def test_every_name_has_settings_of_its_own():
    assert len(set(SOLVERS.values())) == len(SOLVERS)
    with pytest.raises(ValueError, match="stepper DdimReverse: has no name among ddpm"):
        write_method(DdimReverse())


REFUSED = {
    "flow of noise": ({"method": "flow-euler"}, "found FlowEuler .* predicts 'epsilon', wanted"),
    "clipped flow of noise": ({"method": "flow-euler", "clip": True}, "found FlowEuler .* wanted"),
    "noise of flow": (
        {"method": "dpm++", "diffusion": STRAIGHT},
        "found DpmSolver .* predicts 'flow', wanted one of flow-euler, flow-heun",
    ),
    "ddpm of flow": ({"diffusion": STRAIGHT}, "found Ddpm .* predicts 'flow'"),
    "clipped flow": (
        {"method": "flow-euler", "diffusion": STRAIGHT, "clip": True},
        "clip: found True, but flow-euler",
    ),
    "spaced flow": (
        {"method": "flow-euler", "diffusion": STRAIGHT, "steps": "leading5"},
        "spacing 'leading5': of flows wanted a number",
    ),
    "eta": ({"method": "dpm++", "eta": 0.5}, "eta: found 0.5, but it is the noise of ddim"),
    "unknown field": ({"method": "dpm++(sigma=1)"}, "unknown option sigma; it takes order"),
    "no literal": (
        {"method": "dpm++(order=f())"},
        r"method 'dpm\+\+\(order=f\(\)\)': .*; it takes",
    ),
    "no call": ({"method": "dpm++(order=1"}, "method is .*wanted one of ddpm"),
    "order": ({"method": "dpm++(order=4)"}, "order: found 4, wanted 1 to 3"),
    "order of sde": ({"method": "dpm++sde(order=3)"}, "order: found 3, wanted 1 to 2"),
    "end of dpm": ({"method": "dpm(end='data')"}, "form 'noise': wanted end 'first'"),
    "end": ({"method": "ddim(end='last')"}, "end: found 'last', wanted one of data, first"),
    "variance": ({"method": "ddpm(variance='learned_range')"}, "variance: found 'learned_range'"),
    "shift": ({"method": "flow-euler(shift=0.0)"}, "shift: found 0.0, wanted a number above 0"),
    "offset": ({"steps": "leading5+400"}, "spacing 'leading5.400': leads beyond the last"),
    "offset of trailing": ({"steps": "trailing5+1"}, "spacing .*: an offset is of leading"),
    "too many": ({"steps": "linspace1001"}, "spacing 'linspace1001': wanted at most 1000 steps"),
    "pure noise": (
        {"method": "ddim", "diffusion": Diffusion(prediction="v", zero_snr=True)},
        r"zero_snr: .*wanted ddim\(told=True\)",
    ),
}


@pytest.mark.parametrize(("given", "words"), REFUSED.values(), ids=REFUSED)
def test_one_line_that_names_it(tiny, given, words):
    model, _ = tiny
    with pytest.raises(ValueError, match=words) as caught:
        sd.Sampler(model, **{"steps": STEPS, **given})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "fields"),
    [
        ("prediction 'epsilon' with schedule 'flow'", {"schedule": FLOW}),
        ("prediction 'flow' with schedule 'linear'", {"prediction": FLOW}),
        ("beta_range", {"schedule": FLOW, "prediction": FLOW, "beta_range": (0.1, 0.2)}),
        ("zero_snr: found prediction 'epsilon'", {"zero_snr": True}),
    ],
)
def test_processes_that_there_are_not(words, fields):
    with pytest.raises(ValueError, match=words):
        Diffusion(**fields)


@pytest.mark.parametrize("share", [-0.1, 1.5, np.nan])
def test_shares_of_rescaling_that_there_are_not(share):
    with pytest.raises(ValueError, match=r"rescale is .*, wanted a number from 0 to 1"):
        sd.Guidance(scale=4.0, rescale=share)


def test_a_flow_has_no_coefficients_of_betas():
    with pytest.raises(ValueError, match="schedule 'flow': has no betas"):
        STRAIGHT.coefficients()


@pytest.mark.parametrize("method", ["dpm++", "ddim(told=True)", "ddpm"])
@pytest.mark.parametrize("prediction", ["v", "xstart"])
def test_a_process_that_ends_at_pure_noise(tiny, method, prediction):
    process = Diffusion(prediction=prediction, zero_snr=True)
    assert process.training_alpha_bar[-1] == 0
    found = draw(tiny, method, steps="trailing5", diffusion=process, clip=False)
    assert np.isfinite(found).all()


def test_weights_of_a_step_by_hand():
    """Two steps of the first order from σ = 0.6 over 0.8 to the data, and Heun's two calls."""
    rows = DpmSolver(order=1).schedule(Diffusion(spacing="2")).rows
    assert rows.keep[-1] == 0
    assert rows.pull[0][-1] == 1
    visited = FlowEuler().levels(STRAIGHT.respace("3"))
    np.testing.assert_allclose(visited.sigma, [1.0, 0.5005, 0.001, 0.0], atol=1e-12)
    heun = FlowHeun().schedule(STRAIGHT.respace("3"))
    np.testing.assert_allclose(heun.timesteps, [1000, 500.5, 500.5, 1, 1])
    h = 0.4995
    np.testing.assert_allclose(heun.rows.pull[0], [-h, -h / 2, -h, -h / 2, -0.001], rtol=1e-6)
    np.testing.assert_allclose(heun.rows.pull[1], [0, h / 2, 0, h / 2, 0], rtol=1e-6)


def test_published_samplers_are_followed(tiny):
    found = {
        name: sd.registry.published_sampling(sd.create_model(name))[-2:]
        for name in ("DiT-S/2", "PixArt-S/2", "LatteT2V-S/2", "HunYuan-DiT-g/2")
    }
    assert found == {
        "DiT-S/2": ("ddpm", "250"),
        "PixArt-S/2": ("dpm++", "linspace20"),
        "LatteT2V-S/2": ("ddim", "leading50"),
        "HunYuan-DiT-g/2": ("ddpm(variance='fixed_small')", "leading100+1"),
    }
    for method, steps in found.values():
        assert read_method(method)
        assert Diffusion(spacing=steps).timesteps[0] in (0, 1)
