"""train.py with evaluate_every: flags of the evaluation, and refusals in one line."""

import pytest

from skipdit_jax.cli import train
from skipdit_jax.training.logs import read_log
from tests.cli.evaluation_kit import put_in_place
from tests.cli.test_train import flags_of, refused

pytestmark = pytest.mark.usefixtures("compiled_once")
ASKED = {"evaluate_every": 2, "evaluation.samples": 5, "sampling.steps": "3"}
ASKED |= {"sampling.cache": "none"}  # two stages have none to save


@pytest.fixture(autouse=True)
def asked(monkeypatch, tmp_path):
    return put_in_place(monkeypatch, tmp_path)


def test_a_run_writes_its_numbers_and_goes_on(tmp_path, capsys, asked):
    more = {"evaluation.reference": "digits:test", "evaluation.metrics": "('fid','pr')"}
    flags = {**ASKED, **more, "lr_schedule": "constant", "evaluation.resize": "pytorch-fid"}
    assert train.main(flags_of(tmp_path / "run", **flags, steps=2)) == 0
    [first] = read_log(tmp_path / "run" / "evaluation.jsonl")
    assert first.keys() == {"step", "fid", "precision", "recall"}
    assert train.main(flags_of(tmp_path / "run", **flags)) == 0
    assert "at step 2" in capsys.readouterr().out
    assert [r["step"] for r in read_log(tmp_path / "run" / "evaluation.jsonl")] == [2, 4]
    assert [choice.rule for choice in asked] == ["pytorch-fid"] * 2


REFUSED = {
    "unknown metric": ({"evaluation.metrics": "('fid', 'is2')"}, "found is2, wanted some of fid"),
    "no reference": ({}, "fid: found no reference, wanted one"),
    "no number": ({"evaluation.samples": "many"}, "evaluation.samples"),
    "unknown field": ({"evaluation.metric": "fid"}, "--config.evaluation.metric: no such name"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_evaluated_is_told_before_training(tmp_path, capsys, case):
    changes, words = REFUSED[case]
    line = refused(capsys, flags_of(tmp_path / "run", **{**ASKED, **changes}))
    assert words in line
    assert not (tmp_path / "run" / "checkpoints").exists()
