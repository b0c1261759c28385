"""The method that docs/caching.md writes, and the methods that it lists."""

import re
from pathlib import Path

import numpy as np
import pytest

import skipdit_jax as sd
from skipdit_jax.caching import notation

PAGE = Path(__file__).parents[2] / "docs" / "caching.md"
TEXT = PAGE.read_text()


@pytest.fixture
def policies():
    """What the page registers is forgotten behind the test."""
    before = dict(notation.POLICIES)
    yield
    notation.POLICIES.clear()
    notation.POLICIES.update(before)


def test_the_method_of_the_page_runs(policies, capsys):
    """It leaves out attention at late steps, and nothing else."""
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    names = {}
    exec(compile(code, str(PAGE), "exec"), names)
    sampler, model = names["sampler"], sd.create_model("DiT-S/2")
    late = sampler.inputs.t < 500
    reused = int(np.sum(late & (np.arange(50) % 4 != 0)))
    assert f"{50 - reused} steps computed, {reused} reused" in capsys.readouterr().out
    spared = reused * model.num_stages * dict(model.costs.sublayers)["attn"]
    assert sampler.summary(1).flops == 50 * model.costs.total() - spared
    text = notation.write(sampler.cache)
    assert notation.read(text) == names["LateAttention"](every=4)
    lines = code[code.index("@dataclass") : code.index("sd.register")].strip().splitlines()
    assert len(lines) <= 30


def test_every_method_is_in_its_table_and_every_text_is_read():
    cells = re.findall(r"^\| (`.*?) \|", TEXT, re.MULTILINE)
    texts = [text for cell in cells for text in re.findall("`(.+?)`", cell)]
    read = [type(notation.read(text)) for text in texts if text != "--cache"]
    assert set(read) == set(notation.POLICIES.values())
    classes = re.findall(r"^\| `.*?\| `(\w+)` \|", TEXT, re.MULTILINE)
    assert {getattr(sd, name) for name in classes} == set(read)


def test_texts_of_the_notation_are_read_and_written():
    lines = re.search(r"## Notation\n.*?\n\n(.*?)\n\n", TEXT, re.DOTALL)[1].splitlines()
    texts = [re.split(r"\s{3,}", line.strip())[0] for line in lines]
    assert len(texts) == 5
    for text in texts:
        policy = notation.read(text)
        assert notation.read(notation.write(policy)) == policy
