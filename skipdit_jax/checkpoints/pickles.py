"""A pickle reader that cannot execute anything: our own small machine, not Python's unpickler.

It knows only the instructions that data needs (protocols 2 to 5), builds only the records of
`records.py`, and never imports or calls a name from the file. Python's own unpickler, even with
`find_class` overridden, still lets BUILD set attributes on whatever is on its stack.
"""

import pickle
import struct
from collections.abc import Callable, Iterator
from typing import Any

from skipdit_jax.checkpoints.errors import CheckpointError, shown
from skipdit_jax.checkpoints.limits import (
    MAX_MARKS,
    MAX_ODD_KEYS,
    MAX_WORK,
    SMALL_KEY,
    TEXT_PER_VALUE,
)
from skipdit_jax.checkpoints.placeholders import find
from skipdit_jax.checkpoints.records import (
    Record,
    StorageRef,
    Symbol,
    plain_key,
    rebuild_storage,
)

MAX_PICKLE_BYTES = 16 * 2**20  # DiT-XL with its optimiser needs 0.3 MB
MAX_LINE = 1024  # bytes of a module or class name, or of a number
NEWEST_PROTOCOL = 5
HELD, STATE = "(items)", "(state)"  # fields of a record: no attribute has such a name


class Instructions:
    """Reads opcodes and their arguments.

    Attributes:
      data: one or more pickles and whatever follows them.
      at: how much of it has been read.
      work: instructions read and values moved so far, see `spend`.
      odd_keys: of dicts so far, that are neither text nor a small number.
    """

    def __init__(self, data: bytes):
        self.data = data
        self.at = self.work = self.odd_keys = 0

    def spend(self, work: int) -> None:
        """Counts what an instruction costs; raises CheckpointError above `MAX_WORK` in all."""
        self.work += work
        if self.work > MAX_WORK:
            raise CheckpointError(f"its pickle takes more than {MAX_WORK} steps to read")

    def key(self, key: Any) -> None:
        """Counts what a key of a dict costs; numbers can be chosen so that all of them collide."""
        if isinstance(key, str | bytes):
            self.spend(len(key) // TEXT_PER_VALUE)
        elif key is not None and not (isinstance(key, int) and 0 <= key < SMALL_KEY):
            self.odd_keys += 1
            if self.odd_keys > MAX_ODD_KEYS:
                raise CheckpointError(
                    f"its pickle has more than {MAX_ODD_KEYS} keys that are neither text nor "
                    f"numbers from 0 to {SMALL_KEY - 1}"
                )

    def opcodes(self) -> Iterator[bytes]:
        """Yields the opcodes; their arguments have to be read before the next one."""
        while self.at < len(self.data):
            self.at += 1
            self.spend(1)
            yield self.data[self.at - 1 : self.at]
        raise CheckpointError("its pickle is cut short")

    def take(self, size: int) -> bytes:
        """Returns exactly `size` bytes; raises CheckpointError if they are not there."""
        if not 0 <= size <= len(self.data) - self.at:
            raise CheckpointError("its pickle is cut short or claims an absurd length")
        self.at += size
        return self.data[self.at - size : self.at]

    def line(self) -> str:
        """Returns the text up to the next newline."""
        end = self.data.find(b"\n", self.at, self.at + MAX_LINE)
        if end < 0:
            raise CheckpointError("its pickle is cut short or has an endless name")
        return self.take(end + 1 - self.at)[:-1].decode()

    def number(self, code: str) -> Any:
        """Returns one number in the notation of `struct`."""
        (value,) = struct.unpack(code, self.take(struct.calcsize(code)))
        return value

    def prefixed(self, code: str) -> bytes:
        """Returns the bytes whose length comes first, as the number `code`."""
        return self.take(self.number(code))

    def long(self, code: str) -> int:
        """Returns a little-endian two's complement integer whose length comes first."""
        data = self.prefixed(code)
        if len(data) > MAX_LINE:
            raise CheckpointError(f"its pickle has a number of {len(data)} bytes")
        return int.from_bytes(data, "little", signed=True)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")  # names of files that are no UTF-8


_DATA: dict[bytes, Callable[[Instructions], Any]] = {
    pickle.NONE: lambda _: None,
    pickle.NEWTRUE: lambda _: True,
    pickle.NEWFALSE: lambda _: False,
    pickle.EMPTY_TUPLE: lambda _: (),
    pickle.EMPTY_LIST: lambda _: [],
    pickle.EMPTY_DICT: lambda _: {},
    pickle.BININT: lambda code: code.number("<i"),
    pickle.BININT1: lambda code: code.number("<B"),
    pickle.BININT2: lambda code: code.number("<H"),
    pickle.LONG1: lambda code: code.long("<B"),
    pickle.LONG4: lambda code: code.long("<i"),
    pickle.BINFLOAT: lambda code: code.number(">d"),
    pickle.BINUNICODE: lambda code: _text(code.prefixed("<I")),
    pickle.SHORT_BINUNICODE: lambda code: _text(code.prefixed("<B")),
    pickle.BINUNICODE8: lambda code: _text(code.prefixed("<Q")),
    # Strings of Python 2 are bytes of unknown encoding; latin-1 keeps every one of them.
    pickle.BINSTRING: lambda code: code.prefixed("<i").decode("latin-1"),
    pickle.SHORT_BINSTRING: lambda code: code.prefixed("<B").decode("latin-1"),
    pickle.BINBYTES: lambda code: code.prefixed("<I"),
    pickle.SHORT_BINBYTES: lambda code: code.prefixed("<B"),
    pickle.BINBYTES8: lambda code: code.prefixed("<Q"),
    pickle.BYTEARRAY8: lambda code: code.prefixed("<Q"),
    pickle.EMPTY_SET: lambda _: Record("builtins.set"),
}
"""Instructions that only push a value."""


class Machine:
    """Runs the instructions of one pickle on a stack of inert values.

    Attributes:
      code: where the instructions come from.
      storages: every storage that was named, by key.
    """

    def __init__(self, code: Instructions):
        self.code = code
        self.storages: dict[str, StorageRef] = {}
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []  # the stacks under each open mark
        self._memo: dict[int, Any] = {}

    def run(self) -> Any:
        """Returns the object of the pickle; the file then stands right behind it.

        Raises:
          CheckpointError: a name or an instruction that is not allowed, or a malformed pickle.
        """
        for opcode in self.code.opcodes():
            if opcode == pickle.STOP:
                break
            if opcode in _DATA:
                self._stack.append(_DATA[opcode](self.code))
            elif opcode in _STACK:
                _STACK[opcode](self)
            else:
                raise CheckpointError(f"its pickle has the instruction {opcode!r}: not data")
        (result,) = self.take(1)
        return result

    def take(self, size: int) -> list[Any]:
        """Takes the `size` values on top off the stack, the topmost last."""
        if len(self._stack) < size:
            raise CheckpointError("its pickle takes more from its stack than it put there")
        values = self._stack[-size:]
        del self._stack[-size:]
        return values

    def peek(self, *kinds: type) -> Any:
        """Returns the value on top, which must be of one of these kinds if any are named."""
        if not self._stack:
            raise CheckpointError("its pickle uses a value that it never put on its stack")
        value = self._stack[-1]
        if kinds and not isinstance(value, kinds):
            wanted = " or ".join(kind.__name__ for kind in kinds)
            raise CheckpointError(f"its pickle uses a {type(value).__name__} as a {wanted}")
        return value

    def mark(self) -> None:
        """MARK: opens a group of values."""
        if len(self._below) >= MAX_MARKS:
            raise CheckpointError(f"its pickle opens more than {MAX_MARKS} groups at a time")
        self._below.append(self._stack)
        self._stack = []

    def group(self) -> list[Any]:
        """Closes the innermost group and returns it."""
        if not self._below:
            raise CheckpointError("its pickle closes a group that it never opened")
        values, self._stack = self._stack, self._below.pop()
        return values

    def pack(self, values: list[Any]) -> None:
        """TUPLE, TUPLE1, TUPLE2, TUPLE3: pushes values as one tuple."""
        self._stack.append(tuple(values))

    def extend(self, values: list[Any]) -> None:
        """APPEND, APPENDS, ADDITEMS: adds to the list, or the record of one, on top."""
        target = self.peek(list, Record)
        held = target.fields.setdefault(HELD, []) if isinstance(target, Record) else target
        held.extend(values)

    def update(self, values: list[Any]) -> None:
        """SETITEM, SETITEMS: adds keys and values in turn to the dict, or the record, on top."""
        target = self.peek(dict, Record)
        if isinstance(target, Record):
            self.extend(values)
            return
        for key, value in zip(values[::2], values[1::2], strict=True):
            self.code.key(key)
            target[plain_key(key)] = value

    def remember(self, slot: int) -> None:
        """BINPUT, LONG_BINPUT: names the value on top."""
        if slot > MAX_WORK:
            raise CheckpointError(f"its pickle names a value {slot}, wanted at most {MAX_WORK}")
        self._memo[slot] = self.peek()

    def memoize(self) -> None:
        """MEMOIZE: names the value on top by the next free number."""
        self.remember(len(self._memo))

    def recall(self, slot: int) -> None:
        """BINGET, LONG_BINGET: pushes a named value."""
        if slot not in self._memo:
            raise CheckpointError("its pickle recalls a value that it never named")
        self._stack.append(self._memo[slot])

    def symbol(self, module: Any, name: Any) -> None:
        """GLOBAL, STACK_GLOBAL: pushes an allowed name; any other one ends the reading."""
        if not isinstance(module, str) or not isinstance(name, str):
            raise CheckpointError("its pickle asks for a name that is no text")
        dotted = f"{module}.{name}"
        symbol = find(module, name)
        if symbol is None:
            raise CheckpointError(f"it asks for {shown(dotted)}, which no checkpoint may do")
        self._stack.append(symbol)

    def storage(self) -> None:
        """BINPERSID: pushes the storage that the id on top names."""
        ref = rebuild_storage(*self.take(1))
        self.code.key(ref.key)
        if self.storages.setdefault(ref.key, ref) != ref:
            raise CheckpointError(f"storage {shown(ref.key)!r} has two types or sizes")
        self._stack.append(ref)

    def call(self, keywords: int = 0) -> None:
        """REDUCE, NEWOBJ, NEWOBJ_EX: runs our own builder of the name, never the name itself."""
        symbol, arguments, *_ = self.take(2 + keywords)
        if not isinstance(symbol, Symbol) or symbol.build is None:
            raise CheckpointError(f"its pickle calls a {type(symbol).__name__}, no function")
        if not isinstance(arguments, tuple):
            raise CheckpointError(f"its pickle calls {symbol.name} without a tuple")
        self._expect_work(symbol, arguments)
        self._stack.append(symbol.build(*arguments))

    def _expect_work(self, symbol: Symbol, arguments: tuple[Any, ...]) -> None:
        """Counts what a builder is going to go through: the same list may be given it again."""
        for argument in arguments:
            if isinstance(argument, str | bytes):
                self.code.spend(len(argument) // TEXT_PER_VALUE)
            elif isinstance(argument, list | tuple | dict):
                self.code.spend(len(argument))
                if symbol.name == "collections.OrderedDict":
                    for pair in argument:
                        self.code.key(pair[0] if isinstance(pair, list | tuple) and pair else None)

    def build(self) -> None:
        """BUILD: the attributes of a record; those of a dict (torch's `_metadata`) are dropped."""
        (state,) = self.take(1)
        target = self.peek(Record, dict)
        self.code.spend(len(state) if isinstance(state, list | tuple | dict) else 1)
        if isinstance(target, Record):
            target.fields.update(state if isinstance(state, dict) else {STATE: state})
        elif not isinstance(state, dict):
            raise CheckpointError(f"its pickle sets attributes from a {type(state).__name__}")

    def gather(self) -> None:
        """FROZENSET: pushes the record of a set."""
        self._stack.append(Record("builtins.frozenset", {HELD: self.group()}))

    def skip_header(self, code: str, limit: int) -> None:
        """PROTO, FRAME: a number that only has to be possible."""
        found = self.code.number(code)
        if found > limit:
            raise CheckpointError(f"its pickle has protocol or frame {found}, above {limit}")


_STACK: dict[bytes, Callable[[Machine], None]] = {
    pickle.PROTO: lambda m: m.skip_header("<B", NEWEST_PROTOCOL),
    pickle.FRAME: lambda m: m.skip_header("<Q", MAX_PICKLE_BYTES),
    pickle.MARK: Machine.mark,
    pickle.TUPLE: lambda m: m.pack(m.group()),
    pickle.TUPLE1: lambda m: m.pack(m.take(1)),
    pickle.TUPLE2: lambda m: m.pack(m.take(2)),
    pickle.TUPLE3: lambda m: m.pack(m.take(3)),
    pickle.APPEND: lambda m: m.extend(m.take(1)),
    pickle.APPENDS: lambda m: m.extend(m.group()),
    pickle.SETITEM: lambda m: m.update(m.take(2)),
    pickle.SETITEMS: lambda m: m.update(m.group()),
    pickle.BINPUT: lambda m: m.remember(m.code.number("<B")),
    pickle.LONG_BINPUT: lambda m: m.remember(m.code.number("<I")),
    pickle.MEMOIZE: Machine.memoize,
    pickle.BINGET: lambda m: m.recall(m.code.number("<B")),
    pickle.LONG_BINGET: lambda m: m.recall(m.code.number("<I")),
    pickle.GLOBAL: lambda m: m.symbol(m.code.line(), m.code.line()),
    pickle.STACK_GLOBAL: lambda m: m.symbol(*m.take(2)),
    pickle.BINPERSID: Machine.storage,
    pickle.REDUCE: Machine.call,
    pickle.NEWOBJ: Machine.call,
    pickle.NEWOBJ_EX: lambda m: m.call(keywords=1),
    pickle.ADDITEMS: lambda m: m.extend(m.group()),
    pickle.FROZENSET: Machine.gather,
    pickle.BUILD: Machine.build,
}
"""Instructions that work on the stack."""
