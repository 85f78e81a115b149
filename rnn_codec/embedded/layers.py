"""Layers of the embedded codec's transform.

Every convolution pads by repeating the edge, so that the borders and corners of a flat picture stay
flat. Pictures and features are `[B, H, W, C]`.
"""

import math

import keras
from keras import ops
import numpy as np

from rnn_codec.embedded.config import BLOCK, SAMPLES
from rnn_codec.layers import geometry
from rnn_codec.layers.common import space_to_depth
from rnn_codec.layers.initializers import GlorotUniform

# Adam moves every number by about the learning rate, and the entries of a block transform's basis
# are small, so its kernel is stored as a multiple of what is used: it moves as much less.
_KERNEL_UNIT = 0.125


def pad_edge(features, margin):
    """Repeats the edge rows and columns. `[B, H, W, C]` -> `[B, H + 2 margin, W + 2 margin, C]`."""
    for axis in (1, 2):
        low, high = (features[:, :1], features[:, -1:])
        if axis == 2:
            low, high = features[:, :, :1], features[:, :, -1:]
        features = ops.concatenate([low] * margin + [features] + [high] * margin, axis=axis)
    return features


class EdgeConv2D(keras.layers.Conv2D):
    """A convolution of odd kernel that pads both sides alike, by repeating the edge.

    Args:
        filters: int.
        kernel_size: int, odd.
        strides: int. It divides the sides of what comes in.

    Input shape:
        `[B, H, W, C]`.

    Output shape:
        `[B, H / strides, W / strides, filters]`.
    """

    def __init__(self, filters, kernel_size, strides=1, **kwargs):
        kwargs.setdefault("kernel_initializer", GlorotUniform())
        super().__init__(
            filters,
            kernel_size,
            strides=strides,
            padding="valid",
            data_format="channels_last",
            **kwargs,
        )
        self.margin = kernel_size // 2

    def call(self, inputs):
        return super().call(pad_edge(inputs, self.margin))

    def compute_output_shape(self, input_shape):
        batch, height, width, _ = input_shape
        sides = [None if side is None else -(-side // self.strides[0]) for side in (height, width)]
        return (batch, *sides, self.filters)

    def geometry(self, before):
        # As both sides are padded alike, the left one reads at least as far as the right.
        result = before.reaching(self.margin).scaled(self.strides[0])
        return result.computing(geometry.kernel_macs(self))


class GDN(keras.layers.Layer):
    """Generalised divisive normalisation: `x / sqrt(beta + gamma x^2)`, or its inverse, a product.

    Args:
        inverse: bool.

    Input shape:
        `[B, H, W, C]`; the output has the same.

    Reference:
        Balle, Laparra and Simoncelli, 2016, https://arxiv.org/abs/1511.06281.
    """

    def __init__(self, inverse=False, **kwargs):
        super().__init__(**kwargs)
        self.inverse = inverse

    def build(self, input_shape):
        channels = input_shape[-1]
        begin = 0.1 * np.eye(channels, dtype=np.float32) + 1e-3
        self.gamma = self.add_weight(
            (channels, channels),
            lambda shape, dtype=None: ops.convert_to_tensor(begin, dtype=dtype),
            name="gamma",
        )
        self.beta = self.add_weight((channels,), "ones", name="beta")

    def call(self, inputs):
        # Absolute values keep the sum positive, wherever training moves the numbers.
        gamma = ops.cast(ops.abs(self.gamma), self.compute_dtype)
        beta = ops.cast(ops.abs(self.beta) + 1e-4, self.compute_dtype)
        norm = ops.sqrt(ops.matmul(inputs * inputs, gamma) + beta)
        return inputs * norm if self.inverse else inputs / norm

    def compute_output_shape(self, input_shape):
        return input_shape

    def geometry(self, before):
        return before.computing(lambda: math.prod(self.gamma.shape))


class BlockAnalysis(keras.layers.Layer):
    """A linear transform of 16x16 blocks. `[B, H, W, 3]` -> `[B, H/16, W/16, latents]`, float32.

    Args:
        latents: int.
    """

    def __init__(self, latents, **kwargs):
        super().__init__(**kwargs)
        self.latents = latents

    def build(self, input_shape):
        self.kernel = self.add_weight((SAMPLES, self.latents), GlorotUniform(), name="kernel")
        self.log_scale = self.add_weight((self.latents,), "zeros", name="log_scale", autocast=False)

    def call(self, pictures):
        blocks = space_to_depth(pictures, BLOCK)
        kernel = ops.cast(_KERNEL_UNIT * self.kernel, self.compute_dtype)
        return ops.cast(ops.matmul(blocks, kernel), "float32") * ops.exp(self.log_scale)

    def compute_output_shape(self, input_shape):
        batch, height, width, _ = input_shape
        sides = [None if side is None else side // BLOCK for side in (height, width)]
        return (batch, *sides, self.latents)

    def geometry(self, before):
        return before.scaled(BLOCK).computing(geometry.kernel_macs(self))


class BlockSynthesis(keras.layers.Layer):
    """The linear way back. `[B, h, w, latents]` -> `[B, 16 h, 16 w, 3]`, float32."""

    def build(self, input_shape):
        latents = input_shape[-1]
        self.kernel = self.add_weight((latents, SAMPLES), GlorotUniform(), name="kernel")
        self.log_scale = self.add_weight((latents,), "zeros", name="log_scale", autocast=False)

    def call(self, values):
        scale = ops.cast(ops.exp(self.log_scale), self.compute_dtype)
        kernel = ops.cast(_KERNEL_UNIT * self.kernel, self.compute_dtype)
        blocks = ops.cast(ops.matmul(values * scale, kernel), "float32")
        return depth_to_space(blocks, BLOCK)

    def compute_output_shape(self, input_shape):
        batch, rows, columns, _ = input_shape
        sides = [None if side is None else side * BLOCK for side in (rows, columns)]
        return (batch, *sides, 3)

    def geometry(self, before):
        return before.computing(geometry.kernel_macs(self)).scaled(1 / BLOCK)


def block_kernel(matrix):
    """A matrix as the block transforms store it."""
    return np.asarray(matrix, np.float32) / _KERNEL_UNIT


def block_matrix(kernel):
    """The matrix of a stored kernel."""
    return np.asarray(kernel, np.float32) * _KERNEL_UNIT


def depth_to_space(features, block):
    """Channels as blocks. `[B, h, w, block * block * C]` -> `[B, block * h, block * w, C]`."""
    return ops.depth_to_space(features, block, data_format="channels_last")
