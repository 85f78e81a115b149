"""The list of wings, and the record in which each tells the others what they must know of it.

A wing is a folder of this package with a codec of its own kind: configuration, networks, codec,
recipe. Wings know nothing of each other, and nobody else asks what kind a configuration is: what
differs stands in the record `WING` of the wing's `__init__.py`. A new wing is a new folder, and a
new name in `_FOLDERS`.

Neither this module nor a record imports Keras.
"""

from collections.abc import Callable
import dataclasses
import functools
import importlib
from typing import Any

from rnn_codec.configuration import JsonConfig
from rnn_codec.options import NoOptions

# The first preset of the first wing is the default.
_FOLDERS = ("embedded", "recurrent", "hybrid")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What the command `train` is told of one kind of training."""

    name: str  # of --model
    summary: str  # what is trained, for --model's help: "the recurrent codec"
    # A dataclass of options: what a run is, apart from network and photographs. It has a
    # `patch_size`, the least that a side of a photograph must have.
    options: type
    # (config, photos, options, workdir, resume, initial_preset) -> figures; the config has the
    # changes, and the preset is None unless it is to start from trained weights.
    train: Callable[..., Any]
    # A dataclass of options that replace something of the preset's configuration, and do so in
    # `apply(config)`, which returns a configuration or raises `ValueError`.
    changes: type = NoOptions
    needs_weights: bool = False  # whether it trains something for a preset that has weights


@dataclasses.dataclass(frozen=True)
class Wing:
    """What is told of a wing.

    Functions import what they need when they are called, so that a record costs nothing.
    """

    name: str  # "codec" in a preset's config.json, and of commands
    config: type[JsonConfig]
    presets: tuple[JsonConfig, ...]  # those known by name, the wing's default first
    make_codec: Callable[..., Any]  # (preset, precision, arithmetic) -> `codec.Codec`
    measure: Callable[[Any], Any]  # config -> `layers.geometry.Complexity`
    rates: str  # what one file, or one call, chooses a rate by: "iterations" or "quality"
    # Dataclasses of options (`options.option`): what `encode_picture` and `decode_picture` take
    # besides what all wings' do, as keyword arguments.
    encode_options: type = NoOptions
    decode_options: type = NoOptions
    recipes: tuple[Recipe, ...] = ()  # by which `train.py --model=...` trains; the first is its own
    restores: bool = False  # whether the codec has `restore_picture`, for other codecs' pictures
    # (arrays, config): raises `ValueError` for a context model of another configuration. None: the
    # wing's presets have no context model.
    check_context: Callable[[dict, Any], None] | None = None

    @property
    def default(self) -> str:
        """The name of the preset that stands for the wing."""
        return self.presets[0].name


@functools.cache
def every() -> tuple[Wing, ...]:
    """All wings, the default's first."""
    return tuple(importlib.import_module(f"rnn_codec.{folder}").WING for folder in _FOLDERS)


def named(name: str) -> Wing:
    """The wing of a name; `LookupError` if there is none."""
    return {wing.name: wing for wing in every()}[name]


def recipes() -> dict[str, tuple[Wing, Recipe]]:
    """All recipes by their name, each with the wing whose it is."""
    return {recipe.name: (wing, recipe) for wing in every() for recipe in wing.recipes}


def of(config: JsonConfig) -> Wing:
    """The wing of a configuration."""
    return {wing.config: wing for wing in every()}[type(config)]
