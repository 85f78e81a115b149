"""What the tests of training share: tiny photographs and a tiny run, the same in every test."""

import atexit
import dataclasses
import os
import shutil
import tempfile

import keras
import numpy as np
from PIL import Image
import testing

from rnn_codec import presets
from rnn_codec.recurrent import recipe
from rnn_codec.training import checkpoints, data

CONFIG = dataclasses.replace(presets.CONFIGS["two_scale_gru"], width=0.01, iterations=2)
# 23 steps in epochs of 5: the last one is cut short.
OPTIONS = recipe.TrainingOptions(
    steps=23,
    steps_per_epoch=5,
    batch_size=4,
    patch_size=32,
    loss="l1",  # quickly compiled
    learning_rate=0.01,
    warmup_steps=4,
    ema_momentum=0.9,
    validation_images=2,
    validation_size=32,
)
# The same as flags of train.py.
FLAGS = (
    "--preset=two_scale_gru", "--width=0.01", "--max_iterations=2",
    "--steps=23", "--steps_per_epoch=5", "--batch_size=4", "--patch_size=32",
    "--loss=l1", "--learning_rate=0.01", "--warmup_steps=4", "--ema_momentum=0.9",
    "--validation_images=2", "--validation_size=32", "--validation_percent=30",
)  # fmt: skip


def photographs():
    """A dozen pictures of different sizes; all bright, which is learnt in a few steps."""
    return [testing.make_array(64 + i, 80, seed=i) // 2 + 128 for i in range(12)]


def photo_arrays():
    return data.PhotoArrays(photographs(), validation_percent=30, minimum_side=32)


def write_photographs(folder):
    """Writes `photographs()` as files and returns their paths."""
    os.makedirs(folder, exist_ok=True)
    paths = [os.path.join(folder, f"{number:02d}.png") for number in range(len(photographs()))]
    for path, pixels in zip(paths, photographs()):
        Image.fromarray(pixels).save(path)
    return paths


def read_checkpoint(workdir):
    """Arrays of a checkpoint by name."""
    with np.load(os.path.join(workdir, checkpoints.FILE_NAME)) as file:
        return {name: file[name] for name in file.files}


def files_below(folder):
    """Contents of all files by path."""
    paths = [os.path.join(parent, name) for parent, _, names in os.walk(folder) for name in names]
    return {path: read(path) for path in paths}


def read(path):
    with open(path, "rb") as file:
        return file.read()


# Compiling takes JAX ten times as long as all the steps: what one test has compiled serves the
# others, those in processes of their own too.
JAX_CACHE = {
    "jax_compilation_cache_dir": tempfile.mkdtemp(),
    "jax_persistent_cache_min_compile_time_secs": 0,
    "jax_persistent_cache_min_entry_size_bytes": 0,
}
atexit.register(shutil.rmtree, JAX_CACHE["jax_compilation_cache_dir"], ignore_errors=True)


def environment(**changes):
    """Environment variables for a process of train.py."""
    cache = {name.upper(): str(value) for name, value in JAX_CACHE.items()}
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    return {**os.environ, **cache, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": root, **changes}


if keras.backend.backend() == "jax":
    import jax

    for name, value in JAX_CACHE.items():
        jax.config.update(name, value)
