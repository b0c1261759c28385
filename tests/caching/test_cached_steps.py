"""What a reusing step of each method computes, and how much memory a run takes, in the compiled
program of a real network (copies: test_copies.py; Skip-Cache: test_programs.py).
"""

from functools import lru_cache

import numpy as np
import pytest

import skipdit_jax as sd
from skipdit_jax.pipeline import Sampler
from tests.caching import hlo
from tests.caching.test_programs import DEPTH, PER_FUSION, WIDTH, program_of

ROWS = 2  # one sample, doubled by guidance
SIDE = 16  # of the latents, in patches of 2
FEW, MANY = 8, 50  # steps: rows of all of them are fewer than WIDTH, or more
MODULATION, MLP, ATTENTION = 1, 2, 4  # matrix products of a block
FUSIONS = DEPTH // 2 * PER_FUSION


def sampler_of(cache, steps, model="DiT-S/2-skip"):
    model = sd.create_model(
        model, depth=DEPTH, hidden_size=WIDTH, num_heads=4, input_size=SIDE, num_classes=10
    )
    return Sampler(model, steps=steps, guidance=4.0, cache=cache)


@lru_cache
def compiled(cache, steps, model="DiT-S/2-skip"):
    return program_of(sampler_of(cache, steps, model), ROWS // 2)


@pytest.mark.parametrize(
    ("cache", "steps", "computed"),
    [
        ("fora:3", FEW, 0),
        ("fora:3", MANY, 0),
        ("taylor:4:2", FEW, 0),
        ("pab:2", FEW, MLP),
        ("faster-cache(guidance=False)", FEW, MLP),
    ],
)
def test_a_step_that_reuses_sublayers_has_no_product_but_fusions(cache, steps, computed):
    """Modulation is computed before the loop where the rows of all steps are few."""
    program = hlo.parse(compiled(cache, steps).as_text())
    reuse, fresh = program.branches()
    modulation = MODULATION if steps * ROWS > WIDTH else 0
    assert hlo.products(reuse) == DEPTH * (modulation + computed) + FUSIONS
    assert hlo.products(fresh) == DEPTH * (modulation + MLP + ATTENTION) + FUSIONS
    around = hlo.products(program.sampling_loop()) - hlo.products(reuse) - hlo.products(fresh)
    patches_and_pixels, of_final_layer, of_timestep = 2, 1, 2
    assert around == patches_and_pixels + modulation * (of_final_layer + of_timestep)


MEMORY = {
    "N3": "DiT-S/2-skip",
    "deepcache:10": "DiT-S/2-skip",
    "fora:3": "DiT-S/2-skip",
    "fora(every=3, forecast='foca')": "DiT-S/2-skip",
    "taylor:4:2": "DiT-S/2-skip",
    "taylor(lite=True)": "DiT-S/2-skip",
    "pab:2": "DiT-S/2-skip",
    "faster-diffusion": "DiT-S/2-skip",
    "block-cache(every=3)": "DiT-S/2",
    "delta:2": "DiT-S/2",
    "faster-cache": "DiT-S/2",
    "faster-cache(variant='diffusers')": "DiT-S/2",
}


HELD = {"delta:2": 1}
"""Hidden states held besides: what entered a second range of which the sum is kept, as XLA holds
what enters a conditional until its end."""
HIDDEN = ROWS * (SIDE // 2) ** 2 * WIDTH * np.dtype(np.float32).itemsize


NEWER = ("fora(every=3, forecast='foca')", "faster-cache(variant='diffusers')")


@pytest.mark.parametrize(
    ("cache", "model"),
    [
        pytest.param(*one, id=one[0], marks=[hlo.MEASURED] if one[0] in NEWER else [])
        for one in MEMORY.items()
    ],
)
def test_memory_is_the_cache_and_what_the_uncached_program_needs(cache, model):
    summary = sampler_of(cache, FEW, model).summary(ROWS // 2)
    kept = summary.cache_bytes + summary.prepared_bytes + HELD.get(cache, 0) * HIDDEN
    programs = (compiled(one, FEW, model) for one in (cache, None))
    cached, alone = (one.memory_analysis().temp_size_in_bytes for one in programs)
    assert cached <= 1.1 * (alone + kept)
