"""Tests for rnn_codec/training/data.py."""

import os
import shutil
import sys
import tempfile
import types
from unittest import mock

from absl.testing import absltest, parameterized
import hypothesis
from hypothesis import strategies as st
import keras
import numpy as np
from PIL import Image
import pytest
import testing

from rnn_codec.errors import CodecError
from rnn_codec.training import data

SETTINGS = hypothesis.settings(max_examples=50, deadline=None, database=None)


def arrays(count=12, height=72, width=80):
    return [testing.make_array(height + i, width, seed=i) for i in range(count)]


def batches(photos=None, **kwargs):
    photos = photos or data.PhotoArrays(arrays(), minimum_side=32)
    return data.PatchBatches(photos, **{"batch_size": 4, "patch_size": 32, **kwargs})


class FolderTest(parameterized.TestCase):
    """A test with a folder for photographs."""

    def setUp(self):
        super().setUp()
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)

    def write(self, name, pixels, **options):
        path = os.path.join(self.folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        Image.fromarray(pixels).save(path, **options)
        return path

    def write_all(self):
        return [self.write(f"{i:02d}.png", pixels) for i, pixels in enumerate(arrays())]

    def write_truncated(self, name, seed=99):
        """A file whose header is whole."""
        path = self.write(name, testing.make_array(72, 80, seed=seed))
        with open(path, "rb+") as file:
            file.truncate(os.path.getsize(path) // 2)
        return path


class PhotoFolderTest(FolderTest):
    def test_there_must_be_a_folder(self):
        path = os.path.join(self.folder, "none")
        with self.assertRaisesRegex(CodecError, f"^{path}: expected a folder .*; there is none$"):
            data.PhotoFolder(path)

    def test_there_must_be_pictures_in_it(self):
        with open(os.path.join(self.folder, "notes.txt"), "w") as file:
            file.write("none yet")
        with self.assertRaisesRegex(CodecError, f"^{self.folder}: expected photographs .*none$"):
            data.PhotoFolder(self.folder)

    def test_they_must_be_large_enough(self):
        self.write_all()
        with self.assertLogs(level="WARNING"):
            with self.assertRaisesRegex(CodecError, "at least 100 .* 12 of another size .*none"):
                data.PhotoFolder(self.folder, minimum_side=100)

    def test_leaves_out_the_small_and_the_unreadable_and_says_how_many(self):
        self.write_all()
        self.write("small.png", testing.make_array(80, 31))
        for name in ("empty.jpg", "text.webp"):
            with open(os.path.join(self.folder, name), "w") as file:
                file.write(name[:-9])
        with self.assertLogs(level="WARNING") as logs:
            photos = data.PhotoFolder(self.folder, minimum_side=32)
        self.assertLen([*photos.training, *photos.validation], 12)
        self.assertRegex(logs.output[0], "left out 1 pictures below 32 .*, and 2 unreadable ones")

    def test_searches_subfolders_and_reads_whatever_the_codec_reads(self):
        grey = testing.make_array(40, 48, "L")
        self.write("a/b/grey.png", grey)
        self.write("a/alpha.webp", testing.make_array(40, 48, "RGBA"), lossless=True)
        self.write("c/photo.JPG", testing.make_array(40, 48))
        photos = data.PhotoFolder(self.folder, validation_percent=1, minimum_side=32)
        for path in [*photos.training, *photos.validation]:
            pixels = photos.load(path)
            self.assertEqual((pixels.shape, pixels.dtype), ((40, 48, 3), np.uint8))
            if path.endswith("grey.png"):
                np.testing.assert_array_equal(pixels, np.dstack([grey] * 3))

    def test_split_survives_renaming_and_moving(self):
        paths = self.write_all()
        before = data.PhotoFolder(self.folder, validation_percent=40, minimum_side=32)
        self.assertNotEmpty(before.validation)
        os.makedirs(os.path.join(self.folder, "elsewhere"))
        moved = {}
        for number, path in enumerate(paths):
            moved[path] = os.path.join(self.folder, "elsewhere", f"{100 - number}.png")
            os.rename(path, moved[path])
        after = data.PhotoFolder(self.folder, validation_percent=40, minimum_side=32)
        self.assertEqual(after.training, [moved[path] for path in before.training])
        self.assertEqual(after.validation, [moved[path] for path in before.validation])

    def test_copies_stay_on_one_side(self):
        for number in range(6):
            for name in ("a", "b"):
                self.write(f"{number}{name}.png", testing.make_array(40, 40, seed=number))
        photos = data.PhotoFolder(self.folder, validation_percent=50, minimum_side=32)
        sides = [{os.path.basename(p)[0] for p in s} for s in (photos.training, photos.validation)]
        self.assertEmpty(sides[0] & sides[1])
        self.assertLen(sides[0] | sides[1], 6)

    def test_decodes_once(self):
        paths = self.write_all()
        photos = data.PhotoFolder(self.folder, minimum_side=32)
        first = photos.load(paths[3])
        os.remove(paths[3])
        self.assertIs(photos.load(paths[3]), first)


class SplitTest(absltest.TestCase):
    def test_sets_aside_about_the_share_asked_for(self):
        rng = np.random.default_rng(0)
        pictures = list(rng.integers(0, 256, (1000, 4, 4, 3), dtype=np.uint8))
        photos = data.PhotoArrays(pictures, validation_percent=20, minimum_side=4)
        self.assertLen(photos.training, 1000 - len(photos.validation))
        self.assertBetween(len(photos.validation), 160, 240)

    def test_more_of_it_keeps_what_was_set_aside(self):
        few = data.PhotoArrays(arrays(), validation_percent=20, minimum_side=32).validation
        more = data.PhotoArrays(arrays(), validation_percent=60, minimum_side=32).validation
        self.assertGreater(len(more), len(few))
        for one, other in zip(few, more):
            np.testing.assert_array_equal(one, other)

    def test_arrays_may_be_grey_but_not_all_small(self):
        grey = [testing.make_array(40, 40, "L", seed=i)[..., None] for i in range(4)]
        photos = data.PhotoArrays(grey, validation_percent=1, minimum_side=32)
        self.assertEqual(photos.load(photos.training[0]).shape, (40, 40, 3))
        with self.assertRaisesRegex(CodecError, "at least 64 pixels a side; none of the 4"):
            data.PhotoArrays(grey)


class PatchBatchesTest(FolderTest):
    def test_a_batch_depends_on_seed_and_step_alone(self):
        one = batches(seed=3)
        first = [one[i][0] for i in range(6)]
        np.testing.assert_array_equal(one[2][0], first[2])  # in any order
        resumed = batches(seed=3, first_step=4)
        np.testing.assert_array_equal(resumed[1][0], first[5])
        threaded = batches(seed=3, threads=2, batches_ahead=3)
        for index, expected in enumerate(first):
            np.testing.assert_array_equal(threaded[index][0], expected)
        self.assertFalse(np.array_equal(first[0], first[1]))
        self.assertFalse(np.array_equal(first[0], batches(seed=4)[0][0]))

    @SETTINGS
    @hypothesis.given(
        sides=st.lists(st.tuples(st.integers(16, 90), st.integers(16, 90)), min_size=1, max_size=4),
        patch_size=st.sampled_from([16, 32]),
        batch_size=st.integers(1, 3),
        maximum_downscale=st.floats(1.0, 8.0),
        hard_tiles=st.sampled_from([None, 1, 5]),
        step=st.integers(0, 2**40),
    )
    def test_photographs_of_any_size_give_patches_of_one(self, sides, step, **options):
        pictures = [testing.make_array(*side, seed=i) for i, side in enumerate(sides)]
        photos = data.PhotoArrays(pictures, validation_percent=0, minimum_side=16)
        (batch,) = batches(photos, first_step=step, **options)[0]
        size = options["patch_size"]
        self.assertEqual(batch.shape, (options["batch_size"], size, size, 3))
        self.assertEqual(batch.dtype, np.uint8)

    def test_patches_are_cut_flipped_and_reduced(self):
        rows, columns = np.mgrid[:64, :64]
        ramp = np.dstack([rows, columns, 0 * rows]).astype(np.uint8)
        photos = data.PhotoArrays([ramp], validation_percent=0)
        (batch,) = batches(photos, batch_size=100, maximum_downscale=2.0)[0]
        batch = batch.astype(int)
        heights = batch[:, -1, 0, 0] - batch[:, 0, 0, 0] + 1  # of the photograph, in each patch
        widths = batch[:, 0, -1, 1] - batch[:, 0, 0, 1]
        whole, reduced = (heights == 32).mean(), (heights > 33).mean()
        self.assertBetween(whole, 0.35, 0.65)
        self.assertBetween(reduced, 0.35, 0.65)
        self.assertLessEqual(heights.max(), 64)
        self.assertBetween((widths < 0).mean(), 0.35, 0.65)
        self.assertGreater(np.std(batch[:, 0, 0, 0]), 3)
        (batch,) = batches(photos, batch_size=100, maximum_downscale=1.0)[0]
        np.testing.assert_array_equal(batch[:, 31, 0, 0].astype(int) - batch[:, 0, 0, 0], 31)

    @pytest.mark.network
    def test_fit_sees_each_step_once_and_in_order(self):
        # Three epochs of four, then two of a run resumed at step 12; threads ahead all the while.
        class Numbered(data.PatchBatches):
            def _batch(self, index):
                return np.full((2, 1, 1, 1), self.first_step + index, np.uint8)

        class Recorder(keras.Model):
            def __init__(self):
                super().__init__()
                self.dense = keras.layers.Dense(1)  # not built: fit draws a batch to do so

            def call(self, images, training=False):
                if training and not isinstance(images, keras.KerasTensor):
                    steps.append(int(keras.ops.convert_to_numpy(images)[0, 0, 0, 0]))
                return self.dense(keras.ops.cast(images[:, 0, 0], "float32"))

            def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
                return keras.ops.mean(y_pred)

        photos = data.PhotoArrays(arrays(1), validation_percent=0)
        for first_step, epochs in ((0, 3), (12, 2)):
            steps = []
            model = Recorder()
            model.compile("sgd", run_eagerly=True)
            dataset = Numbered(photos, 2, 32, first_step=first_step, threads=2, batches_ahead=3)
            validation = np.zeros((2, 1, 1, 1), np.uint8)
            model.fit(
                dataset, epochs=epochs, steps_per_epoch=4, validation_data=(validation, None),
                shuffle=False, verbose=0,
            )  # fmt: skip
            expected = list(range(first_step, first_step + 4 * epochs))
            self.assertEqual(steps[-len(expected) :], expected)
            self.assertLessEqual(set(steps[: -len(expected)]), {first_step})  # traced, not trained

    def test_a_damaged_photograph_is_told_once_and_others_are_taken(self):
        self.write_all()
        path = self.write_truncated("damaged.png")
        photos = data.PhotoFolder(self.folder, validation_percent=0, minimum_side=32)
        with self.assertLogs(level="WARNING") as logs:
            dataset = batches(photos, batch_size=64, seed=1)
            first, second = dataset[0][0], dataset[1][0]
        self.assertLen(logs.output, 1)
        self.assertRegex(logs.output[0], f"left out: {path}: expected an intact picture[^\n]*$")
        self.assertEqual(first.shape, (64, 32, 32, 3))
        # It stays deterministic: the file is as damaged tomorrow.
        with self.assertLogs(level="WARNING"):
            np.testing.assert_array_equal(batches(photos, batch_size=64, seed=1)[1][0], second)

    def test_many_failures_in_a_row_end_it(self):
        for seed in range(3):
            self.write_truncated(f"{seed}.png", seed)
        photos = data.PhotoFolder(self.folder, validation_percent=0, minimum_side=32)
        dataset = batches(photos, threads=1)
        with self.assertLogs(level="WARNING") as logs:
            with self.assertRaisesRegex(CodecError, f"^{self.folder}/[^\n]* in a row") as fault:
                dataset[0]
        self.assertLen(logs.output, 3)
        self.assertIs(dataset.error, fault.exception)

    def test_a_photograph_that_is_gone_is_a_failure_too(self):
        paths = self.write_all()
        photos = data.PhotoFolder(self.folder, validation_percent=0, minimum_side=32)
        os.remove(paths[0])
        with self.assertLogs(level="WARNING") as logs:
            batches(photos, batch_size=64)[0]
        self.assertRegex(logs.output[0], f"left out: {paths[0]}: expected a file, found none")


class HardTilesTest(absltest.TestCase):
    def half_noise(self):
        """Flat, but for noise in the right half."""
        pixels = np.full((96, 128, 3), 90, np.uint8)
        pixels[:, 64:] = np.random.default_rng(0).integers(0, 256, (96, 64, 3))
        return pixels

    def test_the_noisy_tiles_come_first(self):
        tiles = data.hardest_tiles(self.half_noise(), 32, 6)
        self.assertEqual(tiles.shape, (6, 2))
        self.assertTrue((tiles[:, 1] >= 64).all())
        self.assertLen(data.hardest_tiles(self.half_noise(), 32, 100), 12)
        self.assertEmpty(data.hardest_tiles(self.half_noise()[:20], 32, 6))

    def test_patches_are_taken_from_them_alone(self):
        photos = data.PhotoArrays([self.half_noise()], validation_percent=0)
        (batch,) = batches(photos, hard_tiles=6, batch_size=50)[0]
        self.assertGreater(batch.std(axis=(1, 2, 3)).min(), 50)
        (batch,) = batches(photos, hard_tiles=None, batch_size=50)[0]
        self.assertLess(batch.std(axis=(1, 2, 3)).min(), 10)


class ValidationPatchesTest(FolderTest):
    def photos(self, count=12, percent=50):
        return data.PhotoArrays(arrays(count), validation_percent=percent, minimum_side=32)

    def test_are_fixed_and_of_validation_photographs(self):
        photos = self.photos()
        patches = data.validation_patches(photos, 3, 48)
        self.assertEqual((patches.shape, patches.dtype), ((3, 48, 48, 3), np.uint8))
        np.testing.assert_array_equal(data.validation_patches(photos, 3, 48), patches)
        for patch, pixels in zip(patches, photos.validation):
            windows = np.lib.stride_tricks.sliding_window_view(pixels, (48, 48, 3))
            self.assertTrue((windows == patch).all(axis=(-1, -2, -3)).any())

    def test_only_as_many_photographs_are_read_as_needed(self):
        photos = self.photos()
        with mock.patch.object(photos, "load", wraps=photos.load) as load:
            data.validation_patches(photos, 2, 48)
        self.assertEqual(load.call_count, 2)

    def test_too_few_photographs_give_several_each(self):
        photos = self.photos()
        few = len(photos.validation)
        patches = data.validation_patches(photos, 2 * few + 1, 48)
        self.assertLen(patches, 2 * few + 1)
        np.testing.assert_array_equal(patches[:few], data.validation_patches(photos, few, 48))
        self.assertFalse(np.array_equal(patches[0], patches[few]))

    def test_none_large_enough_is_an_error(self):
        for photos, size in ((self.photos(), 512), (self.photos(percent=0), 32)):
            with self.assertRaisesRegex(CodecError, f"at least {size} .*; raise --validation_perc"):
                data.validation_patches(photos, 2, size)

    def test_damaged_ones_are_left_out(self):
        self.write_all()
        for seed in range(8):
            self.write_truncated(f"damaged_{seed}.png", seed)
        photos = data.PhotoFolder(self.folder, validation_percent=50, minimum_side=32)
        with self.assertLogs(level="WARNING") as logs:
            patches = data.validation_patches(photos, 20, 48)
        self.assertLen(patches, 20)
        self.assertIn("damaged", logs.output[0])


class TfdsTest(FolderTest):
    """`load_tfds` against a stand-in for the package, which is large and needs TensorFlow."""

    def fake(self, load):
        decode = types.SimpleNamespace(SkipDecoding=lambda: "skip")
        module = types.SimpleNamespace(load=load, as_numpy=iter, decode=decode)
        return mock.patch.dict(sys.modules, tensorflow_datasets=module)

    def test_pictures_stay_encoded_until_drawn(self):
        files = []
        for path in self.write_all():
            with open(path, "rb") as file:
                files.append(file.read())

        def load(name, split, data_dir, decoders):
            self.assertEqual((name, split, data_dir), ("clic", "train", "/prepared"))
            self.assertEqual(decoders, {"image": "skip"})
            return [{"image": file, "label": 3} for file in files]

        with self.fake(load):
            photos = data.load_tfds(
                "clic", data_dir="/prepared", validation_percent=60, minimum_side=75
            )
        self.assertLen([*photos.training, *photos.validation], 9)  # of 72, 73, ... 83 rows
        self.assertEqual(batches(photos)[0][0].shape, (4, 32, 32, 3))
        self.assertNotEmpty(photos.validation)

    def test_faults_are_one_line(self):
        def load(name, **kwargs):
            raise KeyError("first line\nsecond line")

        expected = (
            "^TFDS data set 'x': expected one with a feature 'image'; [^\n]*first line[^\n]*$"
        )
        with self.fake(load), self.assertRaisesRegex(CodecError, expected):
            data.load_tfds("x")

    def test_a_missing_package_is_named_with_what_brings_it(self):
        with mock.patch.dict(sys.modules, tensorflow_datasets=None):
            with self.assertRaisesRegex(CodecError, "pip install 'rnn-codec.train.'"):
                data.load_tfds("clic")


class PhotoCacheTest(absltest.TestCase):
    def test_drops_what_was_not_used_longest(self):
        cache, loads = data.PhotoCache(capacity_bytes=30), []

        def load(key):
            loads.append(key)
            return np.zeros(10, np.uint8)

        for key in "abcadab":
            cache.get(key, load)
        self.assertEqual("".join(loads), "abcdb")

    def test_holds_one_even_if_it_is_too_large(self):
        cache = data.PhotoCache(capacity_bytes=0)
        array = cache.get("a", lambda key: np.zeros(10))
        self.assertIs(cache.get("a", None), array)


if __name__ == "__main__":
    absltest.main()
