"""A model that was made from a file is sampled as the file says, without being told again."""

import jax
import numpy as np
import pytest

import skipdit_jax as sd
from skipdit_jax import runs
from skipdit_jax.cli.build import prepare_sampling
from skipdit_jax.cli.options import parse
from skipdit_jax.pipeline import Sampler
from skipdit_jax.published import LATENT_SCALE, SDXL_LATENT_SCALE
from skipdit_jax.registry import BUNDLED, trained
from skipdit_jax.weights.texts import encoders_of
from tests.cli import makers
from tests.encoders import tiny

STATED = {
    "diffusion": {"schedule": "squaredcos_cap_v2", "prediction": "v", "variance": "fixed_small"},
    "sampling": {"cache": "N2-800-100", "branch": 1, "clip": False},
}
LATENTS = {"skip": False, "in_channels": 4}


def by_flags(source, folder, *flags):
    """The sampler that sample.py would run."""
    job = prepare_sampling(parse(["--ckpt", str(source), "--out", str(folder / "a.png"), *flags]))
    return job.settings.sampler(job.model)


@pytest.fixture
def stated(tmp_path):
    return makers.save_small(tmp_path / "stated.safetensors", STATED, learn_sigma=False)


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_models_are_sampled_as_sample_py_does(name, tmp_path):
    model, _ = sd.load_checkpoint(name)
    flags = ("--num-sampling-steps", "20", "--cfg-scale", "2", "--cache", "N3")
    flags += ("--prompt", "a three") * bool(encoders_of(model))
    wanted = by_flags(BUNDLED[name].weights, tmp_path, *flags)
    found = Sampler(model, steps=20, guidance=2.0, cache="N3")
    assert found._program == wanted._program  # prediction, variance and clipping
    assert found.diffusion == wanted.diffusion
    np.testing.assert_array_equal(found.plan.reuse, wanted.plan.reuse)


def test_the_call_alone_draws_what_the_file_wants(stated):
    model, params = sd.load_checkpoint(stated)
    options = {"steps": 4, "guidance": 1.5, "cache": "N2"}
    loaded = runs.load_sampler(stated, **options)
    assert loaded.sampler.diffusion.schedule == "squaredcos_cap_v2"
    key = jax.random.key(3)
    drawn = sd.sample(model, params, key, [1], **options)
    wanted = loaded.sampler(loaded.params, sd.pipeline.sample_keys(key, 0, 1), [1])
    np.testing.assert_array_equal(drawn, wanted)
    assert model == model.clone(trained=None)  # nothing is compiled for what it carries
    told = Sampler(model, diffusion=sd.Diffusion(), clip=True)
    assert (told.diffusion.schedule, told._program.stepper.clip) == ("linear", True)


def test_what_a_file_says_is_written_again(stated, tmp_path):
    model, params = sd.load_checkpoint(stated)
    sd.export_checkpoint(tmp_path / "again.safetensors", params, model, layout="native")
    again, _ = sd.load_checkpoint(tmp_path / "again.safetensors")
    assert trained(again) == trained(model)
    assert trained(again).metadata == STATED


def test_a_model_of_ones_own_is_warned_of_another_process(stated):
    model, _ = sd.load_checkpoint(stated)
    own = model.clone(trained=None)
    with pytest.warns(UserWarning, match=r"trained with prediction 'v'.*diffusion="):
        sd.load_checkpoint(stated, own)
    sd.load_checkpoint(stated, model)  # carries it


def test_timesteps_that_were_not_trained_are_refused(tmp_path):
    path = makers.save_small(tmp_path / "some.safetensors", {"diffusion": {"spacing": "50"}})
    model, _ = sd.load_checkpoint(path)
    with pytest.raises(ValueError, match=r"steps '250' are not among .* wanted '50'"):
        Sampler(model)
    assert Sampler(model, steps=50).diffusion.num_steps == 50


@pytest.mark.parametrize("place", ["sampling", "training"])
def test_the_factor_of_latents_reaches_the_autoencoder(tmp_path, place):
    scale = {"latent_scale": SDXL_LATENT_SCALE}
    told = {"config": {"data": {"name": "latents", **scale}}} if place == "training" else scale
    path = makers.save_small(tmp_path / "model.safetensors", {place: told}, **LATENTS)
    vae, params = tiny.make("vae", block_out_channels=(32, 32), norm_num_groups=32)
    sd.export_vae(tmp_path / "vae.safetensors", params, vae)
    model, weights = sd.load_checkpoint(path)

    def scale_for(model, **given):
        return sd.load_vae(tmp_path / "vae.safetensors", model, **given)[0].config.scaling_factor

    assert scale_for(model) == SDXL_LATENT_SCALE
    assert scale_for(model, scaling_factor=0.5) == 0.5
    assert scale_for(None) == LATENT_SCALE
    sd.export_checkpoint(tmp_path / "again.safetensors", weights, model, layout="native")
    again, _ = sd.load_checkpoint(tmp_path / "again.safetensors")
    assert scale_for(again) == SDXL_LATENT_SCALE


@pytest.mark.parametrize("found", [10**9, 10**400, "x" * 2000, True, {"a": 1}])
def test_a_factor_that_no_run_has_is_told_in_a_short_line(tmp_path, found):
    record = {"config": {"data": {"name": "latents", "latent_scale": found}}}
    path = makers.save_small(tmp_path / "file.safetensors", {"training": record}, **LATENTS)
    with pytest.raises(sd.CheckpointError, match="latent_scale") as error:
        sd.load_checkpoint(path)
    assert len(str(error.value)) < 500


def test_a_variance_that_the_model_does_not_give_is_told(tmp_path):
    path = makers.save_small(tmp_path / "x.safetensors", {"diffusion": {"variance": "fixed_small"}})
    with pytest.raises(sd.CheckpointError, match=r"'diffusion'.*variance 'fixed_small'.*learned"):
        sd.load_checkpoint(path)
