"""The vocabulary and the text encoder of the bundled models of text, trained on their captions.

    python -m benchmarks.digit_words [--out FOLDER] [--embeds FILE.npz] [--loss FILE.jsonl]

trains a sentencepiece vocabulary and a small T5 encoder on the phrasings of `digit_captions`, and
writes them as `load_text_encoder` reads them. Every piece of a caption, and its end, has to tell
the digit, way, pace and place of the whole, or that it leaves them open: as T5 knows what a
sentence says, long before it meets a diffusion model. Half of the examples are no sentences but
loose words. The held-out phrasings measure it, and teach nothing.

--embeds also writes the embeddings of all captions that the diffusion models train on
(configs/pixart_digits.py, configs/latte_t2v_digits.py).
"""

import argparse
import io
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import sentencepiece
from jaxtyping import Array, Float

from skipdit_jax.data.digit_captions import (
    CLIPS,
    CLIPS_HELD_OUT,
    GAPS,
    PICTURES,
    PICTURES_HELD_OUT,
    TOLD,
    Said,
    sayings,
)
from skipdit_jax.encoders.embeds import write_embeds
from skipdit_jax.encoders.t5 import T5Config, T5Encoder
from skipdit_jax.encoders.tokenizers import SENTENCEPIECE, Tokenizer, read_tokenizer
from skipdit_jax.files import replacing_path
from skipdit_jax.registry.names import DIGIT_WORDS
from skipdit_jax.training.loop import Hooks, LoopConfig, TrainStep, train
from skipdit_jax.training.optimizer import OptimizerConfig, make_optimizer, make_schedule
from skipdit_jax.training.state import TrainState, create_state
from skipdit_jax.training.step import Metrics
from skipdit_jax.training.throughput import Meter
from skipdit_jax.weights.text_encoders import export_text_encoder, load_text_encoder

PIECES, TOKENS = 200, 24
WIDTH = 64
NETWORK = {"hidden_size": WIDTH, "depth": 3, "num_heads": 4, "head_dim": 16, "mlp_width": 128}
STEPS, BATCH, LOGGED = 3000, 128, 100
RATE = 2e-3
SEED = 0
LOOSE = 6000  # examples of words without a sentence
LEFT_OUT = 0.3  # how often loose words leave one thing open
FILLERS = 5  # other words between them, fewer than this
UNKNOWN_WORDS = 0.5  # share of these that mean nothing, as words do that nobody has trained on
LETTERS = "abcdefghijklmnopqrstuvwxyz"
END, PADDING, UNKNOWN = 1, 0, 2  # as in T5's own vocabulary
Examples = list[tuple[str, Said]]


