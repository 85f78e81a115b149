"""The networks around a standard codec: ComCNN makes a compact picture, RecCNN restores it.

`B` is the batch, `C` 1 for grey or 3 for RGB, `K` the length of a condition, `r` the reduction: 2,
or 1 for a picture stored at full size, which has a RecCNN of its own. Pixels are float32 in [0, 1],
not clipped where a network made them. Sides are even.

Reference:
    Jiang et al., "An End-to-End Compression Framework Based on Convolutional Neural Networks",
    2017, https://arxiv.org/abs/1708.00838.
"""

import functools

import keras
from keras import ops
import numpy as np

from rnn_codec.hybrid.config import CONDITION_BASES, QUALITY_KNOTS
from rnn_codec.layers import geometry
from rnn_codec.layers.common import DepthToSpace, ResidualBlock, SpaceToDepth, block_means

# Of ITU-R BT.601, as JPEG has it. Chroma is of (B - Y) and (R - Y).
_LUMA = (0.299, 0.587, 0.114)
_CHROMA_SCALES = (0.564, 0.713)

# Keys' cubic with a = -0.5, a quarter of a pixel after the second of four pixels.
_CUBIC = (-0.0703125, 0.8671875, 0.2265625, -0.0234375)

CONDITION_SIZE = len(CONDITION_BASES) * len(QUALITY_KNOTS)  # K


class HybridNetwork(keras.Model):
    """ComCNN and RecCNN of a configuration.

    Training sees `compress` and `restore` with a standard codec's loss in between, and so does the
    codec; `call` leaves the codec out.

    Args:
        config: `HybridConfig`.

    Input shape:
        `[B, H, W, C]`.

    Output shape:
        The same.
    """

    def __init__(self, config, **kwargs):
        super().__init__(**kwargs)
        self.config = config
        self.compact = self.restoration = self.full_restoration = None
        if 2 in config.reductions:
            self.compact = _compact_layers(config)
            if config.networks != "compact":
                self.restoration = _restoration_layers(config, "restoration")
        if 1 in config.reductions:
            self.full_restoration = _restoration_layers(config, "full_restoration")

    @classmethod
    def create(cls, config):
        """A network whose variables exist: at first a mean of 2x2 pixels, and a bicubic filter."""
        network = cls(config, name="hybrid")
        pixels = ops.zeros((1, 2 * config.block, 2 * config.block, config.channels))
        for reduction in config.reductions:
            network.compress(pixels, reduction)
            network.restore(pixels, reduction=reduction)
        network.built = True
        if network.compact is not None:
            _start_as_mean(network.compact, config.channels)
        return network

    def call(self, pixels, training=False):
        reduction = self.config.reductions[-1]
        compact = self.compress(pixels, reduction)
        return self.restore(compact, reduction=reduction, training=training)

    def compress(self, pixels, reduction):
        """Compact picture `[B, H/r, W/r, C]` of a picture `[B, H, W, C]`; itself if r is 1."""
        if reduction == 1:
            return pixels
        return self._by_channels(self.compact, mean_of_blocks, pixels)

    def restore(self, compact, condition=None, *, reduction, training=False):
        """Picture `[B, r * H, r * W, C]` of a compact one `[B, H, W, C]`, coded or not.

        `condition`: `[K]`, see `condition_of`. Defaults to nothing known.
        """
        restoration = self.full_restoration if reduction == 1 else self.restoration
        enlarge = functools.partial(self.enlarge, reduction=reduction)
        if condition is None:
            condition = ops.zeros(CONDITION_SIZE)

        def network(pixels):
            pixels = enlarge(pixels)
            if restoration is None:
                return pixels
            # Added in full precision: what is left of a picture in bfloat16 is less than 8 bits.
            residual = restoration(pixels, condition, training=training)
            return pixels + ops.cast(residual, "float32")

        return self._by_channels(network, enlarge, ops.cast(compact, "float32"))

    def enlarge(self, compact, reduction):
        """What `restore` adds to: `[B, r * H, r * W, C]` of a compact picture `[B, H, W, C]`."""
        return compact if reduction == 1 else upsample(compact)

    def _by_channels(self, network, filtered, pixels):
        """Applies a network to the channels that it sees; if that is luma, a filter to chroma."""
        if pixels.shape[-1] == self.config.channels:
            return network(pixels)
        if pixels.shape[-1] == 1:  # grey, and the network is of three channels
            return ops.mean(network(ops.repeat(pixels, 3, axis=-1)), axis=-1, keepdims=True)
        luma, chroma = split_luma(pixels)
        return join_luma(network(luma), filtered(chroma))


