"""Tests for rnn_codec/layers/geometry.py and for what wings tell it: against what networks do."""

import dataclasses
from fractions import Fraction
import math

from absl.testing import absltest, parameterized
import keras
import numpy as np
import progressive_test as networks
import pytest
import testing

from rnn_codec import presets, wings
from rnn_codec.embedded import complexity as embedded_complexity
from rnn_codec.embedded import tiles
from rnn_codec.embedded.config import EmbeddedConfig
from rnn_codec.embedded.network import EmbeddedNetwork
from rnn_codec.hybrid import complexity as hybrid_complexity
from rnn_codec.hybrid.config import HybridConfig
from rnn_codec.hybrid.networks import HybridNetwork
from rnn_codec.layers import geometry
from rnn_codec.layers.common import DepthToSpace, SpaceToDepth
from rnn_codec.recurrent import complexity, progressive
from rnn_codec.recurrent.config import STRIDE

pytestmark = pytest.mark.network

# Blocks; the middle one is spoilt. The widest network reaches six of them.
SIDE, MIDDLE = 17, 8
FAMILY = [*networks.FAMILY, networks.BLOCKS]


def spoilt(array):
    """The array with no number in its middle block."""
    array = np.array(keras.ops.convert_to_numpy(keras.ops.cast(array, "float32")))
    scale = array.shape[1] // SIDE
    middle = slice(scale * MIDDLE, scale * (MIDDLE + 1))
    array[:, middle, middle] = np.nan
    return array


def reached(before, after):
    """How far from the middle block results changed, in pixels."""
    distances = [0]
    for old, new in zip(keras.tree.flatten(before), keras.tree.flatten(after), strict=True):
        old, new = (keras.ops.convert_to_numpy(array) for array in (old, new))
        pixels = SIDE * STRIDE // old.shape[1]
        changed = np.argwhere((old != new).any(axis=(0, 3)))
        if changed.size:
            first, last = changed.min() * pixels, (changed.max() + 1) * pixels
            distances += [STRIDE * MIDDLE - first, last - STRIDE * (MIDDLE + 1)]
    return max(distances)


def in_blocks(pixels):
    return math.ceil(pixels / STRIDE)


def randomised(network):
    rng = np.random.default_rng(0)
    for weight in network.trainable_variables:
        deviation = math.sqrt(2.0 / math.prod(weight.shape[:-1]))
        weight.assign(rng.normal(0.0, deviation, weight.shape))
    return network


class FoldTest(absltest.TestCase):
    def test_layers_in_a_row(self):
        layers = [
            keras.layers.Conv2D(4, 8, strides=4, padding="same"),  # 2 more on each side of 4 pixels
            keras.layers.ReLU(),
            keras.Sequential([keras.layers.Conv2D(8, 3, padding="same"), DepthToSpace()]),
            SpaceToDepth(),
        ]
        keras.Sequential(layers).build((1, 16, 16, 3))
        result = geometry.through(layers)
        self.assertEqual((result.scale, result.reach), (4, 2 + 4))
        self.assertEqual(result.macs, (8 * 8 * 3 * 4 + 3 * 3 * 4 * 8) / 16)
        self.assertEqual(result.positions(64), 16)

    def test_what_is_finer_than_its_pixels(self):
        result = geometry.through([DepthToSpace(), keras.layers.Conv2D(3, 3, padding="same")])
        self.assertEqual((result.scale, result.reach), (Fraction(1, 2), Fraction(1, 2)))
        self.assertEqual(result.positions(10), 20)

    def test_a_layer_that_is_not_known_raises(self):
        for layer in (
            keras.layers.AveragePooling2D(2),
            keras.layers.Conv2D(3, 3, padding="valid"),
            keras.layers.Conv2D(3, 3, padding="same", dilation_rate=2),
            keras.Sequential([keras.layers.Dense(3)]),
        ):
            with self.assertRaisesRegex(TypeError, "no geometry is known of"):
                geometry.after(layer)


