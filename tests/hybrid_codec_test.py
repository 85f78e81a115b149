"""Tests for rnn_codec/hybrid/codec.py."""

import dataclasses
import io
import pathlib
import tempfile
from unittest import mock

from absl.testing import absltest, parameterized
import numpy as np
from PIL import Image
import pytest
import testing

from rnn_codec import presets
from rnn_codec.codec import Codec
from rnn_codec.container import bitstream
from rnn_codec.errors import BitstreamError, CodecError, ModelMismatchError, PresetError
from rnn_codec.hybrid import codec as hybrid_codec
from rnn_codec.hybrid import networks as hybrid_networks
from rnn_codec.hybrid import restoration
from rnn_codec.hybrid.config import STORED_SIZES
from rnn_codec.pictures import metrics
from rnn_codec.pictures.picture import picture_from_array
from rnn_codec.standard import codecs as base_codecs
from rnn_codec.targets import Target

pytestmark = pytest.mark.network

BASES = tuple(base_codecs.CODECS)
SIZES = ((1, 1), (1, 7), (2, 2), (33, 50), (64, 48))


def with_plane(data, plane):
    """The file with another plane."""
    contents = bitstream.read(data)
    return bitstream.write(
        contents.header,
        [plane],
        contents.metadata,
        contents.alpha,
        contents.strength,
        contents.quality_level,
    )


def with_strength(data, strength):
    """The file with another strength; None for none, and no quality."""
    contents = bitstream.read(data)
    level = None if strength is None else contents.quality_level
    return bitstream.write(
        contents.header, contents.planes, contents.metadata, contents.alpha, strength, level
    )


def with_level(data, level):
    """The file with another quality of the standard codec; None for unknown."""
    contents = bitstream.read(data)
    return bitstream.write(
        contents.header,
        contents.planes,
        contents.metadata,
        contents.alpha,
        contents.strength,
        level,
    )


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def smooth(height, width):
    """A picture without detail: half the size is enough for it."""
    image = Image.fromarray(testing.make_array(height // 10, width // 10))
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))


def jpeg(height, width):
    return base_codecs.make("jpeg").encode(testing.make_array(height, width), 50)


