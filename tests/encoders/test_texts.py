"""Prompts in, embeddings and conditions out: as values, as files, through a network to a clip."""

import json
import shutil

import jax
import numpy as np
import pytest

import skipdit_jax as sd
from skipdit_jax import registry
from skipdit_jax.checkpoints import CheckpointError
from skipdit_jax.encoders.embeds import read_embeds, write_embeds
from skipdit_jax.encoders.text import MOST_ROWS, TextEmbeddings, encode
from skipdit_jax.models.text_conditions import TextCondition
from skipdit_jax.models.two_texts import TwoTexts
from skipdit_jax.weights import (
    condition_of,
    embed_prompts,
    encoders_of,
    load_text_encoder,
    negative_prompt_of,
    widths_of,
)
from tests.checkpoints import hub_server
from tests.encoders.tiny_texts import BERT, T5, put, split
from tests.networks import apply, random_params

PROMPTS = [
    "a red bicycle",
    "two cats over a lake",
    "a photo of a bird that can fly over a lake",
    "",
]
SMALL = {"depth": 2, "hidden_size": 24, "num_heads": 2, "input_size": 4}
LATTE = {**SMALL, "num_frames": 2, "text_width": T5["hidden_size"], "text_tokens": 12}
HUNYUAN = {**SMALL, "depth": 4, "pooled_width": 8, "text_width": BERT["hidden_size"]}
HUNYUAN |= {"text_tokens": 9, "t5_width": T5["hidden_size"], "t5_tokens": 12}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder")
    put(folder, "t5")
    return load_text_encoder(folder, length=16, dtype="float32")


@pytest.fixture
def pipeline(tmp_path):
    """A folder of two encoders as diffusers has it; the one of T5 lies in two files."""
    folder = tmp_path / "pipeline"
    put(folder / "text_encoder", "bert", folder / "tokenizer")
    put(folder / "text_encoder_2", "t5", folder / "tokenizer_2")
    split(folder / "text_encoder_2", 2)
    return folder


def test_an_embedding_does_not_depend_on_the_others(encoder):
    together = encoder(PROMPTS)
    assert together.text.shape == (len(PROMPTS), 16, T5["hidden_size"])
    assert together.text.dtype == np.float32
    assert together.width == T5["hidden_size"]
    for row, prompt in enumerate(PROMPTS):
        alone = encoder([prompt])
        np.testing.assert_allclose(alone.text[0], together.text[row], atol=1e-5)
        assert np.array_equal(alone.mask[0], together.mask[row])
    many = encoder([PROMPTS[i % 4] for i in range(MOST_ROWS + 3)])
    np.testing.assert_allclose(many.text[MOST_ROWS], together.text[0], atol=1e-5)


def test_padding_is_never_seen(encoder):
    """Another piece in its place changes no seen one."""
    tokens = encoder.tokenizer(PROMPTS[:1], 16)
    other = np.where(tokens.mask == 0, 7, tokens.ids).astype(np.int32)
    assert (other != tokens.ids).any()
    ours, theirs = (
        np.asarray(encode(encoder.network, encoder.params, ids, tokens.mask))[tokens.mask == 1]
        for ids in (tokens.ids, other)
    )
    assert np.array_equal(ours, theirs)


def test_nothing_is_compiled_twice_for_one_length(encoder):
    encoder(PROMPTS[:2])
    before = encode._cache_size()
    for prompts in (PROMPTS[2:], ["bird", "a cat on a red bicycle over a lake" * 5]):
        encoder(prompts)
    assert encode._cache_size() == before


def test_what_was_cut_is_counted(encoder):
    embeds = encoder(PROMPTS)
    whole = [len(encoder.tokenizer.pieces(prompt)) for prompt in PROMPTS]
    assert embeds.cut == tuple(max(0, count - 15) for count in whole)
    assert any(embeds.cut)


