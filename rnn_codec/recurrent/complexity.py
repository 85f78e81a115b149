"""How far the parts of the recurrent codec's network reach, and what they cost."""

from typing import NamedTuple

from rnn_codec.layers import geometry
from rnn_codec.layers.geometry import Complexity, Geometry
from rnn_codec.recurrent.config import CodecConfig
from rnn_codec.recurrent.progressive import ProgressiveNetwork


class Parts(NamedTuple):
    """The `Geometry` of each part of one iteration, from what that part gets."""

    encoder: Geometry  # from residual and states to bits
    decoder: Geometry  # from bits and states to features
    synthesis: Geometry  # from features to the picture
    gain: Geometry | None  # from the picture to gains; None where there are none


def parts_of(network: ProgressiveNetwork) -> Parts:
    """The `Parts` of a network whose variables exist."""
    encoder = geometry.after(network.encoder)
    bits = Geometry(encoder.scale)
    decoder = geometry.after(network.decoder, bits)
    if network.config.atoms:
        encoder = encoder.beside(geometry.after(network.block_analysis))
        # What these make of the bits stays in its block.
        blocks = geometry.through([network.embedding, network.block_synthesis], bits)
        decoder = decoder.beside(blocks)
    return Parts(
        encoder=geometry.after(network.binarizer, encoder),
        decoder=decoder,
        synthesis=geometry.after(network.synthesis, Geometry(decoder.scale)),
        gain=None if network.gain is None else geometry.after(network.gain),
    )


def measure(config: CodecConfig) -> Complexity:
    """The `Complexity` of a configuration's network; makes it, with random weights."""
    network = ProgressiveNetwork.create(config)
    parts = parts_of(network)
    return Complexity(
        parameters=network.count_params(),
        encoder_macs=parts.encoder.macs,
        decoder_macs=parts.decoder.macs,
        synthesis_macs=parts.synthesis.macs + (parts.gain.macs if parts.gain else 0.0),
        skips_synthesis=not network.accumulates,
    )
