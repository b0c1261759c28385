"""The composition root of sampling: from flags and a checkpoint to everything one run needs.

Nothing is computed here, and the weights are read last: whatever is wrong is told at once.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from skipdit_jax import registry, weights
from skipdit_jax.caching import notation
from skipdit_jax.caching.method import decides
from skipdit_jax.caching.notation import NO_CACHE
from skipdit_jax.checkpoints import Checkpoint, CheckpointError
from skipdit_jax.checkpoints.layouts import Layouts
from skipdit_jax.checkpoints.load import NATIVE
from skipdit_jax.checkpoints.state_dicts import Ask
from skipdit_jax.cli.decoder import choose_vae, open_decoder
from skipdit_jax.cli.distributed import say
from skipdit_jax.cli.image_size import input_size
from skipdit_jax.cli.job import SamplingJob
from skipdit_jax.cli.options import OF_TEXT, SampleOptions
from skipdit_jax.cli.outputs import MOVIES, Targets, check_writable, choose_targets
from skipdit_jax.cli.prompts import embedded, wanted_texts
from skipdit_jax.cli.sample_flags import FID_BATCH, MAX_BATCH
from skipdit_jax.cli.settings import (
    MAX_COLUMNS,
    MAX_SAMPLES,
    Settings,
    choose_labels,
    make_settings,
    misfits,
)
from skipdit_jax.config import field_names
from skipdit_jax.contracts import Backbone
from skipdit_jax.evaluation.sets import PACKED
from skipdit_jax.registry import NamedModel
from skipdit_jax.registry.samples import draws_pixels, makes_clips, num_classes
from skipdit_jax.runs.class_names import read_class_names
from skipdit_jax.weights.recipe import read_diffusion, read_recipe


def prepare_sampling(options: SampleOptions) -> SamplingJob:
    """Checks and loads everything.

    Raises:
      ValueError: (or CheckpointError, OSError) whatever the user has to mend, in one line.
    """
    entry = _entry(options)
    checkpoint = _open(options, entry)
    model = make_model(options, entry, checkpoint)
    diffusion = read_diffusion(checkpoint, model)
    recipe = read_recipe(checkpoint, diffusion, model)
    classes = read_class_names(checkpoint, num_classes(model))
    vae = choose_vae(options, recipe, checkpoint, draws_pixels(model))
    settings = make_settings(options, entry, recipe, diffusion, model)
    texts = wanted_texts(options, model)
    labels = None
    if texts is not None:
        count, columns = _count_texts(options, texts)
    elif options.num_fid_samples is None:
        labels, count, columns = choose_labels(options, recipe, num_classes(model), classes)
    else:
        count, columns = options.num_fid_samples, 1
        labels = draw_labels(options.seed, count, num_classes(model))
    # Both are made once more to run; here they find what the model cannot follow.
    sampler = settings.sampler(model)
    if texts is None:
        model.conditioning.prepare(labels, count)
    _check_caches(options, settings, model)
    pixels = vae is not None or draws_pixels(model)
    targets, batch = _choose_files(options, pixels, makes_clips(model), texts is not None)
    if checkpoint is None:
        raise ValueError(
            f"--model {options.model} comes without weights: give them with --ckpt PATH, "
            f"or sample --model {' or '.join(registry.BUNDLED)}"
        )
    decoder = None if vae is None else open_decoder(vae, options, model, recipe.latent_scale)
    prompts = None  # encoders come and go before there are weights
    if texts is not None:
        prompts = embedded(options, texts, model, checkpoint, recipe.text_encoder)
        count = len(prompts.texts)
        model.conditioning.prepare(prompts.condition, count)
    params = weights.load_opened(checkpoint, model)
    return SamplingJob(
        name=_name(options) or checkpoint.path.name,
        model=model,
        params=params,
        source=f"{checkpoint.path} ({checkpoint.which})",
        notes=(
            *checkpoint.notes,
            *weights.assumptions(checkpoint, model),
            *misfits(settings, sampler, params),
        ),
        settings=settings,
        key=jax.random.key(options.seed),
        labels=labels,
        count=count,
        batch=batch if options.sample_dir else min(batch, count),
        columns=columns,
        classes=classes,
        targets=targets,
        decoder=decoder,
        folder=options.sample_dir,
        fps=options.fps,
        prompts=prompts,
        seeds=_seeds(options, count),
    )


def _check_caches(options: SampleOptions, settings: Settings, model: Backbone) -> None:
    """Raises ValueError for --compare without anything to compare, or nothing to plot."""
    if options.plot_decisions is not None and not decides(settings.cache):
        found = NO_CACHE if settings.cache is None else notation.short(settings.cache)
        wanted = "wanted one that decides, such as teacache:0.2 (docs/caching.md)"
        raise ValueError(f"--plot-decisions: found cache {found}, {wanted}")
    if options.compare is not None and (options.cache or "").strip() == NO_CACHE:
        raise ValueError(f"--compare: --cache {NO_CACHE} leaves nothing to compare with")
    if options.compare == () and settings.cache is None and not model.num_skips:
        raise ValueError("--compare needs a model with long skips: choose a -skip model")


def _choose_files(
    options: SampleOptions, pixels: bool, clips: bool, texts: bool
) -> tuple[Targets, int]:
    """What is written, and how many samples are drawn at a time.

    Raises:
      ValueError: see `outputs.choose_targets`; or a batch that cannot be split over the devices.
    """
    if options.sample_dir is None:
        return choose_targets(options, pixels, clips, texts), options.batch_size or MAX_BATCH
    check_writable("--sample-dir", options.sample_dir / PACKED)
    batch = _fid_batch(options.per_proc_batch_size or FID_BATCH)
    return Targets(None, options.sample_dir / PACKED), batch


def _count_texts(options: SampleOptions, texts: Sequence[str]) -> tuple[int, int]:
    """How many samples, as far as is known, and how many stand side by side.

    Raises:
      ValueError: too many, or flags that only classes have.
    """
    if options.num_fid_samples is not None:
        raise ValueError("--num-fid-samples: draws classes, wanted a model of classes")
    rows = options.num_samples or 1
    count = rows * max(len(texts), 1)
    if count > MAX_SAMPLES:
        raise ValueError(f"--prompt: {count} samples, wanted at most {MAX_SAMPLES}")
    return count, rows if rows > 1 or not texts else min(count, MAX_COLUMNS)


def _seeds(options: SampleOptions, count: int) -> tuple[tuple[int, int], ...] | None:
    """Of each sample its seed, and the how-manieth of its prompt it is."""
    if options.seeds is None:
        return None
    rows = options.num_samples or 1
    if rows * len(options.seeds) != count:
        raise ValueError(f"--seeds: found {len(options.seeds)}, wanted one of {count // rows}")
    return tuple((seed, row) for seed in options.seeds for row in range(rows))


def draw_labels(seed: int, count: int, num_classes: int) -> np.ndarray | None:
    """A class for each sample number, all alike; more samples keep the first ones. int64 [n]."""
    return np.random.default_rng(seed).integers(num_classes, size=count) if num_classes else None


def _fid_batch(size: int) -> int:
    devices = jax.local_device_count()
    if size > MAX_SAMPLES:
        raise ValueError(f"--per-proc-batch-size {size}: wanted at most {MAX_SAMPLES}")
    if size % devices:
        raise ValueError(
            f"--per-proc-batch-size {size}: cannot be split over the {devices} devices of a "
            f"process, wanted a multiple of {devices}"
        )
    return size


def _entry(options: SampleOptions) -> NamedModel | None:
    """The model that was named; None leaves it to the checkpoint."""
    name = _name(options)
    return None if name is None else registry.find_model(name)


def _name(options: SampleOptions) -> str | None:
    """As typed; of no model and no checkpoint the bundled one that makes what was asked for."""
    if options.model is not None or options.ckpt:
        return options.model
    if not any(getattr(options, flag) for flag in OF_TEXT):
        return registry.DIGITS
    moving = options.out.suffix.lower() in MOVIES
    return registry.CLIPS_OF_TEXT if moving else registry.PICTURES_OF_TEXT


def _open(options: SampleOptions, entry: NamedModel | None) -> Checkpoint | None:
    own = entry.weights if entry else None
    source = options.ckpt or own
    if source is None:
        return None
    return open_source(source, Ask(options.weights, options.key, options.prefix))


def open_source(source: str | Path, ask: Ask, layouts: Layouts | None = None) -> Checkpoint:
    """Opens the weights that --weights, --key and --prefix say, fetching what is elsewhere.

    Families are those of `layouts`, see `weights.open_weights`.

    Raises:
      CheckpointError: nothing that can be had or read, or not the weights asked for.
    """
    checkpoint = weights.open_weights(source, *ask, tell=say, layouts=layouts)
    of_run = Path(source).is_dir()
    if checkpoint.which == NATIVE and ask.weights == "model" and not of_run:
        raise CheckpointError(
            f"{source}: a native file holds one set of weights, wanted no --weights"
        )
    return checkpoint


def make_model(
    options: SampleOptions, entry: NamedModel | None, checkpoint: Checkpoint | None
) -> Backbone:
    """Makes the model that name, flags and checkpoint agree on.

    Raises:
      ValueError: they describe no model.
      CheckpointError: a native file is of another model than asked for; a state dict is compared
        when it is read.
    """
    if entry is not None and checkpoint is not None and checkpoint.family.name != entry.family:
        raise CheckpointError(
            f"{checkpoint.path}: holds a {checkpoint.family.label} model, wanted {options.model}"
        )
    asked = dict(entry.config) if entry else {}
    asked |= input_size(options, entry, checkpoint)
    for field in ("num_classes", "num_heads", "num_frames"):
        if getattr(options, field) is not None:
            asked[field] = getattr(options, field)
    family = entry.family if entry else checkpoint.family.name if checkpoint else ""
    how = {"dtype": options.dtype, **_attention(options.attention, family)}
    if checkpoint is None:
        assert entry is not None, "without a checkpoint there is a name"
        return registry.build(entry.family, {**asked, **how})
    model = weights.model_of(checkpoint, **asked, **how)
    if checkpoint.which == NATIVE:
        _check_asked(checkpoint, asked)
    return model


def _check_asked(checkpoint: Checkpoint, asked: dict[str, Any]) -> None:
    own = weights.model_of(checkpoint).config
    # A clip may have fewer frames than the weights know places for; `fill` refuses more.
    compared = [field for field in asked if field != "num_frames"]
    # == broadcasts: an input_size of 8 is that of (8, 8).
    differing = [f for f in compared if not np.all(np.asarray(getattr(own, f)) == asked[f])]
    if differing:
        found = ", ".join(f"{field} {getattr(own, field)}" for field in differing)
        wanted = ", ".join(f"{field} {asked[field]}" for field in differing)
        raise CheckpointError(f"{checkpoint.path}: holds a model of {found}, wanted {wanted}")


def _attention(implementation: str, family: str) -> dict[str, str]:
    """The field of the config; a family that has no such choice is left in peace with the default.

    Raises:
      ValueError: an implementation that cannot run here.
    """
    if implementation == "cudnn" and jax.default_backend() != "gpu":
        raise ValueError(f"--attention cudnn needs a GPU, this is a {jax.default_backend()}")
    kind = registry.FAMILIES.get(family)
    offered = kind is not None and "attention" in field_names(kind.config)
    return {"attention": implementation} if offered or implementation != "auto" else {}
