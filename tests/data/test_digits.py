import sys

import numpy as np
import pytest

from skipdit_jax.data import digits

TOTAL = 1797  # the set's own description in scikit-learn


def test_split_is_whole_disjoint_and_stratified():
    train, test = digits.load_digits("train"), digits.load_digits("test")
    assert len(train.labels) + len(test.labels) == TOTAL
    seen = {image.tobytes() for image in train.images}
    assert not any(image.tobytes() in seen for image in test.images)
    share = np.bincount(test.labels) / np.bincount(np.concatenate([train.labels, test.labels]))
    np.testing.assert_allclose(share, 0.2, atol=0.01)


def test_images_span_the_range_of_the_model():
    images, labels = digits.load_digits("train")
    assert images.shape == (len(labels), 8, 8, 1)
    assert (images.dtype, labels.dtype) == (np.float32, np.int32)
    assert (images.min(), images.max()) == (-1.0, 1.0)
    levels = (images + 1) * 8
    np.testing.assert_array_equal(levels, np.round(levels))
    assert set(labels.tolist()) == set(range(10))


def test_ink_is_bright_and_upright():
    """A one has its ink in the middle columns, a zero has a hole there."""
    images, labels = digits.load_digits("train")
    ones, zeros = (images[labels == label].mean(0)[..., 0] for label in (1, 0))
    assert ones[3:5, 3:5].mean() > 0.5 > zeros[3:5, 3:5].mean()
    assert (images[:, :, 0] == -1).mean() > 0.9


def test_unknown_split_is_named():
    with pytest.raises(ValueError, match=r"data\.split: found 'val'"):
        digits.load_digits("val")


def test_missing_library_is_named(monkeypatch):
    digits._read.cache_clear()
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ValueError, match=r"^data\.name 'digits': found no sklearn, wanted: pip"):
        digits.load_digits("train")
