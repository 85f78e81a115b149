"""The progressive loop, the only place where it exists, and the network that it runs.

    R[0] = I
    for i = 1..N:
        B[i] = binarize(encode(R[i-1]))
        P[i] = decode(B[i])                  uses what earlier iterations left in the state
        R[i] = I - P[i]

Where the configuration has a block transform (`block_transform`), the encoder also knows the
decoder's state, and both know which iteration it is. Where it says when a block is good enough,
such a block's bits are all +1, and these change nothing in it: an entropy coder learns that at
once, so that smooth parts of a picture cost next to no bits.

`iterate` serves training (inside the traced graph), encoding (a picture, bits wanted), decoding
(bits, pictures wanted) and evaluation. Pictures here are float32 in [-1, 1].
"""

import dataclasses
from typing import Any

import keras
from keras import ops
import numpy as np

from rnn_codec.backend import compilation
from rnn_codec.layers import geometry
from rnn_codec.recurrent import architectures
from rnn_codec.recurrent.binarizer import Binarizer
from rnn_codec.recurrent.block_transform import (
    SAMPLES,
    BlockAnalysis,
    BlockSynthesis,
    DensePerIteration,
    visible_error,
)
from rnn_codec.recurrent.config import STRIDE


@dataclasses.dataclass(frozen=True)
class Iteration:
    """What one turn of the loop gives."""

    bits: Any  # [B, H/16, W/16, bits], -1.0 or 1.0
    reconstruction: Any  # P[i], [B, H, W, 3] in [-1, 1] but not clipped; None where not asked for


def iterate(steps, image=None, planes=None, wanted=None, **kwargs):
    """Yields an `Iteration` for each turn of the loop; stop consuming it to stop the codec.

    Args:
        steps: an object with `initial_states`, `analyse`, `decode_bits` and `synthesise`: a
            `ProgressiveNetwork`, or its compiled twin.
        image: `[B, H, W, 3]`, to encode. Sides are multiples of 16.
        planes: instead of `image`, the planes to decode, each `[B, H/16, W/16, bits]`.
        wanted: when decoding, iteration numbers (from 1) whose reconstruction is wanted. All if
            None. The others are skipped where the reconstruction method allows.
        **kwargs: handed to `steps.analyse` (`training`).
    """
    encoding = image is not None
    if encoding:
        batch, height, width = ops.shape(image)[:3]
    else:
        batch, rows, columns = ops.shape(planes[0])[:3]
        height, width = rows * STRIDE, columns * STRIDE
    encoder_states, decoder_states, reconstruction, gain = steps.initial_states(
        batch, height, width, encoding
    )
    skips = not encoding and wanted is not None and not steps.accumulates
    index = 0
    while encoding or index < len(planes):
        if encoding:
            bits, encoder_states = steps.analyse(
                image, reconstruction, gain, encoder_states, decoder_states, index, **kwargs
            )
        else:
            bits = planes[index]
        features, decoder_states = steps.decode_bits(bits, decoder_states, index)
        index += 1
        if skips and index not in wanted:
            yield Iteration(bits, None)
            continue
        reconstruction, gain = steps.synthesise(features, reconstruction, gain)
        yield Iteration(bits, reconstruction)


