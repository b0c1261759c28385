"""What a run was trained with is what it is sampled with: every setting that it keeps."""

import numpy as np
import pytest

from skipdit_jax import runs
from skipdit_jax.cli.build import prepare_sampling
from skipdit_jax.cli.options import parse
from skipdit_jax.data.latent_files import write_latents
from skipdit_jax.diffusion.schedules import Diffusion
from skipdit_jax.pipeline import Sampler
from skipdit_jax.published import SDXL_LATENT_SCALE
from skipdit_jax.registry import create_model
from skipdit_jax.weights import export_vae
from skipdit_jax.weights.recipe import make_recipe
from tests.cli import makers
from tests.encoders import tiny

SMALL = {"hidden_size": 16, "num_heads": 2, "depth": 4, "num_classes": 10, "learn_sigma": False}


def exported(config, folder):
    """The folder of a run that has saved and not trained."""
    job = runs.prepare_training(config, folder)
    with runs.RunFolder(job) as files:
        files.export(job.state)
    return folder


def config_of(name, **model):
    config = runs.default_config()
    config.model.name = name
    config.model.update({**SMALL, **model})
    config.batch_size = 2
    config.diffusion.variance = "fixed_small"
    return config


@pytest.fixture(scope="module")
def pixels(tmp_path_factory):
    """A run of digits in which no setting has its default."""
    config = config_of("DiT-S/2-skip", input_size=8, in_channels=1)
    config.data.name = "digits"
    config.diffusion.update(schedule="squaredcos_cap_v2", num_timesteps=400, prediction="v")
    config.sampling = {
        **{"steps": "ddim20", "method": "ddim", "guidance": 1.5, "eta": 0.25, "clip": False},
        **{"cache": "N3", "branch": 1, "num_samples": 3},
    }
    return exported(config, tmp_path_factory.mktemp("pixels") / "run")


@pytest.fixture(scope="module")
def latents(tmp_path_factory):
    """A run on latents of another factor and some timesteps of another linear schedule."""
    root = tmp_path_factory.mktemp("latents")
    array = np.zeros((4, 4, 4), np.float32)
    write_latents(root / "data", ({"sample": array, "label": y} for y in (0, 1)))
    config = config_of("DiT-S/2", input_size=4)
    config.data.update(name="latents", path=str(root / "data"), latent_scale=SDXL_LATENT_SCALE)
    config.diffusion.update(beta_range=(2e-4, 0.03), spacing="50")
    return exported(config, root / "run")


def job_of(*flags):
    return prepare_sampling(parse([*map(str, flags)]))


@pytest.mark.parametrize("file", ["", "ema.safetensors"])
def test_every_setting_of_a_run_is_that_of_its_samples(pixels, file, tmp_path):
    job = job_of("--ckpt", pixels / file, "--out", tmp_path / "a.png")
    settings = job.settings
    diffusion = settings.diffusion
    assert (diffusion.schedule, diffusion.num_timesteps) == ("squaredcos_cap_v2", 400)
    assert (diffusion.prediction, diffusion.variance) == ("v", "fixed_small")
    assert (settings.steps, settings.method, settings.guidance) == ("ddim20", "ddim", 1.5)
    assert (settings.eta, settings.clip, settings.cache.every) == (0.25, False, 3)
    assert settings.cache.branch == 1
    assert job.count == 3 * 10


def test_python_samples_with_the_same_settings(pixels, tmp_path):
    loaded = runs.load_sampler(pixels)
    settings = job_of("--ckpt", pixels, "--out", tmp_path / "a.png").settings
    wanted = settings.sampler(loaded.sampler._program.model)
    assert loaded.sampler._program == wanted._program
    assert loaded.sampler.diffusion == wanted.diffusion
    assert loaded.sampler.guidance == wanted.guidance
    np.testing.assert_array_equal(loaded.sampler.plan.reuse, wanted.plan.reuse)
    changed = runs.load_sampler(pixels, guidance=3.0, cache=None).sampler
    assert (changed.guidance.scale, changed.plan) == (3.0, None)


