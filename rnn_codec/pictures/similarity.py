"""Multi-scale structural similarity in NumPy: the definition, which every figure goes by.

Training differentiates its twin, `training.similarity`; a test keeps the two equal.

Gaussian windows are applied as products with a banded matrix, which is much faster than the
equivalent one-channel convolution.

Pictures are float32 `[..., H, W, C]` with values 0 to 1; the two arguments broadcast against each
other.

Reference:
    Wang, Simoncelli and Bovik, 2003, "Multiscale structural similarity for image quality
    assessment".
"""

from collections.abc import Iterable, Iterator

import numpy as np

WINDOW = 11
SIGMA = 1.5
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)

# The least side for which the coarsest of the five scales still holds a whole window.
MINIMUM_SIDE = 2 ** (len(SCALE_WEIGHTS) - 1) * (WINDOW - 1) + 1

# SSIM's constants for luminance and contrast.
C1, C2 = 0.01**2, 0.03**2

# A banded matrix has so many columns: larger ones multiply more zeros, smaller ones are many calls.
BLOCK = 128


def ms_ssim(original: np.ndarray, reconstruction: np.ndarray) -> np.ndarray:
    """Multi-scale structural similarity, as `tf.image.ssim_multiscale` computes it.

    Args:
        original: `[..., H, W, C]`, 0 to 1. Sides of at least 161, else coarse windows shrink.
        reconstruction: the same, broadcast against `original`.

    Returns:
        `[...]`, the mean over channels. At most 1; negative terms count as 0.
    """
    return combined(np.mean(values, axis=(-2, -1)) for values in maps(original, reconstruction))


def combined(terms: Iterable[np.ndarray]) -> np.ndarray:
    """MS-SSIM from the means of each scale's map, `[..., C]`. Returns `[...]`."""
    product = np.float32(1.0)
    for weight, term in zip(SCALE_WEIGHTS, terms):
        product = product * np.maximum(term, 0.0) ** np.float32(weight)
    return np.mean(product, axis=-1)


def maps(original: np.ndarray, reconstruction: np.ndarray) -> Iterator[np.ndarray]:
    """Yields contrast-structure for each scale, and for the coarsest SSIM.

    Each is `[..., C, W - 10, H - 10]` of its scale: transposed, which no mean over it notices.
    """
    original, reconstruction = _channels_first(original), _channels_first(reconstruction)
    for scale in range(len(SCALE_WEIGHTS)):
        if scale:
            original, reconstruction = _halve(original), _halve(reconstruction)
        luminance, contrast = _ssim_maps(original, reconstruction)
        coarsest = scale == len(SCALE_WEIGHTS) - 1
        yield luminance * contrast if coarsest else contrast


def band(outputs: int, window: int) -> np.ndarray:
    """Gaussian window of each output in a column: float32 `[outputs + window - 1, outputs]`."""
    offsets = np.arange(window) - (window - 1) / 2
    weights = np.exp(-(offsets**2) / (2 * SIGMA**2))
    matrix = np.zeros((outputs + window - 1, outputs), np.float32)
    for column in range(outputs):
        matrix[column : column + window, column] = weights / weights.sum()
    return matrix


def _ssim_maps(x, y):
    mean_x, mean_y = _blur(x), _blur(y)
    squares, product = mean_x**2 + mean_y**2, mean_x * mean_y
    luminance = (2.0 * product + C1) / (squares + C1)
    variances = _blur(x * x) + _blur(y * y) - squares
    contrast = (2.0 * (_blur(x * y) - product) + C2) / (variances + C2)
    return luminance, contrast


def _blur(planes):
    """`[..., H, W]` -> `[..., W - 10, H - 10]`: transposed, which no mean over the map notices."""
    return _blur_last_axis(np.swapaxes(_blur_last_axis(planes), -1, -2))


def _blur_last_axis(planes):
    length = planes.shape[-1]
    window = min(WINDOW, length)
    outputs = length - window + 1
    # One product for all rows: NumPy multiplies a stack of matrices one by one.
    rows = np.ascontiguousarray(planes).reshape(-1, length)
    result = np.empty((len(rows), outputs), planes.dtype)
    for start in range(0, outputs, BLOCK):
        count = min(BLOCK, outputs - start)
        piece = rows[:, start : start + count + window - 1]
        np.matmul(piece, band(count, window), out=result[:, start : start + count])
    return result.reshape(*planes.shape[:-1], outputs)


def _halve(planes):
    """Means of 2x2 pixels; an odd side repeats its last row. `[..., H, W]` -> `[..., H/2, W/2]`."""
    for axis in (-2, -1):
        if planes.shape[axis] % 2:
            last = planes[..., -1:, :] if axis == -2 else planes[..., -1:]
            planes = np.concatenate([planes, last], axis=axis)
    rows = planes[..., 0::2, :] + planes[..., 1::2, :]
    return 0.25 * (rows[..., 0::2] + rows[..., 1::2])


def _channels_first(pictures):
    return np.moveaxis(pictures, -1, -3)
