import itertools
import json
import os

import jax
import numpy as np
import pytest

from skipdit_jax.checkpoints.store import Store, latest_step, read_metadata, restore
from skipdit_jax.training import logs
from skipdit_jax.training.feed import Feed
from skipdit_jax.training.logs import BoardLog, JsonLog, read_log
from skipdit_jax.training.loop import DivergedError, Hooks, LoopConfig, train
from skipdit_jax.training.state import from_items, to_items
from skipdit_jax.training.throughput import Meter
from tests.training import toy


def hooks(**changes):
    """Hooks that do nothing but what a test asks for."""
    nothing = {"learning_rate": lambda step: 0, "save": lambda *_: None, "log": lambda _: None}
    return Hooks(**{**nothing, **changes})


def meter():
    return Meter(flops_per_image=1000, peak=None, devices=1)


def run(state, step, batches, steps, **options):
    """Trains and returns (state, records, saves)."""
    records, saves = [], []

    def save(done, state):
        saves.append((done, int(state.step)))

    config = LoopConfig(**{"steps": steps, "log_every": 2, "checkpoint_every": 3, **options})
    calls = hooks(save=save, log=records.append, learning_rate=lambda step: 0.5 * step)
    return train(state, step, batches, config, calls, meter()), records, saves


def test_logs_and_saves_on_time_and_at_the_end():
    state, records, saves = run(*toy.training(), toy.batches(), 7)
    assert [record["step"] for record in records] == [2, 4, 6, 7]
    assert saves == [(3, 3), (6, 6), (7, 7)]
    assert int(state.step) == 7
    assert [record["lr"] for record in records] == [0.5, 1.5, 2.5, 3.0]
    assert json.loads(json.dumps(records)) == records


def test_records_are_means_of_their_steps():
    _, single, _ = run(*toy.training(), toy.batches(), 4, log_every=1)
    _, double, _ = run(*toy.training(), toy.batches(), 4)
    for name in ("loss", "mse", "vb", "grad_norm"):
        values = np.array([record[name] for record in single]).reshape(2, 2).mean(1)
        np.testing.assert_allclose([record[name] for record in double], values, rtol=1e-6)


def test_samples_are_drawn_on_time_and_at_the_end_from_the_state_of_that_step():
    drawn, started = [], []
    config = LoopConfig(steps=5, sample_every=2)
    calls = hooks(
        sample=lambda done, state: drawn.append((done, int(state.step))), before_step=started.append
    )
    train(*toy.training(), toy.batches(), config, calls, meter())
    assert drawn == [(2, 2), (4, 4), (5, 5)]
    assert started == [0, 1, 2, 3, 4]


def test_a_finished_run_does_nothing():
    state, step = toy.training()
    state, *_ = run(state, step, toy.batches(), 2)
    _, records, saves = run(state, step, toy.batches(), 2)
    assert (records, saves) == ([], [])


@pytest.mark.parametrize("bad", [5, 6])
def test_a_loss_that_is_not_finite_stops_before_the_next_save_and_names_its_step(bad):
    batches = list(itertools.islice(toy.batches(), 8))
    batches[bad - 1]["image"] = np.full_like(batches[bad - 1]["image"], np.nan)
    saves = []
    config = LoopConfig(steps=8, log_every=100, checkpoint_every=3)
    with pytest.raises(DivergedError, match=rf"step {bad}: loss nan.*batch {bad} of the run"):
        train(
            *toy.training(),
            iter(batches),
            config,
            hooks(save=lambda done, state: saves.append(done), log=saves.append),
            meter(),
        )
    assert saves == [3]


def test_steps_that_were_skipped_are_counted_and_left_out_of_the_averages():
    batches = list(itertools.islice(toy.batches(), 6))
    for bad in (1, 4, 5):
        batches[bad]["image"] = np.full_like(batches[bad]["image"], np.nan)
    made = []
    config = LoopConfig(steps=6, log_every=2)
    calls = hooks(log=made.append)
    state = train(*toy.training(skip_above=100.0), iter(batches), config, calls, meter())
    assert [record["steps_skipped"] for record in made] == [1, 0, 2]
    assert np.isfinite([record["loss"] for record in made[:2]]).all()
    assert made[2]["loss"] is None
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))


@pytest.mark.parametrize("name", ["steps", "log_every", "checkpoint_every"])
def test_bad_lengths_are_named(name):
    with pytest.raises(ValueError, match=f"{name}: found 0"):
        LoopConfig(**{"steps": 5, name: 0})


def train_and_save(root, steps, resume):
    """One process of a run: (state, order of the images seen)."""
    state, step = toy.training(warmup_steps=3, schedule="cosine", clip_norm=0.5, decays=(0.9, 0.5))
    batches, seen = toy.batches(seed=5), []
    if resume:
        restored = restore(root, to_items(state))
        state = from_items(restored.items, like=state.key)
        batches.set_state(restored.metadata["data"])

    def watched():
        for batch in batches:
            seen.append(batch["image"].sum())
            yield batch

    with Store(root) as store:
        state = train(
            state,
            step,
            watched(),
            LoopConfig(steps=steps, checkpoint_every=10),
            hooks(
                save=lambda done, state: store.save(
                    done, to_items(state), {"data": batches.get_state()}
                )
            ),
            meter(),
        )
    return state, seen


