"""The order in which the channels of a plane are sent: by what they gain for their bits.

The gain of a channel at a plane is by how much the training's distortion, `log(D + D0)` without
SSIMULACRA2's error, falls on photographs when that channel alone goes from plane n - 1 to plane n.
Its bits are the entropy of what it adds, given only the channel and whether it was significant.
There is one order for all planes: a channel's place is by its share of the gains of the planes that
are measured, over its share of their bits.
"""

from keras import ops
import numpy as np

from rnn_codec.embedded import losses
from rnn_codec.embedded.network import truncate

MEASURED_PLANES = (0, 2, 4, 6)
_VARIANTS = 16  # pictures restored at once


def order(gains, bits):
    """Channels, the one to be sent first first: int16 `[K]`.

    Args:
        gains, bits: float `[planes, K]`.
    """
    gain = _shares(np.maximum(gains, 0.0))
    cost = _shares(bits)
    # Those that never cost anything come last, in the order of their numbers.
    worth = np.where(cost > 0, gain / np.maximum(cost, 1e-12), -1.0)
    return np.argsort(-worth, kind="stable").astype(np.int16)


def _shares(values):
    total = values.sum(axis=1, keepdims=True)
    return (values / np.where(total > 0, total, 1.0)).sum(axis=0)


def bits_of_planes(index, planes):
    """Bits that channels take at each plane, without any context: float `[N, K]`, per position.

    Args:
        index: int `[crops, h, w, K]`, of the last plane.
        planes: int. N.
    """
    magnitude = np.abs(index)
    bits = np.zeros((planes, index.shape[-1]))
    for plane in range(planes):
        now = magnitude >> (planes - 1 - plane)
        before = now >> 1 if plane else np.zeros_like(now)
        fresh = (before == 0).mean(axis=(0, 1, 2))
        begun = ((before == 0) & (now > 0)).mean(axis=(0, 1, 2))
        share = begun / np.maximum(fresh, 1e-12)
        bits[plane] = fresh * _entropy(share) + begun + (1.0 - fresh)
    return bits


def _entropy(p):
    p = np.clip(p, 1e-12, 1.0 - 1e-12)
    return -p * np.log2(p) - (1.0 - p) * np.log2(1.0 - p)


def measure_gains(network, pictures, planes=MEASURED_PLANES):
    """Gains of channels: float `[len(planes), K]`.

    Args:
        network: `network.EmbeddedNetwork`.
        pictures: float32 `[B, H, W, 3]` in -1..1. Crops of photographs.
        planes: of 0..N-1.
    """
    gains = np.zeros((len(planes), network.config.latents))
    for picture in pictures:
        latents = network.analyse(picture[None])
        for row, plane in enumerate(planes):
            gains[row] += _gains_at(network, picture, latents, plane)
    return gains / len(pictures)


def _gains_at(network, picture, latents, plane):
    count = network.config.latents
    base = np.full(count, plane - 1, np.int32)
    finer = np.asarray(ops.convert_to_numpy(_index(latents, base[None] + 1)))
    coarser = np.asarray(ops.convert_to_numpy(_index(latents, base[None])))
    # A channel that is zero before and after changes nothing.
    changed = np.flatnonzero((finer != 0).any(axis=(0, 1, 2)) | (coarser != 0).any(axis=(0, 1, 2)))
    before = _distortion(network, picture, latents, base[None], plane)[0]
    gains = np.zeros(count)
    for start in range(0, len(changed), _VARIANTS):
        # Always as many, so that what is compiled fits.
        channels = np.resize(changed[start : start + _VARIANTS], _VARIANTS)
        known = np.tile(base, (_VARIANTS, 1))
        known[np.arange(_VARIANTS), channels] += 1
        gains[channels] = before - _distortion(network, picture, latents, known, plane)
    return gains


def _index(latents, known):
    scaled = latents * ops.exp2(ops.cast(known, "float32"))[:, None, None, :]
    return truncate(scaled) * ops.cast(known >= 0, "float32")[:, None, None, :]


def _distortion(network, picture, latents, known, plane):
    """`log(D + D0)` with each channel at a plane of its own: `[B]`, known int32 `[B, K]`."""
    batch = len(known)
    values = network.quantiser.values(_index(latents, known), ops.convert_to_tensor(known))
    planes = ops.full((batch,), plane, dtype="int32")
    # So few channels of the plane that the networks still work as at the one before.
    restored = network.synthesise(values, planes, ops.ones((batch,), dtype="int32"))
    original = ops.repeat(ops.convert_to_tensor(picture[None]), batch, axis=0)
    nothing = ops.zeros((batch,))
    loss, _ = losses.rate_distortion(original, restored, nothing, planes, nothing, seen_share=0.0)
    return np.asarray(ops.convert_to_numpy(loss), np.float64)
