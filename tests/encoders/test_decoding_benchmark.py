"""The decoder against the one of the benchmark, which PyTorch runs: another implementation."""

import pytest


def test_the_benchmark_finds_both_decoders_equal():
    pytest.importorskip("torch", reason="torch is not installed (requirements-torch.txt)")
    from benchmarks import decoding

    rows = decoding.measure(quick=True, rounds=1, threads=1)
    assert [row["at a time"] for row in rows] == list(decoding.SLICES)
    for row in rows:
        assert row["ratio (median)"] == pytest.approx(
            row["ours s (median)"] / row["torch s (median)"]
        )