class ProgressiveNetwork(keras.Model):
    """Encoder, binarizer, decoder and synthesis of one codec, and their one-iteration steps.

    Calling it on a batch runs the loop for all iterations, which is what training does. Losses and
    metrics are `training.TrainingModel`'s business.

    Args:
        config: `CodecConfig`.

    Call arguments:
        images: `[B, H, W, 3]`, 0 to 255; sides are multiples of 16.
        training: bool. Whether bits have a gradient (and are drawn, if the config says so).
        num_iterations: int. Defaults to the config's.

    Output:
        Dictionary of `reconstructions`, `[B, N, H, W, 3]` float32 in [-1, 1] (not clipped), and
        `planes`, `[B, N, H/16, W/16, bits]`.
    """

    def __init__(self, config, **kwargs):
        super().__init__(**kwargs)
        self.config = config
        make_encoder, make_decoder, make_synthesis = architectures.ARCHITECTURES[
            config.architecture
        ]
        self.encoder = make_encoder(config)
        self.binarizer = Binarizer(
            config.bits,
            stochastic=config.stochastic_bits,
            iterations=config.iterations if config.atoms else None,
            name="binarizer",
        )
        self.decoder = make_decoder(config)
        self.synthesis = make_synthesis(config)
        if config.atoms:
            self.block_analysis = BlockAnalysis(
                config.iterations, config.atoms, name="block_analysis"
            )
            self.embedding = DensePerIteration(
                config.iterations, config.bits, 0.0, name="embedding"
            )
            self.block_synthesis = BlockSynthesis(
                config.iterations, config.atoms, name="block_synthesis"
            )
        self.gain = None
        if config.reconstruction == "residual_scaling":
            self.gain = architectures.gain_estimator()

    @classmethod
    def create(cls, config):
        """A network whose variables exist, with random weights."""
        # A fixed name: the paths of the variables are keys in weight files.
        network = cls(config, name="codec")
        network(keras.Input(batch_shape=(1, 2 * STRIDE, 2 * STRIDE, 3)), num_iterations=1)
        return network

    @property
    def accumulates(self):
        """Whether P[i] needs P[i-1], so that a decoder can skip no synthesis."""
        return self.config.reconstruction != "one_shot"

    def initial_states(self, batch, height, width, encoding=True):
        """States of encoder and decoder, P[0] and the gain for the first residual.

        The encoder's states are None where nothing is to be encoded.
        """
        encoder_states = None
        if encoding:
            encoder_states = self.encoder.initial_states(batch, height, width)
        size = height // STRIDE, width // STRIDE
        decoder_states = self.decoder.initial_states(batch, *size)
        if self.config.atoms:
            # A sum over iterations: not in the lower precision of mixed training.
            memory = ops.zeros((batch, *size, SAMPLES), dtype=self.variable_dtype)
            decoder_states.append([memory])
        reconstruction = ops.zeros((batch, height, width, 3), dtype="float32")
        gain = ops.ones((batch, 1, 1, 1), dtype="float32")
        if self.gain is not None:
            gain = ops.ones((batch, height, width, 1), dtype="float32")
        return encoder_states, decoder_states, reconstruction, gain

    def analyse(
        self, image, reconstruction, gain, encoder_states, decoder_states, index, training=False
    ):
        """Bits of the residual `image - reconstruction`, and the encoder's new states."""
        residual = (image - reconstruction) * gain  # [B, H, W, 3]
        seen = residual
        if self.config.encoder_sees_image:
            residual = self.config.residual_scale * residual
            seen = ops.concatenate([residual, image], axis=-1)
        features, encoder_states = self.encoder(seen, encoder_states)
        if self.config.atoms:
            coefficients = self.block_analysis(residual, decoder_states[0][0], index=index)
            features = ops.concatenate([features, coefficients], axis=-1)
        # In float32, as a decoder reads them from a file: both run the same compiled functions.
        bits = self.binarizer(features, index=index, training=training)
        bits = ops.cast(bits, "float32")
        if self.config.good_enough:
            error = visible_error(image, reconstruction)
            bits = ops.where(error < self.config.good_enough, 1.0, bits)
        return bits, encoder_states

    def decode_bits(self, bits, decoder_states, index):
        """Features of the picture so far, and the decoder's new states."""
        if self.config.good_enough:
            bits = bits * ops.cast(ops.any(bits < 0, axis=-1, keepdims=True), bits.dtype)
        if not self.config.atoms:
            return self.decoder(bits, decoder_states)
        *decoder_states, (memory,) = decoder_states
        embedded = self.embedding(bits, index=index)
        features, decoder_states = self.decoder(embedded, decoder_states)
        step = self.block_synthesis(bits, decoder_states[0][0], index=index)
        memory = memory + ops.cast(step, memory.dtype)
        # The network may go over the blocks again, to hide their borders.
        finer = geometry.after(self.decoder).positions(1)
        blocks = ops.depth_to_space(memory, finer, data_format="channels_last")
        features = ops.concatenate([features, ops.cast(blocks, features.dtype)], axis=-1)
        return features, [*decoder_states, [memory]]

    def synthesise(self, features, reconstruction, gain):
        """P[i] and the gain of the next residual, from decoded data only."""
        output = ops.cast(self.synthesis(features), "float32")  # [B, H, W, 3]
        if self.config.reconstruction == "one_shot":
            return output, gain
        output = output / gain
        if self.gain is not None:
            gain = self._next_gain(output)
        return reconstruction + output, gain

    def _next_gain(self, decoded_residual):
        height, width = ops.shape(decoded_residual)[1:3]
        blocks = ops.cast(self.gain(decoded_residual), "float32")  # [B, H/32, W/32, 1]
        gain = ops.repeat(ops.repeat(blocks, 2 * STRIDE, axis=1), 2 * STRIDE, axis=2)
        return gain[:, :height, :width, :]

    def call(self, images, training=False, num_iterations=None):
        image = normalise(images)
        reconstructions, planes = [], []
        for iteration in iterate(self, image=image, training=training):
            reconstructions.append(iteration.reconstruction)
            planes.append(iteration.bits)
            if len(planes) == (num_iterations or self.config.iterations):
                break
        return {
            "reconstructions": ops.stack(reconstructions, axis=1),
            "planes": ops.stack(planes, axis=1),
        }


class CompiledSteps:
    """The compiled twin of a `ProgressiveNetwork`, for `iterate`: the whole picture at once.

    What it has beside the steps is between `iterate` and arrays as files have them.
    `tiling.TiledSteps` has the same, so nobody has to ask which one it uses.
    """

    def __init__(self, network):
        self.accumulates = network.accumulates
        self.initial_states = network.initial_states
        self.analyse = compilation.compile_for_inference(network.analyse, network)
        self.decode_bits = compilation.compile_for_inference(network.decode_bits, network)
        self.synthesise = compilation.compile_for_inference(network.synthesise, network)

    def image_of(self, pixels):
        """What `iterate` is to encode, of uint8 `[B, H, W, 3]`."""
        return normalise(pixels)

    def planes_of(self, planes):
        """What `iterate` is to decode, of uint8 `[B, H/16, W/16, bits]`, zeros and ones."""
        # As the binarizer gives them to the encoder's own decoder, in type too.
        return [2.0 * bits.astype(np.float32) - 1.0 for bits in planes]

    def is_held(self, reconstruction):
        """Whether an iteration's reconstruction can be read, though the loop may have gone on."""
        del reconstruction
        return True

    def tiles(self, reconstruction, index):
        """Yields a picture of the batch in parts.

        Yields:
            Pairs of slices (rows and columns) and float32 `[height, width, 3]`, not clipped.
        """
        values = ops.cast(reconstruction[index], "float32")
        yield (slice(None), slice(None)), ops.convert_to_numpy(values)

    def end_encoding(self, reconstruction):
        """Frees what only a further `analyse` would need."""


def normalise(images):
    """Pixels 0 to 255 to float32 in [-1, 1]."""
    return ops.cast(images, "float32") / 127.5 - 1.0
