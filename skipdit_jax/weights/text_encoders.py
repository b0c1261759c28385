"""Text encoders for users: from a folder to a value that takes prompts, and back."""

import os
from pathlib import Path
from typing import Any

from skipdit_jax import registry
from skipdit_jax.checkpoints import (
    Checkpoint,
    CheckpointError,
    export_state_dict,
    open_checkpoint,
    save_native,
)
from skipdit_jax.checkpoints.errors import naming
from skipdit_jax.checkpoints.hub import HUB, WEB, Tell, fetch, parse
from skipdit_jax.checkpoints.layouts import OWN_NAMES
from skipdit_jax.checkpoints.load import NATIVE
from skipdit_jax.checkpoints.members import fetch_weights, first_there, member
from skipdit_jax.checkpoints.sources import (
    CONFIG,
    INDEX_SUFFIX,
    SUFFIXES,
    read_json,
)
from skipdit_jax.contracts import Network
from skipdit_jax.encoders.prompts import CLEANERS
from skipdit_jax.encoders.text import TextEncoder
from skipdit_jax.encoders.tokenizers import FILES, Tokenizer, read_tokenizer
from skipdit_jax.published import BERT_TOKENS, T5_TOKENS
from skipdit_jax.typing import Params
from skipdit_jax.weights.networks import fields_of, filled, layouts_of, network_of

LENGTHS = {"t5": T5_TOKENS, "bert": BERT_TOKENS}
TYPES = {"t5": "bfloat16", "bert": "float32"}
"""Family -> compute and storage type: half precision as published, but for BERT."""

WEIGHTS = tuple(
    f"{name}{index}"
    for name in ("model.safetensors", "pytorch_model.bin")
    for index in ("", INDEX_SUFFIX)
)
"""What a folder of transformers calls its weights, the safest first."""

ENCODER, VOCABULARY = "text_encoder", "tokenizer"  # how folders of diffusers call the two
SETTINGS = "tokenizer_config.json"


def load_text_encoder(
    source: str | os.PathLike[str],
    *,
    length: int | None = None,
    clean: str = "strip",
    tokenizer: str | os.PathLike[str] | None = None,
    dtype: str | None = None,
    tell: Tell | None = None,
    **overrides: Any,
) -> TextEncoder:
    """Reads T5 v1.1, mT5 or BERT with its vocabulary; nothing in the files is executed.

    Weights are read one tensor at a time: T5-XXL of 4.76 G numbers needs 10 GB at most in bfloat16,
    whatever type and however many files it lies in.

    Args:
      source: folder of weights (.safetensors or .bin, whole or split, with a config.json), or a
        file of weights in it; hf://OWNER/REPO[/FOLDER][@REVISION] is fetched; "digit-words" comes
        with the library.
      length: pieces of each prompt; None is 120 of T5, 77 of BERT. HunYuan-DiT has 256 of mT5.
      clean: what prompts go through first, key of `prompts.CLEANERS`: "caption" for LatteT2V and
        PixArt-alpha, "strip" for HunYuan-DiT, "lower".
      tokenizer: folder of the vocabulary, or its file; None looks beside the weights and, as
        diffusers has it, in the folder tokenizer (or tokenizer_2) beside text_encoder(_2).
      dtype: compute and storage type; None is bfloat16, float32 of BERT. Norms, softmax and T5's
        last linears compute in float32 whatever it is.
      tell: called with a line about each download.
      **overrides: fields of `T5Config` or `BertConfig` that no file tells, such as
        `wo_param_dtype="float32"`, or `num_heads` of a BERT of another size without config.json.

    Raises:
      CheckpointError: (a ValueError) one line that names what is missing or wrong, and where.

    Examples:
      >>> import skipdit_jax as sd
      >>> folder = "hf://DeepFloyd/t5-v1_1-xxl"
      >>> encoder = sd.load_text_encoder(folder, clean="caption")  # doctest: +SKIP
      >>> encoder(["a dog in astronaut suit, surfing"]).text.shape  # doctest: +SKIP
      (1, 120, 4096)
    """
    if clean not in CLEANERS:
        raise ValueError(f"clean: found {clean!r}, wanted one of {', '.join(CLEANERS)}")
    if not os.path.exists(source):
        source = registry.BUNDLED_ENCODERS.get(os.fspath(source), source)
    checkpoint = open_checkpoint(_weights(source, tell), registry.text_layouts())
    family = checkpoint.family.name
    kind = TYPES[family] if dtype is None else dtype
    network = network_of(
        checkpoint,
        registry.TEXT_ENCODERS,
        "a text encoder",
        **{"dtype": kind, "param_dtype": kind, **overrides},
    )
    folder = _folder_of(source)
    pieces = find_tokenizer(folder if tokenizer is None else tokenizer, tokenizer is None, tell)
    _check_pair(checkpoint, network, pieces)
    length = LENGTHS[family] if length is None else length
    return TextEncoder(network, filled(checkpoint, network), pieces, length, CLEANERS[clean])


