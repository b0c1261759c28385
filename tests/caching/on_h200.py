"""Programs compiled for an H200 without one, each once and in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import h200
from tests.caching import hlo
from tests.flags import as_users_have_it

MARKS = [
    pytest.mark.h200,
    pytest.mark.skipif(
        not h200.available(),
        reason=f"needs the compiler for an H200: {h200.INSTALL}",
    ),
]
ROOT = Path(__file__).parents[2]


class Compiler:
    """Programs of a benchmark, by model and flags: samplers of one sample if nothing else is said.

    Args:
      folders: of pytest, for their texts.
      command: module and first flags.
    """

    def __init__(self, folders, *command):
        self.folders, self.done = folders, {}
        self.command = command or ("benchmarks.h200", "--batch", "1")

    def __call__(self, model, *flags):
        """Returns (figures, program)."""
        if (model, flags) not in self.done:
            text = self.folders.mktemp("hlo") / "program.txt"
            command = [sys.executable, "-m", *self.command, "--model", model]
            command += ["--hlo", str(text), *flags]
            run = subprocess.run(
                command,
                cwd=ROOT,
                env=as_users_have_it(),
                capture_output=True,
                text=True,
                check=False,
            )
            assert run.returncode == 0, run.stderr
            figures = json.loads(run.stdout.splitlines()[-1])
            self.done[model, flags] = figures, hlo.parse(text.read_text())
        return self.done[model, flags]
