"""What a network costs: parameters, and multiply-accumulates per pixel and iteration."""

from collections.abc import Iterable
import dataclasses
import math

import keras

from rnn_codec.layers.common import DepthToSpace, SpaceToDepth


@dataclasses.dataclass(frozen=True)
class Complexity:
    """Of one network. MACs are of convolutions, per pixel of the padded picture."""

    parameters: int
    encoder_macs: float  # per iteration, binarizer included
    decoder_macs: float  # per iteration
    synthesis_macs: float  # per picture that is wanted; per iteration where they accumulate
    skips_synthesis: bool  # whether a decoder may leave out pictures that are not wanted

    def encode_macs(self, iterations: int) -> float:
        """Per pixel. The encoder decodes, too, to see what is left."""
        each = self.encoder_macs + self.decoder_macs + self.synthesis_macs
        return iterations * each

    def decode_macs(self, iterations: int) -> float:
        """Per pixel, for the last picture only."""
        pictures = 1 if self.skips_synthesis else iterations
        return iterations * self.decoder_macs + pictures * self.synthesis_macs


def stack_macs(layers: Iterable[keras.layers.Layer], scale: float) -> tuple[float, float]:
    """MACs per pixel of layers in a row, and the stride after them; `scale` is that before."""
    total = 0.0
    for layer in layers:
        if isinstance(layer, DepthToSpace):
            scale /= 2
        elif isinstance(layer, SpaceToDepth):
            scale *= 2
        elif isinstance(layer, keras.layers.Conv2D):
            scale *= layer.strides[0]
            total += kernel_macs(layer) / scale**2
        else:
            # A cell, a residual block: all convolutions give outputs of the layer's own size.
            scale *= getattr(layer, "strides", 1)
            convolutions = [
                part for part in layer._flatten_layers() if isinstance(part, keras.layers.Conv2D)
            ]
            total += sum(kernel_macs(part) for part in convolutions) / scale**2
    return total, scale


def kernel_macs(layer: keras.layers.Layer) -> int:
    """MACs of a convolution for one position of its output."""
    return math.prod(layer.kernel.shape)
