"""sample.py --prompt: from words to pictures and clips, on stand-ins of the released pipelines."""

import shutil

import jax
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

import skipdit_jax as sd
from skipdit_jax.cli.sample import main
from skipdit_jax.encoders.embeds import read_embeds
from skipdit_jax.models.text_conditions import TextCondition
from tests import pipelines
from tests.checkpoints import hub_server
from tests.cli.test_decode import refused

PROMPT = "a large wave crashing into the shore"
SAMPLERS = {
    "pixart": "dpm++, steps linspace3",
    "latte": "ddim (eta 0), steps leading3",
    "hunyuan": "ddpm(variance='fixed_small'), steps leading3+1",
}
FEW = ("--num-sampling-steps", "3")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("pipelines")
    for family in pipelines.MODELS:
        (root / family).mkdir()
        pipelines.put(root / family, family)
    return root


@pytest.fixture
def server(folders, tmp_path, monkeypatch):
    with hub_server.as_hub(tmp_path, monkeypatch) as server:
        for family in pipelines.MODELS:
            server.put_folder(f"owner/{family}", folders / family)
        yield server


@pytest.mark.parametrize("family", pipelines.MODELS)
def test_a_repository_and_words_become_pictures(server, own_folder, capsys, family):
    out = "out.mp4" if family == "latte" else "out.png"
    flags = ("--ckpt", f"hf://owner/{family}", *FEW, "--prompt", PROMPT, "--prompt", "ein Boot")
    assert main([*flags, "--cache", "none", "--out", out, "--npz", "out.npz"]) == 0
    told = capsys.readouterr().out
    assert f"prompt   {PROMPT}" in told
    assert "decoder  AutoencoderKL" in told
    assert f"run      {SAMPLERS[family]}, guidance" in told
    with Image.open("out.png") as picture:
        assert picture.text["Description"] == f"{PROMPT}\nein Boot"
    assert (own_folder / "out.txt").read_text() == f"{PROMPT}\nein Boot\n"
    arrays = np.load("out.npz")
    assert arrays["prompts"].tolist() == [PROMPT, "ein Boot"]
    assert arrays["arr_0"].shape == (2, *((3,) if family == "latte" else ()), 8, 8, 3)
    assert not np.array_equal(*arrays["arr_0"])


def drawn(folder, *flags):
    assert main(["--ckpt", str(folder), *FEW, "--vae", "none", "--out", "x.npz", *flags]) == 0
    return np.load("x.npz")["latents"]


def test_embeddings_are_written_once_and_read_without_encoders(folders, tmp_path, own_folder):
    flags = ("--prompt", PROMPT, "--prompt-embeds", "words.npz")
    first = drawn(folders / "pixart", *flags)
    alone = tmp_path / "alone"
    shutil.copytree(folders / "pixart" / "transformer", alone)
    for more in (flags, flags[2:]):
        assert np.array_equal(drawn(alone, *more), first)


def test_a_repository_of_one_encoder_is_taken_as_one(server, folders, own_folder):
    for part in ("text_encoder", "tokenizer"):
        for path in (folders / "pixart" / part).iterdir():
            server.put("owner/t5", path.name, path.read_bytes())
    ckpt = folders / "pixart" / "transformer"
    flags = ("--prompt", PROMPT, "--text-encoder", "hf://owner/t5")
    assert np.array_equal(drawn(ckpt, *flags), drawn(folders / "pixart", *flags[:2]))


def test_a_prompt_with_a_seed_is_the_same_whatever_stands_beside_it(folders, own_folder):
    both = ("--prompt", "a boat", "--prompt", PROMPT, "--seeds", "3", "7", "--num-samples", "2")
    one = ("--prompt", PROMPT, "--seed", "7", "--num-samples", "2")
    together, alone = (drawn(folders / "latte", *flags) for flags in (both, one))
    assert np.abs(together[2:] - alone).max() < 1e-4 * np.abs(alone).max()


