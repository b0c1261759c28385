"""The two calls of sampling: pictures from noise, and noise from pictures."""

from typing import Any

import jax

from skipdit_jax.caching.engine import EMPTY
from skipdit_jax.caching.plan import CachePolicy
from skipdit_jax.contracts import Backbone
from skipdit_jax.diffusion.schedules import Diffusion
from skipdit_jax.pipeline.program import Given, Images, Program, Samples, Scale, sampling_run
from skipdit_jax.pipeline.sampler import Sampler, clips, guided_channels_of, sample_keys
from skipdit_jax.registry import default_diffusion, published_sampling
from skipdit_jax.sampling import arguments, loop
from skipdit_jax.sampling.guidance import Guidance
from skipdit_jax.sampling.progress import Listener
from skipdit_jax.sampling.steppers import DdimReverse, Stepper
from skipdit_jax.typing import Params, PRNGKey


def sample(
    model: Backbone,
    params: Params,
    key: PRNGKey,
    labels: Any = None,
    *,
    num_samples: int | None = None,
    x: Given | None = None,
    steps: int | str = 250,
    method: str = "ddpm",
    guidance: Scale | Guidance = 1.0,
    cache: CachePolicy | str | None = None,
    diffusion: Diffusion | None = None,
    eta: float = 0.0,
    clip: bool | None = None,
    stepper: Stepper | None = None,
    driver: str = "scan",
    taps: bool = False,
    details: bool = False,
    progress: Listener | None = None,
    hoist: bool | None = None,
) -> Samples:
    """Draws samples in one compiled program, a pure function: it may stand inside jit, grad, vmap
    and export, with parameters, key, labels, x and guidance scale traced.

    Args:
      model: from `create_model` or `load_checkpoint`.
      params: its weights.
      key: `jax.random.key(seed)`.
      labels: one class per sample, or whatever the model is conditioned on (`Conditioning`); None
        for an unconditional model. Classes that are traced cannot be checked.
      num_samples: how many, for an unconditional model; default: 1.
      x: what to start from in place of noise drawn from the key, [B,H,W,C]; see `invert`.
      steps: S, or a spacing such as "ddim50", "10,15,25", "leading50+1" or "linspace20". S alone is
        laid out as the published samples of the model's family were, 50 of LatteT2V as leading50.
      method: of `pipeline.METHODS`, with settings if wanted: "ddpm" (ancestral), "ddim", "dpm++",
        "dpm++(order=1)"; see docs/models.md, Samplers.
      guidance: classifier-free guidance scale, or a `Guidance`. At most 1 runs a single batch.
      cache: a policy such as `SkipCache(every=3)`, or its notation, "N3"; None computes every step.
      diffusion: the process that the weights were trained on; None is what the file of a loaded
        model says, else the published one.
      eta: noise of DDIM, 0 to 1.
      clip: clip the predicted picture to [-1, 1] at each step; None clips where the file of a
        loaded model says so, or says nothing and its samples are pixels.
      stepper: a solver of your own (`sampling.steppers.Stepper`: hashable) in place of method, eta
        and clip.
      driver: "scan", "nested" or "unrolled"; see sampling/drivers.py.
      taps: also return what every step made, `sampling.loop.Taps`.
      details: return a `Sampled`: samples, the kind of every step, and with taps what each made.
      progress: called with the index of each finished step.
      hoist: make what depends on the condition alone (keys and values of texts) once, before the
        first step; None does so where it takes no more memory than the weights, or than 256 MiB.
        `Sampler.summary` tells what it takes.

    Returns:
      float32 [B,H,W,C]: latents, or pixels in [-1, 1] of a pixel model. With taps a pair, the
      second model_output [S,B,H,W,C_out] and sample [S,B,H,W,C].

    Raises:
      ValueError: for settings that the model cannot follow.

    Examples:
      >>> import jax, skipdit_jax as sd
      >>> tiny = {"depth": 4, "hidden_size": 16, "num_heads": 2, "input_size": 8}
      >>> model = sd.create_model("DiT-S/2-skip", **tiny)
      >>> params = sd.init_params(model, jax.random.key(0))
      >>> cache = sd.SkipCache(every=2, branch=1)
      >>> sd.sample(model, params, jax.random.key(1), labels=[207, 360], steps=4, cache=cache).shape
      (2, 8, 8, 4)
    """
    sampler = Sampler(
        model,
        steps=steps,
        method=method,
        guidance=guidance,
        cache=cache,
        diffusion=diffusion,
        eta=eta,
        clip=clip,
        stepper=stepper,
        driver=driver,
        taps=taps,
        details=details,
        progress=progress,
        hoist=hoist,
    )
    keys = sample_keys(key, 0, arguments.as_count(labels, num_samples))
    return sampler(params, keys, labels, x)


def invert(
    model: Backbone,
    params: Params,
    images: Given,
    labels: Any = None,
    *,
    steps: int | str = 250,
    guidance: Scale | Guidance = 1.0,
    diffusion: Diffusion | None = None,
    clip: bool | None = None,
) -> Images:
    """Finds the noise that DDIM makes these pictures of (Song et al., 2010.02502, section 4.3).

    `sample(..., x=noise, method="ddim")` with the same steps gives the pictures back, the nearer
    the more steps there are: both follow the same curve, in steps of finite length.

    Args:
      model: from `create_model` or `load_checkpoint`.
      params: its weights.
      images: what to invert, [B,H,W,C]: latents, or pixels in [-1, 1] of a pixel model.
      labels: one class per picture; None for an unconditional model.
      steps: S, or a spacing; S - 1 calls of the model, as the picture counts as the first of S.
      guidance: as in `sample`; far from 1 the way back is less exact.
      diffusion: as in `sample`.
      clip: as in `sample`.

    Returns:
      float32 [B,H,W,C], at the noise level that a run of the same steps starts from.

    Raises:
      ValueError: for settings that the model cannot follow, or fewer than 2 steps.
    """
    base = default_diffusion(model) if diffusion is None else diffusion
    published = published_sampling(model)
    process = arguments.as_process(base, arguments.laid_out(base, steps, published.steps))
    if process.num_steps < 2:
        raise ValueError(f"invert: found {process.num_steps} step, wanted 2 or more")
    channels = published.guided_channels
    settings = arguments.as_guidance(model, guidance, channels)
    rows = loop.step_inputs(process, settings, ascending=True)
    program = Program(
        model=model,
        kind=process.parameterization,
        stepper=DdimReverse(clip=clips(model) if clip is None else clip),
        guided_channels=guided_channels_of(model, settings),
        sockets=EMPTY,
        driver="scan",
        static_kinds=None,
    )
    x = arguments.as_latents(model, images)
    # The step behind the last level would end at pure noise, which no run starts from.
    between = jax.tree.map(lambda column: column[:-1], rows)
    keys = sample_keys(jax.random.key(0), 0, len(x))  # of noise that this stepper never draws
    condition = model.conditioning.prepare(labels, len(x))
    return sampling_run(program, params, x, keys, condition, between, loop.Steps())
