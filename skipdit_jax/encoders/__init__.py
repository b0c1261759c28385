"""Networks at either end of a diffusion model: pictures to latents and back."""
