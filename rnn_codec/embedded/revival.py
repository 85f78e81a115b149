"""Begins dead latent channels anew.

A channel that never leaves the dead zone, not even at the finest plane, gets no gradient and never
returns. Such channels, and those that a wider network has more than its weights, begin anew as rows
of the KLT (the principal components of blocks) off the span of the living, at the step that the
living have at plane 0, unseen by the nonlinear networks.
"""

import math

from keras import ops
import numpy as np

from rnn_codec.embedded.layers import block_kernel, block_matrix

# Share of positions where a living channel is not zero at the finest plane.
LEAST_ACTIVITY = 1e-4
_STEP = 12.0
# The entropy of a new channel is first taken for that of the last living ones.
_LAST = 32


def active_shares(network, batches):
    """Share of positions where each latent channel is not zero at the finest plane: `[K]`.

    Args:
        network: `network.EmbeddedNetwork`.
        batches: iterable of float32 pictures `[B, H, W, 3]` in -1..1.
    """
    finest = 0.5 ** (network.config.iterations - 1)
    shares = []
    for pictures in batches:
        latents = ops.convert_to_numpy(network.analyse(ops.convert_to_tensor(pictures)))
        shares.append(np.mean(np.abs(latents) >= finest, axis=(0, 1, 2)))
    return np.mean(shares, axis=0)


def revive(network, rate, dead, start):
    """Begins channels anew.

    Args:
        network: `network.EmbeddedNetwork`.
        rate: `rate.RateEstimate`.
        dead: bool `[K]`. The channels.
        start: `start.Start`.

    Returns:
        How many channels were begun anew: fewer than asked for where the rows do not suffice.
    """
    count = int(np.sum(dead))
    if not count:
        return 0
    synthesis = block_matrix(network.block_synthesis.kernel)  # [K, 768]
    rows = _rows_off(synthesis[~dead], start.basis, count)
    where = np.flatnonzero(dead)[: len(rows)]
    relative = start.visibility(rows)
    kernel = block_kernel(rows)

    def change(variable, edit):
        values = ops.convert_to_numpy(variable).copy()
        edit(values)
        variable.assign(values)

    def put(index, value):
        return lambda values: values.__setitem__(index, value)

    channels = (Ellipsis, where)  # the last axis
    change(network.block_analysis.kernel, put(channels, kernel.T))
    change(network.block_synthesis.kernel, put(where, kernel))
    change(network.block_analysis.log_scale, put(where, -relative))
    change(network.block_synthesis.log_scale, put(where, relative))
    change(network.quantiser.log_scale, put(where, -math.log(_STEP)))
    change(network.quantiser.offset, put(channels, 0.4))
    change(network.quantiser.gain, put(channels, 1.0))
    last = network.analysis.layers[-1]
    change(last.kernel, put(channels, 0.0))
    change(last.bias, put(where, 0.0))
    inputs = (slice(None), slice(None), where)
    change(network.synthesis.expand_1.kernel, put(inputs, 0.0))
    change(rate.context.kernel, put(inputs, 0.0))
    living = ops.convert_to_numpy(rate.log_scale)[:, ~dead][:, -_LAST:]
    if living.size:
        change(rate.log_scale, put(channels, np.mean(living, axis=1, keepdims=True)))
    both = np.concatenate([where, where + len(dead)])  # means, then scales
    change(rate.out.kernel, put((Ellipsis, both), 0.0))
    change(rate.out.bias, put(both, 0.0))
    return len(where)


def _rows_off(living, basis, count):
    """Rows of the basis, made orthogonal to the living and to each other: `[R, 768]`."""
    span = np.linalg.qr(living.T)[0] if len(living) else np.zeros((basis.shape[1], 0))
    rows = []
    for row in basis:
        if len(rows) == count:
            break
        row = row - span @ (span.T @ row)
        length = np.linalg.norm(row)
        if length > 0.5:
            rows.append(row / length)
            span = np.concatenate([span, rows[-1][:, None]], axis=1)
    return np.array(rows, np.float32).reshape(-1, basis.shape[1])
