"""Tests for rnn_codec/hybrid/networks.py and rnn_codec/hybrid/config.py."""

import dataclasses

from absl.testing import absltest, parameterized
import keras
from keras import ops
import numpy as np
from PIL import Image
import pytest
import testing

from rnn_codec import presets
from rnn_codec.hybrid import (
    config as hybrid_config,
)
from rnn_codec.hybrid import (
    networks as hybrid_networks,
)
from rnn_codec.hybrid import (
    recipe as hybrid_training,
)
from rnn_codec.hybrid.config import HybridConfig
from rnn_codec.hybrid.networks import HybridNetwork
from rnn_codec.layers.common import dtype_policy
from rnn_codec.standard import codecs as base_codecs

pytestmark = pytest.mark.network

SMALL = HybridConfig("small", layers=3, filters=8)


def random_pictures(*shape):
    return np.random.default_rng(0).random(shape, np.float32)


def random_preset(network):
    """A preset of the same network with other weights in all its layers."""
    preset, rng = presets.from_network(network), np.random.default_rng(0)
    for path, array in preset.weights.items():
        preset.weights[path] = array + rng.normal(0, 0.02, array.shape).astype(np.float16)
    return preset


class ConditionTest(parameterized.TestCase):
    def test_is_of_one_codec_and_of_two_levels_at_most(self):
        size = len(hybrid_config.QUALITY_KNOTS)
        for index, base in enumerate(hybrid_config.CONDITION_BASES):
            for place, level in enumerate(hybrid_config.QUALITY_KNOTS):
                expected = np.eye(size * len(hybrid_config.CONDITION_BASES))[size * index + place]
                condition = hybrid_networks.condition_of(base, level)
                np.testing.assert_array_equal(condition, expected)
                self.assertEqual(condition.dtype, np.float32)
            between = hybrid_networks.condition_of(base, 40).reshape(-1, size)[index]
            np.testing.assert_allclose(between, [0, 0.4, 0.6, 0, 0, 0], atol=1e-6)
            lowest = hybrid_networks.condition_of(base, 0).reshape(-1, size)[index]
            np.testing.assert_array_equal(lowest, [1, 0, 0, 0, 0, 0])

    @parameterized.parameters((None, 12), ("jpeg", None), ("unheard of", 12), (None, None))
    def test_unknown(self, base, level):
        self.assertFalse(hybrid_networks.condition_of(base, level).any())

    def test_what_trained_weights_depend_on(self):
        self.assertEqual(hybrid_config.QUALITY_KNOTS, (11, 25, 50, 100, 175, 255))
        bases = ("jpeg", "jpeg2000", "webp", "avif", "heif")
        self.assertEqual(hybrid_config.CONDITION_BASES, bases)


