"""From prompts to numbers of pieces, by the libraries that made the published vocabularies.

All texts of a call become rows of one length: the pieces, what the encoder was trained to see
around them, padding. Libraries are imported when a vocabulary is read.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int32

SENTENCEPIECE, FAST, WORDS = "spiece.model", "tokenizer.json", "vocab.txt"
FILES = (SENTENCEPIECE, FAST, WORDS)
"""Of a vocabulary, the first of which is taken: of T5, of either in one file, of BERT."""

T5_ENDS, BERT_ENDS = ("</s>", "<pad>"), ("[CLS]", "[SEP]", "[PAD]")
LEAST_LENGTH = 3  # a piece, and what stands at both ends


class Tokens(NamedTuple):
    """Rows for an encoder.

    Attributes:
      ids: numbers of pieces, [B,L].
      mask: 1 for what is of the text and its ends, 0 for padding, [B,L].
      cut: how many pieces of each text had no room.
    """

    ids: Int32[np.ndarray, "B L"]
    mask: Int32[np.ndarray, "B L"]
    cut: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Tokenizer:
    """A vocabulary, and how texts are laid out for its encoder.

    Attributes:
      pieces: text -> numbers of its pieces, without what stands around them.
      size: how many pieces there are.
      before: pieces ahead of each text.
      after: pieces behind it.
      pad: the piece of padding.
    """

    pieces: Callable[[str], Sequence[int]]
    size: int
    before: tuple[int, ...]
    after: tuple[int, ...]
    pad: int

    def __call__(self, texts: Sequence[str], length: int) -> Tokens:
        """Cuts and pads each text to so many pieces.

        Raises:
          ValueError: a length that leaves no room for a piece.
        """
        if length < LEAST_LENGTH:
            raise ValueError(f"tokenizer: length is {length}, wanted {LEAST_LENGTH} or more")
        room = length - len(self.before) - len(self.after)
        ids = np.full((len(texts), length), self.pad, np.int32)
        mask = np.zeros((len(texts), length), np.int32)
        cut = []
        for row, text in enumerate(texts):
            pieces = list(self.pieces(text))
            kept = [*self.before, *pieces[:room], *self.after]
            ids[row, : len(kept)] = kept
            mask[row, : len(kept)] = 1
            cut.append(max(len(pieces) - room, 0))
        return Tokens(ids, mask, tuple(cut))


def read_tokenizer(file: Path, lowercase: bool = True) -> Tokenizer:
    """Reads a vocabulary, whose kind its name tells; see `FILES`.

    Args:
      file: spiece.model or another .model of sentencepiece, tokenizer.json of `tokenizers`, or a
        vocab.txt of BERT.
      lowercase: of a vocab.txt, whether texts are lowered and lose their accents first.

    Raises:
      ValueError: no such vocabulary, or one without an end or padding; one line.
    """
    kinds = {".model": _sentencepiece, ".json": _of_json, ".txt": lambda f: _words(f, lowercase)}
    if file.suffix not in kinds:
        raise ValueError(f"{file}: is no vocabulary, wanted one of {', '.join(FILES)}")
    with _told(file, "is no vocabulary that can be read"):
        return kinds[file.suffix](file)


def _sentencepiece(file: Path) -> Tokenizer:
    """T5's: the end of the text is told, its beginning is not."""
    import sentencepiece

    model = sentencepiece.SentencePieceProcessor()
    model.LoadFromSerializedProto(file.read_bytes())  # its constructor takes an empty file
    end, pad = _there(file, {"end": model.eos_id(), "padding": model.pad_id()})
    return Tokenizer(model.encode, model.vocab_size(), (), (end,), pad)


def _of_json(file: Path) -> Tokenizer:
    """Either kind as one file: with [CLS] it is BERT's."""
    import tokenizers

    model = tokenizers.Tokenizer.from_str(file.read_text(encoding="utf-8"))
    model.no_truncation()
    model.no_padding()
    if model.token_to_id(BERT_ENDS[0]) is None:
        end, pad = _numbers(file, model, *T5_ENDS)
        return Tokenizer(_encoding(file, model), _size(model), (), (end,), pad)
    return _of_bert(file, model)


def _words(file: Path, lowercase: bool) -> Tokenizer:
    """BERT's: [CLS] text [SEP]."""
    import tokenizers

    lines = file.read_text(encoding="utf-8").split("\n")
    vocabulary = {line.rstrip("\r"): number for number, line in enumerate(lines) if line}
    _there(file, {piece: vocabulary.get(piece) for piece in BERT_ENDS})
    model = tokenizers.BertWordPieceTokenizer(vocabulary, lowercase=lowercase)
    return _of_bert(file, model)


def _of_bert(file: Path, model: Any) -> Tokenizer:
    first, last, pad = _numbers(file, model, *BERT_ENDS)
    return Tokenizer(_encoding(file, model), _size(model), (first,), (last,), pad)


def _encoding(file: Path, model: Any) -> Callable[[str], Sequence[int]]:
    def pieces(text: str) -> Sequence[int]:
        with _told(file, f"finds no pieces for {text[:40]!r}"):
            return model.encode(text, add_special_tokens=False).ids

    return pieces


def _size(model: Any) -> int:
    """One more than the largest number: a file may number its pieces as it likes."""
    return max(model.get_vocab().values(), default=-1) + 1


@contextlib.contextmanager
def _told(file: Path, what: str) -> Iterator[None]:
    """Makes whatever a library raises one line; they raise Exception itself, and panics of Rust."""
    try:
        yield
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        if str(error).startswith(f"{file}: "):
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{file}: {what} ({reason})") from error


def _numbers(file: Path, model: Any, *pieces: str) -> list[int]:
    return _there(file, {piece: model.token_to_id(piece) for piece in pieces})


def _there(file: Path, pieces: dict[str, int | None]) -> list[int]:
    """The numbers of pieces; raises ValueError if one is not there."""
    found = {name: number for name, number in pieces.items() if number is not None and number >= 0}
    if missing := [name for name in pieces if name not in found]:
        raise ValueError(f"{file}: has no {', '.join(missing)}, wanted a vocabulary of T5 or BERT")
    return list(found.values())
