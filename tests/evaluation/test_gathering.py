"""Features of whole sets: stopped work goes on, references are known, and nothing stays behind."""

import numpy as np
import pytest

from skipdit_jax.evaluation import gathering
from skipdit_jax.evaluation.evaluate import Reference, evaluate
from skipdit_jax.evaluation.gathering import forget, gather
from skipdit_jax.evaluation.sets import FirstOf, HeldSet
from tests.evaluation import edges
from tests.evaluation.edges import Counting, pictures

COUNT, BATCH, PIECE = 30, 4, 8


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(gathering, "PIECE", PIECE)


@pytest.fixture
def samples():
    return HeldSet("samples", pictures(COUNT))


@pytest.fixture(scope="module")
def network():
    return Counting(batch=BATCH)


@pytest.fixture
def extractor(network):
    """One program for the whole file."""
    network.rows, network.stop_at = 0, None
    return network


def test_the_features_are_those_of_all_samples_in_order(samples, extractor, tmp_path):
    told = []
    found = gather(samples, extractor, tmp_path / "kept", told.append)
    wanted = list(extractor([pictures(COUNT)]))
    for name, rows in found.items():
        np.testing.assert_array_equal(rows, np.concatenate([one[name] for one in wanted]))
    assert told == [*range(BATCH, COUNT, BATCH), COUNT]


@pytest.mark.parametrize("stop_at", [1, 8, 17, 28])
def test_a_stopped_evaluation_goes_on_where_it_stood(samples, extractor, tmp_path, stop_at):
    whole = gather(samples, extractor)
    extractor.rows, extractor.stop_at = 0, stop_at
    with pytest.raises(KeyboardInterrupt):
        gather(samples, extractor, tmp_path / "kept")
    done, kept = extractor.rows, len(list((tmp_path / "kept").glob("*.npz"))) * PIECE
    extractor.rows, extractor.stop_at = 0, None
    told = []
    found = gather(samples, extractor, tmp_path / "kept", told.append)
    assert extractor.rows == COUNT - kept
    assert done - kept <= PIECE
    assert told[0] == min(kept + BATCH, COUNT)
    for name, rows in whole.items():
        np.testing.assert_allclose(found[name], rows, rtol=1e-6, atol=1e-6)
        assert found[name].dtype == np.float32


def test_a_piece_that_is_damaged_is_told_by_name(samples, extractor, tmp_path):
    gather(samples, extractor, tmp_path / "kept")
    piece = tmp_path / "kept" / f"{PIECE:08d}.npz"
    piece.write_bytes(piece.read_bytes()[:-40])
    with pytest.raises(ValueError, match=rf"{PIECE:08d}\.npz: ") as caught:
        gather(samples, extractor, tmp_path / "kept")
    assert "\n" not in str(caught.value)
    assert "remove" in str(caught.value)


def test_pieces_of_other_features_are_told(samples, extractor, tmp_path):
    gather(samples, extractor, tmp_path / "kept")
    np.savez(tmp_path / "kept" / f"{PIECE:08d}.npz", other=np.zeros((8, 2), np.float32))
    with pytest.raises(ValueError, match=rf"{PIECE:08d}\.npz: "):
        gather(samples, extractor, tmp_path / "kept")


@pytest.mark.parametrize("rows", [np.zeros((0, 4), np.float32), np.zeros(8, np.float32)])
def test_pieces_of_nothing_are_told(samples, extractor, tmp_path, rows):
    (tmp_path / "kept").mkdir()
    np.savez(tmp_path / "kept" / "00000000.npz", pool=rows)
    with pytest.raises(ValueError, match=r"00000000\.npz: "):
        gather(samples, extractor, tmp_path / "kept")