def test_latents_are_divided_by_the_factor_of_the_run(latents, tmp_path):
    vae, params = tiny.make("vae", block_out_channels=(32, 32), norm_num_groups=32)
    export_vae(tmp_path / "vae.safetensors", params, vae)
    flags = ("--vae", tmp_path / "vae.safetensors", "--out", tmp_path / "a.png")
    decoder = job_of("--ckpt", latents, *flags).decoder
    assert decoder.vae.config.scaling_factor == SDXL_LATENT_SCALE
    assert runs.load_sampler(latents).recipe.latent_scale == SDXL_LATENT_SCALE
    plain = makers.save_small(tmp_path / "plain.safetensors", skip=False, in_channels=4)
    decoder = job_of("--ckpt", plain, *flags).decoder
    assert decoder.vae.config.scaling_factor == vae.config.scaling_factor != SDXL_LATENT_SCALE


def test_a_run_on_some_timesteps_is_sampled_on_those(latents, tmp_path):
    flags = ("--ckpt", latents, "--out", tmp_path / "a.npz", "--num-sampling-steps")
    settings = job_of(*flags[:-1]).settings
    assert settings.diffusion.beta_range == (2e-4, 0.03)
    trained = settings.diffusion.timesteps
    np.testing.assert_array_equal(runs.load_sampler(latents).sampler.diffusion.timesteps, trained)
    assert len(trained) == 50
    with pytest.raises(ValueError, match=r"steps '30' are not among .* wanted '50'"):
        job_of(*flags, 30)


def test_a_short_process_is_sampled_on_all_its_steps(tmp_path):
    metadata = {"diffusion": {"num_timesteps": 100}}
    path = makers.save_small(tmp_path / "short.safetensors", metadata)
    assert runs.load_sampler(path).sampler.diffusion.num_steps == 100


@pytest.mark.parametrize("scale", [0, -1, float("nan"), float("inf"), "x", [1]])
def test_a_factor_that_is_none_is_told(tmp_path, scale):
    metadata = {"sampling": {"latent_scale": scale}}
    path = makers.save_small(tmp_path / "file.safetensors", metadata)
    with pytest.raises(ValueError, match=r"metadata 'sampling'.*latent_scale"):
        runs.load_sampler(path)


@pytest.mark.parametrize("training", [1, {"config": 3}, {"config": {"data": []}}])
def test_a_record_of_training_that_is_none_is_told(tmp_path, training):
    path = makers.save_small(tmp_path / "file.safetensors", {"training": training})
    with pytest.raises(ValueError, match="metadata 'sampling' is of no use"):
        runs.load_sampler(path)


def test_flows_are_sampled_and_not_trained(tmp_path):
    config = config_of("DiT-S/2", input_size=8, in_channels=1)
    config.data.name = "digits"
    config.diffusion.update(schedule="flow", prediction="flow")
    with pytest.raises(ValueError, match=r"diffusion\.schedule: found 'flow'.*not trained; wanted"):
        runs.prepare_training(config, tmp_path / "run")
    model = create_model("DiT-S/2", input_size=4, **SMALL)
    process = Diffusion(schedule="flow", prediction="flow", variance="fixed_small")
    recipe = make_recipe({}, model, process)
    assert (recipe.method, recipe.steps) == ("flow-euler", "250")
    assert Sampler(model, **recipe.options(model, process))


@pytest.mark.parametrize(("timesteps", "steps"), [(1000, "linspace20"), (15, "15")])
def test_published_steps_that_a_process_has(timesteps, steps):
    model = create_model("PixArt-S/2", depth=2)
    process = Diffusion(schedule="squaredcos_cap_v2", num_timesteps=timesteps)
    recipe = make_recipe({}, model, process)
    assert (recipe.method, recipe.steps) == ("dpm++", steps)
