"""From captions to samples: what the encode tool stores of words, and what train.py makes of it."""

import json

import jax
import numpy as np
import pytest
from PIL import Image

import skipdit_jax as sd
from skipdit_jax.cli import encode, train
from skipdit_jax.cli.sample import main as sample
from skipdit_jax.data.latent_files import write_latents
from skipdit_jax.runs import load_config, prepare_training, previews
from skipdit_jax.training.logs import read_log
from skipdit_jax.trees import flatten
from tests import pipelines
from tests.cli.encode_kit import contents, examples, flags, made, refused
from tests.data.captioned import WORDS, write_captioned, write_list, write_shards
from tests.encoders import tiny_texts
from tests.networks import random_params

pytestmark = pytest.mark.usefixtures("without_compilation_cache", "compiled_once")

WIDTH, LENGTH = tiny_texts.T5["hidden_size"], 12
CONFIG = """
from skipdit_jax.runs import default_config

def get_config():
    config = default_config()
    config.steps, config.batch_size, config.log_every = 4, 4, 2
    config.data.name, config.data.latent_scale = "latents", 0.5
    config.model.name = "{name}"
    config.model.update({fields})
    config.sampling.steps, config.sampling.method = "3", "ddim"
    config.sampling.cache, config.sampling.guidance = "", 2.0
    return config
"""
SMALL = {"hidden_size": 24, "num_heads": 2, "input_size": 8, "text_width": WIDTH, "depth": 2}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("t5") / "text_encoder"
    tiny_texts.put(folder, "t5")
    return folder


@pytest.fixture(scope="module")
def captioned(tmp_path_factory):
    return write_captioned(tmp_path_factory.mktemp("captioned") / "set")


def of_text(encoder, *more):
    return ("--text-encoder", encoder, "--text-length", LENGTH, *more)


@pytest.fixture(scope="module")
def encoded(tmp_path_factory, captioned, weights, encoder, without_compilation_cache):
    out = tmp_path_factory.mktemp("encoded") / "set"
    assert encode.main(flags(captioned, weights, out, *of_text(encoder))) == 0
    return out


def config_file(folder, name="PixArt-S/2", **fields):
    (folder / "config.py").write_text(CONFIG.format(name=name, fields={**SMALL, **fields}))
    return folder / "config.py"


def trained(config, data, workdir, **changes):
    typed = [f"--config.{name.replace('__', '.')}={value}" for name, value in changes.items()]
    common = (f"--config={config}", f"--workdir={workdir}", f"--config.data.path={data}")
    return train.main([*common, *typed])


def stored_texts(folder):
    return {key: value for key, value in examples(folder).items() if key.startswith("text")}


def test_what_is_stored_is_what_the_encoder_gives(encoded, encoder):
    wanted = sd.load_text_encoder(encoder, length=LENGTH, clean="caption")([*WORDS, ""])
    found = stored_texts(encoded)
    assert found["text"].dtype == np.float16
    assert found["text_mask"].tolist() == wanted.mask[:-1].tolist()
    near = {"rtol": 0.02, "atol": 0.02}  # bfloat16, and rows of other numbers
    np.testing.assert_allclose(found["text"], wanted.text[:-1], **near)
    with np.load(encoded / "null_text.npz") as null:
        np.testing.assert_allclose(null["text"], wanted.text[-1], **near)
        assert null["text_mask"].tolist() == wanted.mask[-1].tolist()
    manifest = json.loads((encoded / "latents.json").read_text())
    assert manifest["texts"] == {"text": [LENGTH, WIDTH]}


def test_lists_and_shards_give_the_same_bytes(tmp_path, captioned, encoded, weights, encoder):
    whole = {name: data for name, data in contents(encoded).items() if ".json" not in name}
    for source in (
        write_list(captioned, captioned.parent / "list.jsonl"),
        write_shards(captioned, tmp_path / "shards"),
    ):
        out = tmp_path / f"of_{source.stem}"
        made(out, source, weights, *of_text(encoder))
        assert {name: contents(out)[name] for name in whole} == whole


def test_a_stopped_encoding_ends_in_the_same_bytes(tmp_path, captioned, weights, encoder):
    out, more = tmp_path / "set", of_text(encoder, "--shard-size", 4)
    made(out, captioned, weights, *more)
    whole = contents(out)
    for name in ("latents.json", "latents-00001.array_record", "null_text.npz"):
        (out / name).unlink()
    made(out, captioned, weights, *more)
    assert contents(out) == whole


def test_captions_that_were_cut_are_counted(tmp_path, captioned, weights, encoder, capsys):
    made(tmp_path / "set", captioned, weights, "--text-encoder", encoder, "--text-length", 3)
    whole = sd.load_text_encoder(encoder, length=3, clean="caption")(WORDS)
    count = sum(cut > 0 for cut in whole.cut)
    assert count
    assert f"cut      {count} captions were longer than their encoder" in capsys.readouterr().out