class RoundTripTest(parameterized.TestCase):
    @parameterized.product(base=BASES, mode=("L", "RGB", "LA", "RGBA"))
    def test_every_base_and_mode(self, base, mode):
        codec, image = testing.make_hybrid(), testing.make_array(33, 50, mode)
        restored = codec.decode(codec.encode(image, base=base))
        self.assertEqual((restored.shape, restored.dtype), (image.shape, np.uint8))
        if "A" in mode:
            np.testing.assert_array_equal(restored[..., -1], image[..., -1])

    @parameterized.product(size=SIZES, networks=tuple(testing.HYBRIDS), mode=("L", "RGB"))
    def test_every_size_and_network(self, size, networks, mode):
        codec, image = testing.make_hybrid(networks), testing.make_array(*size, mode)
        encoded = codec.encode_picture(picture_from_array(image))
        np.testing.assert_array_equal(codec.decode(encoded.data), encoded.picture.pixels)
        self.assertEqual(encoded.picture.pixels.shape, image.shape)

    @parameterized.parameters(*BASES)
    def test_a_pixel(self, base):
        codec, image = testing.make_hybrid(), testing.make_array(1, 1)
        try:
            restored = codec.decode(codec.encode(image, base=base))
        except CodecError as error:  # a library may refuse so small a picture
            self.assertNotIn("\n", str(error))
        else:
            self.assertEqual(restored.shape, image.shape)

    def test_untrained_networks_are_a_mean_and_a_bicubic_filter(self):
        image = np.asarray(Image.fromarray(testing.make_array(8, 8)).resize((64, 64)))
        codec = testing.make_hybrid()
        encoded = codec.encode_picture(picture_from_array(image), base="jpeg", quality=95)
        self.assertGreater(metrics.psnr_db(image, encoded.picture.pixels), 30)

    def test_grey_networks_keep_colours(self):
        image = np.full((32, 32, 3), (200, 60, 120), np.uint8)
        codec = testing.make_hybrid("grey")
        restored = codec.decode(codec.encode(image, quality=90))
        np.testing.assert_allclose(restored, image, atol=4)

    def test_metadata_are_carried(self):
        picture = picture_from_array(testing.make_array(20, 20))
        picture = dataclasses.replace(picture, icc_profile=b"icc", xmp=b"<x/>")
        codec = testing.make_hybrid()
        ((_, restored),) = codec.decode_picture(codec.encode_picture(picture).data)
        self.assertEqual((restored.icc_profile, restored.xmp), (b"icc", b"<x/>"))

    def test_files(self):
        folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
        Image.fromarray(testing.make_array(20, 30)).save(folder / "in.png")
        codec = testing.make_hybrid()
        encoded = codec.encode_file(folder / "in.png", folder / "a.rnnc", base="webp")
        self.assertEqual(encoded.settings, {"base": "webp", "quality": 50, "stored_size": "half"})
        codec.decode_file(folder / "a.rnnc", folder / "out.png")
        with Image.open(folder / "out.png") as image:
            np.testing.assert_array_equal(np.asarray(image), encoded.picture.pixels)

    def restored(self, codec, image, reduction):
        compact = codec._tiled.compress(image, reduction)
        condition = hybrid_networks.condition_of("jpeg", 60)
        made = restoration.Restoration(codec._tiled, compact, reduction, image.shape, condition)
        return made.pixels(64)

    def test_several_in_one_call(self):
        codec = testing.make_hybrid()
        pictures = [picture_from_array(testing.make_array(*size)) for size in SIZES]
        target = Target(target_bytes=len(codec.encode_picture(pictures[-2]).data))
        results = codec.encode_pictures(pictures, target, base="jpeg")
        for picture, result in zip(pictures, results, strict=True):
            self.assertEqual(result.data, codec.encode_picture(picture, target, base="jpeg").data)
        files = [result.data for result in results]
        *decoded, fault = codec.decode_pictures([*files, files[0][:20]])
        for result, ((_, picture),) in zip(results, decoded, strict=True):
            np.testing.assert_array_equal(picture.pixels, result.picture.pixels)
        self.assertIsInstance(fault, BitstreamError)

    @parameterized.parameters(*testing.HYBRIDS)
    def test_tiles_do_not_show(self, networks):
        codec, image = testing.make_hybrid(networks, seed=1), testing.make_array(150, 90)
        for reduction in codec.config.reductions:
            whole = self.restored(codec, image, reduction).astype(int)
            with mock.patch.object(restoration, "_TILE", 16):
                tiled = self.restored(codec, image, reduction)
            # A sum in another order may round to the other side.
            self.assertLessEqual(np.abs(whole - tiled).max(), 1)
            self.assertLess((whole != tiled).mean(), 0.01)

    @parameterized.parameters("both", "conditioned")
    def test_precision_of_half_is_near(self, networks):
        image = testing.make_array(64, 64)
        preset = testing.make_hybrid(networks, seed=1).preset
        full, half = (hybrid_codec.HybridCodec(preset, p) for p in ("float32", "bfloat16"))
        data = full.encode(image)
        difference = full.decode(data).astype(int) - half.decode(data)
        self.assertLess(np.abs(difference).mean(), 0.5)


class PresetTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = self.enter_context(tempfile.TemporaryDirectory())

    @parameterized.parameters(*testing.HYBRIDS)
    def test_saved_and_loaded_through_the_recurrent_codecs_name(self, networks):
        codec = testing.make_hybrid(networks, seed=1)
        codec.save_preset(self.folder)
        loaded = Codec.from_preset(self.folder)
        self.assertIsInstance(loaded, hybrid_codec.HybridCodec)
        self.assertEqual(loaded.identity, codec.identity)
        image = testing.make_array(32, 32)
        data = codec.encode(image)
        np.testing.assert_array_equal(loaded.decode(data), codec.decode(data))

    def test_identity_depends_on_what_no_gradient_moves(self):
        preset = testing.make_hybrid().preset
        name = next(name for name in preset.weights if "moving_variance" in name)
        other = dataclasses.replace(
            preset, weights={**preset.weights, name: 2 * preset.weights[name]}
        )
        self.assertNotEqual(preset.identity, other.identity)

    def test_another_kind_of_codec(self):
        presets.save(testing.make_hybrid().preset, self.folder)
        path = pathlib.Path(self.folder, "config.json")
        path.write_text(path.read_text().replace('"hybrid"', '"other"', 1))
        with self.assertRaisesRegex(PresetError, "config.json: expected a codec's configuration"):
            presets.load(self.folder)


class TargetTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.codec = testing.make_hybrid()
        self.picture = picture_from_array(testing.make_array(180, 170))

    @parameterized.parameters(
        {"target_bytes": 2000}, {"target_bpp": 0.6}, {"target_bytes": 2000, "base": "jpeg2000"}
    )
    def test_highest_quality_that_fits(self, base="jpeg", **target):
        target = Target(**target)
        encoded = self.codec.encode_picture(self.picture, target, base)
        self.assertTrue(target.allows(len(encoded.data), 180 * 170))
        qualities = base_codecs.CODECS[base].qualities
        better = qualities[qualities.index(encoded.quality) + 1]
        encoded = self.codec.encode_picture(self.picture, base=base, quality=better)
        self.assertFalse(target.allows(len(encoded.data), 180 * 170))

    @parameterized.parameters(("target_psnr", 22.0, "psnr_db"), ("target_msssim", 0.9, "ms_ssim"))
    def test_lowest_quality_that_reaches(self, name, value, figure):
        encoded = self.codec.encode_picture(self.picture, Target(**{name: value}))
        self.assertGreaterEqual(getattr(encoded, figure), value)
        self.assertEqual(encoded.warnings, ())
        lower = self.codec.encode_picture(self.picture, quality=encoded.quality - 1)
        self.assertLess(getattr(lower, figure), value)

    def test_out_of_reach(self):
        encoded = self.codec.encode_picture(self.picture, Target(target_psnr=60))
        self.assertEqual(encoded.quality, 95)
        self.assertRegex(encoded.warnings[0], "the target PSNR of 60 is not reached: .* 95$")

    @parameterized.named_parameters(
        ("too_small", Target(target_bytes=100), {}, "at most 100 bytes, but the lowest quality of"),
        ("iterations", Target(iterations=1), {}, "received a number of iterations"),
        ("both", Target(target_bpp=1), {"quality": 5}, "a quality or a target, received both"),
        ("quality", Target(), {"quality": 96}, "of jpeg from 1 to 95, a whole number, received 96"),
        ("half", Target(), {"quality": 5.5}, "from 1 to 95, a whole number, received 5.5"),
        ("rate", Target(), {"quality": 50, "base": "jpeg2000"}, "from 0.05 to .* bits per pixel"),
        ("base", Target(), {"base": "gif"}, "'gif': expected a base codec of jpeg, .*heif"),
    )
    def test_faults(self, target, options, pattern):
        with self.assertRaisesRegex(CodecError, pattern) as caught:
            self.codec.encode_picture(self.picture, target, **options)
        self.assertNotIn("\n", str(caught.exception))

    def test_small_for_a_similarity(self):
        picture = picture_from_array(testing.make_array(100, 170))
        with self.assertRaisesRegex(CodecError, "sides of at least 161 pixels"):
            self.codec.encode_picture(picture, Target(target_msssim=0.9))

    def test_larger_than_the_base_can_hold(self):
        picture = picture_from_array(np.zeros((2, 2 * 16384), np.uint8))
        with self.assertRaisesRegex(
            CodecError, "received one of 16384 x 1 .*; take another base codec$"
        ):
            self.codec.encode_picture(picture, base="webp")


