"""The embedded wing: the latents of a picture, sent as nested bit planes."""

from rnn_codec.embedded.config import PRESETS, EmbeddedConfig
from rnn_codec.embedded.entropy_options import EntropyOptions
from rnn_codec.embedded.options import EmbeddedChanges, EmbeddedOptions, EncodingOptions
from rnn_codec.wings import Recipe, Wing


def _make_codec(preset, precision, arithmetic):
    from rnn_codec.embedded.codec import EmbeddedCodec

    del arithmetic
    return EmbeddedCodec(preset, precision)


def _measure(config):
    from rnn_codec.embedded import complexity

    return complexity.measure(config)


def _train(config, photos, options, workdir, resume, initial_preset):
    from rnn_codec.embedded import recipe

    return recipe.train(config, photos, options, workdir, resume, initial_preset)


def _train_entropy(config, photos, options, workdir, resume, initial_preset):
    from rnn_codec.embedded import entropy_recipe

    del config  # the preset's, to which nothing is changed
    return entropy_recipe.train(initial_preset, photos, options, workdir, resume)


def _check_context(context, config):
    from rnn_codec.embedded import entropy_model

    entropy_model.check(context)
    received = context["live"].shape
    if received != (config.iterations, config.latents):
        raise ValueError(
            f"expected the entropy model of {config.iterations} planes of {config.latents} "
            f"channels, received one of {received[0]} of {received[1]}; train it for this preset"
        )


WING = Wing(
    name="embedded",
    config=EmbeddedConfig,
    presets=PRESETS,
    make_codec=_make_codec,
    measure=_measure,
    rates="iterations",
    encode_options=EncodingOptions,
    recipes=(
        Recipe(
            "embedded",
            "the embedded codec",
            EmbeddedOptions,
            _train,
            changes=EmbeddedChanges,
        ),
        Recipe(
            "entropy",
            "the entropy model of a trained embedded preset",
            EntropyOptions,
            _train_entropy,
            needs_weights=True,
        ),
    ),
    check_context=_check_context,
)