def test_parameters_are_given_back(tmp_path):
    put(tmp_path, "t5")
    encoder = load_text_encoder(tmp_path)
    kept = encoder(PROMPTS[:1])
    encoder.free()
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(encoder.params))
    assert np.isfinite(kept.text).all()  # it lies on the host


@pytest.mark.parametrize("given", ["a cat", []])
def test_what_is_no_list_of_texts_is_told(encoder, given):
    with pytest.raises(ValueError, match="prompts: found"):
        encoder(given)


def test_embeddings_are_written_and_read(tmp_path, encoder):
    embeds = encoder(PROMPTS)
    write_embeds(tmp_path / "x.npz", {"t5": embeds, "other": embeds})
    back = read_embeds(tmp_path / "x.npz", {"t5": T5["hidden_size"]})
    assert back.keys() == {"t5"}
    assert (back["t5"].prompts, back["t5"].cut) == (tuple(PROMPTS), embeds.cut)
    assert np.array_equal(back["t5"].text, embeds.text)
    assert np.array_equal(back["t5"].mask, embeds.mask)
    with pytest.raises(ValueError, match=r"y.npy: ends in '.npy', wanted .npz"):
        write_embeds(tmp_path / "y.npy", {"t5": embeds})
    with pytest.raises(ValueError, match="found 2 lists of prompts, wanted one"):
        write_embeds(tmp_path / "y.npz", {"t5": embeds, "bert": embeds[:2]})
    assert [path.name for path in tmp_path.iterdir()] == ["x.npz"]


def spoilt(tmp_path, encoder, change):
    path = tmp_path / "x.npz"
    write_embeds(path, {"t5": encoder(PROMPTS)})
    with np.load(path) as file:
        arrays = dict(file)
    change(arrays)
    np.savez(path, **arrays)
    return path


def nan(arrays):
    arrays["t5/text"][0, 0, 0] = np.nan


def cut_off(path):
    path.write_bytes(path.read_bytes()[:-200])
    return path


WRONG = {
    "t5 has embeddings of width 8, wanted 4096": (lambda arrays: None, 4096),
    "holds embeddings of t5, wanted bert": (lambda arrays: None, None),
    "holds embeddings of t5, wanted t5": (lambda arrays: arrays.pop("prompts"), 8),
    "t5/mask is .*, wanted int32 of 2 axes": (lambda a: a.update({"t5/mask": a["t5/mask"][0]}), 8),
    r"t5/mask is \(4, 15\), wanted": (lambda a: a.update({"t5/mask": a["t5/mask"][:, 1:]}), 8),
    "for 4 prompts, wanted": (lambda a: a.update({"t5/text": a["t5/text"][:2]}), 8),
    "NaN or infinite": (nan, 8),
    "t5/cut": (lambda arrays: arrays.pop("t5/cut"), 8),
}


@pytest.mark.parametrize("told", WRONG)
def test_other_embeddings_are_told_in_one_line(tmp_path, encoder, told):
    change, width = WRONG[told]
    path = spoilt(tmp_path, encoder, change)
    with pytest.raises(ValueError, match=rf"x\.npz: .*{told}") as caught:
        read_embeds(path, {"bert": 8} if width is None else {"t5": width})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", [cut_off, lambda p: p.write_bytes(b"PK"), lambda p: p.unlink()])
def test_damaged_files_of_embeddings_are_told(tmp_path, encoder, damage):
    path = spoilt(tmp_path, encoder, lambda arrays: None)
    damage(path)
    with pytest.raises(ValueError, match=r"x\.npz: ") as caught:
        read_embeds(path, {"t5": 8})
    assert "\n" not in str(caught.value)


