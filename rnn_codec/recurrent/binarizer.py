"""Features to bits: real values in, -1 or +1 out, with a gradient that training can use."""

import keras
from keras import ops

from rnn_codec.layers import geometry
from rnn_codec.layers.initializers import GlorotUniform
from rnn_codec.recurrent.block_transform import DensePerIteration


class Binarizer(keras.layers.Layer):
    """Maps features to one bit per channel and position.

    32 channels at 1/16 resolution are 32 / (16 * 16) = 0.125 bits per pixel for each iteration
    before entropy coding; that quotient is the codec's step in rate.

    A 1x1 convolution and tanh give `x` in (-1, 1). In use, the bit is the sign of `x`, and +1 for
    zero. In training it is the sign too (`stochastic=False`; it trains much faster here), or, as in
    the paper, +1 with probability `(1 + x) / 2`; the gradient passes straight through to `x`.

    Args:
        filters: int. Bits per position. Defaults to 32.
        stochastic: bool. Whether training draws the bits. Defaults to False.
        seed: int. Of the draws.
        iterations: int. With a 1x1 convolution of its own for each; None: one for all.

    Call arguments:
        inputs: features.
        index: int or scalar tensor. The iteration, from 0; not used where there is one for all.
        training: bool.

    Input shape:
        `[batch, height/16, width/16, channels]`.

    Output shape:
        `[batch, height/16, width/16, filters]`, each value -1.0 or 1.0.

    Reference:
        Toderici et al., 2015, https://arxiv.org/abs/1511.06085, section 3.2.
    """

    def __init__(self, filters=32, stochastic=False, seed=0, iterations=None, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.stochastic = stochastic
        self.seed = seed
        self.iterations = iterations
        if iterations is None:
            self.conv = keras.layers.Conv2D(
                filters,
                1,
                kernel_initializer=GlorotUniform(),
                dtype=self.dtype_policy,
                name="conv",
            )
        else:
            self.conv = DensePerIteration(
                iterations, filters, bias=0.0, dtype=self.dtype_policy, name="conv"
            )
        if stochastic:
            self.seed_generator = keras.random.SeedGenerator(seed)

    def build(self, input_shape):
        self.conv.build(input_shape)

    def geometry(self, before):
        return geometry.after(self.conv, before)

    def call(self, inputs, *, index=None, training=False):
        options = {} if self.iterations is None else {"index": index}
        mean = ops.tanh(self.conv(inputs, **options))
        threshold = 0.0
        if training and self.stochastic:
            threshold = keras.random.uniform(
                ops.shape(mean), -1.0, 1.0, dtype=mean.dtype, seed=self.seed_generator
            )
        # Not ops.sign: its zero at zero would be neither bit.
        bits = ops.where(mean >= threshold, 1.0, -1.0)
        bits = ops.cast(bits, mean.dtype)
        # The bracket is exactly zero, so that the bits stay exact: `mean + (bits - mean)` rounds.
        return bits + (mean - ops.stop_gradient(mean)) if training else bits
