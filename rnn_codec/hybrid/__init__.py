"""The wing around a standard codec: ComCNN, JPEG and its like, RecCNN."""

from rnn_codec.hybrid.config import PRESETS, HybridConfig
from rnn_codec.hybrid.options import EncodingOptions, HybridChanges, HybridOptions
from rnn_codec.wings import Recipe, Wing


def _make_codec(preset, precision, arithmetic):
    from rnn_codec.hybrid.codec import HybridCodec

    del arithmetic  # of a context model, which this wing does not have
    return HybridCodec(preset, precision)


def _measure(config):
    from rnn_codec.hybrid import complexity

    return complexity.measure(config)


def _train(config, photos, options, workdir, resume, initial_preset):
    from rnn_codec.hybrid import recipe

    return recipe.train(config, photos, options, workdir, resume, initial_preset)


WING = Wing(
    name="hybrid",
    config=HybridConfig,
    presets=PRESETS,
    make_codec=_make_codec,
    measure=_measure,
    rates="quality",
    encode_options=EncodingOptions,
    recipes=(
        Recipe(
            "hybrid",
            "the networks around a standard codec",
            HybridOptions,
            _train,
            changes=HybridChanges,
        ),
    ),
    restores=True,
)
