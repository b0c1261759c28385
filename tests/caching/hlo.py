"""Reads the text of a compiled program: its computations, and which of them calls which."""

import re
from dataclasses import dataclass, field
from math import prod

import jax
import pytest

_HEADER = re.compile(r"(?:ENTRY )?%(?P<name>[\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(
    r"\s+(?:ROOT )?%[\w.\-]+ = (?P<shape>\(.*?\)|\S+) (?P<opcode>[a-z][a-z0-9\-]*)\("
)
_CALLED = re.compile(
    r"(?:calls|to_apply|body|condition|true_computation|false_computation)=%([\w.\-]+)"
)
_CALLED_LISTS = re.compile(r"(?:branch_computations|called_computations)=\{([^}]*)\}")
_TARGET = re.compile(r'custom_call_target="([^"]*)"')
_OF_CONSTANT = re.compile(r" copy\(%constant[\w.\-]*\)")
_ARRAY = re.compile(r"[a-z]+[0-9]*[a-z0-9]*\[([0-9,]*)\]")
# A matrix product is a `dot` on CPU, and on GPU a `dot` or a call of a matrix library.
_PRODUCTS = ("dot", "__cublas$lt$matmul", "__cublas$gemm")
COPIED = "copied constant"
ATTENTION = "__cudnn$fmhaSoftmax"
# docs/notes.md, One scan with a conditional: which XLA still copies what.
MEASURED = pytest.mark.skipif(
    jax.__version_info__ < (0, 12), reason="XLA of an older jax copies here: see docs/notes.md"
)


@dataclass(frozen=True)
class Instruction:
    """One line: `opcode` is the target for a custom call; `elements` of the largest array made.

    A copy of a constant, such as the table to which a product is added, has the opcode COPIED.
    """

    opcode: str
    elements: int
    called: tuple[str, ...]


@dataclass
class Program:
    """Computations by name, each a list of instructions."""

    computations: dict[str, list[Instruction]] = field(default_factory=dict)

    def reached(self, *names):
        """Instructions of these computations and of all that they call, each computation once."""
        waiting, seen = list(names), set()
        while waiting:
            name = waiting.pop()
            if name not in seen:
                seen.add(name)
                waiting += [c for line in self.computations[name] for c in line.called]
        return [line for name in seen for line in self.computations[name]]

    def all(self, opcode):
        """Every instruction of an opcode."""
        lines = [line for body in self.computations.values() for line in body]
        return [line for line in lines if line.opcode == opcode]

    def loops(self):
        """What each `while` reaches, its condition included."""
        return [self.reached(*line.called) for line in self.all("while")]

    def sampling_loop(self):
        """What the outermost loop with matrix products reaches: the loop over the steps."""
        return max(self.loops(), key=products)

    def branches(self):
        """What each side of the only conditional reaches, fewest matrix products first."""
        (conditional,) = self.all("conditional")
        return sorted((self.reached(name) for name in conditional.called), key=products)


def parse(text):
    """Reads the text of a compiled program."""
    program, body = Program(), []
    for line in text.splitlines():
        if header := _HEADER.match(line):
            body = program.computations.setdefault(header["name"], [])
        elif match := _INSTRUCTION.match(line):
            body.append(_instruction(line, match))
    return program


def _instruction(line, match):
    called = _CALLED.findall(line)
    for names in _CALLED_LISTS.findall(line):
        called += [name.strip().lstrip("%") for name in names.split(",")]
    opcode = COPIED if _OF_CONSTANT.search(line) else match["opcode"]
    target = _TARGET.search(line) if opcode == "custom-call" else None
    sizes = [prod(int(n) for n in dims.split(",") if n) for dims in _ARRAY.findall(match["shape"])]
    return Instruction(target[1] if target else opcode, max(sizes, default=0), tuple(called))


def count(lines, opcode):
    """How many instructions have this opcode."""
    return sum(line.opcode == opcode for line in lines)


def products(lines):
    """How many matrix products there are, those inside attention calls not counted."""
    return sum(count(lines, opcode) for opcode in _PRODUCTS)


def largest(lines, opcode):
    """Elements of the largest array that an opcode makes; 0 if there is none."""
    return max((line.elements for line in lines if line.opcode == opcode), default=0)


def sized(lines, opcode, elements):
    """How many instructions of an opcode make an array of this many elements."""
    return sum(line.opcode == opcode and line.elements == elements for line in lines)
