"""Figures of quality over 8-bit pixels, `[H, W]` or `[H, W, 3]`."""

import math

import numpy as np

from rnn_codec.pictures import similarity

MINIMUM_SIDE = similarity.MINIMUM_SIDE

# Rows of a picture at a time, so that large ones take little memory. The overlap is how far down
# the windows of the coarsest scale reach.
_ROWS = 512
_OVERLAP = MINIMUM_SIDE - 1


def psnr_db(original: np.ndarray, restored: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB; infinity for equal pictures."""
    total = 0
    for top in range(0, len(original), _ROWS):
        bands = [pixels[top : top + _ROWS].astype(np.int32) for pixels in (original, restored)]
        total += int(np.sum(np.square(bands[0] - bands[1]), dtype=np.int64))
    return math.inf if total == 0 else 10.0 * math.log10(255.0**2 * original.size / total)


def ms_ssim(original: np.ndarray, restored: np.ndarray) -> float | None:
    """MS-SSIM over five scales, mean of the channels; None where a side is below 161 pixels."""
    if min(original.shape[:2]) < MINIMUM_SIDE:
        return None
    sums, counts = 0.0, 0
    last = max(0, len(original) // _ROWS - 1)  # this band takes what is left, too
    for band in range(last + 1):
        rows = slice(_ROWS * band, None if band == last else _ROWS * (band + 1) + _OVERLAP)
        pair = (np.atleast_3d(p[rows]).astype(np.float32) / 255.0 for p in (original, restored))
        maps = list(similarity.maps(*pair))
        if band < last:  # without what the next band has, too
            maps = [values[..., : _ROWS >> scale] for scale, values in enumerate(maps)]
        sums += np.array([values.sum(axis=(-2, -1), dtype=np.float64) for values in maps])
        counts += np.array([values.shape[-2] * values.shape[-1] for values in maps])
    means = (sums / counts[:, None]).astype(np.float32)
    return float(similarity.combined(means))
