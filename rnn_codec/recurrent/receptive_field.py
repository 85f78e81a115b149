"""How far around a block one iteration of a network reads, from the geometry of its layers.

A reach is in pixels: a result depends on nothing that lies farther outside the aligned block of
pixels, or of its own position where that is larger, than this. Tiles need margins of it.
"""

import dataclasses

import keras

from rnn_codec.layers.common import DepthToSpace, ResidualBlock
from rnn_codec.recurrent import architectures, cells

_POINTWISE = (keras.layers.ReLU, keras.layers.Rescaling)


@dataclasses.dataclass(frozen=True)
class Reach:
    """Of the parts of one iteration, in pixels."""

    encoder: int  # from bits to residual and states
    decoder: int  # from features to bits and states
    synthesis: int  # from the picture to features
    gain: int = 0  # from gains to the picture; 0 where there are none


def measure(network):
    """The `Reach` of a `progressive.ProgressiveNetwork`.

    What it has beside its stacks, `block_transform` and the rest, stays in the block.
    """
    encoder, scale = _through(network.encoder.stack)
    decoder, scale = _through(network.decoder.stack, scale)
    synthesis, _ = _through([network.synthesis], scale)
    gain = 0 if network.gain is None else _through(network.gain.layers)[0]
    return Reach(encoder, decoder, synthesis, gain)


def _through(layers, scale=1):
    """Reach of layers in a row, and pixels per position after them; `scale` is that before."""
    reach = 0
    for layer in layers:
        if isinstance(layer, DepthToSpace):
            scale //= 2
        elif isinstance(layer, keras.layers.Conv2D):
            reach += scale * _overhang(layer.kernel_size[0], layer.strides[0])
            scale *= layer.strides[0]
        elif isinstance(layer, cells.ConvRNNCell):
            reach += scale * _overhang(layer.kernel_size, layer.strides)
            scale *= layer.strides
            # Convolutions of the state, one after the other; the first sees no input of this step.
            state = scale * _overhang(layer.recurrent_kernel_size)
            reach = max(reach, state) + (layer.recurrent_depth - 1) * state
        elif isinstance(layer, ResidualBlock):
            reach += _through([layer.first, layer.second], scale)[0]
        elif isinstance(layer, architectures.LinearSkip):  # its linear map stays in its block
            inner, scale = _through(layer.main.layers, scale)
            reach += inner
        elif isinstance(layer, keras.Sequential):
            inner, scale = _through(layer.layers, scale)
            reach += inner
        elif not isinstance(layer, _POINTWISE):
            raise TypeError(f"no reach is known of a {type(layer).__name__}")
    return reach, scale


def _overhang(kernel, strides=1):
    """How many positions a kernel with padding reads beyond the `strides` of its output, a side."""
    return max(0, -(-(kernel - strides) // 2))
