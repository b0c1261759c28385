"""What the flags of sample.py mean, without running anything."""

from pathlib import Path

import numpy as np
import pytest

from skipdit_jax import Diffusion, Guidance, SkipCache, registry
from skipdit_jax.cli.build import prepare_sampling
from skipdit_jax.cli.options import parse
from skipdit_jax.cli.outputs import Targets
from skipdit_jax.cli.sample import describe_run
from skipdit_jax.cli.settings import choose_labels, make_settings
from skipdit_jax.published import IMAGENET_LABELS
from skipdit_jax.registry.samples import default_labels
from skipdit_jax.weights.recipe import Recipe
from tests.checkpoints.states import torch_state, write_wrapped
from tests.cli import makers

INSIDE = Guidance(scale=2.0, interval=(100, 700))


def job(*flags):
    return prepare_sampling(parse([str(flag) for flag in flags]))


def test_nothing_typed_takes_what_the_checkpoint_recommends(small):
    found = job("--ckpt", small)
    assert (found.settings.steps, found.settings.method) == (str(makers.STEPS), "ddpm")
    assert found.settings.cache == SkipCache(every=3)
    assert found.settings.guidance == 2.0
    assert found.settings.diffusion.schedule == "squaredcos_cap_v2"
    assert found.settings.clip, "pixels are clipped"
    assert found.labels.tolist() == [*range(10), *range(10)]
    assert (found.count, found.batch, found.columns) == (20, 20, 10)


def test_an_interval_keeps_the_published_channels(plain_latents):
    found = job("--ckpt", plain_latents, "--guidance-interval", "0", "500").settings.guidance
    assert found == Guidance(scale=4.0, channels=3, interval=(0, 500))
    found = job("--ckpt", plain_latents, "--cfg-rescale", "0.7").settings.guidance
    assert (found.rescale, found.interval) == (0.7, None)


def test_nothing_typed_and_nothing_recommended_is_as_published(plain_latents):
    found = job("--ckpt", plain_latents)
    assert (found.settings.steps, found.settings.method) == ("250", "ddpm")
    assert (found.settings.guidance, found.settings.cache) == (4.0, None)
    assert found.settings.diffusion.schedule == "linear"
    assert not found.settings.clip
    assert found.count == 10


@pytest.mark.parametrize(
    ("flags", "field", "value"),
    [
        (["--num-sampling-steps", "ddim50"], "steps", "ddim50"),
        (["--num-sampling-steps", "1000"], "steps", "1000"),
        (["--sampler", "ddim"], "method", "ddim"),
        (["--sampler", "ddim", "--eta", "0.5"], "eta", 0.5),
        (["--cfg-scale", "1.5"], "guidance", 1.5),
        (["--guidance-interval", "100", "700"], "guidance", INSIDE),
        (["--driver", "nested"], "driver", "nested"),
        (["--cache", "none"], "cache", None),
        (["--cache", "N2-900-50"], "cache", SkipCache(every=2, start=900, stop=50)),
        (["--cache-step", "4"], "cache", SkipCache(every=4)),
        (["--cache-at-branch", "1"], "cache", SkipCache(every=3, branch=1)),
        (
            ["--cache", "N2", "--cache-at-branch", "1"],
            "cache",
            SkipCache(every=2, branch=1),
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_flag_wins_over_the_checkpoint(small, flags, field, value):
    assert getattr(job("--ckpt", small, *flags).settings, field) == value


def test_a_name_with_a_cache_wins_over_the_checkpoint():
    options = parse(["--model", "DiT-cache-2"])
    entry, recipe = registry.find_model("DiT-cache-2"), Recipe(cache="N4")
    found = make_settings(options, entry, recipe, Diffusion(), makers.small_model())
    assert found.cache == SkipCache(every=2, branch=4, start=1000, stop=20)


def test_the_model_and_how_to_compute(small):
    found = job("--ckpt", small, "--dtype", "bfloat16", "--attention", "fold", "--batch-size", 3)
    assert (found.model.config.dtype, found.model.config.attention) == ("bfloat16", "fold")
    assert found.batch == 3
    assert found.model.config.hidden_size == makers.SMALL["hidden_size"]


def test_labels_typed_are_sampled_once_unless_told(small):
    assert job("--ckpt", small, "--class-labels", "7,7").labels.tolist() == [7, 7]
    rows = job("--ckpt", small, "--class-labels", 7, 8, "--num-samples", 2)
    assert (rows.labels.tolist(), rows.columns) == ([7, 8, 7, 8], 2)


@pytest.mark.parametrize(
    ("classes", "labels"),
    [(1000, IMAGENET_LABELS), (10, range(10)), (3, range(3)), (101, range(10))],
)
def test_default_labels_exist_in_the_model(classes, labels):
    assert default_labels(classes) == tuple(labels)


def test_the_published_labels_are_a_grid_of_four_by_two():
    options = parse([])
    labels, count, columns = choose_labels(options, Recipe(), 1000)
    assert labels.tolist() == list(IMAGENET_LABELS)
    assert (count, columns) == (8, 4)
    assert choose_labels(options, Recipe(), 10)[2] == 10


def test_a_size_typed_that_is_the_models_own_is_fine(small):
    found = job("--ckpt", small, "--image-size", 4, "--num-classes", 10, "--num-heads", 2)
    assert found.model.config.grid == (4, 4)


def test_a_state_dict_of_torch_needs_only_its_heads(tmp_path):
    found = job("--ckpt", makers.save_small(tmp_path / "t.pt"), "--num-heads", 2)
    own, native = found.model.config, makers.small_model().config
    assert own == native
    kernel = found.params["blocks_1"]["attn"]["qkv"]["kernel"]
    want = makers.random_params(found.model)["blocks_1"]["attn"]["qkv"]["kernel"]
    np.testing.assert_array_equal(kernel, want)


def test_latents_go_to_npz_whatever_the_picture_was_called(plain_latents):
    assert job("--ckpt", plain_latents, "--out", "a.png").targets == Targets(None, Path("a.npz"))
    assert job("--ckpt", plain_latents, "--npz", "b.npz").targets == Targets(None, Path("b.npz"))


def test_weights_are_named_by_key_and_prefix_and_told(tmp_path):
    networks = {"a": torch_state(False), "b": {f"x.{n}": v for n, v in torch_state(False).items()}}
    path = write_wrapped(tmp_path / "two.pt", networks)
    heads = ("--num-heads", 2)
    with pytest.raises(ValueError, match="several networks, at a, b: say which with --key"):
        job("--ckpt", path, *heads)
    found = job("--ckpt", path, "--key", "b", "--prefix", "x.", *heads)
    assert found.source == f"{path} (b)"
    assert found.notes == (
        "the label table has 6 rows: 5 classes and the null; --num-classes 6 takes all rows for "
        "classes",
    )
    guided = job("--ckpt", path, "--key", "a", *heads).settings.guidance
    without = job("--ckpt", path, "--key", "a", "--num-classes", 6, "--class-labels", 5, *heads)
    assert (guided, without.settings.guidance) == (4.0, 1.0)
    assert "note     the label table has 6 rows: 6 classes and no null" in describe_run(without)
    with pytest.raises(ValueError, match="trained with label dropout"):
        job("--ckpt", path, "--key", "a", "--num-classes", 6, "--cfg-scale", 4, *heads)
