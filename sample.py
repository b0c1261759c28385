"""Samples pictures or clips of classes: python sample.py, or python sample.py --help."""

import sys

from skipdit_jax.cli.sample import main

if __name__ == "__main__":
    sys.exit(main())