class RecurrentTest(parameterized.TestCase):
    @networks.each(FAMILY)
    def test_each_part_reaches_as_far_as_its_layers_say(self, config):
        network = networks.shared_network(config)
        told = complexity.parts_of(network)
        image = testing.make_array(STRIDE * SIDE, STRIDE * SIDE)[None]
        image = np.array(progressive.normalise(image))
        encoder, decoder, reconstruction, gain = network.initial_states(1, *image.shape[1:3])
        bits = np.ones((1, SIDE, SIDE, config.bits), np.float32)

        def analyse(image, encoder):
            return network.analyse(image, reconstruction, gain, encoder, decoder, 0)

        def decode(bits, decoder):
            return network.decode_bits(bits, decoder, 0)

        features, _ = decode(bits, decoder)
        parts = [
            (told.encoder, analyse, (image, encoder)),
            (told.decoder, decode, (bits, decoder)),
            (told.synthesis, network.synthesis, (features,)),
        ]
        for part, function, arguments in parts:
            changed = reached(
                function(*arguments), function(*keras.tree.map_structure(spoilt, arguments))
            )
            with self.subTest(part):
                self.assertEqual(in_blocks(changed), in_blocks(part.reach))

    @networks.each(FAMILY)
    def test_scales_are_those_of_the_pictures(self, config):
        parts = complexity.parts_of(networks.shared_network(config))
        self.assertEqual((parts.encoder.scale, parts.synthesis.scale), (STRIDE, 1))

    def test_gains(self):
        network = networks.shared_network(networks.SCALED)
        # Strides 2, each 3x3 reads one position more than its own two: 1 + 2 + 4 + 8.
        gain = complexity.parts_of(network).gain
        self.assertEqual((gain.reach, gain.scale), (15, 32))
        pictures = np.zeros((1, 256, 256, 3), np.float32)
        pictures[:, 128 + 15, 128] = np.nan  # of the block from 128 to 160 and the one above
        rows = np.isnan(keras.ops.convert_to_numpy(network.gain(pictures))).any(axis=(0, 2, 3))
        self.assertEqual(np.flatnonzero(rows).tolist(), [4])
        pictures[:, 128 + 14, 128] = np.nan
        rows = np.isnan(keras.ops.convert_to_numpy(network.gain(pictures))).any(axis=(0, 2, 3))
        self.assertEqual(np.flatnonzero(rows).tolist(), [3, 4])

    def test_default_preset(self):
        config = presets.load("two_scale_gru", load_weights=False).config
        network = progressive.ProgressiveNetwork.create(dataclasses.replace(config, width=0.01))
        # Encoder 2 + 4 + 8, decoder 16 + 8; synthesis four times 4, then 4 and 2.
        reach = [part.reach for part in complexity.parts_of(network) if part]
        self.assertEqual(reach, [14, 24, 22])

    def test_cost_is_of_one_iteration(self):
        config = networks.BLOCKS
        costs = [
            complexity.measure(dataclasses.replace(config, iterations=count)) for count in (1, 4)
        ]
        for name in ("encoder_macs", "decoder_macs", "synthesis_macs"):
            self.assertEqual(*[getattr(cost, name) for cost in costs])
        self.assertEqual(costs[0].encode_macs(3), 3 * costs[0].encode_macs(1))


class HybridTest(parameterized.TestCase):
    @parameterized.product(block=(1, 2), layers=(4, 7, 30), reduction=(1, 2))
    def test_reach(self, block, layers, reduction):
        config = HybridConfig(
            "a", networks="all", layers=layers, filters=4, block=block, batch_normalisation=False
        )
        network = randomised(HybridNetwork.create(config))
        parts = hybrid_complexity.parts_of(network)
        pixels = np.full((1, SIDE * STRIDE // reduction, SIDE * STRIDE // reduction, 3), 0.5)

        def restore(pixels):
            return network.restore(pixels.astype(np.float32), reduction=reduction)

        name = "full_restoration" if reduction == 1 else "restoration"
        changed = reached(restore(pixels), restore(spoilt(pixels)))
        # Of the two pixels that the filter makes of one, one reads less far, to either side.
        self.assertBetween(parts[name].reach - changed, 0, reduction - 1)
        expected = block * layers + (4 if reduction == 2 else 0)
        self.assertEqual(parts[name].reach, expected)
        self.assertGreaterEqual(hybrid_complexity.reach(network), expected)

    def test_compact_picture(self):
        network = randomised(HybridNetwork.create(HybridConfig("a", filters=4)))
        pixels = np.full((1, SIDE * STRIDE, SIDE * STRIDE, 3), 0.5, np.float32)
        before, after = (network.compress(array, 2) for array in (pixels, spoilt(pixels)))
        # 3x3 of pixels, then with a stride of 2, which reads on one side only, then of 2x2 pixels.
        part = hybrid_complexity.parts_of(network)["compact"]
        self.assertEqual((part.reach, part.scale), (4, 2))
        self.assertEqual(reached(before, after), 4)


class EmbeddedTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        config = EmbeddedConfig("a", channels=4, latents=6, iterations=2)
        self.network = randomised(EmbeddedNetwork.create(config))
        self.parts = embedded_complexity.parts_of(self.network)

    def test_reach(self):
        self.assertEqual((self.parts.analysis.reach, self.parts.analysis.scale), (28, STRIDE))
        self.assertEqual((self.parts.synthesis.reach, self.parts.synthesis.scale), (28, 1))
        pixels = np.full((1, SIDE * STRIDE, SIDE * STRIDE, 3), 0.5, np.float32)
        latents = np.ones((1, SIDE, SIDE, 6), np.float32)
        plane, sent = np.int32([1]), np.int32([3])

        def synthesise(latents):
            return self.network.synthesise(latents, plane, sent)

        for function, given in ((self.network.analyse, pixels), (synthesise, latents)):
            changed = reached(function(given), function(spoilt(given)))
            self.assertEqual(in_blocks(changed), in_blocks(28))

    def test_margin_of_tiles(self):
        farthest = max(part.reach for part in self.parts)
        self.assertEqual(tiles.MARGIN, in_blocks(farthest))

    def test_networks_run_once_whatever_the_rate(self):
        cost = embedded_complexity.measure(self.network.config)
        self.assertEqual(cost.encode_macs(2), cost.encode_macs(1))
        self.assertEqual(cost.decode_macs(2), cost.synthesis_macs)


class WingsTest(parameterized.TestCase):
    @parameterized.parameters(*(wing.name for wing in wings.every()))
    def test_every_wing_tells_what_its_default_costs(self, name):
        wing = wings.named(name)
        cost = wing.measure(wing.presets[0])
        self.assertGreater(cost.decode_macs(1), 1000)
        self.assertGreater(cost.parameters, 1000)


if __name__ == "__main__":
    absltest.main()
