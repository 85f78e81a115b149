"""SSIMULACRA2's error, differentiable: how visible a difference is, before its mapping to 0..100.

The constants are those of the PyPI package `ssimulacra2`. Unlike it, blurs here are valid ones,
without a border, and terms of negligible weight are left out.

Reference:
    Jon Sneyers, 2023, SSIMULACRA 2, the metric of the JPEG XL project.
"""

import functools

from keras import ops
import numpy as np

from rnn_codec.errors import CodecError
from rnn_codec.training import similarity

_SCALES = 6
_SCORE_SCALE = 0.9562382616834844
_LEAST_WEIGHT = 0.05
_SMALLEST_SIDE = 8


@functools.cache
def _constants():
    """Absorbance matrix `[3, 3]`, bias, and weights `[scale, norm, kind, channel]`."""
    try:
        from ssimulacra2.ssimulacra2 import kB0, kOpsinAbsorbanceMatrix, weights
    except ImportError as error:
        raise CodecError(
            "training by SSIMULACRA2 needs its package; install it with: pip install "
            "'rnn-codec[train]', or train without it: --seen_share=0"
        ) from error
    mix = np.array(kOpsinAbsorbanceMatrix, np.float32).reshape(3, 3)
    table = np.array(weights, np.float32).reshape(3, _SCALES, 2, 3)
    return mix, float(kB0), np.transpose(table, (1, 2, 3, 0))


def visible_error(original, restored):
    """How visible differences are: 0 where equal; about 6.5 at a score of 48, 3 at 66, .6 at 88.

    Args:
        original, restored: float32 `[B, H, W, 3]`, sRGB in 0..1.

    Returns:
        float32 `[B]`.
    """
    x, p = (
        _linear(ops.transpose(ops.clip(picture, 0.0, 1.0), (0, 3, 1, 2)))  # [B, 3, H, W]
        for picture in (original, restored)
    )
    table, total = _constants()[2], 0.0
    for scale in range(_SCALES):
        if scale:
            x, p = similarity.halve(x), similarity.halve(p)
        if min(x.shape[-2:]) < _SMALLEST_SIDE:
            break
        for kind, values in enumerate(_maps(_xyb(x), _xyb(p))):
            for norm, pool in enumerate((_mean, _fourth)):
                weight = table[scale, norm, kind]  # by channel
                if weight.max() > _LEAST_WEIGHT:
                    total = total + ops.sum(pool(values) * ops.convert_to_tensor(weight), axis=1)
    return _SCORE_SCALE * total


def _maps(x, p):
    """Loss of structure, added edges (artefacts) and lost detail, each `[B, 3, W - 10, H - 10]`."""
    mean_x, mean_p = similarity.blur(x), similarity.blur(p)
    variances = similarity.blur(x * x + p * p) - mean_x * mean_x - mean_p * mean_p
    covariance = similarity.blur(x * p) - mean_x * mean_p
    difference = mean_x - mean_p
    structure = (1.0 - difference * difference) * (2.0 * covariance + 9e-4) / (variances + 9e-4)
    rows, columns = mean_x.shape[-1], mean_x.shape[-2]
    top, left = (x.shape[-2] - rows) // 2, (x.shape[-1] - columns) // 2
    x, p = (
        ops.swapaxes(planes[:, :, top : top + rows, left : left + columns], -1, -2)
        for planes in (x, p)
    )
    edges = (1.0 + ops.abs(p - mean_p)) / (1.0 + ops.abs(x - mean_x)) - 1.0
    return ops.relu(1.0 - structure), ops.relu(edges), ops.relu(-edges)


def _mean(values):
    return ops.mean(values, axis=(2, 3))


def _fourth(values):
    """The root of the mean of fourth powers, which is ruled by the worst places."""
    squares = values * values
    return (ops.mean(squares * squares, axis=(2, 3)) + 1e-12) ** 0.25


def _linear(values):
    """sRGB to light."""
    high = _power((ops.maximum(values, 0.04045) + 0.055) / 1.055, 2.4)
    return ops.where(values <= 0.04045, values / 12.92, high)


def _xyb(light):
    """Light to XYB, moved and scaled to be positive."""
    mix, bias, _ = _constants()
    shape = (-1, 3, light.shape[-2] * light.shape[-1])
    cones = ops.matmul(ops.convert_to_tensor(mix), ops.reshape(light, shape)) + bias
    cones = ops.reshape(cones, (-1, *light.shape[1:]))
    cones = _power(ops.maximum(cones, 1e-5), 1 / 3) - bias ** (1 / 3)
    x, y, b = cones[:, 0], cones[:, 1], cones[:, 2]
    return ops.stack([7.0 * (x - y) + 0.42, 0.5 * (x + y) + 0.01, b - 0.5 * (x + y) + 0.55], axis=1)


def _power(values, exponent):
    """Positive numbers to a power, which as such takes many times as long as these two."""
    return ops.exp(exponent * ops.log(values))
