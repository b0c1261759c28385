"""What a diffusion model wants of text: which encoders, and conditions made of their embeddings."""

import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32

from skipdit_jax.checkpoints import Checkpoint, CheckpointError
from skipdit_jax.checkpoints.hub import Tell
from skipdit_jax.checkpoints.members import member
from skipdit_jax.contracts import Backbone
from skipdit_jax.encoders.text import TextEmbeddings, TextEncoder
from skipdit_jax.models.latte_t2v import LatteT2VConfig
from skipdit_jax.models.text_conditions import TEXT, TextCondition, TextConditioning
from skipdit_jax.models.two_texts import TwoTexts, TwoTextsConditioning
from skipdit_jax.published import HUNYUAN_NEGATIVE_PROMPT
from skipdit_jax.weights.text_encoders import load_text_encoder

ENCODER_PARTS = ("text_encoder", "text_encoder_2")
"""Where a pipeline of diffusers has its encoders."""
CLEAN = {1: "caption", 2: "strip"}
"""Number of encoders of a model -> what its prompts go through, see `prompts.CLEANERS`."""


class Wanted(NamedTuple):
    """A text encoder that a model was trained with.

    Attributes:
      name: of its embeddings, "t5" or "bert"; its family too.
      folder: where a pipeline of diffusers has it.
      length: pieces of a prompt.
      width: of its embeddings.
      clean: what prompts go through, see `prompts.CLEANERS`.
    """

    name: str
    folder: str
    length: int
    width: int
    clean: str


def encoders_of(model: Backbone) -> tuple[Wanted, ...]:
    """The text encoders of a model; none of one that takes no text.

    Examples:
      >>> import skipdit_jax as sd
      >>> [encoder] = encoders_of(sd.create_model("PixArt-XL/2"))
      >>> encoder.name, encoder.length, encoder.width
      ('t5', 120, 4096)
    """
    kind, texts = model.conditioning, {}
    if isinstance(kind, TwoTextsConditioning):
        texts = {"bert": kind.bert, "t5": kind.t5}
    elif isinstance(kind, TextConditioning):
        texts = {"t5": kind}
    return tuple(
        Wanted(name, part, text.tokens, text.width, CLEAN[len(texts)])
        for (name, text), part in zip(texts.items(), ENCODER_PARTS, strict=False)
    )


def texts_in_data(model: Backbone) -> dict[str, tuple[int | None, int]]:
    """What training data of a model holds of each caption: name -> tokens (None: any), width."""
    found = encoders_of(model)
    fixed = len(found) > 1
    names = keys_of(wanted.name for wanted in found)
    shapes = ((wanted.length if fixed else None, wanted.width) for wanted in found)
    return dict(zip(names, shapes, strict=True))


def keys_of(encoders: Iterable[str]) -> list[str]:
    """The names in training data of the embeddings of encoders in their order.

    Examples:
      >>> keys_of(["bert", "t5"])
      ['text', 'text_t5']
    """
    return [f"{TEXT}_{name}" if place else TEXT for place, name in enumerate(encoders)]


def dropped_caption(model: Backbone, constants: Mapping[str, Any]) -> dict[str, Any]:
    """What stands in for the captions that a model is trained without, so that guidance fits it.

    It is what `condition_of` gives for the negative prompt "": LatteT2V sees as many of its tokens
    as of the caption, other models those that it has.

    Args:
      model: a diffusion model of text.
      constants: of the data, see `data.open_data`.

    Raises:
      ValueError: the model drops captions and the data does not say what for.
    """
    dropout = getattr(model.config, "text_dropout_prob", 0.0)
    if dropout and not constants:
        raise ValueError(
            f"data.path: holds no embeddings of the empty caption, which stands in for "
            f"{dropout:.0%} of the captions, wanted a folder of cli.encode, or "
            "model.text_dropout_prob 0"
        )
    own_mask = isinstance(model.config, LatteT2VConfig)
    return {k: v for k, v in constants.items() if not (own_mask and k.endswith("_mask"))}


def negative_prompt_of(model: Backbone) -> str:
    """What the published samples of a model are guided away from."""
    return HUNYUAN_NEGATIVE_PROMPT if len(encoders_of(model)) > 1 else ""


def embed_prompts(
    model: Backbone,
    prompts: Sequence[str],
    source: str | os.PathLike[str] | Mapping[str, str | os.PathLike[str]],
    tell: Tell | None = None,
    **options: Any,
) -> dict[str, TextEmbeddings]:
    """Embeds prompts as a model wants them, with one encoder in memory at a time.

    Args:
      model: a diffusion model of text.
      prompts: negative prompts among them; each is embedded once.
      source: folder of a pipeline of diffusers, or hf://OWNER/REPO; or of each encoder by its name,
        {"t5": "hf://DeepFloyd/t5-v1_1-xxl"}.
      tell: called with a line about each download, and about prompts that were cut.
      **options: of `load_text_encoder`, for all of them.

    Returns:
      {name of the encoder: embeddings}, which `condition_of` and `write_embeds` take.

    Raises:
      CheckpointError: (a ValueError) an encoder is missing, damaged, or not the model's.
      ValueError: a model that takes no text, or no prompts.
    """
    prompts, made = list(dict.fromkeys(prompts)), {}
    for wanted in _some_encoders(model):
        if isinstance(source, Mapping):
            if wanted.name not in source:
                raise ValueError(
                    f"encoders: found {', '.join(source) or 'none'}, wanted {wanted.name} too"
                )
            folder: str | os.PathLike[str] = source[wanted.name]
        else:
            folder = member(source, wanted.folder)
        given = {"length": wanted.length, "clean": wanted.clean, "tell": tell, **options}
        encoder = load_text_encoder(folder, **given)
        _check_fits(encoder, wanted, os.fspath(folder))
        made[wanted.name] = encoder(prompts)
        encoder.free()
        for line in cut_lines(made[wanted.name]) if tell else ():
            tell(f"{wanted.name}: {line}")
    return made


