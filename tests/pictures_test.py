"""Tests for rnn_codec/pictures/, but for its figures, and for rnn_codec/storage.py."""

import concurrent.futures
import dataclasses
import errno
import io
import os
import pathlib
import signal
import struct
import subprocess
import sys
import tempfile
from unittest import mock
import warnings
import zlib

from absl.testing import absltest, parameterized
import hypothesis
from hypothesis import strategies as st
import numpy as np
from PIL import Image, ImageCms, ImageOps, PngImagePlugin

from rnn_codec import storage
from rnn_codec.errors import BitstreamError, CodecError, ImageError
from rnn_codec.pictures import reading, writing
from rnn_codec.pictures.picture import Picture, pad_to_multiple, picture_from_array, to_array

ROOT = pathlib.Path(__file__).parent.parent

SETTINGS = hypothesis.settings(max_examples=100, deadline=None, database=None)

RNG = np.random.default_rng(1)
RGB = RNG.integers(0, 256, (13, 17, 3), dtype=np.uint8)
GREY = RGB[..., 0]
ALPHA = RGB[..., 1]
ARRAYS = {
    "L": GREY,
    "LA": np.dstack([GREY, ALPHA]),
    "RGB": RGB,
    "RGBA": np.dstack([RGB, ALPHA]),
}

SRGB_PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = '<x:xmpmeta xmlns:x="adobe:ns:meta/">é</x:xmpmeta>'.encode()
_ORIENTATION, _MAKE, _EXIF_IFD, _DATE_TAKEN, _USER_COMMENT = 274, 271, 0x8769, 0x9003, 0x9286

LOSSLESS = ("png", "webp", "tiff", "bmp", "ppm", "jp2")
HOLDS_ALPHA = ("png", "webp", "avif", "tiff", "jp2")
HOLDS_METADATA = ("png", "jpeg", "webp", "avif", "tiff")


def make_exif(orientation=6):
    """An EXIF block with a tag in its first directory and one in its second."""
    exif = Image.Exif()
    exif[_ORIENTATION] = orientation
    exif[_MAKE] = "Maker"
    exif[256] = 4711  # a width, as some phones write it; not ours
    exif.get_ifd(_EXIF_IFD)[_DATE_TAKEN] = "2024:05:06 07:08:09"
    return exif.tobytes()


def saved(image, image_format, **options):
    """The bytes of a file that Pillow writes."""
    file = io.BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


def format_of(data):
    """Pillow's name for the format of these bytes."""
    return Image.open(io.BytesIO(data)).format


def png_chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def make_png(width, height, bit_depth, colour_type, rows, extra=b""):
    """A PNG that Pillow cannot write: `rows` are filter bytes and samples."""
    header = struct.pack(">IIBBBBB", width, height, bit_depth, colour_type, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + extra
        + png_chunk(b"IDAT", zlib.compress(rows))
        + png_chunk(b"IEND", b"")
    )


def make_tiff(array, bits, sample_format):
    """An uncompressed little-endian RGB TIFF with samples of any kind."""
    height, width, channels = array.shape
    body = array.tobytes()
    tables = struct.pack("<3H", *[bits] * 3) + struct.pack("<3H", *[sample_format] * 3)
    tags = [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, 3, 8), (259, 3, 1, 1), (262, 3, 1, 2),
        (273, 4, 1, 20), (277, 3, 1, channels), (278, 4, 1, height), (279, 4, 1, len(body)),
        (339, 3, 3, 14),
    ]  # fmt: skip
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *t) for t in tags)
    header = b"II*\0" + struct.pack("<I", 20 + len(body))
    return header + tables + body + directory + bytes(4)


def make_cmyk_profile():
    """The smallest ICC profile for CMYK: no ink gives white, all give black, others a mid grey."""
    ramp = bytes(range(256))
    lightness = [255] + [128] * 14 + [0]  # at the 2**4 corners of CMYK; K varies fastest
    grid = b"".join(bytes([level, 128, 128]) for level in lightness)
    matrix = struct.pack(">9i", *[65536 * (i % 4 == 0) for i in range(9)])
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + matrix + ramp * 4 + grid + ramp * 3
    tags = struct.pack(">I4sII", 1, b"A2B0", 144, len(table))
    header = struct.pack(
        ">I4sI4s4s4s12s4s4sIIIQIiii", 144 + len(table), b"", 0x02400000, b"prtr", b"CMYK", b"Lab ",
        bytes(12), b"acsp", b"", 0, 0, 0, 0, 0, 0xF6D6, 0x10000, 0xD32D,
    )  # fmt: skip
    return header.ljust(128, b"\0") + tags + table


class ImageIoTest(parameterized.TestCase):
    """What the classes below share."""

    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def assert_one_line(self, error, *parts):
        message = str(error)
        self.assertNotIn("\n", message)
        for part in parts:
            self.assertIn(part, message)

    def assert_refused(self, source, *parts, error=ImageError, **options):
        """Reading fails with one line that has these parts; the first one starts it."""
        with self.assertRaises(error) as context:
            reading.read_picture(source, **options)
        self.assert_one_line(context.exception, *parts)
        self.assertStartsWith(str(context.exception), parts[0])


