"""Tests for rnn_codec/evaluation/codecs.py."""

import pathlib
import shutil
import tempfile
from unittest import mock

from absl.testing import absltest, parameterized
import numpy as np
from PIL import features
import pytest
import testing

from rnn_codec import presets
from rnn_codec.container import bitstream
from rnn_codec.errors import CodecError, PresetError
from rnn_codec.evaluation import codecs
from rnn_codec.pictures import metrics
from rnn_codec.standard.peers import PEERS


def make_codec(name):
    """A codec, or the test is skipped where its optional package is missing."""
    try:
        return codecs.make(name)
    except codecs.UnavailableError as error:
        raise absltest.SkipTest(str(error)) from error


class CodecsTest(parameterized.TestCase):
    """What holds for each codec that others made."""

    @parameterized.parameters(*PEERS)
    def test_more_bytes_are_closer(self, name):
        pixels, codec = testing.make_array(61, 83), make_codec(name)
        low, high = (codec.encode(pixels, codec.settings[index]) for index in (0, -1))
        self.assertLess(len(low), len(high))
        restored = [codec.decode(data) for data in (low, high)]
        for one in restored:
            self.assertEqual((one.shape, one.dtype), (pixels.shape, np.uint8))
        psnr = [metrics.psnr_db(pixels, one) for one in restored]
        self.assertGreater(psnr[1], psnr[0] + 2)

    @parameterized.parameters(*PEERS)
    def test_settings_are_ordered_by_rate(self, name):
        pixels, codec = testing.make_array(96, 96), make_codec(name)
        sizes = [len(coded.data) for coded in codec.code_all(pixels)]
        self.assertLen(sizes, 12)
        self.assertEqual(sizes, sorted(sizes))

    @parameterized.parameters(*PEERS)
    def test_rows_of_a_picture_are_decoded_from_its_bytes(self, name):
        pixels, codec = testing.make_array(24, 40), make_codec(name)
        coded = list(codec.code_all(pixels))[5]
        self.assertEqual(coded.setting, codec.settings[5])
        self.assertEqual(coded.data, codec.encode(pixels, coded.setting))
        np.testing.assert_array_equal(coded.pixels, codec.decode(coded.data))
        self.assertGreater(coded.encode_seconds, 0)
        self.assertGreater(coded.decode_seconds, 0)

    @parameterized.parameters(*PEERS)
    def test_description_names_the_library_and_its_version(self, name):
        self.assertRegex(make_codec(name).describe()["library"], r"\w+ \d+\.\d+.*, .*\d\.\d")

    @parameterized.parameters(
        ("jpeg420", False), ("webp", False), ("jpeg444", True), ("avif", True), ("heif", True)
    )
    def test_colour_resolution(self, name, is_full):
        # Columns of two colours of about one luma: they survive only full colour resolution.
        pixels = np.empty((32, 32, 3), np.uint8)
        pixels[:, 0::2], pixels[:, 1::2] = (200, 80, 100), (60, 150, 100)
        codec = make_codec(name)
        restored = codec.decode(codec.encode(pixels, codec.settings[-1])).astype(int)
        contrast = np.abs(restored[:, 0::2, 0] - restored[:, 1::2, 0]).mean()
        self.assertEqual(contrast > 70, is_full)  # 140 in the original

    def test_jpeg_is_progressive_and_optimised(self):
        data = codecs.make("jpeg420").encode(testing.make_array(64, 64), 50)
        self.assertIn(b"\xff\xc2", data)  # the marker of a progressive frame

    def test_jpeg2000_takes_the_rate_asked_for(self):
        data = codecs.make("jpeg2000").encode(testing.make_array(256, 256), 1.0)
        self.assertAlmostEqual(8 * len(data) / 256**2, 1.0, delta=0.03)

    def test_jpeg2000_spends_no_bits_on_colour_where_there_is_none(self):
        pixels = np.repeat(testing.make_array(128, 128, "L")[..., None], 3, axis=-1)
        codec = codecs.make("jpeg2000")
        psnr = metrics.psnr_db(pixels, codec.decode(codec.encode(pixels, 1.0)))
        with mock.patch.dict(codec.options, mct=0):
            apart = metrics.psnr_db(pixels, codec.decode(codec.encode(pixels, 1.0)))
        self.assertGreater(psnr, apart + 2)


