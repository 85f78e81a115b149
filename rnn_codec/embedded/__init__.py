"""The embedded wing: the latents of a picture, sent as nested bit planes."""

from rnn_codec.embedded.config import PRESETS, EmbeddedConfig
from rnn_codec.wings import Wing


def _make_codec(preset, precision, arithmetic):
    from rnn_codec.embedded.codec import EmbeddedCodec

    del arithmetic
    return EmbeddedCodec(preset, precision)


def _measure(config):
    from rnn_codec.embedded import complexity

    return complexity.measure(config)


def _check_context(context, config):
    from rnn_codec.embedded import entropy_model

    entropy_model.check(context, config)


WING = Wing(
    name="embedded",
    config=EmbeddedConfig,
    presets=PRESETS,
    make_codec=_make_codec,
    measure=_measure,
    encode_options=("quality", "lossless"),
    rates="iterations",
    check_context=_check_context,
)
