"""Command lines that are wrong by construction, drawn by a seed from the parsers' own flags.

Each is a good command line with one thing wrong: a word that no parser knows, a value that no flag
of its type can have, or a file that holds something else.
"""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from skipdit_jax.cli import convert, encode, encode_options, models, options, sample, train
from tests.cli import encode_kit, makers
from tests.runs.test_config_fields import fields

LONG = 5000
HUGE = ["9" * 11, "9" * 20, "9" * LONG, "1e400"]
TOO_MUCH = "2000000000"  # fits an index, but no machine
NO_NUMBERS = ["", " ", "nan", "one", "1.5.2", "0x10", "--", "½", "1\n2", "None", "[1]", "1,2"]
NO_COUNTS = [*HUGE, *NO_NUMBERS, "-1", "1.5", "1e3", "inf"]
NO_FINITE = ["9" * LONG, *HUGE[3:], *NO_NUMBERS, "inf", "-inf", "1e39"]
WORDS = [
    "no such",
    "x" * LONG,
    "a b" * (LONG // 3),
    "line\nbreak",
    "\x1b[2J",
    "n\udcffx",
    "\0",
    "é",
]
NAMES = ["", *WORDS]
"""Text that names no file, model, method or address."""
BROKEN_CONFIGS = {
    "syntax": b"def get_config(:\n",
    "indent": b"def get_config():\nreturn 1\n",
    "import": b"import no_such_module\n",
    "name": b"def get_config():\n  return undefined\n",
    "zero": b"x = 1 / 0\n",
    "exit": b"import sys\nsys.exit(0)\n",
    "exit_text": b"raise SystemExit('out')\n",
    "memory": b"def get_config():\n  raise MemoryError\n",
    "unicode": b"raise UnicodeDecodeError('utf-8', b'x', 0, 1, 'odd')\n",
    "recursion": b"def get_config():\n  return get_config()\n",
    "long": b"raise ValueError('x' * 99999 + chr(10) * 99)\n",
    "own": b"class Odd(Exception):\n  pass\ndef get_config():\n  raise Odd\n",
    "group": b"raise ExceptionGroup('two', [ValueError(1), OSError(2)])\n",
    "keys": b"def get_config():\n  return {}['missing']\n",
    "nothing": b"",
    "none": b"def get_config():\n  return None\n",
    "dict": b"def get_config():\n  return {'steps': 3}\n",
    "no_function": b"get_config = 3\n",
    "arguments": b"def get_config(a, b):\n  return a\n",
    "not_utf8": b"x = '\xff\xfe'\n",
    "zeros": bytes(99),
    "base": b"from skipdit_jax.runs import load_config\nload_config('nosuch', beside=__file__)\n",
    "self": b"from skipdit_jax.runs import load_config\n"
    b"def get_config():\n  return load_config('self', beside=__file__)\n",
    "empty": b"import ml_collections\nget_config = ml_collections.ConfigDict\n",
}
VALUES = {  # of a config: what a file may set by mistake
    "steps": ["'many'", "0", "-3", "2.5", "None", "10**30", "float('nan')", "print"],
    "batch_size": ["0", "'4'", "True"],
    "seed": ["-1", "2**32", "10**20", "None", "0.5"],
    "lr": ["-1", "'fast'", "float('inf')", "1e400"],
    "ema_decay": ["2", "None", "'0.9'"],
    "trainable": ["('(',)", "(3,)", "'('"],
    "model": ["3", "{}", "{'name': 'nosuch'}", "{'name': 3}", "{'name': 'DiT-S/2', 'depth': '2'}"],
    "data": ["None", "{'name': ''}", "{'name': 'digits', 'threads': 0}", "{'name': 7}"],
    "diffusion": ["{'schedule': 'odd'}", "{'num_timesteps': 1.5}", "{'beta_range': (2, 'x')}"],
    "sampling": ["{'cache': 'M3'}", "{'steps': 'lots'}", "{'guidance': 'much'}", "[1]"],
    "mesh": ["{'data': 0}", "{'fsdp': 'all'}"],
    "nosuch": ["1"],
}


class Call(NamedTuple):
    """A command line and what is wrong with it."""

    program: str
    argv: list[str]
    wrong: str


MAINS = {
    "sample": sample.main,
    "train": train.main,
    "convert": convert.main,
    "encode": encode.main,
    "models": models.main,
}
PARSERS = {
    "sample": options.make_parser,
    "convert": convert.make_parser,
    "encode": encode_options.make_parser,
    "models": models.make_parser,
}


class Bench:
    """A folder of good and bad files, and good command lines to spoil."""

    def __init__(self, folder: Path):
        """Writes the files."""
        self.folder = folder
        good = makers.save_small(folder / "good.safetensors", {"sampling": {"steps": makers.STEPS}})
        vae = encode_kit.save_vae(folder / "vae.safetensors")
        (folder / "pictures" / "one").mkdir(parents=True)
        Image.new("RGB", (16, 16)).save(folder / "pictures" / "one" / "a.png")
        self.lines = {
            "sample": ["--ckpt", str(good), "--num-sampling-steps", "2"],
            "convert": [str(good), str(folder / "out.pt")],
            "encode": encode_kit.flags(folder / "pictures", vae, folder / "latents"),
            "models": [],
            "train": ["--config", "digits_plain", "--workdir", str(folder / "run")],
        }
        self.files = [*self._files(good)]
        self.configs = [*self._configs()]
        self.no_outputs = [folder / "a.xyz", folder, good / "a.png", "..", "."]

    def _files(self, good):
        """Paths that hold no weights and no pictures."""
        whole = good.read_bytes()
        contents = {
            "empty.pt": b"",
            "text.pt": b"dear diary",
            "cut.safetensors": whole[: len(whole) // 2],
            "head.safetensors": whole[:4],
            "claims.safetensors": b"\xff" * 8 + whole[8:],
            "zeros.pth": bytes(4096),
            "mark.bin": b"PK\x03\x04" + bytes(99),
            "pickle.pt": b"\x80\x02}q\x00.",
            "new\nline.pt": b"x",
            "odd\udcff.pt": b"x",
            "page.html": b"<!DOCTYPE html><html></html>",
        }
        for name, content in contents.items():
            (self.folder / name).write_bytes(content)
            yield str(self.folder / name)
        np.savez(self.folder / "arrays.npz", a=np.zeros(3))
        np.save(self.folder / "array.npy", np.zeros(3))
        (self.folder / "hollow").mkdir()
        os.symlink("nowhere.pt", self.folder / "dangling.pt")
        os.symlink("circle.pt", self.folder / "circle.pt")
        for name in ("arrays.npz", "array.npy", "hollow", "dangling.pt", "circle.pt"):
            yield str(self.folder / name)
        yield str(self.folder / "pictures" / "one" / "a.png")
        yield str(self.folder / "text.pt" / "inside.pt")

    def _configs(self):
        """Config files that give no config of a run."""
        folder = self.folder / "configs"
        folder.mkdir()
        for name, content in BROKEN_CONFIGS.items():
            (folder / f"{name}.py").write_bytes(content)
            yield str(folder / f"{name}.py")
        start = "from skipdit_jax.runs import load_config\ndef get_config():\n"
        start += "  config = load_config('digits_plain', beside=__file__)\n"
        for name, values in VALUES.items():
            for number, value in enumerate(values):
                path = folder / f"{name}_{number}.py"
                spoil = f"  with config.ignore_type(): config.{name} = {value}\n"
                path.write_text(f"{start}{spoil}  return config\n")
                yield str(path)
        yield str(folder)

    def calls(self, seed: int, count: int):
        """Draws so many calls."""
        random = np.random.default_rng(seed)
        programs = [*MAINS]
        for number in range(count):
            program = programs[number % len(programs)]
            yield self._call(program, random)

    def _call(self, program, random):
        kinds = [self._unknown, self._extra]
        if program == "train":
            kinds += [self._config_file, self._change, self._workdir, self._cluster] * 2
        elif program != "models":
            kinds += [self._value] * 6 + [self._file] * 2 + [self._unfinished, self._switch]
        kind = kinds[random.integers(len(kinds))]
        argv, wrong = kind(program, random)
        return Call(program, [str(word) for word in argv], wrong)

    def _unknown(self, program, random):
        letters = "".join(random.choice([*"qxz"], 5))
        flags = [
            f"--{letters}",
            f"--{letters}=1",
            "-" + letters,
            f"--out-{letters}",
            "--see",
            "--wei",
        ]
        flag = _pick(random, flags)
        return [*self.lines[program], flag], f"unknown {flag}"

    def _extra(self, program, random):
        word = _pick(random, [*WORDS, "extra", "3"])
        return [*self.lines[program], word], "an extra word"

    def _actions(self, program):
        return [a for a in PARSERS[program]()._actions if a.option_strings and a.dest != "help"]

    def _unfinished(self, program, random):
        taking = [a for a in self._actions(program) if a.nargs != 0]
        action = _pick(random, taking)
        return [*self.lines[program], action.option_strings[0]], "a flag without its value"

    def _switch(self, program, random):
        switches = [a for a in self._actions(program) if a.nargs == 0]
        flag = _pick(random, switches).option_strings[0]
        return [*self.lines[program], f"{flag}=yes"], "a switch with a value"

    def _value(self, program, random):
        action = _pick(random, self._actions(program))
        bad = self._bad_values(action)
        if not bad:
            return self._value(program, random)
        flag, value = action.option_strings[0], _pick(random, bad)
        typed = [f"{flag}={value}"] if random.random() < 0.5 else [flag, str(value)]
        return [*self.lines[program], *typed], f"{flag} of another type"

    def _bad_values(self, action):
        """What the type of a flag cannot be, or what names nothing."""
        if action.nargs == 0:
            return []
        if action.choices:
            return [*NAMES, *HUGE, str(next(iter(action.choices))).upper() + "x"]
        kind = getattr(action.type, "__name__", None)
        if kind in ("natural", "positive", "seed"):
            much = ("num_samples", "image_size", "num_classes", "num_heads", "cache_at_branch")
            zero = ["0"] * (kind == "positive")
            return NO_COUNTS + zero + [TOO_MUCH] * 3 * (action.dest in much)
        if kind == "finite":
            return [*NO_FINITE, "-1", "-0.5"]
        if kind == "_labels":
            return [*HUGE, *NO_NUMBERS[:8], "-1", "10", "1.5", "3,x", ","]
        if action.metavar == "DIR" and action.dest == "out":
            return ["", self.folder / "text.pt", self.folder / "text.pt" / "deep", "x" * LONG]
        if action.dest in ("out", "npz"):
            return [*self.no_outputs[action.dest == "npz" :], "", "\0", "x" * LONG]
        if action.dest == "sample_dir":
            return [*NAMES, "d"]  # without --num-fid-samples
        if action.dest in ("split", "data_dir"):
            return [""]
        return NAMES  # names of files, models, methods, addresses

    def _file(self, program, random):
        file, line = _pick(random, self.files), self.lines[program]
        if program == "sample":
            flag = _pick(random, ["--ckpt", "--vae"])
            return [*line, flag, file], f"{flag} of another kind"
        if program == "convert":
            return [file, *line[1:]], "a source of another kind"
        flag = _pick(random, ["--data", "--vae"])
        hollow = ["pictures"] * (flag == "--vae")
        return [*line, flag, _pick(random, [file, *hollow])], f"{flag} of another kind"

    def _config_file(self, _program, random):
        file = _pick(random, [*self.configs, *self.files, *NAMES])
        return ["--config", file, *self.lines["train"][2:]], "a config file of no use"

    def _workdir(self, _program, random):
        places = ["", self.folder / "text.pt", self.folder / "text.pt" / "run", "x" * LONG]
        return ["--config", "digits_plain", "--workdir", _pick(random, places)], "no run folder"

    def _cluster(self, program, random):
        flag = _pick(random, ["--coordinator", "--num-processes", "--process-id"])
        return [*self.lines[program], flag, _pick(random, [*NO_COUNTS, *NAMES])], "half a cluster"

    def _change(self, program, random):
        name, _, value = _pick(random, [*fields()])
        bad = {bool: "perhaps", int: "1.5", float: "wide", tuple: "(("}.get(type(value))
        kinds = [f"--config.{name}x=1", f"--config.x{name}=1", f"--config.{name}.more=1"]
        if bad and not name.startswith("sampling.") and "num_frames" not in name:
            kinds += [f"--config.{name}={text}" for text in (bad, bad * LONG)]
        return [*self.lines[program], _pick(random, kinds)], "a change of no use"


def _pick(random, things):
    return things[int(random.integers(len(things)))]
