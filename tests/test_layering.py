"""Imports go one way: read with ast, so that a lazy import inside a function counts too."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "skipdit_jax"

LAYERS = {
    "typing": 0,
    "trees": 0,
    "files": 0,
    "config": 0,
    "compiler": 0,
    "optional": 0,
    "sharding": 0,
    "published": 0,
    "contracts": 1,
    "layers": 1,
    "diffusion": 1,
    "visualise": 1,
    "caching": 2,
    "models": 2,
    "encoders": 2,
    "checkpoints": 2,
    "data": 2,
    "sampling": 3,
    "training": 3,
    "evaluation": 3,
    "registry": 4,
    "pipeline": 5,
    "weights": 5,
    "calibration": 6,
    "encoder_weights": 6,
    "runs": 6,
    "cli": 7,
}
# Where a layer holds packages that know nothing of each other, only these may be imported besides
# the lowest layer.
ALLOWED = {
    "contracts": set(),
    "layers": set(),
    "diffusion": set(),
    "visualise": set(),
    "caching": {"contracts"},
    "models": {"contracts", "layers"},
    "encoders": {"layers"},
    "checkpoints": {"layers"},
    "data": set(),
    "sampling": {"contracts", "caching", "diffusion"},
    "training": {"contracts", "diffusion"},
    "evaluation": {"data", "layers"},
}
LOWEST = {part for part, layer in LAYERS.items() if layer == 0}


def imports(path):
    """Modules of this package that a file imports, as dotted names below it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        yield from (n.split(".", 1)[1] for n in names if n.startswith("skipdit_jax."))


def part_of(path):
    """The package or module directly below skipdit_jax that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


FILES = sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_down(path):
    part = part_of(path)
    assert part in LAYERS, f"{part} has no layer: give it one in this test"
    for name in imports(path):
        other = name.split(".")[0]
        if other == part:
            continue
        assert LAYERS[other] < LAYERS[part], f"{path}: {part} imports {other}"
        if part in ALLOWED and other not in LOWEST:
            assert other in ALLOWED[part], f"{path}: {part} imports {other}"


def test_no_relative_imports():
    relative = [
        str(path)
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert not relative


def test_only_the_command_line_prints_or_exits():
    banned = {"print", "exit", "breakpoint"}
    loud = [
        f"{path}:{node.lineno}"
        for path in FILES
        if part_of(path) != "cli"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in banned
    ]
    assert not loud


def test_methods_of_caching_are_named_by_presets_and_the_face_alone():
    """Everything else knows policies: a new method is one file, and one line of the notation."""
    methods = {path.stem for path in (PACKAGE / "caching" / "methods").glob("[a-z]*.py")}
    assert methods
    named = [
        str(path.relative_to(PACKAGE))
        for path in FILES
        if part_of(path) != "caching"
        for name in imports(path)
        if name.startswith("caching.methods")
    ]
    assert not named
