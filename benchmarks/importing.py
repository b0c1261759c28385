"""What it takes to import DiT-XL/2-skip from its training checkpoint, in one command.

From the root of the repository:

    pip install -r requirements.txt
    python -m benchmarks.importing [--dir DIR] [--json FILE]

writes a file of the published layout and size, {model, ema, opt, args} of 11.4 GB, to DIR, and
measures in fresh processes, in turns:
  load     `sd.load_checkpoint`: the averaged weights in memory
  native   `python -m skipdit_jax.cli.convert` to our format
  native, bfloat16   the same at half the size
  torch    `convert` to a .pt file of the averaged weights alone

Columns:
  cache    warm: the file's averaged weights are in memory of the system; cold: nothing of it is
  seconds  median, fastest and slowest; without the start of Python and JAX
  peak     resident memory of the process; base is what Python and JAX need before
  read     bytes asked of files, and those that came from the disk
Needs Linux and 15 GB in DIR, which are freed at the end. `--quick` is a smoke test whose figures
mean nothing.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import report
from benchmarks.compiling import in_fresh_process
from benchmarks.training_file import write_training_file
from skipdit_jax.registry import create_model

MODEL = "DiT-XL/2-skip"
TINY = {"depth": 2, "hidden_size": 64, "num_heads": 2, "num_classes": 10}
ROUNDS, QUICK_ROUNDS = 5, 1
GB = 10**9
CASES = {
    "load": (),
    "native": ("--target", "x.safetensors"),
    "native, bfloat16": ("--target", "x.safetensors", "--dtype", "bfloat16"),
    "torch": ("--target", "x.pt"),
}
CACHES = ("cold", "warm")
Figures = dict[str, float]


def forget(path: Path) -> None:
    """Takes a file out of the system's memory."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def probe(case: str, path: Path, heads: int) -> Figures:
    """The figures of one run; what it writes is removed."""
    flags = [str(path.with_name(f)) if f.startswith("x.") else f for f in CASES[case]]
    try:
        command = ("benchmarks.importing_probe", str(path), "--num-heads", str(heads))
        return in_fresh_process(*command, *flags)
    finally:
        for written in path.parent.glob("x.*"):
            written.unlink()


def measure(
    path: Path,
    heads: int,
    rounds: int,
    caches: Sequence[str] = CACHES,
    cases: Sequence[str] = tuple(CASES),
) -> list[dict[str, object]]:
    """A row for each case and state of the cache; cases take turns."""
    runs: dict[tuple[str, str], list[Figures]] = {}
    for number in range(rounds):
        for case in cases:
            forget(path)
            for cache in caches:  # the first leaves in memory what the second reads
                figures = probe(case, path, heads)
                runs.setdefault((case, cache), []).append(figures)
                told = f"{number + 1}/{rounds} {case}, {cache}: {figures['seconds']:.1f} s"
                print(told, file=sys.stderr, flush=True)
    return [_row(case, cache, found) for (case, cache), found in runs.items()]


def _row(case: str, cache: str, runs: list[Figures]) -> dict[str, object]:
    seconds = [run["seconds"] for run in runs]

    def middle(key: str) -> float:
        return statistics.median(run[key] for run in runs) / GB

    return {
        "what": case,
        "cache": cache,
        "seconds": statistics.median(seconds),
        "fastest": min(seconds),
        "slowest": max(seconds),
        "peak GB": max(run["peak_bytes"] for run in runs) / GB,
        "base GB": middle("base_bytes"),
        "read GB": middle("read_bytes"),
        "from disk GB": middle("disk_bytes"),
        "written GB": middle("written_bytes"),
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dir", type=Path, help="for the files; default: the system's temporary")
    parser.add_argument("--rounds", type=int, help=f"default {ROUNDS}")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=tuple(CASES))
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it run at all?")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    return parser


def main() -> None:
    """Writes the file, measures, prints one table, removes the file."""
    options = _parser().parse_args()
    model = create_model(MODEL, **(TINY if options.quick else {}))
    machine: dict[str, object] = dict(report.environment(len(os.sched_getaffinity(0))))
    with tempfile.TemporaryDirectory(dir=options.dir) as folder:
        path = Path(folder) / "training.pt"
        write_training_file(path, model)
        machine["file GB"] = path.stat().st_size / GB
        print("# Import benchmark\n")
        print(report.markdown(("machine", ""), list(machine.items())) + "\n", flush=True)
        rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
        caches = CACHES[:1] if options.quick else CACHES
        rows = measure(path, model.config.num_heads, rounds, caches, options.cases)
    print(report.table(f"Import of the averaged weights of {MODEL}", rows))
    if options.json:
        options.json.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