class NetworkTest(parameterized.TestCase):
    def test_layers_of_the_paper(self):
        network = HybridNetwork.create(HybridConfig("paper", colour="grey"))
        self.assertEqual(network.compact.count_params(), 38_145)
        self.assertEqual(network.restoration.count_params(), 670_529)
        convolutions = [
            layer for layer in network.restoration.layers if isinstance(layer, keras.layers.Conv2D)
        ]
        self.assertLen(convolutions, 20)
        self.assertLen(network.restoration.layers, 20 + 18 + 18)  # normalised and cut at zero
        self.assertEqual([layer.strides[0] for layer in network.compact.layers], [1, 2, 1])

    def test_blocks_cost_a_quarter(self):
        paper, blocks = (
            hybrid_networks.measure(HybridConfig("a", colour="grey", block=block))
            for block in (1, 2)
        )
        self.assertAlmostEqual(blocks.synthesis_macs / paper.synthesis_macs, 0.25, delta=0.01)
        self.assertEqual(paper.synthesis_macs, 664_704)
        self.assertEqual(paper.encoder_macs, 9_936)

    def test_shortcuts_keep_the_cost(self):
        plain = HybridConfig("plain", batch_normalisation=False)
        config = dataclasses.replace(plain, shortcuts=True)
        macs = [hybrid_networks.measure(one).synthesis_macs for one in (plain, config)]
        self.assertEqual(*macs)
        blocks = HybridNetwork.create(config).restoration.layers[1:-1]
        self.assertLen(blocks, 9)
        for values in ({"layers": 5}, {"batch_normalisation": True}):
            with self.assertRaisesRegex(ValueError, "shortcuts need an even number"):
                dataclasses.replace(config, **values)

    @parameterized.product(name=tuple(testing.HYBRIDS), channels=(1, 3))
    def test_shapes(self, name, channels):
        network = testing.make_hybrid(name).network
        pixels = random_pictures(2, 16, 24, channels)
        for reduction in network.config.reductions:
            compact = network.compress(pixels, reduction)
            self.assertEqual(compact.shape, (2, 16 // reduction, 24 // reduction, channels))
            restored = network.restore(compact, reduction=reduction)
            self.assertEqual(restored.shape, pixels.shape)
            self.assertEqual(keras.backend.standardize_dtype(restored.dtype), "float32")

    def test_a_condition_starts_without_effect(self):
        """A conditioned network begins where the other one ended."""
        config = testing.make_hybrid("conditioned").config
        plain = HybridNetwork.create(dataclasses.replace(config, conditioned=False))
        untrained = HybridNetwork.create(config)
        part = hybrid_training.part_for(untrained, random_preset(plain))
        presets.assign(part, untrained)
        presets.assign(random_preset(plain), plain)
        trained = testing.make_hybrid("conditioned", seed=1).network
        pixels = random_pictures(2, 16, 24, 3)
        conditions = [
            hybrid_networks.condition_of(*told)
            for told in ((None,), ("jpeg", 20), ("jpeg", 60), ("webp", 60))
        ]
        for reduction in config.reductions:
            expected = ops.convert_to_numpy(plain.restore(pixels, reduction=reduction))
            pictures = set()
            for condition in conditions:
                restored = untrained.restore(pixels, condition, reduction=reduction)
                np.testing.assert_allclose(restored, expected, atol=1e-5)
                restored = trained.restore(pixels, condition, reduction=reduction)
                pictures.add(ops.convert_to_numpy(restored).tobytes())
            self.assertLen(pictures, len(conditions))

    def test_a_conditioned_block(self):
        block = hybrid_networks.ConditionedBlock()
        inputs, condition = random_pictures(1, 6, 5, 4) - 0.5, random_pictures(3)
        block(inputs, condition)
        rng = np.random.default_rng(1)
        for variable in block.weights:
            variable.assign(rng.normal(size=variable.shape))
        scale, shift = (
            condition @ ops.convert_to_numpy(one.value) for one in (block.scale, block.shift)
        )
        block.first.activation = keras.activations.linear
        inner = ops.convert_to_numpy(block.first(np.maximum(inputs, 0)))
        expected = inputs + block.second(np.maximum((1 + scale) * inner + shift, 0))
        received = ops.convert_to_numpy(block(inputs, condition))
        np.testing.assert_allclose(received, ops.convert_to_numpy(expected), atol=1e-4)

    def test_conditions_need_shortcuts(self):
        config = testing.make_hybrid("conditioned").config
        for values in ({"shortcuts": False}, {"networks": "compact"}):
            with self.assertRaisesRegex(ValueError, "conditioned needs a RecCNN with shortcuts"):
                dataclasses.replace(config, **values)

    def test_each_size_has_its_own_reccnn(self):
        network = testing.make_hybrid("all", seed=1).network
        pixels = random_pictures(1, 16, 24, 3)
        before = [ops.convert_to_numpy(network.restore(pixels, reduction=r)) for r in (1, 2)]
        last = network.full_restoration.layers[-1].bias
        last.assign(last + 0.25)
        self.addCleanup(lambda: last.assign(last - 0.25))
        full, half = (ops.convert_to_numpy(network.restore(pixels, reduction=r)) for r in (1, 2))
        np.testing.assert_allclose(full - before[0], 0.25, atol=1e-5)
        np.testing.assert_array_equal(half, before[1])

    @parameterized.parameters("grey", "rgb")
    def test_starts_as_a_mean_and_a_bicubic_filter(self, colour):
        network = HybridNetwork.create(dataclasses.replace(SMALL, colour=colour))
        pixels = random_pictures(1, 16, 24, network.config.channels)
        compact = ops.convert_to_numpy(network.compress(pixels, 2))
        mean = pixels.reshape(1, 8, 2, 12, 2, -1).mean(axis=(2, 4))
        np.testing.assert_allclose(compact, mean, atol=1e-6)
        restored = ops.convert_to_numpy(network(pixels))
        np.testing.assert_allclose(restored, hybrid_networks.upsample(compact), atol=1e-6)

    def test_grey_networks_leave_chroma_alone(self):
        network = testing.make_hybrid("grey", seed=1).network
        pixels = random_pictures(1, 16, 16, 3)
        _, chroma = hybrid_networks.split_luma(network.restore(pixels, reduction=2))
        _, expected = hybrid_networks.split_luma(pixels)
        expected = hybrid_networks.upsample(expected)
        np.testing.assert_allclose(chroma, expected, atol=1e-5)

    def test_grey_pictures_stay_grey_in_networks_of_colour(self):
        network = testing.make_hybrid(seed=1).network
        grey = random_pictures(1, 16, 16, 1)
        of_three = network.compress(np.repeat(grey, 3, axis=-1), 2)
        of_one = network.compress(grey, 2)
        np.testing.assert_allclose(of_one, ops.mean(of_three, -1, keepdims=True), atol=1e-6)

    def test_config_round_trip(self):
        network = testing.make_hybrid("blocks").network
        again = HybridNetwork.from_config(network.get_config())
        self.assertEqual(again.config, network.config)

    def test_compact_pictures_are_not_rounded_by_half_precision(self):
        with dtype_policy("mixed_bfloat16"):
            network = HybridNetwork.create(SMALL)
        compact = ops.convert_to_numpy(network.compress(random_pictures(1, 16, 16, 3), 2))
        self.assertGreater(np.abs(compact - np.round(compact * 256) / 256).max(), 1e-3)


class FilterTest(parameterized.TestCase):
    def test_upsampling_is_pillows_bicubic(self):
        small = random_pictures(1, 12, 9, 1)
        image = Image.fromarray(small[0, ..., 0])
        expected = np.asarray(image.resize((18, 24), Image.Resampling.BICUBIC))
        upsampled = ops.convert_to_numpy(hybrid_networks.upsample(small))[0, ..., 0]
        # At the edges Pillow leaves out what is outside; here the edge goes on.
        inner = slice(4, -4)
        np.testing.assert_allclose(upsampled[inner, inner], expected[inner, inner], atol=1e-5)

    @parameterized.parameters(1, 2, 3)
    def test_upsampling_the_smallest(self, side):
        flat = np.full((1, side, 1, 3), 0.7, np.float32)
        upsampled = hybrid_networks.upsample(flat)
        self.assertEqual(upsampled.shape, (1, 2 * side, 2, 3))
        np.testing.assert_allclose(upsampled, 0.7, atol=1e-6)

    def test_luma_there_and_back(self):
        pixels = random_pictures(1, 4, 4, 3)
        joined = hybrid_networks.join_luma(*hybrid_networks.split_luma(pixels))
        np.testing.assert_allclose(joined, pixels, atol=1e-6)

    def test_luma_is_jpegs(self):
        pixels = np.rint(255 * random_pictures(8, 8, 3)).astype(np.uint8)
        luma, _ = hybrid_networks.split_luma(pixels.astype(np.float32))
        expected = np.asarray(Image.fromarray(pixels).convert("L"), np.float32)
        np.testing.assert_allclose(ops.convert_to_numpy(luma)[..., 0], expected, atol=1)


class ConfigTest(parameterized.TestCase):
    def test_bases_are_those_that_there_are(self):
        self.assertEqual(hybrid_config.BASES, tuple(base_codecs.CODECS))

    @parameterized.parameters(
        ({"networks": "none"}, "networks must be one of"),
        ({"colour": "cmyk"}, "colour must be one of"),
        ({"base": "gif"}, "base must be one of"),
        ({"block": 3}, "block must be one of"),
        ({"layers": 1}, "layers must be 2 to 100"),
        ({"filters": 2}, "filters must be 4 to 1024"),
        ({"lowest_quality": 80}, "lowest_quality must be from 0 to highest_quality"),
        ({"layers": 2.0}, "layers must be int"),
    )
    def test_faults(self, values, pattern):
        with self.assertRaisesRegex(ValueError, pattern):
            HybridConfig("a", **values)

    def test_whole_numbers_are_the_same_configuration(self):
        self.assertEqual(HybridConfig("a", lowest_quality=5), HybridConfig("a", lowest_quality=5.0))
        values = HybridConfig("a", lowest_quality=5).to_dict()
        self.assertEqual(HybridConfig.from_dict(values), HybridConfig("a"))

    @parameterized.parameters(
        *(name for name, one in presets.CONFIGS.items() if isinstance(one, HybridConfig))
    )
    def test_presets_have_qualities_of_their_base(self, name):
        config = presets.CONFIGS[name]
        qualities = base_codecs.CODECS[config.base].qualities
        self.assertLessEqual(qualities[0], config.lowest_quality)
        self.assertLessEqual(config.highest_quality, qualities[-1])


if __name__ == "__main__":
    absltest.main()
