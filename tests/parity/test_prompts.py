"""What prompts become on their way to an encoder, against the originals: words, pieces, masks."""

import dataclasses
import json

import numpy as np
import pytest

from skipdit_jax.encoders.prompts import CLEANERS, cleaned, cleaned_once, lowered
from skipdit_jax.encoders.tokenizers import read_tokenizer

encoders = pytest.mark.golden("t5_encoder", "mt5_encoder", "bert_encoder")


def rows_of(path):
    return json.loads(path.read_text(encoding="utf-8"))["rows"]


def check_rows(rows):
    assert len(rows) >= 40
    kinds = {"cleaned_once": cleaned_once, "cleaned": cleaned, "not_cleaned": lowered}
    for row in rows:
        found = {name: clean(row["raw"]) for name, clean in kinds.items()}
        assert found == {name: row[name] for name in kinds}, row["raw"]


@pytest.mark.golden("prompts_clean")
def test_prompts_are_cleaned_as_recorded(golden):
    check_rows(rows_of(golden))
    assert CLEANERS["caption"] is cleaned


@pytest.mark.golden("prompts_clean")
@pytest.mark.parametrize("key", ["cleaned_once", "cleaned", "not_cleaned"])
def test_damage_to_recorded_prompts_is_seen(golden, key):
    rows = rows_of(golden)
    rows[-1] = {**rows[-1], key: rows[-1][key] + "x"}
    with pytest.raises(AssertionError):
        check_rows(rows)


def check_pieces(golden):
    facts = golden.facts
    file = golden.folder / (facts.get("tokenizer") or facts["vocab_file"])
    tokenizer = read_tokenizer(file, lowercase=facts.get("do_lower_case", True))
    prompts, length = facts["prompts"], golden["ids"].shape[1]
    assert length == facts["max_length"]
    found = tokenizer(prompts, length)
    assert np.array_equal(found.ids, golden["ids"])
    assert np.array_equal(found.mask, golden["mask"])
    pieces = [len(tokenizer.pieces(prompt)) for prompt in prompts]
    ends = len(tokenizer.before) + len(tokenizer.after)
    kept = golden["mask"].sum(axis=1) - ends
    assert found.cut == tuple(pieces - kept)
    if "tokens" in facts:
        assert pieces == [len(tokens) for tokens in facts["tokens"]]


@encoders
def test_pieces_are_the_recorded_ones(golden):
    check_pieces(golden)
    assert golden["mask"].min() == 0  # some are padded


@pytest.mark.golden("mt5_encoder")
def test_a_recorded_prompt_was_cut(golden):
    assert (golden["mask"].min(axis=1) == 1).any()


@encoders
@pytest.mark.parametrize("key", ["ids", "mask"])
def test_damage_to_recorded_pieces_is_seen(golden, key):
    arrays = {**golden.arrays, key: np.array(golden[key])}
    arrays[key][0, -1] += 1
    with pytest.raises(AssertionError):
        check_pieces(dataclasses.replace(golden, arrays=arrays))
