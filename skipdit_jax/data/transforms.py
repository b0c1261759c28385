"""Steps from a stored example to what the model sees; random ones draw from the example's place.

grain hands each random step a generator that depends on the seed and on the place of the example in
the endless row of epochs: neither threads, workers nor a restart change a draw.
"""

import grain
import numpy as np

from skipdit_jax.data.sources import IMAGE_LABELS, TEXT, DataError, Example

# uint8 0..255 to [-1, 1].
HALF_RANGE = 127.5
ROUNDING = 1e-3  # by which floats may leave [-1, 1]: half a level of 8 bits is more


class ScalePixels(grain.transforms.Map):
    """uint8 0..255 becomes float32 in [-1, 1]; float images are taken to be there already."""

    def map(self, element: Example) -> Example:
        """Returns the example with its image, or clip, as float32 of the same shape."""
        image = element["image"]
        if image.dtype == np.uint8:
            image = image.astype(np.float32) / np.float32(HALF_RANGE) - np.float32(1)
        elif not np.issubdtype(image.dtype, np.floating):
            raise ValueError(f"data: images are {image.dtype}, wanted uint8 or float in [-1, 1]")
        elif not np.abs(image).max() <= 1 + ROUNDING:
            raise DataError(
                f"data: images are floats from {image.min():g} to {image.max():g}, wanted uint8 or "
                "float in [-1, 1]"
            )
        return element | {"image": image.astype(np.float32, copy=False)}


class RandomFlip(grain.transforms.RandomMap):
    """Mirrors left and right with probability one half: a picture, or all frames of a clip at once.

    Independent images behind a clip are mirrored each by a draw of its own.
    """

    def random_map(self, element: Example, rng: np.random.Generator) -> Example:
        """Returns the example with its image [H,W,C] or [F,H,W,C] mirrored or not."""
        image = element["image"]
        mirrored = image[..., ::-1, :]
        images = len(element.get(IMAGE_LABELS, ()))
        if not images:
            return element | {"image": mirrored} if rng.integers(2) else element
        draws = rng.integers(2, size=1 + images).astype(bool)
        of_frames = np.repeat(draws, [len(image) - images, *[1] * images])
        return element | {"image": np.where(of_frames[:, None, None, None], mirrored, image)}


class ShowTexts(grain.transforms.Map):
    """Stored texts and masks become float32; labels, which then mean nothing, are left out."""

    def map(self, element: Example) -> Example:
        """Returns the example with its texts as a model of text takes them."""
        texts = {k: np.asarray(v, np.float32) for k, v in element.items() if k.startswith(TEXT)}
        kept = {k: v for k, v in element.items() if k not in ("label", IMAGE_LABELS)}
        return kept | texts


class DrawLatent(grain.transforms.RandomMap):
    """Stored moments become one draw of the latent, float32, times `scale`.

    image = scale * (mean + exp(logvar / 2) * noise), the reparametrised draw of an autoencoder's
    posterior (Kingma and Welling, 2013, eq. 10). A stored sample is only scaled.
    """

    def __init__(self, scale: float | int):
        self._scale = np.float32(scale)

    def random_map(self, element: Example, rng: np.random.Generator) -> Example:
        """Returns the example with "image" in place of the stored arrays."""
        stored = dict(element)
        if "sample" in stored:
            latent = stored.pop("sample").astype(np.float32)
        else:
            mean, logvar = (stored.pop(key).astype(np.float32) for key in ("mean", "logvar"))
            noise = rng.standard_normal(mean.shape, np.float32)
            latent = mean + np.exp(logvar / 2) * noise
        return stored | {"image": self._scale * latent}
