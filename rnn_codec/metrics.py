"""Figures of quality over 8-bit pixels, `[H, W]` or `[H, W, 3]`."""

import math

from keras import ops
import numpy as np

from rnn_codec import similarity

MINIMUM_SIDE = similarity.MINIMUM_SIDE


def psnr_db(original, restored):
    """Peak signal-to-noise ratio in dB; infinity for equal pictures."""
    difference = original.astype(np.float32) - restored.astype(np.float32)
    error = float(np.mean(np.square(difference), dtype=np.float64))
    return math.inf if error == 0 else 10.0 * math.log10(255.0**2 / error)


def ms_ssim(original, restored):
    """MS-SSIM over five scales, mean of the channels; None where a side is below 161 pixels."""
    if min(original.shape[:2]) < MINIMUM_SIDE:
        return None
    pair = [np.atleast_3d(pixels).astype(np.float32) / 255.0 for pixels in (original, restored)]
    return float(ops.convert_to_numpy(similarity.ms_ssim(*pair)))