class ReadPixelsTest(ImageIoTest):
    @parameterized.product(mode=list(ARRAYS), image_format=["PNG", "TIFF"])
    def test_reads_the_pixels_that_were_written(self, mode, image_format):
        picture = reading.read_picture(saved(Image.fromarray(ARRAYS[mode]), image_format))
        self.assertEqual(picture.mode, mode)
        self.assertEqual((picture.width, picture.height), (17, 13))
        self.assertEqual(picture.is_rgb, mode.startswith("RGB"))
        self.assertEqual(picture.warnings, ())
        np.testing.assert_array_equal(to_array(picture), ARRAYS[mode])

    def test_arrays_are_contiguous_and_may_be_written_to(self):
        picture = reading.read_picture(saved(Image.fromarray(ARRAYS["RGBA"]), "PNG"))
        for array in (picture.pixels, picture.alpha):
            self.assertTrue(array.flags.c_contiguous and array.flags.writeable)

    def test_takes_a_path_as_text_or_object_and_bytes_of_any_kind(self):
        data = saved(Image.fromarray(RGB), "PNG")
        path = self.folder / "photo.png"
        path.write_bytes(data)
        for source in (path, str(path), data, bytearray(data), memoryview(data)):
            np.testing.assert_array_equal(reading.read_picture(source).pixels, RGB)

    def test_one_bit_becomes_grey(self):
        bits = GREY > 127
        picture = reading.read_picture(saved(Image.fromarray(bits), "PNG"))
        self.assertEqual(picture.mode, "L")
        np.testing.assert_array_equal(picture.pixels, 255 * bits)

    def test_palette_becomes_rgb_even_if_all_of_it_is_grey(self):
        image = Image.fromarray(GREY).convert("P")
        picture = reading.read_picture(saved(image, "PNG"))
        self.assertEqual(picture.mode, "RGB")
        np.testing.assert_array_equal(picture.pixels, np.dstack([GREY] * 3))

    @parameterized.named_parameters(("entry", 3), ("alphas", bytes(range(0, 250, 25))))
    def test_palette_with_transparency_becomes_rgba(self, transparency):
        image = Image.fromarray(np.arange(10, dtype=np.uint8).reshape(2, 5)).convert("P")
        image.putpalette(list(range(30)))
        picture = reading.read_picture(saved(image, "PNG", transparency=transparency))
        alphas = [0 if i == 3 else 255 for i in range(10)]
        if isinstance(transparency, bytes):
            alphas = list(transparency)
        self.assertEqual(picture.mode, "RGBA")
        self.assertEqual(picture.alpha.ravel().tolist(), alphas)
        self.assertEqual(picture.pixels[1, 0].tolist(), [15, 16, 17])

    @parameterized.named_parameters(
        ("1_bit", 1, b"\0\x40", 1, [255, 0, 255, 255]),
        ("2_bits", 2, b"\0\x1b", 2, [255, 255, 0, 255]),
        ("4_bits", 4, b"\0\x0f\x21", 15, [255, 0, 255, 255]),
        ("8_bits", 8, b"\0\0\xff\2\1", 2, [255, 255, 0, 255]),
    )
    def test_colour_key_of_grey_becomes_alpha(self, bit_depth, row, key, alpha):
        extra = png_chunk(b"tRNS", struct.pack(">H", key))
        picture = reading.read_picture(make_png(4, 1, bit_depth, 0, row, extra))
        self.assertEqual(picture.mode, "LA")
        self.assertEqual(picture.alpha.ravel().tolist(), alpha)

    def test_colour_key_of_rgb_becomes_alpha(self):
        extra = png_chunk(b"tRNS", struct.pack(">3H", 4, 5, 6))
        picture = reading.read_picture(make_png(2, 1, 8, 2, b"\0\1\2\3\4\5\6", extra))
        self.assertEqual(picture.pixels.tolist(), [[[1, 2, 3], [4, 5, 6]]])
        self.assertEqual(picture.alpha.tolist(), [[255, 0]])

    def test_ycbcr_becomes_rgb(self):
        image = Image.fromarray(RGB).convert("YCbCr")
        picture = reading.read_picture(saved(image, "TIFF"))
        np.testing.assert_array_equal(picture.pixels, np.asarray(image.convert("RGB")))
        self.assertEqual(picture.warnings, ())

    def test_lab_becomes_srgb_with_a_warning(self):
        colour = np.full((4, 4, 3), (200, 100, 50), np.uint8)
        image = Image.fromarray(colour).convert("LAB")
        picture = reading.read_picture(saved(image, "TIFF", icc_profile=b"a profile"))
        np.testing.assert_allclose(picture.pixels.astype(int), colour, atol=4)
        self.assertIsNone(picture.icc_profile)
        self.assertIn("CIELAB", picture.warnings[0])

    def test_cmyk_is_converted_by_its_profile_which_is_dropped(self):
        inks = np.zeros((4, 4, 4), np.uint8)
        inks[:2, :, 0] = 255
        image = Image.frombytes("CMYK", (4, 4), inks.tobytes())
        data = saved(image, "TIFF", icc_profile=make_cmyk_profile())
        picture = reading.read_picture(data, name="press.tif")
        self.assertEqual(picture.mode, "RGB")
        # The plain formula would make this ink cyan; the profile says L* = 50.
        np.testing.assert_allclose(picture.pixels[:2].astype(int), 119, atol=3)
        np.testing.assert_allclose(picture.pixels[2:].astype(int), 255, atol=1)
        self.assertIsNone(picture.icc_profile)
        self.assertStartsWith(picture.warnings[0], "press.tif: ")
        self.assertIn("by its profile", picture.warnings[0])

    @parameterized.named_parameters(
        ("none", None), ("damaged", b"no profile"), ("of_rgb", SRGB_PROFILE)
    )
    def test_cmyk_without_a_usable_profile_is_converted_plainly(self, profile):
        image = Image.fromarray(np.full((4, 4, 3), (255, 0, 0), np.uint8)).convert("CMYK")
        options = {"icc_profile": profile} if profile else {}
        picture = reading.read_picture(saved(image, "TIFF", **options))
        np.testing.assert_array_equal(picture.pixels[0, 0], [255, 0, 0])
        self.assertIsNone(picture.icc_profile)
        self.assertIn("without a usable profile", picture.warnings[0])

    @parameterized.parameters("GIF", "PNG", "WEBP", "TIFF", "MPO", "AVIF")
    def test_first_of_several_pictures_is_kept_with_a_warning(self, image_format):
        frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "lime", "blue")]
        data = saved(frames[0], image_format, save_all=True, append_images=frames[1:])
        picture = reading.read_picture(data, name="moving")
        np.testing.assert_allclose(picture.pixels.mean((0, 1)), [255, 0, 0], atol=6)
        self.assertLen(picture.warnings, 1)
        self.assertStartsWith(picture.warnings[0], "moving: has several pictures")

    def test_threads_may_read_at_the_same_time(self):
        data = [saved(Image.fromarray(RGB), f) for f in ("PNG", "TIFF", "BMP")] * 20
        limits = [500 + i for i in range(len(data))]
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            pictures = list(pool.map(reading.read_picture, data, limits))
        for picture in pictures:
            np.testing.assert_array_equal(picture.pixels, RGB)
        self.assertEqual(Image.MAX_IMAGE_PIXELS, reading.DEFAULT_MAX_PIXELS)


