"""The released checkpoints: where they are, what they hold, how they were sampled.

A checkpoint is known by the family and the count of numbers that its names and shapes show, never
by its name: the tables of Skip-DiT's own pages link the text-to-video and the class-to-image file
the wrong way round.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from skipdit_jax.checkpoints.load import NATIVE, Checkpoint

SKIP_DIT = "hf://GuanjieChen/Skip-DiT/"
LATTE = "hf://maxin-cn/Latte/"
META = "https://dl.fbaipublicfiles.com/DiT/models/"
VAE_FILE = "diffusion_pytorch_model.safetensors"
VAE_SOURCES = {
    "ema": f"hf://stabilityai/sd-vae-ft-ema/{VAE_FILE}",
    "mse": f"hf://stabilityai/sd-vae-ft-mse/{VAE_FILE}",
}
"""The two decoders that Stability AI fine-tuned for Stable Diffusion 1, by the names of DiT."""


class Sampling(NamedTuple):
    """How the published samples of a file were made.

    Attributes:
      vae: key of VAE_SOURCES; "" for another one.
      steps: number of steps.
      method: of the sampler.
      guidance: scale; 1 is none.
    """

    vae: str
    steps: int
    method: str
    guidance: float


class Released(NamedTuple):
    """A published file.

    Attributes:
      source: what --ckpt takes.
      family: what its keys tell.
      model: name for `create_model`; "" where this version has no such model.
      numbers: in one of its state dicts, fixed tables included, without what nothing reads.
      gigabytes: size of the file; None where it was not found in print.
      config: fields that differ from that name's own.
      sampling: of the published samples; None for an autoencoder.
      flags: what sample.py is best told besides.
      pipeline: of a model of text, where its encoders and autoencoder are.
      licence: as its page states it; "" where no page was found.
    """

    source: str
    family: str
    model: str
    numbers: int
    gigabytes: float | None
    config: Mapping[str, Any] = {}
    sampling: Sampling | None = None
    flags: str = ""
    pipeline: str = ""
    licence: str = ""


DIT_SAMPLING = Sampling("mse", 250, "ddpm", 4.0)
UCF101_SAMPLING = Sampling("ema", 250, "ddpm", 7.0)
UNCONDITIONAL_SAMPLING = UCF101_SAMPLING._replace(guidance=1.0)
TEXT_TO_VIDEO_SAMPLING = Sampling("", 50, "ddim", 7.5)
PIXART_SAMPLING = Sampling("", 20, "dpm++", 4.5)
HUNYUAN_SAMPLING = Sampling("", 100, "ddpm", 6.0)
LATTE_1 = "hf://maxin-cn/Latte-1"
PIXART = "hf://PixArt-alpha/"
HUNYUAN = "hf://Tencent-Hunyuan/HunyuanDiT"
NON_COMMERCIAL, TENCENT = "CC BY-NC 4.0", "Tencent Hunyuan Community"
PROMPT = '--prompt "a dog in astronaut suit, surfing"'
CACHED_PROMPT = f"{PROMPT} --cache N2"
CACHED = "--cache N3"
UCF101 = {"num_classes": 101}


def _dit(source: str, numbers: int, **more: Any) -> Released:
    known = {"sampling": DIT_SAMPLING, "licence": NON_COMMERCIAL}
    return Released(source, "dit", "DiT-XL/2", numbers, 2.70, **(known | more))


def _latte(source: str, numbers: int, **more: Any) -> Released:
    """Latte-XL/2 on 16 frames of 256x256."""
    sampling = UCF101_SAMPLING if "config" in more else UNCONDITIONAL_SAMPLING
    return Released(source, "latte", "Latte-XL/2", numbers, 2.70, sampling=sampling, **more)


def _of_text(
    source: str, family: str, model: str, numbers: int, sampling: Sampling, **more: Any
) -> Released:
    """A pipeline: transformer, autoencoder and text encoders under one name."""
    more = {"flags": PROMPT, "pipeline": source, **more}
    return Released(source, family, model, numbers, None, sampling=sampling, **more)


def _with_skips(plain: Released, gigabytes: float) -> Released:
    model = f"{plain.model}-skip"
    return plain._replace(model=model, gigabytes=gigabytes, flags=CACHED, licence="")


RELEASED = (
    _with_skips(_dit(f"{SKIP_DIT}DiT-XL-2-skip.pt", 712_369_184), 11.40),
    _dit(f"{META}DiT-XL-2-256x256.pt", 675_129_632),
    _dit(f"{META}DiT-XL-2-512x512.pt", 676_014_368, config={"input_size": 64}),
    _with_skips(_latte(f"{SKIP_DIT}ucf101-skip.pt", 692_732_192, config=UCF101), 2.77),
    _with_skips(_latte(f"{SKIP_DIT}ffs-skip.pt", 692_614_688), 2.77),
    _with_skips(_latte(f"{SKIP_DIT}skylapse-skip.pt", 692_614_688), 2.77),
    _with_skips(_latte(f"{SKIP_DIT}taichi-skip.pt", 692_614_688), 2.77),
    _latte(f"{LATTE}ucf101.pt", 674_112_416, config=UCF101, licence="MIT"),
    _latte(f"{LATTE}ffs.pt", 673_994_912, licence="MIT"),
    _latte(f"{LATTE}skytimelapse.pt", 673_994_912, licence="MIT"),
    _latte(f"{LATTE}taichi-hd.pt", 673_994_912, licence="MIT"),
    Released(
        f"{SKIP_DIT}Latte-skip.pt",
        family="latte_t2v",
        model="LatteT2V-XL/2-skip",
        numbers=1_094_486_432,
        gigabytes=8.76,
        sampling=TEXT_TO_VIDEO_SAMPLING,
        flags=CACHED_PROMPT,
        pipeline=LATTE_1,
    ),
    _of_text(LATTE_1, "latte_t2v", "LatteT2V-XL/2", 1_057_246_880, TEXT_TO_VIDEO_SAMPLING),
    _of_text(
        f"{PIXART}PixArt-XL-2-512x512",
        "pixart",
        "PixArt-XL/2",
        610_856_096,
        PIXART_SAMPLING,
        licence="CreativeML Open RAIL++-M",
    ),
    _of_text(
        f"{PIXART}PixArt-XL-2-1024-MS",
        "pixart",
        "PixArt-XL/2-1024-MS",
        611_349_152,
        PIXART_SAMPLING,
        licence="CreativeML Open RAIL++-M",
    ),
    _of_text(
        f"{HUNYUAN}-v1.2-Diffusers",
        "hunyuan_dit",
        "HunYuan-DiT-g/2",
        1_499_952_032,
        HUNYUAN_SAMPLING,
        flags=CACHED_PROMPT,
        licence=TENCENT,
    ),
    _of_text(
        f"{HUNYUAN}-v1.1-Diffusers",
        "hunyuan_dit",
        "HunYuan-DiT-g/2-v1.1",
        1_516_534_048,
        HUNYUAN_SAMPLING,
        flags=CACHED_PROMPT,
        licence=TENCENT,
    ),
    *(
        Released(source, "vae", "", 83_653_863, 0.33, licence="MIT")
        for source in VAE_SOURCES.values()
    ),
)


def count_numbers(shapes: Iterable[tuple[int, ...]]) -> int:
    """Sum of the sizes of all tensors of a state dict."""
    return sum(math.prod(shape) for shape in shapes)


def recognise(family: str, numbers: int) -> Released | None:
    """Returns what a state dict was released as; of equal ones the first.

    Args:
      family: what its keys tell.
      numbers: `count_numbers` of its tensors.
    """
    return next((row for row in RELEASED if (row.family, row.numbers) == (family, numbers)), None)


def recognised(checkpoint: Checkpoint) -> Released | None:
    """What an opened state dict was released as; None of a native file, which says it itself."""
    if checkpoint.which == NATIVE:
        return None
    numbers = count_numbers(handle.shape for handle in checkpoint.handles.values())
    return recognise(checkpoint.family.name, numbers)
