"""Ctrl-C and SIGTERM: a line and a code; what they do to a training run is in test_train.py."""

import os
import signal
import threading

import pytest

from skipdit_jax.checkpoints.atomic import replacing_file
from skipdit_jax.cli import sample
from skipdit_jax.cli.interrupts import Interrupts, interruptible

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


@pytest.mark.parametrize("number", CODES)
def test_what_is_interrupted_elsewhere_ends_with_one_line(number, small, capsys, monkeypatch):
    monkeypatch.setattr(sample, "run", lambda *_: os.kill(os.getpid(), number))
    with pytest.raises(SystemExit) as caught:
        sample.main(["--ckpt", str(small), "--out", "a.png"])
    err = capsys.readouterr().err
    assert (caught.value.code, err) == (CODES[number], f"sample.py: ended by {number.name}\n")
    assert not os.listdir()


@pytest.mark.parametrize("number", CODES)
def test_a_file_that_is_being_written_is_left_out(number, own_folder):
    @interruptible("program")
    def work():
        with replacing_file("file") as file:
            file.write(b"half")
            os.kill(os.getpid(), number)

    with pytest.raises(SystemExit):
        work()
    assert not os.listdir()


def test_a_second_ctrl_c_ends_at_once(monkeypatch):
    """Even within a computation, where Python runs no handler: the listener does not wait."""
    ended = threading.Event()
    codes = []
    monkeypatch.setattr(os, "_exit", lambda code: (codes.append(code), ended.set()))
    with Interrupts("program") as interrupts, interrupts.gracefully():
        for _ in range(2):
            assert not ended.is_set()
            os.kill(os.getpid(), signal.SIGINT)
        assert ended.wait(10)
        assert interrupts.stop_after(1)
    assert codes == [130]


def test_outside_the_main_thread_nothing_is_installed():
    def work():
        with interruptible("program"):
            done.append(signal.getsignal(signal.SIGTERM))

    done = []
    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [before]


def test_the_warning_of_slurm_is_noted_while_a_run_trains():
    before = signal.getsignal(signal.SIGUSR1)
    with Interrupts("program") as interrupts:
        with interrupts.gracefully():
            assert not interrupts.stop_after(1)
            os.kill(os.getpid(), signal.SIGUSR1)
            os.kill(os.getpid(), signal.SIGTERM)  # comes later, and changes nothing
            assert interrupts.stop_after(2)
        assert interrupts.asked == signal.SIGUSR1
    assert signal.getsignal(signal.SIGUSR1) == before