def test_pieces_of_another_process_are_taken_only_where_they_fit(samples, extractor, tmp_path):
    wanted = gather(samples, extractor)
    folder = tmp_path / "kept"
    folder.mkdir()
    for start, stop in ((0, 8), (9, 18), (8, 14)):
        part = {name: rows[start:stop] for name, rows in wanted.items()}
        np.savez(folder / f"{start:08d}.npz", **part)
    extractor.rows = 0
    found = gather(samples, extractor, folder)
    assert extractor.rows == COUNT - 14
    for name, rows in wanted.items():
        np.testing.assert_allclose(found[name], rows, rtol=1e-5, atol=1e-6)


def test_what_was_kept_goes_with_all_that_a_killed_process_left(samples, extractor, tmp_path):
    gather(samples, extractor, tmp_path / "kept")
    (tmp_path / "kept" / ".00000024.npz.elsewhere.1.00000000.tmp").write_bytes(b"half")
    forget(tmp_path / "kept")
    forget(tmp_path / "kept")
    assert list(tmp_path.iterdir()) == []


def run(extractor, samples, real, keep, names=("fid",)):
    before = extractor.rows
    scores = evaluate(samples, Reference(real), names, {"inception": extractor}, keep=keep)
    return scores[0].value, extractor.rows - before


def test_statistics_of_a_reference_are_kept_and_nothing_else(samples, extractor, tmp_path):
    real = HeldSet("real", pictures(20, seed=1))
    first, rows = run(extractor, samples, real, tmp_path)
    assert rows == COUNT + 20
    assert [path.name for path in tmp_path.iterdir()] == ["statistics"]
    again, rows = run(extractor, samples, real, tmp_path)
    assert rows == COUNT
    assert again == first
    nowhere, _ = run(extractor, samples, real, None)
    assert nowhere == first


def test_features_of_a_reference_are_made_anew_where_statistics_do_not_do(
    samples, extractor, tmp_path
):
    real = HeldSet("real", pictures(20, seed=1))
    run(extractor, samples, real, tmp_path)
    _, rows = run(extractor, samples, real, tmp_path, ("kid", "fid"))
    assert rows == COUNT + 20


def test_another_set_network_or_rule_never_gets_them(samples, extractor, tmp_path):
    sets = {
        "one": HeldSet("real", pictures(20, seed=1)),
        "other pictures": HeldSet("real", pictures(20, seed=2)),
        "fewer": FirstOf(HeldSet("real", pictures(20, seed=1)), 12),
    }
    for real in sets.values():
        value, rows = run(extractor, samples, real, tmp_path)
        assert rows == COUNT + len(real)
        assert value == run(extractor, samples, real, None)[0]
    other = Counting(batch=BATCH, identity="the same weights by another rule", scale=2.0)
    value, rows = run(other, samples, sets["one"], tmp_path)
    assert rows == COUNT + 20
    assert value == run(other, samples, sets["one"], None)[0]


def test_a_stopped_evaluation_keeps_both_sets_apart(samples, extractor, tmp_path):
    real = HeldSet("real", pictures(20, seed=1))
    wanted, _ = run(extractor, samples, real, None, ("kid",))
    extractor.rows, extractor.stop_at = 0, COUNT + 10
    with pytest.raises(KeyboardInterrupt):
        run(extractor, samples, real, tmp_path, ("kid",))
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{one.fingerprint}-edges" for one in (samples, real)
    }
    extractor.rows, extractor.stop_at = 0, None
    value, rows = run(extractor, samples, real, tmp_path, ("kid",))
    assert rows == (COUNT % PIECE) + 20 - PIECE
    assert value == pytest.approx(wanted, rel=1e-5)
    assert list(tmp_path.iterdir()) == []


def test_one_set_on_both_sides_is_looked_at_once(samples, extractor, tmp_path):
    value, rows = run(extractor, samples, samples, tmp_path, ("fid", "kid"))
    assert abs(value) < 1e-3
    assert rows == COUNT
    assert edges.FILTERS.shape == (3, 3, 4)
    assert list(tmp_path.iterdir()) == []
