"""Losses of the hybrid networks. Pictures are `[B, H, W, C]` in [0, 1]."""

import math
from typing import Any

from keras import ops
import numpy as np

from rnn_codec.hybrid.networks import split_luma

# The squared error of 35 dB, of pixels in [0, 1]: batches with less count less. Else those of high
# qualities, which hardly change, would drive the network.
_SMALL_ERROR = 3e-4

# The size of the cosine transform that estimates bits, and about what JPEG of quality 40 has as the
# step of its lower frequencies, 25 levels.
_BLOCK, _STEP = 8, 0.1


def error_in_decibels(original: Any, restored: Any) -> Any:
    """The mean squared error of a batch in dB: its gradient does not fade as errors get small."""
    error = ops.mean(ops.square(original - restored))
    return 10.0 / math.log(10.0) * ops.log(error + _SMALL_ERROR)


def estimated_bits(pictures: Any) -> Any:
    """Bits per sample of pictures `[B, H, W, C]` in a codec of 8x8 blocks, about; differentiable.

    A coefficient of a block's cosine transform takes log2(1 + |c| / step) bits.
    """
    if pictures.shape[-1] == 3:
        pictures = ops.concatenate(split_luma(pictures), axis=-1)
    planes = [pictures[..., i : i + 1] for i in range(pictures.shape[-1])]
    kernel = _cosine_kernel()
    coefficients = [
        ops.conv(plane, kernel, strides=_BLOCK, data_format="channels_last") for plane in planes
    ]
    magnitudes = ops.abs(ops.stack(coefficients)[..., 1:])  # the means cost little
    return ops.mean(ops.log(1.0 + magnitudes / _STEP)) / math.log(2.0)


def _cosine_kernel():
    """The orthonormal transform of a block as a convolution: `[8, 8, 1, 64]`."""
    places = np.arange(_BLOCK)
    basis = np.cos(np.pi * places[:, None] * (2 * places + 1) / (2 * _BLOCK))  # frequency, place
    basis *= np.sqrt(np.where(places == 0, 1, 2) / _BLOCK)[:, None]
    kernel = np.einsum("ua,vb->abuv", basis, basis)
    return kernel.reshape(_BLOCK, _BLOCK, 1, _BLOCK**2).astype(np.float32)
