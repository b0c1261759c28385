"""Diffusion processes: schedules on the host, Gaussian equations, bounds and training losses."""
