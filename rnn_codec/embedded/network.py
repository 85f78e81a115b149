"""The embedded codec's network: a transform whose latents are sent as nested bit planes.

    y = A(x) + E x                   latents; A is nonlinear, E a linear transform of 16x16 blocks
    t[n] = sign(y) floor(|y| / D[n]) indices of plane n, whose step is D[n] = 2^-n
    q = sign(t) (|t| + offset) D[n]  what they stand for
    P[n] = S(q, n) + E' q            the picture at plane n

The dead zone is twice the step, so t[n + 1] refines t[n]: plane n is what it adds. A file may end
inside a plane: then the first `sent` channels are known at plane n and the others at n - 1.

Shapes: `B` batch, `H, W` sides of the picture, multiples of 16, `h = H / 16`, `w = W / 16`, `K`
latents, `C` hidden channels, `N` planes. Pictures are float32 `[B, H, W, 3]` in -1..1. Planes are
counted from 0.
"""

import keras
from keras import ops

from rnn_codec.embedded.config import BLOCK
from rnn_codec.embedded.layers import (
    GDN,
    BlockAnalysis,
    BlockSynthesis,
    EdgeConv2D,
    depth_to_space,
)
from rnn_codec.layers import geometry


class EmbeddedNetwork(keras.Model):
    """Analysis, quantiser and synthesis.

    Args:
        config: `EmbeddedConfig`.

    Call arguments:
        pictures: `[B, H, W, 3]`, in -1..1.
        plane: int32 `[B]`. The finest plane that is sent.
        sent: int32 `[B]`, 1..K. How many channels of it are sent.

    Output:
        What a file that ends there shows: float32 `[B, H, W, 3]`, not clipped.
    """

    def __init__(self, config, **kwargs):
        super().__init__(**kwargs)
        self.config = config
        channels, latents = config.channels, config.latents
        self.analysis = keras.Sequential(
            [
                EdgeConv2D(channels, 9, 4, name="conv_1"),
                GDN(name="gdn_1"),
                EdgeConv2D(channels, 5, 2, name="conv_2"),
                GDN(name="gdn_2"),
                EdgeConv2D(latents, 5, 2, name="conv_3"),
            ],
            name="analysis",
        )
        linear = _linear_policy()
        self.block_analysis = BlockAnalysis(latents, dtype=linear, name="block_analysis")
        self.quantiser = Quantiser(config.iterations, latents, dtype="float32", name="quantiser")
        self.synthesis = Synthesis(config.iterations, channels, name="synthesis")
        self.block_synthesis = BlockSynthesis(dtype=linear, name="block_synthesis")

    @classmethod
    def create(cls, config):
        """A network whose variables exist, with random weights."""
        # A fixed name: the paths of the variables are keys in weight files.
        network = cls(config, name="codec")
        network.build((None, 2 * BLOCK, 2 * BLOCK, 3))
        return network

    def build(self, input_shape):
        latents = (None, None, None, self.config.latents)
        self.analysis.build(input_shape)
        self.block_analysis.build(input_shape)
        for layer in (self.quantiser, self.synthesis, self.block_synthesis):
            layer.build(latents)

    def analyse(self, pictures):
        """Latents y of pictures: float32 `[B, h, w, K]`."""
        features = ops.cast(self.analysis(pictures), "float32")
        return self.quantiser.scale(features + self.block_analysis(pictures))

    def synthesise(self, values, plane, sent):
        """Pictures of dequantised latents: float32 `[B, H, W, 3]`, not clipped.

        Args:
            values: `[B, h, w, K]`, as `Quantiser.dequantise` gives them.
            plane: int32 `[B]`. The finest plane of which anything was sent.
            sent: int32 `[B]`, 1..K. How many channels of that plane were sent.
        """
        share = ops.cast(sent, "float32")[:, None] / self.config.latents
        pixels = ops.cast(self.synthesis(values, plane=plane, share=share), "float32")
        return pixels + self.block_synthesis(values)

    def reconstruct(self, index, known, plane, sent):
        """Pictures of what a file holds: float32 `[B, H, W, 3]`, not clipped.

        Args:
            index: float32 `[B, h, w, K]`, in units of each channel's step.
            known: int32 `[B, K]`. The finest plane known of each channel, -1 for none.
            plane, sent: as for `synthesise`.
        """
        return self.synthesise(self.quantiser.values(index, known), plane, sent)

    def call(self, pictures, plane, sent):
        known = planes_known(plane, sent, self.config.latents)
        index = truncate(self.quantiser.scaled(self.analyse(pictures), known))
        index = index * ops.cast(known >= 0, index.dtype)[:, None, None, :]
        return self.reconstruct(index, known, plane, sent)


def planes_known(plane, sent, latents):
    """The finest plane known of each channel, -1 for none: int32 `[B, K]`.

    Args:
        plane: int32 `[B]`.
        sent: int32 `[B]`, 1..K. The first so many channels are known at `plane`, the rest one
            plane coarser: what a file holds that was cut inside a plane.
        latents: int. K.
    """
    first = ops.arange(latents, dtype="int32")[None] < sent[:, None]
    return ops.where(first, plane[:, None], plane[:, None] - 1)


def truncate(scaled):
    """Index of a value in units of its step: toward zero, so the dead zone is twice the step."""
    return ops.sign(scaled) * ops.floor(ops.abs(scaled))


