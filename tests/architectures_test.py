"""Tests for rnn_codec/recurrent/architectures.py."""

from absl.testing import absltest, parameterized
import keras
from keras import ops
import numpy as np
import pytest

from rnn_codec import presets
from rnn_codec.layers.common import DepthToSpace, ResidualBlock
from rnn_codec.recurrent import architectures
from rnn_codec.recurrent.config import CodecConfig
from rnn_codec.recurrent.progressive import ProgressiveNetwork

pytestmark = pytest.mark.network

TINY = 0.01  # times any width: 8 channels

# The paper's table, as the released code's re-implementations agree on it. Input channels, output
# channels, kernel, hidden kernel; a depth-to-space quarters the channels between the last four.
PAPER_ENCODER = ((64, 256, 3, 1), (256, 512, 3, 1), (512, 512, 3, 1))
PAPER_DECODER = ((512, 512, 2, 1), (128, 512, 3, 1), (128, 256, 3, 3), (64, 128, 3, 3))

# Parameters of a cell, from the number of weights in one convolution of its input and one of its
# state, and in its 1x1 convolution of the input.
PARAMETERS = {
    "lstm": lambda x, h, _: 4 * (x + h),
    "associative_lstm": lambda x, h, _: 9 * (x + h) // 2,
    "gru": lambda x, h, _: 3 * (x + h),
    "residual_gru": lambda x, h, shortcut: 3 * x + 4 * h + shortcut,
}

# The trained weights of the default preset are kept under these names.
CELL = ("input/kernel", "input/bias", "gates/kernel", "candidate/kernel")
CONV = ("kernel", "bias")
BLOCK = ("first/kernel", "first/bias", "second/kernel", "second/bias")
VARIABLES = {
    "encoder/conv": CONV,
    "encoder/rnn_1": CELL,
    "encoder/rnn_2": CELL,
    "block_analysis/project": ("kernel",),
    "block_analysis/gate": CONV,
    "binarizer/conv": CONV,
    "embedding": CONV,
    "decoder/rnn_1": CELL,
    "decoder/expand": CONV,
    "decoder/rnn_2": CELL,
    "block_synthesis/spread": ("kernel",),
    "block_synthesis/step": CONV,
    "block_synthesis/restore": ("kernel",),
    "synthesis/layers/expand_1": CONV,
    "synthesis/layers/residual_1": BLOCK,
    "synthesis/layers/residual_2": BLOCK,
    "synthesis/layers/expand_2": CONV,
    "synthesis/layers/pixels": CONV,
    "synthesis/linear": ("kernel",),
}


def count(cell, rows):
    return sum(
        PARAMETERS[cell](k * k * inputs * outputs, h * h * outputs**2, inputs * outputs)
        for inputs, outputs, k, h in rows
    )


def symbolic(tensors):
    """The same nest of tensors without values, to get shapes at no cost."""
    return keras.tree.map_structure(lambda t: keras.KerasTensor(t.shape, t.dtype), tensors)


def shapes(tensors):
    return [tensor.shape for tensor in keras.tree.flatten(tensors)]


class SizeTest(parameterized.TestCase):
    @parameterized.parameters(
        ("residual_gru", 25_298_752),
        ("gru", 22_669_120),
        ("lstm", 30_213_952),
        ("associative_lstm", 31_848_256),
    )
    def test_paper_family_has_the_weights_of_the_papers_table(self, name, total):
        config = presets.CONFIGS[name]
        network = ProgressiveNetwork.create(config)
        encoder = 3 * 3 * 3 * 64 + count(config.encoder_cell, PAPER_ENCODER)
        decoder = 32 * 512 + count(config.decoder_cell, PAPER_DECODER)
        self.assertEqual(network.encoder.count_params(), encoder)
        self.assertEqual(network.binarizer.count_params(), 512 * 32 + 32)  # the bias is ours
        self.assertEqual(network.decoder.count_params(), decoder)
        self.assertEqual(network.synthesis.count_params(), 32 * 3)
        self.assertEqual(network.count_params(), total)

    def test_variables_of_the_default_preset_are_frozen(self):
        network = ProgressiveNetwork.create(presets.CONFIGS["two_scale_gru"])
        expected = {f"codec/{layer}/{name}" for layer, names in VARIABLES.items() for name in names}
        self.assertEqual({variable.path for variable in network.variables}, expected)
        self.assertEqual(network.count_params(), 7_245_740)