def cut_lines(embeds: TextEmbeddings) -> list[str]:
    """A line for each prompt that was longer than its encoder sees."""
    return [
        f"{cut} pieces of the prompt {prompt[:40]!r} had no room and were cut"
        for prompt, cut in zip(embeds.prompts, embeds.cut, strict=True)
        if cut
    ]


def stored_null(checkpoint: Checkpoint) -> Float32[np.ndarray, "L E"] | None:
    """What stood for a dropped caption in training, of files that hold it: the authors' of PixArt.

    Raises:
      CheckpointError: it cannot be read.
    """
    handle = checkpoint.null_text
    return None if handle is None else handle.read().astype(np.float32)


def condition_of(
    model: Backbone,
    embeds: Mapping[str, TextEmbeddings],
    prompts: Sequence[str],
    negative: str | Sequence[str] | None = None,
    null_text: Float32[np.ndarray, "L E"] | None = None,
) -> TextCondition | TwoTexts:
    """Makes the condition of a batch, as `sample` takes it.

    LatteT2V's published pipeline shows the network the embeddings of a single prompt without its
    padding, and as many of the negative prompt's: here the mask of the prompt hides the same from
    both, of each sample by itself, so that a sample does not depend on those beside it. (Of several
    prompts the original zeroes the padding of the prompts alone.) Other models get their own masks.

    Args:
      model: a diffusion model of text.
      embeds: of `embed_prompts` or `read_embeds`; all prompts have to be in it.
      prompts: of each sample.
      negative: what to guide away from, one for all or of each sample; None is the published one.
      null_text: of `stored_null`, to guide away from in place of any negative prompt, seen as far
        as each prompt is, as PixArt's authors sample.

    Raises:
      ValueError: a model that takes no text, a prompt that was not embedded, or a null of another
        number of tokens or width.
    """
    if null_text is not None:
        return _away_from(model, embeds, prompts, null_text)
    negative = negative_prompt_of(model) if negative is None else negative
    negatives = [negative] * len(prompts) if isinstance(negative, str) else list(negative)
    if len(negatives) != len(prompts):
        raise ValueError(f"negative prompts: found {len(negatives)}, wanted 1 or {len(prompts)}")
    made = {}
    for wanted in _some_encoders(model):
        if wanted.name not in embeds:
            held = ", ".join(embeds) or "none"
            raise ValueError(f"embeddings: found {held}, wanted {wanted.name} too")
        own, null = (rows_of(embeds[wanted.name], texts) for texts in (prompts, negatives))
        null_mask = own.mask if isinstance(model.config, LatteT2VConfig) else null.mask
        masks = (mask.astype(np.float32) for mask in (own.mask, null_mask))
        mask, null_mask = masks
        made[wanted.name] = TextCondition(own.text, mask, None, null.text, null_mask)
    return TwoTexts(made["bert"], made["t5"]) if len(made) > 1 else made["t5"]


def _away_from(
    model: Backbone,
    embeds: Mapping[str, TextEmbeddings],
    prompts: Sequence[str],
    null_text: Float32[np.ndarray, "L E"],
) -> TextCondition:
    """The condition of a model of one encoder whose null is no prompt."""
    own = condition_of(model, embeds, prompts, prompts)
    if isinstance(own, TwoTexts) or null_text.shape != own.text.shape[1:]:
        found = "both encoders" if isinstance(own, TwoTexts) else f"prompts {own.text.shape[1:]}"
        raise ValueError(f"null text: found {null_text.shape}, wanted that of {found}")
    null = np.broadcast_to(null_text, own.text.shape)
    return dataclasses.replace(own, null_text=null, null_mask=own.mask)


def rows_of(embeds: TextEmbeddings, prompts: Sequence[str]) -> TextEmbeddings:
    """The embeddings of prompts, also repeated and in another order.

    Raises:
      ValueError: one of them was not embedded.
    """
    places = {prompt: row for row, prompt in enumerate(embeds.prompts)}
    for prompt in prompts:
        if prompt not in places:
            raise ValueError(
                f"embeddings: found {len(places)} prompts, none of them {prompt[:60]!r}"
            )
    return embeds[[places[prompt] for prompt in prompts]]


def widths_of(model: Backbone) -> dict[str, int]:
    """{name of each encoder: width of its embeddings}, as `read_embeds` wants them."""
    return {wanted.name: wanted.width for wanted in _some_encoders(model)}


def _some_encoders(model: Backbone) -> tuple[Wanted, ...]:
    wanted = encoders_of(model)
    if not wanted:
        raise ValueError(f"{type(model).__name__}: takes no text, wanted a model of text")
    return wanted


def _check_fits(encoder: TextEncoder, wanted: Wanted, place: str) -> None:
    config = encoder.network.config
    if (config.FAMILY.lower(), config.hidden_size) != (wanted.name, wanted.width):
        raise CheckpointError(
            f"{place}: holds a {config.FAMILY} of width {config.hidden_size}, wanted a "
            f"{wanted.name.upper()} of width {wanted.width}"
        )