def test_pictures_without_a_caption_are_broken(tmp_path, weights, encoder, capsys):
    data = write_captioned(tmp_path / "set", 4)
    (data / "2.txt").unlink()
    argv = flags(data, weights, tmp_path / "out", *of_text(encoder, "--flip"))
    assert "2.png: no caption beside it, wanted 2.txt or 2.json" in refused(argv, capsys)
    stored = made(tmp_path / "out", data, weights, *of_text(encoder, "--skip-broken", "--flip"))
    assert len(stored["text"]) == 6
    np.testing.assert_array_equal(stored["text"][::2], stored["text"][1::2])


def test_bad_flags_of_captions_write_nothing(
    tmp_path, own_folder, captioned, photos, weights, encoder, encoded, capsys
):
    listed = write_list(captioned, captioned.parent / "list.jsonl")
    (tmp_path / "model_index.json").write_text('{"vae": ["diffusers", "AutoencoderKL"]}')
    for data, more, told in (
        (listed, (), "holds captions, wanted --text-encoder"),
        (captioned, ("--text-length", 3), "--text-length: wanted --text-encoder beside it"),
        (captioned, ("--text-encoder", "no"), "no: is not there"),
        (captioned, ("--text-encoder", tmp_path), "a pipeline of vae, wanted one with a text_enc"),
        (captioned, ("--text-encoder", "a", "b", "c"), "--text-encoder: found 3"),
        (captioned, ("--text-encoder", encoder, encoder), "found t5 and t5, wanted bert and t5"),
        (captioned, of_text(encoder, "--text-length", 3, 4), "--text-length: found 2, wanted 1"),
        (photos, of_text(encoder), "holds no captions, wanted 0.txt or 0.json"),
        ("tfds:x", of_text(encoder), "--text-encoder: --data tfds:x has no captions"),
    ):
        assert told in refused(flags(data, weights, "set", *more), capsys)
    assert not list(own_folder.iterdir())
    other = flags(captioned, weights, encoded, *of_text(encoder, "--text-clean", "lower"))
    assert "holds latents of text" in refused(other, capsys)


def test_captions_become_a_model_that_draws_prompts(tmp_path, encoded, encoder, weights, capsys):
    config, run, parts = config_file(tmp_path), tmp_path / "run", tmp_path / "parts"
    changes = {"skip_above": 100.0, "sample_every": 2}
    assert trained(config, encoded, run, **changes) == 0
    records = read_log(run / "metrics.jsonl")
    assert [record["steps_skipped"] for record in records] == [0, 0]
    # Stopped and continued, to the last bit.
    assert trained(config, encoded, parts, **changes, steps=2) == 0
    assert trained(config, encoded, parts, **changes) == 0
    assert [r["loss"] for r in read_log(parts / "metrics.jsonl")] == [r["loss"] for r in records]
    one, other = (sd.load_checkpoint(folder)[1] for folder in (run, parts))
    jax.tree.map(np.testing.assert_array_equal, one, other)
    drawn = contents(run / "samples")
    assert set(drawn) == {"step_0000002.png", "step_0000004.png"}
    assert drawn == contents(parts / "samples")
    typed = ("--ckpt", run, "--text-encoder", encoder, "--vae", weights, "--out", "x.png")
    assert sample([*map(str, (*typed, "--prompt", WORDS[0], "--npz", "x.npz"))]) == 0
    assert f"prompt   {WORDS[0]}" in capsys.readouterr().out
    assert np.load("x.npz")["arr_0"].shape == (1, 16, 16, 3)


def test_what_a_model_of_text_cannot_learn_from_is_told_in_one_line(
    tmp_path, encoded, finished, photos, capsys
):
    def told(config, data, **changes):
        capsys.readouterr()
        with pytest.raises(SystemExit, match="2"):
            trained(config, data, tmp_path / "run", **changes)
        line = capsys.readouterr().err
        assert line.count("\n") == 1
        return line

    config = config_file(tmp_path)
    assert "holds no embeddings of captions, wanted text of any" in told(config, finished)
    assert "'folder' has no embeddings" in told(config, photos, data__name="folder")
    assert "wanted text of any number of tokens of width 9" in told(
        config, encoded, model__text_width=9
    )
    (tmp_path / "config.py").write_text(
        CONFIG.format(name="DiT-S/2", fields={"input_size": 8, "num_classes": 1})
    )
    assert "in place of labels" in told(config, encoded)
    assert not (tmp_path / "run").exists()


