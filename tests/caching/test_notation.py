"""Policies as text: read, written, changed by name, and told in one line where they are none."""

import dataclasses

import numpy as np
import pytest

import skipdit_jax as sd
from skipdit_jax.caching import notation, planning
from skipdit_jax.caching.methods.block_cache import BlockCache
from skipdit_jax.caching.methods.skip_cache import SkipCache
from skipdit_jax.caching.plan import CachePolicy
from skipdit_jax.caching.presets import DIT_SKIP_CACHE, LATTE_SKIP_CACHE

POLICIES = [
    None,
    SkipCache(every=3),
    SkipCache(every=4, start=900, stop=49),
    SkipCache(every=2, branch=3),
    DIT_SKIP_CACHE,
    LATTE_SKIP_CACHE,
    BlockCache(every=3),
    BlockCache(every=5, front=0, back=2, start=700, stop=10),
    SkipCache(every=3, branch=2, forecast="foca"),
    SkipCache(full=(0, 2, 5, 9)),
    sd.DeepCache(full=9, center=4, power=1.2, branch=2),
    sd.DeltaDiT(every=3, layers=5, boundary=500, start=900, stop=20),
    sd.FasterDiffusion(split=3, full=(0, 4, 7)),
    sd.Fora(every=4, forecast="taylor2"),
    sd.SmoothCache(file="a+b (1).json"),
    sd.SmoothCache(file="it's a )+( [file]"),
    sd.SmoothCache.of({"attn": [1, 0, 1], "mlp-3": [1, 1, 0]}),
    sd.Pab(temporal_window=(1, 900), gated=False, mlp=((900, (0, 1), 2), (700, (), 1))),
    sd.TaylorSeer(interval=3, order=2, lite=True, phase="diffusers", warmup=3, until=40),
    sd.MagCache(ratios=(1.0, 0.5), threshold=0.1, max_skips=2, retention=0.5),
    sd.MagCache(file="ratios.json"),
    sd.FasterCache(attention=False, guidance=True, alpha=1.2, low_window=(1, 2)),
    sd.FasterCache(variant="diffusers", weight=0.3),
    sd.ToCa(interval=4, budget="ddpm250", score="values", mixed=False, buckets=4),
    sd.DuCa(score="random"),
    sd.Combined(policies=(SkipCache(every=3), sd.FasterCache(attention=False))),
    sd.Combined(policies=(SkipCache(every=3, branch=2), sd.Fora(), sd.FasterCache(alpha=1.0))),
]


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_what_is_written_is_read_back(policy):
    assert notation.read(notation.write(policy)) == policy


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("N3-1000-20", SkipCache(every=3, start=1000, stop=20)),
        (" N2-700-50 ", SkipCache(every=2, start=700, stop=50)),
        ("N4", SkipCache(every=4)),
        ("4", SkipCache(every=4)),
        ("none", None),
        ("fora:2", sd.Fora(every=2)),
        ("taylor:3:2", sd.TaylorSeer(interval=3, order=2)),
        ("pab:4:5", sd.Pab(spatial=4, temporal=5)),
        ("smooth:dir/FILE.json", sd.SmoothCache(file="dir/FILE.json")),
        ("mag:FILE:0.1", sd.MagCache(file="FILE", threshold=0.1)),
        ("delta", sd.DeltaDiT()),
        ("faster-diffusion", sd.FasterDiffusion()),
        ("faster-cache", sd.FasterCache()),
        ("toca:4:0.1", sd.ToCa(interval=4, ratio=0.1)),
        ("deepcache:10", sd.DeepCache(full=10)),
        ("N3 + fora:2", sd.Combined(policies=(SkipCache(every=3), sd.Fora(every=2)))),
        ("block-cache(every=3, front=2)", BlockCache(every=3, front=2)),
        (" skip-cache( every = 2,branch=1 ) ", SkipCache(every=2, branch=1)),
    ],
)
def test_notation(text, policy):
    assert notation.read(text) == policy


def test_short_forms_stay_short():
    assert notation.write(SkipCache(every=3, start=1000, stop=20)) == "N3-1000-20"
    assert notation.write(SkipCache(every=3)) == "N3"


def test_labels_are_as_short_as_the_method_writes_itself():
    assert notation.short(DIT_SKIP_CACHE) == "N3-1000-20"
    assert notation.short(BlockCache(every=3)) == "block-cache(every=3)"


def test_notation_keeps_what_it_does_not_say():
    parsed = notation.read("N2", DIT_SKIP_CACHE)
    assert parsed == SkipCache(every=2, branch=4, start=1000, stop=20)
    assert notation.read("N2", BlockCache(every=3)) == SkipCache(every=2)


@pytest.mark.parametrize(
    "text",
    [
        "N0",
        "N3-20-1000",
        "N3-20",
        "",
        "three",
        "N-3",
        "N3-1000-20-4",
        "nothing(every=3)",
        "fora:",
        "fora:0",
        "fora:1.5",
        "fora:x",
        "fora:True",
        "fora:3:foca:4",
        "fora:3:taylor9",
        "fora+",
        "none+fora",
        "taylor:4:5",
        "mag",
        "smooth",
        "mag:a:b",
        "mag:1",
        "pab:0",
        "pab(mlp=1)",
        "faster-diffusion(full=3)",
        "faster-cache(variant='other')",
        "smooth(file='a)",
        "block-cache",
        "block-cache(3)",
        "block-cache()",
        "block-cache(every=)",
        "block-cache(every=3, width=1)",
        "block-cache(every=0)",
        "block-cache(every='3')",
        "block-cache(**{'every': 3})",
        "block-cache(every=__import__('os').getpid())",
        "block-cache(every=3)\nN3",
        "block-cache(every=3))(f(1)",
    ],
)
def test_bad_notation_is_one_line(text):
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        notation.read(text)


def test_fields_are_changed_by_name():
    assert notation.with_fields(BlockCache(every=3), front=2) == BlockCache(every=3, front=2)
    assert notation.of_same_method(DIT_SKIP_CACHE, every=5) == SkipCache(every=5)
    with pytest.raises(ValueError, match="block cache: has no branch, only every, front"):
        notation.with_fields(BlockCache(every=3), branch=1)


@dataclasses.dataclass(frozen=True)
class FirstHalf:
    """A method of somebody else: caches in the first half of the steps."""

    back: int = 1
    title = "first half"

    def resolved(self, published):
        return self

    def plan(self, run):
        reuse = np.arange(run.steps) < run.steps // 2
        return planning.reuse_middle(run, reuse, 1, self.back, residual=True)


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setattr(notation, "POLICIES", dict(notation.POLICIES))
    notation.register_policy("first-half", FirstHalf)


@pytest.mark.usefixtures("registered")
def test_a_method_from_outside_is_read_and_written():
    assert isinstance(FirstHalf(), CachePolicy)
    assert notation.read("first-half(back=2)") == FirstHalf(back=2)
    assert notation.write(FirstHalf(back=2)) == "first-half(back=2)"
    assert notation.read(notation.write(FirstHalf())) == FirstHalf()


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("name", ["skip-cache", "first-half", "none", "a b", "", "1st"])
def test_names_are_given_once(name):
    with pytest.raises(ValueError, match="register_policy"):
        notation.register_policy(name, FirstHalf)


def test_what_is_no_policy_is_refused():
    with pytest.raises(ValueError, match="dict lacks title, resolved, plan"):
        notation.register_policy("mapping", dict)
    with pytest.raises(ValueError, match="not known by name"):
        notation.write(FirstHalf())
