"""SSIM over several scales in `keras.ops`: the differentiable twin of `pictures.similarity`.

It exists for the loss, and for the figures of a training step, which stay on the device. What the
constants and the shapes mean is told there.
"""

from keras import ops

from rnn_codec.pictures.similarity import BLOCK, C1, C2, SCALE_WEIGHTS, WINDOW, band


def ms_ssim(original, reconstruction):
    """Multi-scale structural similarity, as `tf.image.ssim_multiscale` computes it.

    Args:
        original: `[..., H, W, C]`, 0 to 1. Sides of at least 161, else coarse windows shrink.
        reconstruction: the same, broadcast against `original`.

    Returns:
        `[...]`, the mean over channels. At most 1; negative terms count as 0.
    """
    return combined(ops.mean(values, axis=(-2, -1)) for values in maps(original, reconstruction))


def combined(terms):
    """MS-SSIM from the means of each scale's map, `[..., C]`. Returns `[...]`."""
    product = 1.0
    for weight, term in zip(SCALE_WEIGHTS, terms):
        product = product * ops.relu(term) ** weight
    return ops.mean(product, axis=-1)


def dissimilarity(original, reconstruction):
    """What a loss minimises instead of `1 - ms_ssim`, to which it is the first-order approximation.

    The weighted sum over scales of one minus each scale's term: unlike the product of powers it has
    a finite gradient at zero and at negative similarities, and patches may be of any size.

    Returns:
        `[...]`, about 0 to 2.
    """
    total = 0.0
    for weight, values in zip(SCALE_WEIGHTS, maps(original, reconstruction)):
        total = total + weight * (1.0 - ops.mean(values, axis=(-2, -1)))
    return ops.mean(total, axis=-1) / sum(SCALE_WEIGHTS)


def maps(original, reconstruction):
    """Yields contrast-structure for each scale, and for the coarsest SSIM.

    Each is `[..., C, W - 10, H - 10]` of its scale: transposed, which no mean over it notices.
    """
    original, reconstruction = _channels_first(original), _channels_first(reconstruction)
    for scale in range(len(SCALE_WEIGHTS)):
        if scale:
            original, reconstruction = halve(original), halve(reconstruction)
        luminance, contrast = _ssim_maps(original, reconstruction)
        coarsest = scale == len(SCALE_WEIGHTS) - 1
        yield luminance * contrast if coarsest else contrast


def _ssim_maps(x, y):
    mean_x, mean_y = blur(x), blur(y)
    squares, product = mean_x**2 + mean_y**2, mean_x * mean_y
    luminance = (2.0 * product + C1) / (squares + C1)
    if x.shape == y.shape:
        variances = blur(x * x + y * y) - squares
    else:  # the original's share serves all its reconstructions
        variances = blur(x * x) + blur(y * y) - squares
    contrast = (2.0 * (blur(x * y) - product) + C2) / (variances + C2)
    return luminance, contrast


def blur(planes):
    """Gaussian means over 11x11 pixels, fewer where a side is shorter.

    `[..., H, W]` -> `[..., W - 10, H - 10]`: transposed, which no mean over the map notices.
    """
    return _blur_last_axis(ops.swapaxes(_blur_last_axis(planes), -1, -2))


def _blur_last_axis(planes):
    length = planes.shape[-1]
    window = min(WINDOW, length)
    outputs = length - window + 1
    pieces = []
    for start in range(0, outputs, BLOCK):
        count = min(BLOCK, outputs - start)
        matrix = ops.convert_to_tensor(band(count, window))
        pieces.append(ops.matmul(planes[..., start : start + count + window - 1], matrix))
    return pieces[0] if len(pieces) == 1 else ops.concatenate(pieces, axis=-1)


def halve(planes):
    """Means of 2x2 pixels; an odd side repeats its last row. `[..., H, W]` -> `[..., H/2, W/2]`."""
    for axis in (-2, -1):
        if planes.shape[axis] % 2:
            last = planes[..., -1:, :] if axis == -2 else planes[..., -1:]
            planes = ops.concatenate([planes, last], axis=axis)
    rows = planes[..., 0::2, :] + planes[..., 1::2, :]
    return 0.25 * (rows[..., 0::2] + rows[..., 1::2])


def _channels_first(pictures):
    return ops.moveaxis(pictures, -1, -3)
