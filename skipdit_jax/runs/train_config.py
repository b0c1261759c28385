"""The config of a training run: its names, their defaults, and what they are made into.

A config file starts from `default_config()` and changes what it wants; flags such as
`--config.mesh.fsdp=4` change it further. Names are flat and short where people type them.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

import ml_collections

from skipdit_jax import config as plain
from skipdit_jax import registry
from skipdit_jax.data.config import EARLIER, WITHOUT_FILES, DataConfig
from skipdit_jax.diffusion.schedules import Diffusion
from skipdit_jax.runs.config_fields import Table, check_values, read_values
from skipdit_jax.runs.evaluation_config import EvaluationConfig
from skipdit_jax.sharding import MeshConfig
from skipdit_jax.training.draws import TIMESTEP_SAMPLERS, TimestepSampler
from skipdit_jax.training.logs import Record
from skipdit_jax.training.loop import LoopConfig
from skipdit_jax.training.optimizer import OptimizerConfig
from skipdit_jax.weights.recipe import Recipe

OPTIMIZER_NAMES = {"lr_schedule": "schedule", "lr_final_fraction": "final_fraction"}
"""Names in a config that differ from those of `OptimizerConfig`."""
# What a run cannot change halfway; the rest (steps, rates, lengths, mesh) may.
FIXED_BY_RUN = (
    "model",
    "data",
    "diffusion",
    "seed",
    "batch_size",
    "ema_decay",
    "ema_extra",
    "ema_warmup",
    "timesteps",
    "trainable",
)
MAX_BATCH = 10**6  # examples; more are a slip of the finger, and take all memory
FREE_OF_DATA = ("workers", "threads", "ahead", "path")
"""Where and how data is read may change; what is read may not."""
Config = TypeVar("Config")


@dataclasses.dataclass(frozen=True, kw_only=True)
class InitConfig:
    """Where the first parameters come from.

    Attributes:
      ckpt: weights to start from, any file or run folder that sample.py takes; "" draws them.
      weights: "ema" or "model" where the file has both; "" prefers ema.
      key: of the dict in a file of torch that holds the weights; "" finds it.
      prefix: what the names of the weights begin with; "" finds it.
      allow_missing: shell patterns of parameters that the file may lack, drawn anew: ("skip_*",)
        makes a skip model of a plain DiT.
    """

    ckpt: str = ""
    weights: str = ""
    key: str = ""
    prefix: str = ""
    allow_missing: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProfileConfig:
    """A window of steps recorded by JAX's profiler, for TensorBoard or Perfetto.

    Attributes:
      start: steps done before it begins.
      steps: its length; 0 records nothing.
    """

    start: int = 10
    steps: int = 0

    def __post_init__(self) -> None:
        if self.start < 0 or self.steps < 0:
            raise ValueError(
                f"profile: found start {self.start}, steps {self.steps}, wanted 0 or more"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A config read: the parts that know their own rules, and the rest.

    Attributes:
      resolved: all of it, as JSON holds it.
      loop, optimizer, diffusion, data, mesh, init, profile, evaluation: see their classes.
      model: name and fields of the backbone, with dtype and remat.
      sampling: what is recommended for sampling, see `recipe.Recipe`.
      batch_size: of the global batch.
      accumulate: parts that it is worked off in.
      seed: of parameters, data order and steps.
      ema_decays: the first is what is exported and sampled.
      ema_warmup: see `training.ema.ema_decay_at`.
      sample_timesteps: see `training.draws`.
      keep_last: newest checkpoints that stay.
      keep_every: checkpoints of steps divisible by this stay too; 0 for none.
      wandb: project of Weights & Biases to log to; "" for none.
    """

    resolved: Record
    loop: LoopConfig
    optimizer: OptimizerConfig
    diffusion: Diffusion
    data: DataConfig
    mesh: MeshConfig
    init: InitConfig
    profile: ProfileConfig
    evaluation: EvaluationConfig
    model: Record
    sampling: Record
    batch_size: int
    accumulate: int
    seed: int
    ema_decays: tuple[float, ...]
    ema_warmup: bool
    sample_timesteps: TimestepSampler
    keep_last: int
    keep_every: int
    wandb: str


SECTIONS = {
    "data": DataConfig,
    "diffusion": Diffusion,
    "mesh": MeshConfig,
    "init": InitConfig,
    "profile": ProfileConfig,
    "evaluation": EvaluationConfig,
}
OWN_DEFAULTS: Record = {
    "batch_size": 256,
    "accumulate": 1,
    "seed": 0,
    "ema_decay": 0.9999,
    "ema_extra": (),
    "ema_warmup": False,
    "timesteps": "uniform",
    "dtype": "float32",
    "remat": "none",
    "keep_last": 2,
    "keep_every": 0,
    "wandb": "",
}


def default_config() -> ml_collections.ConfigDict:
    """Returns every name with its default: DiT's published settings (arXiv 2212.09748, section 4).

    A config file sets `steps`, `model.name` and `data.name`.
    """
    config = ml_collections.ConfigDict({**_flat_defaults(), **OWN_DEFAULTS})
    for name, kind in SECTIONS.items():
        values = {**dict.fromkeys(plain.field_names(kind), ""), **plain.defaults(kind)}
        config[name] = ml_collections.ConfigDict(values)
    config.steps = 1
    config.model = ml_collections.ConfigDict({"name": ""})
    config.sampling = ml_collections.ConfigDict()
    return config


def _flat_defaults() -> Record:
    """Defaults of the dataclasses whose fields stand in the config itself."""
    ours = {theirs: name for name, theirs in OPTIMIZER_NAMES.items()}
    found = {**plain.defaults(LoopConfig), **plain.defaults(OptimizerConfig)}
    return {ours.get(name, name): value for name, value in found.items() if name != "steps"}