class RefusalTest(ImageIoTest):
    def test_missing_file(self):
        path = self.folder / "absent.png"
        self.assert_refused(path, f"{path}: expected a file", "check the path", error=CodecError)

    def test_folder(self):
        self.assert_refused(self.folder, f"{self.folder}: ", "found a folder", error=CodecError)

    def test_no_permission(self):
        # Simulated: the owner of the tests may be root.
        denied = PermissionError(errno.EACCES, "Permission denied", "secret.png")
        with mock.patch("builtins.open", side_effect=denied):
            self.assert_refused("secret.png", "secret.png: ", "Permission denied", error=CodecError)

    def test_empty_file(self):
        path = self.folder / "empty.png"
        path.touch()
        self.assert_refused(path, f"{path}: expected a picture, received an empty file")

    @parameterized.named_parameters(
        ("text", b"This is no picture."),
        ("postscript", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
        ("signature_only", b"\x89PNG\r\n\x1a\n"),
    )
    def test_no_picture(self, data):
        self.assert_refused(data, "standard input: expected a picture (PNG, JPEG", f"{len(data)}")

    @parameterized.parameters("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "JPEG2000")
    def test_truncated_file(self, image_format):
        data = saved(Image.fromarray(RGB), image_format)
        data = data[: len(data) * 3 // 4]
        self.assert_refused(data, "photo: expected", "fetch", name="photo")

    @parameterized.parameters("PNG", "JPEG", "TIFF")
    def test_file_cut_anywhere_is_refused_or_gives_the_whole_picture(self, image_format):
        data = saved(Image.fromarray(GREY), image_format, icc_profile=b"profile")
        whole = reading.read_picture(data)
        for length in range(len(data)):
            try:
                picture = reading.read_picture(data[:length])
            except ImageError:
                continue
            np.testing.assert_array_equal(picture.pixels, whole.pixels)

    def test_size_may_equal_the_limit(self):
        data = saved(Image.fromarray(RGB), "PNG")
        self.assertEqual(reading.read_picture(data, max_pixels=221).width, 17)

    @parameterized.named_parameters(("by_one", 220), ("beyond_twice", 9))
    def test_size_above_the_limit_is_refused_before_decoding(self, max_pixels):
        data = saved(Image.fromarray(RGB), "PNG")
        with mock.patch.object(Image.Image, "load") as load:
            self.assert_refused(data, "standard input: ", "--max_pixels", max_pixels=max_pixels)
        load.assert_not_called()

    def test_too_large_names_size_and_limit(self):
        data = make_png(50_000, 60_000, 8, 0, b"")
        limit = 2_999_999_999
        self.assert_refused(
            data, "a.png: ", "50000 x 60000 = 3,000,000,000", "2,999,999,999",
            max_pixels=limit, name="a.png",
        )  # fmt: skip

    def test_what_pillow_warns_of_is_refused_by_default(self):
        limit = Image.MAX_IMAGE_PIXELS
        self.assertEqual(reading.DEFAULT_MAX_PIXELS, limit)
        data = make_png(limit + 1, 1, 8, 0, b"")
        with self.assertWarns(Image.DecompressionBombWarning):
            Image.open(io.BytesIO(data))
        self.assert_refused(data, "standard input: expected at most 89,478,485 pixels", "raise")

    @parameterized.parameters("PNG", "WEBP", "TIFF", "BMP")
    def test_limit_may_exceed_that_of_pillow(self, image_format):
        data = saved(Image.fromarray(RGB), image_format, lossless=True)
        with mock.patch.object(Image, "MAX_IMAGE_PIXELS", 10):  # 221 pixels are a bomb now
            picture = reading.read_picture(data, max_pixels=1000)
            self.assertEqual(Image.MAX_IMAGE_PIXELS, 10)
        np.testing.assert_array_equal(picture.pixels, RGB)

    @parameterized.parameters(221, 150, 9)
    def test_pillow_does_not_warn_of_sizes(self, max_pixels):
        data = saved(Image.fromarray(RGB), "PNG")
        with (
            mock.patch.object(Image, "MAX_IMAGE_PIXELS", 150),
            warnings.catch_warnings(record=True) as caught,
        ):
            warnings.simplefilter("always")
            try:
                reading.read_picture(data, max_pixels=max_pixels)
            except ImageError:
                pass
        self.assertEmpty(caught)

    @parameterized.named_parameters(
        ("png_grey", make_png(1, 1, 16, 0, bytes(3)), 16),
        ("png_grey_alpha", make_png(1, 1, 16, 4, bytes(5)), 16),
        ("png_rgb", make_png(1, 1, 16, 2, bytes(7)), 16),
        ("png_rgba", make_png(1, 1, 16, 6, bytes(9)), 16),
        ("tiff_grey", saved(Image.new("I;16", (2, 2)), "TIFF"), 16),
        ("tiff_integer", saved(Image.new("I", (2, 2)), "TIFF"), 32),
        ("tiff_float", saved(Image.new("F", (2, 2)), "TIFF"), 32),
        ("tiff_rgb", make_tiff(np.zeros((2, 2, 3), np.uint16), 16, 1), 16),
        ("pgm", b"P5 1 1 65535\n" + bytes(2), 16),
        ("pgm_text", b"P2 1 1 1023\n7\n", 16),
        ("ppm", b"P6 1 1 65535\n" + bytes(6), 16),
        ("ppm_text", b"P3 1 1 1023\n1 2 3\n", 10),
        ("pfm", b"Pf 1 1 -1.0\n" + bytes(4), 32),
        ("jpeg_2000", saved(Image.new("I;16", (8, 8)), "JPEG2000"), 16),
    )
    def test_deep_samples_are_refused(self, data, bits):
        self.assert_refused(
            data, "scan: expected 8-bit samples", f"{bits}-bit", "-depth 8", name="scan"
        )

    @parameterized.named_parameters(("ten", 0x40, 10), ("twelve", 0x60, 12))
    def test_deep_avif_is_refused(self, flags, bits):
        data = bytearray(saved(Image.fromarray(RGB), "AVIF"))
        data[data.index(b"av1C") + 6] |= flags
        image = mock.Mock(format="AVIF", mode="RGB")
        self.assertEqual(reading._sample_bits(image, bytes(data)), bits)

    def test_deep_jpeg_2000_colour_is_refused(self):
        data = bytearray(saved(Image.fromarray(RGB), "JPEG2000"))
        data[data.index(b"\xff\x4f\xff\x51") + 42] = 11  # of 12 bits
        self.assert_refused(bytes(data), "standard input: expected 8-bit samples", "12-bit")

    @SETTINGS
    @hypothesis.given(
        st.sampled_from(
            [
                b"",
                b"\x89PNG\r\n\x1a\n",
                b"\xff\xd8\xff",
                b"GIF89a",
                b"BM",
                b"II*\0\x08\0\0\0",
                b"P6 ",
            ]
            + [b"RIFF\x40\0\0\0WEBPVP8 ", b"\0\0\0\x20ftypavif", b"\xff\x4f\xff\x51", b"qoif"]
        ),
        st.binary(max_size=200),
    )
    def test_random_bytes_give_a_picture_or_a_codec_error(self, signature, data):
        try:
            reading.read_picture(signature + data, max_pixels=10_000)
        except CodecError as error:
            self.assert_one_line(error, "standard input: ")

    @SETTINGS
    @hypothesis.given(
        st.sampled_from(["PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP", "JPEG2000"]),
        st.lists(st.tuples(st.integers(0, 10**4), st.integers(0, 255)), min_size=1, max_size=4),
    )
    def test_damaged_files_give_a_picture_or_a_codec_error(self, image_format, changes):
        data = bytearray(saved(Image.fromarray(RGB), image_format))
        for position, value in changes:
            data[position % len(data)] = value
        try:
            reading.read_picture(bytes(data), max_pixels=10_000)
        except CodecError as error:
            self.assert_one_line(error, "standard input: ")


class MetadataTest(ImageIoTest):
    def picture(self, **changes):
        fields = {"icc_profile": SRGB_PROFILE, "exif": make_exif(), "xmp": XMP}
        return dataclasses.replace(picture_from_array(RGB), **(fields | changes))

    @parameterized.parameters(*HOLDS_METADATA)
    def test_profile_and_xmp_survive(self, image_format):
        data = writing.picture_bytes(self.picture(), image_format)
        picture = reading.read_picture(data)
        self.assertEqual(picture.icc_profile, SRGB_PROFILE)
        self.assertEqual(picture.xmp, XMP)
        self.assertEqual(writing.unstored_metadata(self.picture(), image_format), ())

    @parameterized.parameters("png", "jpeg", "webp")
    def test_exif_survives_byte_by_byte(self, image_format):
        data = writing.picture_bytes(self.picture(), image_format)
        self.assertEqual(reading.read_picture(data).exif, make_exif())

    @parameterized.parameters(*HOLDS_METADATA)
    def test_exif_tags_survive(self, image_format):
        data = writing.picture_bytes(self.picture(), image_format)
        block = reading.read_picture(data).exif
        self.assertStartsWith(block, b"Exif\0\0")
        exif = Image.Exif()
        exif.load(block)
        self.assertEqual(exif[_MAKE], "Maker")
        self.assertEqual(exif.get_ifd(_EXIF_IFD)[_DATE_TAKEN], "2024:05:06 07:08:09")

    def test_file_without_metadata_has_none(self):
        for image_format in ("PNG", "JPEG", "TIFF", "WEBP", "AVIF"):
            picture = reading.read_picture(saved(Image.fromarray(RGB), image_format))
            self.assertIsNone(picture.icc_profile)
            self.assertIsNone(picture.exif)
            self.assertIsNone(picture.xmp)

    def test_xmp_in_a_plain_text_chunk_of_png_is_found(self):
        info = PngImagePlugin.PngInfo()
        info.add_text("XML:com.adobe.xmp", "<x/>")
        picture = reading.read_picture(saved(Image.fromarray(RGB), "PNG", pnginfo=info))
        self.assertEqual(picture.xmp, b"<x/>")

    def test_pixels_of_a_turned_jpeg_are_not_turned(self):
        source = saved(Image.fromarray(RGB), "JPEG", exif=make_exif(orientation=6))
        picture = reading.read_picture(source)
        self.assertEqual((picture.width, picture.height), (17, 13))
        with Image.open(io.BytesIO(source)) as image:
            np.testing.assert_array_equal(picture.pixels, np.asarray(image))

    @parameterized.product(image_format=[*LOSSLESS], orientation=list(range(1, 9)))
    def test_viewers_see_a_turned_picture_upright(self, image_format, orientation):
        # Formats with EXIF keep the tag, the others get turned pixels.
        source = saved(Image.fromarray(RGB), "JPEG", exif=make_exif(orientation))
        result = writing.picture_bytes(reading.read_picture(source), image_format)
        upright = [
            np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
            for data in (source, result)
        ]
        np.testing.assert_array_equal(*upright)

    def test_turned_tiff_is_read_upright_without_its_tag(self):
        # The exception: Pillow turns TIFF itself.
        source = saved(Image.fromarray(RGB), "TIFF", exif={_ORIENTATION: 6})
        picture = reading.read_picture(source)
        np.testing.assert_array_equal(picture.pixels, np.rot90(RGB, -1))
        self.assertIsNone(picture.exif)

    @parameterized.parameters("bmp", "ppm", "jp2")
    def test_formats_without_metadata_are_told(self, image_format):
        missing = writing.unstored_metadata(self.picture(), image_format)
        self.assertEqual(missing, ("icc_profile", "exif", "xmp"))

    def test_blocks_too_long_for_jpeg_are_left_out(self):
        picture = self.picture(xmp=bytes(65_505), exif=make_exif() + bytes(65_500))
        self.assertEqual(writing.unstored_metadata(picture, "jpeg"), ("exif", "xmp"))
        read = reading.read_picture(writing.picture_bytes(picture, "jpeg"))
        self.assertEqual((read.exif, read.xmp), (None, None))
        self.assertEqual(read.icc_profile, SRGB_PROFILE)
        self.assertEqual((read.width, read.height), (13, 17))  # turned, as the tag is gone

    @parameterized.product(big_tiff=(False, True), size=(2**20 - 1000, 2**20))
    def test_exif_of_a_tiff_is_bounded(self, big_tiff, size):
        # Pillow makes an object of each number in it.
        exif = Image.Exif()
        exif.get_ifd(_EXIF_IFD)[_USER_COMMENT] = bytes(size)
        exif[_EXIF_IFD] = exif.get_ifd(_EXIF_IFD)
        data = saved(Image.fromarray(GREY), "TIFF", exif=exif, big_tiff=big_tiff)
        if size < 2**20:
            self.assertGreater(len(reading.read_picture(data).exif), size)
        else:
            self.assert_refused(data, "standard input: expected EXIF of at most 1,048,576 bytes")

    @parameterized.parameters("tiff", "avif", "bmp")
    def test_exif_beyond_the_bound_is_not_parsed(self, image_format):
        picture = dataclasses.replace(
            picture_from_array(RGB), exif=make_exif(orientation=6) + bytes(2**20)
        )
        with mock.patch.object(Image.Exif, "load") as load:
            written = writing.picture_bytes(picture, image_format)
        self.assertNotIn(mock.call(picture.exif), load.mock_calls)
        self.assertEqual(Image.open(io.BytesIO(written)).size, (17, 13))  # not turned
        self.assertEqual(writing.unstored_metadata(picture, image_format), ("exif",))

    @parameterized.parameters("tiff", "avif", "bmp")
    def test_damaged_exif_is_no_warning(self, image_format):
        exif = make_exif()[:-10]
        directory = Image.Exif()
        directory.load(exif)
        with self.assertWarns(UserWarning):
            directory.get_ifd(_EXIF_IFD)
        picture = dataclasses.replace(picture_from_array(RGB), exif=exif)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            writing.picture_bytes(picture, image_format)
        self.assertEmpty(caught)

    @parameterized.parameters("png", "jpeg", "webp", "avif", "tiff", "bmp")
    def test_damaged_exif_does_not_cost_the_picture(self, image_format):
        picture = self.picture(exif=b"Exif\0\0" + b"damaged" * 3)
        data = writing.picture_bytes(picture, image_format)
        self.assertEqual(reading.read_picture(data).pixels.shape, RGB.shape)


class ArrayTest(ImageIoTest):
    @parameterized.parameters(*ARRAYS)
    def test_to_array_inverts_picture_from_array(self, mode):
        picture = picture_from_array(ARRAYS[mode])
        self.assertEqual(picture.mode, mode)
        np.testing.assert_array_equal(to_array(picture), ARRAYS[mode])

    def test_single_channel_is_grey(self):
        picture = picture_from_array(GREY[..., None])
        self.assertEqual(picture.mode, "L")
        np.testing.assert_array_equal(to_array(picture), GREY)

    def test_arrays_are_copied(self):
        array = RGB.copy()
        picture = picture_from_array(array)
        to_array(picture)[:] = 0
        array[:] = 0
        np.testing.assert_array_equal(picture.pixels, RGB)

    @parameterized.named_parameters(
        ("float", RGB / 255, "float64"),
        ("int", GREY.astype(int), "int64"),
        ("uint16", RGB.astype(np.uint16), "uint16"),
        ("bool", GREY > 9, "bool"),
        ("one_axis", GREY[0], "[17]"),
        ("batch", RGB[None], "[1, 13, 17, 3]"),
        ("five_channels", np.zeros((2, 3, 5), np.uint8), "[2, 3, 5]"),
        ("no_channels", np.zeros((2, 3, 0), np.uint8), "[2, 3, 0]"),
        ("no_rows", np.zeros((0, 3, 3), np.uint8), "[0, 3, 3]"),
        ("a_list", [[1, 2]], "int64"),
    )
    def test_other_arrays_are_refused(self, array, received):
        with self.assertRaises(ImageError) as context:
            picture_from_array(array)
        self.assert_one_line(context.exception, "expected uint8", received)


class WriteTest(ImageIoTest):
    @parameterized.parameters(
        (image_format, mode)
        for image_format in LOSSLESS
        for mode in ARRAYS
        if image_format in HOLDS_ALPHA or mode in ("L", "RGB")
    )
    def test_lossless_formats_keep_every_pixel(self, image_format, mode):
        data = writing.picture_bytes(picture_from_array(ARRAYS[mode]), image_format)
        read = Image.open(io.BytesIO(data)).convert(mode)  # WebP stores grey as RGB
        np.testing.assert_array_equal(np.asarray(read), ARRAYS[mode])

    @parameterized.product(image_format=["jpeg", "avif"], mode=["L", "RGB"])
    def test_lossy_formats_stay_close(self, image_format, mode):
        data = writing.picture_bytes(picture_from_array(ARRAYS[mode]), image_format)
        read = np.asarray(Image.open(io.BytesIO(data)).convert(mode))
        self.assertLess(np.abs(read.astype(int) - ARRAYS[mode]).mean(), 4)

    @parameterized.product(image_format=["jpeg", "bmp", "ppm"], mode=["LA", "RGBA"])
    def test_alpha_is_refused_by_formats_without(self, image_format, mode):
        picture = picture_from_array(ARRAYS[mode])
        path = self.folder / f"photo.{image_format}"
        with self.assertRaises(ImageError) as context:
            writing.write_picture(picture, path)
        self.assert_one_line(context.exception, f"{path}: ", mode, "PNG or WebP")
        self.assertEmpty(list(self.folder.iterdir()))

    @parameterized.parameters(
        ("a.png", "PNG"), ("a.JPG", "JPEG"), ("a.jpeg", "JPEG"), ("a.webp", "WEBP"),
        ("a.tif", "TIFF"), ("a.bmp", "BMP"), ("a.pgm", "PPM"), ("a.jp2", "JPEG2000"),
    )  # fmt: skip
    def test_format_follows_the_extension(self, file_name, image_format):
        path = self.folder / file_name
        self.assertIsNone(writing.write_picture(picture_from_array(GREY), str(path)))
        self.assertEqual(format_of(path.read_bytes()), image_format)

    @parameterized.parameters("webp", "WEBP", ".webp")
    def test_named_format_beats_the_extension(self, image_format):
        path = self.folder / "a.png"
        writing.write_picture(picture_from_array(RGB), path, image_format)
        self.assertEqual(format_of(path.read_bytes()), "WEBP")

    def test_without_a_path_the_bytes_are_returned_as_png(self):
        picture = picture_from_array(RGB)
        data = writing.write_picture(picture, None)
        self.assertEqual(format_of(data), "PNG")
        self.assertEqual(
            writing.write_picture(picture, None, "bmp"), writing.picture_bytes(picture, "bmp")
        )

    @parameterized.parameters(("a.xyz", "'.xyz'"), ("a", "no extension"), ("a.gif", "'.gif'"))
    def test_unknown_extension_lists_the_known_ones(self, file_name, received):
        path = self.folder / file_name
        with self.assertRaises(ImageError) as context:
            writing.write_picture(picture_from_array(RGB), path)
        self.assert_one_line(context.exception, f"{path}: ", ".png .jpg", ".webp", received)

    def test_picture_beyond_the_format_is_refused(self):
        picture = picture_from_array(np.zeros((1, 16_400), np.uint8))
        with self.assertRaises(ImageError) as context:
            writing.picture_bytes(picture, "webp")
        self.assert_one_line(context.exception, "picture as webp: ", "16400 x 1 L", "write PNG")

    def test_every_written_extension_is_read_again(self):
        written = {extension for one in writing._FORMATS for extension in one.extensions}
        self.assertContainsSubset(written, reading.IMAGE_EXTENSIONS)

    def test_folder_walk_finds_only_what_can_be_read(self):
        formats = {
            Image.registered_extensions()[extension] for extension in reading.IMAGE_EXTENSIONS
        }
        self.assertContainsSubset(formats - {"MPO"}, reading._READ_FORMATS)  # a kind of JPEG


# What a process of its own does before it writes 10,000 bytes.
SMALL_DISK = "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))"
KILL_AT_FLUSH = "os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)"
# By the kernel, at the first byte too many; Python ignores this signal otherwise.
KILL_WHEN_FULL = (
    "resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); "
    "signal.signal(signal.SIGXFSZ, signal.SIG_DFL)"
)


def write_elsewhere(path, prepare):
    code = (
        "import os, resource, signal, sys; from rnn_codec import storage; "
        f"{prepare}; storage.write_atomically(sys.argv[1], bytes(10_000))"
    )
    command = [sys.executable, "-c", code, str(path)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


class FileTest(ImageIoTest):
    def assert_write_fails(self, path, *parts):
        with self.assertRaises(CodecError) as context:
            storage.write_atomically(path, b"new")
        self.assert_one_line(context.exception, f"{path}: ", *parts)

    def test_reads_what_it_wrote(self):
        path = self.folder / "file"
        for data in (b"first", b"", b"second"):
            storage.write_atomically(path, data)
            self.assertEqual(storage.read_bytes(path), data)
        self.assertEqual(list(self.folder.iterdir()), [path])

    def test_plain_names_are_written_in_the_working_folder(self):
        previous = os.getcwd()
        self.addCleanup(os.chdir, previous)
        os.chdir(self.folder)
        storage.write_atomically("file", b"data")
        self.assertEqual((self.folder / "file").read_bytes(), b"data")

    def test_new_file_follows_the_umask(self):
        self.addCleanup(os.umask, os.umask(0o027))
        path = self.folder / "file"
        storage.write_atomically(path, b"data")
        self.assertEqual(path.stat().st_mode & 0o777, 0o640)

    def test_link_stays_a_link(self):
        target, link = self.folder / "target", self.folder / "link"
        link.symlink_to(target)
        storage.write_atomically(link, b"data")
        self.assertTrue(link.is_symlink())
        self.assertEqual(target.read_bytes(), b"data")

    def test_device_is_written_to_not_replaced(self):
        with mock.patch.object(os, "replace") as replace:
            storage.write_atomically(os.devnull, b"data")
        replace.assert_not_called()

    @parameterized.named_parameters(("rename", "os.replace"), ("flush", "os.fsync"))
    def test_failed_write_leaves_the_old_file_and_nothing_else(self, function):
        path = self.folder / "file"
        path.write_bytes(b"old")
        full = OSError(errno.ENOSPC, "No space left on device")
        with mock.patch(function, side_effect=full):
            self.assert_write_fails(path, "No space left on device")
        self.assertEqual(list(self.folder.iterdir()), [path])
        self.assertEqual(path.read_bytes(), b"old")

    def test_interrupted_write_leaves_nothing(self):
        with (
            mock.patch("os.replace", side_effect=KeyboardInterrupt),
            self.assertRaises(KeyboardInterrupt),
        ):
            storage.write_atomically(self.folder / "file", b"data")
        self.assertEmpty(list(self.folder.iterdir()))

    @parameterized.named_parameters(
        ("before_the_name_is_taken", KILL_AT_FLUSH, "SIGKILL"),
        ("amid_the_data", f"{SMALL_DISK}; {KILL_WHEN_FULL}", "SIGXFSZ"),
    )
    @absltest.skipUnless(os.name == "posix", "needs signals")
    def test_killed_process_leaves_the_old_file(self, prepare, name):
        old, absent = self.folder / "old", self.folder / "absent"
        old.write_bytes(b"old")
        for path in (old, absent):
            process = write_elsewhere(path, prepare)
            self.assertEqual(process.returncode, -getattr(signal, name))
        self.assertEqual(old.read_bytes(), b"old")
        self.assertFalse(absent.exists())

    @absltest.skipUnless(os.name == "posix", "needs limits on files")
    def test_full_disk_leaves_the_old_file_and_nothing_else(self):
        path = self.folder / "file"
        path.write_bytes(b"old")
        process = write_elsewhere(path, SMALL_DISK)
        self.assertIn(f"CodecError: {path}: could not be written (File too large)", process.stderr)
        self.assertEqual(list(self.folder.iterdir()), [path])
        self.assertEqual(path.read_bytes(), b"old")

    @absltest.skipUnless(os.path.exists("/dev/full"), "needs a device that is always full")
    def test_full_device(self):
        self.assert_write_fails("/dev/full", "No space left on device")

    @absltest.skipUnless(os.path.exists("/dev/zero"), "needs a file without an end")
    def test_file_without_an_end_is_refused(self):
        with mock.patch.object(storage, "_MAX_FILE_BYTES", 10**6):
            with self.assertRaises(CodecError) as context:
                storage.read_bytes("/dev/zero")
        self.assert_one_line(
            context.exception, "/dev/zero: expected at most 1,000,000 bytes, received more"
        )

    def test_missing_folder(self):
        self.assert_write_fails(self.folder / "absent" / "file", "absent, found none; create it")

    def test_name_of_a_folder(self):
        self.assert_write_fails(self.folder, "found a folder")

    @parameterized.parameters(errno.EACCES, errno.EROFS)
    def test_folder_that_is_read_only(self, number):
        # Simulated: the owner of the tests may be root.
        denied = OSError(number, os.strerror(number), "file")
        with mock.patch("builtins.open", side_effect=denied):
            self.assert_write_fails(self.folder / "file", "writable folder", os.strerror(number))


class AlphaTest(ImageIoTest):
    @parameterized.named_parameters(
        ("one_pixel", (1, 1)), ("row", (1, 300)), ("column", (300, 1)), ("plane", (37, 53))
    )
    def test_decodes_what_it_encoded(self, shape):
        alpha = np.random.default_rng(2).integers(0, 256, shape, dtype=np.uint8)
        decoded = reading.decode_alpha(writing.encode_alpha(alpha), shape[1], shape[0])
        np.testing.assert_array_equal(decoded, alpha)
        self.assertTrue(decoded.flags.writeable)

    def test_even_plane_takes_few_bytes(self):
        self.assertLess(len(writing.encode_alpha(np.full((512, 512), 255, np.uint8))), 1000)

    @parameterized.named_parameters(
        ("empty", b""),
        ("text", b"no picture"),
        ("jpeg", saved(Image.fromarray(GREY), "JPEG")),
        ("rgb", saved(Image.fromarray(RGB), "PNG")),
        ("palette", saved(Image.fromarray(GREY).convert("P"), "PNG")),
        ("one_bit", saved(Image.fromarray(GREY > 9), "PNG")),
        ("sixteen_bits", saved(Image.new("I;16", (17, 13)), "PNG")),
        ("transposed", saved(Image.fromarray(GREY.T), "PNG")),
        ("bomb", make_png(60_000, 60_000, 8, 0, b"")),
        ("cut", saved(Image.fromarray(GREY), "PNG")[:200]),
    )
    def test_other_data_are_refused(self, data):
        with self.assertRaises(BitstreamError) as context:
            reading.decode_alpha(data, 17, 13)
        self.assert_one_line(context.exception, "alpha: expected", "17 x 13")

    def test_wrong_size_is_refused_before_decoding(self):
        data = writing.encode_alpha(GREY)
        with mock.patch.object(Image.Image, "load") as load, self.assertRaises(BitstreamError):
            reading.decode_alpha(data, 13, 17)
        load.assert_not_called()

    @SETTINGS
    @hypothesis.given(st.integers(0, 10**4), st.integers(1, 255))
    def test_damage_gives_a_plane_or_a_bitstream_error(self, position, change):
        data = bytearray(writing.encode_alpha(GREY))
        data[position % len(data)] ^= change
        try:
            self.assertEqual(reading.decode_alpha(bytes(data), 17, 13).shape, (13, 17))
        except BitstreamError as error:
            self.assert_one_line(error, "alpha: ")


class PadTest(parameterized.TestCase):
    def test_edge_is_mirrored_about_the_last_pixel(self):
        pixels = np.arange(6, dtype=np.uint8).reshape(2, 3)
        expected = [[0, 1, 2, 2], [3, 4, 5, 5], [3, 4, 5, 5], [0, 1, 2, 2]]
        np.testing.assert_array_equal(pad_to_multiple(pixels, 4), expected)

    def test_one_pixel_fills_the_block(self):
        padded = pad_to_multiple(np.full((1, 1, 3), 7, np.uint8), 16)
        np.testing.assert_array_equal(padded, np.full((16, 16, 3), 7))

    @parameterized.parameters(0, -16)
    def test_multiple_below_one_is_an_error(self, multiple):
        with self.assertRaisesRegex(ValueError, f"multiple={multiple}"):
            pad_to_multiple(RGB, multiple)

    @SETTINGS
    @hypothesis.given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 32))
    def test_padded_picture_starts_with_the_picture(self, height, width, multiple):
        pixels = np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)
        padded = pad_to_multiple(pixels, multiple)
        np.testing.assert_array_equal(padded[:height, :width], pixels)
        self.assertEqual(padded.shape[0] % multiple, 0)
        self.assertEqual(padded.shape[1] % multiple, 0)
        self.assertLess(padded.shape[0] - height, multiple)
        self.assertLess(padded.shape[1] - width, multiple)
        # Row `height + i` repeats row `height - 1 - i`, and back and forth beyond that.
        rows = np.arange(padded.shape[0]) % (2 * height)
        rows = np.where(rows < height, rows, 2 * height - 1 - rows)
        np.testing.assert_array_equal(padded[:, :width], pixels[rows])


class PictureTest(absltest.TestCase):
    def test_only_pixels_are_required(self):
        picture = Picture(GREY)
        self.assertEqual((picture.mode, picture.width, picture.height), ("L", 17, 13))


class JpegQualityTest(parameterized.TestCase):
    def saved(self, image_format, **options):
        file = io.BytesIO()
        Image.fromarray(options.pop("pixels", RGB)).save(file, image_format, **options)
        return file.getvalue()

    @parameterized.parameters(*range(1, 101))
    def test_of_libjpeg(self, quality):
        for pixels in (GREY, RGB):
            data = self.saved("JPEG", quality=quality, pixels=pixels)
            self.assertAlmostEqual(reading.jpeg_quality(data), quality, places=6)

    def test_of_other_bytes(self):
        for data in (self.saved("WEBP"), b"", b"no picture", b"\xff\xd8\xff"):
            self.assertIsNone(reading.jpeg_quality(data))

    def test_of_a_part(self):
        data = self.saved("JPEG", quality=50)
        for size in range(0, data.index(b"\xff\xc0")):
            self.assertIsNone(reading.jpeg_quality(data[:size]))


if __name__ == "__main__":
    absltest.main()
