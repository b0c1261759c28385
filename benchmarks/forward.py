"""One full forward pass, float32, against PyTorch eager on the same cores."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
import torch
from torch import Tensor, nn

import skipdit_jax as sd
from benchmarks.timing import interleaved, ours_and_torch
from benchmarks.torch_hunyuan import hunyuan_twin
from benchmarks.torch_text import latte_t2v_twin, pixart_twin
from benchmarks.torch_twin import torch_twin
from benchmarks.weights import random_condition, random_params
from skipdit_jax.contracts import Backbone
from skipdit_jax.models.text_conditions import TextCondition
from skipdit_jax.models.two_texts import TwoTexts

HUNYUAN = {"depth": 8, "input_size": 64}
"""8 of the 40 blocks, 1,024 tokens of 4,096: the whole takes 6 GB on either side, and minutes."""
CLIPS = {"depth": 8, "num_frames": 4, "input_size": 32}
"""8 of the 28 stages, 1,024 tokens of 16,384."""

CASES = (  # model, batch, fields that differ
    ("DiT-S/2", 4, {}),
    ("DiT-S/2", 1, {}),
    ("DiT-B/2", 4, {}),
    ("DiT-B/2", 1, {}),
    ("DiT-XL/2-skip", 2, {}),
    ("PixArt-S/2", 1, {}),
    ("PixArt-XL/2", 1, {"input_size": 32, "sample_size": 32}),
    ("LatteT2V-S/2", 1, {"num_frames": 8, "input_size": 32}),
    ("LatteT2V-S/2-skip", 1, {"num_frames": 8, "input_size": 32}),
    ("LatteT2V-XL/2-skip", 1, CLIPS),
    ("HunYuan-DiT-g/2", 1, HUNYUAN),
)
TINY = {"hidden_size": 48, "num_heads": 2, "depth": 4, "input_size": 8, "text_width": 32}
QUICK_CASES = (
    ("DiT-S/2-skip", 1, {}),
    ("PixArt-S/2", 2, {**TINY, "text_tokens": 6}),
    ("LatteT2V-S/2-skip", 2, {**TINY, "num_frames": 3}),
    ("HunYuan-DiT-g/2", 2, {**TINY, "t5_width": 64, "pooled_width": 32}),
)
MAX_DEVIATION = 1e-4  # of rms; float32 round-off of both sides is below 1e-5
CHANNELS = 1  # axis that torch has them on, of pictures and of clips

TWINS = {
    "DiT": torch_twin,
    "PixArt": pixart_twin,
    "LatteT2V": latte_t2v_twin,
    "HunYuan-DiT": hunyuan_twin,
}
"""By the name of the config's family."""


def twin_of(model: Backbone, params: Mapping[str, Any]) -> nn.Module:
    """The twin of one of our models with the same weights."""
    return TWINS[model.config.FAMILY](model.config, params)


def inputs_of(model: Backbone, batch: int) -> tuple[np.ndarray, np.ndarray, Any]:
    """(x, t, condition) of numbers from a generator."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((batch, *model.sample_shape), np.float32)
    t = np.linspace(0, 999, batch, dtype=np.float32)
    return x, t, _as_sampled(model, random_condition(model, batch))


def _as_sampled(model: Backbone, condition: Any) -> Any:
    """With masks where the published pipeline has them, and sizes and styles that exist."""
    if isinstance(condition, TwoTexts):
        bert, t5 = _masked(condition.bert), _masked(condition.t5)
        return model.conditioning.prepare(TwoTexts(bert, t5), len(bert))
    if isinstance(condition, TextCondition):
        bare = TextCondition(condition.text)
        bare = _masked(bare) if model.config.FAMILY == "PixArt" else bare
        return model.conditioning.prepare(bare, len(bare))
    return condition


def _masked(condition: TextCondition) -> TextCondition:
    """Texts that fill half of their tokens, and one more in each row."""
    rows, tokens, _ = condition.text.shape
    lengths = np.minimum(tokens // 2 + np.arange(rows), tokens)
    mask = (np.arange(tokens) < lengths[:, None]).astype(np.float32)
    return dataclasses.replace(condition, mask=mask)


def torch_inputs(x: np.ndarray, t: np.ndarray, condition: Any) -> list[Tensor | None]:
    """The same numbers as a twin takes them: channels first, the parts of a condition in a row."""
    if isinstance(condition, TwoTexts):
        bert, t5 = condition.bert, condition.t5
        parts = (bert.text, bert.mask, t5.text, t5.mask, condition.size, condition.style)
    elif isinstance(condition, TextCondition):
        parts = (condition.text, condition.mask, condition.size)
    else:
        parts = (condition,)
    arrays = (np.moveaxis(x, -1, CHANNELS), t, *parts)
    return [None if a is None else torch.from_numpy(np.array(a, order="C")) for a in arrays]


def _rivals(name: str, batch: int, fields: Mapping[str, Any]):
    """Two calls of the same function on the same numbers; torch's gives channels first."""
    model = sd.create_model(name, **fields)
    params = random_params(model)
    numbers = inputs_of(model, batch)
    forward = jax.jit(lambda params, *inputs: model.apply({"params": params}, *inputs))
    inputs = jax.device_put(numbers)
    twin, given = twin_of(model, params), torch_inputs(*numbers)

    @torch.inference_mode()
    def theirs():
        return twin(*given)

    def ours():
        return forward(params, *inputs).block_until_ready()

    return ours, theirs


def _check(name: str, ours, theirs) -> float:
    found = deviation(ours(), theirs())
    if found > MAX_DEVIATION:
        raise ValueError(f"{name}: the torch twin differs by {found:.1e} of rms")
    return found


def deviation(ours: jax.Array, theirs: Tensor) -> float:
    """The largest difference over the rms of a twin's output."""
    want = np.moveaxis(theirs.numpy(), CHANNELS, -1)
    return float(np.max(np.abs(np.asarray(ours) - want)) / np.sqrt(np.mean(np.square(want))))


def measure(
    quick: bool, rounds: int, threads: int, models: Sequence[str] = ("",)
) -> list[dict[str, object]]:
    """Rows of the table; ratio = ours / torch, at most 1 is wanted."""
    torch.set_num_threads(threads)
    rows = []
    for name, batch, fields in QUICK_CASES if quick else CASES:
        if not name.startswith(tuple(models)):
            continue
        ours, theirs = _rivals(name, batch, fields)
        found = _check(name, ours, theirs)
        times = interleaved({"ours": ours, "torch": theirs}, rounds)
        rows.append(
            {
                "model": " ".join([name, *(f"{key}={value}" for key, value in fields.items())]),
                "batch": batch,
                **ours_and_torch(times["ours"], times["torch"]),
                "deviation / rms": found,
            }
        )
    return rows
