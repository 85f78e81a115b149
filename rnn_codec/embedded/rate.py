"""Bits of a plane, estimated while training: differentiable, and never part of a file.

The estimate is that of indices sent at once, by a coder that knows no earlier plane; the file's own
coder does better. Half of the positions, as on a checkerboard, are predicted from the other half.
"""

import keras
from keras import ops
import numpy as np

from rnn_codec.embedded.config import BLOCK
from rnn_codec.embedded.network import pick, truncate

_FEATURES = 128  # of the hidden layer
_REACH = 5  # side of the neighbourhood that is looked at


class RateEstimate(keras.layers.Layer):
    """Bits per pixel of indices, under logistic distributions.

    Args:
        planes: int. N.
        latents: int. K.

    Call arguments:
        scaled: float32 `[B, h, w, K]`. Latents in units of their step.
        index: float32 `[B, h, w, K]`. Their indices.
        known: int32 `[B, K]`. The plane of each channel, -1 for one of which nothing is sent.
        plane: int32 `[B]`.
        training: bool. Whether `scaled` has a gradient: half a step up against half a step down.

    Output:
        float32 `[B]`.
    """

    def __init__(self, planes, latents, **kwargs):
        super().__init__(autocast=False, **kwargs)  # indices do not fit into half precision
        self.planes = planes
        self.latents = latents
        policy = self.dtype_policy
        self.context = keras.layers.Conv2D(
            _FEATURES,
            _REACH,
            padding="same",
            data_format="channels_last",
            dtype=policy,
            name="context",
        )
        self.out = keras.layers.Dense(
            2 * latents, kernel_initializer="zeros", dtype=policy, name="out"
        )

    def build(self, input_shape=None):
        begin = 0.35 * np.arange(self.planes, dtype=np.float32)[:, None] - 1.0
        begin = np.repeat(begin, self.latents, axis=1)
        self.log_scale = self.add_weight(
            begin.shape,
            lambda shape, dtype=None: ops.convert_to_tensor(begin),
            name="log_scale",
            autocast=False,
        )
        self.context_plane = self.add_weight(
            (self.planes, _FEATURES), "zeros", name="context_plane", autocast=False
        )
        self.context.build((None, None, None, self.latents))
        self.out.build((None, None, None, _FEATURES))

    def call(self, scaled, *, index, known, plane, training=False):
        _, rows, columns, _ = scaled.shape
        odd = np.add.outer(np.arange(rows), np.arange(columns)) % 2
        odd = ops.convert_to_tensor(odd.astype(np.float32)[None, :, :, None])
        seen = ops.sign(index) * ops.log1p(ops.abs(index)) * (1.0 - odd)
        bias = ops.take(ops.convert_to_tensor(self.context_plane), plane, axis=0)[:, None, None]
        features = self.context(seen)  # in the policy's precision
        features = ops.relu(features + ops.cast(bias, features.dtype))
        predicted = ops.cast(self.out(features), "float32") * odd
        mean, log_scale = predicted[..., : self.latents], predicted[..., self.latents :]
        log_scale = ops.clip(pick(self.log_scale, known) + log_scale, -4.0, 6.0)
        inverse_scale = ops.exp(-log_scale)
        bits = _bits(index, mean, inverse_scale)
        if training:
            high = _bits(truncate(scaled + 0.5), mean, inverse_scale)
            slope = high - _bits(truncate(scaled - 0.5), mean, inverse_scale)
            bits = bits + ops.stop_gradient(slope) * (scaled - ops.stop_gradient(scaled))
        sent = ops.cast(known >= 0, "float32")[:, None, None, :]
        return ops.sum(bits * sent, axis=(1, 2, 3)) / (rows * columns * BLOCK**2)


def _bits(index, mean, inverse_scale):
    """Bits of indices: of an interval of one step, or of the dead zone's two."""
    index = ops.stop_gradient(index)
    low = ops.where(index > 0, index, index - 1.0)  # -1 at zero
    high = ops.where(index < 0, index, index + 1.0)  # 1 at zero
    probability = ops.sigmoid((high - mean) * inverse_scale) - ops.sigmoid(
        (low - mean) * inverse_scale
    )
    return -1.4426950408889634 * ops.log(ops.maximum(probability, 1e-6))
