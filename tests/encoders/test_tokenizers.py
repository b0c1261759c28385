"""Vocabularies: rows of one length, both kinds of file, broken ones."""

import json
import subprocess
import sys

import numpy as np
import pytest
import sentencepiece
import tokenizers

from skipdit_jax.encoders.tokenizers import Tokenizer, read_tokenizer
from tests.encoders.tiny_texts import SPM, VOCAB

TEXTS = ["a red bicycle", "two cats over a lake, HD photo!", ""]


def by_letter(before=(1,), after=(2,)):
    """One piece for each letter."""
    return Tokenizer(lambda text: [10 + ord(c) - ord("a") for c in text], 40, before, after, 0)


def test_rows_are_cut_and_padded_to_one_length():
    tokens = by_letter()(["abc", "", "abcdefg"], 5)
    assert tokens.ids.tolist() == [[1, 10, 11, 12, 2], [1, 2, 0, 0, 0], [1, 10, 11, 12, 2]]
    assert tokens.mask.tolist() == [[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 1, 1, 1, 1]]
    assert tokens.cut == (0, 0, 4)
    assert {tokens.ids.dtype, tokens.mask.dtype} == {np.dtype(np.int32)}


def test_pieces_and_cuts_add_up():
    long = "abcdefghij"
    for length in range(3, 15):
        for ends in (((1,), (2,)), ((), (2,))):
            tokens = by_letter(*ends)([long], length)
            assert tokens.mask.sum() - sum(map(len, ends)) + tokens.cut[0] == len(long)
            assert tokens.ids[0, tokens.mask.sum() - 1] == 2  # the end is never cut


def test_no_room_is_told():
    with pytest.raises(ValueError, match="length is 2, wanted 3 or more"):
        by_letter()(["a"], 2)


def test_what_is_laid_out_says_its_text_again():
    """Pieces are those of the library: joined they are the text."""
    model = sentencepiece.SentencePieceProcessor(model_file=str(SPM))
    tokenizer = read_tokenizer(SPM)
    for text in TEXTS[:2]:
        ids = tokenizer([text], 60).ids[0]
        assert model.decode([int(i) for i in ids if i > 1]) == model.decode(model.encode(text))


def test_a_vocabulary_in_one_file_gives_the_same_pieces(tmp_path):
    """tokenizer.json of either kind, made by the library that reads it."""
    words = {piece: i for i, piece in enumerate(VOCAB.read_text(encoding="utf-8").split("\n")[:-1])}
    tokenizers.BertWordPieceTokenizer(words, lowercase=True).save(str(tmp_path / "bert.json"))
    model = sentencepiece.SentencePieceProcessor(model_file=str(SPM))
    pieces = [(model.id_to_piece(i), model.get_score(i)) for i in range(model.vocab_size())]
    unigram = tokenizers.Tokenizer(tokenizers.models.Unigram(pieces, model.unk_id()))
    unigram.normalizer = tokenizers.normalizers.NFKC()
    unigram.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    unigram.enable_padding(length=7)
    unigram.enable_truncation(4)  # of whoever saved it
    unigram.save(str(tmp_path / "t5.json"))
    for name, other in (("bert", VOCAB), ("t5", SPM)):
        one, same = read_tokenizer(tmp_path / f"{name}.json"), read_tokenizer(other)
        assert (one.size, one.before, one.after, one.pad) == (
            same.size,
            same.before,
            same.after,
            same.pad,
        )
        for mine, theirs in zip(one(TEXTS, 20), same(TEXTS, 20), strict=True):
            assert np.array_equal(mine, theirs), name


def test_capitals_are_kept_where_the_vocabulary_has_them(tmp_path):
    (tmp_path / "vocab.txt").write_text("[PAD]\r\n[UNK]\r\n[CLS]\r\n[SEP]\r\ncat\r\nCat\r\n")
    cased = read_tokenizer(tmp_path / "vocab.txt", lowercase=False)
    assert cased(["Cat cat"], 5).ids.tolist() == [[2, 5, 4, 3, 0]]
    assert read_tokenizer(tmp_path / "vocab.txt")(["Cat cat"], 5).ids.tolist() == [[2, 4, 4, 3, 0]]


def test_marks_of_the_vocabulary_in_a_prompt_are_text():
    """A prompt cannot end itself: "</s>" is what it looks like."""
    ids = read_tokenizer(SPM)(["a </s> b"], 20).ids[0].tolist()
    assert ids.count(1) == 1


def test_numbers_beyond_the_table_are_counted(tmp_path):
    """An encoder would take the last row of its table for them."""
    words = {"[CLS]": 0, "[SEP]": 1, "[PAD]": 2, "[UNK]": 3, "cat": 900}
    tokenizers.BertWordPieceTokenizer(words).save(str(tmp_path / "tokenizer.json"))
    assert read_tokenizer(tmp_path / "tokenizer.json").size == 901


def test_a_text_without_pieces_is_told(tmp_path):
    unigram = tokenizers.Tokenizer(tokenizers.models.Unigram([("</s>", 0.0), ("<pad>", 0.0)], None))
    unigram.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ValueError, match=r"tokenizer.json: finds no pieces for 'a cat' \("):
        read_tokenizer(tmp_path / "tokenizer.json")(["a cat"], 5)


def test_a_panic_of_the_library_is_told(tmp_path, capfd):
    panic = {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}}
    model = {"type": "Unigram", "unk_id": 0, "vocab": [["</s>", 0.0], ["<pad>", -1.0]]}
    (tmp_path / "tokenizer.json").write_text(json.dumps({**panic, "model": model}))
    with pytest.raises(ValueError, match=r"tokenizer.json: is no vocabulary that can be read"):
        read_tokenizer(tmp_path / "tokenizer.json")


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("spiece.model", b"", "is no vocabulary"),
        ("spiece.model", b"\x0a\xff\xff", "is no vocabulary"),
        ("tokenizer.json", b"{", "is no vocabulary"),
        ("tokenizer.json", b'{"model": {"type": "WordLevel", "vocab": {}, "unk_token": "u"}}', ""),
        ("vocab.txt", b"a\nb\n", r"has no \[CLS\], \[SEP\], \[PAD\]"),
        ("vocab.txt", b"\xff\xfe", "is no vocabulary"),
        ("merges.bpe", b"", "is no vocabulary, wanted one of spiece.model"),
    ],
)
def test_broken_vocabularies_are_told_in_one_line(tmp_path, name, content, told):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name}: .*{told}") as caught:
        read_tokenizer(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_libraries_are_imported_when_they_are_needed():
    """`import skipdit_jax` takes seconds anyway."""
    late = {"bs4", "ftfy", "sentencepiece", "tokenizers"}
    code = f"import sys, skipdit_jax.weights; print(sorted({late} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
