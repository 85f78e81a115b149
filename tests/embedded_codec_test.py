"""Tests for rnn_codec/embedded/codec.py, tiles.py and pictures/lossless.py."""

import contextlib
import dataclasses
import functools
import io
import os
import shutil
import tempfile
from unittest import mock

from absl.testing import absltest, parameterized
import keras
import numpy as np
from PIL import Image, ImageDraw
import pytest
import testing

import rnn_codec
from rnn_codec import presets
from rnn_codec.commands import rnnc
from rnn_codec.container import bitstream
from rnn_codec.embedded import entropy_model, network
from rnn_codec.embedded.codec import Cut, EmbeddedCodec
from rnn_codec.embedded.config import EmbeddedConfig
from rnn_codec.embedded.tiles import MARGIN, Transform
from rnn_codec.errors import BitstreamError, CodecError, ModelMismatchError
from rnn_codec.pictures import lossless
from rnn_codec.pictures.picture import picture_from_array
from rnn_codec.targets import Target

pytestmark = pytest.mark.network

PLANES, LATENTS = 4, 24


@functools.cache
def make_preset():
    """Random weights around a cosine transform, and an entropy model that knows nothing."""
    keras.utils.set_random_seed(1)
    config = EmbeddedConfig("tiny", channels=8, latents=LATENTS, iterations=PLANES)
    net = network.EmbeddedNetwork.create(config)
    rows = _cosines()
    net.block_analysis.kernel.assign(8.0 * rows.T)
    net.block_synthesis.kernel.assign(8.0 * rows)
    for layer in (net.analysis.layers[-1], net.synthesis.pixels):
        layer.kernel.assign(0.02 * np.asarray(layer.kernel))
    net.quantiser.log_scale.assign(np.full(LATENTS, -0.5, np.float32))
    rng = np.random.default_rng(0)
    shapes = entropy_model.shapes(PLANES, LATENTS, 5, [0, 2, 2, 2], [4, 4, 4, 4])
    arrays = {name: np.zeros(shape, kind) for name, (shape, kind) in shapes.items()}
    arrays["order"][:] = rng.permutation(LATENTS)
    arrays["runs"][:] = np.rint(np.linspace(0, LATENTS, 6))
    arrays["live"][:] = 1
    arrays["threshold"][:] = -63
    return dataclasses.replace(presets.from_network(net), context=arrays)


