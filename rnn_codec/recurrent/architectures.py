"""Encoder and decoder stacks built from cells: one iteration each, no loop.

`B` is the batch, `H, W` the padded size of the picture. An encoder maps what it sees of the picture
and its states to features at 1/16; a decoder maps bits and its states to features; a synthesis maps
these to a picture in [-1, 1]. Synthesis has no state: only the pictures that are wanted need it.
"""

import keras
from keras import ops

from rnn_codec.layers import geometry
from rnn_codec.layers.common import DepthToSpace, ResidualBlock
from rnn_codec.layers.initializers import GlorotUniform
from rnn_codec.recurrent import cells


class RecurrentStack(keras.layers.Layer):
    """Layers called in order, some of them cells whose states it threads through.

    Args:
        layers: list of layers; a `cells.ConvRNNCell` is called with its states.

    Call arguments:
        inputs: `[B, height, width, channels]`.
        states: list, for each cell in order, of its list of states.

    Output:
        The last layer's output and the new states.
    """

    def __init__(self, layers, **kwargs):
        super().__init__(**kwargs)
        self.stack = layers

    def geometry(self, before):
        return geometry.through(self.stack, before)

    def initial_states(self, batch, height, width):
        """Zeros for each cell in order: its list of states for inputs of `height` by `width`."""
        states, place = [], geometry.Geometry()
        for layer in self.stack:
            place = geometry.after(layer, place)
            if isinstance(layer, cells.ConvRNNCell):
                size = place.positions(height), place.positions(width)
                states.append(layer.initial_states(batch, *size))
        return states

    def call(self, inputs, states):
        features, new_states, states = inputs, [], list(states)
        for layer in self.stack:
            if isinstance(layer, cells.ConvRNNCell):
                features, state = layer(features, states.pop(0))
                new_states.append(state)
            else:
                features = layer(features)
        return features, new_states


class LinearSkip(keras.layers.Layer):
    """Layers in order, plus one linear map from each position to the pixels of its block.

    With it a decoder is a block transform from the first step of training on, to which the layers
    add what they learn.

    Args:
        layers: list of layers that end with `block` times the size of their input, and 3 channels.
        block: int. Pixels on a side.

    Input shape:
        `[B, H, W, C]`.

    Output shape:
        `[B, block * H, block * W, 3]`.
    """

    def __init__(self, layers, block, **kwargs):
        super().__init__(**kwargs)
        self.block = block
        self.main = keras.Sequential(layers, name="layers")
        self.linear = _conv(3 * block * block, 1, "linear", use_bias=False)

    def build(self, input_shape):
        self.main.build(input_shape)
        self.linear.build(input_shape)

    def call(self, inputs):
        pixels = ops.depth_to_space(self.linear(inputs), self.block, data_format="channels_last")
        return pixels + self.main(inputs)

    def geometry(self, before):
        pixels = geometry.after(self.linear, geometry.Geometry(before.scale))
        return geometry.after(self.main, before).beside(pixels)


def _conv(filters, kernel_size, name, strides=1, activation=None, use_bias=True):
    return keras.layers.Conv2D(
        filters,
        kernel_size,
        strides=strides,
        padding="same",
        activation=activation,
        use_bias=use_bias,
        kernel_initializer=GlorotUniform(),
        name=name,
    )


def stacked_encoder(config):
    """The paper's encoder. `[B, H, W, 3]` -> `[B, H/16, W/16, 512]`; cells at 1/4, 1/8, 1/16."""
    cell = cells.CELLS[config.encoder_cell]
    layers = [_conv(config.scaled(64), 3, "conv", strides=2, use_bias=False)]
    for index, filters in enumerate((256, 512, 512), start=1):
        layers.append(cell(config.scaled(filters), strides=2, name=f"rnn_{index}"))
    return RecurrentStack(layers, name="encoder")


def stacked_decoder(config):
    """The paper's decoder. `[B, H/16, W/16, bits]` -> `[B, H, W, 32]`; cells at 1/16 to 1/2."""
    cell = cells.CELLS[config.decoder_cell]
    layers = [_conv(config.scaled(512), 1, "conv", use_bias=False)]
    # (filters, kernel, hidden kernel); the wide hidden kernels of the last two are the paper's.
    rows = ((512, 2, 1), (512, 3, 1), (256, 3, 3), (128, 3, 3))
    for index, (filters, kernel, hidden_kernel) in enumerate(rows, start=1):
        layers.append(
            cell(
                config.scaled(filters),
                kernel_size=kernel,
                recurrent_kernel_size=hidden_kernel,
                name=f"rnn_{index}",
            )
        )
        layers.append(DepthToSpace(name=f"depth_to_space_{index}"))
    return RecurrentStack(layers, name="decoder")


def stacked_synthesis(config):
    """The paper's last convolution. `[B, H, W, 32]` -> `[B, H, W, 3]`."""
    del config
    return keras.Sequential(
        [_conv(3, 1, "conv", activation="tanh", use_bias=False)], name="synthesis"
    )


