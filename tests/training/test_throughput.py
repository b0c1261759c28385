"""Rates: against published FLOPs, and against a clock that the test turns."""

import pytest

from skipdit_jax.registry import create_model
from skipdit_jax.training import throughput
from skipdit_jax.training.throughput import Meter, peak_flops, train_flops

XL_TRAIN_FLOPS = 0.712e12  # per image; three times the 118.6 G multiply-adds of arXiv 2212.09748


def test_flops_of_a_training_image_are_the_published_ones():
    assert train_flops(create_model("DiT-XL/2").costs) == pytest.approx(XL_TRAIN_FLOPS, rel=2e-3)


@pytest.mark.parametrize(
    ("kind", "dtype", "peak"),
    [
        ("NVIDIA H200", "bfloat16", 989e12),
        ("NVIDIA H100 80GB HBM3", "bfloat16", 989e12),
        ("NVIDIA H100 PCIe", "bfloat16", 756e12),
        ("NVIDIA H200", "float32", None),
        ("NVIDIA GeForce RTX 4090", "bfloat16", None),
        ("cpu", "bfloat16", None),
    ],
)
def test_peaks_are_those_of_the_longest_name_or_unknown(kind, dtype, peak):
    assert peak_flops(kind, dtype) == peak


@pytest.fixture
def clock(monkeypatch):
    """The time of the meter, as a list whose only element the test sets."""
    now = [100.0]
    monkeypatch.setattr(throughput.time, "perf_counter", lambda: now[0])
    return now


def test_rates_leave_out_the_first_step_and_pauses(clock):
    meter = Meter(flops_per_image=2_000, peak=1e4, devices=2)
    meter.count((), 8, waited=50.0)
    clock[0] += 2.0
    meter.count((), 8, waited=0.5)
    with meter.pause():
        clock[0] += 77.0
    clock[0] += 2.0
    meter.count((), 8, waited=0.5)
    assert meter.read() == {
        "images_per_second": 4.0,
        "tflops": pytest.approx(4e-9),
        "mfu": pytest.approx(0.4),
        "data_wait": 0.25,
    }
    clock[0] += 4.0
    meter.count((), 8, waited=0.0)
    assert meter.read()["images_per_second"] == 2.0


def test_what_is_unknown_is_none(clock):
    meter = Meter(flops_per_image=1, peak=None, devices=1)
    assert set(meter.read().values()) == {None}
    meter.count((), 4, waited=0.0)
    assert set(meter.read().values()) == {None}
    clock[0] += 1.0
    meter.count((), 4, waited=0.0)
    assert meter.read()["mfu"] is None