class RestorationLayers(keras.layers.Layer):
    """RecCNN: layers in order, of which the conditioned ones get the condition.

    Args:
        layers: list of layers.

    Call arguments:
        pixels: `[B, H, W, C]`.
        condition: `[K]`.

    Output:
        `[B, H, W, C]`, what is to be added to the pixels.
    """

    def __init__(self, layers, **kwargs):
        super().__init__(**kwargs)
        self.layers = layers

    def call(self, pixels, condition):
        features = pixels
        for layer in self.layers:
            if isinstance(layer, ConditionedBlock):
                features = layer(features, condition)
            else:
                features = layer(features)
        return features

    def geometry(self, before):
        return geometry.through(self.layers, before)


class ConditionedBlock(ResidualBlock):
    """A residual block with a scale and a shift of its inner features, before their ReLU.

    Features become `(1 + scale) * features + shift`; both are linear in the condition, and start at
    0. As a batch has one condition, they become part of the kernel.

    Call arguments:
        inputs: `[B, H, W, C]`.
        condition: `[K]`.

    Reference:
        Perez et al., "FiLM: Visual Reasoning with a General Conditioning Layer", 2018,
        https://arxiv.org/abs/1709.07871.
    """

    def build(self, inputs_shape, condition_shape):
        super().build(inputs_shape)
        shape = condition_shape[-1], inputs_shape[-1]
        self.scale = self.add_weight(shape=shape, initializer="zeros", name="scale")
        self.shift = self.add_weight(shape=shape, initializer="zeros", name="shift")

    def call(self, inputs, condition):
        scale, shift = (ops.einsum("k,kc->c", condition, one) for one in (self.scale, self.shift))
        kernel = self.first.kernel + scale * self.first.kernel
        bias = self.first.bias + scale * self.first.bias + shift
        inner = ops.conv(ops.relu(inputs), kernel, padding="same", data_format="channels_last")
        return inputs + self.second(ops.relu(inner + bias))


def condition_of(base, quality_level=None):
    """What RecCNN is told of a standard codec: float32 `[K]`, at most two of them not 0.

    Args:
        base: str, its name, or None. One that is none of `CONDITION_BASES` counts as unknown.
        quality_level: number from 0 to 255, see `BaseCodec.level_of`, or None, which is unknown.

    Returns:
        One-hot over the codecs, and in the codec's part piecewise linear over `QUALITY_KNOTS`. All
        0 if codec or quality is unknown.
    """
    condition = np.zeros((len(CONDITION_BASES), len(QUALITY_KNOTS)), np.float32)
    if base in CONDITION_BASES and quality_level is not None:
        condition[CONDITION_BASES.index(base)] = [
            np.interp(quality_level, QUALITY_KNOTS, one) for one in np.eye(len(QUALITY_KNOTS))
        ]
    return condition.ravel()


def _compact_layers(config):
    """ComCNN: three layers, the second of stride 2. 38,145 parameters for grey.

    In full precision: the picture itself passes through, and bfloat16 has steps of a level.
    """
    layers = [
        _conv(config.filters, "conv_1", activation="relu", dtype="float32"),
        _conv(config.filters, "conv_2", activation="relu", strides=2, dtype="float32"),
        _conv(config.channels, "conv_3", kernel_initializer="zeros", dtype="float32"),
    ]
    return keras.Sequential(layers, name="compact")