class ShapeTest(parameterized.TestCase):
    # Per architecture: how much smaller than the picture are the states of the encoder's cells,
    # those of the decoder's, and the decoder's features, of which there are how many.
    @parameterized.product(
        (
            dict(architecture="stacked", encoder=(4, 8, 16), decoder=(16, 8, 4, 2), features=1),
            dict(architecture="two_scale", encoder=(8, 16), decoder=(16, 8), features=8),
            dict(architecture="wide_two_scale", encoder=(8, 16), decoder=(16, 8), features=8),
        ),
        cell=("associative_lstm", "residual_gru"),
    )
    def test_resolutions(self, architecture, encoder, decoder, features, cell):
        height, width = 48, 32
        config = CodecConfig("test", architecture, cell, cell, width=TINY, bits=4)
        network = ProgressiveNetwork.create(config)
        states = symbolic(network.initial_states(2, height, width))
        encoder_states, decoder_states, picture, _ = states

        seen, new_encoder_states = network.encoder(picture, encoder_states)
        bits = network.binarizer(seen)
        decoded, new_decoder_states = network.decoder(bits, decoder_states)

        self.assertEqual(seen.shape, (2, height // 16, width // 16, 8))
        self.assertEqual(bits.shape, (2, height // 16, width // 16, 4))
        self.assertEqual(decoded.shape[:3], (2, height // features, width // features))
        outputs = network(picture, num_iterations=1)
        self.assertEqual(outputs["planes"].shape, (2, 1, height // 16, width // 16, 4))
        self.assertEqual(outputs["reconstructions"].shape, (2, 1, height, width, 3))
        for states, new_states, scales in (
            (encoder_states, new_encoder_states, encoder),
            (decoder_states, new_decoder_states, decoder),
        ):
            self.assertEqual(shapes(new_states), shapes(states))
            hidden = [cell_states[0].shape[1:3] for cell_states in states]
            self.assertEqual(hidden, [(height // scale, width // scale) for scale in scales])

    @parameterized.parameters((32, 32, 1, 1), (16, 48, 1, 2), (80, 64, 3, 2))
    def test_one_gain_for_each_block_of_32(self, height, width, rows, columns):
        gains = architectures.gain_estimator()(keras.KerasTensor((2, height, width, 3)))
        self.assertEqual(gains.shape, (2, rows, columns, 1))


class LayerTest(parameterized.TestCase):
    def test_linear_skip_adds_a_block_transform(self):
        # Layers that give zero leave the linear map: one kernel for each pixel of a block.
        skip = architectures.LinearSkip(
            [keras.layers.UpSampling2D(2), keras.layers.Dense(3)], block=2
        )
        inputs = np.random.default_rng(1).normal(size=(1, 3, 2, 5)).astype(np.float32)
        skip.build(inputs.shape)
        skip.main.layers[1].kernel.assign(np.zeros((5, 3)))
        outputs = np.asarray(skip(inputs))
        kernel = np.asarray(skip.linear.kernel)[0, 0].reshape(5, 2, 2, 3)
        expected = np.einsum("bhwc,cyxk->bhywxk", inputs, kernel).reshape(1, 6, 4, 3)
        np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)

    def test_residual_block_starts_as_the_identity(self):
        block = ResidualBlock()
        inputs = np.random.default_rng(1).normal(size=(1, 4, 5, 3)).astype(np.float32)
        block.build(inputs.shape)
        block.first.kernel.assign(np.ones((3, 3, 3, 3)))
        np.testing.assert_array_equal(ops.convert_to_numpy(block(inputs)), inputs)

    def test_residual_block_adds_to_its_input(self):
        block = ResidualBlock()
        block.build((None, None, None, 1))
        block.first.kernel.assign(np.full((3, 3, 1, 1), 2.0))
        block.first.bias.assign([-1.0])
        block.second.kernel.assign(np.full((3, 3, 1, 1), 3.0))
        block.second.bias.assign([0.5])
        # x + 3 relu(2 relu(x) - 1) + 0.5 where the kernels' other taps meet padding.
        outputs = [block(np.full((1, 1, 1, 1), x, np.float32)) for x in (-2.0, 0.25, 4.0)]
        np.testing.assert_allclose(np.ravel(outputs), [-1.5, 0.75, 25.5], rtol=1e-6)

    def test_gains_are_at_least_one(self):
        estimator = architectures.gain_estimator()
        estimator.build((1, 32, 32, 3))
        rng = np.random.default_rng(1)
        for weight in estimator.weights:
            weight.assign(rng.normal(size=weight.shape))
        pictures = rng.uniform(-1.0, 1.0, (8, 32, 32, 3)).astype(np.float32)
        gains = ops.convert_to_numpy(estimator(pictures))
        self.assertTrue(np.all(gains >= 1.0) and np.all(np.isfinite(gains)))
        self.assertGreater(np.ptp(gains), 0.1)

    def test_depth_to_space_spreads_channels_row_by_row(self):
        inputs = np.arange(2 * 3 * 4 * 8).reshape(2, 3, 4, 8)
        outputs = ops.convert_to_numpy(DepthToSpace()(inputs))
        self.assertEqual(outputs.shape, (2, 6, 8, 2))
        for row, column in np.ndindex(2, 2):
            first = 2 * (2 * row + column)
            np.testing.assert_array_equal(
                outputs[:, row::2, column::2], inputs[..., first : first + 2]
            )


if __name__ == "__main__":
    absltest.main()
