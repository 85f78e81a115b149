"""Tests for rnn_codec/recurrent/context_recipe.py."""

import dataclasses
import os
import tempfile
from unittest import mock

from absl.testing import absltest, parameterized
import numpy as np
import pytest

from rnn_codec import presets
from rnn_codec.codec import Codec
from rnn_codec.container import bitstream
from rnn_codec.entropy import context_model
from rnn_codec.errors import CodecError, PresetError
from rnn_codec.recurrent import context_recipe
from rnn_codec.training import checkpoints, data
from tests import testing

pytestmark = pytest.mark.network

# Of which the tiny preset makes planes of 2x2 positions.
OPTIONS = context_recipe.ContextOptions(
    steps=4, steps_per_epoch=2, batch_size=2, patch_size=32, crops=4, features=8
)


def photos():
    return data.PhotoArrays(
        [testing.make_array(40, 40, seed=seed) for seed in range(12)],
        validation_percent=30,
        minimum_side=32,
    )


class ContextNetworkTest(parameterized.TestCase):
    def test_computes_what_its_integers_compute(self):
        # Trained for a few steps, so that no array is zero, on planes that are predictable.
        rng = np.random.default_rng(0)
        planes = rng.random((4, 3, 6, 5, 8)) < 0.8
        signs = context_recipe.signs(planes)
        network = context_recipe.ContextNetwork(3, features=16, bits=8)
        network.compile(optimizer="adam", jit_compile=False)
        network.optimizer.learning_rate = 0.05
        network.fit(signs, epochs=10, batch_size=4, verbose=0)
        logits = np.asarray(network(signs[:1]))[0]

        model = context_model.ContextModel(network.integers(), "definition")
        # The logits are whole 64ths, those that the table has a number for.
        z = np.rint(logits * 64).astype(int)
        expected = context_model.PROBABILITIES[z + context_model.OUTPUT_LIMIT]
        np.testing.assert_array_equal(testing.predict(model, planes[0].astype(np.uint8)), expected)
        self.assertGreater(np.abs(logits).max(), 0.5)

    def test_loss_is_the_cross_entropy(self):
        network = context_recipe.ContextNetwork(2, features=8, bits=8)
        planes = np.ones((1, 2, 3, 3, 8), np.float32)
        network.build(planes.shape)
        network.arrays["output_bias"].assign(np.ones(network.arrays["output_bias"].shape))
        loss = float(network.compute_loss(planes, y_pred=network(planes)))
        self.assertAlmostEqual(loss, np.log2(1 + np.exp(-1.0)), places=5)


class TrainTest(absltest.TestCase):
    def test_makes_a_preset_that_packs_and_reads(self):
        preset = presets.load(testing.preset_folder())
        folder = self.enterContext(tempfile.TemporaryDirectory())
        # In two parts.
        half = dataclasses.replace(OPTIONS, steps=2)
        context_recipe.train(preset, photos(), half, folder)
        with self.assertRaisesRegex(CodecError, "^[^\n]*holds a run already; add --resume"):
            context_recipe.train(preset, photos(), OPTIONS, folder)
        figures = context_recipe.train(preset, photos(), OPTIONS, folder, resume=True)
        with np.load(os.path.join(folder, checkpoints.FILE_NAME)) as file:
            self.assertIn(b'"step": 4', file["state"].tobytes())
        self.assertAlmostEqual(figures["loss"], 1.0, delta=0.2)

        codec = Codec.from_preset(os.path.join(folder, "preset"))
        self.assertNotEqual(codec.identity, preset.identity)
        np.testing.assert_equal(codec.preset.weights, preset.weights)
        image = testing.make_array(70, 90)
        packed, raw = codec.encode(image), codec.encode(image, entropy="raw")
        np.testing.assert_array_equal(codec.decode(packed), codec.decode(raw))
        np.testing.assert_equal(codec.read_planes(packed), codec.read_planes(raw))
        self.assertLessEqual(len(packed), len(raw))

    def test_planes_are_coded_once_and_are_the_codecs(self):
        codec = testing.make_codec()
        folder = self.enterContext(tempfile.TemporaryDirectory())
        first = context_recipe.coded_crops(codec.preset, photos(), OPTIONS, folder)
        with mock.patch.object(context_recipe, "_code") as code:
            again = context_recipe.coded_crops(codec.preset, photos(), OPTIONS, folder)
        code.assert_not_called()
        np.testing.assert_equal(again, first)
        self.assertEqual(first[0].shape, (4, 3, 2, 2, codec.config.bits))

        crop = data.validation_patches(photos(), 1, 32, OPTIONS.seed)[0]
        planes = codec.read_planes(codec.encode(crop, entropy="raw"))
        np.testing.assert_array_equal(first[1][0], planes)


class PresetTest(absltest.TestCase):
    def test_a_model_that_does_not_fit_is_one_line(self):
        preset = presets.load(testing.preset_folder())
        config, arrays = preset.config, testing.context_arrays
        good = arrays(config.iterations, config.bits)
        for broken, message in (
            (arrays(config.iterations - 1, config.bits), "received one of 2 of 8"),
            (arrays(config.iterations, 4), "received one of 3 of 4"),
            ({**good, "bias": good["bias"] * np.nan}, "expected int32"),
            ({**good, "extra": good["bias"]}, "expected arrays of shapes"),
            ({"bias": good["bias"]}, "expected the arrays of a context model"),
        ):
            folder = self.enterContext(tempfile.TemporaryDirectory())
            presets.save(presets.Preset(config, preset.weights, broken), folder)
            with self.assertRaisesRegex(PresetError, f"^[^\n]*context.npz: [^\n]*{message}[^\n]*$"):
                presets.load(folder)

    def test_context_is_part_of_preset_and_identity(self):
        preset = presets.load(testing.preset_folder(testing.TWO_SCALE))
        arrays = testing.context_arrays(preset.config.iterations, preset.config.bits)
        with_context = presets.Preset(preset.config, preset.weights, arrays)
        folder = self.enterContext(tempfile.TemporaryDirectory())
        presets.save(with_context, folder)
        loaded = presets.load(folder)
        np.testing.assert_equal(loaded.context, arrays)
        self.assertEqual(loaded.identity, with_context.identity)
        arrays["bias"][0, 0] += 1
        self.assertNotEqual(with_context.identity, loaded.identity)
        # Other weights have no use for it.
        presets.save(preset, folder)
        self.assertIsNone(presets.load(folder).context)

    def test_a_file_without_the_model_that_packed_it_is_refused(self):
        codec = testing.make_codec(testing.TWO_SCALE)
        data_ = codec.encode(testing.make_array(20, 20))
        contents = bitstream.read(data_)
        planes = [bitstream.Plane(bitstream.NEURAL, b"\0\0\0\0"), *contents.planes[1:]]
        data_ = bitstream.write(contents.header, planes)
        with self.assertRaisesRegex(CodecError, "^iteration 1 was packed by coder 1[^\n]*$"):
            codec.decode(data_)


if __name__ == "__main__":
    absltest.main()