def _restoration_layers(config, name):
    """RecCNN: what is to be added to a picture. 670,529 parameters for grey."""
    layers = [_conv(config.filters, "conv_01", activation="relu")]
    if config.shortcuts:
        block = ConditionedBlock if config.conditioned else ResidualBlock
        layers += [block(name=f"residual_{number:02d}") for number in range(1, config.layers // 2)]
    else:
        for number in range(2, config.layers):
            layers.append(_conv(config.filters, f"conv_{number:02d}"))
            if config.batch_normalisation:
                layers.append(keras.layers.BatchNormalization(name=f"norm_{number:02d}"))
            layers.append(keras.layers.ReLU(name=f"relu_{number:02d}"))
    # Starts at nothing: what it learns is added to a picture that is good already.
    last = _conv(
        config.channels * config.block**2, f"conv_{config.layers:02d}", kernel_initializer="zeros"
    )
    layers.append(last)
    if config.block == 2:
        layers = [SpaceToDepth(name="blocks"), *layers, DepthToSpace(name="pixels")]
    return RestorationLayers(layers, name=name)


def _conv(filters, name, **kwargs):
    kwargs = {"kernel_initializer": "he_normal", "padding": "same", **kwargs}
    return keras.layers.Conv2D(filters, 3, name=name, **kwargs)


def _start_as_mean(compact, channels):
    """Makes the first channels of each layer carry the picture: the start is a mean of 2x2 pixels.

    From random weights RecCNN would first learn to undo what ComCNN is about to change. The other
    features join as soon as the last layer gives them weight.
    """
    for layer in compact.layers:
        kernel, bias = layer.get_weights()
        kernel[..., :channels] = 0.0
        # With a stride of 2 the kernel's first two rows and columns are the block's.
        place = (slice(0, 2), slice(0, 2)) if layer.strides == (2, 2) else (1, 1)
        for channel in range(channels):
            kernel[(*place, channel, channel)] = 0.25 if layer.strides == (2, 2) else 1.0
        layer.set_weights([kernel, bias])


def mean_of_blocks(pixels):
    """`[B, 2H, 2W, C]` -> `[B, H, W, C]`."""
    return block_means(pixels, 2)


def upsample(pixels):
    """Bicubic, twice as large: `[B, H, W, C]` -> `[B, 2H, 2W, C]`. Edge pixels go on outside.

    `keras.ops.image.resize` has no gradient in bfloat16 on TensorFlow, and none under XLA.
    """
    taller = _upsample_rows(pixels)
    return ops.swapaxes(_upsample_rows(ops.swapaxes(taller, 1, 2)), 1, 2)


def _upsample_rows(pixels):
    batch, height, width, channels = ops.shape(pixels)
    first, last = pixels[:, :1], pixels[:, -1:]
    padded = ops.concatenate([first, first, pixels, last, last], axis=1)

    def tap(offset):
        return padded[:, offset : offset + height]

    # Each row becomes two, a quarter of a pixel before and after its centre.
    before = sum(weight * tap(i) for i, weight in enumerate(reversed(_CUBIC)))
    after = sum(weight * tap(i + 1) for i, weight in enumerate(_CUBIC))
    pairs = ops.stack([before, after], axis=2)  # [B, H, 2, W, C]
    return ops.reshape(pairs, (batch, 2 * height, width, channels))


def luma_of(pixels):
    """`[..., 3]` -> `[..., 1]`; a picture of one channel is its own luma."""
    if pixels.shape[-1] == 1:
        return pixels
    red, green, blue = (pixels[..., i : i + 1] for i in range(3))
    return _LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue


def split_luma(pixels):
    """RGB `[..., 3]` to luma `[..., 1]` and chroma `[..., 2]`, which is 0 for grey."""
    red, _, blue = ops.split(pixels, 3, axis=-1)
    luma = luma_of(pixels)
    chroma = [_CHROMA_SCALES[0] * (blue - luma), _CHROMA_SCALES[1] * (red - luma)]
    return luma, ops.concatenate(chroma, axis=-1)


def join_luma(luma, chroma):
    """The inverse of `split_luma`."""
    first, second = ops.split(chroma, 2, axis=-1)
    blue = luma + first / _CHROMA_SCALES[0]
    red = luma + second / _CHROMA_SCALES[1]
    green = (luma - _LUMA[0] * red - _LUMA[2] * blue) / _LUMA[1]
    return ops.concatenate([red, green, blue], axis=-1)
