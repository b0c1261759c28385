"""How XLA compiles under test: without optimising, which halves the time of compilation.

Programs of tests run for a moment. Both sides of a comparison are compiled by the same flags; what
users run, optimised, is held against the recordings of the originals by `.ci/run`.
"""

import os

LEVEL = "--xla_backend_optimization_level"
QUICKLY = (f"{LEVEL}=0", "--xla_llvm_disable_expensive_passes=true")


def compile_quickly():
    """For this process and those that it starts, unless XLA_FLAGS says how; before JAX runs."""
    given = os.environ.get("XLA_FLAGS", "")
    if LEVEL not in given:
        os.environ["XLA_FLAGS"] = " ".join([given, *QUICKLY]).strip()


def as_users_have_it():
    """The environment for a process whose program, memory or time is judged."""
    flags = os.environ.get("XLA_FLAGS", "").split()
    return {**os.environ, "XLA_FLAGS": " ".join(flag for flag in flags if flag not in QUICKLY)}
