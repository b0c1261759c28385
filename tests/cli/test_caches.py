"""skipdit-caches: every method in one table, with the arithmetic of a model."""

import pytest

from skipdit_jax.caching import notation
from skipdit_jax.cli import caches

MIB = 2**20


def table(capsys, *flags):
    """{what --cache takes: the line of it}, and the lines behind the table."""
    assert caches.main(flags) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.strip()]
    rows = [line for line in lines if line.startswith("  ")]
    return {line.split("  ")[1]: line for line in rows}, [x for x in lines if x not in rows]


def test_every_method_is_listed_with_its_paper_or_the_reason(capsys):
    rows, notes = table(capsys)
    for name, method in notation.POLICIES.items():
        assert name == method.NAME
        cells = {cell.strip() for cell in rows[method.EXAMPLE].split("  ")}
        decides = hasattr(method, "over")
        assert {method.PAPER, method.KEEPS, "dynamic" if decides else "static"} <= cells
        told = [note for note in notes if note.startswith(f"not here {method.EXAMPLE}: ")]
        assert len(told) == ("not here" in rows[method.EXAMPLE])
    assert "needs long skips" not in "".join(notes)
    assert any("delta:2: cache plan: stages 0 to 8 cannot be reused" in note for note in notes)
    assert sum(note.startswith("dynamic: the samples decide") for note in notes) == 1
    assert any("guidance 4: [cond; uncond]; float32" in note for note in notes)


def test_bytes_and_ceiling_are_those_of_the_published_arithmetic(capsys):
    """FORA keeps 2 L tensors [2,N,D] in float32, order 2 three of each; 18 of 50 steps computed."""
    flags = ("--model", "DiT-S/2", "fora:3", "taylor:4:2", "fora:1")
    rows, notes = table(capsys, *flags)
    tensor = 2 * 256 * 384 * 4
    assert f" {24 * tensor / MIB:.3g} " in rows["fora:3"]
    assert f" {3 * 24 * tensor / MIB:.3g} " in rows["taylor:4:2"]
    assert "1.00x" in rows["fora:1"]
    assert float(rows["fora:3"].split("x ")[0].split()[-1]) == pytest.approx(50 / 18, abs=0.02)
    assert len(rows) == 1 + 1 + 3  # the heading, none, and the settings
    assert not [note for note in notes if note.startswith("not here")]


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--model", "DiT-Q/2"], "unknown model 'DiT-Q/2'"),
        (["fora:3:hold:1"], "cache 'fora:3:hold:1': Fora takes every, forecast"),
        (["--steps", "ddim0"], "ddim0"),
    ],
)
def test_what_does_not_exist_is_one_line(flags, told, capsys):
    with pytest.raises(SystemExit) as ended:
        caches.main(flags)
    assert ended.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("skipdit_jax.cli.caches: error: ")
    assert told in line
