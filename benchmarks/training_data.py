"""How fast batches of latents are read, and how long a training loop waits for them."""

import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from benchmarks.training_step import BATCH
from skipdit_jax.data.config import DataConfig
from skipdit_jax.data.latent_files import FORMATS, write_latents
from skipdit_jax.data.loader import ArraySource, BatchIterator, make_batches
from skipdit_jax.data.open import open_data
from skipdit_jax.training.feed import Feed
from skipdit_jax.training.loop import Hooks, LoopConfig, train
from skipdit_jax.training.state import TrainState
from skipdit_jax.training.step import Metrics
from skipdit_jax.training.throughput import Meter

# 50 % of an H200's 989 TFLOP/s (dense bfloat16) at the 0.712 TFLOP of a DiT-XL/2 training image.
TARGET_RATE = 695
SHAPE = (32, 32, 4)  # latents of 256 x 256 pixels
CLASSES = 1000
EXAMPLES, QUICK_EXAMPLES = 8192, 64
QUICK_BATCH = 8
READ_BATCHES, QUICK_READ_BATCHES = 40, 4  # of one timing
WARM_UPS = 3  # batches: more than are kept ahead
LOOP_STEPS, QUICK_LOOP_STEPS = 60, 4
WORKERS = (0, 1)

Open = Callable[[], BatchIterator]


def _examples(count: int) -> Iterator[dict[str, Any]]:
    """Moments of an autoencoder, as the published models were trained on, in float16."""
    rng = np.random.default_rng(0)
    for i in range(count):
        mean = rng.standard_normal(SHAPE, np.float32).astype(np.float16)
        yield {"mean": mean, "logvar": np.full(SHAPE, -3, np.float16), "label": i % CLASSES}


def _synthetic(count: int, batch: int) -> BatchIterator:
    """Float32 latents that lie in memory: what nothing has to be read or drawn for."""
    images = np.random.default_rng(0).standard_normal((count, *SHAPE), np.float32)
    labels = np.arange(count, dtype=np.int32) % CLASSES
    return make_batches(ArraySource(images, labels), batch_size=batch, seed=0)


@contextmanager
def sources(quick: bool) -> Iterator[dict[str, Open]]:
    """Yields name -> what opens its batches; the files go when the block ends."""
    count, batch = (QUICK_EXAMPLES, QUICK_BATCH) if quick else (EXAMPLES, BATCH)
    # grain's workers need parsed flags of absl (docs of grain); these benchmarks have none.
    flags.FLAGS.mark_as_parsed()
    opened: dict[str, Open] = {"in memory": lambda: _synthetic(count, batch)}
    with tempfile.TemporaryDirectory() as folder:
        for kind, workers in itertools.product(FORMATS, WORKERS):
            path = Path(folder) / kind
            if not path.exists():
                write_latents(path, _examples(count), format=kind)
            config = DataConfig(name="latents", path=str(path), workers=workers)
            opened[f"{kind}, {workers or 'no'} worker"] = lambda config=config: open_data(
                config, sample_shape=SHAPE, num_classes=CLASSES, batch_size=batch, seed=0
            )
        yield opened


def _read(open_batches: Open, count: int) -> float:
    """Examples a second."""
    batches = open_batches()
    for _ in range(WARM_UPS):
        next(batches)
    start = time.perf_counter()
    examples = sum(len(next(batches)["label"]) for _ in range(count))
    seconds = time.perf_counter() - start
    batches.close()
    return examples / seconds


def measure_rates(quick: bool, rounds: int) -> list[dict[str, object]]:
    """Rows: examples a second that each source gives to a loop that does nothing else.

    Sources take turns, each with the machine to itself: one that is open reads ahead.
    """
    count = QUICK_READ_BATCHES if quick else READ_BATCHES
    with sources(quick) as opened:
        rates: dict[str, list[float]] = {name: [] for name in opened}
        for _ in range(rounds):
            for name, open_batches in opened.items():
                rates[name].append(_read(open_batches, count))
    return [
        {
            "source": name,
            "examples/s, median": statistics.median(found),
            "slowest": min(found),
            f"median / {TARGET_RATE}": statistics.median(found) / TARGET_RATE,
        }
        for name, found in rates.items()
    ]


def paced_step(rate: float) -> tuple[TrainState, Callable[..., Any]]:
    """A state and a step that takes as long as one at `rate` images a second, and computes nothing.

    It blocks where a device would work on while the host reads, so waits show in full.
    """
    state = TrainState(jnp.zeros((), jnp.int32), {}, {}, (), jax.random.key(0))
    metrics = Metrics(*(jnp.zeros(()) for _ in Metrics._fields))

    def step(state: TrainState, batch: Any) -> tuple[TrainState, Metrics]:
        time.sleep(len(batch["label"]) / rate)
        return state, metrics

    return state, step


def measure_waits(
    quick: bool, step: Callable[..., Any], state: TrainState, flops: int, peak: float | None
) -> list[dict[str, object]]:
    """Rows: the library's own loop over each source, and its own figures.

    Args:
      quick: few and small batches.
      step: step(state, batch) -> (state, metrics), already compiled.
      state: handed from source to source, as steps donate it.
      flops: of one image.
      peak: FLOP/s of the device, if known.
    """
    rows = []
    with sources(quick) as opened:
        for name, open_batches in opened.items():
            records: list[dict[str, Any]] = []
            feed = Feed(open_batches(), jax.device_put)
            length = int(state.step) + (QUICK_LOOP_STEPS if quick else LOOP_STEPS)
            config = LoopConfig(steps=length, log_every=length, checkpoint_every=length)
            hooks = Hooks(learning_rate=lambda _: 0.0, save=lambda *_: None, log=records.append)
            state = train(state, step, feed, config, hooks, Meter(flops, peak, devices=1))
            feed.close()
            (found,) = records
            rows.append(
                {
                    "source": name,
                    "images/s": found["images_per_second"],
                    "waits for data %": 100 * found["data_wait"],
                    "MFU %": 100 * found["mfu"] if found["mfu"] else "-",
                }
            )
    return rows
