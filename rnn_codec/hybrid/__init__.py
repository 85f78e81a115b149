"""The wing around a standard codec: ComCNN, JPEG and its like, RecCNN."""

from rnn_codec.hybrid.config import PRESETS, HybridConfig
from rnn_codec.wings import Wing


def _make_codec(preset, precision, arithmetic):
    from rnn_codec.hybrid.codec import HybridCodec

    del arithmetic  # of a context model, which this wing does not have
    return HybridCodec(preset, precision)


def _measure(config):
    from rnn_codec.hybrid import complexity

    return complexity.measure(config)


WING = Wing(
    name="hybrid",
    config=HybridConfig,
    presets=PRESETS,
    make_codec=_make_codec,
    measure=_measure,
    encode_options=("base", "quality", "stored_size"),
    rates="quality",
    restores=True,
)
