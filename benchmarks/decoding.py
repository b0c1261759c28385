"""Decoding of latents: against PyTorch eager on a CPU, and its share of a sampling on a GPU."""

import jax
import numpy as np

import skipdit_jax as sd
from benchmarks.speedup import Bench, Case
from benchmarks.timing import interleaved
from benchmarks.weights import scaled_params
from skipdit_jax.encoders.vae import AutoencoderKL, AutoencoderKLConfig

IMAGES, SIDE = 8, 32  # latents of 256x256 pixels
SLICES = (1, 2, 8)
QUICK = {"block_out_channels": (32, 64), "layers_per_block": 1}
MAX_DEVIATION = 1e-4  # of rms; float32 round-off of both sides is below 1e-5
GPU_IMAGES, GPU_SLICES = 64, (4, 16, 64)


def _latents(count: int, side: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((count, side, side, 4), np.float32)


def _decoder(vae, params, latents, rows: int):
    options = sd.DecodeOptions(rows=rows)
    placed = jax.device_put(latents)
    return lambda: sd.decode_latents(vae, params, placed, options).block_until_ready()


def _torch_decoder(vae, params, latents):
    import torch  # only this section needs it

    from benchmarks.torch_vae import torch_decoder

    twin = torch_decoder(vae.config, params)
    unscaled = (latents / vae.config.scaling_factor).transpose(0, 3, 1, 2)
    z = torch.from_numpy(np.ascontiguousarray(unscaled))

    @torch.inference_mode()
    def call():
        return twin(z).numpy().transpose(0, 2, 3, 1)

    return call


def measure(quick: bool, rounds: int, threads: int) -> list[dict[str, object]]:
    """Rows of the table, one for each number of pictures decoded at a time.

    Args:
      quick: tiny sizes.
      rounds: of all variants in turn.
      threads: cores for torch.
    """
    if jax.default_backend() == "gpu":
        return _share_of_sampling(quick, rounds)
    import torch

    torch.set_num_threads(threads)
    vae = AutoencoderKL(AutoencoderKLConfig(**(QUICK if quick else {})))
    params = scaled_params(vae)
    latents = _latents(IMAGES, 4 if quick else SIDE)
    theirs = _torch_decoder(vae, params, latents)
    calls = {rows: _decoder(vae, params, latents, rows) for rows in SLICES}
    want = theirs()
    for rows, ours in calls.items():
        deviation = np.max(np.abs(np.asarray(ours()) - want)) / np.sqrt(np.mean(np.square(want)))
        if deviation > MAX_DEVIATION:
            raise ValueError(f"{rows} at a time: the torch twin differs by {deviation:.1e} of rms")
    times = interleaved({"torch": theirs, **{str(n): call for n, call in calls.items()}}, rounds)
    torch_s = times.pop("torch")
    return [
        {
            "decoded": f"{IMAGES} of {want.shape[1]}x{want.shape[2]}, float32",
            "at a time": int(rows),
            "ours s (median)": ours.median,
            "torch s (median)": torch_s.median,
            "ratio (median)": ours.median / torch_s.median,
            "ratio (min)": ours.minimum / torch_s.minimum,
        }
        for rows, ours in times.items()
    ]


def _share_of_sampling(quick: bool, rounds: int) -> list[dict[str, object]]:
    """Decoding in bfloat16 next to 50 steps of DiT-XL/2 for the same pictures."""
    case = Case("DiT-S/2" if quick else "DiT-XL/2", 50, GPU_IMAGES, 4.0, "bfloat16")
    bench = Bench(case)
    sampler = bench.sampler(None)
    vae = AutoencoderKL(AutoencoderKLConfig(dtype="bfloat16", param_dtype="bfloat16"))
    params, latents = scaled_params(vae), _latents(GPU_IMAGES, SIDE)
    calls = {"sampling": bench.call(bench.compile(sampler), sampler)}
    calls |= {str(rows): _decoder(vae, params, latents, rows) for rows in GPU_SLICES}
    times = interleaved(calls, rounds)
    sampling = times.pop("sampling")
    return [
        {
            "decoded": f"{GPU_IMAGES} of 256x256, bfloat16",
            "at a time": int(rows),
            "s (median)": decoding.median,
            "50 steps s (median)": sampling.median,
            "share": decoding.median / sampling.median,
        }
        for rows, decoding in times.items()
    ]
