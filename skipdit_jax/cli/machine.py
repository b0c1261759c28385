"""The machine and the versions that figures were measured with."""

import platform
import shlex
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import jax

PACKAGES = ("jax", "flax", "numpy")
CPUINFO = Path("/proc/cpuinfo")


def processor() -> str:
    """Its name, as the system tells it."""
    lines = CPUINFO.read_text().splitlines() if CPUINFO.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def hardware() -> dict[str, str]:
    """Processor, devices and versions, for people."""
    devices = jax.devices()
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES)
    return {
        "processor": processor(),
        "devices": f"{len(devices)} x {devices[0].device_kind}",
        "versions": f"Python {sys.version.split()[0]}, {versions}",
    }


def command(program: str, argv: Sequence[str] | None) -> str:
    """What was typed."""
    return shlex.join([*program.split(), *(sys.argv[1:] if argv is None else argv)])
