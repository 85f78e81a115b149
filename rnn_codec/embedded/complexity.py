"""How far the embedded codec's network reaches, and what it costs."""

from typing import NamedTuple

from rnn_codec.embedded.config import EmbeddedConfig
from rnn_codec.embedded.network import EmbeddedNetwork
from rnn_codec.layers import geometry
from rnn_codec.layers.geometry import Complexity, Geometry


class Parts(NamedTuple):
    """The `Geometry` of each part, from what that part gets."""

    analysis: Geometry  # from the picture to latents
    synthesis: Geometry  # from latents to the picture


def parts_of(network: EmbeddedNetwork) -> Parts:
    """The `Parts` of a network whose variables exist."""
    analysis = geometry.after(network.analysis)
    latents = Geometry(analysis.scale)
    synthesis = geometry.after(network.synthesis, latents)
    return Parts(
        analysis.beside(geometry.after(network.block_analysis)),
        synthesis.beside(geometry.after(network.block_synthesis, latents)),
    )


def measure(config: EmbeddedConfig) -> Complexity:
    """The `Complexity` of a configuration's network; makes it, with random weights."""
    network = EmbeddedNetwork.create(config)
    parts = parts_of(network)
    return Complexity(
        parameters=network.count_params(),
        encoder_macs=parts.analysis.macs,
        decoder_macs=0.0,
        synthesis_macs=parts.synthesis.macs,
        skips_synthesis=True,
        repeats=False,
    )
