"""Figures of papers and releases that more than one part of the library goes by."""

SIZES = {
    "S": {"depth": 12, "hidden_size": 384, "num_heads": 6},
    "B": {"depth": 12, "hidden_size": 768, "num_heads": 12},
    "L": {"depth": 24, "hidden_size": 1024, "num_heads": 16},
    "XL": {"depth": 28, "hidden_size": 1152, "num_heads": 16},
}
"""Letter -> fields of a config: table 1 of DiT (arXiv 2212.09748); Latte's sizes are the same."""

PATCHES = (2, 4, 8)
"""Sides of a patch in the same table."""

HEADS = {(size["depth"], size["hidden_size"]): size["num_heads"] for size in SIZES.values()}
"""(depth, width) -> heads, which no state dict shows."""

CLASS_COUNTS = (10, 100, 1000)
"""Of the data sets that most models of classes are trained on: MNIST and CIFAR-10, CIFAR-100,
ImageNet. A label table of so many rows has no null row, one of a row more has one."""

CLASS_DROPOUT = 0.1
"""Share of labels left out in training (2212.09748, section 4); a state dict shows only that it
was above 0."""

LATENT_SCALE = 0.18215
"""What latents are multiplied by, to have about unit variance: of Stable Diffusion 1 and 2,
sd-vae-ft-mse, sd-vae-ft-ema and Stable Video Diffusion.

The scaling_factor of their published configurations (Rombach et al., arXiv 2112.10752, section
D.1), with which DiT, Latte and LatteT2V were trained.
"""

SDXL_LATENT_SCALE = 0.13025
"""The same of Stable Diffusion XL (sdxl-vae-fp16-fix), with which HunYuan-DiT was trained.

From the published configuration; no weights tell it.
"""

HUNYUAN_BETAS, HUNYUAN_OLDER_BETAS = (0.00085, 0.02), (0.00085, 0.03)
"""First and last beta of HunYuan-DiT 1.2, and of 1.1 and before: published configurations."""

HUNYUAN_MIDDLE_BLOCKS = 2
"""Blocks of HunYuan-DiT between those that push and those that fuse: they take part in no skip."""

T5_TOKENS, BERT_TOKENS, MT5_TOKENS = 120, 77, 256
"""Pieces of a prompt that LatteT2V and PixArt-alpha see of T5, HunYuan-DiT of BERT and of mT5."""

HUNYUAN_NEGATIVE_PROMPT = (
    "错误的眼睛，糟糕的人脸，毁容，糟糕的艺术，变形，多余的肢体，"
    "模糊的颜色，模糊，重复，病态，残缺，"
)
"""What HunYuan-DiT is guided away from where nobody says otherwise: wrong eyes, bad faces, ..."""

VAE_FACTOR = 8
"""Pixels per latent along each side, of all of these."""

LATENT_CHANNELS = 4
"""Of the latents of all of these."""

PIXEL_CHANNELS = (1, 3)
"""Grey and colour."""

IMAGENET_LABELS = (207, 360, 387, 974, 88, 979, 417, 279)
"""Classes of the published DiT samples."""

TEACACHE_POLYNOMIALS = {
    "latte-t2v": (-2464.34137, 308.044764, 80.7447667, -4.11385132, 0.111001402),
    "open-sora-1.2": (217.546007, -118.329252, 26.8662585, -0.0459364272, 0.048442624),
    "open-sora-plan": (205943.668, -14875.9286, 306.085986, 1.3141808, 0.00239658469),
    "flux": (498.651651, -283.781631, 55.8554382, -3.82021401, 0.264230861),
    "hunyuan-video": (733.226126, -401.131952, 67.5869174, -3.149878, 0.0961237896),
    "mochi": (-3512.41319, 811.675948, -60.9400215, 2.42429681, 0.00305291719),
    "ltx-video": (21.4700694, -12.8016453, 2.31279151, 0.792487521, 0.00969274326),
    "cosmos": (271.156237, -91.9775607, 2.2443725, 2.08355751, 0.14177633),
    "lumina2": (393.76566581, -603.50993606, 209.10239044, -23.00726601, 0.86377344),
    "lumina2-v2": (
        225.7042019806413,
        -608.8453716535591,
        304.1869942338369,
        124.21267720116742,
        -1.4089066892956552,
    ),
    "hidream-i1": (-31360.5009, -712.425503, 49.1363285, 8.2651549, 0.108053901),
}
"""Of TeaCache (arXiv 2411.19108, its repository), by model, the highest power first.

How far the output moves, of how far the modulated input of the first block does. Those of models
whose time embedding is looked at instead (CogVideoX, Wan) are of another quantity, and not here.
"""
