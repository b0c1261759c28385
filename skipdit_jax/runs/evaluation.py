"""Numbers of samples while a model trains: the same noise and labels every time."""

from typing import Any

from skipdit_jax import sharding
from skipdit_jax.evaluation.evaluate import check_possible, check_widths, evaluate
from skipdit_jax.evaluation.gathering import kept_place
from skipdit_jax.evaluation.networks.pixels import CLIP_RULES
from skipdit_jax.evaluation.scores import I3D, INCEPTION, networks_of
from skipdit_jax.evaluation.sets import HeldSet, SetToCome
from skipdit_jax.pipeline import Sampler
from skipdit_jax.registry.samples import num_classes
from skipdit_jax.runs.evaluation_config import EvaluationConfig
from skipdit_jax.runs.job import TrainingJob
from skipdit_jax.runs.sample_sets import ANY_SIZE, can_be_drawn, draw_levels, open_reference
from skipdit_jax.training.state import TrainState, ema_name
from skipdit_jax.weights.metrics import NetworkChoice, load_extractor
from skipdit_jax.weights.recipe import make_recipe

NAME = "samples of the run"


class Evaluation:
    """Samples as config.sampling says, with the averaged weights of the first decay."""

    def __init__(self, job: TrainingJob):
        """Makes the sampling program, opens the reference and reads the networks.

        Raises:
          ValueError: config.evaluation asks for what the model, the reference or the networks
            cannot give.
        """
        model, self._asked = job.model, job.config.evaluation
        if not can_be_drawn(model):
            raise ValueError(
                "evaluate_every: the model draws latents or reads texts, wanted 0: sample.py "
                "--num-fid-samples evaluates what it has drawn"
            )
        recipe = make_recipe(job.config.sampling, model, job.config.diffusion)
        self._sampler = Sampler(model, **recipe.options(model, job.config.diffusion))
        self._classes, self._seed = num_classes(model), job.config.seed
        self._ema = ema_name(job.config.ema_decays[0])
        if not sharding.leads():
            return
        to_come = SetToCome(NAME, self._asked.samples, model.sample_shape)
        self._reference = open_reference(self._asked.reference or None, ANY_SIZE, to_come)
        check_possible(self._asked.metrics, to_come, self._reference)
        check_widths(self._asked.metrics, self._reference)
        self._extractors = {
            network: load_extractor(_choice(network, self._asked)).extractor
            for network in networks_of(self._asked.metrics)
        }

    def run(self, state: TrainState) -> dict[str, Any] | None:
        """Returns numbers by name; None where others make them. All processes must call it."""
        params = sharding.to_host(state.ema[self._ema])
        if not sharding.leads():
            return None
        levels = draw_levels(
            self._sampler,
            params,
            classes=self._classes,
            count=self._asked.samples,
            batch=self._asked.batch_size,
            seed=self._seed,
        )
        found = evaluate(
            HeldSet(NAME, levels),
            self._reference,
            self._asked.metrics,
            self._extractors,
            keep=kept_place(),
        )
        return {score.metric: score.value for score in found}


def _choice(network: str, asked: EvaluationConfig) -> NetworkChoice:
    files = {INCEPTION: asked.inception, I3D: asked.i3d}
    rules = {INCEPTION: asked.resize, I3D: CLIP_RULES[0]}
    return NetworkChoice(network, files[network] or None, rules[network], batch=asked.batch_size)