class Quantiser(keras.layers.Layer):
    """Nested dead-zone quantisers, one for each plane, and what their indices stand for.

    Args:
        planes: int. N.
        latents: int. K.

    Call arguments and output are those of `dequantise`.
    """

    def __init__(self, planes, latents, **kwargs):
        super().__init__(**kwargs)
        self.planes = planes
        self.latents = latents

    def build(self, input_shape):
        # In float32 under any policy: these numbers are between latents and indices.
        kwargs = {"autocast": False}
        table = (self.planes, self.latents)
        self.log_scale = self.add_weight((self.latents,), "zeros", name="log_scale", **kwargs)
        # Where in its interval a coefficient is reconstructed.
        middle = keras.initializers.Constant(0.4)
        self.offset = self.add_weight(table, middle, name="offset", **kwargs)
        self.gain = self.add_weight(table, "ones", name="gain", **kwargs)

    def scale(self, features):
        """Latents in units of plane 0's step."""
        return features * ops.exp(self.log_scale)

    def scaled(self, latents, known):
        """Latents in units of each channel's step, 2^-known: `[B, h, w, K]`."""
        return latents / _step(known)

    def dequantise(self, index, known):
        """Values of indices in units of the step; an index of zero stands for zero."""
        offset = pick(self.offset, known)
        return ops.sign(index) * (ops.abs(index) + offset)

    def values(self, index, known):
        """Values of indices as the synthesis takes them."""
        return self.unscale(self.dequantise(index, known), known)

    def unscale(self, dequantised, known):
        """From units of the step to those of the synthesis."""
        factor = _step(known) * pick(self.gain, known) * ops.exp(-self.log_scale)
        return dequantised * factor

    def call(self, index, *, known):
        return self.dequantise(index, known)


class Synthesis(keras.layers.Layer):
    """The nonlinear way back: `[B, h, w, K]` -> `[B, 16 h, 16 w, 3]`.

    Args:
        planes: int. N.
        channels: int. C.

    Call arguments:
        values: `[B, h, w, K]`.
        plane: int32 `[B]`.
        share: float32 `[B, 1]`, the part of the plane's channels that was sent.
    """

    def __init__(self, planes, channels, **kwargs):
        super().__init__(autocast=False, **kwargs)  # gains are mixed in float32
        self.planes = planes
        self.channels = channels
        policy = self.dtype_policy
        self.expand_1 = EdgeConv2D(4 * channels, 3, dtype=policy, name="expand_1")
        self.gdn_1 = GDN(inverse=True, dtype=policy, name="gdn_1")
        self.expand_2 = EdgeConv2D(4 * channels, 3, dtype=policy, name="expand_2")
        self.gdn_2 = GDN(inverse=True, dtype=policy, name="gdn_2")
        self.pixels = EdgeConv2D(48, 3, dtype=policy, name="pixels")

    def build(self, input_shape):
        latents = input_shape[-1]
        hidden = (None, None, None, self.channels)
        self.expand_1.build((None, None, None, latents))
        for layer in (self.gdn_1, self.expand_2, self.gdn_2, self.pixels):
            layer.build(hidden)
        table = (self.planes, self.channels)
        kwargs = {"autocast": False, "dtype": "float32"}
        self.gain_1 = self.add_weight(table, "ones", name="gain_1", **kwargs)
        self.gain_2 = self.add_weight(table, "ones", name="gain_2", **kwargs)

    def call(self, values, *, plane, share):
        values = ops.cast(values, self.compute_dtype)
        features = depth_to_space(self.expand_1(values), 2)  # [B, 2h, 2w, C]
        features = self.gdn_1(features * self._gain(self.gain_1, plane, share))
        features = depth_to_space(self.expand_2(features), 2)  # [B, 4h, 4w, C]
        features = self.gdn_2(features * self._gain(self.gain_2, plane, share))
        return depth_to_space(self.pixels(features), 4)  # [B, 16h, 16w, 3]

    def geometry(self, before):
        features = geometry.through([self.expand_1], before).scaled(1 / 2)
        features = geometry.through([self.gdn_1, self.expand_2], features).scaled(1 / 2)
        return geometry.through([self.gdn_2, self.pixels], features).scaled(1 / 4)

    def _gain(self, table, plane, share):
        """The plane's gains, mixed with those of the plane before as far as it was not sent."""
        table = ops.convert_to_tensor(table)
        coarser = ops.take(table, ops.maximum(plane - 1, 0), axis=0)
        gain = ops.take(table, plane, axis=0) * share + coarser * (1.0 - share)
        return ops.cast(gain, self.compute_dtype)[:, None, None, :]


def pick(table, known):
    """The entry of each channel at its plane: `[N, K]`, int32 `[B, K]` -> `[B, 1, 1, K]`."""
    table = ops.convert_to_tensor(table)
    planes = ops.arange(table.shape[0], dtype="int32")[None, :, None]
    chosen = ops.cast(ops.maximum(known, 0)[:, None, :] == planes, table.dtype)  # [B, N, K]
    return ops.sum(table[None] * chosen, axis=1)[:, None, None, :]


def _step(known):
    return ops.exp2(-ops.cast(known, "float32"))[:, None, None, :]


def _linear_policy():
    """The linear transforms stay in float32, but for mixed training, where products are rounded."""
    policy = keras.config.dtype_policy()
    return policy if policy.name.startswith("mixed") else "float32"