def test_equal_seeds_are_equal_whatever_stands_beside_them(folders, own_folder):
    both = ("--prompt", "a boat", "--prompt", PROMPT, "--seeds", "7", "7")
    together = drawn(folders / "pixart", *both)
    alone = drawn(folders / "pixart", "--prompt", PROMPT, "--seed", "7")
    assert np.abs(together[1] - alone[0]).max() < 1e-4 * np.abs(alone).max()


def test_an_encoder_alone_is_found_in_its_own_repository(folders, server, tmp_path, own_folder):
    for path in (folders / "pixart" / "text_encoder").iterdir():
        server.put("owner/t5", path.name, path.read_bytes())
    vocabulary = folders / "pixart" / "tokenizer" / "spiece.model"
    server.put("owner/t5", "spiece.model", vocabulary.read_bytes())
    alone = folders / "pixart" / "transformer"
    typed = ("--prompt", PROMPT, "--text-encoder", "hf://owner/t5")
    beside = ("--prompt", PROMPT, "--text-encoder", str(folders / "pixart"))
    assert np.array_equal(drawn(alone, *typed), drawn(alone, *beside))


def test_a_number_of_steps_keeps_the_layout_of_the_scheduler(folders, tmp_path, own_folder, capsys):
    place = tmp_path / "trailing"
    shutil.copytree(folders / "latte", place)
    settings = {**pipelines.SCHEDULERS["latte"], "timestep_spacing": "trailing"}
    pipelines.write(place / "scheduler" / "scheduler_config.json", settings)
    drawn(place, "--prompt", PROMPT)
    assert "ddim(stride=True), steps trailing3" in capsys.readouterr().out


@pytest.mark.parametrize("family", pipelines.MODELS)
def test_flows_are_sampled_as_their_scheduler_says(folders, tmp_path, own_folder, capsys, family):
    place = tmp_path / family
    shutil.copytree(folders / family, place)
    flow = {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}
    pipelines.write(place / "scheduler" / "scheduler_config.json", flow)
    drawn(place, "--prompt", PROMPT)
    assert "flow-euler(shift=3.0), steps 3" in capsys.readouterr().out


def test_the_negative_prompt_guides(folders, own_folder):
    flags = ("--prompt", PROMPT, "--cfg-scale", "4")
    plain = drawn(folders / "pixart", *flags)
    other = drawn(folders / "pixart", *flags, "--negative-prompt", "a boat")
    assert not np.allclose(plain, other)
    assert np.array_equal(plain, drawn(folders / "pixart", *flags, "--negative-prompt", " "))


def test_a_file_of_pixarts_authors_brings_its_own_null(folders, own_folder, capsys):
    """Seen as far as each prompt, unless a negative prompt is typed."""
    model, params = sd.load_checkpoint(folders / "pixart" / "transformer")
    sd.export_checkpoint("plain.safetensors", params, model, layout="original")
    length = model.config.text_tokens
    null = np.random.default_rng(0).normal(size=(length, pipelines.WIDTH)).astype(np.float32)
    tensors = load_file("plain.safetensors")
    save_file({**tensors, "y_embedder.y_embedding": null}, "authors.safetensors")
    flags = ("--text-encoder", str(folders / "pixart"), "--num-heads", "2", "--image-size", "32")
    flags += ("--prompt", PROMPT, "--cfg-scale", "4")
    found = drawn("authors.safetensors", *flags, "--prompt-embeds", "words.npz")
    assert "without  the text of no prompt that the file holds" in capsys.readouterr().out
    embeds = read_embeds("words.npz", {"t5": pipelines.WIDTH})["t5"]
    text, mask = embeds.text[:1], embeds.mask[:1].astype(np.float32)
    given = TextCondition(text, mask, null_text=null[None], null_mask=mask)
    settings = {"steps": "linspace3", "method": "dpm++", "guidance": 4.0}
    wanted = sd.sample(model, params, jax.random.key(0), given, **settings)
    np.testing.assert_allclose(found, wanted, atol=1e-4 * np.abs(found).max())
    typed, plain = (
        drawn(name, *flags, "--negative-prompt", " ")
        for name in ("authors.safetensors", "plain.safetensors")
    )
    np.testing.assert_array_equal(typed, plain)
    assert not np.allclose(typed, found)


