"""Layers and small functions that networks of several wings use.

`B` is the batch, `H, W` the size of what a layer gets, `C` its channels.
"""

from collections.abc import Iterator
import contextlib

import keras
from keras import ops

from rnn_codec.layers import geometry
from rnn_codec.layers.initializers import GlorotUniform


class DepthToSpace(keras.layers.Layer):
    """`[B, H, W, 4C]` -> `[B, 2H, 2W, C]`: each group of four channels becomes 2x2 pixels."""

    def call(self, inputs):
        return ops.depth_to_space(inputs, 2, data_format="channels_last")

    def geometry(self, before):
        return before.scaled(0.5)


class ResidualBlock(keras.layers.Layer):
    """`x + conv(relu(conv(relu(x))))`, 3x3 each. `[B, H, W, C]` -> the same."""

    def build(self, input_shape):
        channels = input_shape[-1]
        self.first = keras.layers.Conv2D(
            channels,
            3,
            padding="same",
            activation="relu",
            kernel_initializer=GlorotUniform(),
            dtype=self.dtype_policy,
            name="first",
        )
        # Starts as the identity, so that depth does no harm to the first steps of training.
        self.second = keras.layers.Conv2D(
            channels,
            3,
            padding="same",
            kernel_initializer="zeros",
            dtype=self.dtype_policy,
            name="second",
        )
        self.first.build(input_shape)
        self.second.build(input_shape)

    def call(self, inputs):
        return inputs + self.second(self.first(ops.relu(inputs)))

    def geometry(self, before):
        return geometry.through([self.first, self.second], before)


class SpaceToDepth(keras.layers.Layer):
    """`[B, 2H, 2W, C]` -> `[B, H, W, 4C]`: each 2x2 pixels become channels."""

    def call(self, inputs):
        return ops.space_to_depth(inputs, 2, data_format="channels_last")

    def geometry(self, before):
        return before.scaled(2)


def space_to_depth(pictures, block):
    """Blocks as channels. `[B, H, W, C]` -> `[B, H/block, W/block, block * block * C]`."""
    batch, height, width, channels = ops.shape(pictures)
    rows, columns = height // block, width // block
    blocks = ops.reshape(pictures, (batch, rows, block, columns, block, channels))
    blocks = ops.transpose(blocks, (0, 1, 3, 2, 4, 5))
    return ops.reshape(blocks, (batch, rows, columns, block * block * channels))


def block_means(pictures, side):
    """`[B, H, W, C]` -> `[B, H/side, W/side, C]`. Rows first: both axes at once take four times."""
    batch, height, width, channels = ops.shape(pictures)
    rows, columns = height // side, width // side
    sums = ops.sum(ops.reshape(pictures, (batch, rows, side, width * channels)), axis=2)
    sums = ops.sum(ops.reshape(sums, (batch, rows, columns, side, channels)), axis=3)
    return sums / side**2


@contextlib.contextmanager
def dtype_policy(policy: str) -> Iterator[None]:
    """Sets Keras' global policy for a `with` block, as layers take theirs when they are made."""
    saved = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(saved)
