"""Trains a codec.

rnnc train --data=photos --workdir=runs/first
rnnc train --data=photos --workdir=runs/first --resume
rnnc train --model=entropy --preset=runs/first/preset --data=photos --workdir=runs/entropy
rnnc encode --preset=runs/entropy/preset photo.png
"""

import dataclasses

from rnn_codec import options, presets, wings
from rnn_codec.commands import files
from rnn_codec.commands.command import Command, refuse_others
from rnn_codec.errors import CodecError
from rnn_codec.options import option


def _models():
    return tuple(wings.recipes())


def _help_of_model():
    known = [f"{name} is {recipe.summary}" for name, (_, recipe) in wings.recipes().items()]
    return (
        f"Train this: {'; '.join(known)}. By default it is what --preset is of, or {_models()[0]}."
    )


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """What all recipes take."""

    model: str | None = option(
        None,
        _help_of_model,
        choices=_models,
        common=True,
    )
    workdir: str = option(
        "", "Keep checkpoint, logs and the best preset in this folder.", required=True, common=True
    )
    resume: bool = option(
        False, "Go on from the checkpoint in --workdir, if there is one.", common=True
    )
    preset: str | None = option(
        None,
        "Train the configuration of the preset of this name or in this folder, instead of the "
        "model's default one.",
        common=True,
    )


@dataclasses.dataclass(frozen=True)
class StartOptions:
    """What recipes take that can start from random weights or from trained ones."""

    initial_weights: bool = option(False, "Start from the weights of --preset, not random ones.")


@dataclasses.dataclass(frozen=True)
class PhotoOptions:
    """Where the photographs come from."""

    data: str | None = option(None, "Train on the photographs in this folder.", common=True)
    cache_gb: float = option(
        4.0, "With --data, keep decoded photographs in up to this many GB of memory.", lower=0
    )
    tfds: str | None = option(
        None, "Train on this data set of TensorFlow Datasets, instead of --data."
    )
    tfds_dir: str | None = option(None, "With --tfds, find prepared data sets in this folder.")
    validation_percent: int = option(
        5,
        "Validate on this share of the photographs, which are chosen by a hash of their files.",
        lower=1,
        upper=99,
    )


def _modes():
    return {
        name: (
            TrainOptions,
            PhotoOptions,
            options.NoOptions if recipe.needs_weights else StartOptions,
            recipe.changes,
            recipe.options,
        )
        for name, (_, recipe) in wings.recipes().items()
    }


def _run(given):
    request = options.make(TrainOptions, given)
    model = request.model or _model_of(request.preset)
    wing, recipe = wings.recipes()[model]
    groups = _modes()[model]
    others = f". These have: --{', --'.join(options.names(groups))}"
    refuse_others(given, groups, f"with --model={model}", others)
    source = options.make(PhotoOptions, given)
    _check_source(source, given)
    changes = options.make(recipe.changes, given)
    run_options = options.make(recipe.options, given)
    starts_trained = recipe.needs_weights or options.make(StartOptions, given).initial_weights

    files.load_keras()
    preset = presets.load(
        request.preset or wing.default, load_weights=starts_trained, load_training=starts_trained
    )
    if wings.of(preset.config) is not wing:
        raise CodecError(
            f"--preset={request.preset}: expected one of another kind of codec for "
            f"--model={model}; name one, or change --model"
        )
    config = preset.config
    if recipe.changes is not options.NoOptions:
        try:
            config = changes.apply(config)
        except ValueError as error:
            raise CodecError(f"{error}; change the options or the preset") from error
    photos = _photos(source, run_options.patch_size)
    initial_preset = preset if starts_trained else None
    recipe.train(config, photos, run_options, request.workdir, request.resume, initial_preset)
    return 0


def _model_of(preset):
    """The model that a preset is of, if it is named and no model is; else the default one."""
    if preset is None:
        return _models()[0]
    return wings.of(presets.load(preset, load_weights=False).config).recipes[0].name


def _check_source(source, given):
    """Raises `CodecError` for not exactly one source, or options of the other one."""
    if (source.data is None) == (source.tfds is None):
        received = "neither" if source.data is None else "both"
        raise CodecError(f"expected --data or --tfds, received {received}; give one")
    for name, needed in (("cache_gb", "data"), ("tfds_dir", "tfds")):
        if name in given and getattr(source, needed) is None:
            raise CodecError(f"--{name}: has no meaning without --{needed}; leave it out")


def _photos(source, minimum_side):
    from rnn_codec.training import data

    if source.tfds is not None:
        return data.load_tfds(
            source.tfds,
            data_dir=source.tfds_dir,
            validation_percent=source.validation_percent,
            minimum_side=minimum_side,
        )
    return data.PhotoFolder(
        source.data,
        validation_percent=source.validation_percent,
        minimum_side=minimum_side,
        cache_bytes=int(source.cache_gb * 2**30),
    )


COMMAND = Command(
    "train", __doc__, _modes, _run, where="with --model={}", selector="model", logs=True
)
