"""Hand-computed values, limits and symmetries of PSNR and SSIM."""

import jax.numpy as jnp
import numpy as np
import pytest

from skipdit_jax.evaluation.fidelity import psnr, ssim

SIZES = [(8, 8, 1), (16, 12, 3), (11, 11, 1), (1, 1, 1)]


def pictures(seed, shape, batch=3):
    return np.random.default_rng(seed).uniform(-1, 1, (batch, *shape))


def test_psnr_of_a_known_error():
    a = np.zeros((2, 2, 2, 1))
    b = np.zeros((2, 2, 2, 1))
    b[0, 0, 0, 0] = 2.0  # mean square error 1: 10 log10(4)
    b[1] = 0.02  # mean square error 4e-4: 10 log10(1e4)
    np.testing.assert_allclose(psnr(a, b), [6.020599913279624, 40.0], rtol=1e-12)
    np.testing.assert_allclose(psnr(a, b, peak=1.0), [0.0, 33.979400086720375], atol=1e-12)


def test_psnr_falls_by_6_db_when_the_error_doubles():
    a, noise = pictures(0, (8, 8, 1)), pictures(1, (8, 8, 1))
    np.testing.assert_allclose(psnr(a, a + noise) - psnr(a, a + 2 * noise), 20 * np.log10(2))


@pytest.mark.parametrize("shape", SIZES)
def test_equal_pictures(shape):
    a = pictures(2, shape)
    assert np.all(psnr(a, a) == np.inf)
    assert np.all(ssim(a, a) == 1.0)


@pytest.mark.parametrize("measure", [psnr, ssim])
@pytest.mark.parametrize("shape", SIZES)
def test_symmetric_and_separate_for_each_picture(measure, shape):
    a, b = pictures(3, shape), pictures(4, shape)
    together = measure(a, b)
    assert together.dtype == np.float64
    assert together.shape == (3,)
    np.testing.assert_allclose(measure(b, a), together, rtol=1e-12)
    np.testing.assert_allclose([measure(a[i : i + 1], b[i : i + 1])[0] for i in range(3)], together)


def test_ssim_of_flat_pictures_is_the_luminance_term():
    # no variance: (2 * 0.5 * 0.25 + C1) / (0.25 + 0.0625 + C1) with C1 = (0.01 * 2)^2
    a, b = np.full((1, 8, 8, 1), 0.5), np.full((1, 8, 8, 1), 0.25)
    np.testing.assert_allclose(ssim(a, b), (0.25 + 4e-4) / (0.3125 + 4e-4), rtol=1e-12)


def test_ssim_of_one_window_by_hand():
    # 3x3 pixels, one window with weights w (x) w, w ~ (e, 1, e), e = exp(-1/4.5); the pictures are
    # a = (-1, 0, 1) along one axis and b = -a: mu = 0, var = 2 e / (1 + 2 e), cov = -var.
    a = np.broadcast_to(np.array([-1.0, 0.0, 1.0])[None, :, None, None], (1, 3, 3, 1))
    e = np.exp(-1 / 4.5)
    var, c2 = 2 * e / (1 + 2 * e), 0.0036
    np.testing.assert_allclose(ssim(a, -a), (c2 - 2 * var) / (c2 + 2 * var), rtol=1e-12)
    # a shift b = a + 0.5 changes the luminance term alone
    np.testing.assert_allclose(ssim(a, a + 0.5), 4e-4 / (0.25 + 4e-4), rtol=1e-12)


def test_ssim_looks_only_at_places_where_the_window_fits():
    # 12x12 pixels: windows cover rows and columns 0..10 and 1..11; all see the centre
    a = pictures(5, (12, 12, 1), batch=1)
    corner, centre = a.copy(), a.copy()
    corner[0, 0, 0, 0] += 1.0
    centre[0, 6, 6, 0] += 1.0
    assert 1 > ssim(a, corner)[0] > 0.999 > 0.95 > ssim(a, centre)[0]


def test_ssim_averages_channels():
    a, b = pictures(6, (8, 8, 2)), pictures(7, (8, 8, 2))
    apart = [ssim(a[..., c : c + 1], b[..., c : c + 1]) for c in range(2)]
    np.testing.assert_allclose(ssim(a, b), np.mean(apart, axis=0), rtol=1e-12)


@pytest.mark.parametrize("measure", [psnr, ssim])
def test_more_noise_is_worse(measure):
    a, noise = pictures(8, (16, 16, 1), batch=1), pictures(9, (16, 16, 1), batch=1)
    values = [measure(a, a + scale * noise)[0] for scale in (0.01, 0.1, 0.5, 1.0)]
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize("measure", [psnr, ssim])
def test_units_do_not_matter(measure):
    a, b = pictures(10, (16, 16, 1)), pictures(11, (16, 16, 1))
    np.testing.assert_allclose(measure(a, b, peak=2.0), measure(a * 100, b * 100, peak=200.0))


@pytest.mark.parametrize("measure", [psnr, ssim])
def test_takes_jax_float32(measure):
    a, b = pictures(12, (8, 8, 1)), pictures(13, (8, 8, 1))
    got = measure(jnp.asarray(a, jnp.float32), jnp.asarray(b, jnp.float32))
    np.testing.assert_allclose(got, measure(a, b), rtol=1e-5)


def test_agrees_with_scikit_image():
    metrics = pytest.importorskip("skimage.metrics")
    a, b = pictures(14, (32, 24, 1), batch=1), pictures(15, (32, 24, 1), batch=1)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    want = metrics.structural_similarity(a[0, ..., 0], b[0, ..., 0], data_range=2.0, **options)
    np.testing.assert_allclose(ssim(a, b), want, rtol=1e-10)
    want = metrics.peak_signal_noise_ratio(a[0], b[0], data_range=2.0)
    np.testing.assert_allclose(psnr(a, b), want, rtol=1e-10)


@pytest.mark.parametrize("measure", [psnr, ssim])
def test_nan_is_not_hidden(measure):
    a = pictures(16, (8, 8, 1), batch=2)
    b = a + 0.1
    b[1, 3, 3, 0] = np.nan
    assert list(np.isnan(measure(a, b))) == [False, True]


@pytest.mark.parametrize("measure", [psnr, ssim])
def test_refusals(measure):
    a = np.zeros((2, 8, 8, 1))
    with pytest.raises(ValueError, match=r"shapes \(2, 8, 8, 1\) and \(1, 8, 8, 1\)"):
        measure(a, a[:1])
    with pytest.raises(ValueError, match="found shape"):
        measure(a[:0], a[:0])
    with pytest.raises(ValueError, match="peak is 0"):
        measure(a, a, peak=0.0)
