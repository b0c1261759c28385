"""The training step of a model, compiled cold for this machine's processor or for an absent H200.

    python -m benchmarks.training_step --model DiT-XL/2 [--h200] [--remat blocks] [--batch 256]

compiles in a process of its own, because XLA reads its flags once, and prints one line of JSON.
Nothing is allocated or run: shapes are enough (CONTRIBUTING.md says what --h200 needs).
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import h200

BATCH = 256  # of the published training (arXiv 2212.09748, section 4)
EMA_DECAY = 0.9999
TINY = '{"depth": 2, "hidden_size": 48, "num_heads": 2}'  # options that make any DiT a quick one
# Calls of cuDNN in the text of a program: one for each attention, forwards and backwards.
FORWARD_CALL = 'custom_call_target="__cudnn$fmhaSoftmax"'
BACKWARD_CALL = 'custom_call_target="__cudnn$fmhaSoftmaxBackward"'


class Variant(NamedTuple):
    """One way to run the step; `overrides` are further model options as JSON."""

    model: str
    batch: int
    dtype: str = "bfloat16"
    remat: str = "none"
    attention: str = "auto"
    overrides: str = "{}"


def make(variant: Variant):
    """Returns (model, jitted step, function params -> state); compiles and allocates nothing."""
    import jax

    import skipdit_jax as sd
    from skipdit_jax.registry import abstract_params, default_diffusion
    from skipdit_jax.training.optimizer import OptimizerConfig, make_optimizer
    from skipdit_jax.training.state import create_state
    from skipdit_jax.training.step import make_train_step

    model = sd.create_model(
        variant.model,
        dtype=variant.dtype,
        remat=variant.remat,
        attention=variant.attention,
        **json.loads(variant.overrides),
    )
    optimizer = make_optimizer(OptimizerConfig(), abstract_params(model))
    step = make_train_step(
        lambda params, x, t, y: model.apply({"params": params}, x, t, y),
        default_diffusion(model),
        optimizer,
        model.conditioning,
    )
    return (
        model,
        step,
        lambda params: create_state(params, optimizer, jax.random.key(0), (EMA_DECAY,)),
    )


def abstract_arguments(variant: Variant) -> tuple[Any, Any, Any]:
    """Returns (jitted step, abstract state, abstract batch)."""
    import jax
    import jax.numpy as jnp

    from skipdit_jax.registry import abstract_params

    model, step, state_of = make(variant)
    state = jax.eval_shape(state_of, abstract_params(model))
    image = jax.ShapeDtypeStruct((variant.batch, *model.sample_shape), jnp.float32)
    label = jax.ShapeDtypeStruct((variant.batch,), jnp.int32)
    return step, state, {"image": image, "label": label}


def compile_cold(variant: Variant, for_h200: bool, text: Path | None = None) -> dict[str, float]:
    """Traces and compiles; seconds and bytes."""
    start = time.perf_counter()
    os.environ["JAX_PLATFORMS"] = "cpu"
    if for_h200:
        h200.prepare()
        if variant.attention == "cudnn":
            h200.pretend_cudnn()
    import jax

    jax.config.update("jax_enable_compilation_cache", False)
    step, *arguments = abstract_arguments(variant)
    if for_h200:
        arguments = h200.abstract(arguments)
    ready = time.perf_counter()
    lowered = step.lower(*arguments)
    middle = time.perf_counter()
    compiled = lowered.compile()
    done, memory = time.perf_counter(), compiled.memory_analysis()
    program = compiled.as_text()
    if text is not None:
        text.write_text(program)
    return {
        "import_s": ready - start,
        "lower_s": middle - ready,
        "compile_s": done - middle,
        "temp_bytes": memory.temp_size_in_bytes,
        "argument_bytes": memory.argument_size_in_bytes,
        "donated_bytes": memory.alias_size_in_bytes,
        "attention_calls": program.count(FORWARD_CALL),
        "attention_backward_calls": program.count(BACKWARD_CALL),
    }


def main() -> None:
    """Compiles one step and prints its figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="DiT-XL/2")
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--remat", default="none")
    parser.add_argument("--attention", default="auto")
    parser.add_argument("--overrides", default="{}", help="model options as JSON")
    parser.add_argument("--h200", action="store_true")
    parser.add_argument("--hlo", type=Path, help="file for the text of the compiled program")
    options = parser.parse_args()
    if options.h200 and not h200.available():
        sys.exit(f"benchmarks.training_step: no compiler for an H200; {h200.INSTALL}")
    names = Variant._fields
    variant = Variant(**{name: getattr(options, name) for name in names})
    print(json.dumps(compile_cold(variant, options.h200, options.hlo)))


if __name__ == "__main__":
    main()
