"""Sampling for users: binds a model, its weights and the sampling loop into compiled programs."""

from skipdit_jax.pipeline.calls import invert, sample
from skipdit_jax.pipeline.program import Sampled
from skipdit_jax.pipeline.sampler import Sampler, sample_keys
from skipdit_jax.sampling.methods import METHODS

__all__ = ["METHODS", "Sampled", "Sampler", "invert", "sample", "sample_keys"]
