"""Tests for rnn_codec/recurrent/receptive_field.py: what is computed against what networks do."""

import dataclasses

from absl.testing import absltest, parameterized
import keras
import numpy as np
import progressive_test as networks
import pytest
import testing

from rnn_codec import presets
from rnn_codec.recurrent import progressive, receptive_field
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
    return -(-pixels // STRIDE)


class ReceptiveFieldTest(parameterized.TestCase):
    @networks.each(FAMILY)
    def test_each_part_reaches_as_far_as_its_layers_say(self, config):
        network = networks.shared_network(config)
        reach = receptive_field.measure(network)
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
            ("encoder", analyse, (image, encoder)),
            ("decoder", decode, (bits, decoder)),
            ("synthesis", network.synthesis, (features,)),
        ]
        for name, function, arguments in parts:
            changed = reached(
                function(*arguments), function(*keras.tree.map_structure(spoilt, arguments))
            )
            with self.subTest(name):
                self.assertEqual(in_blocks(changed), in_blocks(getattr(reach, name)))

    def test_gains(self):
        network = networks.shared_network(networks.SCALED)
        # Strides 2, each 3x3 reads one position more than its own two: 1 + 2 + 4 + 8.
        self.assertEqual(receptive_field.measure(network).gain, 15)
        pictures = np.zeros((1, 256, 256, 3), np.float32)
        pictures[:, 128 + 15, 128] = np.nan  # of the block from 128 to 160 and the one above
        rows = np.isnan(keras.ops.convert_to_numpy(network.gain(pictures))).any(axis=(0, 2, 3))
        self.assertEqual(np.flatnonzero(rows).tolist(), [4])
        pictures[:, 128 + 14, 128] = np.nan
        rows = np.isnan(keras.ops.convert_to_numpy(network.gain(pictures))).any(axis=(0, 2, 3))
        self.assertEqual(np.flatnonzero(rows).tolist(), [3, 4])

    def test_default_preset(self):
        config = presets.load(load_weights=False).config
        network = progressive.ProgressiveNetwork.create(dataclasses.replace(config, width=0.01))
        # Encoder 2 + 4 + 8, decoder 16 + 8; synthesis four times 4, then 4 and 2.
        self.assertEqual(receptive_field.measure(network), receptive_field.Reach(14, 24, 22))


if __name__ == "__main__":
    absltest.main()
