"""Trains a model: python train.py --config configs/digits_skip.py --workdir RUN, or --help."""

import sys

from skipdit_jax.cli.train import main

if __name__ == "__main__":
    sys.exit(main())