class MakeTest(parameterized.TestCase):
    def test_unknown_name(self):
        with self.assertRaisesRegex(CodecError, "'gif': expected codecs of jpeg420, .*heif"):
            codecs.make("gif")

    @parameterized.parameters(
        ("jpegxl", "imagecodecs", r"rnn-codec\[eval\]"),
        ("heif", "pillow_heif", r"rnn-codec\[baselines-gpl\]"),
    )
    def test_a_missing_package_is_named_with_its_extra(self, name, package, extra):
        with (
            mock.patch.dict("sys.modules", {package: None}),
            self.assertRaisesRegex(codecs.UnavailableError, f"{name}: .*{package}.*{extra}"),
        ):
            codecs.make(name)

    def test_a_pillow_without_a_library(self):
        with (
            mock.patch.object(features, "check", return_value=False),
            self.assertRaisesRegex(codecs.UnavailableError, "avif: expected a Pillow with avif"),
        ):
            codecs.make("avif")


@pytest.mark.network
class ProgressiveCodecTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        self.codec = codecs.ProgressiveCodec(testing.preset_folder())
        self.codec._codec = testing.make_codec()  # compiled once for all tests
        self.pixels = testing.make_array(33, 50)

    def test_name_and_settings(self):
        self.assertEqual(self.codec.name, testing.BLOCKS)
        self.assertEqual(self.codec.settings, tuple(range(1, testing.ITERATIONS + 1)))

    def test_files_are_what_an_encoder_writes_that_stops_there(self):
        for coded in self.codec.code_all(self.pixels):
            self.assertEqual(coded.data, self.codec.encode(self.pixels, coded.setting))

    def test_sizes_are_those_of_the_truncated_file(self):
        coded = list(self.codec.code_all(self.pixels))
        sizes = bitstream.read_info(coded[-1].data).bytes_at_iteration
        self.assertEqual(tuple(len(one.data) for one in coded), sizes)

    def test_pixels_are_what_a_reader_of_each_file_gets(self):
        for coded in self.codec.code_all(self.pixels):
            np.testing.assert_array_equal(coded.pixels, self.codec.decode(coded.data))

    def test_only_the_last_file_was_encoded_on_its_own(self):
        *earlier, last = self.codec.code_all(self.pixels)
        self.assertEqual({one.encode_seconds for one in earlier}, {None})
        self.assertGreater(last.encode_seconds, 0)
        times = [one.decode_seconds for one in (*earlier, last)]
        self.assertEqual(times, sorted(times))

    def test_description_has_the_identity_of_the_weights(self):
        identity = testing.make_codec().identity.hex()
        self.assertEqual(self.codec.describe()["identity"], identity)

    def test_a_folder_gives_its_own_name(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "second_try")
            shutil.copytree(testing.preset_folder(), path)
            self.assertEqual(codecs.ProgressiveCodec(f"{path}/").name, "second_try")

    def test_unknown_preset(self):
        with self.assertRaisesRegex(PresetError, "'nowhere': expected a preset's folder"):
            codecs.ProgressiveCodec("nowhere")


@pytest.mark.network
class HybridCodecTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = self.enter_context(tempfile.TemporaryDirectory())
        presets.save(testing.make_hybrid().preset, f"{self.folder}/pair")

    def test_one_codec_for_each_base(self):
        made = codecs.make_own(f"{self.folder}/pair", ["webp", "jpeg2000"])
        self.assertEqual([codec.name for codec in made], ["pair_webp", "pair_jpeg2000"])
        (own,) = codecs.make_own(f"{self.folder}/pair")
        self.assertEqual(own.name, "pair_jpeg")
        (recurrent,) = codecs.make_own(testing.preset_folder(), ["webp"])
        self.assertIsInstance(recurrent, codecs.ProgressiveCodec)

    def test_codes_at_each_quality(self):
        (codec,) = codecs.make_own(f"{self.folder}/pair")
        pixels = testing.make_array(64, 48)
        coded = list(codec.code_all(pixels))
        self.assertLen(coded, 8)
        self.assertEqual((coded[0].setting, coded[-1].setting), (1, 95))
        sizes = [len(one.data) for one in coded]
        self.assertEqual(sizes, sorted(sizes))
        self.assertEqual(coded[3].pixels.shape, pixels.shape)

    def test_description_names_weights_and_libraries(self):
        (codec,) = codecs.make_own(f"{self.folder}/pair")
        description = codec.describe()
        self.assertEqual(description["identity"], testing.make_hybrid().identity.hex())
        self.assertRegex(description["library"], r"keras \d.*, Pillow \d.*, libjpeg_turbo \d")


if __name__ == "__main__":
    absltest.main()