def test_a_resumed_run_is_bit_equal_to_an_uninterrupted_one(tmp_path):
    straight, order = train_and_save(tmp_path / "straight", 40, resume=False)
    _, first = train_and_save(tmp_path / "parts", 17, resume=False)
    resumed, second = train_and_save(tmp_path / "parts", 40, resume=True)
    assert (len(first), len(second)) == (17, 23)
    assert first + second == order
    toy.assert_equal(resumed, straight)
    assert latest_step(tmp_path / "parts") == 40


def test_a_saved_state_is_not_touched_by_the_steps_that_follow(tmp_path):
    """The save is asynchronous and the next step is given the same buffers."""
    state, step = toy.training()
    batches = toy.batches()
    want = [np.asarray(leaf).copy() for leaf in _leaves(state)]
    with Store(tmp_path / "root") as store:
        store.save(0, to_items(state), {"note": 1})
        for _ in range(5):
            state, _ = step(state, next(batches))
    fresh, _ = toy.training()
    restored = restore(tmp_path / "root", to_items(fresh), step=0)
    got = _leaves(from_items(restored.items, like=fresh.key))
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(a, b)
    assert read_metadata(tmp_path / "root", 0) == restored.metadata == {"note": 1}


def _leaves(state):
    return [leaf for tree in (state.params, *state.ema.values()) for leaf in _flat(tree)]


def _flat(tree):
    return [leaf for part in tree.values() for leaf in part.values()]


def test_waiting_batches_are_not_yet_part_of_the_position():
    """A feed reads ahead; what is saved is where the last batch that was used stands."""
    used = [batch["image"] for batch in itertools.islice(Feed(toy.batches(), dict), 6)]
    feed = Feed(toy.batches(), dict)
    for _ in range(3):
        next(feed)
    position = feed.get_state()
    again = Feed(toy.batches(), dict)
    next(again)
    again.set_state(position)
    assert again.get_state() == position
    for want in used[3:]:
        np.testing.assert_array_equal(next(feed)["image"], want)
        np.testing.assert_array_equal(next(again)["image"], want)


def test_the_board_shows_what_was_logged_and_drawn(tmp_path):
    board = BoardLog(tmp_path)
    board.write({"step": 3, "loss": 0.5, "mfu": None})
    board.picture("samples", np.zeros((4, 5, 3), np.uint8), 3)
    board.close()
    (file,) = tmp_path.iterdir()
    content = file.read_bytes()
    assert b"loss" in content
    assert b"samples" in content
    assert b"mfu" not in content


def test_log_forgets_what_a_resumed_run_will_do_again(tmp_path):
    path = tmp_path / "metrics.jsonl"
    log = JsonLog(path)
    for step in (2, 4, 6):
        log.write({"step": step, "loss": 0.5 * step})
    JsonLog(path, resumed_step=4).write({"step": 6, "loss": -1.0})
    assert [(r["step"], r["loss"]) for r in read_log(path)] == [(2, 1.0), (4, 2.0), (6, -1.0)]


def test_log_survives_a_line_cut_short_but_not_damage(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"st')
    assert read_log(path) == [{"step": 1}]
    path.write_text('{"st\n{"step": 1}\n')
    with pytest.raises(ValueError, match="line 1"):
        read_log(path)


def test_only_the_end_of_a_log_is_read_to_continue_it(tmp_path, monkeypatch):
    """A line of garbage at its beginning is not met; blocks may end anywhere in a line."""
    path = tmp_path / "metrics.jsonl"
    lines = [json.dumps({"step": step, "loss": 0.5}) + "\n" for step in range(1, 2001)]
    for block in (1, 7, 64, 2**16):
        monkeypatch.setattr(logs, "BLOCK", block)
        path.write_text("null\n" + "".join(lines) + '{"step": 2001, "lo')
        assert JsonLog(path, resumed_step=1990).notes == ()
        assert path.read_text() == "null\n" + "".join(lines[:1990])
    assert JsonLog(path, resumed_step=0).notes != ()


@pytest.mark.parametrize("line", ["null", "[1]", '{"loss": 1}', '{"step": "1"}', "\x00", "{", ""])
def test_a_log_that_cannot_be_continued_is_set_aside_and_told(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    content = '{"step": 1}\n' + line + "\n"
    path.write_text(content)
    log = JsonLog(path, resumed_step=1)
    (note,) = log.notes
    assert note.startswith(f"{path}: holds a line that is no ")
    assert path.with_name("metrics.jsonl.damaged").read_text() == content
    log.write({"step": 2})
    assert read_log(path) == [{"step": 2}]


def test_a_full_disk_is_an_error_of_the_board_itself(tmp_path, monkeypatch):
    """Not of a thread that nobody asks."""

    def write(*_):
        raise OSError(28, "No space left on device")

    board = BoardLog(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(board._writer, "_write_serialized_event", write)
        with pytest.raises(OSError, match="No space left"):
            board.write({"step": 3, "loss": 0.5})
    board.close()


def test_a_log_that_is_a_pipe_is_refused_and_stays_one(tmp_path):
    os.mkfifo(tmp_path / "metrics.jsonl")
    with pytest.raises(OSError, match="pipe"):
        JsonLog(tmp_path / "metrics.jsonl")
    assert (tmp_path / "metrics.jsonl").is_fifo()
