"""InceptionV3 against the one of the benchmark, which PyTorch runs: another implementation."""

import pytest


@pytest.fixture(scope="module")
def metrics():
    pytest.importorskip("torch", reason="torch is not installed (requirements-torch.txt)")
    from benchmarks import metrics

    return metrics


def test_the_benchmark_finds_both_networks_equal(metrics):
    rows = metrics.measure(quick=True, rounds=1, threads=1)
    assert [row["torch"] for row in rows] == ["channels first", "channels last"]
    for row in rows:
        ratio = row["ours ms (median)"] / row["torch ms (median)"]
        assert row["ratio (median)"] == pytest.approx(ratio)
        assert row["deviation / rms"] < metrics.MAX_DEVIATION / 2


def test_other_pictures_are_noticed(metrics):
    """Weights that drown pictures in biases would make the comparison blind."""
    theirs = metrics.rivals()["channels first"]
    first, second = metrics.pictures(2)
    for a, b in zip(theirs(first[None]), theirs(second[None]), strict=True):
        assert metrics.deviation([a], [b]) > 100 * metrics.MAX_DEVIATION
