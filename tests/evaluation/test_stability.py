"""Directions, surfaces and spectra of what is known on paper."""

import jax.numpy as jnp
import numpy as np
import pytest

from skipdit_jax.evaluation.stability import (
    filter_normalised,
    likeness,
    skip_spectra,
    surface,
)

RNG = np.random.default_rng(0)
PARAMS = {
    "linear": {"kernel": RNG.normal(size=(5, 3)), "bias": np.ones(3)},
    "patch": {"kernel": RNG.normal(size=(2, 2, 4, 3))},
    "silent": {"kernel": np.zeros((4, 2))},
    "norm": {"scale": np.ones(5)},
}
PARAMS = {name: {k: v.astype(np.float32) for k, v in one.items()} for name, one in PARAMS.items()}


def filters(leaf):
    """Norms of what makes each output."""
    return [np.sqrt((leaf[..., i].astype(np.float64) ** 2).sum()) for i in range(leaf.shape[-1])]


def test_each_filter_of_a_direction_is_as_long_as_that_of_the_weights():
    found = filter_normalised(PARAMS, 0)
    for name in ("linear", "patch", "silent"):
        ours, theirs = filters(found[name]["kernel"]), filters(PARAMS[name]["kernel"])
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    assert not found["linear"]["bias"].any()
    assert not found["norm"]["scale"].any()
    assert found["patch"]["kernel"].dtype == np.float32


def test_a_seed_is_a_direction():
    one, again, other = (filter_normalised(PARAMS, seed)["patch"]["kernel"] for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.5


def test_the_surface_of_a_quadratic_is_that_quadratic():
    place = np.linspace(-1, 1, 5)
    along, across = (filter_normalised(PARAMS, seed) for seed in (1, 2))

    def value(params, shift):
        return {"square": ((params["linear"]["kernel"] - shift) ** 2).sum()}

    found = surface(value, PARAMS, (along, across), place, jnp.float32(0.5))["square"]
    kernel, d, e = (one["linear"]["kernel"].astype(np.float64) for one in (PARAMS, along, across))
    base = kernel - 0.5
    a, b = np.meshgrid(place, place, indexing="ij")
    wanted = (
        (base**2).sum()
        + a**2 * (d**2).sum()
        + b**2 * (e**2).sum()
        + 2 * (a * (base * d).sum() + b * (base * e).sum() + a * b * (d * e).sum())
    )
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_likeness_of_vectors_at_known_angles():
    before = jnp.array([[1.0, 0.0], [0.0, 2.0]])
    after = jnp.array([[0.0, 3.0], [2.0, 2.0]])
    found = likeness(before, after)
    np.testing.assert_allclose(found.cosine, (0 + np.sqrt(0.5)) / 2, rtol=1e-6)
    np.testing.assert_allclose(found.relative, (1 + 3 + 2 + 0) / 3, rtol=1e-6)


def planted(largest, width=4):
    """A square kernel whose largest singular value is known."""
    left, right = (np.linalg.qr(RNG.normal(size=(width, width)))[0] for _ in range(2))
    return (left * np.array([largest, *[0.1] * (width - 1)])) @ right


def test_planted_spectral_norms_are_found_in_the_order_of_stages():
    fusions = {}
    for number, (deep, skip) in {10: (3.0, 0.5), 2: (1.0, 2.0)}.items():
        kernel = np.concatenate([planted(deep), planted(skip)]).astype(np.float32)
        fusions[f"skip_fusions_{number}"] = {"linear": {"kernel": kernel}, "norm": PARAMS["norm"]}
    found = skip_spectra({**fusions, **PARAMS})
    np.testing.assert_allclose(found.deep, [1.0, 3.0], rtol=1e-6)
    np.testing.assert_allclose(found.skip, [2.0, 0.5], rtol=1e-6)
    halves = np.stack([found.deep, found.skip])
    assert (found.whole >= halves.max(axis=0) - 1e-6).all()
    assert (found.whole <= np.sqrt((halves**2).sum(axis=0)) + 1e-6).all()


@pytest.mark.parametrize("params", [PARAMS, {}])
def test_a_plain_model_has_no_fusions(params):
    assert [len(norms) for norms in skip_spectra(params)] == [0, 0, 0]
