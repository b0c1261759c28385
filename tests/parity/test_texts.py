"""From prompts to what the networks read, against the recorded pipelines."""

import numpy as np
import pytest

import skipdit_jax as sd
from skipdit_jax.encoders.prompts import cleaned, stripped
from skipdit_jax.encoders.text import TextEncoder
from skipdit_jax.encoders.tokenizers import read_tokenizer
from skipdit_jax.published import HUNYUAN_NEGATIVE_PROMPT
from skipdit_jax.weights import condition_of, negative_prompt_of
from tests.parity.goldens import assert_close
from tests.parity.test_text_encoders import network_of, params_of

TEXT = 1e-5  # measured 4e-6


def encoder_of(golden, name, length, clean):
    """The encoder recorded beside a pipeline, with its vocabulary."""
    beside = golden.beside(name)
    network = network_of(beside)
    facts = beside.facts
    pieces = read_tokenizer(golden.folder / (facts.get("tokenizer") or facts["vocab_file"]))
    return TextEncoder(network, params_of(beside, network), pieces, length, clean)


def check_latte(golden):
    """One prompt: the padding of both is left out. Of two, the original zeroes the prompts'."""
    facts, length = golden.facts, golden["ids"].shape[1]
    encoder = encoder_of(golden, facts["text_encoder_file"], length, cleaned)
    prompts, negative = facts["prompts"], facts["negative_prompt"]
    tokens = encoder.tokenizer(facts["cleaned"], length)
    assert [cleaned(prompt) for prompt in prompts] == facts["cleaned"]
    assert np.array_equal(tokens.ids, golden["ids"])
    assert np.array_equal(tokens.mask, golden["mask"])
    model = sd.create_model("LatteT2V-S/2", text_width=encoder.network.config.hidden_size)
    assert negative_prompt_of(model) == negative
    made = {"t5": encoder([*prompts, negative])}
    for row, prompt, null in (
        (0, golden["enc"][1:], golden["enc"][:1]),  # of the recorded loop
        (1, golden["prompt_b1"], golden["neg_b1"]),
    ):
        text = condition_of(model, made, [prompts[row]])
        seen = int(text.mask.sum())
        assert np.array_equal(text.mask, text.null_mask)
        assert_close(text.text[:, :seen], prompt, TEXT, "prompt_b1")
        assert_close(text.null_text[:, :seen], null, TEXT, "neg_b1")
    both = condition_of(model, made, prompts[1:])
    assert_close(both.text * both.mask[..., None], golden["prompt_b2"], TEXT, "prompt_b2")
    assert_close(both.null_text, golden["neg_b2"], TEXT, "neg_b2")


def check_hunyuan(golden):
    facts = golden.facts
    lengths = {"bert": golden["enc/bert_ids"].shape[1], "t5": golden["enc/t5_ids"].shape[1]}
    files = {"bert": facts["bert_file"], "t5": facts["mt5_file"]}
    encoders = {n: encoder_of(golden, files[n], lengths[n], stripped) for n in files}
    widths = {name: one.network.config.hidden_size for name, one in encoders.items()}
    model = sd.create_model(
        "HunYuan-DiT-g/2",
        text_width=widths["bert"],
        text_tokens=lengths["bert"],
        t5_width=widths["t5"],
        t5_tokens=lengths["t5"],
    )
    assert negative_prompt_of(model) == facts["negative_prompt"] == HUNYUAN_NEGATIVE_PROMPT
    prompts = [facts["negative_prompt"], facts["prompt"]]
    made = {name: encoder(prompts) for name, encoder in encoders.items()}
    texts = condition_of(model, made, [facts["prompt"]])
    for name, part, ending in (("bert", texts.bert, ""), ("t5", texts.t5, "_t5")):
        tokens = encoders[name].tokenizer(prompts, lengths[name])
        assert np.array_equal(tokens.ids, golden[f"enc/{name}_ids"])
        mask = np.concatenate([part.null_mask, part.mask])
        assert np.array_equal(mask, golden[f"enc/text_embedding_mask{ending}"])
        want = golden[f"enc/encoder_hidden_states{ending}"]
        assert_close(np.concatenate([part.null_text, part.text]), want, TEXT, name)


LATTE = ("enc", "prompt_b1", "neg_b1", "prompt_b2", "neg_b2", "ids", "mask")
HUNYUAN = (
    "bert_ids",
    "t5_ids",
    "text_embedding_mask",
    "encoder_hidden_states",
    "encoder_hidden_states_t5",
)


@pytest.mark.golden("latte_t2v_skip_cache")
def test_latte(golden):
    check_latte(golden)
    assert golden.arrays  # the checks assert; this says that there was something to check


@pytest.mark.golden("hunyuan_dit_cache")
def test_hunyuan(golden):
    check_hunyuan(golden)
    assert golden.arrays


@pytest.mark.golden("latte_t2v_skip_cache")
@pytest.mark.parametrize("key", LATTE)
def test_damage_is_seen(golden, key):
    with pytest.raises(AssertionError):
        check_latte(golden.damaged(key))


@pytest.mark.golden("hunyuan_dit_cache")
@pytest.mark.parametrize("key", HUNYUAN)
def test_damage_to_hunyuan_is_seen(golden, key):
    with pytest.raises(AssertionError):
        check_hunyuan(golden.damaged(f"enc/{key}"))
