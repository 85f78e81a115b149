"""Tests for rnn_codec/hybrid/recipe.py and rnn_codec/hybrid/losses.py."""

import collections
import dataclasses
import json
import os
import shutil
import tempfile
from unittest import mock

from absl.testing import absltest, parameterized
import keras
import numpy as np
import pytest
import training_runs

from rnn_codec import presets
from rnn_codec.codec import Codec
from rnn_codec.container import bitstream
from rnn_codec.errors import CodecError
from rnn_codec.hybrid import losses
from rnn_codec.hybrid import networks as hybrid_networks
from rnn_codec.hybrid import recipe as hybrid_training
from rnn_codec.hybrid.codec import HybridCodec
from rnn_codec.hybrid.config import HybridConfig
from rnn_codec.hybrid.networks import HybridNetwork
from rnn_codec.pictures import metrics
from rnn_codec.standard import codecs as base_codecs
from rnn_codec.training import data

pytestmark = pytest.mark.network

CONFIG = HybridConfig("small", colour="grey", layers=3, filters=8)
CONDITIONED = {
    "layers": 4, "batch_normalisation": False, "shortcuts": True, "conditioned": True,
}  # fmt: skip
# Turns of RecCNN, ComCNN, RecCNN; the last is cut short.
OPTIONS = hybrid_training.HybridOptions(
    steps=11,
    steps_per_epoch=4,
    batch_size=2,
    patch_size=32,
    compact_every=2,
    learning_rate=0.003,
    compact_learning_rate=0.0003,
    warmup_steps=2,
    validation_images=2,
    validation_size=32,
)


def checkers():
    """Pictures of squares with sharp edges, off the grid of JPEG's blocks."""
    rng = np.random.default_rng(0)
    squares = rng.integers(40, 216, (12, 8, 10, 3)).astype(np.uint8)
    return [np.kron(one, np.ones((9, 9, 1), np.uint8)) for one in squares]


class Stop(keras.callbacks.Callback):
    """Interrupts a run, as a person would."""

    def __init__(self, step):
        super().__init__()
        self.left = step

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


class Weights(keras.callbacks.Callback):
    """Copies the weights after each epoch, by the part that they belong to."""

    def __init__(self):
        super().__init__()
        self.epochs = []

    def on_epoch_end(self, epoch, logs=None):
        weights = {"compact": [], "restoration": [], "full_restoration": []}
        for variable in self.model.network.weights:
            weights[variable.path.split("/")[0]].append(np.asarray(variable).ravel())
        self.epochs.append({name: np.concatenate(w) for name, w in weights.items() if w})


class TrainTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)
        self.photos = training_runs.photo_arrays()

    def train(self, name="run", config=CONFIG, options=OPTIONS, **kwargs):
        workdir = os.path.join(self.folder, name)
        return hybrid_training.train(config, self.photos, options, workdir, **kwargs)

    def test_networks_learn_in_turn(self):
        weights = Weights()
        self.train(extra_callbacks=[weights])
        first, second, third = weights.epochs
        for before, after, learns in (
            (first, second, "compact"),
            (second, third, "restoration"),
        ):
            changed = {name for name in before if np.any(before[name] != after[name])}
            self.assertEqual(changed, {learns})

    def test_three_networks_learn_in_turn(self):
        config = dataclasses.replace(CONFIG, networks="all")
        options = dataclasses.replace(OPTIONS, compact_every=3)
        turns = [hybrid_training._turn_of(epoch, config, options) for epoch in range(6)]
        expected = ["restoration", "full_restoration", "compact"] * 2
        self.assertEqual(turns, expected)
        options = dataclasses.replace(options, steps=6, steps_per_epoch=2)
        weights = Weights()
        figures = self.train(config=config, options=options, extra_callbacks=[weights])
        first, second, third = weights.epochs
        for before, after, learns in (
            (first, second, "full_restoration"),
            (second, third, "compact"),
        ):
            changed = {name for name in before if np.any(before[name] != after[name])}
            self.assertEqual(changed, {learns})
        self.assertContainsSubset({"psnr_db/quality_00040", "psnr_db/full_quality_00040"}, figures)

    def test_learning_helps(self):
        self.photos = data.PhotoArrays(checkers(), validation_percent=30, minimum_side=32)
        config = dataclasses.replace(
            CONFIG, networks="restoration", lowest_quality=5, highest_quality=10
        )
        options = dataclasses.replace(OPTIONS, steps=150, steps_per_epoch=150, batch_size=8)
        figures = self.train(config=config, options=options)
        coder = hybrid_training.PatchCoder(config)
        crops = data.validation_patches(self.photos, 2, 32)
        before = hybrid_training.Validation(None, coder, crops, None).figures()
        self.assertLess(figures["loss"], before["loss"] - 0.2)

    def test_conditioned_networks_learn_what_they_are_told(self):
        config = dataclasses.replace(
            CONFIG, networks="restoration", lowest_quality=20, highest_quality=35, **CONDITIONED
        )
        self.train(config=config)
        weights = presets.load(os.path.join(self.folder, "run", "preset")).weights
        touched = np.zeros(hybrid_networks.CONDITION_SIZE, bool)
        touched[2:4] = True  # the knots around 20 to 35 of JPEG, which comes first
        for name in ("scale", "shift"):
            array = weights[f"full_restoration/residual_01/{name}"]
            np.testing.assert_array_equal(array.any(axis=1), touched)

    @parameterized.parameters(
        *((one, {}) for one in ("compact", "restoration", "both", "all")),
        *((one, CONDITIONED) for one in ("both", "all")),
    )
    def test_preset_codes_pictures(self, networks, changes):
        self.train(config=dataclasses.replace(CONFIG, networks=networks, **changes))
        codec = Codec.from_preset(os.path.join(self.folder, "run", "preset"))
        image = training_runs.photographs()[0]
        encoded = codec.decode(codec.encode(image, quality=60))
        self.assertGreater(metrics.psnr_db(image, encoded), 20)

    def test_resumed_run_ends_as_if_never_stopped(self):
        self.train("whole")
        # Within the second epoch: the first is done again from its end.
        with self.assertRaises(KeyboardInterrupt):
            self.train("parts", extra_callbacks=[Stop(6)])
        self.train("parts", resume=True)
        whole, parts = (
            training_runs.read_checkpoint(os.path.join(self.folder, name))
            for name in ("whole", "parts")
        )
        self.assertEqual(whole.keys(), parts.keys())
        for name, array in whole.items():
            np.testing.assert_array_equal(array, parts[name], name)

    def test_figures_are_logged_and_kept(self):
        figures = self.train()
        qualities = ("00005", "00040", "00075")
        names = [f"{name}/quality_{q}" for name in ("psnr_db", "bits_per_pixel") for q in qualities]
        self.assertEqual(set(figures), {"loss", *names})
        rates = [figures[name] for name in names[3:]]
        self.assertEqual(rates, sorted(rates))
        record = os.path.join(self.folder, "run", "preset", "validation.json")
        with open(record) as file:
            self.assertLessEqual(json.load(file)["loss"], figures["loss"])
        self.assertTrue(os.listdir(os.path.join(self.folder, "run", "logs", "validation")))

    def test_begins_with_given_weights(self):
        preset = presets.from_network(HybridNetwork.create(CONFIG))
        options = dataclasses.replace(OPTIONS, steps=1)
        weights = Weights()
        self.train(options=options, initial_preset=preset, extra_callbacks=[weights])
        kernels = [preset.weights[f"compact/conv_{i}/kernel"].ravel() for i in (1, 2, 3)]
        self.assertTrue(
            set(np.concatenate(kernels)) <= set(np.float16(weights.epochs[0]["compact"]))
        )

    def test_one_network_begins_with_its_part_of_two(self):
        config = dataclasses.replace(CONFIG, networks="all")
        both = presets.from_network(HybridNetwork.create(config))
        config = dataclasses.replace(CONFIG, networks="restoration")
        network = HybridNetwork.create(config)
        presets.assign(hybrid_training.part_for(network, both), network)
        (name,) = {
            path for path in both.weights if path.startswith("full_restoration/conv_01/kernel")
        }
        (kernel,) = (v for v in network.weights if v.path == name)
        np.testing.assert_array_equal(kernel.value, np.float32(both.weights[name]))

    def test_parts_that_a_preset_has_not_begin_anew(self):
        both = presets.from_network(HybridNetwork.create(CONFIG))
        network = HybridNetwork.create(dataclasses.replace(CONFIG, networks="all"))
        before = presets.from_network(network).weights
        weights = hybrid_training.part_for(network, both).weights
        self.assertEqual(weights.keys(), before.keys())
        for path, array in weights.items():
            np.testing.assert_array_equal(array, both.weights.get(path, before[path]))
        alone = HybridNetwork.create(dataclasses.replace(CONFIG, networks="restoration"))
        with self.assertRaisesRegex(CodecError, "expected networks of 'restoration', received"):
            hybrid_training.part_for(alone, both)

    def test_half_precision(self):
        options = dataclasses.replace(OPTIONS, precision="mixed_bfloat16", steps=5)
        self.assertTrue(np.isfinite(self.train(options=options)["loss"]))

    def test_another_run_in_the_folder(self):
        self.train(options=dataclasses.replace(OPTIONS, steps=1))
        with self.assertRaisesRegex(CodecError, "holds a run already; add --resume"):
            self.train()

    def test_weights_that_are_no_numbers(self):
        options = dataclasses.replace(OPTIONS, learning_rate=1e30)
        with self.assertRaisesRegex(CodecError, "no longer finite; training stopped"):
            self.train(options=options)

    @parameterized.parameters(("jpeg", 97, 99), ("jpeg", 50, 50), ("jpeg2000", 50, 75))
    def test_no_qualities(self, base, lowest, highest):
        config = dataclasses.replace(
            CONFIG, base=base, lowest_quality=lowest, highest_quality=highest
        )
        with self.assertRaisesRegex(CodecError, "expected a range of qualities of") as caught:
            self.train(config=config)
        self.assertNotIn("\n", str(caught.exception))


class LossTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        self.network = HybridNetwork.create(CONFIG)
        patches = np.stack([training_runs.photographs()[i][:32, :32] for i in range(2)])
        coder = hybrid_training.PatchCoder(CONFIG)
        self.item = coder.training_item(0, 2)(patches, 0)

    def loss(self, turn, rate_weight=0.0):
        model = hybrid_training.TurnModel(self.network, turn, rate_weight)
        return float(model.compute_loss(self.item, None, model(self.item)))

    def test_is_the_error_in_decibels_of_what_the_codec_leaves(self):
        pixels, decoded, _, _ = self.item
        restored = np.asarray(self.network.restore(decoded, reduction=2))
        expected = 10 * np.log10(np.mean((pixels - restored) ** 2) + 3e-4)
        # ComCNN is as it was when the error was measured, so it sees the codec's true output.
        for turn in (hybrid_training.RESTORATION, hybrid_training.COMPACT):
            self.assertAlmostEqual(self.loss(turn), expected, places=3)

    def test_each_doubling_of_bits_costs_the_rate_weight(self):
        compact = self.network.compress(self.item[0], 2)
        bits = float(losses.estimated_bits(compact))
        added = self.loss(hybrid_training.COMPACT, 4.0) - self.loss(hybrid_training.COMPACT)
        self.assertAlmostEqual(added, 4.0 * np.log2(bits), places=3)


class EstimatedBitsTest(parameterized.TestCase):
    @parameterized.parameters(1, 3)
    def test_flat_pictures_take_none(self, channels):
        flat = np.full((2, 16, 24, channels), 0.3, np.float32)
        self.assertAlmostEqual(float(losses.estimated_bits(flat)), 0, places=3)

    def test_one_cosine(self):
        # Of 64 coefficients one is not zero: four steps of the transform's, log2(1 + 4) bits.
        wave = np.cos(np.pi * 3 * (2 * np.arange(8) + 1) / 16) * np.sqrt(2) / 8
        picture = 0.5 + 0.4 * np.tile(wave, (8, 1))[None, ..., None]
        bits = float(losses.estimated_bits(picture.astype(np.float32)))
        self.assertAlmostEqual(bits, np.log2(5) / 63, places=4)

    @parameterized.parameters(1, 3)
    def test_goes_with_the_codec(self, channels):
        rng = np.random.default_rng(0)
        pictures = [
            0.5 + np.float32(s) * rng.normal(size=(1, 32, 32, channels)) for s in (0.05, 0.2)
        ]
        coder = hybrid_training.PatchCoder(dataclasses.replace(CONFIG, colour="rgb"))
        estimates = [float(losses.estimated_bits(p.astype(np.float32))) for p in pictures]
        sizes = [coder.code_compact(p.astype(np.float32), coder.base, 40)[1] for p in pictures]
        self.assertLess(estimates[0], estimates[1])
        self.assertLess(sizes[0], sizes[1])


