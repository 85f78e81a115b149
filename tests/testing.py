"""What several tests share: tiny codecs, test pictures, and the commands run in-process."""

import dataclasses
import functools
import hashlib
import io
import pathlib
import sys
from unittest import mock

from absl import flags
import keras
import numpy as np

from rnn_codec import loading, presets
from rnn_codec.commands import files, rnnc, scripts
from rnn_codec.entropy import context_model
from rnn_codec.entropy.planes import run
from rnn_codec.hybrid.codec import HybridCodec
from rnn_codec.hybrid.config import HybridConfig
from rnn_codec.hybrid.networks import HybridNetwork

ROOT = str(pathlib.Path(__file__).parent.parent)
GOLDEN = pathlib.Path(__file__).parent / "golden"

# Presets whose every layer is as narrow as they get, trained for a minute by tests/make_golden.py.
# `TWO_SCALE` has the network of the first releases, and no context model.
# `STACKED` has what no other has: the paper's cell, states at every resolution, a P[i] that needs
# P[i-1], and a gain.
# `WIDE` has a network that was the default's once, and a context model.
# `BLOCKS`, which tests take unless they name another, has the default's, which transforms blocks
# too and gives no bits to good ones, and a context model.
TWO_SCALE, STACKED, WIDE, BLOCKS = "two_scale", "stacked", "wide", "blocks"
ITERATIONS = 3
BLOCK_BYTES = 1  # raw, of one iteration and 16x16 pixels


def preset_folder(name=BLOCKS):
    """The folder of a tiny preset, for the commands' --preset."""
    return str(GOLDEN / name)


@functools.cache
def make_codec(name=BLOCKS, arithmetic="numpy"):
    """The codec of a tiny preset, made once: compiling takes longer than coding."""
    return _LOAD(preset_folder(name), arithmetic=arithmetic)


# Hybrid presets as small as they get, by the networks that they have.
HYBRIDS = {
    "both": {},
    "compact": {"networks": "compact"},
    "restoration": {"networks": "restoration"},
    "blocks": {"block": 2},
    "restoration_blocks": {"networks": "restoration", "block": 2},
    "all": {"networks": "all"},
    "grey": {"colour": "grey"},
    "conditioned": {
        "networks": "all",
        "block": 2,
        "batch_normalisation": False,
        "shortcuts": True,
        "conditioned": True,
    },
}


@functools.cache
def make_hybrid(name="both", seed=None):
    """A small `HybridCodec`; untrained, or with a seed, of random weights in all its layers."""
    config = HybridConfig(name, layers=4, filters=8, **HYBRIDS[name])
    keras.utils.set_random_seed(0)
    preset = presets.from_network(HybridNetwork.create(config))
    if seed is not None:
        rng = np.random.default_rng(seed)
        for path, array in preset.weights.items():
            noise = rng.normal(0, 0.02, array.shape).astype(np.float16)
            preset.weights[path] = array + (np.abs(noise) if "variance" in path else noise)
    return HybridCodec(preset)


def context_arrays(iterations, bits, features=16, extreme=False):
    """Arrays of a context model: moderate numbers, or weights of only the largest size.

    Biases are such that activations and probabilities stay off their limits: an error of one in a
    sum shows.
    """
    rng = np.random.default_rng(0)
    arrays = {}
    for name, shape in context_model.shapes(iterations, features, bits).items():
        if "bias" in name:
            scales = {"bias": 600, "hidden_bias": 9_000, "output_bias": 20_000}
            limit = scales[name] if extreme else 2_000
            arrays[name] = rng.integers(-limit, limit + 1, shape).astype(np.int32)
        elif extreme:
            arrays[name] = rng.choice([-127, 127], shape).astype(np.int8)
        else:
            arrays[name] = rng.integers(-24, 25, shape).astype(np.int8)
    return arrays


def predict(model, planes):
    """P of each bit of planes `[N, rows, columns, bits]`, in 65536ths, as each is coded."""
    probabilities = np.zeros(planes.shape, np.int64)

    def code(where, predicted):
        probabilities[index][where] = predicted
        return plane[where]

    for index, plane in enumerate(planes):
        run(model, list(planes[:index]), plane.shape, code)
    return probabilities


def digest(array):
    """A short hash of an array of integers."""
    return hashlib.sha256(np.ascontiguousarray(array, "<i8").tobytes()).hexdigest()[:16]


def make_array(height, width, mode="RGB", seed=0):
    """Waves and noise: uint8 `[height, width]`, or with 2 to 4 channels, by Pillow's `mode`."""
    rng = np.random.default_rng(seed)
    rows, columns, channels = np.ogrid[:height, :width, : len(mode)]
    waves = np.sin(rows / 9 + 2 * channels + seed) + np.cos(columns / 7 - channels)
    values = 127.5 + 50 * waves + rng.normal(0, 10, (height, width, len(mode)))
    array = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return array[..., 0] if mode == "L" else array


@dataclasses.dataclass(frozen=True)
class Result:
    """What a command left behind."""

    exit_code: int
    data: bytes  # standard output
    stderr: str

    @property
    def stdout(self):
        return self.data.decode()


# The scripts that do several commands, chosen by flags.
SCRIPTS = {"decode": ("decode", "info", "extract", "restore")}


def call(name, *args):
    """The exit code of a script in this process, whose arguments absl reads."""
    commands = [rnnc.load(command) for command in SCRIPTS.get(name, (name,))]
    values = flags.FlagValues()
    scripts.define(commands, values)
    arguments = values([name, *args], known_only=commands[0].takes_unknown)
    return scripts.main(commands, arguments, values)


def run_command(name, *args, stdin=b"", preset=None):
    """Runs a script in this process, with the tiny codec unless another preset is named.

    Args:
        name: "encode" or "decode".
        *args: strings or paths, as on the command line.
        stdin: bytes.
        preset: what --preset says.

    Returns:
        `Result`.
    """
    args = list(map(str, args))
    if not {"--info", "--extract"} & set(args):  # they load no codec
        args.insert(0, f"--preset={preset or preset_folder()}")
    streams = [io.TextIOWrapper(io.BytesIO(data), "utf-8") for data in (stdin, b"", b"")]
    files.load_codec.cache_clear()
    with (
        mock.patch.object(sys, "stdin", streams[0]),
        mock.patch.object(sys, "stdout", streams[1]),
        mock.patch.object(sys, "stderr", streams[2]),
        mock.patch.object(loading, "load", _load),
    ):
        exit_code = call(name, *args)
        for stream in streams[1:]:
            stream.flush()
    out, err = (stream.buffer.getvalue() for stream in streams[1:])
    return Result(exit_code or 0, out, err.decode())


@functools.cache
def _load(name=None, *args):
    return make_codec() if name == preset_folder() else _LOAD(name, *args)


_LOAD = loading.load
