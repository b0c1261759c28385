"""Orders of convergence where the network is known: data of a normal distribution.

For data N(μ, s²) the best network and the solution of its ODE are

    E[x_0 | x] = μ + α s² (x - α μ) / (α² s² + σ²),     x(t) = α μ + sqrt(α² s² + σ²) z

A run starts on that curve and is compared at a time in its middle: the last step, to the data, is
always of order one.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from skipdit_jax.diffusion import levels
from skipdit_jax.diffusion.schedules import FLOW, Diffusion
from skipdit_jax.sampling import loop
from skipdit_jax.sampling.methods import read_method

MEAN, SPREAD = 0.7, 0.5
VARIANCE = {"variance": "fixed_small"}
LINEAR = Diffusion(**VARIANCE)
SCALED_V = Diffusion(schedule="scaled_linear", prediction="v", **VARIANCE)
STRAIGHT = Diffusion(schedule=FLOW, prediction=FLOW, **VARIANCE)
DPM, EULER = (9, 27, 111), (10, 28, 112)  # steps of 111, 37 and 9 timesteps
MIDDLE = {"dpm": 333, "euler": 333, "flow": 334}


def curve(mean, spread, alpha, sigma, z):
    return alpha * mean + np.sqrt((alpha * spread) ** 2 + sigma**2) * z


def said(kind, data, x, alpha, sigma):
    """The output of a network that knows x_0."""
    noise = (x - alpha * data) / sigma
    return {
        "epsilon": lambda: noise,
        "xstart": lambda: data,
        "v": lambda: alpha * noise - sigma * data,
        FLOW: lambda: noise - data,
    }[kind]()


@functools.partial(jax.jit, static_argnums=(0, 1))
def follow(stepper, kind, x, mean, spread, rows, alpha, sigma):
    """X after so many steps of a network that knows the distribution."""

    def step(carry, row):
        (x, state), (c, alpha, sigma) = carry, row
        share = alpha * spread**2 / ((alpha * spread) ** 2 + sigma**2)
        output = said(kind.prediction, mean + share * (x - alpha * mean), x, alpha, sigma)
        return stepper.step(kind, c, output, x, jnp.zeros_like(x), state), None

    return jax.lax.scan(step, (x, stepper.initialise(x)), (rows, alpha, sigma))[0][0]


def error(method, process, spacing, stop, mean=MEAN, spread=SPREAD, z=None):
    """The largest error at timestep `stop`."""
    stepper, process = read_method(method), process.respace(spacing)
    schedule = loop.make_schedule(process, stepper)
    t = schedule.timesteps
    calls = int(np.flatnonzero(np.round(t) == stop)[-1])
    if process.schedule == FLOW:
        alpha, sigma = 1 - t / 1000, t / 1000
    else:
        _, alpha, sigma = levels.at_timesteps(process, t)
    z = np.linspace(-2, 2, 4) if z is None else z
    z, ones = z.reshape(1, 1, 1, -1), np.ones((1, 1, 1, z.size))
    start, want = (curve(mean * ones, spread, alpha[i], sigma[i], z) for i in (0, calls))
    data = jax.tree.map(
        lambda a: jnp.asarray(a[:calls], jnp.float32), (schedule.rows, alpha[:-1], sigma[:-1])
    )
    x, mean, spread = (jnp.asarray(a * ones, jnp.float32) for a in (start, mean, spread))
    found = follow(stepper, process.parameterization, x, mean, spread, *data)
    return float(np.abs(found - want).max())


def slopes(method, process, spacings, stop):
    errors = [error(method, process, *one, stop) for one in spacings]
    counts = [int(read[0].strip("linspace")) for read in spacings]
    ratios = np.log(np.divide(errors[:-1], errors[1:]))
    return ratios / np.log(np.divide(counts[1:], counts[:-1]))


ORDERS = {
    "dpm++(order=1)": (LINEAR, DPM, "dpm", 0.95, 1.1),
    "dpm++": (LINEAR, DPM, "dpm", 1.85, 2.2),
    "dpm++(rule='heun')": (LINEAR, DPM, "dpm", 1.85, 2.3),
    "dpm++(order=3)": (LINEAR, DPM[:2], "dpm", 2.4, 3.2),
    "dpm": (LINEAR, DPM, "dpm", 1.7, 2.3),
    "euler": (LINEAR, EULER, "euler", 0.95, 1.1),
    "flow-euler": (STRAIGHT, EULER, "flow", 0.95, 1.1),
    "flow-heun": (STRAIGHT, EULER, "flow", 1.85, 2.2),
}


@pytest.mark.parametrize("method", ORDERS)
def test_order_of_convergence(method):
    process, counts, middle, least, most = ORDERS[method]
    word = "" if process is STRAIGHT else "linspace"
    found = slopes(method, process, [(f"{word}{n}",) for n in counts], MIDDLE[middle])
    assert np.all((least < found) & (found < most)), found


def test_second_order_of_v_on_scaled_betas():
    found = slopes("dpm++", SCALED_V, [(f"linspace{n}",) for n in DPM], 333)
    assert np.all((found > 1.85) & (found < 2.2)), found


def drawn_variance(method, steps):
    """Of samples of data N(0, s²), exact: what is drawn is linear in all noise here."""
    process, stepper = LINEAR.respace(f"linspace{steps}"), read_method(method)
    schedule = loop.make_schedule(process, stepper)
    _, alpha, sigma = levels.at_timesteps(process, schedule.timesteps)
    rows = jax.tree.map(
        lambda a: jnp.asarray(a, jnp.float32), (schedule.rows, alpha[:-1], sigma[:-1])
    )

    @jax.jit
    def drawn(x, noise):
        def step(carry, row):
            (x, state), ((c, alpha, sigma), z) = carry, row
            share = alpha * SPREAD**2 / ((alpha * SPREAD) ** 2 + sigma**2)
            output = said("epsilon", share * x, x, alpha, sigma)
            return stepper.step(process, c, output, x, z, state), None

        return jax.lax.scan(step, (x, stepper.initialise(x)), (rows, noise))[0][0].sum()

    one = jnp.ones((1, 1, 1, 1))
    weights = jax.grad(drawn, (0, 1))(one, jnp.ones((len(schedule.timesteps), 1, 1, 1, 1)))
    return sum(float(jnp.sum(w**2)) for w in weights)


@pytest.mark.parametrize(("method", "rest"), [("dpm++sde", 0.01), ("dpm++sde(order=1)", 0.1)])
def test_noise_on_the_way_leads_to_the_variance_of_the_data(method, rest):
    coarse, fine = (abs(drawn_variance(method, n) / SPREAD**2 - 1) for n in (100, 200))
    assert fine < rest
    assert coarse / fine > 1.8
