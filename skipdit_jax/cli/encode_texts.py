"""The text encoders of the encode tool: captions in, columns of a shard out."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from skipdit_jax.checkpoints.digests import digest
from skipdit_jax.checkpoints.members import member
from skipdit_jax.checkpoints.pipelines import find_pipeline
from skipdit_jax.cli.distributed import say
from skipdit_jax.cli.encode_options import EncodeOptions
from skipdit_jax.data.texts import MASK_DTYPE, mask_of
from skipdit_jax.encoders.text import TextEncoder
from skipdit_jax.published import BERT_TOKENS, MT5_TOKENS
from skipdit_jax.weights import load_text_encoder
from skipdit_jax.weights.texts import CLEAN, ENCODER_PARTS, keys_of

BERT_AND_T5 = (BERT_TOKENS, MT5_TOKENS)  # of HunYuan-DiT


@dataclasses.dataclass
class Captioner:
    """Text encoders by the names of what they make.

    Attributes:
      encoders: "text", and of a second one "text_t5".
      settings: what fixes their embeddings, as plain JSON.
      longer: captions encoded so far that an encoder had to cut.
    """

    encoders: dict[str, TextEncoder]
    settings: dict[str, Any]
    longer: int = 0

    def __call__(self, captions: Iterable[str]) -> dict[str, np.ndarray]:
        """Texts [n,L,E] and masks [n,L]; a caption that is there twice is encoded once."""
        captions = [str(caption) for caption in captions]
        unique = list(dict.fromkeys(captions))
        rows = [unique.index(caption) for caption in captions]
        columns: dict[str, np.ndarray] = {}
        cut = np.zeros(len(unique), bool)
        for name, encoder in self.encoders.items():
            made = encoder(unique)
            cut |= np.asarray(made.cut) > 0
            columns |= {name: made.text[rows], mask_of(name): made.mask[rows].astype(MASK_DTYPE)}
        self.longer += int(cut.sum())
        return columns

    @property
    def shapes(self) -> dict[str, tuple[int, int]]:
        """[L,E] by name."""
        encoders = self.encoders.items()
        return {name: (one.length, one.network.config.hidden_size) for name, one in encoders}

    @property
    def described(self) -> str:
        """What they are, for people."""
        kinds = (
            f"{one.network.config.FAMILY}, {one.network.config.dtype}: {one.length} tokens of "
            f"width {one.network.config.hidden_size}"
            for one in self.encoders.values()
        )
        return "; ".join(kinds)

    def free(self) -> None:
        """Gives the memory of the parameters back."""
        for encoder in self.encoders.values():
            encoder.free()


def load_captioner(options: EncodeOptions) -> Captioner | None:
    """Loads the encoders that were asked for; None without captions.

    Raises:
      ValueError: (or CheckpointError) one that is missing, damaged or of the wrong kind.
    """
    if not options.text_encoder:
        return None
    folders = _folders(options.text_encoder)
    clean = options.text_clean or CLEAN[len(folders)]
    default = BERT_AND_T5 if len(folders) > 1 else (None,)
    lengths = options.text_length or default
    if len(lengths) != len(folders):
        raise ValueError(f"--text-length: found {len(lengths)}, wanted {len(folders)}")
    loaded = [
        load_text_encoder(folder, length=length, clean=clean, tell=say)
        for folder, length in zip(folders, lengths, strict=True)
    ]
    families = [one.network.config.FAMILY.lower() for one in loaded]
    if len(loaded) > 1 and families != ["bert", "t5"]:
        raise ValueError(f"--text-encoder: found {' and '.join(families)}, wanted bert and t5")
    encoders = dict(zip(keys_of(families), loaded, strict=True))
    settings = {
        name: {"weights": digest(one.params), "length": one.length, "clean": clean}
        for name, one in encoders.items()
    }
    return Captioner(encoders, settings)


def _folders(typed: Sequence[str]) -> list[str]:
    """Of each encoder; those of a pipeline of diffusers if one was typed.

    Raises:
      ValueError: a pipeline that has none.
    """
    pipeline = find_pipeline(typed[0], say) if len(typed) == 1 else None
    if pipeline is None:
        return list(typed)
    found = [member(typed[0], part) for part in ENCODER_PARTS if part in pipeline.classes]
    if not found:
        held = ", ".join(pipeline.classes) or "nothing"
        raise ValueError(
            f"--text-encoder {typed[0]}: a pipeline of {held}, wanted one with a {ENCODER_PARTS[0]}"
        )
    return found
