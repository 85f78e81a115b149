"""A block transform of its own for each iteration, beside the recurrent network.

Where all iterations share all weights they refine the same few coefficients of a block, one bit
each, and late ones gain next to nothing. Here each iteration `i` has directions ("atoms") of its
own in the space of a 16x16 block, and how far a bit goes along them depends on what the decoder
knows of the block, the state `h` of its first cell:

    a[i]  = s(G[i] h) * E[i] r                   analysis: more features for the binarizer
    m[i]  = m[i-1] + F[i] (s(A[i] h') * U[i] b)  synthesis: more features for the picture

`r` is the residual of the block, `b` its bits, `m` a sum as large as the block, which nothing
bounds, `s` the softplus, `h'` the state after the bits came in.

`B` is the batch, `H, W` the padded size of the picture.
"""

import math

import keras
from keras import ops

from rnn_codec.layers import geometry
from rnn_codec.layers.common import block_means, space_to_depth
from rnn_codec.layers.initializers import GlorotUniform
from rnn_codec.recurrent.config import STRIDE

SAMPLES = 3 * STRIDE**2  # of a block

# Where training starts: gates of one, steps of an eighth. Both are behind a softplus.
_GATE_BIAS, _STEP_BIAS = 0.54, -2.0

# SSIM's constant for contrast, for pixels in [-1, 1].
_CONTRAST = (2 * 0.03) ** 2


class DensePerIteration(keras.layers.Layer):
    """A matrix, and a bias, of its own for each iteration. `[..., in]` -> `[..., units]`.

    Args:
        iterations: int.
        units: int.
        bias: float, what all biases start from, or None for a layer without.

    Call arguments:
        inputs: `[..., in]`.
        index: int, or an integer tensor without dimensions. The iteration, from 0.
    """

    def __init__(self, iterations, units, bias=None, **kwargs):
        super().__init__(**kwargs)
        self.iterations = iterations
        self.units = units
        self.initial_bias = bias

    def build(self, input_shape):
        shape = (self.iterations, input_shape[-1], self.units)
        self.kernel = self.add_weight(shape=shape, initializer=GlorotUniform(), name="kernel")
        self.bias = None
        if self.initial_bias is not None:
            constant = keras.initializers.Constant(self.initial_bias)
            shape = (self.iterations, self.units)
            self.bias = self.add_weight(shape=shape, initializer=constant, name="bias")

    def call(self, inputs, *, index):
        outputs = ops.matmul(inputs, ops.cast(self.kernel[index], self.compute_dtype))
        if self.bias is None:
            return outputs
        return outputs + ops.cast(self.bias[index], self.compute_dtype)

    def geometry(self, before):
        return before.computing(lambda: math.prod(self.kernel.shape[1:]))


class BlockAnalysis(keras.layers.Layer):
    """Coefficients of a residual: `[B, H, W, 3]` -> `[B, H/16, W/16, atoms]`.

    Args:
        iterations: int.
        atoms: int. Directions per iteration.

    Call arguments:
        residual: `[B, H, W, 3]`.
        known: `[B, H/16, W/16, C]`, the decoder's state.
        index: int or scalar tensor. The iteration, from 0.
    """

    def __init__(self, iterations, atoms, **kwargs):
        super().__init__(**kwargs)
        self.project = DensePerIteration(iterations, atoms, dtype=self.dtype_policy, name="project")
        self.gate = DensePerIteration(
            iterations, atoms, _GATE_BIAS, dtype=self.dtype_policy, name="gate"
        )

    def call(self, residual, known, *, index):
        blocks = space_to_depth(residual, STRIDE)
        return self.project(blocks, index=index) * ops.softplus(self.gate(known, index=index))

    def geometry(self, before):
        return geometry.through([self.project, self.gate], before.scaled(STRIDE))


class BlockSynthesis(keras.layers.Layer):
    """What bits add to each block of pixels. `[B, h, w, bits]` -> `[B, h, w, 768]`.

    Args:
        iterations: int.
        atoms: int. Directions per iteration.

    Call arguments:
        bits: `[B, h, w, bits]`, -1, 1, or 0 for a block that is to stay.
        known: `[B, h, w, C]`, the decoder's state.
        index: int or scalar tensor. The iteration, from 0.
    """

    def __init__(self, iterations, atoms, **kwargs):
        super().__init__(**kwargs)
        self.spread = DensePerIteration(iterations, atoms, dtype=self.dtype_policy, name="spread")
        self.step = DensePerIteration(
            iterations, atoms, _STEP_BIAS, dtype=self.dtype_policy, name="step"
        )
        self.restore = DensePerIteration(
            iterations, SAMPLES, dtype=self.dtype_policy, name="restore"
        )

    def call(self, bits, known, *, index):
        steps = self.spread(bits, index=index) * ops.softplus(self.step(known, index=index))
        return self.restore(steps, index=index)

    def geometry(self, before):
        return geometry.through([self.spread, self.step, self.restore], before)


def visible_error(image, reconstruction):
    """How bad each 16x16 block looks: about what SSIM loses there. Needs the original.

    In 8x8 blocks: the mean squared error plus three times the square of the mean error (a shift of
    a smooth area is seen before anything else), over the variance of the original plus a constant.

    Args:
        image, reconstruction: `[B, H, W, 3]` in [-1, 1].

    Returns:
        `[B, H/16, W/16, 1]`, the mean over the four 8x8 blocks and the channels.
    """
    side = STRIDE // 2
    error = image - ops.clip(reconstruction, -1.0, 1.0)
    squares = block_means(ops.square(error), side)
    squares = squares + 3.0 * ops.square(block_means(error, side))
    means = block_means(image, side)
    variance = block_means(ops.square(image), side) - ops.square(means)
    errors = squares / (variance + _CONTRAST)  # [B, H/8, W/8, 3]
    return ops.mean(block_means(errors, 2), axis=-1, keepdims=True)