class StoredSizeTest(parameterized.TestCase):
    """What the encoder makes of the choice, with a RecCNN for each size."""

    def setUp(self):
        super().setUp()
        self.codec = testing.make_hybrid("all")

    def encode(self, pixels, target=Target(), **options):
        return self.codec.encode_picture(picture_from_array(pixels), target, **options)

    @parameterized.named_parameters(
        ("low_quality", Target(), {"quality": 3}, "half"),
        ("high_quality", Target(), {"quality": 90}, "full"),
        ("few_bytes", Target(target_bytes=1200), {}, "half"),
        ("many_bytes", Target(target_bytes=4000), {}, "full"),
        ("few_of_another_base", Target(target_bpp=0.3), {"base": "webp"}, "half"),
        ("many_of_another_base", Target(target_bpp=3), {"base": "webp"}, "full"),
    )
    def test_the_better_one_is_taken(self, target, options, expected):
        pixels = smooth(170, 180)
        encoded = self.encode(pixels, target, **options)
        self.assertEqual(encoded.stored_size, expected)
        np.testing.assert_array_equal(self.codec.decode(encoded.data), encoded.picture.pixels)
        # At most as many bytes as this takes, and at least as good.
        full = self.encode(pixels, target, stored_size="full", **options)
        self.assertGreaterEqual(encoded.psnr_db, full.psnr_db)
        if target == Target():
            self.assertLessEqual(len(encoded.data), len(full.data))

    @parameterized.parameters(Target(target_psnr=30), Target(target_msssim=0.95))
    def test_the_smaller_one_of_a_quality(self, target):
        pixels = smooth(170, 180)
        encoded = self.encode(pixels, target)
        self.assertEqual(encoded.warnings, ())
        sizes = {name: self.encode(pixels, target, stored_size=name) for name in STORED_SIZES}
        self.assertLen(encoded.data, min(len(one.data) for one in sizes.values()))

    def test_no_more_bytes_than_the_base_takes_at_a_quality(self):
        pixels = smooth(170, 180)
        bare = base_codecs.make("jpeg").encode(pixels, 30)
        encoded = self.encode(pixels, quality=30)
        self.assertLess(len(encoded.data), len(bare) + 40)  # what is around it
        self.assertGreater(encoded.quality, 30)

    def test_a_target_that_only_half_the_size_meets(self):
        pixels = testing.make_array(170, 180)
        smallest = self.encode(pixels, quality=1, stored_size="half")
        encoded = self.encode(pixels, Target(target_bytes=len(smallest.data)))
        self.assertEqual(encoded.stored_size, "half")
        with self.assertRaisesRegex(CodecError, f"takes {len(smallest.data)} bytes"):
            self.encode(pixels, Target(target_bytes=len(smallest.data) - 1))

    @parameterized.parameters("full", "half")
    def test_a_pixel_counts_as_of_full_size(self, name):
        codec, pixel = testing.make_hybrid("all", seed=1), testing.make_array(1, 1)
        data = codec.encode(pixel, stored_size=name)
        stored = base_codecs.make("jpeg").decode(base_codecs.extract(data)[0])
        restored = codec.restore_picture(picture_from_array(stored), 1.0).pixels
        np.testing.assert_array_equal(codec.decode(with_strength(data, 64)), restored)

    def test_a_picture_whose_half_alone_can_be_stored(self):
        pixels = np.zeros((4, 20000), np.uint8)  # WebP ends at 16383
        for request in ({}, {"quality": 20}, {"target": Target(target_bytes=2000)}):
            encoded = self.encode(pixels, base="webp", **request)
            self.assertEqual(encoded.stored_size, "half")
        with self.assertRaisesRegex(CodecError, "received one of 20000 x 4 .*another base codec$"):
            self.encode(pixels, base="webp", stored_size="full")

    def test_a_similarity_out_of_reach(self):
        pixels, target = smooth(170, 180), Target(target_msssim=0.99999)
        encoded = self.encode(pixels, target)
        self.assertRegex(encoded.warnings[0], "the target MS-SSIM of 0.99999 is not reached")
        for name in STORED_SIZES:
            other = self.encode(pixels, target, stored_size=name)
            self.assertGreaterEqual(encoded.ms_ssim, other.ms_ssim)

    def test_unknown_size(self):
        with self.assertRaisesRegex(CodecError, "expected full or half, .* received 'third'"):
            self.encode(testing.make_array(20, 20), stored_size="third")

    def test_another_size_inside(self):
        data = self.codec.encode(testing.make_array(40, 30))
        plane = bitstream.Plane(base_codecs.Jpeg.coder, jpeg(10, 10))
        with self.assertRaisesRegex(BitstreamError, "expected 15 x 20 or 30 x 40 pixels"):
            self.codec.decode(with_plane(data, plane))


