"""Trains a codec.

python train.py --data=photos --workdir=runs/first
python train.py --data=photos --workdir=runs/first --resume
tensorboard --logdir=runs/first/logs
python encode.py --preset=runs/first/preset --input=photo.png

python train.py --model=context --preset=runs/first/preset --data=photos --workdir=runs/context
                                            the entropy coder's model for these weights
python train.py --model=hybrid --preset=hybrid_grey --data=photos --workdir=runs/hybrid
                                            two networks around a standard codec
"""

import dataclasses
import logging as python_logging
import re
import sys

from absl import app, flags, logging

from rnn_codec import presets, wings
from rnn_codec.commands import files
from rnn_codec.errors import CodecError
from rnn_codec.hybrid import config as hybrid_config
from rnn_codec.recurrent import config as config_lib

_MODEL = flags.DEFINE_enum(
    "model",
    "codec",
    ["codec", "context", "hybrid"],
    "What to train: the codec, the context model that predicts the bits of a trained --preset, or "
    "the hybrid codec's networks.",
)
_DATA = flags.DEFINE_string("data", None, "Folder of photographs to train on.")
_TFDS = flags.DEFINE_string("tfds", None, "TensorFlow Datasets name, instead of --data.")
_TFDS_DIR = flags.DEFINE_string("tfds_dir", None, "Where prepared TFDS data sets lie.")
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder for checkpoint, logs and the best preset.", required=True
)
_RESUME = flags.DEFINE_bool("resume", False, "Go on from the checkpoint in --workdir, if any.")
_PRESET = flags.DEFINE_string("preset", None, "Configuration to train. Defaults to the product's.")
_WEIGHTS = flags.DEFINE_bool("initial_weights", False, "Start from the weights of --preset.")
_WIDTH = flags.DEFINE_float("width", None, "Multiplies all widths of the preset.", lower_bound=0.01)
_RECONSTRUCTION = flags.DEFINE_enum(
    "reconstruction", None, config_lib.RECONSTRUCTIONS, "Replaces the preset's."
)
_MAX_ITERATIONS = flags.DEFINE_integer(
    "max_iterations", None, "Replaces the preset's number of iterations.", 1, 255
)
_ITERATIONS = flags.DEFINE_integer(
    "iterations", None, "Turns of the loop while training; fewer are faster at the start.", 1, 255
)
_STEPS = flags.DEFINE_integer("steps", 100_000, "Steps in all, over all resumed parts.", 1)
_STEPS_PER_EPOCH = flags.DEFINE_integer(
    "steps_per_epoch", 1_000, "Steps between checkpoints and validations.", 1
)
_BATCH = flags.DEFINE_integer("batch_size", 16, "Patches per step, over all devices.", 1)
_DEVICES = flags.DEFINE_string(
    "devices",
    "auto",
    "How many share each batch, or 'tpu' for all cores of a TPU. 'auto': all GPUs (with JAX: or "
    "TPUs), else one device. TensorFlow finds a TPU only with 'tpu'.",
)
_PATCH = flags.DEFINE_integer("patch_size", 64, "Side of a patch, a multiple of 16.", 16)
_LOSS = flags.DEFINE_enum("loss", "perceptual", ["perceptual", "l1"], "l1 is the paper's.")
_LEARNING_RATE = flags.DEFINE_float("learning_rate", 1e-3, "After warm-up.", 0.0)
_WARMUP = flags.DEFINE_integer("warmup_steps", 500, "Steps of linear warm-up.", 0)
_CLIP = flags.DEFINE_float("clip_norm", 1.0, "Norm of all gradients above which they are scaled.")
_EMA = flags.DEFINE_float("ema_momentum", 0.999, "Of the averaged weights.", 0.0, 1.0)
_PRECISION = flags.DEFINE_enum(
    "precision", "float32", ["float32", "mixed_bfloat16"], "Of the network while training."
)
_DOWNSCALE = flags.DEFINE_float(
    "maximum_downscale", 2.0, "Half of the patches are reduced by up to this.", 1.0
)
_HARD_TILES = flags.DEFINE_integer(
    "hard_tiles", None, "Train only on this many tiles of each photograph, PNG's worst.", 1
)
_VALIDATION_PERCENT = flags.DEFINE_integer(
    "validation_percent", 5, "Share of the photographs, by file hash.", 1, 99
)
_VALIDATION_IMAGES = flags.DEFINE_integer("validation_images", 24, "Crops to validate on.", 1)
_VALIDATION_SIZE = flags.DEFINE_integer(
    "validation_size", 192, "Side of these crops, a multiple of 16.", 16
)
_CACHE_GB = flags.DEFINE_float("cache_gb", 4.0, "Memory for decoded photographs.", 0.0)
_SEED = flags.DEFINE_integer("seed", 0, "Of weights, patches and crops.")
_GRAPH = flags.DEFINE_bool("graph", False, "Log the network's graph too (TensorFlow only).")
_PROFILE = flags.DEFINE_string(
    "profile", None, "FIRST,LAST: log a profile of these steps too (TensorFlow and JAX)."
)
_BASE = flags.DEFINE_enum(
    "base", None, hybrid_config.BASES, "Standard codec of the hybrid one. Replaces the preset's."
)
_OTHER_BASES = flags.DEFINE_list(
    "other_bases", [], "Standard codecs of half of the batches, at all of their qualities."
)
_QUALITIES = flags.DEFINE_list(
    "qualities", None, "LOWEST,HIGHEST of that codec. Replaces the preset's."
)
_NETWORKS = flags.DEFINE_enum(
    "networks",
    None,
    list(hybrid_config.NETWORKS),
    "ComCNN, RecCNN, both, or all: another RecCNN for pictures of full size, too. Replaces the "
    "preset's; weights of it are kept where they fit.",
)
_BLOCK = flags.DEFINE_integer(
    "block", None, "RecCNN sees so many pixels a side as channels. Replaces the preset's.", 1, 2
)
_NORMALISATION = flags.DEFINE_bool("batch_normalisation", None, "In RecCNN. Replaces the preset's.")
_SHORTCUTS = flags.DEFINE_bool("shortcuts", None, "In RecCNN. Replaces the preset's.")
_CONDITIONED = flags.DEFINE_bool(
    "conditioned", None, "Tell RecCNN the standard codec and its quality. Replaces the preset's."
)
_COMPACT_EVERY = flags.DEFINE_integer(
    "compact_every", 4, "In one of so many epochs ComCNN learns, in the others RecCNN.", 2
)
_COMPACT_RATE = flags.DEFINE_float("compact_learning_rate", 1e-4, "Of ComCNN.", 0.0)
_RATE_WEIGHT = flags.DEFINE_float(
    "rate_weight", 2.5, "Of ComCNN's bits: dB for each doubling. 0 is the paper's.", 0.0
)
flags.register_validator(
    "qualities",
    lambda value: value is None or _number_pair(value),
    "expected two numbers, LOWEST,HIGHEST",
)
flags.register_validator(
    "devices",
    lambda value: value in ("auto", "tpu") or re.fullmatch("[1-9][0-9]*", value),
    "expected auto, tpu or a number",
)
flags.register_validator(
    "profile",
    lambda value: value is None or _step_pair(value),
    "expected two steps, FIRST,LAST, the first at least 1 and not after the last",
)
# Those that --model=context and --model=hybrid go by, and those that only the latter does.
_CONTEXT_FLAGS = (
    "model", "preset", "data", "tfds", "tfds_dir", "workdir", "resume", "steps", "steps_per_epoch",
    "batch_size", "patch_size", "learning_rate", "validation_percent", "cache_gb", "seed",
)  # fmt: skip
_HYBRID_ONLY = (
    "base", "other_bases", "qualities", "networks", "block", "batch_normalisation", "shortcuts",
    "conditioned", "compact_every", "compact_learning_rate", "rate_weight",
)  # fmt: skip
_HYBRID_FLAGS = (
    *_CONTEXT_FLAGS, "initial_weights", "warmup_steps", "clip_norm", "precision",
    "maximum_downscale", "validation_images", "validation_size", *_HYBRID_ONLY,
)  # fmt: skip