def train_vocabulary(captions: Sequence[str]) -> bytes:
    """The sentencepiece model of some captions; other words fall into letters."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(captions),
        model_writer=model,
        vocab_size=PIECES,
        hard_vocab_limit=False,
        required_chars="abcdefghijklmnopqrstuvwxyz0123456789,.:;!?'-",
        pad_id=PADDING,
        eos_id=END,
        unk_id=UNKNOWN,
        bos_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    return model.getvalue()


def loose_words(rng: np.random.Generator, phrasings: Sequence[str], count: int) -> Examples:
    """Words that tell something, in any order and with others between them."""
    words = " ".join(phrasings).replace(",", " ").replace(":", " ").split()
    others = [word for word in words if "{" not in word]
    found = []
    for _ in range(count):
        moving = rng.random() < 0.7  # clips tell more than pictures
        names = ("digit", "way", "pace") if moving else ("digit", "place")
        told = {n: int(rng.integers(TOLD[n])) for n in names if rng.random() > LEFT_OUT}
        parts = [other_word(rng, others) for _ in range(rng.integers(FILLERS))]
        for name, value in told.items():
            gap = rng.choice([gap for gap, (of, _) in GAPS.items() if of == name])
            parts.append(GAPS[gap][1][value])
        found.append((" ".join(rng.permutation(parts)), Said(**told)))
    return found


def other_word(rng: np.random.Generator, others: Sequence[str]) -> str:
    """A word of the phrasings that tells nothing, or one that is none."""
    if rng.random() > UNKNOWN_WORDS:
        return str(rng.choice(others))
    return "".join(rng.choice(list(LETTERS), size=rng.integers(2, 9)))


def rows_of(examples: Examples, tokenizer: Tokenizer) -> dict[str, np.ndarray]:
    """Pieces [n,L], their mask, and what is told [n,4]; a value more than there are: nothing."""
    tokens = tokenizer([caption for caption, _ in examples], TOKENS)
    told = [
        [count if getattr(said, name) is None else getattr(said, name) for _, said in examples]
        for name, count in TOLD.items()
    ]
    return {"ids": tokens.ids, "mask": tokens.mask, "told": np.array(told, np.int32).T}


def logits_of(network: nn.Module, params: Any, batch: dict[str, Any]) -> list[Float[Array, "..."]]:
    """What every piece says of digit, way, pace and place, [B,L,values + 1] each."""
    h = network.apply({"params": params["encoder"]}, batch["ids"], batch["mask"])
    return [h @ params["heads"][name] for name in TOLD]


def make_step(network: nn.Module, optimizer: optax.GradientTransformation) -> TrainStep:
    """One optimiser step on the mean cross entropy of what every piece says."""

    def loss_of(params: Any, batch: dict[str, Any]) -> Float[Array, ""]:
        mask = batch["mask"].astype(jnp.float32)
        losses = [
            optax.softmax_cross_entropy_with_integer_labels(
                logits, jnp.broadcast_to(batch["told"][:, at, None], mask.shape)
            )
            for at, logits in enumerate(logits_of(network, params, batch))
        ]
        return sum((one * mask).sum() for one in losses) / mask.sum()

    @jax.jit
    def step(state: TrainState, batch: dict[str, Any]) -> tuple[TrainState, Metrics]:
        loss, grads = jax.value_and_grad(loss_of)(state.params, batch)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        done = state._replace(step=state.step + 1, params=params, opt_state=opt_state)
        return done, Metrics(loss, loss, jnp.zeros(()), optax.global_norm(grads))

    return step


def batches_of(
    rng: np.random.Generator, kinds: Sequence[dict[str, np.ndarray]]
) -> Iterator[dict[str, np.ndarray]]:
    """Endless batches, of each kind the same share."""
    while True:
        chosen = [rng.integers(len(kind["ids"]), size=BATCH // len(kinds)) for kind in kinds]
        yield {
            key: np.concatenate([kind[key][at] for kind, at in zip(kinds, chosen, strict=True)])
            for key in kinds[0]
        }


def understood(network: nn.Module, params: Any, rows: dict[str, np.ndarray]) -> dict[str, float]:
    """Share of captions whose end says the right thing, for each thing told."""
    found = jax.jit(lambda p, b: logits_of(network, p, b))(params, rows)
    last = rows["mask"].sum(axis=1) - 1
    said = [np.argmax(np.asarray(one)[np.arange(len(last)), last], -1) for one in found]
    return {name: float(np.mean(said[at] == rows["told"][:, at])) for at, name in enumerate(TOLD)}


def train_encoder(
    rng: np.random.Generator, examples: Sequence[Examples], tokenizer: Tokenizer
) -> tuple[T5Encoder, Any, list[dict[str, Any]]]:
    """The encoder, its weights with those of its heads, and the losses of its training."""
    network = T5Encoder(T5Config(vocab_size=tokenizer.size, **NETWORK))
    config = OptimizerConfig(
        lr=RATE, schedule="cosine", steps=STEPS, warmup_steps=LOGGED, clip_norm=1.0
    )
    key, of_heads = jax.random.split(jax.random.key(SEED))
    keys = dict(zip(TOLD, jax.random.split(of_heads, len(TOLD)), strict=True))
    params = {
        "encoder": network.init(key, jnp.zeros((1, 1), jnp.int32))["params"],
        "heads": {
            name: jax.random.normal(keys[name], (WIDTH, count + 1)) * WIDTH**-0.5
            for name, count in TOLD.items()
        },
    }
    optimizer = make_optimizer(config, params)
    records: list[dict[str, Any]] = []
    hooks = Hooks(learning_rate=make_schedule(config), save=lambda *_: None, log=records.append)
    state = train(
        create_state(params, optimizer, key, ()),
        make_step(network, optimizer),
        batches_of(rng, [rows_of(one, tokenizer) for one in examples]),
        LoopConfig(steps=STEPS, log_every=LOGGED),
        hooks,
        Meter(0, None, 1),
    )
    return network, state.params, records


def main(argv: Sequence[str] | None = None) -> None:
    """Trains, tells how much is understood, writes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=DIGIT_WORDS, metavar="FOLDER")
    parser.add_argument("--embeds", type=Path, metavar="FILE.npz")
    parser.add_argument("--loss", type=Path, metavar="FILE.jsonl")
    flags = parser.parse_args(argv)
    flags.out.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(SEED)
    phrasings = (*CLIPS, *PICTURES)
    told = list(sayings(phrasings))
    with replacing_path(flags.out / SENTENCEPIECE) as path:
        path.write_bytes(train_vocabulary([caption for caption, _ in told]))
    tokenizer = read_tokenizer(flags.out / SENTENCEPIECE)
    silent = [("", Said())] * (LOOSE // FILLERS)
    examples = [told, loose_words(rng, phrasings, LOOSE) + silent]

    network, params, records = train_encoder(rng, examples, tokenizer)
    for name, held_out in (("clips", CLIPS_HELD_OUT), ("pictures", PICTURES_HELD_OUT)):
        rows = rows_of(list(sayings(held_out)), tokenizer)
        print(f"held out, {name}: {understood(network, params, rows)}")
    export_text_encoder(
        flags.out / "model.safetensors", params["encoder"], network, layout="native"
    )
    if flags.loss:
        lines = ({"step": one["step"], "loss": one["loss"]} for one in records)
        flags.loss.write_text("".join(json.dumps(line) + "\n" for line in lines))
    if flags.embeds:
        encoder = load_text_encoder(flags.out, length=TOKENS, clean="caption")
        write_embeds(flags.embeds, {"t5": encoder(["", *(caption for caption, _ in told)])})


if __name__ == "__main__":
    sys.exit(main())