def field_types(model: str | None = None) -> Table:
    """The names of a config and their types, those of a model by its name.

    Raises:
      ValueError: there is no such model.
    """
    own = {name: tuple[float, ...] if v == () else type(v) for name, v in OWN_DEFAULTS.items()}
    ours = {theirs: name for name, theirs in OPTIMIZER_NAMES.items()}
    flat = {**plain.annotations(LoopConfig), **plain.annotations(OptimizerConfig)}
    fields = {}
    if model is not None:
        if not model:
            raise ValueError("model.name: none given, wanted a model such as DiT-XL/2-skip")
        hints = plain.annotations(registry.FAMILIES[registry.find_model(model).family].config)
        fields = {name: hints[name] for name in hints if name not in OWN_DEFAULTS}
    return {
        "": {ours.get(name, name): kind for name, kind in flat.items()} | own,
        "model": {"name": str} | fields,
        "sampling": plain.annotations(Recipe),
        **{name: plain.annotations(kind) for name, kind in SECTIONS.items()},
    }


def read_train_config(config: ml_collections.ConfigDict) -> TrainConfig:
    """Checks a config.

    Raises:
      ValueError: a name that is missing or unknown, or a value that nothing can be made of.
    """
    resolved = read_values(config)
    known = {**_flat_defaults(), **OWN_DEFAULTS, "steps": None, "model": {}, "sampling": {}}
    missing = [name for name in ("steps", "model", "data") if name not in resolved]
    unknown = [name for name in resolved if name not in {*known, *SECTIONS}]
    if missing or unknown:
        raise ValueError(f"config: missing {missing}, unknown {unknown}")
    full = {**known, **{name: {} for name in SECTIONS}, **resolved}
    table = field_types()
    check_values(full, {section: table[section] for section in table if section != "sampling"})
    check_values(full, {"model": field_types(full["model"].get("name") or "")["model"]})
    if unknown := sorted(set(full["sampling"]) - set(table["sampling"])):
        known_there = ", ".join(table["sampling"])
        raise ValueError(f"sampling: unknown option {', '.join(unknown)}; it takes {known_there}")
    if misplaced := sorted({"dtype", "remat"} & set(full["model"])):
        raise ValueError(f"model.{misplaced[0]}: wanted {misplaced[0]}, of the config itself")
    if full["timesteps"] not in TIMESTEP_SAMPLERS:
        raise ValueError(
            f"timesteps: found {full['timesteps']!r}, wanted one of {[*TIMESTEP_SAMPLERS]}"
        )
    plain.check_seed(full["seed"], "seed")
    if full["batch_size"] > MAX_BATCH:
        raise ValueError(f"batch_size: found {full['batch_size']}, wanted at most {MAX_BATCH}")
    if full["batch_size"] < 1 or full["accumulate"] < 1:
        found = f"{full['batch_size']} and {full['accumulate']}"
        raise ValueError(f"batch_size and accumulate: found {found}, wanted 1 or more")
    if full["keep_last"] < 1 or full["keep_every"] < 0:
        found = f"{full['keep_last']} and {full['keep_every']}"
        raise ValueError(f"keep_last and keep_every: found {found}, wanted 1 and 0 or more")
    flat = {OPTIMIZER_NAMES.get(name, name): value for name, value in full.items()}
    as_stated = (
        "batch_size",
        "accumulate",
        "seed",
        "ema_warmup",
        "keep_last",
        "keep_every",
        "wandb",
    )
    return TrainConfig(
        resolved=full,
        loop=_made(LoopConfig, flat),
        optimizer=_made(OptimizerConfig, flat),
        model={**full["model"], "dtype": full["dtype"], "remat": full["remat"]},
        sampling=full["sampling"],
        ema_decays=(full["ema_decay"], *full["ema_extra"]),
        sample_timesteps=TIMESTEP_SAMPLERS[full["timesteps"]],
        **{name: plain.make(kind, full[name], name) for name, kind in SECTIONS.items()},
        **{name: full[name] for name in as_stated},
    )


def check_same_run(saved: Mapping[str, Any], now: Mapping[str, Any], place: str) -> None:
    """Makes sure that a run continues under the config it was started with.

    Raises:
      ValueError: names every value that a run cannot change halfway and that did change.
    """
    changed = []
    for name in FIXED_BY_RUN:
        before, after = _dotted(name, saved), _dotted(name, now)
        for key in {**before, **after}:
            if before.get(key) != after.get(key):
                changed.append(f"{key} was {before.get(key)}, now {after.get(key)}")
    if changed:
        raise ValueError(f"{place}: {'; '.join(changed)}: use another --workdir")


def _dotted(name: str, config: Mapping[str, Any]) -> Record:
    value = config.get(name, OWN_DEFAULTS.get(name))
    if not isinstance(value, Mapping):
        return {name: plain.hashable(value)}
    free: tuple[str, ...] = ()
    earlier: Mapping[str, Any] = {}
    if name == "data":
        free, earlier = FREE_OF_DATA, EARLIER
        free += tuple(EARLIER) if value.get("name") in WITHOUT_FILES else ()
    # Runs of earlier versions say nothing of what was added since: its default is what they did.
    defaults = {**plain.defaults(SECTIONS[name]), **earlier} if name in SECTIONS else {}
    value = {**defaults, **value}
    return {f"{name}.{key}": plain.hashable(value[key]) for key in value if key not in free}


def _made(kind: type[Config], flat: Mapping[str, Any]) -> Config:
    """Makes a dataclass of those of the flat names that are its own."""
    own = plain.field_names(kind)
    return plain.make(kind, {name: flat[name] for name in own if name in flat}, "config")