class StrengthTest(parameterized.TestCase):
    """How much of what RecCNN adds is used."""

    def setUp(self):
        super().setUp()
        self.base = base_codecs.make("jpeg")

    def bare(self, data):
        return self.base.decode(base_codecs.extract(data)[0])

    @parameterized.product(
        networks=("restoration", "restoration_blocks", "all"),
        mode=("L", "RGB"),
        strength=(0, 20, 64, 150),
    )
    def test_the_one_that_the_original_was_made_with_is_found(self, networks, mode, strength):
        codec, image = testing.make_hybrid(networks, seed=1), testing.make_array(33, 50, mode)
        image = image // 2 + 64
        file = self.base.encode(image, 60)
        picture = picture_from_array(image)
        made = restoration.restoration_of(codec._tiled, self.base, file, None, picture)
        original = made.pixels(strength)
        bare = made.pixels(0)
        np.testing.assert_array_equal(bare, self.base.decode(file))
        self.assertEqual(strength == 0, np.array_equal(original, bare))
        self.assertAlmostEqual(made.best_strength(original), strength, delta=2)

    @parameterized.product(networks=("both", "all", "blocks", "grey"), mode=("L", "RGB"))
    def test_no_other_is_nearer_to_the_original(self, networks, mode):
        codec, image = testing.make_hybrid(networks, seed=1), testing.make_array(40, 51, mode)
        data = codec.encode(image, quality=60)
        best = bitstream.read(data).strength
        psnr = {
            strength: metrics.psnr_db(image, codec.decode(with_strength(data, strength)))
            for strength in (best, *range(0, 256, 32))
        }
        # Pixels are rounded and cut off after.
        self.assertGreater(psnr[best], max(psnr.values()) - 0.02)

    def test_a_network_that_harms_is_not_used(self):
        codec, image = testing.make_hybrid("restoration", seed=1), testing.make_array(40, 50)
        file, picture = self.base.encode(image, 60), picture_from_array(image)
        made = restoration.restoration_of(codec._tiled, self.base, file, None, picture)
        opposite = 2 * made.pixels(0).astype(int) - made.pixels(64)
        self.assertEqual(made.best_strength(np.clip(opposite, 0, 255).astype(np.uint8)), 0)

    def test_without_a_residual_no_network_runs(self):
        codec, image = testing.make_hybrid("restoration", seed=1), testing.make_array(33, 20)
        data = with_strength(codec.encode(image, quality=60), 0)
        with mock.patch.object(codec._tiled, "tiles", side_effect=AssertionError):
            np.testing.assert_array_equal(codec.decode(data), self.bare(data))

    def test_networks_without_rec_cnn_have_none(self):
        data = testing.make_hybrid("compact", seed=1).encode(testing.make_array(33, 20))
        self.assertEqual(bitstream.read(data).strength, 0)

    @parameterized.parameters(*testing.HYBRIDS)
    def test_a_file_without_one_has_all_of_it(self, networks):
        codec, image = testing.make_hybrid(networks, seed=1), testing.make_array(30, 20)
        data = codec.encode(image)
        without = with_strength(data, None)
        self.assertIsNone(bitstream.read(without).strength)
        full = with_level(with_strength(data, 64), None)
        np.testing.assert_array_equal(codec.decode(without), codec.decode(full))

    @parameterized.parameters(*testing.HYBRIDS)
    def test_the_size_is_known_without_it(self, networks):
        codec = testing.make_hybrid(networks, seed=1)
        picture = picture_from_array(testing.make_array(60, 60))
        for target in (Target(), Target(target_bytes=1500)):
            attempts, quality = codec._chosen(picture, target, None, None, None)
            self.assertEqual(attempts.size(quality), len(attempts.data(quality)))

    @parameterized.parameters((None, 0.5), (100, 0), (96, 0.5), (92, 1), (10, 1))
    def test_of_a_jpeg_file(self, quality, expected):
        self.assertAlmostEqual(restoration.strength_for(quality), expected)