def export_text_encoder(
    path: str | os.PathLike[str], params: Params, network: Network, *, layout: str = OWN_NAMES
) -> None:
    """Writes the weights of a text encoder, bit for bit.

    Args:
      path: ends in .safetensors, or for torch in .pt, .pth or .bin.
      params: its parameters.
      network: the encoder.
      layout: "torch" for the names of transformers, "native" for our own format with its config,
        "transformers" (of T5) for those names with the table of pieces under both.

    Raises:
      CheckpointError: another ending, or a file that cannot be written.
      ValueError: another layout.
    """
    if layout == NATIVE:
        save_native(path, params, fields_of(network), registry.family_of(network))
    elif layout in layouts_of(network):
        export_state_dict(path, params, fields_of(network), registry.layout_of(network), layout)
    else:
        known = ", ".join((NATIVE, *layouts_of(network)))
        raise ValueError(f"export_text_encoder: layout {layout!r}, wanted one of {known}")


def find_tokenizer(
    folder: str | os.PathLike[str], beside: bool = False, tell: Tell | None = None
) -> Tokenizer:
    """Reads the vocabulary in a folder, or the file of one.

    Args:
      folder: a path or hf://..., of a folder or of one of `tokenizers.FILES` in it.
      beside: whether it may be in a folder beside this one, see `load_text_encoder`.
      tell: called with a line about each download.

    Raises:
      CheckpointError: none is there, or none that can be read.
    """
    places = [os.fspath(folder), *(_beside(folder) if beside else ())]
    if Path(places[0]).name in FILES or Path(places[0]).is_file():
        return _read_tokenizer(fetch(places[0], tell), True)
    for place in places:
        if found := first_there(place, FILES, tell):
            settings = first_there(place, [SETTINGS], tell)
            stated = read_json(fetch(settings)) if settings else {}
            return _read_tokenizer(fetch(found), stated.get("do_lower_case", True) is not False)
    names = " or ".join(FILES)
    raise CheckpointError(
        f"{places[0]}: found no vocabulary, wanted {names} there"
        + (f" or in {' or '.join(places[1:])}" if places[1:] else "")
    )


def _read_tokenizer(file: Path, lowercase: bool) -> Tokenizer:
    with naming(file):
        try:
            return read_tokenizer(file, lowercase)
        except ValueError as error:
            raise CheckpointError(str(error)) from error


def _weights(source: str | os.PathLike[str], tell: Tell | None) -> Path:
    """The file of weights, its index or its folder, on this machine, with its config.json."""
    text = os.fspath(source)
    if not text.startswith((HUB, *WEB)):
        if not Path(text).exists():
            raise CheckpointError(
                f"{text}: is not there, wanted the folder of a text encoder: {CONFIG} and one of "
                f"{', '.join(WEIGHTS)}"
            )
        return Path(text)
    place = text.partition("@")[0]
    names = (place.rsplit("/", 1)[1],) if place.endswith((*SUFFIXES, INDEX_SUFFIX)) else WEIGHTS
    found = fetch_weights(_folder_of(source), names, tell)
    if found is None:
        raise CheckpointError(
            f"{text}: found no weights of a text encoder, wanted one of {', '.join(names)}"
        )
    return found


def _folder_of(source: str | os.PathLike[str]) -> str:
    """The folder that a source is, or lies in."""
    text = os.fspath(source)
    place, at, revision = text.partition("@") if text.startswith(HUB) else (text, "", "")
    remote = text.startswith((HUB, *WEB))
    if place.endswith((*SUFFIXES, INDEX_SUFFIX)) and (remote or not Path(place).is_dir()):
        place = place.rsplit("/", 1)[0] if remote else os.path.dirname(place) or "."
    return f"{place}{at}{revision}"


def _beside(folder: str | os.PathLike[str]) -> list[str]:
    """Where diffusers has the vocabulary of the encoder in a folder."""
    text = os.fspath(folder)
    place, at, revision = text.partition("@") if text.startswith(HUB) else (text, "", "")
    if parse(member(text, CONFIG)) is None:
        above, name = str(Path(place).absolute().parent), Path(place).absolute().name
    else:
        above, _, name = place.rstrip("/").rpartition("/")
    if text.startswith(HUB) and above.count("/") < HUB.count("/") + 1:
        return []  # the folder is a whole repository
    names = dict.fromkeys([name.replace(ENCODER, VOCABULARY), VOCABULARY])
    return [f"{above}/{other}{at}{revision}" for other in names if other != name]


def _check_pair(checkpoint: Checkpoint, network: Any, tokenizer: Tokenizer) -> None:
    """Raises CheckpointError for the vocabulary of another encoder."""
    most, bert = network.config.vocab_size, checkpoint.family.name == "bert"
    if tokenizer.size > most or bool(tokenizer.before) != bert:
        kind = "BERT" if tokenizer.before else "T5"
        raise CheckpointError(
            f"{checkpoint.path}: found a vocabulary of {kind} with {tokenizer.size} pieces, wanted "
            f"one of {network.config.FAMILY} with at most {most}"
        )
