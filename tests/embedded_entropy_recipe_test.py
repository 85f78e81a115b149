"""Tests for rnn_codec/embedded/entropy_recipe.py and entropy_network.py."""

import dataclasses
import os
import tempfile
from unittest import mock

from absl.testing import absltest
import entropy_models
import keras
import numpy as np
import pytest
import testing

from rnn_codec import presets
from rnn_codec.embedded import (
    channel_order,
    entropy_model,
    entropy_network,
    entropy_options,
    entropy_recipe,
    network,
    runs,
)
from rnn_codec.embedded.config import EmbeddedConfig
from rnn_codec.errors import CodecError
from rnn_codec.training import checkpoints, data

PLANES, LATENTS = 4, 10
# Of two planes, because each is compiled.
CONFIG = EmbeddedConfig("tiny", channels=4, latents=LATENTS, iterations=2)
OPTIONS = entropy_options.EntropyOptions(
    steps=4,
    steps_per_epoch=2,
    batch_size=2,
    patch_size=64,
    crops=4,
    mixed=4,
    features=8,
    signed_features=8,
)


def make_preset():
    made = network.EmbeddedNetwork.create(CONFIG)
    scale = made.quantiser.log_scale
    scale.assign(np.full(scale.shape, 1.5, np.float32))  # so that planes hold something
    return presets.from_network(made)


def photos():
    return data.PhotoArrays(
        [testing.make_array(80, 72, seed=seed) for seed in range(12)],
        validation_percent=30,
        minimum_side=64,
    )


@pytest.mark.network
class EntropyNetworkTest(absltest.TestCase):
    def test_computes_what_its_integers_compute(self):
        index = np.stack([entropy_models.index(6, 5, seed=s, spread=2.0) for s in range(4)])
        live = np.ones((PLANES, LATENTS), bool)
        # One run, as the bits below are of one.
        trained = entropy_network.EntropyNetwork(
            live, np.zeros((PLANES, LATENTS), int), np.full((PLANES, LATENTS), 0.2), 4, 8, 8
        )
        model = entropy_recipe.TrainedNetwork(trained, np.ones((PLANES, LATENTS)))
        model.build()
        model.compile(keras.optimizers.Adam(0.05), jit_compile=False)
        model.fit(index, epochs=15, batch_size=4, verbose=0)
        expected = np.asarray(trained(index[:1]))[0] * 30

        arrays = trained.export(np.full(PLANES, -63))
        arrays["order"] = np.arange(LATENTS, dtype=np.int16)
        arrays["runs"] = np.tile(np.array([0, LATENTS], np.int16), (PLANES, 1))
        encoder = runs.RunEncoder(entropy_model.EntropyModel(arrays, "definition"), index[0])
        for plane in range(PLANES):
            # Only probabilities are rounded further, to 16 bits.
            found = encoder.channel_bits().sum()
            np.testing.assert_allclose(found, expected[plane], rtol=2e-3)
            encoder.encode(plane, 0, LATENTS)
        for name in ("mix_1", "conv_2", "update_0", "update_1", "out_0", "lean_1"):
            self.assertGreater(np.abs(arrays[name]).max(), 3, name)


class ChannelOrderTest(absltest.TestCase):
    def test_what_gains_most_for_its_bits_comes_first(self):
        gains = np.array([[1.0, 4.0, 0.0, 2.0], [2.0, 3.0, 0.0, 2.0]])
        bits = np.array([[1.0, 2.0, 0.0, 4.0], [2.0, 1.5, 0.0, 2.0]])
        np.testing.assert_array_equal(channel_order.order(gains, bits), [1, 0, 3, 2])

    def test_bits_of_planes_are_entropies(self):
        # Half of the places become significant at plane 1 and are refined at plane 2.
        index = np.zeros((1, 4, 4, 2), np.int16)
        index[:, ::2, :, 1] = 3
        bits = channel_order.bits_of_planes(index, 3)
        np.testing.assert_allclose(bits, [[0, 0], [0, 1.5], [0, 0.5]], atol=1e-6)

    def test_gains_are_those_of_single_channels(self):
        made = network.EmbeddedNetwork.create(CONFIG)
        pictures = np.stack([testing.make_array(64, 64, seed=3)]).astype(np.float32) / 127.5 - 1
        gains = channel_order.measure_gains(made, pictures, (0, 1))
        self.assertEqual(gains.shape, (2, LATENTS))
        self.assertTrue(np.isfinite(gains).all())

    def test_equal_runs(self):
        ends = entropy_recipe.equal_runs(np.array([4.0, 1, 1, 1, 1, 4, 0, 0]), 3)
        np.testing.assert_array_equal(ends, [0, 1, 5, 8])


@pytest.mark.network
class TrainTest(absltest.TestCase):
    def test_makes_a_model_and_goes_on(self):
        preset = make_preset()
        folder = self.enterContext(tempfile.TemporaryDirectory())
        half = dataclasses.replace(OPTIONS, steps=2)
        entropy_recipe.train(preset, photos(), half, folder)
        with self.assertRaisesRegex(CodecError, "^[^\n]*holds a run already; add --resume"):
            entropy_recipe.train(preset, photos(), OPTIONS, folder)
        with mock.patch.object(entropy_recipe, "index_of", side_effect=AssertionError):
            figures = entropy_recipe.train(preset, photos(), OPTIONS, folder, resume=True)
        with np.load(os.path.join(folder, checkpoints.FILE_NAME)) as file:
            self.assertIn(b'"step": 4', file["state"].tobytes())
        self.assertLess(figures["loss"], 10)
        self.assertIn("bits_per_pixel/iteration_02", figures)

        made = presets.load(os.path.join(folder, "preset"))
        self.assertNotEqual(made.identity, preset.identity)
        model = entropy_model.EntropyModel(made.context)
        index = entropy_models.index(3, 4, planes=2)
        encoder, decoder = runs.RunEncoder(model, index), runs.RunDecoder(model, (3, 4))
        for plane in range(2):
            ends = np.unique(model.runs[plane])
            for first, last in zip(ends, ends[1:]):
                decoder.decode(plane, first, last, encoder.encode(plane, first, last))
        np.testing.assert_array_equal(decoder.index(), encoder.index())


if __name__ == "__main__":
    absltest.main()
