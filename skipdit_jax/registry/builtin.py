"""The families that come with the library; importing this registers them."""

from typing import Any

from skipdit_jax.caching.presets import (
    DIT_SKIP_CACHE,
    HUNYUAN_SKIP_CACHE,
    LATTE_SKIP_CACHE,
    LATTE_T2V_SKIP_CACHE,
    dit_skip_cache,
)
from skipdit_jax.checkpoints import (
    rules_bert,
    rules_dit,
    rules_hunyuan,
    rules_latte,
    rules_latte_t2v,
    rules_metrics,
    rules_pixart,
    rules_t5,
    rules_vae,
)
from skipdit_jax.diffusion.schedules import Diffusion
from skipdit_jax.encoders.bert import BertConfig, BertEncoder
from skipdit_jax.encoders.t5 import T5Config, T5Encoder
from skipdit_jax.encoders.vae import (
    AutoencoderKL,
    AutoencoderKLConfig,
    AutoencoderKLTemporalDecoder,
    AutoencoderKLTemporalDecoderConfig,
)
from skipdit_jax.evaluation.networks.i3d import I3D, I3DConfig
from skipdit_jax.evaluation.networks.inception import InceptionConfig, InceptionV3
from skipdit_jax.evaluation.networks.lpips import Lpips, LpipsConfig
from skipdit_jax.models.dit import DiT, DiTConfig
from skipdit_jax.models.hunyuan_dit import HunYuanDiT, HunYuanDiTConfig
from skipdit_jax.models.latte import Latte, LatteConfig
from skipdit_jax.models.latte_t2v import LatteT2V, LatteT2VConfig
from skipdit_jax.models.pixart import PixArt, PixArtConfig
from skipdit_jax.published import (
    HUNYUAN_BETAS,
    HUNYUAN_OLDER_BETAS,
    LATENT_CHANNELS,
    PATCHES,
    SIZES,
)
from skipdit_jax.registry.kinds import (
    Family,
    NetworkKind,
    register_autoencoder,
    register_family,
    register_metric_network,
    register_text_encoder,
)
from skipdit_jax.sharding import FSDP, TENSOR, Split

ENDINGS: dict[str, dict[str, Any]] = {"": {"skip": False}, "-skip": {"skip": True}}
XL2_SKIP = {**SIZES["XL"], "patch_size": 2, "skip": True}
HUNYUAN_OLDER = {"size_condition": True, "style_condition": True}
OF_1024 = {"input_size": 128, "sample_size": 128, "size_condition": True}
PIXART_OF_1024 = {
    f"PixArt-XL/2-1024-MS{ending}": {**SIZES["XL"], "patch_size": 2, **OF_1024, **fields}
    for ending, fields in ENDINGS.items()
}

# Column, then row: what qkv and fc1 put out in parts, proj and fc2 take in parts, so that the MLP
# needs one sum over "tensor" (Shoeybi et al., "Megatron-LM", arXiv 1909.08053, section 3). The
# columns of qkv are [q|k|v], not heads: the partitioner moves them once more (docs/scaling.md).
# Embeddings: 1,001 rows divide by nothing, the width does.
DIT_SHARDING = (
    Split(r"(attn/qkv|mlp/fc1|modulation)/kernel$", (FSDP, TENSOR)),
    Split(r"(attn/proj|mlp/fc2)/kernel$", (TENSOR, FSDP)),
    Split(r"(t_embedder/fc\d|skip_fusions_\d+/linear|final_layer/linear)/kernel$", (FSDP, None)),
    Split(r"(y_embedder/embedding|x_embedder/kernel)$", (None, FSDP)),
)

# As above; what text families name otherwise: linears of their own for q, k and v, of which every
# column belongs to one head, one modulation for all blocks, a projection of the text.
TEXT_SHARDING = (
    Split(r"(attn/[qkv]|mlp/fc1|(text|t5)_projection/fc1)/kernel$", (FSDP, TENSOR)),
    Split(r"(attn/proj|mlp/fc2|(text|t5)_projection/fc2)/kernel$", (TENSOR, FSDP)),
    Split(
        r"((t|size|ratio|extra)_embedder/fc\d|skip_fusions_\d+/linear|final_layer/linear|modulation|pooler/[qkv])/kernel$",
        (FSDP, None),
    ),
    Split(r"x_embedder/kernel$", (None, FSDP)),
)

