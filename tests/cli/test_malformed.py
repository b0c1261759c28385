"""Any malformed command line ends in exit code 2 and one bounded line, and writes nothing.

Every call of `malformed` is wrong by construction, so that the code is known beforehand.
"""

import runpy
import sys

import pytest

from skipdit_jax.cli import compare, convert, encode, errors, many, options, sample, train
from skipdit_jax.cli.errors import MAX_LINE, one_line
from tests.cli.malformed import MAINS, Bench

SLACK = 100  # for the name of the program


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    return Bench(tmp_path_factory.mktemp("bench"))


@pytest.fixture(autouse=True)
def nothing_runs(monkeypatch):
    def never(*_args, **_options):
        pytest.fail("something ran before the input was checked")

    for module, name in (
        (sample, "run"),
        (compare, "measure"),
        (many, "draw"),
        (encode, "encode_batch"),
        (train, "run_training"),
    ):
        monkeypatch.setattr(module, name, never)
    for module in (encode, train):
        monkeypatch.setattr(module, "use_compilation_cache", lambda: None)


def check(bench, capsys, folder, seed, count):
    made = {path for path in bench.folder.rglob("*") if "latents" not in path.parts}
    for call in bench.calls(seed, count):
        place = f"{call.program} {[word[:60] for word in call.argv]}: {call.wrong}"
        try:
            code = MAINS[call.program](call.argv)
        except SystemExit as stopped:
            code = stopped.code
        line = capsys.readouterr().err
        assert code == 2, place
        assert line.count("\n") == 1, place
        assert line.endswith("\n"), place
        assert ": error: " in line, place
        assert line[:-1].isprintable(), place
        assert len(line) < MAX_LINE + SLACK, place
    assert not list(folder.iterdir())
    assert made == {path for path in bench.folder.rglob("*") if "latents" not in path.parts}


def test_300_malformed_calls(bench, capsys, own_folder):
    check(bench, capsys, own_folder, seed=0, count=300)


@pytest.mark.slow
def test_1000_malformed_calls(bench, capsys, own_folder):
    check(bench, capsys, own_folder, seed=1, count=1000)


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
@pytest.mark.parametrize("program", MAINS)
def test_every_program_runs_as_a_module(program, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [program, "--frobnicate"])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_module(f"skipdit_jax.cli.{program}", run_name="__main__")
    assert stopped.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_no_flags_at_all_are_well_formed():
    assert options.parse([]).class_labels is None
    assert convert.make_parser().parse_args(["a", "b"]).source == "a"


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("a\nb\t c", "a b c"),
        ("red \x1b[31m", "red \\x1b[31m"),
        ("n\udcff.png", "n\\udcff.png"),
        ("", "ValueError"),
    ],
)
def test_a_message_becomes_one_line_that_any_terminal_shows(message, line):
    assert one_line(ValueError(message)) == line


@pytest.mark.parametrize("message", ["x" * 5000, "x y" * 2000, f"{'p q' * 2000}: no such file"])
def test_long_values_lose_their_middle(message):
    line = one_line(ValueError(message))
    assert len(line) <= MAX_LINE
    assert (line[:50], line[-3:]) == (message[:50], message[-3:])


def test_names_that_are_no_utf8_are_printed(capsys):
    errors.show_any_name()
    print("written n\udcff.png")
    assert capsys.readouterr().out == "written n\\udcff.png\n"
