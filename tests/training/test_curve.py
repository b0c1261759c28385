"""The committed loss curve of the bundled weights, its first hundred steps trained again."""

import numpy as np
import pytest

from configs import digits_skip
from skipdit_jax.registry import ASSETS
from skipdit_jax.runs.job import prepare_training
from skipdit_jax.training.logs import read_log
from skipdit_jax.training.loop import Hooks, train
from skipdit_jax.training.throughput import Meter

# Another processor sums in another order, and a hundred steps carry that on: the mean loss of these
# steps moves by less than this.
PROCESSORS = 1e-3


class EnoughError(Exception):
    """The first record is there."""


def test_the_committed_curve_comes_out_again(tmp_path):
    committed = read_log(ASSETS / "dit_digits_loss.jsonl")
    config = digits_skip.get_config()
    assert committed[-1]["step"] == config.steps
    job, found = prepare_training(config, tmp_path / "run"), []

    def stop(record):
        found.append(record)
        raise EnoughError

    hooks = Hooks(learning_rate=job.learning_rate, save=lambda *_: None, log=stop)
    with pytest.raises(EnoughError):
        train(job.state, job.step, job.batches, job.config.loop, hooks, Meter(1, None, 1))
    for name in ("step", "loss", "mse", "vb", "grad_norm", "lr"):
        np.testing.assert_allclose(found[0][name], committed[0][name], rtol=PROCESSORS)
    assert not (tmp_path / "run").exists()
