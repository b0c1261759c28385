"""Small stand-ins of the released pipelines of text, as diffusers lays them out."""

import json

import skipdit_jax as sd
from skipdit_jax.weights import export_vae
from tests.encoders import tiny, tiny_texts
from tests.networks import random_params

WEIGHTS = "diffusion_pytorch_model.safetensors"
WIDTH = tiny_texts.T5["hidden_size"]
SMALL = {"depth": 2, "hidden_size": 24, "num_heads": 2, "input_size": 4, "text_width": WIDTH}
STATED = {"num_attention_heads": 2, "sample_size": 4}
LINEAR = {"beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear"}
SCALED = {"beta_start": 0.00085, "beta_end": 0.02, "beta_schedule": "scaled_linear"}
SCHEDULERS = {
    "pixart": {"_class_name": "DPMSolverMultistepScheduler", **LINEAR},
    "latte": {"_class_name": "DDIMScheduler", **LINEAR, "clip_sample": False},
    "hunyuan": {
        "_class_name": "DDPMScheduler",
        **SCALED,
        "prediction_type": "v_prediction",
        "steps_offset": 1,
        "timestep_spacing": "leading",
        "clip_sample": False,
    },
}
MODELS = {
    "pixart": ("PixArt-S/2", {}, "PixArtTransformer2DModel"),
    "latte": (
        "LatteT2V-S/2-skip",
        {"depth": 4, "num_frames": 3, "sample_size": 4},
        "LatteTransformer3DModel",
    ),
    "hunyuan": (
        "HunYuan-DiT-g/2",
        {"depth": 4, "hidden_size": 32, "text_tokens": 20, "t5_width": WIDTH, "t5_tokens": 24},
        "HunyuanDiT2DModel",
    ),
}


def put(root, family):
    """A pipeline in a folder; returns its model with its parameters."""
    name, fields, kind = MODELS[family]
    model = sd.create_model(name, **{**SMALL, **fields})
    params = random_params(model)
    parts = {"transformer": ("diffusers", kind), "vae": ("diffusers", "AutoencoderKL")}
    parts["scheduler"] = ("diffusers", SCHEDULERS[family]["_class_name"])
    encoders = ("bert", "t5") if family == "hunyuan" else ("t5",)
    for number, encoder in enumerate(encoders):
        ending = f"_{number + 1}" if number else ""
        tiny_texts.put(root / f"text_encoder{ending}", encoder, root / f"tokenizer{ending}")
        parts[f"text_encoder{ending}"] = ("transformers", f"{encoder}Encoder")
        parts[f"tokenizer{ending}"] = ("transformers", f"{encoder}Tokenizer")
    write(root / "model_index.json", {"_class_name": f"{family}Pipeline", **parts})
    (root / "transformer").mkdir()
    sd.export_checkpoint(root / "transformer" / WEIGHTS, params, model, layout="torch")
    frames = {"video_length": model.sample_shape[0]} if family == "latte" else {}
    write(root / "transformer" / "config.json", {"_class_name": kind, **STATED, **frames})
    vae, vae_params = tiny.make("vae", block_out_channels=(32, 32), norm_num_groups=32)
    (root / "vae").mkdir()
    export_vae(root / "vae" / WEIGHTS, vae_params, vae)
    write(root / "vae" / "config.json", {"_class_name": "AutoencoderKL", "scaling_factor": 0.5})
    (root / "scheduler").mkdir()
    write(root / "scheduler" / "scheduler_config.json", SCHEDULERS[family])
    return model, params


def write(path, content):
    path.write_text(json.dumps(content))
