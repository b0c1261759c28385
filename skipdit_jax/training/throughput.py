"""How fast a run is: images, FLOPs and model FLOPs utilisation, and how long it waits for data."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax

from skipdit_jax.contracts import Costs

# Dense bfloat16 FLOP/s of one device, without sparsity, by the start of `device_kind`. Sources: the
# data sheets of NVIDIA A100, H100 (SXM, PCIe), H200, B200, L4; cloud.google.com/tpu/docs for TPUs.
PEAK_FLOPS = {
    "NVIDIA A100": 312e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA H100": 989e12,
    "NVIDIA H200": 989e12,
    "NVIDIA B200": 2250e12,
    "NVIDIA L4": 121e12,
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5p": 459e12,
    "TPU v5": 459e12,
    "TPU v6 lite": 918e12,
}
PASSES = 3  # the backward pass costs two forward ones; work done again (remat) earns no credit


def train_flops(costs: Costs) -> int:
    """FLOPs of one image (network row) in one training step, by formula."""
    return PASSES * costs.total()


def peak_flops(device_kind: str, dtype: str) -> float | None:
    """Peak FLOP/s of a device for a compute type, or None where the table does not know it.

    >>> peak_flops("NVIDIA H200", "bfloat16")
    989000000000000.0
    >>> peak_flops("cpu", "bfloat16") is None
    True
    """
    if dtype != "bfloat16":
        return None
    kinds = [kind for kind in PEAK_FLOPS if device_kind.startswith(kind)]
    return PEAK_FLOPS[max(kinds, key=len)] if kinds else None


class Meter:
    """Rates since the last reading; the first step, which compiles, does not count."""

    def __init__(self, flops_per_image: int, peak: float | None, devices: int):
        """Starts before the first step.

        Args:
          flops_per_image: see `train_flops`.
          peak: of one device, see `peak_flops`.
          devices: how many share the work.
        """
        self._flops, self._peak, self._devices = flops_per_image, peak, devices
        self._started: float | None = None
        self._images, self._waited = 0, 0.0

    def count(self, metrics: Any, images: int, waited: float) -> None:
        """Adds one step and the seconds that it waited for its batch."""
        if self._started is None:
            jax.block_until_ready(metrics)
            self._started = time.perf_counter()
        else:
            self._images += images
            self._waited += waited

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Leaves out the time of the block, which saves or samples."""
        start = time.perf_counter()
        yield
        if self._started is not None:
            self._started += time.perf_counter() - start

    def read(self) -> dict[str, float | None]:
        """images_per_second; tflops and mfu per device; data_wait, the share of waiting. Restarts.

        None is "unknown": nothing counted yet, or no peak known.
        """
        now = time.perf_counter()
        started, images, waited = self._started, self._images, self._waited
        self._images, self._waited = 0, 0.0
        if started is None or not images:
            return dict.fromkeys(("images_per_second", "tflops", "mfu", "data_wait"))
        self._started, seconds = now, now - started
        flops = self._flops * images / seconds / self._devices
        return {
            "images_per_second": images / seconds,
            "tflops": flops / 1e12,
            "mfu": flops / self._peak if self._peak else None,
            "data_wait": waited / seconds,
        }