class ConditionTest(parameterized.TestCase):
    """What RecCNN is told of the standard codec."""

    @parameterized.parameters(*BASES)
    def test_is_of_the_file(self, base):
        codec, image = testing.make_hybrid("conditioned", seed=1), testing.make_array(34, 50)
        kind = base_codecs.CODECS[base]
        quality = kind.qualities[len(kind.qualities) // 3]
        data = codec.encode(image, quality=quality, base=base, stored_size="full")
        contents = bitstream.read(with_strength(data, 64))
        self.assertEqual(contents.quality_level, kind.level_of(quality))
        stored = kind().decode(contents.planes[0].payload)[None].astype(np.float32) / 255
        condition = hybrid_networks.condition_of(base, contents.quality_level)
        expected = 255 * np.asarray(codec.network.restore(stored, condition, reduction=1))[0]
        restored = codec.decode(with_strength(data, 64))
        np.testing.assert_allclose(restored, np.clip(expected, 0, 255), atol=0.6)
        data = with_strength(data, 255)
        for other in {None, 0, 255} - {contents.quality_level}:
            changed = codec.decode(with_level(data, other))
            self.assertFalse(np.array_equal(changed, codec.decode(data)))

    def test_the_encoder_knows_what_decoders_will_show(self):
        codec, image = testing.make_hybrid("conditioned", seed=1), testing.make_array(33, 50)
        for name in STORED_SIZES:
            encoded = codec.encode_picture(picture_from_array(image), stored_size=name)
            decoded = codec.decode(encoded.data)
            np.testing.assert_array_equal(encoded.picture.pixels, decoded)

    def test_networks_that_are_not_conditioned_have_none(self):
        codec, image = testing.make_hybrid("all", seed=1), testing.make_array(33, 50)
        data = codec.encode(image)
        self.assertIsNone(bitstream.read(data).quality_level)
        np.testing.assert_array_equal(codec.decode(data), codec.decode(with_level(data, 3)))

    def test_of_a_jpeg_file(self):
        codec = testing.make_hybrid("conditioned", seed=1)
        picture = picture_from_array(testing.make_array(33, 50))
        restored = {
            quality: codec.restore_picture(picture, 3.0, jpeg_quality=quality).pixels
            for quality in (None, 1, 20, 95, 100)
        }
        np.testing.assert_array_equal(restored[95], restored[100])  # the codec's own highest
        stored = picture.pixels[None].astype(np.float32) / 255
        padded = np.pad(stored, ((0, 0), (0, 1), (0, 0), (0, 0)), "edge")
        condition = hybrid_networks.condition_of("jpeg", base_codecs.Jpeg.level_of(20))
        added = (
            np.asarray(codec.network.restore(padded, condition, reduction=1))[0, :33] - stored[0]
        )
        expected = np.clip(255 * (stored[0] + 3 * added), 0, 255)
        np.testing.assert_allclose(restored[20], expected, atol=0.7)
        del restored[100]
        self.assertLen({pixels.tobytes() for pixels in restored.values()}, 4)
        for quality in (0, 101, float("nan")):
            with self.assertRaisesRegex(CodecError, "jpeg_quality: expected 1 to 100, received"):
                codec.restore_picture(picture, jpeg_quality=quality)


class ContainerTest(parameterized.TestCase):
    """What is in the file, and files that no encoder wrote."""

    @parameterized.parameters(*BASES)
    def test_the_file_inside_is_the_bases_own(self, base):
        codec, image = testing.make_hybrid(), testing.make_array(40, 60)
        data = codec.encode(image, base=base)
        file, extension = base_codecs.extract(data)
        kind = base_codecs.CODECS[base]
        self.assertEqual(extension, kind.extension)
        self.assertEqual(file, kind().encode(codec._tiled.compress(image, 2), kind.default_quality))
        self.assertEqual(bitstream.read_info(data).coders, (base,))
        # What is around it: header, strength, and of the plane type, length, place and checksum.
        length_bytes = 1 if len(file) + 2 < 128 else 2
        self.assertLen(data, 25 + 7 + 1 + length_bytes + 2 + len(file) + 4)

    def test_nothing_to_extract(self):
        data = testing.make_codec().encode(testing.make_array(16, 16))
        with self.assertRaisesRegex(BitstreamError, "expected a file of the hybrid codec"):
            base_codecs.extract(data)

    def test_codecs_do_not_take_each_others_files(self):
        image = testing.make_array(16, 16)
        ours, other = testing.make_hybrid(), testing.make_codec()
        for writer, reader in ((ours, other), (other, ours)):
            with self.assertRaises(ModelMismatchError):
                reader.decode(writer.encode(image))

    @parameterized.named_parameters(
        (
            "larger",
            base_codecs.Jpeg.coder,
            jpeg(64, 64),
            "at most 300 pixels, .*; the file was",
        ),
        (
            "other_size",
            base_codecs.Jpeg.coder,
            jpeg(15, 20),
            "expected 15 x 20 .* 20 x 15",
        ),
        ("png", base_codecs.Jpeg.coder, png(testing.make_array(20, 15)), "are none"),
        ("empty", base_codecs.Jpeg.coder, b"", "received an empty file"),
        ("cut", base_codecs.Jpeg.coder, jpeg(20, 15)[:200], "JPEG file: expected"),
        ("wrong_base", base_codecs.WebP.coder, jpeg(20, 15), "expected a picture .WEBP."),
        ("no_heif", base_codecs.Heif.coder, jpeg(20, 15), "HEIF file: expected an intact one"),
        ("raw", bitstream.RAW, b"bits", "expected a file of the hybrid codec"),
        ("unknown", 99, b"bits", "expected a file of the hybrid codec"),
    )
    def test_hostile(self, coder, payload, pattern):
        codec = testing.make_hybrid()
        data = codec.encode(testing.make_array(40, 30))
        with self.assertRaisesRegex(BitstreamError, pattern) as caught:
            codec.decode(with_plane(data, bitstream.Plane(coder, payload)))
        self.assertNotIn("\n", str(caught.exception))

    def test_pixels_are_limited_before_anything_is_decoded(self):
        data = testing.make_hybrid().encode(testing.make_array(40, 30))
        limits = bitstream.Limits(max_pixels=1000)
        with (
            mock.patch.object(base_codecs.Jpeg, "decode", side_effect=AssertionError),
            self.assertRaisesRegex(BitstreamError, "at most 1,000 pixels"),
        ):
            list(testing.make_hybrid().decode_picture(data, limits=limits))

    @parameterized.parameters(*BASES)
    def test_every_cut_is_an_error_of_one_line(self, base):
        codec = testing.make_hybrid()
        data = codec.encode(testing.make_array(20, 20), base=base)
        for size in range(0, len(data), 7):
            with self.assertRaises(CodecError) as caught:
                codec.decode(data[:size])
            self.assertNotIn("\n", str(caught.exception))

    @parameterized.parameters(*BASES)
    def test_damage_that_no_checksum_tells(self, base):
        codec = testing.make_hybrid()
        data = codec.encode(testing.make_array(20, 20), base=base)
        plane, rng = bitstream.read(data).planes[0], np.random.default_rng(0)
        for _ in range(20):
            payload = bytearray(plane.payload)
            payload[rng.integers(len(payload))] ^= 1 << rng.integers(8)
            damaged = with_plane(data, bitstream.Plane(plane.coder, bytes(payload)))
            try:
                self.assertEqual(codec.decode(damaged).shape, (20, 20, 3))
            except CodecError as error:
                self.assertNotIn("\n", str(error))

    def test_iterations(self):
        codec = testing.make_hybrid()
        data = codec.encode(testing.make_array(20, 20))
        np.testing.assert_array_equal(codec.decode(data, iterations=1), codec.decode(data))
        with self.assertRaisesRegex(BitstreamError, "1 to 1 iterations.*received 2"):
            codec.decode(data, iterations=2)


class RestoreTest(absltest.TestCase):
    def test_size_and_metadata_stay(self):
        picture = picture_from_array(testing.make_array(31, 20))
        picture = dataclasses.replace(picture, xmp=b"<x/>")
        restored = testing.make_hybrid("restoration").restore_picture(picture)
        self.assertEqual((restored.pixels.shape, restored.xmp), ((31, 20, 3), b"<x/>"))

    def test_strength(self):
        codec = testing.make_hybrid("restoration", seed=1)
        picture = picture_from_array(testing.make_array(40, 40) // 2 + 64)

        def change(strength):
            restored = codec.restore_picture(picture, strength).pixels
            return restored.astype(float) - picture.pixels

        self.assertGreater(np.abs(change(1.0)).max(), 10)
        np.testing.assert_allclose(change(1.0), 2 * change(0.5), atol=1.5)
        np.testing.assert_array_equal(change(0.0), 0)
        for strength in (-0.1, 4.0):
            with self.assertRaisesRegex(CodecError, "strength: expected 0 to 3.98, received"):
                codec.restore_picture(picture, strength)

    def test_networks_of_half_the_size(self):
        with self.assertRaisesRegex(CodecError, "expected one with a RecCNN for pictures of full"):
            testing.make_hybrid().restore_picture(None)


if __name__ == "__main__":
    absltest.main()