def _cosines():
    """The first cosines of a block, grey and two colours: `[24, 768]`, of length 1."""
    x = np.cos(np.pi * np.outer(np.arange(3), np.arange(16) + 0.5) / 16)
    patterns = [
        np.outer(x[i], x[j])
        for i, j in ((0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (2, 0), (1, 2), (2, 1))
    ]
    colours = ((1, 1, 1), (1, 0, -1), (1, -2, 1))
    rows = np.stack([np.multiply.outer(p, c).reshape(-1) for c in colours for p in patterns])
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@functools.cache
def make_codec():
    return EmbeddedCodec(make_preset())


def smooth(height, width):
    """A picture that a few cosines of each block tell well: uint8 `[height, width, 3]`."""
    row, column = np.mgrid[:height, :width]
    waves = [np.sin(row / 23.0 + k) + np.cos(column / 31.0 - k) for k in range(3)]
    return np.rint(127 + 50 * np.stack(waves, axis=-1)).astype(np.uint8)


class RoundTripTest(parameterized.TestCase):
    @parameterized.parameters((1, 1), (1, 40), (16, 16), (17, 33), (70, 101))
    def test_a_file_shows_what_its_encoder_saw(self, height, width):
        codec, picture = make_codec(), picture_from_array(smooth(height, width))
        for quality in (0, 37, 100):
            encoded = codec.encode_picture(picture, quality=quality, lossless="never")
            decoded = codec.decode(encoded.data)
            np.testing.assert_array_equal(decoded, encoded.picture.pixels)

    @parameterized.parameters(1, 2, 4)
    def test_grey_and_alpha(self, channels):
        array = smooth(40, 50)
        array = np.concatenate([array, array[..., :1]], axis=-1)[..., :channels]
        array = array[..., 0] if channels == 1 else array
        decoded = make_codec().decode(make_codec().encode(array, quality=100, lossless="never"))
        self.assertEqual(decoded.shape, array.shape)
        if channels != 1:
            np.testing.assert_array_equal(decoded[..., -1], array[..., -1])

    def test_quality_rises_with_each_iteration(self):
        codec, array = make_codec(), smooth(96, 96)
        data = codec.encode(array, iterations=PLANES, lossless="never")
        errors = [
            np.mean((picture.pixels - array.astype(float)) ** 2)
            for _, picture in codec.decode_picture(data, "all")
        ]
        self.assertEqual(errors, sorted(errors, reverse=True))
        self.assertLen(errors, PLANES)

    def test_the_planes_are_nested(self):
        codec = make_codec()
        data = codec.encode(smooth(64, 48), iterations=PLANES, lossless="never")
        planes = codec.read_planes(data)
        self.assertEqual(planes[0].shape, (4, 3, LATENTS))
        for coarse, fine in zip(planes, planes[1:]):
            np.testing.assert_array_equal(np.sign(fine) * (np.abs(fine) // 2), coarse)


class PrecisionTest(absltest.TestCase):
    def test_bfloat16_shows_what_its_encoder_saw(self):
        codec, picture = (
            EmbeddedCodec(make_preset(), "bfloat16"),
            picture_from_array(smooth(64, 80)),
        )
        encoded = codec.encode_picture(picture, quality=80, lossless="never")
        np.testing.assert_array_equal(codec.decode(encoded.data), encoded.picture.pixels)
        # A file of one precision is read in another, and the bits are the same.
        difference = make_codec().decode(encoded.data).astype(int) - encoded.picture.pixels
        self.assertLess(np.abs(difference).mean(), 2.0)
        for mine, others in zip(
            codec.read_planes(encoded.data), make_codec().read_planes(encoded.data)
        ):
            np.testing.assert_array_equal(mine, others)


class CommandsTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)
        presets.save(make_preset(), os.path.join(self.folder, "preset"))
        self.source = os.path.join(self.folder, "photo.png")
        Image.fromarray(smooth(64, 80)).save(self.source)
        path = {presets.PATH_VARIABLE: self.folder}
        self.enterContext(mock.patch.dict(os.environ, path))

    def run_command(self, *arguments):
        with contextlib.redirect_stdout(io.StringIO()) as stdout:
            self.assertEqual(rnnc.main(list(arguments)), 0)
        return stdout.getvalue()

    def test_files_find_their_preset(self):
        preset = f"--preset={self.folder}/preset"
        self.run_command("encode", preset, "-q", "70", "--lossless=never", self.source)
        self.run_command("decode", "--json", f"{self.source}.rnnc")
        self.run_command(
            "decode", "--all_iterations", f"{self.source}.rnnc", "-o", f"{self.folder}/all.png"
        )
        self.assertTrue(os.path.exists(f"{self.folder}/all_03.png"))
        self.assertIn("it may end after", self.run_command("info", f"{self.source}.rnnc"))

    def test_exact_files_need_none(self):
        preset = f"--preset={self.folder}/preset"
        self.run_command("encode", preset, "--lossless=always", self.source)
        self.run_command("decode", f"{self.source}.rnnc", "-o", f"{self.folder}/exact.png")
        with Image.open(f"{self.folder}/exact.png") as picture:
            np.testing.assert_array_equal(np.asarray(picture), smooth(64, 80))
        self.assertIn("exact", self.run_command("info", f"{self.source}.rnnc"))


class ShippedTest(absltest.TestCase):
    def test_the_default_preset_codes_a_photograph(self):
        self.assertEqual(presets.identity_at("embedded").hex(), "ed073943036d7b9a")
        codec, array = rnn_codec.load(), smooth(64, 96)
        data = codec.encode(array, lossless="never")
        self.assertLess(len(data), 2_000)
        np.testing.assert_array_equal(rnn_codec.decode(data), codec.decode(data))
        self.assertLess(np.abs(codec.decode(data).astype(int) - array).mean(), 4.0)


class TargetTest(parameterized.TestCase):
    def test_runs_of_a_photograph_end_at_each_quality(self):
        codec = EmbeddedCodec.__new__(EmbeddedCodec)
        codec.config = EmbeddedConfig("large")
        codec._model = mock.Mock(runs=np.tile(np.linspace(0, 384, 6).astype(int), (8, 1)))
        codec._cuts = codec._quality_cuts()
        ends = [codec.runs_until(codec.cut_of(q), 768 * 512) for q in range(101)]
        self.assertLen(set(codec._cuts), 101)
        for shorter, longer in zip(ends, ends[1:]):
            self.assertEqual(longer[: len(shorter)], shorter)
        small = [codec.runs_until(codec.cut_of(q), 128 * 128) for q in (30, 100)]
        self.assertLess(len(small[0]), 8)
        self.assertLess(len(small[1]), 40)

    def test_a_file_is_the_beginning_of_a_longer_one(self):
        codec, array = make_codec(), smooth(400, 640)
        files = [
            codec.encode(array, iterations=count, lossless="never")
            for count in range(1, PLANES + 1)
        ]
        for smaller, larger in zip(files, files[1:]):
            self.assertLess(len(smaller), len(larger))
            # But for the count of iterations, and the checksum of the header.
            self.assertLessEqual(sum(a != b for a, b in zip(smaller[:40], larger[:40])), 5)
            self.assertEqual(larger[40 : len(smaller)], smaller[40:])

    def test_qualities_are_cuts_in_order(self):
        codec = make_codec()
        cuts = [codec.cut_of(quality) for quality in range(101)]
        self.assertEqual(cuts, sorted(cuts))
        self.assertEqual(cuts[0], Cut(0, LATENTS))
        self.assertEqual(cuts[-1], Cut(PLANES - 1, LATENTS))

    @parameterized.parameters(300, 700, 1500)
    def test_bytes_are_never_exceeded_and_nearly_used(self, bound):
        rng = np.random.default_rng(0)
        noisy = np.clip(smooth(160, 160) + rng.normal(0, 30, (160, 160, 3)), 0, 255)
        data = make_codec().encode(noisy.astype(np.uint8), target_bytes=bound, lossless="never")
        self.assertLessEqual(len(data), bound)
        self.assertGreater(len(data), 0.8 * bound)

    def test_a_bound_that_nothing_meets_is_refused(self):
        with self.assertRaisesRegex(CodecError, "expected a file of at most 20 bytes"):
            make_codec().encode(smooth(64, 64), target_bytes=20, lossless="never")

    def test_a_quality_target_is_met_by_the_least_quality(self):
        codec, picture = make_codec(), picture_from_array(smooth(96, 96))
        reached = [
            codec.encode_picture(picture, quality=q, lossless="never").psnr_db for q in (40, 60)
        ]
        target = Target(target_psnr=sum(reached) / 2)
        encoded = codec.encode_picture(picture, target, lossless="never")
        self.assertGreaterEqual(encoded.psnr_db, target.target_psnr)
        last = bitstream.read(encoded.data).runs[-1]
        self.assertBetween(Cut(last.plane, last.last + 1), codec.cut_of(41), codec.cut_of(60))

    def test_a_target_beyond_the_best_is_told(self):
        picture = picture_from_array(smooth(48, 48))
        encoded = make_codec().encode_picture(picture, Target(target_psnr=90), lossless="never")
        self.assertIn("the target PSNR of 90 is not reached", encoded.warnings[-1])

    @parameterized.parameters(
        ({"quality": 101}, "quality: expected a whole number from 0 to 100, received 101"),
        ({"quality": 5, "iterations": 2}, "expected a target or a quality, received both"),
        ({"iterations": 5}, "expected 1 to 4 iterations"),
        ({"lossless": "perhaps"}, "lossless: expected one of auto, never, always"),
    )
    def test_requests_that_are_none(self, options, message):
        with self.assertRaisesRegex(CodecError, message):
            make_codec().encode(smooth(32, 32), **options)


class DamageTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        self.codec = make_codec()
        self.data = self.codec.encode(smooth(320, 480), quality=80, lossless="never")
        self.contents = bitstream.read(self.data)

    def test_a_cut_file_shows_its_whole_runs(self):
        for end, run in zip(self.contents.run_ends, self.contents.runs):
            cut = self.codec.decode(self.data[: end + 3])
            shorter = rnn_codec.truncate(self.data, max_bytes=end)
            np.testing.assert_array_equal(cut, self.codec.decode(shorter), str(run))

    def test_what_follows_a_damaged_run_is_not_used(self):
        ends = self.contents.run_ends
        damaged = bytearray(self.data)
        damaged[ends[1] + 9] ^= 1
        (pair,) = self.codec.decode_picture(bytes(damaged))
        np.testing.assert_array_equal(pair[1].pixels, self.codec.decode(self.data[: ends[1]]))
        self.assertNotEmpty(pair[1].warnings)
        with self.assertRaises(BitstreamError):
            list(self.codec.decode_picture(bytes(damaged), strict=True))

    def test_a_file_of_another_model_is_refused(self):
        other = bytearray(self.data)
        header = dataclasses.replace(self.contents.header, model_id=b"12345678")
        runs, channels = self.contents.runs, self.contents.channels
        other = bitstream.write(header, runs=runs, channels=channels)
        with self.assertRaises(ModelMismatchError):
            self.codec.decode(other)


class TilesTest(absltest.TestCase):
    def test_tiles_tell_the_same_as_the_whole(self):
        net = make_codec().network
        pixels = np.random.default_rng(0).integers(0, 256, (160, 224, 3), np.uint8)
        whole, tiled = Transform(net), Transform(net, tile=4)
        index = whole.analyse(pixels)
        np.testing.assert_array_equal(tiled.analyse(pixels), index)
        known = np.full(LATENTS, PLANES - 1, np.int32)
        pictures = []
        for transform in (whole, tiled):
            picture = np.zeros((160, 224, 3), np.float32)
            for place, tile in transform.synthesise(index, known, PLANES - 1, LATENTS):
                picture[place] = tile
            pictures.append(picture)
        np.testing.assert_allclose(pictures[0], pictures[1], atol=1e-4)

    def test_the_margin_is_what_the_network_reads(self):
        net = make_codec().network
        pixels = np.full((16 * 9, 16 * 9, 3), 128, np.uint8)
        spoilt = pixels.copy()
        spoilt[64:80, 64:80] = np.random.default_rng(0).integers(0, 256, (16, 16, 3))
        # Latents before they are quantised tell every influence.
        values = [
            keras.ops.convert_to_numpy(net.analyse(p[None].astype(np.float32) / 127.5 - 1.0))[0]
            for p in (pixels, spoilt)
        ]
        rows, columns = np.nonzero(np.any(values[0] != values[1], axis=-1))
        self.assertLessEqual(max(np.abs(rows - 4).max(), np.abs(columns - 4).max()), MARGIN)


class LosslessTest(parameterized.TestCase):
    def drawing(self):
        image = Image.new("RGB", (300, 200), "white")
        draw = ImageDraw.Draw(image)
        for i in range(12):
            draw.text((10, 12 + 14 * i), f"line {i} of a text", (20 * i, 0, 90))
        return np.asarray(image)

    def test_a_drawing_is_stored_exactly_and_read_without_its_preset(self):
        array = self.drawing()
        data = make_codec().encode(array, target_bytes=10_000)
        self.assertTrue(rnn_codec.read_info(data).exact)
        np.testing.assert_array_equal(make_codec().decode(data), array)
        np.testing.assert_array_equal(rnn_codec.decode(data), array)
        np.testing.assert_array_equal(testing.make_codec().decode(data), array)

    def test_never_means_never(self):
        data = make_codec().encode(self.drawing(), quality=90, lossless="never")
        self.assertFalse(rnn_codec.read_info(data).exact)

    @parameterized.parameters(1, 2, 3, 4)
    def test_all_kinds_of_pictures(self, channels):
        array = np.random.default_rng(0).integers(0, 256, (20, 30, channels), np.uint8)
        array = array[..., 0] if channels == 1 else array
        data = make_codec().encode(array, lossless="always")
        np.testing.assert_array_equal(make_codec().decode(data), array)

    def test_photographs_are_not_tried(self):
        self.assertFalse(lossless.may_win(testing.make_array(200, 300)))
        self.assertTrue(lossless.may_win(self.drawing()))
        self.assertFalse(lossless.may_win(np.zeros((1, lossless.MAX_SIDE + 1), np.uint8)))

    def test_a_cut_or_damaged_one_is_an_error_of_one_line(self):
        data = make_codec().encode(self.drawing(), lossless="always")
        for damaged in (data[:-20], data[:60] + b"xx" + data[62:]):
            with self.assertRaises(CodecError) as raised:
                make_codec().decode(damaged)
            self.assertLen(str(raised.exception).splitlines(), 1)

    def test_a_bound_in_bytes_counts(self):
        array = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
        with self.assertRaisesRegex(CodecError, "the lossless file"):
            make_codec().encode(array, target_bytes=500, lossless="always")


if __name__ == "__main__":
    absltest.main()
