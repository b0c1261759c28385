"""What the published autoencoders' latents are multiplied by, to have about unit variance."""

LATENT_SCALE = 0.18215
"""Stable Diffusion 1 and 2, sd-vae-ft-mse, sd-vae-ft-ema, Stable Video Diffusion.

The scaling_factor of their published configurations (Rombach et al., arXiv 2112.10752, section
D.1), with which DiT, Latte and LatteT2V were trained.
"""

SDXL_LATENT_SCALE = 0.13025
"""Stable Diffusion XL (sdxl-vae-fp16-fix), with which HunYuan-DiT was trained (spec 4, section 4).

From the published configuration; no weights tell it.
"""