def test_texts_may_be_read_at_each_step(folders, own_folder, capsys):
    flags = ("--prompt", PROMPT)
    once = drawn(folders / "pixart", *flags)
    assert " MiB" in capsys.readouterr().out.split("; text ")[1]
    always = drawn(folders / "pixart", *flags, "--no-hoist")
    assert "; text " not in capsys.readouterr().out
    np.testing.assert_allclose(always, once, atol=1e-4 * np.abs(once).max())


def test_lines_of_a_file_and_other_sides(folders, own_folder):
    (own_folder / "lines").write_text("a boat\n\n  a wave \n", encoding="utf-8")
    flags = ("--prompts", "lines", "--width", "48", "--height", "32")
    assert drawn(folders / "pixart", *flags).shape == (2, 4, 6, 4)


def test_caches_are_compared_on_prompts(folders, own_folder):
    flags = ("--ckpt", str(folders / "latte"), "--num-sampling-steps", "4", "--prompt", PROMPT)
    assert main([*flags, "--compare", "N2-1000-20", "--out", "c.png"]) == 0
    assert (own_folder / "c.mp4").exists()
    with Image.open("c.png") as picture:
        assert picture.text["Description"] == PROMPT


def test_what_is_wrong_is_told_in_one_line(folders, tmp_path, small, own_folder, capsys):
    pixart = ("--ckpt", folders / "pixart", *FEW)

    lines = own_folder.parent / "a.txt"
    lines.write_text("a boat")

    def told(*flags):
        return refused(capsys, *flags)

    assert "wanted --prompt TEXT, --prompts FILE or --prompt-embeds" in told(*pixart)
    assert "takes no text, wanted a model of text" in told("--ckpt", small, "--prompt", "a boat")
    assert "wanted --prompt TEXT" in told(*pixart, "--class-labels", "1")
    assert "lines: No such file" in told(*pixart, "--prompts", "lines")
    assert "wanted both" in told(*pixart, "--prompt", "a boat", "--width", "32")
    sides = ("--width", "40", "--height", "32")
    assert "--width 40: wanted a multiple of 16" in told(*pixart, "--prompt", "a", *sides)
    alone = ("--ckpt", folders / "pixart" / "transformer", *FEW, "--prompt", "a boat")
    assert "nobody says where the text encoder (t5) is" in told(*alone)
    no = tmp_path / "no"
    assert "is not there" in told(*alone, "--text-encoder", no)
    assert "found 2, wanted that of t5" in told(*alone, "--text-encoder", no, no)
    bert = folders / "hunyuan" / "text_encoder"
    assert "holds a BERT of width 8, wanted a T5" in told(*alone, "--text-encoder", bert)
    kept = ("--prompt", "a boat", "--prompt-embeds", "a.npz", "--npz", "a.npz")
    assert "a.npz: is read by this run" in told(*pixart, *kept)
    assert "a.txt: is read by this run" in told(
        *pixart, "--prompts", lines, "--out", own_folder / ".." / "a.png"
    )
    assert "wanted NAME.npz" in told(*pixart, "--prompt", "a", "--prompt-embeds", "a.npy")
    assert "the prompts stand there" in told(
        *pixart, "--prompt", "a", "--out", "a.png", "--npz", "a.txt"
    )
    kept = ("--prompt", "a", "--prompt-embeds", "new/a.npz", "--vae", "no.safetensors")
    assert "no.safetensors" in told(*pixart, *kept)
    assert "--seeds: found 2, wanted one" in told(*pixart, "--prompt", "a", "--seeds", "1", "2")
    (tmp_path / "no.npz").write_bytes(b"nothing")
    assert "no.npz" in told(*pixart, "--prompt-embeds", tmp_path / "no.npz")
    assert not list(own_folder.iterdir())