class PatchCoderTest(parameterized.TestCase):
    @parameterized.product(
        base=tuple(base_codecs.CODECS), colour=("grey", "rgb"), changes=({}, CONDITIONED)
    )
    def test_equals_the_codec(self, base, colour, changes):
        config = dataclasses.replace(
            CONFIG, base=base, colour=colour, highest_quality=75.0, **changes
        )
        if base == "jpeg2000":
            config = dataclasses.replace(config, lowest_quality=0.5)
        network = HybridNetwork.create(config)
        for variable in network.restoration.weights:  # the last layer starts at 0
            variable.assign_add(np.random.default_rng(0).normal(0, 0.02, variable.shape))
        presets.assign(presets.from_network(network), network)
        codec = HybridCodec(presets.from_network(network))
        patches = np.stack([training_runs.photographs()[i][:32, :32] for i in range(2)])
        coder = hybrid_training.PatchCoder(config)
        coder.update(network)
        quality = coder.qualities[3]
        decoded, compact, sizes = coder.code(coder.pixels(patches), coder.base, quality, 2)
        self.assertEqual(decoded.shape, (2, 16, 16, config.channels))
        self.assertEqual(compact.shape, decoded.shape)
        for index, original in enumerate(hybrid_training._to_8_bits(coder.pixels(patches))):
            file = codec.encode(original, quality=quality, base=base)
            contents = bitstream.read(file)
            self.assertLen(contents.planes[0].payload, sizes[index])
            level = contents.quality_level
            file = bitstream.write(
                contents.header, contents.planes, strength=64, quality_level=level
            )
            np.testing.assert_allclose(
                coder.restore(decoded, coder.base, quality, 2)[index].astype(int),
                codec.decode(file),
                atol=1,
            )

    def test_quality_is_of_seed_and_step(self):
        coder = hybrid_training.PatchCoder(CONFIG)
        patches = np.stack([training_runs.photographs()[0][:32, :32]] * 2)
        with mock.patch.object(coder, "code", side_effect=lambda *a: (a[2], None, None)):
            drawn = [
                coder.training_item(seed, 2)(patches, step)[1]
                for seed, step in ((0, 0), (0, 0), (0, 1), (1, 0))
            ]
        self.assertEqual(drawn[0], drawn[1])
        self.assertNotEqual(drawn[0], drawn[2])
        self.assertNotEqual(drawn[0], drawn[3])

    def test_half_of_the_batches_are_of_other_codecs(self):
        coder = hybrid_training.PatchCoder(CONFIG, ("webp", "jpeg2000"))
        patches = training_runs.photographs()[0][None, :32, :32]
        transform = coder.training_item(0, 1)
        with mock.patch.object(coder, "code", side_effect=lambda *a: (a[1:3], None, None)):
            settings = [transform(patches, step)[1] for step in range(64)]
        counts = collections.Counter(base.name for base, _ in settings)
        self.assertEqual(set(counts), {"jpeg", "webp", "jpeg2000"})
        self.assertBetween(counts["jpeg"], 16, 48)
        for base, quality in settings:
            trained = coder.qualities if base is coder.base else base.qualities
            self.assertIn(quality, trained)

    def test_low_qualities_come_more_often(self):
        coder = hybrid_training.PatchCoder(CONFIG)
        patches = training_runs.photographs()[0][None, :32, :32]
        transform = coder.training_item(0, 1)
        with mock.patch.object(coder, "code", side_effect=lambda *a: (a[2], None, None)):
            drawn = [transform(patches, step)[1] for step in range(400)]
        lowest, highest = coder.qualities[0], coder.qualities[-1]
        self.assertEqual((min(drawn), max(drawn)), (lowest, highest))
        self.assertBetween(np.mean(np.less(drawn, lowest + 0.35 * (highest - lowest))), 0.4, 0.6)

    def test_conditions_are_of_the_codec_and_its_quality_and_sometimes_kept_back(self):
        coder = hybrid_training.PatchCoder(CONFIG, ("webp",))
        patches = np.stack([training_runs.photographs()[0][:32, :32]] * 3)
        transform = coder.training_item(0, 1)
        kept_back = 0
        with mock.patch.object(coder, "code", side_effect=lambda *a: (a[1:3], None, None)):
            for step in range(200):
                _, (base, quality), _, conditions = transform(patches, step)
                expected = hybrid_networks.condition_of(base.name, base.level_of(quality))
                self.assertEqual(conditions.shape, (3, len(expected)))
                kept_back += not conditions.any()
                if conditions.any():
                    np.testing.assert_array_equal(conditions, [expected] * 3)
        self.assertBetween(kept_back, 1, 40)

    @parameterized.parameters("rgb", "grey")
    def test_some_patches_are_grey(self, colour):
        coder = hybrid_training.PatchCoder(dataclasses.replace(CONFIG, colour=colour))
        patches = np.stack([training_runs.photographs()[0][:32, :32]] * 64)
        pixels = coder.training_item(0, 2)(patches, 0)[0]
        plain = coder.pixels(patches)
        changed = [not np.array_equal(*pair) for pair in zip(pixels, plain)]
        if colour == "grey":
            self.assertFalse(any(changed))
            return
        self.assertBetween(sum(changed), 1, 20)
        for patch in pixels[changed]:
            np.testing.assert_array_equal(patch.max(axis=-1), patch.min(axis=-1))


if __name__ == "__main__":
    absltest.main()
