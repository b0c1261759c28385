"""One import of a checkpoint in a process of its own: seconds, memory, bytes read and written.

    python -m benchmarks.importing_probe FILE [--num-heads N] [--target FILE [--dtype bfloat16]]

loads the file, or with --target converts it, and prints one line of JSON. Imports of Python modules
and the start of JAX are not timed.
"""

import argparse
import contextlib
import io
import json
import time
from pathlib import Path


def proc(name: str, key: str) -> int:
    """A number of /proc/self/status or /proc/self/io, as it stands there."""
    lines = Path("/proc/self", name).read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{key}:")).split()[1])


def transferred() -> dict[str, int]:
    """Bytes of this process so far."""
    keys = {"read_bytes": "rchar", "disk_bytes": "read_bytes", "written_bytes": "wchar"}
    return {name: proc("io", key) for name, key in keys.items()}


def measure(flags: argparse.Namespace) -> dict[str, float]:
    """Does it once."""
    import jax
    import jax.numpy as jnp

    import skipdit_jax as sd
    from skipdit_jax.cli import convert

    jnp.zeros(1).block_until_ready()  # the backend is there before the clock starts
    base, before, start = proc("status", "VmRSS"), transferred(), time.perf_counter()
    if flags.target:
        command = [flags.file, flags.target, "--num-heads", str(flags.num_heads)]
        command += ["--dtype", flags.dtype] if flags.dtype else []
        with contextlib.redirect_stdout(io.StringIO()):
            convert.main(command)
    else:
        jax.block_until_ready(sd.load_checkpoint(flags.file, num_heads=flags.num_heads)[1])
    seconds, after = time.perf_counter() - start, transferred()
    return {
        "seconds": seconds,
        "base_bytes": base * 1024,
        "peak_bytes": proc("status", "VmHWM") * 1024,
        **{key: after[key] - before[key] for key in after},
    }


def main() -> None:
    """Prints the figures of one import."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file")
    parser.add_argument("--num-heads", type=int)
    parser.add_argument("--target")
    parser.add_argument("--dtype")
    print(json.dumps(measure(parser.parse_args())))


if __name__ == "__main__":
    main()
