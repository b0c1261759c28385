"""Names that may stand beside weights: what they build is kept as data, and nothing is ever called.

What torch's safe mode reads (`torch/_weights_only_unpickler.py` of torch 2.13) is read here too:
plain values as themselves, the rest as a `Record`. Training scripts also save objects of other
packages (a config, a path, a scheduler). Their classes become `Record`s as well; functions, and
classes of Python's own library that do more than hold data, are refused by name: a file that asks
for them is no checkpoint, and a person should hear of it.
"""

import re
import sys
from typing import Any

from skipdit_jax.checkpoints.errors import CheckpointError
from skipdit_jax.checkpoints.records import ALLOWED, Record, Symbol, TensorRecord

OLDER_MODULES = {"__builtin__": "builtins"}
"""What Python 2 called a module: protocol 2, which torch writes, still says so."""

NO_CHECKPOINTS = {*sys.stdlib_module_names, *OLDER_MODULES, __name__.split(".")[0]}
"""Packages of which files may ask only for what the tables below name: Python's own, and ours."""

_MODULE = re.compile(r"[A-Za-z_]\w*(\.\w+)*", re.ASCII)
_CLASS = re.compile(r"_*[A-Z]\w*(\._*[A-Z]\w*)*", re.ASCII)  # as PEP 8 spells classes

_HELD = """
builtins.bool builtins.dict builtins.float builtins.frozenset builtins.int builtins.list
builtins.object builtins.range builtins.set builtins.slice builtins.str builtins.tuple
collections.defaultdict collections.deque datetime.date datetime.datetime datetime.timedelta
datetime.timezone decimal.Decimal fractions.Fraction pathlib.Path pathlib.PosixPath
pathlib.PurePosixPath pathlib.PureWindowsPath pathlib.WindowsPath types.SimpleNamespace typing.Any
uuid.UUID
numpy.core.multiarray._reconstruct numpy.core.multiarray.scalar numpy._core.multiarray._reconstruct
numpy._core.multiarray.scalar numpy.core.numeric._frombuffer numpy._core.numeric._frombuffer
numpy.dtype numpy.ndarray
torch.serialization._get_layout torch._utils._rebuild_device_tensor_from_cpu_tensor
torch._utils._rebuild_device_tensor_from_numpy torch._utils._rebuild_meta_tensor_no_storage
torch._utils._rebuild_nested_tensor torch._utils._rebuild_qtensor
torch._utils._rebuild_sparse_tensor torch._utils._rebuild_wrapper_subclass
"""
"""Names without a capital, or of Python's own library, whose calls are held as data."""

_CONSTANTS = """
torch.per_channel_affine torch.per_channel_affine_float_qparams torch.per_channel_symmetric
torch.per_tensor_affine torch.per_tensor_symmetric
"""

_LATIN = ("latin1", "latin-1")  # the one encoding that pickles of bytes use


def _encoded(text: Any, encoding: Any) -> bytes:
    if not isinstance(text, str) or encoding not in _LATIN:
        raise CheckpointError(f"bytes are made of a {type(text).__name__}, wanted latin-1 text")
    return text.encode("latin-1")


def _bytes(source: Any = b"", *encoding: Any) -> bytes:
    """`bytes` and `bytearray`; a number, of which they would make so many zeros, is refused."""
    if encoding:
        return _encoded(source, *encoding)
    if not isinstance(source, bytes):
        raise CheckpointError(f"bytes are made of a {type(source).__name__}, wanted bytes")
    return source


def _complex(real: Any = 0.0, imaginary: Any = 0.0) -> complex:
    if not all(isinstance(part, int | float) for part in (real, imaginary)):
        raise CheckpointError("a complex number is made of something else than two numbers")
    return complex(real, imaginary)


def _counter(counts: Any = None) -> dict[Any, Any]:
    if not isinstance(counts or {}, dict):
        raise CheckpointError("a Counter is built on something else than a dict")
    return dict(counts or {})


def _parameter(tensor: Any = None, *_: Any) -> Any:
    return tensor if isinstance(tensor, TensorRecord | Record) else Record("torch.nn.Parameter")


def _rebuild_from_type(function: Any, kind: Any, arguments: Any, state: Any) -> Any:
    """A tensor with attributes, or of a class of its own: the tensor, by our builder."""
    if not isinstance(function, Symbol) or function.build is None:
        raise CheckpointError(f"a tensor is built by a {type(function).__name__}, no function")
    if not isinstance(arguments, tuple):
        raise CheckpointError(f"a tensor is built by {function.name} without a tuple")
    return function.build(*arguments)


def _held(name: str) -> Symbol:
    def build(*arguments: Any) -> Record:
        return Record(name, {"arguments": arguments} if arguments else {})

    return Symbol(name, build)


_BUILT = (
    Symbol("_codecs.encode", _encoded),
    Symbol("builtins.bytes", _bytes),
    Symbol("builtins.bytearray", _bytes),
    Symbol("builtins.complex", _complex),
    Symbol("collections.Counter", _counter),
    Symbol("torch.nn.parameter.Parameter", _parameter),
    Symbol("torch._utils._rebuild_parameter_with_state", _parameter),
    Symbol("torch._tensor._rebuild_from_type_v2", _rebuild_from_type),
)
KNOWN = {
    **ALLOWED,
    **{symbol.name: symbol for symbol in _BUILT},
    **{name: _held(name) for name in _HELD.split()},
    **{name: Symbol(name) for name in _CONSTANTS.split()},
}
"""Names that are built or held without a further question."""


def find(module: str, name: str) -> Symbol | None:
    """Returns what a name of a file stands for; None if no checkpoint may ask for it.

    Nothing is imported or looked up anywhere but in the tables of this package.
    """
    spelt = OLDER_MODULES.get(module, module)
    known = KNOWN.get(f"{spelt}.{name}")
    if known is not None:
        return known
    foreign = module.split(".")[0] not in NO_CHECKPOINTS
    if foreign and _MODULE.fullmatch(module) and _CLASS.fullmatch(name):
        return _held(f"{module}.{name}")
    return None
