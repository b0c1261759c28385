"""The training benchmark runs on any machine; its figures are not looked at."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_section_of_a_quick_run_prints_its_table():
    sections = ("step", "data", "compile", "flags")
    command = [sys.executable, "-m", "benchmarks.training", "--quick", "--sections", *sections]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    for name in sections:
        assert f"## {name}\n" in run.stdout
    assert "| DiT-S/8 | 2 | float32 | dots | auto |" in run.stdout
    assert "| array_record | 1 |" in run.stdout