def test_prompts_may_repeat_and_change_places(encoder):
    model = sd.create_model("PixArt-S/2", **SMALL, text_width=8, text_tokens=16)
    embeds = {"t5": encoder(PROMPTS)}
    text = condition_of(model, embeds, [PROMPTS[1], PROMPTS[0], PROMPTS[1]])
    assert np.array_equal(text.text, embeds["t5"].text[[1, 0, 1]])
    assert np.array_equal(text.null_text, embeds["t5"].text[[3, 3, 3]])
    assert np.array_equal(text.null_mask, embeds["t5"].mask[[3, 3, 3]])
    with pytest.raises(ValueError, match=r"found 4 prompts, none of them 'a dog'"):
        condition_of(model, embeds, ["a dog"])
    with pytest.raises(ValueError, match=r"negative prompts: found 2, wanted 1 or 1"):
        condition_of(model, embeds, PROMPTS[:1], PROMPTS[:2])
    with pytest.raises(ValueError, match=r"embeddings: found bert, wanted t5 too"):
        condition_of(model, {"bert": embeds["t5"]}, PROMPTS[:1])


def test_hiding_padding_is_leaving_it_out(encoder):
    """LatteT2V's original cuts the text; a mask keeps one length, and gives the same."""
    model = sd.create_model("LatteT2V-S/2", **LATTE)
    params = random_params(model)
    text = condition_of(model, {"t5": encoder(PROMPTS)}, PROMPTS[:1])
    x = np.random.default_rng(0).standard_normal((1, *model.sample_shape)).astype(np.float32)
    seen = int(text.mask.sum())
    assert seen < text.text.shape[1]
    t = np.array([7.0], np.float32)
    masked = apply(
        model, params, x, t, model.conditioning.prepare(TextCondition(text.text, text.mask), 1)
    )
    short = apply(model, params, x, t, model.conditioning.prepare(text.text[:, :seen], 1))
    np.testing.assert_allclose(masked, short, atol=1e-4 * float(np.abs(short).max()))


def test_models_say_which_encoders_they_want():
    hunyuan = sd.create_model("HunYuan-DiT-g/2", **HUNYUAN)
    assert [one.name for one in encoders_of(hunyuan)] == ["bert", "t5"]
    assert widths_of(hunyuan) == {"bert": 8, "t5": 8}
    assert negative_prompt_of(hunyuan).startswith("错误的眼睛")
    digits = sd.create_model("dit-digits")
    assert encoders_of(digits) == ()
    with pytest.raises(ValueError, match="DiT: takes no text"):
        widths_of(digits)


def test_a_pipeline_is_embedded_one_encoder_at_a_time(pipeline):
    model = sd.create_model("HunYuan-DiT-g/2", **HUNYUAN)
    told = []
    long = "bird " * 20
    embeds = embed_prompts(model, [*PROMPTS, long], pipeline, told.append, dtype="float32")
    assert {name: one.text.shape for name, one in embeds.items()} == {
        "bert": (5, 9, 8),
        "t5": (5, 12, 8),
    }
    assert any(line.startswith("bert: 13 pieces of the prompt 'bird bird") for line in told)
    texts = condition_of(model, embeds, PROMPTS[:2], "")
    assert isinstance(model.conditioning.prepare(texts, 2), TwoTexts)
    shutil.rmtree(pipeline / "text_encoder_2")
    with pytest.raises(
        CheckpointError, match=r"text_encoder_2: is not there, wanted the folder of"
    ):
        embed_prompts(model, PROMPTS, pipeline)


def test_the_encoder_of_another_model_is_told(pipeline):
    model = sd.create_model("PixArt-S/2", **SMALL, text_width=16)
    with pytest.raises(CheckpointError, match=r"holds a BERT of width 8, wanted a T5 of width 16"):
        embed_prompts(model, PROMPTS, pipeline)
    with pytest.raises(
        CheckpointError, match=r"_2: holds a T5 of width 8, wanted a T5 of width 16"
    ):
        embed_prompts(model, PROMPTS, {"t5": pipeline / "text_encoder_2"})
    with pytest.raises(ValueError, match=r"encoders: found none, wanted t5 too"):
        embed_prompts(model, PROMPTS, {})


@pytest.fixture
def server(tmp_path, monkeypatch):
    with hub_server.as_hub(tmp_path, monkeypatch) as server:
        yield server


