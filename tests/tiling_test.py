"""Tests for rnn_codec/recurrent/tiling.py: tiles and whole pictures, on tiny networks."""

import dataclasses
import itertools

from absl.testing import absltest, parameterized
import keras
import numpy as np
import progressive_test as networks
import pytest
import testing

from rnn_codec.layers.common import dtype_policy
from rnn_codec.recurrent import progressive, tiling

pytestmark = pytest.mark.network

CONFIGS = [networks.PRODUCT, networks.SCALED, networks.BLOCKS, *networks.PAPER]
ITERATIONS = networks.ITERATIONS


def both(config, more=0):
    """Compiled steps for the whole picture, and for tiles as narrow as they may be, or wider."""
    network = networks.shared_network(config)
    compiled = progressive.CompiledSteps(network)
    margin = tiling.TiledSteps(network, compiled).margin
    return compiled, tiling.TiledSteps(network, compiled, margin + margin % 2 + more)


def make_pixels(rows, columns):
    return testing.make_array(16 * rows, 16 * columns)[None]


def assembled(picture, shape):
    """The float pixels of a `tiling.TiledPicture`, every one given once."""
    whole = np.full((1, *shape), np.nan, np.float32)
    for (rows, columns), pixels in picture.tiles():
        assert np.isnan(whole[:, rows, columns]).all()
        whole[:, rows, columns] = pixels
    return whole


def decode(tiled, planes, wanted, shape):
    turns = progressive.iterate(tiled, planes=planes, wanted=wanted)
    return {
        number: assembled(turn.reconstruction, shape)
        for number, turn in enumerate(turns, start=1)
        if number in wanted
    }


class TilingTest(parameterized.TestCase):
    @parameterized.named_parameters(
        (f"{config.name}_{rows}x{columns}", config, rows, columns)
        for config in CONFIGS
        for rows, columns in ((14, 19), (3, 13))
    )
    def test_decoder_shows_no_seams(self, config, rows, columns):
        whole, tiled = both(config)
        shape = (16 * rows, 16 * columns, 3)
        rng = np.random.default_rng(0)
        bits = rng.integers(0, 2, (ITERATIONS, 1, rows, columns, config.bits), np.uint8)
        signs = 2.0 * bits.astype(np.float32) - 1.0
        expected = networks.decode(whole, list(signs))
        wanted = (1, ITERATIONS)
        for number, picture in decode(tiled, list(bits), wanted, shape).items():
            np.testing.assert_allclose(picture, expected[number - 1], atol=1e-4, rtol=1e-4)

    @parameterized.named_parameters((config.name, config) for config in CONFIGS)
    def test_encoder_gives_the_same_bits(self, config):
        rows, columns = 13, 15
        whole, tiled = both(config, more=2)
        pixels = make_pixels(rows, columns)
        image = progressive.normalise(pixels)
        planes, _ = networks.encode(whole, image)
        turns = itertools.islice(progressive.iterate(tiled, image=pixels), ITERATIONS)
        tiled_planes, pictures = zip(
            *[(turn.bits, assembled(turn.reconstruction, pixels.shape[1:])) for turn in turns]
        )
        # A feature next to zero may round to the other side, and then more of that block.
        self.assertLess(np.mean(np.stack(planes) != np.stack(tiled_planes)), 0.01)
        # What the encoder shows is what its bits decode to.
        decoded = decode(tiled, list(tiled_planes), (1, 2, 3), pixels.shape[1:])
        for number, picture in decoded.items():
            np.testing.assert_array_equal(picture, pictures[number - 1])

    def test_a_picture_must_be_read_before_the_loop_goes_on(self):
        _, tiled = both(networks.BLOCKS)
        turns = progressive.iterate(tiled, image=make_pixels(2, 2))
        first, _ = next(turns).reconstruction, next(turns)
        with self.assertRaisesRegex(RuntimeError, "before the loop went on"):
            assembled(first, (32, 32, 3))

    def test_states_take_the_compute_precision(self):
        network = networks.make_network(dataclasses.replace(networks.PRODUCT, name="half"))
        with dtype_policy("mixed_bfloat16"):
            half = networks.make_network(networks.PRODUCT)
        sizes = [
            sum(
                array.nbytes
                for array in keras.tree.flatten(tiling._Canvas(n, 1, (4, 4), 6, 6, True)._states)
            )
            for n in (network, half)
        ]
        self.assertEqual(sizes[0], 2 * sizes[1])


if __name__ == "__main__":
    absltest.main()
