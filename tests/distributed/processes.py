"""Starts scripts of this folder as processes of their own, which choose their number of devices."""

import os
import socket
import subprocess
import sys
from pathlib import Path

from tests.flags import QUICKLY

ROOT = Path(__file__).parents[2]
SECONDS = 200  # far above what any of them takes
THREADS = 32


def start(*arguments, devices=1, cache=None):
    """Starts Python with these arguments and that many virtual CPU devices.

    In the folder `cache` processes that follow each other find the programs of those before.
    """
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        # Every device waits inside a thread for the others: with XLA's default, as many threads as
        # devices, one that runs something else meanwhile leaves a collective stuck for good.
        "NPROC": str(THREADS),
        "XLA_FLAGS": f"{' '.join(QUICKLY)} --xla_force_host_platform_device_count={devices} "
        f"--xla_cpu_collective_call_terminate_timeout_seconds={SECONDS}",
    }
    if cache:
        environment |= {
            "JAX_COMPILATION_CACHE_DIR": str(cache),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(processes):
    """Waits for processes that belong together; what each printed. If one hangs, all are ended."""
    try:
        outputs = [process.communicate(timeout=SECONDS) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (_, errors) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, errors[-2000:]
    return [printed for printed, _ in outputs]


def run_module(module, *arguments, devices=1):
    """What `python -m module` printed."""
    (printed,) = finish([start("-m", module, *arguments, devices=devices)])
    return printed


def free_port():
    """A port of this machine that nobody listens on."""
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]