def test_a_repository_is_fetched_file_by_file(pipeline, server):
    """Of a pipeline on the hub, and of an encoder that is a repository by itself."""
    server.put_folder("owner/pipe", pipeline)
    model = sd.create_model("HunYuan-DiT-g/2", **HUNYUAN)
    embeds = embed_prompts(model, PROMPTS, "hf://owner/pipe", dtype="float32")
    local = embed_prompts(model, PROMPTS, pipeline, dtype="float32")
    for name, one in local.items():
        assert np.array_equal(embeds[name].text, one.text)
    fetched = [path for path, _ in server.sent()]
    assert len(fetched) == len(set(fetched))  # each once
    count = len(server.log)
    embed_prompts(model, PROMPTS, "hf://owner/pipe")
    assert len(server.sent()) == len(fetched)
    assert len(server.log) >= count


def test_a_revision_and_a_missing_vocabulary_are_told(pipeline, server):
    for path in (pipeline / "text_encoder_2").iterdir():
        server.put("owner/t5", path.name, path.read_bytes(), revision="v1")
    with pytest.raises(
        CheckpointError, match=r"hf://owner/t5@v1: found no vocabulary, wanted spiece"
    ):
        load_text_encoder("hf://owner/t5@v1")
    vocabulary = (pipeline / "tokenizer_2" / "spiece.model").read_bytes()
    server.put("owner/t5", "spiece.model", vocabulary, revision="v1")
    assert load_text_encoder("hf://owner/t5@v1").network.config.hidden_size == 8
    with pytest.raises(
        CheckpointError, match=r"hf://owner/none: found no weights of a text encoder"
    ):
        load_text_encoder("hf://owner/none")
    server.put("owner/away", "config.json", b"{}")
    server.status = 503
    with pytest.raises(CheckpointError, match=r"cannot be fetched"):
        load_text_encoder("hf://owner/away")


def test_prompts_become_a_clip(tmp_path, pipeline):
    """From words through a file of embeddings to latents; guidance reads the negative prompt."""
    model = sd.create_model("LatteT2V-S/2", **LATTE)
    params = random_params(model)
    source = {"t5": pipeline / "text_encoder_2"}
    embeds = embed_prompts(model, PROMPTS, source, dtype="float32")
    write_embeds(tmp_path / "x.npz", embeds)
    read = read_embeds(tmp_path / "x.npz", widths_of(model))

    def draw(given, prompts):
        text = condition_of(model, given, prompts)
        options = {"steps": "ddim4", "method": "ddim", "guidance": 3.0, "cache": None}
        return np.asarray(sd.sample(model, params, jax.random.key(0), text, **options))

    clips = draw(embeds, PROMPTS[:2])
    assert clips.shape == (2, *model.sample_shape)
    assert np.array_equal(clips, draw(read, PROMPTS[:2]))
    assert not np.allclose(clips, draw(read, PROMPTS[1:3]))


def test_rows_of_embeddings_are_taken_by_number():
    text = np.arange(12, dtype=np.float32).reshape(3, 2, 2)
    embeds = TextEmbeddings(("a", "b", "c"), text, np.ones((3, 2), np.int32), (0, 1, 2))
    assert embeds[1:].prompts == ("b", "c")
    assert embeds[[2, 0]].cut == (2, 0)
    assert len(embeds[:0]) == 0
    assert json.dumps(embeds[[2]].text.tolist()) == "[[[8.0, 9.0], [10.0, 11.0]]]"


def test_a_new_encoder_starts_with_logits_of_order_one():
    """T5 has no scale of logits: its initialisation stands in for it (1910.10683)."""
    network = registry.build("t5", {**T5, "hidden_size": 64, "head_dim": 32, "depth": 1})
    params = registry.init_params(network, jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (200, 64))  # as a norm leaves it
    q, k = (x @ params["blocks_0"]["attn"][name]["kernel"] for name in "qk")
    logits = np.einsum("nhd,mhd->hnm", *(np.asarray(a).reshape(200, 2, 32) for a in (q, k)))
    assert 0.5 < logits.std() < 2.0
