"""The paper's wing: a recurrent network codes what the picture so far lacks."""

from rnn_codec.recurrent.config import PRESETS, CodecConfig
from rnn_codec.recurrent.options import (
    CodecChanges,
    ContextOptions,
    EncodingOptions,
    TrainingOptions,
)
from rnn_codec.wings import Recipe, Wing


def _make_codec(preset, precision, arithmetic):
    from rnn_codec.recurrent.codec import RecurrentCodec

    return RecurrentCodec(preset, precision, arithmetic)


def _measure(config):
    from rnn_codec.recurrent import complexity

    return complexity.measure(config)


def _train(config, photos, options, workdir, resume, initial_preset):
    from rnn_codec.recurrent import recipe

    return recipe.train(config, photos, options, workdir, resume, initial_preset)


def _train_context(config, photos, options, workdir, resume, initial_preset):
    from rnn_codec.recurrent import context_recipe

    del config  # the preset's, to which nothing is changed
    return context_recipe.train(initial_preset, photos, options, workdir, resume)


def _check_context(context, config):
    from rnn_codec.entropy import context_model

    context_model.check(context)
    received = context["known"].shape[0], context["known"].shape[3]
    if received != (config.iterations, config.bits):
        raise ValueError(
            f"expected the context model of {config.iterations} iterations of {config.bits} bits, "
            f"received one of {received[0]} of {received[1]}; train it for this preset"
        )


WING = Wing(
    name="recurrent",
    config=CodecConfig,
    presets=PRESETS,
    make_codec=_make_codec,
    measure=_measure,
    rates="iterations",
    encode_options=EncodingOptions,
    recipes=(
        Recipe("codec", "the recurrent codec", TrainingOptions, _train, changes=CodecChanges),
        Recipe(
            "context",
            "the context model that predicts the bits of a trained preset",
            ContextOptions,
            _train_context,
            needs_weights=True,
        ),
    ),
    check_context=_check_context,
)
