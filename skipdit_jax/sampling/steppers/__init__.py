"""One step of a sampler: from x_t and the network's output to its neighbour in time."""

from skipdit_jax.sampling.steppers.contract import Schedule, Scheduled, Stepper, StepState
from skipdit_jax.sampling.steppers.dpm import DpmSolver, Euler
from skipdit_jax.sampling.steppers.flow import FlowEuler, FlowHeun
from skipdit_jax.sampling.steppers.linear import traced_part
from skipdit_jax.sampling.steppers.single import Ddim, DdimReverse, Ddpm

__all__ = [
    "Ddim",
    "DdimReverse",
    "Ddpm",
    "DpmSolver",
    "Euler",
    "FlowEuler",
    "FlowHeun",
    "Schedule",
    "Scheduled",
    "StepState",
    "Stepper",
    "traced_part",
]
