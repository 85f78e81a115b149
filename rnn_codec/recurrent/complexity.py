"""What the recurrent codec's network costs, from its layers."""

import math

from rnn_codec.layers.complexity import Complexity, kernel_macs, stack_macs
from rnn_codec.recurrent.architectures import LinearSkip
from rnn_codec.recurrent.block_transform import DensePerIteration
from rnn_codec.recurrent.config import CodecConfig
from rnn_codec.recurrent.progressive import ProgressiveNetwork


def measure(config: CodecConfig) -> Complexity:
    """The `Complexity` of a configuration's network; makes it, with random weights."""
    network = ProgressiveNetwork.create(config)
    encoder, scale = stack_macs(network.encoder.stack, 1.0)
    binarizer = kernel_macs(network.binarizer.conv) / scale**2
    decoder = 0.0
    if config.atoms:
        encoder += _dense_macs(network.block_analysis) / scale**2
        decoder = (_dense_macs(network.embedding) + _dense_macs(network.block_synthesis)) / scale**2
    stack, scale = stack_macs(network.decoder.stack, scale)
    decoder += stack
    synthesis = _synthesis_macs(network.synthesis, scale)
    if network.gain is not None:
        synthesis += stack_macs(network.gain.layers, 1.0)[0]
    return Complexity(
        parameters=network.count_params(),
        encoder_macs=encoder + binarizer,
        decoder_macs=decoder,
        synthesis_macs=synthesis,
        skips_synthesis=not network.accumulates,
    )


def _synthesis_macs(synthesis, scale):
    if isinstance(synthesis, LinearSkip):
        linear = kernel_macs(synthesis.linear) / scale**2
        return linear + stack_macs(synthesis.main.layers, scale)[0]
    return stack_macs(synthesis.layers, scale)[0]


def _dense_macs(layer):
    """MACs of the matrices inside a layer, of which those of one iteration are used."""
    parts = [part for part in layer._flatten_layers() if isinstance(part, DensePerIteration)]
    return sum(math.prod(part.kernel.shape[1:]) for part in parts)
