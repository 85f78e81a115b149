"""What a network costs: parameters, and multiply-accumulates per pixel and iteration."""

import dataclasses
import math

import keras

from rnn_codec.hybrid.config import HybridConfig
from rnn_codec.hybrid.networks import HybridNetwork, SpaceToDepth
from rnn_codec.layers.common import DepthToSpace, ResidualBlock
from rnn_codec.recurrent import architectures, cells, progressive
from rnn_codec.recurrent.block_transform import DensePerIteration


@dataclasses.dataclass(frozen=True)
class Complexity:
    """Of one network. MACs are of convolutions, per pixel of the padded picture."""

    parameters: int
    encoder_macs: float  # per iteration, binarizer included
    decoder_macs: float  # per iteration
    synthesis_macs: float  # per picture that is wanted; per iteration where they accumulate
    skips_synthesis: bool  # whether a decoder may leave out pictures that are not wanted

    def encode_macs(self, iterations):
        """Per pixel. The encoder decodes, too, to see what is left."""
        each = self.encoder_macs + self.decoder_macs + self.synthesis_macs
        return iterations * each

    def decode_macs(self, iterations):
        """Per pixel, for the last picture only."""
        pictures = 1 if self.skips_synthesis else iterations
        return iterations * self.decoder_macs + pictures * self.synthesis_macs


def measure(config):
    """The `Complexity` of a configuration's network; makes it, with random weights."""
    if isinstance(config, HybridConfig):
        return _measure_hybrid(config)
    network = progressive.ProgressiveNetwork.create(config)
    encoder, scale = _stack_macs(network.encoder.stack, 1.0)
    binarizer = _kernel_macs(network.binarizer.conv) / scale**2
    if config.atoms:
        encoder += _layer_macs(network.block_analysis) / scale**2
    decoder = 0.0
    if config.atoms:
        embedding = _kernel_macs(network.embedding)
        decoder = (embedding + _layer_macs(network.block_synthesis)) / scale**2
    stack, scale = _stack_macs(network.decoder.stack, scale)
    decoder += stack
    synthesis = _synthesis_macs(network.synthesis, scale)
    if network.gain is not None:
        synthesis += _stack_macs(network.gain.layers, 1.0)[0]
    return Complexity(
        parameters=network.count_params(),
        encoder_macs=encoder + binarizer,
        decoder_macs=decoder,
        synthesis_macs=synthesis,
        skips_synthesis=not network.accumulates,
    )


def _measure_hybrid(config):
    """Of ComCNN as encoder and one RecCNN as synthesis; what is between them is no network."""
    network = HybridNetwork.create(config)
    compact = network.compact and _stack_macs(network.compact.layers, 1.0)[0]
    restoration = network.restoration or network.full_restoration
    restoration = restoration and _stack_macs(restoration.layers, 1.0)[0]
    return Complexity(
        parameters=network.count_params(),
        encoder_macs=compact or 0.0,
        decoder_macs=0.0,
        synthesis_macs=restoration or 0.0,
        skips_synthesis=True,
    )


def _synthesis_macs(synthesis, scale):
    if isinstance(synthesis, architectures.LinearSkip):
        linear = _kernel_macs(synthesis.linear) / scale**2
        return linear + _stack_macs(synthesis.main.layers, scale)[0]
    return _stack_macs(synthesis.layers, scale)[0]


def _stack_macs(layers, scale):
    """MACs per pixel of layers in a row, and the stride after them; `scale` is that before."""
    total = 0.0
    for layer in layers:
        if isinstance(layer, DepthToSpace):
            scale /= 2
        elif isinstance(layer, SpaceToDepth):
            scale *= 2
        elif isinstance(layer, keras.layers.Conv2D):
            scale *= layer.strides[0]
            total += _kernel_macs(layer) / scale**2
        elif isinstance(layer, (cells.ConvRNNCell, ResidualBlock)):
            # All their convolutions give outputs of the layer's own size.
            scale *= getattr(layer, "strides", 1)
            total += _layer_macs(layer) / scale**2
    return total, scale


def _layer_macs(layer):
    """MACs of all kernels inside a layer, for one position of its output."""
    kinds = (keras.layers.Conv2D, DensePerIteration)
    return sum(_kernel_macs(part) for part in layer._flatten_layers() if isinstance(part, kinds))


def _kernel_macs(layer):
    shape = layer.kernel.shape
    # Of the kernels of all iterations, one is used.
    return math.prod(shape[1:] if isinstance(layer, DensePerIteration) else shape)
