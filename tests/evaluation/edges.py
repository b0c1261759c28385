"""A small network whose features are strengths of edges: what blurs a picture lowers them all."""

import jax
import jax.numpy as jnp
import numpy as np

from skipdit_jax.evaluation.extraction import Extractor

STEP = np.array([-1.0, 0.0, 1.0], np.float32)
SMOOTH, LINE = np.array([1, 2, 1], np.float32) / 4, np.array([-1, 2, -1], np.float32)
FILTERS = np.stack(
    [np.outer(*pair) for pair in ((STEP, SMOOTH), (SMOOTH, STEP), (LINE, SMOOTH), (SMOOTH, LINE))],
    axis=-1,
)
PLACES = 4  # along each side, that spatial features are averaged to
CLASSES = 40.0  # how sure the logits are


def call(params, levels):
    """(filters, uint8 [B,H,W,C]) -> what InceptionV3 is asked for, in few numbers."""
    grey = levels.astype(jnp.float32).mean(axis=-1, keepdims=True) / 255
    grey = jnp.pad(grey, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    kernel = params["filters"][:, :, None]
    maps = jax.lax.conv_general_dilated(
        grey, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    strength = jnp.abs(maps)
    height, width = (n // PLACES * PLACES for n in maps.shape[1:3])
    blocks = strength[:, :height, :width].reshape(
        len(maps), PLACES, height // PLACES, PLACES, width // PLACES, -1
    )
    spatial = blocks.mean(axis=(2, 4))[..., 0].reshape(len(maps), -1)
    pool = strength.mean(axis=(1, 2))
    return {"pool": pool, "spatial": spatial, "logits": CLASSES * pool}


def clips_call(params, levels):
    """(filters, uint8 [B,F,H,W,C]) -> what I3D is asked for: of the frames, and their changes."""
    frames = jax.vmap(lambda clip: call(params, clip)["pool"])(levels)
    changes = jnp.abs(jnp.diff(frames, axis=1)).mean(axis=1)
    return {"logits": jnp.concatenate([frames.mean(axis=1), changes], axis=-1)}


class Counting(Extractor):
    """Counts the rows that it is asked for."""

    def __init__(self, function=call, batch=8, identity="edges", scale=1.0):
        super().__init__(function, {"filters": scale * FILTERS}, batch, identity)
        self.rows, self.stop_at = 0, None

    def __call__(self, chunks):
        """As `Extractor`, until a row that stops it."""
        for made in super().__call__(chunks):
            self.rows += len(next(iter(made.values())))
            yield made
            if self.stop_at is not None and self.rows >= self.stop_at:
                raise KeyboardInterrupt


def pictures(count, seed=0, shape=(16, 20, 3)):
    """Random levels, uint8 [count,*shape]."""
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), np.uint8)
