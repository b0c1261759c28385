"""From what was typed of text to the condition of every sample: prompts, encoders, embeddings."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from skipdit_jax.checkpoints import Checkpoint
from skipdit_jax.checkpoints.pipelines import find_pipeline
from skipdit_jax.checkpoints.released import recognised
from skipdit_jax.cli.distributed import say
from skipdit_jax.cli.options import OF_TEXT, SampleOptions
from skipdit_jax.cli.outputs import check_writable, make_folders
from skipdit_jax.contracts import Backbone
from skipdit_jax.encoders.embeds import SUFFIX, read_embeds, write_embeds
from skipdit_jax.weights.texts import (
    condition_of,
    embed_prompts,
    encoders_of,
    negative_prompt_of,
    stored_null,
    widths_of,
)

STORED_NULL = "the text of no prompt that the file holds (--negative-prompt TEXT takes another)"
MOST_TEXT = 2**20  # bytes of --prompts: more prompts than anybody draws


@dataclasses.dataclass(frozen=True)
class Prompts:
    """What to draw of a model of text.

    Attributes:
      texts: of each sample.
      negative: what all of them are guided away from; of a null that no prompt makes, its name.
      condition: of all samples, as the model takes it.
    """

    texts: tuple[str, ...]
    negative: str
    condition: Any


def wanted_texts(options: SampleOptions, model: Backbone) -> list[str] | None:
    """The prompts that were typed; [] leaves them to --prompt-embeds. None for a model of classes.

    Raises:
      ValueError: none for a model of text, some for another, or a file that cannot be read.
    """
    typed = [f"--{name.replace('_', '-')}" for name in OF_TEXT if getattr(options, name)]
    if not encoders_of(model):
        if typed:
            kind = type(model).__name__
            raise ValueError(f"{typed[0]}: {kind} takes no text, wanted a model of text")
        return None
    if options.class_labels is not None:
        raise ValueError("--class-labels: the model draws what a text says, wanted --prompt TEXT")
    texts = [*(options.prompt or ()), *(_lines(options.prompts) if options.prompts else ())]
    kept = options.prompt_embeds is not None and options.prompt_embeds.exists()
    if not texts and not kept:
        raise ValueError(
            "the model draws what a text says: wanted --prompt TEXT, --prompts FILE or "
            "--prompt-embeds FILE.npz"
        )
    if options.prompt_embeds is not None and not kept:
        if options.prompt_embeds.suffix != SUFFIX:
            raise ValueError(f"--prompt-embeds {options.prompt_embeds}: wanted NAME{SUFFIX}")
        check_writable("--prompt-embeds", options.prompt_embeds)
    if options.seeds and texts and len(options.seeds) != len(texts):
        raise ValueError(f"--seeds: found {len(options.seeds)}, wanted one of {len(texts)} prompts")
    return texts


def _lines(path: Path) -> list[str]:
    """The lines of a file that hold something."""
    try:
        with path.open("rb") as file:
            data = file.read(MOST_TEXT + 1)
        if len(data) > MOST_TEXT:
            raise ValueError(f"has more than {MOST_TEXT} bytes")
        lines = data.decode("utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        told = getattr(error, "strerror", None) or error
        raise ValueError(f"--prompts {path}: {told}, wanted lines of UTF-8") from error
    found = [line.strip() for line in lines if line.strip()]
    if not found:
        raise ValueError(f"--prompts {path}: is empty, wanted a prompt a line")
    return found


def embedded(
    options: SampleOptions,
    texts: Sequence[str],
    model: Backbone,
    checkpoint: Checkpoint | None,
    recommended: str = "",
) -> Prompts:
    """Reads the embeddings of all prompts, or makes them; encoders are gone when it returns.

    Args:
      options: what was typed.
      texts: of `wanted_texts`.
      model: of text.
      checkpoint: whose encoders are taken where none was typed.
      recommended: the encoder that the checkpoint names.

    Raises:
      ValueError: (or CheckpointError) a file or an encoder that is missing or does not fit.
    """
    given = options.negative_prompt
    negative = negative_prompt_of(model) if given is None else given
    null = stored_null(checkpoint) if given is None and checkpoint is not None else None
    path = options.prompt_embeds
    if path is not None and path.exists():
        embeds = read_embeds(path, widths_of(model))
        held = next(iter(embeds.values())).prompts
        texts = texts or [text for text in held if text != negative] or [negative]
        wanted = texts if null is not None else [*texts, negative]
        if missing := [text for text in wanted if text not in held]:
            raise ValueError(
                f"--prompt-embeds {path}: holds no {missing[0]!r:.80}, wanted the prompts and the "
                "negative prompt"
            )
    else:
        source = _encoders(options, model, checkpoint, recommended)
        embeds = embed_prompts(model, list(dict.fromkeys([*texts, negative])), source, tell=say)
        if path is not None:
            make_folders([path])
            write_embeds(path, embeds)
    rows = options.num_samples or 1
    drawn = [text for text in texts for _ in range(rows)]
    condition = condition_of(model, embeds, drawn, negative, null)
    return Prompts(tuple(drawn), negative if null is None else STORED_NULL, condition)


def _encoders(
    options: SampleOptions, model: Backbone, checkpoint: Checkpoint | None, recommended: str
) -> str | dict[str, str]:
    """Where the encoders are: typed, in the pipeline of --ckpt, or published with the weights.

    Raises:
      ValueError: nobody says.
    """
    names = [encoder.name for encoder in encoders_of(model)]
    typed = options.text_encoder
    if typed is not None:
        if len(typed) == 1 and (len(names) > 1 or find_pipeline(typed[0], say)):
            return typed[0]
        if len(typed) != len(names):
            wanted = " and ".join(names)
            raise ValueError(f"--text-encoder: found {len(typed)}, wanted that of {wanted}")
        return dict(zip(names, typed, strict=True))
    if recommended and len(names) == 1:
        return {names[0]: recommended}
    if options.ckpt and find_pipeline(options.ckpt, say):
        return options.ckpt
    row = None if checkpoint is None else recognised(checkpoint)
    if row is not None and row.pipeline:
        return row.pipeline
    raise ValueError(
        f"--prompt: nobody says where the text encoder ({' and '.join(names)}) is, wanted "
        "--text-encoder FOLDER or --prompt-embeds FILE.npz"
    )
