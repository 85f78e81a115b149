"""Losses of the progressive loop, per iteration.

A loss takes the original `[B, 1, H, W, 3]` and the reconstructions `[B, N, H, W, 3]`, both float32
in [-1, 1], and returns one figure for each iteration, `[N]`; training minimises their mean.
"""

from keras import ops

from rnn_codec.training import similarity


def l1(original, reconstructions):
    """Mean |R[i]|: the paper's loss."""
    return ops.mean(ops.abs(original - reconstructions), axis=(0, 2, 3, 4))


def perceptual(original, reconstructions):
    """Logarithm of structure plus pixel plus colour error.

    The logarithm is of each iteration's mean over the batch: late iterations have small errors, and
    without it hardly a gradient. MS-SSIM alone hardly sees colour: a network trained for it drops a
    colour axis. Mean absolute errors let it, too, as most pixels are nearly grey; the root of the
    mean square does not forgive the few that are not.
    """
    structure = ops.mean(
        similarity.dissimilarity(0.5 + 0.5 * original, 0.5 + 0.5 * reconstructions), axis=0
    )
    pixels = _root_mean_square(original - reconstructions)
    colours = _root_mean_square(_broad_chroma(original) - _broad_chroma(reconstructions))
    return ops.log(structure + 0.5 * pixels + colours)


def _root_mean_square(difference):
    # The constant, a tenth of a level, keeps the gradient finite at zero.
    return ops.sqrt(ops.mean(ops.square(difference), axis=(0, 2, 3, 4)) + 1e-6)


def _broad_chroma(pictures):
    """Colour differences of 4x4 blocks. `[..., H, W, 3]` -> `[..., H/4, W/4, 2]`."""
    *leading, height, width, channels = pictures.shape
    leading = [-1 if size is None else size for size in leading]
    blocks = ops.reshape(pictures, (*leading, height // 4, 4, width // 4, 4, channels))
    red, green, blue = ops.split(ops.mean(blocks, axis=(-4, -2)), 3, axis=-1)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    return ops.concatenate([red - luma, blue - luma], axis=-1)


LOSSES = {"l1": l1, "perceptual": perceptual}
