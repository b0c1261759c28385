"""Samplers by name: what `method` and --sampler take, and how a stepper is written down.

NAME, or NAME(field=value, ...) with settings of its stepper: "ddim", "dpm++(order=1)",
"flow-euler(shift=3.0)".
"""

import dataclasses
import re

from skipdit_jax.config import field_names, long_form, make_from_text
from skipdit_jax.sampling.steppers import (
    Ddim,
    Ddpm,
    DpmSolver,
    Euler,
    FlowEuler,
    FlowHeun,
    Stepper,
)

SOLVERS: dict[str, Stepper] = {
    "ddpm": Ddpm(),
    "ddim": Ddim(),
    "dpm++": DpmSolver(),
    "dpm++sde": DpmSolver(form="sde"),
    "dpm": DpmSolver(form="noise", end="first"),
    "euler": Euler(),
    "flow-euler": FlowEuler(),
    "flow-heun": FlowHeun(),
}
"""Name -> stepper with the settings that go without saying."""
METHODS = tuple(SOLVERS)

_CALL = re.compile(r"(?P<name>[\w+-]+)(\((?P<fields>.*)\))?", re.DOTALL)


def read_method(text: str) -> Stepper:
    """The stepper that a text means.

    Raises:
      ValueError: another name, or settings that mean nothing.

    Examples:
      >>> read_method("ddim(eta=0.5)")
      Ddim(clip=False, stride=False, end='data', eta=0.5, told=False)
    """
    match = _CALL.fullmatch(text.strip())
    if match is None or match["name"] not in SOLVERS:
        raise ValueError(f"method is {text!r}, wanted one of {', '.join(METHODS)}")
    usual = SOLVERS[match["name"]]
    if not match["fields"]:
        return usual
    kind = type(usual)
    own = {name: getattr(usual, name) for name in field_names(kind)}
    try:
        return make_from_text(kind, match["fields"], **own)
    except ValueError as error:
        known = ", ".join(field_names(kind))
        raise ValueError(f"method {text!r}: {error}; it takes {known}") from error


def write_method(stepper: Stepper) -> str:
    """Writes a stepper in as few settings as give it back by `read_method`.

    Raises:
      ValueError: one that has no name.

    Examples:
      >>> write_method(DpmSolver(form="sde", order=1))
      'dpm++sde(order=1)'
    """
    texts = [
        long_form(name, stepper, usual)
        for name, usual in SOLVERS.items()
        if type(usual) is type(stepper)
    ]
    if not texts:
        raise ValueError(
            f"stepper {type(stepper).__name__}: has no name among {', '.join(METHODS)}"
        )
    return min(texts, key=len)


def can_clip(stepper: Stepper) -> bool:
    """Whether a stepper can clip the pictures that it predicts."""
    try:
        return bool(dataclasses.replace(stepper, clip=True))  # type: ignore[type-var]
    except (TypeError, ValueError):  # it has no such setting, or not beside its others
        return False


def with_settings(stepper: Stepper, eta: float, clip: bool | None, name: str) -> Stepper:
    """A named stepper with the settings that may stand beside its name.

    Raises:
      ValueError: one that it does not have.
    """
    known = field_names(type(stepper))  # type: ignore[arg-type]
    changes = {}
    if eta != 0:
        if "eta" not in known:
            raise ValueError(f"eta: found {eta}, but it is the noise of ddim, not of {name}")
        changes["eta"] = eta
    if clip:
        if "clip" not in known:
            raise ValueError(f"clip: found {clip}, but {name} predicts no picture to clip")
        changes["clip"] = clip
    return dataclasses.replace(stepper, **changes)  # type: ignore[type-var]
