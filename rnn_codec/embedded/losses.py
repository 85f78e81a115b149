"""What the embedded codec's training minimises: how a picture at a plane looks, and what it takes.

    loss = (log(D + D0[n]) + share log(S + S0[n])) / (1 + share) + alpha R / R[n]

of each patch, of which the mean is taken. `D` is the dissimilarity of MS-SSIM with errors of pixels
and of colours, `S` the error that SSIMULACRA2 sees, `R` the bits per pixel. The logarithms make
neither measure's scale matter; `D0` and `S0`, about a third of a photograph's, keep flat patches,
whose errors are tiny, from ruling a batch. Pictures are float32 `[B, H, W, 3]` in -1..1.
"""

from keras import ops
import numpy as np

from rnn_codec.layers.common import block_means
from rnn_codec.training import similarity, ssimulacra2

# Everything below is by plane. The bits per pixel that set each plane's exchange of rate and
# distortion; those of planes that are not listed go on at the last ratio.
RATES = (0.05, 0.1, 0.19, 0.36, 0.68, 1.25, 2.2, 3.6)
# The weight of the error of pixels: MS-SSIM is saturated at the finer planes.
_PIXELS = (0.5, 0.6, 0.8, 1.1, 1.5, 2.0, 2.0, 2.0)
_EASY = (0.075, 0.044, 0.025, 0.014, 0.0075, 0.0045, 0.0035, 0.003)
_EASY_SEEN = (15.0, 9.0, 4.5, 2.1, 1.0, 0.55, 0.3, 0.2)


def rate_distortion(original, restored, rate, plane, sent_share, seen_share=0.5, alpha=0.5):
    """The loss of each patch, and the parts that a person wants to see.

    Args:
        original, restored: float32 `[B, H, W, 3]` in -1..1.
        rate: float32 `[B]`. Bits per pixel.
        plane: int32 `[B]`, from 0.
        sent_share: float32 `[B]`. The part of the plane's channels that was sent, 0..1.
        seen_share: float. The weight of SSIMULACRA2's error beside MS-SSIM's; 0 leaves it out.
        alpha: float. The weight of the rate.

    Returns:
        Loss `[B]`, and a dictionary of its parts, each `[B]`.
    """
    pixels = _root_mean_square(original - restored)
    colours = _root_mean_square(_broad_chroma(original) - _broad_chroma(restored))
    original, restored = 0.5 + 0.5 * original, 0.5 + 0.5 * restored
    structure = similarity.dissimilarity(original, restored)
    distortion = structure + of_plane(_PIXELS, plane) * pixels + colours
    parts = {"structure": structure, "pixels": pixels}
    loss = ops.log(distortion + of_plane(_EASY, plane))
    if seen_share:
        seen = ssimulacra2.visible_error(original, restored)
        parts["seen"] = seen
        loss = loss + seen_share * ops.log(seen + of_plane(_EASY_SEEN, plane))
        loss = loss / (1.0 + seen_share)
    return loss + alpha * rate / wanted_rate(plane, sent_share), parts


def wanted_rate(plane, sent_share):
    """Bits per pixel at a plane, or between it and the one before. `[B]`."""
    rates = np.log(np.array((RATES[0] / 2, *by_plane(RATES)), np.float32))
    between = of_plane(rates, plane) * (1.0 - sent_share) + of_plane(rates, plane + 1) * sent_share
    return ops.exp(between)


def by_plane(values, planes=16):
    """A table for more planes than it lists: it goes on at its last ratio."""
    ratio = values[-1] / values[-2]
    more = [values[-1] * ratio ** (i + 1) for i in range(planes - len(values))]
    return (*values, *more)


def of_plane(table, plane):
    """Entries of a table of floats, `[B]`."""
    if len(table) < 16:
        table = by_plane(tuple(table))
    return ops.take(ops.convert_to_tensor(np.asarray(table, np.float32)), plane, axis=0)


def _root_mean_square(difference):
    # The constant, half a level, keeps the gradient finite at zero.
    return ops.sqrt(ops.mean(ops.square(difference), axis=(1, 2, 3)) + 1e-6)


def _broad_chroma(pictures):
    """Colour differences of 4x4 blocks. `[B, H, W, 3]` -> `[B, H/4, W/4, 2]`."""
    means = block_means(pictures, 4)
    luma = 0.299 * means[..., 0] + 0.587 * means[..., 1] + 0.114 * means[..., 2]
    return ops.stack([means[..., 0] - luma, means[..., 2] - luma], axis=-1)
