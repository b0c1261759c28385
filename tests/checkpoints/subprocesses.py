"""Runs a module of the tests in a fresh Python, without the type checks of the test session."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.flags import as_users_have_it

ROOT = Path(__file__).parents[2]


def in_subprocess(module, *arguments):
    """Returns what the module prints as JSON; fails with its error output if it fails."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        env={**as_users_have_it(), "PYTHONPATH": os.pathsep.join(paths), "JAX_PLATFORMS": "cpu"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)
