"""The paper's wing: a recurrent network codes what the picture so far lacks."""

from rnn_codec.recurrent.config import PRESETS, CodecConfig
from rnn_codec.wings import Wing


def _make_codec(preset, precision, arithmetic):
    from rnn_codec.recurrent.codec import RecurrentCodec

    return RecurrentCodec(preset, precision, arithmetic)


def _measure(config):
    from rnn_codec.recurrent import complexity

    return complexity.measure(config)


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
    encode_options=("entropy",),
    rates="iterations",
    check_context=_check_context,
)
