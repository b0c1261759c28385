"""Cold compilation of a cached sampler, in a process of its own: seconds and memory.

    python -m benchmarks.compiling --model DiT-XL/2-skip --steps 250 --cache N3

prints one line of JSON. Weights are abstract, the persistent compilation cache is off.
"""

import argparse
import json
import os
import subprocess
import sys
import time

PROGRAMS = (  # model, steps, cache
    ("DiT-XL/2-skip", 250, "N3"),
    ("DiT-XL/2-skip", 50, "N3"),
    ("DiT-XL/2", 50, "toca:3"),
)
BATCH = 2
GUIDANCE = 4.0
MIB = 2**20


def compile_once(model_name: str, steps: int, cache: str) -> dict[str, float]:
    """Traces, lowers and compiles the cached scan sampler for this machine."""
    start = time.perf_counter()
    import jax
    import numpy as np

    import skipdit_jax as sd
    from skipdit_jax.pipeline import sample_keys
    from skipdit_jax.registry import abstract_params

    jax.config.update("jax_enable_compilation_cache", False)
    model = sd.create_model(model_name)
    sampler = sd.Sampler(model, steps=steps, guidance=GUIDANCE, cache=cache)
    keys = sample_keys(jax.random.key(0), 0, BATCH)
    params = abstract_params(model)
    ready = time.perf_counter()
    lowered = sampler.lower(params, keys, np.zeros(BATCH, np.int32))
    middle, busy = time.perf_counter(), time.process_time()
    compiled = lowered.compile()
    return {
        "import_s": ready - start,
        "lower_s": middle - ready,
        "compile_s": time.perf_counter() - middle,
        "compile_cpu_s": time.process_time() - busy,
        "temp_bytes": compiled.memory_analysis().temp_size_in_bytes,
    }


def in_fresh_process(*command: str) -> dict[str, float]:
    """Runs `python -m command` and reads the JSON of its last line.

    Raises:
      RuntimeError: with the last line of its errors, if it fails.
    """
    command = (sys.executable, "-m", *command)
    env = {**os.environ, "JAX_TRACEBACK_FILTERING": "off"}  # so that the last line is the error
    run = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if run.returncode:
        raise RuntimeError((run.stderr.strip().splitlines() or ["no message"])[-1])
    return json.loads(run.stdout.splitlines()[-1])


def measure(quick: bool) -> list[dict[str, object]]:
    """Rows of the table: the same sampler with many and few steps; tokens in eight buckets."""
    rows = []
    for name, steps, cache in PROGRAMS:
        model = name.replace("XL", "S") if quick else name
        command = ("--model", model, "--steps", str(steps), "--cache", cache)
        figures = in_fresh_process("benchmarks.compiling", *command)
        rows.append(
            {
                "model": model,
                "steps": steps,
                "cache": cache,
                "import s": figures["import_s"],
                "trace + lower s": figures["lower_s"],
                "compile s": figures["compile_s"],
                "trace to compiled s": figures["lower_s"] + figures["compile_s"],
                "compile CPU s": figures["compile_cpu_s"],
                "temp MiB": figures["temp_bytes"] / MIB,
            }
        )
    return rows


def main() -> None:
    """Compiles one program and prints its figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    model, steps, cache = PROGRAMS[0]
    parser.add_argument("--model", default=model)
    parser.add_argument("--steps", type=int, default=steps)
    parser.add_argument("--cache", default=cache)
    options = parser.parse_args()
    print(json.dumps(compile_once(options.model, options.steps, options.cache)))


if __name__ == "__main__":
    main()
