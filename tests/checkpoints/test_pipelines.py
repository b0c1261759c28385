"""Folders of several networks as diffusers saves them, here and on a server of this machine."""

import json
import shutil

import jax
import numpy as np
import pytest

import skipdit_jax as sd
from skipdit_jax.checkpoints import CheckpointError, members, pipelines
from skipdit_jax.registry import trained
from skipdit_jax.weights import export_vae
from tests.checkpoints import hub_server
from tests.cli import makers
from tests.encoders import tiny
from tests.networks import random_params

REPO = "owner/pipeline"
CONFIG = {"_class_name": "DiTTransformer2DModel", "num_attention_heads": 2, "sample_size": 4}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A class-conditional pipeline: transformer and autoencoder."""
    root = tmp_path_factory.mktemp("pipeline")
    index = {
        "_class_name": "DiTPipeline",
        "_diffusers_version": "0.12.0",
        "scheduler": ["diffusers", "DDIMScheduler"],
        "transformer": ["diffusers", "DiTTransformer2DModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "safety_checker": [None, None],
    }
    (root / pipelines.INDEX).write_text(json.dumps(index))
    model = makers.small_model(skip=False, in_channels=4)
    part = root / "transformer"
    part.mkdir()
    path = part / "diffusion_pytorch_model.safetensors"
    sd.export_checkpoint(path, random_params(model), model, layout="diffusers")
    (part / "config.json").write_text(json.dumps(CONFIG))
    vae, params = tiny.make("vae", block_out_channels=(32, 32), norm_num_groups=32)
    (root / "vae").mkdir()
    export_vae(root / "vae" / "diffusion_pytorch_model.safetensors", params, vae)
    stated = {"_class_name": "AutoencoderKL", "scaling_factor": 0.25, "norm_num_groups": 32}
    (root / "vae" / "config.json").write_text(json.dumps(stated))
    return root


@pytest.fixture
def server(folder, tmp_path, monkeypatch):
    with hub_server.as_hub(tmp_path, monkeypatch) as server:
        server.put_folder(REPO, folder)
        yield server


def test_a_folder_is_its_transformer_and_its_autoencoder(folder):
    model, params = sd.load_checkpoint(folder)
    own = makers.small_model(skip=False, in_channels=4)
    assert (model.config.num_heads, model.config.input_size) == (2, 4)
    same = jax.tree.map(np.array_equal, params, random_params(own))
    assert all(jax.tree.leaves(same))
    vae, _ = sd.load_vae(folder, model)
    assert vae.config.scaling_factor == 0.25


def test_a_repository_is_fetched_part_by_part(folder, server):
    model, _ = sd.load_checkpoint(f"hf://{REPO}")
    asked = {path.removeprefix(f"{REPO}/resolve/main/") for _, path, _ in server.log}
    assert not [path for path in asked if path.startswith("vae/")]
    assert model.config == sd.load_checkpoint(folder)[0].config
    sd.load_vae(f"hf://{REPO}", model)
    count = len(server.log)
    opened = pipelines.open_pipeline(f"hf://{REPO}")
    assert opened.settings("vae")["scaling_factor"] == 0.25
    assert len([1 for kind, *_ in server.log[count:] if kind == "GET"]) == 0


def test_the_index_of_a_split_part_brings_its_shards(folder, server):
    data = (folder / "transformer" / "diffusion_pytorch_model.safetensors").read_bytes()
    names = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    shard = "diffusion_pytorch_model-00001-of-00001.safetensors"
    table = {name: shard for name in names if name != "__metadata__"}
    repo = "owner/split"
    server.put(repo, pipelines.INDEX, (folder / pipelines.INDEX).read_bytes())
    index = json.dumps({"weight_map": table}).encode()
    server.put(repo, "transformer/diffusion_pytorch_model.safetensors.index.json", index)
    server.put(repo, f"transformer/{shard}", data)
    server.put(repo, "transformer/config.json", json.dumps(CONFIG).encode())
    assert sd.load_checkpoint(f"hf://{repo}")[0].config.num_heads == 2


def test_the_scheduler_of_a_pipeline_tells_how_to_sample(folder, tmp_path):
    place = tmp_path / "with"
    shutil.copytree(folder, place)
    (place / "scheduler").mkdir()
    settings = {"_class_name": "DDIMScheduler", "beta_schedule": "scaled_linear"}
    settings |= {"beta_start": 0.001, "beta_end": 0.01, "prediction_type": "v_prediction"}
    settings |= {"steps_offset": 1, "clip_sample": False, "set_alpha_to_one": False}

    def write(**changes):
        path = place / "scheduler" / "scheduler_config.json"
        path.write_text(json.dumps({**settings, **changes}))
        return trained(sd.load_checkpoint(place)[0])

    found = write()
    assert (found.diffusion.schedule, found.diffusion.prediction) == ("scaled_linear", "v")
    assert found.diffusion.beta_range == (0.001, 0.01)
    assert found.metadata["sampling"] == {"method": "ddim(end='first')", "steps": "leading250+1"}
    for changes in UNFOLLOWED:
        found = write(**changes)
        assert found.diffusion.schedule == "linear", changes  # as published
        assert not found.metadata, changes
    half = write(num_train_timesteps=500, beta_schedule="linear").diffusion
    betas = np.linspace(0.001, 0.01, 500)
    assert np.allclose(half.training_alpha_bar, np.cumprod(1 - betas), rtol=1e-12)


UNFOLLOWED = (
    {"_class_name": "PNDMScheduler"},
    {"trained_betas": [0.1]},
    {"beta_end": 2.0},
    {"steps_offset": 1.5},
    {"num_train_timesteps": "1000"},
    {"thresholding": True},
    {"clip_sample": True, "clip_sample_range": 3},
    {"_class_name": "DPMSolverMultistepScheduler", "lambda_min_clipped": "-inf"},
    {"_class_name": "DPMSolverMultistepScheduler", "solver_order": 7},
    {
        "_class_name": "DPMSolverMultistepScheduler",
        "rescale_betas_zero_snr": True,
        "use_karras_sigmas": True,
    },
)


def test_a_config_in_the_hubs_own_cache_is_brought_to_its_weights(folder, server, monkeypatch):
    elsewhere = folder / "vae" / "config.json"
    find = members.first_there

    def first_there(place, names, tell=None):
        own = [str(elsewhere)] if names == ["config.json"] and str(place).endswith("vae") else None
        return own[0] if own else find(place, names, tell)

    monkeypatch.setattr(members, "first_there", first_there)
    vae, _ = sd.load_vae(f"hf://{REPO}")
    assert vae.config.scaling_factor == 0.25


def refused(source, part="transformer"):
    with pytest.raises(CheckpointError) as error:
        pipelines.fetch_part(source, part)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_is_not_there_is_named(folder, server, tmp_path):
    assert "is a pipeline of scheduler, transformer, vae, wanted" in refused(folder, "text_encoder")
    assert f"hf://{REPO}: is a pipeline of" in refused(f"hf://{REPO}", "text_encoder")
    assert "has no model_index.json, wanted one, or hf://OWNER/REPO/FILE" in refused("hf://a/b")
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    (other / "transformer" / "diffusion_pytorch_model.safetensors").unlink()
    assert "found no transformer/diffusion_pytorch_model.safetensors" in refused(other)
    (other / pipelines.INDEX).write_text("[1]")
    assert "model_index.json holds a list, wanted a dict" in refused(other)


def test_a_file_is_no_pipeline(folder, tmp_path):
    assert pipelines.open_pipeline(folder / "transformer") is None
    assert pipelines.open_pipeline(tmp_path / "nothing.pt") is None
    assert pipelines.open_pipeline("hf://owner/repo/file.pt") is None
    assert "too long" in refused("a" * 5000)