register_family(
    Family(
        label="DiT",
        config=DiTConfig,
        module=DiT,
        layout=rules_dit.LAYOUT,
        sizes=SIZES,
        patches=PATCHES,
        endings=ENDINGS,
        further={"DiT-skip": XL2_SKIP},
        cached={"DiT-cache": ("DiT-skip", DIT_SKIP_CACHE)},
        guidance=4.0,
        guided_channels=lambda config: 3 if config.in_channels == LATENT_CHANNELS else None,
        cache=lambda config: dit_skip_cache(config.depth),
        sharding=DIT_SHARDING,
    )
)
register_family(
    Family(
        label="Latte",
        config=LatteConfig,
        module=Latte,
        layout=rules_latte.LAYOUT,
        sizes=SIZES,
        patches=PATCHES,
        endings=ENDINGS,
        further={"Latte-skip": XL2_SKIP},
        cached={"Latte-skip-cache": ("Latte-skip", LATTE_SKIP_CACHE)},
        guidance=7.0,  # of UCF101 with labels
        cache=lambda config: LATTE_SKIP_CACHE,
        sharding=DIT_SHARDING,  # the same names
    )
)
register_family(
    Family(
        label="PixArt",
        config=PixArtConfig,
        module=PixArt,
        layout=rules_pixart.LAYOUT,
        sizes=SIZES,
        patches=PATCHES,
        endings=ENDINGS,
        further=PIXART_OF_1024,
        method="dpm++",
        steps="linspace20",
        guidance=4.5,
        sharding=TEXT_SHARDING,
    )
)
register_family(
    Family(
        label="LatteT2V",
        config=LatteT2VConfig,
        module=LatteT2V,
        layout=rules_latte_t2v.LAYOUT,
        sizes=SIZES,
        patches=PATCHES,
        endings=ENDINGS,
        further={"LatteT2V-skip": XL2_SKIP},
        cached={"LatteT2V-skip-cache": ("LatteT2V-skip", LATTE_T2V_SKIP_CACHE)},
        method="ddim",
        steps="leading50",
        guidance=7.5,
        cache=lambda config: LATTE_T2V_SKIP_CACHE,
        sharding=TEXT_SHARDING,
    )
)
register_family(
    Family(
        label="HunYuan-DiT",
        config=HunYuanDiTConfig,
        module=HunYuanDiT,
        layout=rules_hunyuan.LAYOUT,
        sizes={"g": {"depth": 40, "hidden_size": 1408, "num_heads": 16}},
        patches=(2,),
        endings={"": {}, "-v1.1": HUNYUAN_OLDER},
        method="ddpm(variance='fixed_small')",  # what it learned is not sampled with
        steps="leading100+1",
        guidance=6.0,
        cache=lambda config: HUNYUAN_SKIP_CACHE,
        diffusion=lambda config: Diffusion(
            schedule="scaled_linear",
            beta_range=HUNYUAN_OLDER_BETAS if config.size_condition else HUNYUAN_BETAS,
            prediction="v",
            variance="learned_range" if config.learn_sigma else "fixed_small",
        ),
        sharding=TEXT_SHARDING,
    )
)
register_autoencoder(
    NetworkKind(config=AutoencoderKLConfig, module=AutoencoderKL, layout=rules_vae.LAYOUT)
)
register_autoencoder(
    NetworkKind(
        config=AutoencoderKLTemporalDecoderConfig,
        module=AutoencoderKLTemporalDecoder,
        layout=rules_vae.TEMPORAL_LAYOUT,
    )
)
register_text_encoder(NetworkKind(config=T5Config, module=T5Encoder, layout=rules_t5.LAYOUT))
register_text_encoder(NetworkKind(config=BertConfig, module=BertEncoder, layout=rules_bert.LAYOUT))
for config, module, layout in (
    (InceptionConfig, InceptionV3, rules_metrics.INCEPTION),
    (I3DConfig, I3D, rules_metrics.I3D),
    (LpipsConfig, Lpips, rules_metrics.LPIPS),
):
    register_metric_network(NetworkKind(config=config, module=module, layout=layout))