def two_scale_encoder(config):
    """Recurrent at 1/8 and 1/16 only. `[B, H, W, 3 or 6]` -> `[B, H/16, W/16, 192]`."""
    cell = cells.CELLS[config.encoder_cell]
    shape = {"kernel_size": 3, "recurrent_kernel_size": 3, "strides": 2, "use_bias": True}
    layers = [
        # One strided convolution instead of two small ones: at full resolution memory traffic, not
        # arithmetic, takes the time.
        _conv(config.scaled(64), 8, "conv_1", strides=4, activation="relu"),
        _conv(config.scaled(64), 3, "conv_2", activation="relu"),
        cell(config.scaled(96), **shape, name="rnn_1"),
        cell(config.scaled(192), **shape, name="rnn_2"),
    ]
    return RecurrentStack(layers, name="encoder")


def two_scale_decoder(config):
    """Recurrent at 1/16 and 1/8. `[B, H/16, W/16, bits]` -> `[B, H/8, W/8, 96]`."""
    cell = cells.CELLS[config.decoder_cell]
    shape = {"kernel_size": 3, "recurrent_kernel_size": 3, "use_bias": True}
    layers = [
        _conv(config.scaled(192), 1, "conv", activation="relu"),
        cell(config.scaled(192), **shape, name="rnn_1"),
        _conv(4 * config.scaled(48), 1, "expand"),
        DepthToSpace(name="depth_to_space"),
        cell(config.scaled(96), **shape, name="rnn_2"),
    ]
    return RecurrentStack(layers, name="decoder")


def two_scale_synthesis(config):
    """Feed-forward from 1/8. `[B, H/8, W/8, 96]` -> `[B, H, W, 3]`."""
    return keras.Sequential(_upsampling(config, kernel_size=3), name="synthesis")


def _upsampling(config, kernel_size):
    """Layers from 1/8 to pixels; the first convolution has this kernel."""
    return [
        _conv(4 * config.scaled(64), kernel_size, "expand_1"),
        DepthToSpace(name="depth_to_space_1"),  # [B, H/4, W/4, 64]
        ResidualBlock(name="residual_1"),
        ResidualBlock(name="residual_2"),
        keras.layers.ReLU(name="relu"),
        _conv(4 * config.scaled(32), 3, "expand_2", activation="relu"),
        DepthToSpace(name="depth_to_space_2"),  # [B, H/2, W/2, 32]
        _conv(12, 3, "pixels"),
        DepthToSpace(name="depth_to_space_3"),  # [B, H, W, 3]
    ]


def wide_two_scale_encoder(config):
    """Recurrent at 1/8 and 1/16 only. `[B, H, W, 3 or 6]` -> `[B, H/16, W/16, 384]`."""
    cell = cells.CELLS[config.encoder_cell]
    shape = {"kernel_size": 3, "strides": 2, "use_bias": True}
    layers = [
        # One strided convolution instead of two small ones: at full resolution memory traffic, not
        # arithmetic, takes the time.
        _conv(config.scaled(96), 8, "conv", strides=4, activation="relu"),
        cell(config.scaled(192), **shape, name="rnn_1"),
        cell(config.scaled(384), **shape, name="rnn_2"),
    ]
    return RecurrentStack(layers, name="encoder")


def wide_two_scale_decoder(config):
    """Recurrent at 1/16 and 1/8. `[B, H/16, W/16, bits]` -> `[B, H/8, W/8, 256]`.

    The states hold all that the bits so far told of the picture, 1,536 numbers for 768 samples of a
    16x16 block. Their own convolutions are 1x1, so width is cheap; those of the inputs look around.
    """
    cell = cells.CELLS[config.decoder_cell]
    shape = {"kernel_size": 3, "use_bias": True}
    layers = [
        cell(config.scaled(512), **shape, name="rnn_1"),
        _conv(4 * config.scaled(96), 1, "expand"),
        DepthToSpace(name="depth_to_space"),
        cell(config.scaled(256), **shape, name="rnn_2"),
    ]
    return RecurrentStack(layers, name="decoder")


def wide_two_scale_synthesis(config):
    """Feed-forward from 1/8. `[B, H/8, W/8, 256]` -> `[B, H, W, 3]`."""
    return LinearSkip(_upsampling(config, kernel_size=1), block=8, name="synthesis")


def gain_estimator():
    """Gain per 32x32 block from the last decoded residual. `[B, H, W, 3]` -> `[B, H/32, W/32, 1]`.

    Sizes are rounded up. Five convolutions of stride 2 with ELU, plus two: a gain lies in (1, inf).

    Reference:
        Toderici et al., 2017, section 3.2 ("Residual Scaling").
    """
    layers = [_conv(32, 3, f"conv_{i}", strides=2, activation="elu") for i in range(1, 5)]
    layers.append(_conv(1, 2, "conv_5", strides=2, activation="elu"))
    return keras.Sequential([*layers, keras.layers.Rescaling(1.0, offset=2.0)], name="gain")


ARCHITECTURES = {
    "stacked": (stacked_encoder, stacked_decoder, stacked_synthesis),
    "two_scale": (two_scale_encoder, two_scale_decoder, two_scale_synthesis),
    "wide_two_scale": (
        wide_two_scale_encoder,
        wide_two_scale_decoder,
        wide_two_scale_synthesis,
    ),
}
