"""Processes of one run end together, and stop after the same step.

An error of one process would leave the others in a collective, and itself in the shutdown of JAX,
for five minutes until all are aborted. So its reason is put where all can read it, the key-value
store of JAX's coordination service, and each process looks there twice a second.
"""

import atexit
import contextlib
import json
import multiprocessing
import os
import sys
import threading
import time
import traceback
from types import TracebackType
from typing import Any

import jax
from jax._src import distributed  # the store has no public name; orbax takes it from here too

ENDED = "skipdit_jax/ended/"
SEEN = "skipdit_jax/seen/"
STOP = "skipdit_jax/stop"
POLL_SECONDS = 0.5
GRACE_SECONDS = 10.0  # for all to read the reason; process 0 takes the store with it
LEAVING = threading.Event()
"""Set where this process ends for a reason of its own: that of another one is not told as well."""
CRASHED = 1  # what Python itself ends with after an error that nobody handles


def store() -> Any:
    """The key-value store of all processes; None in a process alone."""
    return distributed.global_state.client


def watch(program: str) -> None:
    """Ends this process, with its reason, as soon as another one has ended with an error.

    An error here that nobody handles ends the others in turn.

    Args:
      program: what lines begin with.
    """
    over = threading.Event()

    def look() -> None:
        while not over.wait(POLL_SECONDS):
            if LEAVING.is_set():
                return
            if reason := _reason():
                _leave_with(program, *reason)

    thread = threading.Thread(target=look, name="watch", daemon=True)
    thread.start()
    # JAX's shutdown, registered before, comes after this.
    atexit.register(thread.join)
    atexit.register(over.set)

    def crashed(
        kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        for _ in range(2):  # what broke here may be the end of another process
            if reason := _reason():
                _leave_with(program, *reason)
            time.sleep(POLL_SECONDS)
        traceback.print_exception(kind, error, trace)
        leave(CRASHED, f"{kind.__name__}: {error}")

    sys.excepthook = crashed


def leave(code: int, text: str) -> None:
    """Tells all processes why this one ends, and ends it; does nothing in a process alone.

    The line for people is the caller's.

    Args:
      code: exit code of all.
      text: the reason, one line.
    """
    if store() is None:
        return
    LEAVING.set()
    told = json.dumps({"process": jax.process_index(), "code": code, "text": text})
    store().key_value_set(f"{ENDED}{jax.process_index()}", told, allow_overwrite=True)
    _exit(code)


def _reason() -> tuple[int, str] | None:
    """Exit code and reason of a process that has ended with an error."""
    try:
        found = store().key_value_dir_get(ENDED) if store() is not None else []
    except jax.errors.JaxRuntimeError:  # the store is gone, and JAX itself says so
        return None
    if not found:
        return None
    told = json.loads(found[0][1])
    return told["code"], f"process {told['process']}: {told['text']}"


def _leave_with(program: str, code: int, text: str) -> None:
    print(f"{program}: ended with {text}", file=sys.stderr)
    _exit(code)


def _exit(code: int) -> None:
    """Ends this process at once, without the shutdown that waits for the others."""
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        store().key_value_set(f"{SEEN}{jax.process_index()}", "", allow_overwrite=True)
        deadline = time.monotonic() + GRACE_SECONDS
        while time.monotonic() < deadline:
            if len(store().key_value_dir_get(SEEN)) == jax.process_count():
                break
            time.sleep(POLL_SECONDS / 5)
        if jax.process_index() == 0:
            time.sleep(2 * POLL_SECONDS)
    except jax.errors.JaxRuntimeError:
        print("the coordinator is gone", file=sys.stderr, flush=True)
    end_at_once(code)


def end_at_once(code: int) -> None:
    """Ends this process, wherever its main thread is, and those that it has started."""
    for child in multiprocessing.active_children():  # such as workers that read data
        child.terminate()
    os._exit(code)


def agree_to_stop(asked: int | None, done: int, ahead: int) -> int | None:
    """Whether to stop now; all processes call it after every step and get the same answer.

    Whoever was asked names a step that no process can have passed without having read of it; the
    first one named holds.

    Args:
      asked: number of the signal that this process was sent, if any.
      done: steps done.
      ahead: by how many steps one process may be ahead of another.

    Returns:
      The number of the signal, if the run stops here.
    """
    if store() is None:
        return asked
    found = store().key_value_dir_get(STOP)
    if not found and asked is not None:
        # Another process may have been asked too, and faster.
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            store().key_value_set(f"{STOP}/at", json.dumps([done + ahead, asked]))
        found = store().key_value_dir_get(STOP)
    if not found:
        return None
    step, number = json.loads(found[0][1])
    return number if done >= step else None