flags.mark_flags_as_mutual_exclusive(["data", "tfds"], required=True)
flags.register_multi_flags_validator(
    ["patch_size", "validation_size"],
    lambda sizes: all(size % config_lib.STRIDE == 0 for size in sizes.values()),
    f"--patch_size and --validation_size must be multiples of {config_lib.STRIDE}",
)


def _step_pair(value):
    match = re.fullmatch("([0-9]+),([0-9]+)", value)
    pair = match and tuple(int(group) for group in match.groups())
    return pair if pair and 1 <= pair[0] <= pair[1] else None


def _number_pair(value):
    try:
        lowest, highest = map(float, value)
    except ValueError:
        return None
    return lowest, highest


def main(argv):
    # Here, not above: --help and flag errors must not wait for Keras.
    files.load_keras()

    try:
        if len(argv) > 1:
            raise CodecError(
                f"unexpected argument {argv[1]!r}; give folders with --data, --workdir"
            )
        _check_flags()
        if _MODEL.value == "context":
            _train_context(_preset("recurrent", load_weights=True))
        elif _MODEL.value == "hybrid":
            _train_hybrid(_preset("hybrid", load_weights=_WEIGHTS.value))
        else:
            _train_codec(_preset("recurrent", load_weights=_WEIGHTS.value))
    except CodecError as error:
        print(f"train: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("train: interrupted; go on from the last checkpoint with --resume", file=sys.stderr)
        return 1
    return 0


def _check_flags():
    """Raises `CodecError` for a flag that means nothing to the model."""
    every = [flag.name for flag in flags.FLAGS.get_flags_for_module(__name__)]
    allowed = {
        "context": _CONTEXT_FLAGS,
        "hybrid": _HYBRID_FLAGS,
        "codec": [name for name in every if name not in _HYBRID_ONLY],
    }[_MODEL.value]
    ignored = [name for name in every if flags.FLAGS[name].present and name not in allowed]
    if ignored:
        raise CodecError(
            f"--{ignored[0]}: has no meaning with --model={_MODEL.value}; leave it out. These "
            f"have: --{', --'.join(allowed)}"
        )


def _preset(wing, load_weights):
    """The preset named, which is to be of a wing, or that wing's default."""
    name = _PRESET.value or wings.named(wing).default
    preset = presets.load(name, load_weights=load_weights)
    if wings.of(preset.config).name != wing:
        raise CodecError(
            f"--preset={_PRESET.value}: expected one of another kind of codec for "
            f"--model={_MODEL.value}; name one, or change --model"
        )
    return preset


def _train_codec(preset):
    from rnn_codec.recurrent import recipe

    replaced = {
        "width": _WIDTH.value,
        "reconstruction": _RECONSTRUCTION.value,
        "iterations": _MAX_ITERATIONS.value,
    }
    replaced = {name: value for name, value in replaced.items() if value is not None}
    config = config_lib.CodecConfig.from_dict({**preset.config.to_dict(), **replaced})
    if (_ITERATIONS.value or 1) > config.iterations:
        raise CodecError(
            f"--iterations={_ITERATIONS.value}: expected at most the {config.iterations} of "
            "the configuration; raise --max_iterations too"
        )
    recipe.train(
        config,
        _photos(_PATCH.value),
        _options(recipe.TrainingOptions),
        _WORKDIR.value,
        resume=_RESUME.value,
        initial_preset=preset if _WEIGHTS.value else None,
    )


def _train_context(preset):
    from rnn_codec.recurrent import context_recipe

    options = context_recipe.ContextOptions
    crop_size = _given("patch_size", options.crop_size)
    context_recipe.train(
        preset,
        _photos(crop_size),
        options(
            steps=_given("steps", options.steps),
            steps_per_epoch=_given("steps_per_epoch", options.steps_per_epoch),
            batch_size=_given("batch_size", options.batch_size),
            crop_size=crop_size,
            learning_rate=_given("learning_rate", options.learning_rate),
            seed=_SEED.value,
        ),
        _WORKDIR.value,
        resume=_RESUME.value,
    )


def _train_hybrid(preset):
    from rnn_codec.hybrid import recipe as hybrid_training

    qualities = _number_pair(_QUALITIES.value) if _QUALITIES.value else (None, None)
    replaced = {
        "name": _NETWORKS.value,
        "networks": _NETWORKS.value,
        "base": _BASE.value,
        "lowest_quality": qualities[0],
        "highest_quality": qualities[1],
        "block": _BLOCK.value,
        "batch_normalisation": _NORMALISATION.value,
        "shortcuts": _SHORTCUTS.value,
        "conditioned": _CONDITIONED.value,
    }
    replaced = {name: value for name, value in replaced.items() if value is not None}
    try:
        config = dataclasses.replace(preset.config, **replaced)
    except ValueError as error:
        raise CodecError(f"{error}; change the flags or the preset") from error
    options = hybrid_training.HybridOptions
    patch_size = _given("patch_size", options.patch_size)
    hybrid_training.train(
        config,
        _photos(patch_size),
        options(
            steps=_given("steps", options.steps),
            steps_per_epoch=_given("steps_per_epoch", options.steps_per_epoch),
            batch_size=_given("batch_size", options.batch_size),
            patch_size=patch_size,
            compact_every=_COMPACT_EVERY.value,
            rate_weight=_RATE_WEIGHT.value,
            learning_rate=_given("learning_rate", options.learning_rate),
            compact_learning_rate=_COMPACT_RATE.value,
            warmup_steps=_given("warmup_steps", options.warmup_steps),
            clip_norm=_CLIP.value,
            precision=_PRECISION.value,
            maximum_downscale=_DOWNSCALE.value,
            other_bases=tuple(_OTHER_BASES.value),
            validation_images=_given("validation_images", options.validation_images),
            validation_size=_VALIDATION_SIZE.value,
            seed=_SEED.value,
        ),
        _WORKDIR.value,
        resume=_RESUME.value,
        initial_preset=preset if _WEIGHTS.value else None,
    )


def _given(name, default):
    """A flag's value if the user gave it: defaults are the codec's."""
    flag = flags.FLAGS[name]
    return flag.value if flag.present else default


def _photos(minimum_side):
    from rnn_codec.training import data

    if _TFDS.value:
        return data.load_tfds(
            _TFDS.value,
            data_dir=_TFDS_DIR.value,
            validation_percent=_VALIDATION_PERCENT.value,
            minimum_side=minimum_side,
        )
    return data.PhotoFolder(
        _DATA.value,
        validation_percent=_VALIDATION_PERCENT.value,
        minimum_side=minimum_side,
        cache_bytes=int(_CACHE_GB.value * 2**30),
    )


def _options(options_class):
    return options_class(
        steps=_STEPS.value,
        steps_per_epoch=_STEPS_PER_EPOCH.value,
        batch_size=_BATCH.value,
        patch_size=_PATCH.value,
        iterations=_ITERATIONS.value,
        loss=_LOSS.value,
        learning_rate=_LEARNING_RATE.value,
        warmup_steps=_WARMUP.value,
        clip_norm=_CLIP.value,
        ema_momentum=_EMA.value,
        precision=_PRECISION.value,
        maximum_downscale=_DOWNSCALE.value,
        hard_tiles=_HARD_TILES.value,
        validation_images=_VALIDATION_IMAGES.value,
        validation_size=_VALIDATION_SIZE.value,
        seed=_SEED.value,
        devices=_DEVICES.value,
        graph=_GRAPH.value,
        profile=_step_pair(_PROFILE.value) if _PROFILE.value else None,
    )


def _parse_flags(argv):
    """What absl does, but a fault is one line."""
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        print(f"train: {error}; see --help".replace("\n", " "), file=sys.stderr)
        sys.exit(1)


def run():
    """The installed command."""
    logging.set_verbosity(logging.INFO)
    # Below this level JAX tells of each kind of device that it did not find.
    python_logging.getLogger("jax").setLevel(python_logging.WARNING)
    files.show_help_of(__name__)
    app.run(main, flags_parser=_parse_flags)
