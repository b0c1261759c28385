"""What a training run evaluates as it goes."""

import dataclasses

from skipdit_jax.evaluation.networks.pixels import RULES
from skipdit_jax.evaluation.scores import METRICS, check_names


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """The `evaluation` part of a configuration; `evaluate_every` says how often.

    Attributes:
      samples: drawn each time, all classes as evenly as can be, always from the same noise. Few,
        so that it costs little: numbers of a run are to be compared with each other alone.
      reference: place of real pictures or their statistics, see `sample_sets.open_reference`.
      metrics: keys of `evaluation.scores.METRICS` that hold for sets of pictures or clips.
      resize: how pictures are made ready for Inception, of `pixels.RULES`.
      inception: file of its weights; "" for the published ones.
      i3d: likewise of I3D.
      batch_size: samples at a time, of sampling and of the network.
    """

    samples: int = 1000
    reference: str = ""
    metrics: tuple[str, ...] = ("fid",)
    resize: str = RULES[0]
    inception: str = ""
    i3d: str = ""
    batch_size: int = 64

    def __post_init__(self) -> None:
        for name in ("samples", "batch_size"):
            if (value := getattr(self, name)) < 1:
                raise ValueError(f"evaluation.{name}: found {value}, wanted 1 or more")
        if self.resize not in RULES:
            raise ValueError(f"evaluation.resize: found {self.resize!r}, wanted one of {RULES}")
        check_names(self.metrics)
        if pairs := [name for name in self.metrics if METRICS[name].pairs]:
            raise ValueError(
                f"evaluation.metrics: found {', '.join(pairs)}, of pairs, wanted those of sets"
            )