def test_only_the_skips_of_a_video_model_learn_with_images_beside_clips(tmp_path):
    """Stage one of Latte-skip: from a plain model, joint clips and images, each with its text."""
    fields = {**SMALL, "num_frames": 2, "sample_size": 8}
    plain = sd.create_model("LatteT2V-S/2", **fields)
    before = random_params(plain)
    sd.export_checkpoint(tmp_path / "plain.safetensors", before, plain)
    rng = np.random.default_rng(0)
    clips = [
        {
            "sample": rng.normal(size=(5, 8, 8, 4)).astype(np.float16),
            "text": rng.normal(size=(LENGTH, WIDTH)).astype(np.float16),
            "text_mask": np.arange(LENGTH) < number,
        }
        for number in range(3, 8)
    ]
    write_latents(tmp_path / "set", clips)
    config = config_file(tmp_path, "LatteT2V-S/2-skip", num_frames=2, sample_size=8)
    changes = {
        "trainable": "('^skip_fusions_',)",
        "init__ckpt": tmp_path / "plain.safetensors",
        "init__allow_missing": "('skip_*',)",
        "data__use_image_num": 2,
        "data__frame_stride": 2,
        "steps": 2,
        "sample_every": 2,
    }
    assert trained(config, tmp_path / "set", tmp_path / "run", **changes) == 0
    model, params = sd.load_checkpoint(tmp_path / "run", weights="model")
    assert model.num_skips == 1
    after, moved = flatten(params), set()
    for path, start in flatten(before).items():
        np.testing.assert_array_equal(after.pop(path), start)
    for path, value in after.items():
        assert path.startswith("skip_fusions_0/")
        moved |= {path} if np.abs(value).max() not in (0, 1) else set()
    assert "skip_fusions_0/linear/kernel" in moved
    with Image.open(tmp_path / "run/samples/step_0000002.png") as strip:
        assert strip.height > strip.width  # a row for each of five clips, of two frames


def test_previews_are_of_the_first_captions_of_the_data(tmp_path, encoded):
    """And the whole picture is what sampling with these captions gives."""
    config = load_config(config_file(tmp_path).stem, beside=tmp_path / "x.py")
    config.data.path, config.sample_every = str(encoded), 2
    job = prepare_training(config, tmp_path / "run")
    found, stored = previews.captions_of(job), stored_texts(encoded)
    count = min(len(WORDS), previews.CAPTIONS_SHOWN)
    np.testing.assert_array_equal(found.text, stored["text"][:count].astype(np.float32))
    np.testing.assert_array_equal(found.mask, stored["text_mask"][:count])
    with np.load(encoded / "null_text.npz") as null:
        np.testing.assert_array_equal(found.null_text[-1], null["text"].astype(np.float32))
    params = jax.device_put(random_params(job.model))
    state = job.state._replace(ema={name: params for name in job.state.ema})
    samples = sd.sample(
        job.model, params, jax.random.key(config.seed), found, steps="3", method="ddim", guidance=2
    )
    wanted = previews.draw_grid(np.asarray(samples), count, pixels=False)
    np.testing.assert_array_equal(previews.Preview(job).draw(state), wanted)


def test_a_model_of_two_texts_draws_previews_too(tmp_path):
    rng = np.random.default_rng(0)
    shapes = {"sample": (8, 8, 4), "text": (LENGTH, WIDTH), "text_t5": (9, WIDTH)}
    masks = {"text_mask": np.arange(LENGTH) < 5, "text_t5_mask": np.arange(9) < 4}
    pictures = [
        {name: rng.normal(size=shape).astype(np.float16) for name, shape in shapes.items()} | masks
        for _ in range(4)
    ]
    write_latents(tmp_path / "set", pictures)
    fields = {"text_tokens": LENGTH, "t5_width": WIDTH, "t5_tokens": 9, "pooled_width": 8}
    fields |= {"text_dropout_prob": 0.0}
    config = config_file(tmp_path, "HunYuan-DiT-g/2", **fields)
    changes = {"steps": 1, "log_every": 1, "sample_every": 1}
    assert trained(config, tmp_path / "set", tmp_path / "run", **changes) == 0
    with Image.open(tmp_path / "run/samples/step_0000001.png") as grid:
        assert grid.width > 3 * grid.height


def test_a_pipeline_brings_both_encoders_of_a_model(tmp_path, captioned, weights):
    (tmp_path / "pipeline").mkdir()
    pipelines.put(tmp_path / "pipeline", "hunyuan")
    parts = [tmp_path / "pipeline" / name for name in ("text_encoder", "text_encoder_2")]
    more = ("--text-length", 20, 24)
    one = made(tmp_path / "one", captioned, weights, "--text-encoder", tmp_path / "pipeline", *more)
    wanted = sd.load_text_encoder(parts[0], length=20)(WORDS)
    np.testing.assert_allclose(one["text"], wanted.text, rtol=0.01, atol=0.01)
    assert (one["text"].shape[1:], one["text_t5"].shape[1:]) == ((20, WIDTH), (24, WIDTH))
    made(tmp_path / "two", captioned, weights, "--text-encoder", *parts, *more)
    shard = "latents-00000.array_record"
    assert contents(tmp_path / "two")[shard] == contents(tmp_path / "one")[shard]
