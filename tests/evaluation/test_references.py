"""Statistics of references: published layouts, our own files, the cache, and other files."""

import io
import zipfile

import numpy as np
import pytest

from skipdit_jax.evaluation.distances import frechet_between
from skipdit_jax.evaluation.moments import FeatureStatistics, fit_gaussian
from skipdit_jax.evaluation.references import (
    ReferenceStatistics,
    digest_of,
    kept_reference,
    read_reference,
    write_reference,
)

MADE_OF = {"data": "ab12", "count": 50, "resize": "tf", "shape": [8, 8]}


def statistics(seed=0, width=4):
    return fit_gaussian(np.random.default_rng(seed).normal(size=(50, width)))


def reference(seed=0):
    return ReferenceStatistics(statistics(seed), statistics(seed + 1, 3), MADE_OF)


def assert_equal(found, want):
    for got, wanted in zip(found, want, strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_layout_of_adm(tmp_path):
    pooled, spatial = statistics(), statistics(1, 3)
    np.savez(
        tmp_path / "adm.npz",
        arr_0=np.zeros((2, 4, 4, 3), np.uint8),
        mu=pooled.mean.astype(np.float32),
        sigma=pooled.covariance,
        mu_s=spatial.mean,
        sigma_s=spatial.covariance.astype(np.float32),
    )
    found = read_reference(tmp_path / "adm.npz")
    assert found.made_of == {}
    assert frechet_between(found.pooled, pooled) < 1e-10
    assert frechet_between(found.spatial, spatial) < 1e-5
    assert found.spatial.covariance.dtype == np.float64


def test_layout_of_pytorch_fid(tmp_path):
    pooled = statistics()
    np.savez_compressed(tmp_path / "a.npz", mu=pooled.mean, sigma=pooled.covariance)
    found = read_reference(tmp_path / "a.npz")
    assert_equal(found.pooled, pooled)
    assert found.spatial is None


@pytest.mark.parametrize("spatial", [True, False])
def test_round_trip(tmp_path, spatial):
    want = reference() if spatial else reference()._replace(spatial=None)
    write_reference(tmp_path / "ours.npz", want)
    found = read_reference(str(tmp_path / "ours.npz"))
    assert_equal(found.pooled, want.pooled)
    assert found.made_of == MADE_OF
    assert (found.spatial is not None) == spatial
    with zipfile.ZipFile(tmp_path / "ours.npz") as archive:
        assert archive.testzip() is None
        names = {"mu", "sigma", "made_of"} | ({"mu_s", "sigma_s"} if spatial else set())
        assert {*archive.namelist()} == {f"{name}.npy" for name in names}


def test_equal_statistics_are_equal_files(tmp_path):
    for name in ("a.npz", "b.npz"):
        write_reference(tmp_path / name, reference())
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_digest():
    shuffled = dict(reversed(MADE_OF.items()))
    assert digest_of(shuffled) == digest_of(MADE_OF) == digest_of({**MADE_OF, "shape": (8, 8)})
    assert digest_of({**MADE_OF, "count": 51}) != digest_of(MADE_OF)


class Maker:
    """Makes statistics and counts how often."""

    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return reference()._replace(made_of={})


def test_made_once_and_again_for_other_data_or_after_damage(tmp_path):
    make, folder = Maker(), tmp_path / "new" / "cache"
    first, second = (kept_reference(MADE_OF, make, folder) for _ in range(2))
    assert make.calls == 1
    assert_equal(second.pooled, first.pooled)
    assert first.made_of == second.made_of == MADE_OF
    kept_reference({**MADE_OF, "count": 51}, make, folder)
    assert make.calls == 2
    path = folder / f"{digest_of(MADE_OF)}.npz"
    path.write_bytes(path.read_bytes()[:100])
    assert_equal(kept_reference(MADE_OF, make, folder).pooled, first.pooled)
    assert make.calls == 3
    write_reference(path, reference()._replace(made_of={}))  # renamed by hand
    kept_reference(MADE_OF, make, folder)
    assert make.calls == 4
    assert len(list(folder.iterdir())) == 2


def test_the_cache_of_the_library(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    kept_reference(MADE_OF, Maker())
    assert (tmp_path / "skipdit_jax" / "statistics" / f"{digest_of(MADE_OF)}.npz").exists()


def test_what_cannot_be_written_leaves_the_file_that_was_there(tmp_path):
    path = tmp_path / "a.npz"
    write_reference(path, reference())
    before = path.read_bytes()
    with pytest.raises(TypeError):
        write_reference(path, reference()._replace(made_of={"seed": object()}))
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [before]


def changed(**arrays):
    pooled = statistics()
    whole = {"mu": pooled.mean, "sigma": pooled.covariance, **arrays}
    return {name: array for name, array in whole.items() if array is not None}


SIGMA = statistics().covariance
LARGE = np.zeros(4097)
UPPER = np.triu(SIGMA)
NAN = np.where(np.eye(4) == 1, np.nan, SIGMA)
REFUSED = {
    "no mean": (changed(mu=None), "no array mu, it has sigma"),
    "no covariance": (changed(sigma=None), "no array sigma, it has mu"),
    "half of the spatial ones": (changed(mu_s=np.zeros(3)), "no array sigma_s"),
    "the other half": (changed(sigma_s=SIGMA), "no array mu_s"),
    "other widths": (changed(mu=np.zeros(3)), r"found shapes \(3,\) and \(4, 4\), wanted \(D,\)"),
    "a column": (changed(mu=np.zeros((4, 1))), r"found shapes \(4, 1\)"),
    "nothing": (changed(mu=np.zeros(0), sigma=np.zeros((0, 0))), r"found shapes \(0,\)"),
    "numbers alone": (changed(mu=np.float64(1)), r"found shapes \(\)"),
    "nan": (changed(sigma=NAN), "found NaN or infinite numbers"),
    "infinite": (changed(mu=np.full(4, np.inf)), "found NaN or infinite numbers"),
    "asymmetric": (changed(sigma=UPPER), "sigma: differs from its transpose by"),
    "negative variance": (changed(sigma=-SIGMA), "found correlations above 1"),
    "no covariance at all": (changed(sigma=1 - np.eye(4)), "found correlations above 1"),
    "wide": (changed(mu=LARGE), r"mu: found shape \(4097,\), wanted 4,096 numbers at most"),
    "whole numbers": (changed(mu=np.zeros(4, int)), "mu: found int64, wanted floats"),
    "complex": (changed(sigma=SIGMA * 1j), "sigma: found complex128, wanted floats"),
    "objects": (changed(mu=np.array([None] * 4)), "mu: found Python objects"),
    "text": (changed(made_of=np.array("{}")), "made_of: found <U2, wanted uint8"),
    "no JSON": (changed(made_of=np.zeros(3, np.uint8)), "Expecting value"),
    "JSON too deep": (changed(made_of=np.full(10**6, ord("["), np.uint8)), ": .+"),
    "a list": (changed(made_of=np.frombuffer(b"[]", np.uint8)), "made_of: found list"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(tmp_path, case):
    arrays, reason = REFUSED[case]
    path = tmp_path / "broken.npz"
    np.savez_compressed(path, **arrays)
    with pytest.raises(ValueError, match=reason) as caught:
        read_reference(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert str(caught.value).isprintable()


def test_a_file_that_unpacks_to_gigabytes_is_refused_by_its_header(tmp_path):
    header = io.BytesIO()
    shape = {"descr": "<f8", "fortran_order": False, "shape": (30_000, 30_000)}
    np.lib.format.write_array_header_1_0(header, shape)
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("mu", "sigma"):
            archive.writestr(f"{name}.npy", header.getvalue() + bytes(10**6))
    with pytest.raises(ValueError, match=r"found shape \(30000, 30000\)"):
        read_reference(path)


def test_constant_features_are_a_reference(tmp_path):
    constant = FeatureStatistics(np.ones(3), np.zeros((3, 3)))
    write_reference(tmp_path / "a.npz", ReferenceStatistics(constant, None, {}))
    assert_equal(read_reference(tmp_path / "a.npz").pooled, constant)
