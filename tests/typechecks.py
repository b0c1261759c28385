"""Type checks under test: beartype holds every annotation, jaxtyping those that name a shape.

jaxtyping alone binds the arguments of every call once more for shapes that most functions do not
have: more than half the time of tests that read and write files.
"""

import inspect
from typing import get_args

import jaxtyping
from beartype import BeartypeConf, beartype

_with_shapes = jaxtyping.jaxtyped
_by_type = beartype(conf=BeartypeConf(violation_type=jaxtyping.TypeCheckError))


def install():
    """For the modules that jaxtyping's import hook rewrites from here on."""
    jaxtyping.jaxtyped = _checked


def _checked(*, typechecker):
    def decorate(target):
        if not inspect.isfunction(target) or any(map(_is_shaped, target.__annotations__.values())):
            return _with_shapes(typechecker=typechecker)(target)
        return _by_type(target)

    return decorate


def _is_shaped(annotation):
    """Whether jaxtyping has to look: also at what is text still, which it resolves if it can."""
    if isinstance(annotation, list):  # the arguments of a Callable
        return any(map(_is_shaped, annotation))
    own = getattr(annotation, "__module__", "").partition(".")[0] == "jaxtyping"
    return own or isinstance(annotation, str) or any(map(_is_shaped, get_args(annotation)))
