"""Tests for rnn_codec/standard/codecs.py."""

import pathlib
from unittest import mock

from absl.testing import absltest, parameterized
import numpy as np
from PIL import features
import testing

from rnn_codec.container import bitstream
from rnn_codec.errors import CodecError
from rnn_codec.hybrid import config
from rnn_codec.pictures import metrics
from rnn_codec.standard import codecs as base_codecs
from rnn_codec.standard import peers

BASES = tuple(base_codecs.CODECS)


class CodecsTest(parameterized.TestCase):
    """What holds for each standard codec."""

    @parameterized.product(name=BASES, mode=("L", "RGB"))
    def test_higher_qualities_are_closer(self, name, mode):
        pixels, codec = testing.make_array(61, 83, mode), base_codecs.make(name)
        psnr, sizes = [], []
        for quality in (codec.qualities[0], codec.default_quality, codec.qualities[-1]):
            data = codec.encode(pixels, quality)
            restored = base_codecs.with_colour(codec.decode(data), mode == "RGB")
            self.assertEqual((restored.shape, restored.dtype), (pixels.shape, np.uint8))
            sizes.append(len(data))
            psnr.append(metrics.psnr_db(pixels, restored))
        self.assertEqual((sizes, psnr), (sorted(sizes), sorted(psnr)))

    @parameterized.parameters(*BASES)
    def test_qualities_ascend(self, name):
        kind = base_codecs.CODECS[name]
        self.assertEqual(list(kind.qualities), sorted(set(kind.qualities)))
        self.assertEqual(
            base_codecs.checked_quality(kind, kind.default_quality), kind.default_quality
        )

    @parameterized.parameters(*(name for name in BASES if name != "jpeg2000"))
    def test_levels(self, name):
        kind = base_codecs.CODECS[name]
        levels = [kind.level_of(quality) for quality in kind.qualities]
        self.assertEqual((levels[0], levels[-1]), (0, 255))
        self.assertEqual(levels, sorted(set(levels)))  # each has its own
        self.assertEqual(kind.level_of(kind.qualities[-1] + 3), 255)
        self.assertEqual(list(map(kind.quality_of, levels)), list(kind.qualities))

    @parameterized.parameters(
        ("jpeg", 5, 11), ("jpeg", 50, 133), ("jpeg2000", 0.976, None), ("webp", 50, 134),
        ("avif", 50, 133), ("heif", 40, 112),
    )  # fmt: skip
    def test_levels_stay(self, name, quality, level):
        # Trained weights and files depend on it.
        self.assertEqual(base_codecs.CODECS[name].level_of(quality), level)

    def test_coders_and_the_condition_stay(self):
        # Files depend on the numbers, trained weights on the order of the condition.
        first = {"jpeg": 16, "jpeg2000": 17, "webp": 18, "avif": 19, "heif": 20}
        coders = {name: kind.coder for name, kind in base_codecs.CODECS.items()}
        self.assertEqual(coders | first, coders)
        self.assertEqual(config.CONDITION_BASES, tuple(first))

    @parameterized.parameters(*BASES)
    def test_every_number_is_on_the_page_of_the_format(self, name):
        page = pathlib.Path(__file__).parent.parent / "docs" / "bitstream.md"
        coder = base_codecs.CODECS[name].coder
        self.assertIn(coder, bitstream.STANDARD_CODERS)
        self.assertIn(f"| {coder} | {name} |", page.read_text())

    @parameterized.parameters(*BASES)
    def test_every_codec_is_measured(self, name):
        kinds = {peer.kind for peer in peers.PEERS.values()}
        self.assertIn(base_codecs.CODECS[name], kinds)

    def test_information_has_the_names(self):
        header = bitstream.Header(9, 9, True, False, 1, b"12345678")
        for coder, name in ((16, "jpeg"), (20, "heif"), (63, "standard(63)"), (9, "unknown(9)")):
            data = bitstream.write(header, [bitstream.Plane(coder, b"")])
            self.assertEqual(base_codecs.read_info(data).coders, (name,))

    def test_a_lossless_picture_is_extracted(self):
        header = bitstream.Header(9, 9, True, False, 1, bitstream.NO_MODEL)
        data = bitstream.write(header, lossless=b"WebP")
        self.assertEqual(base_codecs.extract(data), (b"WebP", ".webp"))

    def test_runs_hold_no_standard_file(self):
        header = bitstream.Header(9, 9, True, False, 1, b"12345678")
        data = bitstream.write(header, runs=[bitstream.Run(0, 0, 3, b"")], channels=4)
        with self.assertRaisesRegex(CodecError, "expected a file of the hybrid codec"):
            base_codecs.extract(data)

    def test_coders_and_extensions_differ(self):
        for attribute in ("coder", "extension"):
            values = {getattr(kind, attribute) for kind in base_codecs.CODECS.values()}
            self.assertLen(values, len(BASES))

    @parameterized.parameters(*BASES)
    def test_sizes_are_limited(self, name):
        codec = base_codecs.make(name)
        data = codec.encode(testing.make_array(40, 40), codec.default_quality)
        with self.assertRaisesRegex(CodecError, "expected at most 1,599 pixels") as caught:
            codec.decode(data, max_pixels=1599)
        self.assertNotIn("\n", str(caught.exception))
        self.assertEqual(codec.decode(data, max_pixels=1600).shape, (40, 40, 3))

    @parameterized.parameters(*BASES)
    def test_other_bytes(self, name):
        with self.assertRaises(CodecError) as caught:
            base_codecs.make(name).decode(b"no picture")
        self.assertNotIn("\n", str(caught.exception))


class MakeTest(absltest.TestCase):
    def test_a_missing_package(self):
        pattern = r"heif: .*pillow_heif.*rnn-codec\[baselines-gpl\]"
        with (
            mock.patch.dict("sys.modules", pillow_heif=None),
            self.assertRaisesRegex(base_codecs.UnavailableError, pattern),
        ):
            base_codecs.make("heif")

    def test_a_pillow_without_a_library(self):
        with (
            mock.patch.object(features, "check", return_value=False),
            self.assertRaisesRegex(base_codecs.UnavailableError, "webp: expected a Pillow with"),
        ):
            base_codecs.make("webp")


if __name__ == "__main__":
    absltest.main()
