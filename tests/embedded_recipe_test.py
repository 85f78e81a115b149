"""Tests for rnn_codec/embedded/: recipe, training_model, start; and training/drawings.py."""

import dataclasses
import os
import shutil
import tempfile
from unittest import mock

from absl.testing import absltest
import numpy as np
import pytest
import testing
import training_runs

from rnn_codec import presets
from rnn_codec.embedded import recipe
from rnn_codec.embedded.config import EmbeddedConfig
from rnn_codec.embedded.options import EmbeddedOptions
from rnn_codec.embedded.start import Start
from rnn_codec.errors import CodecError
from rnn_codec.training import data, drawings, peers

pytestmark = pytest.mark.network

CONFIG = EmbeddedConfig("tiny", channels=4, latents=8, iterations=2)
OPTIONS = EmbeddedOptions(
    steps=6,
    steps_per_epoch=3,
    batch_size=2,
    patch_size=32,
    learning_rate=1e-3,
    warmup_steps=2,
    precision="float32",
    seen_share=0.0,  # It takes long to compile.
    validation_images=2,
    validation_size=48,
    fuse=False,
)


def photographs():
    arrays = [testing.make_array(64, 80, seed=i) for i in range(6)]
    return data.PhotoArrays(arrays, validation_percent=40, minimum_side=48)


class RecipeTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)
        # Drawing and the curves of other codecs have tests of their own.
        for patch in (
            mock.patch.object(peers, "_measure", lambda pictures: {}),
            mock.patch.object(recipe, "_DRAWINGS", 5),
        ):
            patch.start()
            self.addCleanup(patch.stop)

    def train(self, name, config=CONFIG, options=OPTIONS, **kwargs):
        workdir = os.path.join(self.folder, name)
        return recipe.train(config, photographs(), options, workdir, **kwargs), workdir

    def test_a_resumed_run_ends_as_one_that_was_never_stopped(self):
        figures, whole = self.train("whole")
        first = dataclasses.replace(OPTIONS, steps=3)
        # The schedule is of the whole run, so the first part is stopped, not shorter.
        with mock.patch.object(recipe.run, "RunKeeper", _stopping_after(first.steps)):
            self.train("parts")
        resumed, parts = self.train("parts", resume=True)
        self.assertEqual(figures, resumed)
        expected, received = (training_runs.read_checkpoint(w) for w in (whole, parts))
        for name, array in expected.items():
            np.testing.assert_array_equal(array, received[name], name)

    def test_it_validates_at_every_plane_and_exports_what_only_training_needs(self):
        figures, workdir = self.train("run")
        for name in ("loss", "psnr_db", "ms_ssim", "bits_per_pixel", "living_channels"):
            for number in (1, 2):
                self.assertIn(f"{name}/iteration_0{number}", figures)
        bits = [figures[f"bits_per_pixel/iteration_0{number}"] for number in (1, 2)]
        self.assertLess(bits[0], bits[1])
        folder = os.path.join(workdir, "preset")
        preset = presets.load(folder, load_training=True)
        self.assertEqual(preset.config, CONFIG)
        self.assertIn("rate/context/kernel", preset.training)
        self.assertIsNone(presets.load(folder).training)
        self.assertEqual(presets.load(folder).identity, preset.identity)

    def test_a_preset_grows_and_shows_the_same_pictures(self):
        _, workdir = self.train("small")
        preset = presets.load(os.path.join(workdir, "preset"), load_training=True)
        wider = dataclasses.replace(CONFIG, latents=10)
        options = dataclasses.replace(OPTIONS, steps=1, steps_per_epoch=1, learning_rate=1e-9)
        figures, _ = self.train("wide", config=wider, options=options, initial_preset=preset)
        again, _ = self.train("again", options=options, initial_preset=preset)
        # New channels code what the others lack, so the pictures are as good or better.
        for number in (1, 2):
            name = f"psnr_db/iteration_0{number}"
            self.assertGreater(figures[name], again[name] - 0.1)

    def test_a_preset_of_another_network_is_refused(self):
        _, workdir = self.train("small")
        preset = presets.load(os.path.join(workdir, "preset"))
        with self.assertRaisesRegex(CodecError, "expected weights of 5 channels, 2 iterations"):
            config = dataclasses.replace(CONFIG, channels=5)
            self.train("other", config=config, initial_preset=preset)

    def test_batches_are_functions_of_seed_and_step(self):
        first, later = (
            recipe._Batches(photographs(), CONFIG, OPTIONS, step)[0 if step else 4][0]
            for step in (0, 4)
        )
        for name, array in first.items():
            np.testing.assert_array_equal(array, later[name], name)
        self.assertEqual(first["pictures"].shape, (2, 32, 32, 3))
        self.assertTrue(np.all((first["sent"] >= 1) & (first["sent"] <= CONFIG.latents)))


def _stopping_after(steps):
    class Keeper(recipe.run.RunKeeper):
        def on_epoch_end(self, epoch, logs=None):
            super().on_epoch_end(epoch, logs)
            if self.step >= steps:
                self.model.stop_training = True

    return Keeper


class StartTest(absltest.TestCase):
    def test_the_basis_is_orthogonal_and_led_by_what_varies_most(self):
        rng = np.random.default_rng(0)
        # Each block has a colour of its own and a little noise.
        colours = np.repeat(np.repeat(rng.integers(0, 250, (8, 8, 3)), 16, axis=0), 16, axis=1)
        noisy = (colours + rng.integers(0, 5, colours.shape)).astype(np.uint8)
        start = Start(data.PhotoArrays([noisy, noisy[::-1]], validation_percent=0))
        np.testing.assert_allclose(start.basis @ start.basis.T, np.eye(768), atol=1e-4)
        flat = start.basis[:3].reshape(3, 256, 3)
        np.testing.assert_allclose(flat, np.broadcast_to(flat[:, :1], flat.shape), atol=0.01)

    def test_fine_patterns_are_seen_less_than_coarse_ones(self):
        start = Start(photographs())
        row, column = np.mgrid[:16, :16]
        patterns = [np.cos(np.pi * (column + 0.5) * k / 16)[..., None] for k in (2, 15)]
        rows = np.stack([np.broadcast_to(p, (16, 16, 3)).reshape(-1) for p in patterns])
        rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        visibility = start.visibility(rows)
        self.assertLess(visibility[0], visibility[1])
        self.assertAlmostEqual(float(visibility.mean()), 0.0, places=5)


class DrawingsTest(absltest.TestCase):
    def test_all_kinds_are_drawn_and_none_twice(self):
        pictures = drawings.drawings(10, side=460)
        for picture in pictures:
            self.assertEqual((picture.shape, picture.dtype), ((460, 460, 3), np.uint8))
        self.assertLen({picture.tobytes() for picture in pictures}, 10)
        again = drawings.drawings(10, side=460)
        np.testing.assert_array_equal(pictures, again)


class PeersTest(absltest.TestCase):
    def test_curves_rise(self):
        pictures = np.stack([testing.make_array(176, 176, seed=i) for i in range(2)])
        curves = peers.PeerCurves(pictures)
        for figure in ("ms_ssim", "psnr_db"):
            for name, points in curves.curves(figure).items():
                self.assertEqual(points, sorted(points), name)
        self.assertIn("jpeg", curves.curves("ms_ssim"))
        curves.close()


if __name__ == "__main__":
    absltest.main()
