"""Tests for rnn_codec/container/bitstream.py and docs/bitstream.md."""

import dataclasses
import json
import random
import re
import subprocess
import sys

from absl.testing import absltest, parameterized
from format_files import (
    MODEL_ID,
    ROOT,
    SETTINGS,
    documented_dump,
    documented_rows,
    documented_variables,
    make_chunk,
    make_file,
    make_header,
)
import google_crc32c
import hypothesis
from hypothesis import strategies as st

from rnn_codec.container import bitstream
from rnn_codec.container.bitstream import Header, Limits, Metadata, Plane
from rnn_codec.errors import BitstreamError

PLANES = (Plane(bitstream.RAW, b"first"), Plane(1, b""), Plane(2, b"the third"))
METADATA = Metadata(icc_profile=b"a profile", exif=b"Exif\0\0", xmp=b"<xmp/>")
ALPHA = b"a PNG stream"


def plane_chunk(iteration, payload=b"bits"):
    return make_chunk(b"P", bytes([iteration - 1, bitstream.RAW]) + payload)


def refit_header_crc(data, position, value):
    """Changes a byte of the header in such a way that its checksum still fits."""
    fields = bytearray(data[:22])
    fields[position] = value
    return bytes(fields) + google_crc32c.value(bytes(fields)).to_bytes(4, "little") + data[26:]


SMALL_FILE = bitstream.write(make_header(has_alpha=True), PLANES, METADATA, ALPHA)


class RoundTripTest(parameterized.TestCase):
    @SETTINGS
    @hypothesis.given(
        width=st.integers(1, 2**31 - 1),
        height=st.integers(1, 2**31 - 1),
        is_rgb=st.booleans(),
        model_id=st.binary(min_size=8, max_size=8),
        planes=st.lists(
            st.builds(Plane, st.integers(0, 255), st.binary(max_size=300)), min_size=1, max_size=20
        ),
        metadata=st.builds(Metadata, *[st.none() | st.binary(max_size=300)] * 3),
        alpha=st.none() | st.binary(max_size=300),
        strengths=st.lists(st.integers(0, 255), max_size=2),
    )
    def test_reads_what_it_wrote(
        self, width, height, is_rgb, model_id, planes, metadata, alpha, strengths
    ):
        header = Header(width, height, is_rgb, alpha is not None, len(planes), model_id)
        data = bitstream.write(header, planes, metadata, alpha, *strengths)
        contents = bitstream.read(data, strict=True, limits=Limits(max_pixels=2**62))
        self.assertEqual(contents.header, header)
        self.assertEqual(contents.planes, tuple(planes))
        self.assertEqual(contents.metadata, metadata)
        self.assertEqual(contents.alpha, alpha)
        read = [contents.strength, contents.quality_level]
        self.assertEqual(read, [*strengths, None, None][:2])
        self.assertEqual(contents.warnings, ())
        self.assertEqual(contents.plane_ends[-1], contents.file_bytes)
        self.assertEqual(contents.file_bytes, len(data))

    @parameterized.parameters(1, 127, 128, 255)
    def test_holds_any_number_of_iterations(self, iterations):
        planes = [Plane(0, bytes([index])) for index in range(iterations)]
        data = bitstream.write(make_header(iterations=iterations), planes)
        self.assertEqual(bitstream.read(data, strict=True).planes, tuple(planes))

    @parameterized.parameters(0, 125, 126, 16381, 16382, 70_000)
    def test_holds_payloads_at_the_edges_of_the_length(self, size):
        planes = (Plane(0, bytes(size)),)
        data = bitstream.write(make_header(iterations=1), planes)
        self.assertEqual(bitstream.read(data, strict=True).planes, planes)

    @parameterized.parameters(bytes, bytearray, memoryview)
    def test_reads_any_bytes_like_object(self, kind):
        contents = bitstream.read(kind(SMALL_FILE))
        self.assertEqual(contents.planes, PLANES)
        self.assertIsInstance(contents.planes[0].payload, bytes)
        self.assertIsInstance(contents.metadata.icc_profile, bytes)

    def test_empty_metadata_is_not_absent_metadata(self):
        data = bitstream.write(make_header(), PLANES, Metadata(xmp=b""))
        self.assertEqual(bitstream.read(data).metadata, Metadata(xmp=b""))

    def test_file_ends_with_the_plane_that_needs_it(self):
        contents = bitstream.read(SMALL_FILE)
        for count, end in enumerate(contents.plane_ends, start=1):
            part = bitstream.read(SMALL_FILE[:end])
            self.assertEqual(part.planes, PLANES[:count])
            self.assertEqual((part.metadata, part.alpha), (METADATA, ALPHA))

    @parameterized.named_parameters(
        ("width", dict(width=0), PLANES, None, "width must be 1 to 2147483647. Received: 0"),
        ("height", dict(height=2**31), PLANES, None, "height must be 1 to"),
        ("no_planes", dict(iterations=0), (), None, "iterations must be 1 to 255. Received: 0"),
        ("many_planes", dict(iterations=256), PLANES * 90, None, "iterations must be 1 to 255"),
        ("count", dict(iterations=4), PLANES, None, "declares 4 iterations. Received: 3 planes"),
        ("model_id", dict(model_id=b"short"), PLANES, None, "model_id must be 8 bytes"),
        ("coder", dict(iterations=1), (Plane(256, b""),), None, "coder must be 0 to 255"),
        ("no_alpha", dict(has_alpha=True), PLANES, None, "has_alpha=True. Received: no alpha"),
        ("alpha", dict(), PLANES, b"1234", "has_alpha=False. Received: 4 bytes of alpha"),
    )
    def test_write_refuses_arguments_that_do_not_fit(self, changes, planes, alpha, message):
        with self.assertRaisesRegex(ValueError, re.escape(message)):
            bitstream.write(make_header(**changes), planes, alpha=alpha)

    @parameterized.parameters(
        (256, None, "strength must be 0 to 255. Received: 256"),
        (64, -1, "quality_level must be 0 to 255. Received: -1"),
        (None, 3, "A quality_level comes with a strength. Received: no strength"),
    )
    def test_write_refuses_numbers_that_do_not_fit(self, strength, level, message):
        with self.assertRaisesRegex(ValueError, re.escape(message)):
            bitstream.write(make_header(), PLANES, strength=strength, quality_level=level)


class FormatTest(parameterized.TestCase):
    """Changing what is frozen here breaks every file ever written: see the version policy."""

    def test_bytes_are_frozen(self):
        header = Header(
            width=300, height=2, is_rgb=False, has_alpha=True, iterations=1, model_id=MODEL_ID
        )
        data = bitstream.write(header, [Plane(1, b"\xaa\x55")], Metadata(exif=b"E"), b"A")
        self.assertEqual(
            data.hex(" "),
            "89 52 4e 43 0d 0a 1a 0a 01 02 01 ac 02 02 01 23 45 67 89 ab cd ef 91 79 e8 96 "
            "65 01 45 04 7f f2 1a "
            "41 01 41 15 b7 f2 a2 "
            "50 04 00 01 aa 55 f3 1f eb 86",
        )

    @parameterized.parameters(
        ((64,), "53 01 40 91 1b 54 6f"),
        ((64, 133), "53 02 40 85 49 97 f8 6f"),
    )
    def test_bytes_of_the_strength_are_frozen(self, values, expected):
        data = bitstream.write(make_header(iterations=1), PLANES[:1], Metadata(), None, *values)
        self.assertIn(bytes.fromhex(expected), data)

    def test_checksum_is_crc32c(self):
        self.assertEqual(google_crc32c.value(b"123456789"), 0xE3069283)  # RFC 3720's check value
        stored = int.from_bytes(SMALL_FILE[22:26], "little")
        self.assertEqual(stored, google_crc32c.value(SMALL_FILE[:22]))

    @parameterized.parameters(
        (1, "01"),
        (127, "7f"),
        (128, "80 01"),
        (300, "ac 02"),
        (16383, "ff 7f"),
        (16384, "80 80 01"),
        (2**31 - 1, "ff ff ff ff 07"),
    )
    def test_numbers_take_their_shortest_form(self, value, expected):
        data = bitstream.write(make_header(width=value), PLANES)
        length = len(bytes.fromhex(expected))
        self.assertEqual(data[11 : 11 + length].hex(" "), expected)

    def test_documented_example_is_what_write_makes(self):
        self.assertEqual(documented_dump(), documented_variables()["data"])

    def test_documented_dump_reads_as_the_document_says(self):
        contents = bitstream.read(documented_dump(), strict=True)
        self.assertEqual(dataclasses.astuple(contents.header)[:5], (200, 12, True, False, 2))
        self.assertEqual([plane.coder for plane in contents.planes], [0, 1])
        self.assertEqual(contents.metadata, Metadata(xmp=b"<x/>"))
        self.assertEqual(contents.plane_ends, (47, 57))

    def test_documented_table_covers_every_byte(self):
        self.assertEqual(documented_rows(), documented_dump())


class DamageTest(parameterized.TestCase):
    def assert_prefix_or_error(self, data, planes=PLANES):
        """Reads `data`; what comes back has to be the start of `planes`, never anything else."""
        try:
            contents = bitstream.read(data)
        except BitstreamError as error:
            self.assertNotIn("\n", str(error))
            return None
        count = len(contents.planes)
        self.assertBetween(count, 1, len(planes))
        self.assertEqual(contents.planes, planes[:count])
        return contents

    def test_every_cut_gives_the_last_whole_iteration(self):
        plane_ends = bitstream.read(SMALL_FILE).plane_ends
        for size in range(len(SMALL_FILE)):
            count = sum(end <= size for end in plane_ends)
            contents = self.assert_prefix_or_error(SMALL_FILE[:size])
            if count == 0:
                self.assertIsNone(contents)
                continue
            self.assertLen(contents.planes, count)
            self.assertEqual((contents.metadata, contents.alpha), (METADATA, ALPHA))
            (warning,) = contents.warnings
            self.assertIn(f"the file ends at byte {size}", warning)
            self.assertIn(f"intact: {count} of 3 iterations", warning)

    def test_every_flipped_byte_gives_a_prefix_or_an_error(self):
        for position in range(len(SMALL_FILE)):
            for flip in (0x01, 0x20, 0x80, 0xFF):
                data = bytearray(SMALL_FILE)
                data[position] ^= flip
                contents = self.assert_prefix_or_error(data)
                if contents is not None:
                    self.assertNotEmpty(contents.warnings, (position, flip))
                with self.assertRaises(BitstreamError, msg=(position, flip)):
                    bitstream.read(data, strict=True)

    def test_every_value_of_every_byte_gives_a_prefix_or_an_error(self):
        planes = (Plane(0, b"1"), Plane(0, b"2"))
        original = bitstream.write(make_header(iterations=2), planes, Metadata(exif=b"e"))
        for position in range(len(original)):
            for flip in range(1, 256):
                data = bytearray(original)
                data[position] ^= flip
                self.assert_prefix_or_error(data, planes)

    @SETTINGS
    @hypothesis.given(data=st.binary(max_size=200), start=st.sampled_from((0, 8, 11, 26, 100)))
    def test_random_bytes_raise_nothing_else(self, data, start):
        for function in (bitstream.read, bitstream.read_info):
            try:
                function(SMALL_FILE[:start] + data)
            except BitstreamError:
                pass

    def test_missing_repeated_and_swapped_parts_give_a_prefix_or_an_error(self):
        rng = random.Random(1)
        for _ in range(2000):
            a, b, c = sorted(rng.choices(range(len(SMALL_FILE) + 1), k=3))
            for data in (
                SMALL_FILE[:a] + SMALL_FILE[b:],
                SMALL_FILE[:b] + SMALL_FILE[a:],
                SMALL_FILE[:a] + SMALL_FILE[b:c] + SMALL_FILE[a:b] + SMALL_FILE[c:],
                SMALL_FILE[:a] + bytes(b - a) + SMALL_FILE[b:],
            ):
                self.assert_prefix_or_error(data)

    def test_damaged_plane_ends_the_reading_and_is_named(self):
        data = bytearray(make_file(plane_chunk(1), plane_chunk(2), plane_chunk(3)))
        data[42] ^= 0xFF  # in the payload of the second plane, which lies at 38..49
        (warning,) = bitstream.read(data).warnings
        self.assertRegex(
            warning,
            r"^the plane chunk 'P' at byte 38 fails its checksum \(stored 0x[0-9a-f]{8}, "
            r"computed 0x[0-9a-f]{8}\); intact: 1 of 3 iterations$",
        )
        self.assertLen(bitstream.read(data).planes, 1)

    def test_no_whole_plane_is_an_error(self):
        data = make_file(plane_chunk(1))[:-1]
        with self.assertRaisesRegex(
            BitstreamError,
            "^the file ends at byte 37, but chunk 'P' at byte 26 runs to byte 38; "
            "no whole iteration remains: fetch the file again$",
        ):
            bitstream.read(data)

    @parameterized.parameters(
        (b"i", "ICC profile"), (b"e", "EXIF"), (b"x", "XMP"), (b"q", "unknown")
    )
    def test_damaged_optional_chunk_is_dropped(self, kind, name):
        chunk = bytearray(make_chunk(kind, b"body"))
        chunk[3] ^= 0xFF
        contents = bitstream.read(make_file(chunk, plane_chunk(1), iterations=1))
        self.assertLen(contents.planes, 1)
        self.assertEqual(contents.metadata, Metadata())
        (warning,) = contents.warnings
        self.assertStartsWith(warning, f"the {name} chunk '{kind.decode()}' at byte 26 fails")
        self.assertEndsWith(warning, "it is dropped")

    def test_damaged_alpha_is_dropped_but_stays_declared(self):
        chunk = bytearray(make_chunk(b"A", ALPHA))
        chunk[-1] ^= 0xFF
        data = make_file(chunk, plane_chunk(1), plane_chunk(2), has_alpha=True, iterations=2)
        for part, count in ((data, 2), (bitstream.truncate(data, 1), 1)):
            contents = bitstream.read(part)
            self.assertLen(contents.planes, count)
            self.assertIsNone(contents.alpha)
            self.assertTrue(contents.header.has_alpha)
            self.assertIn("no intact alpha chunk was found", contents.warnings[-1])

    @parameterized.named_parameters(
        ("damaged", make_chunk(b"S", b"\x20")[:-1] + b"\xff", None, "fails its checksum .*dropped"),
        ("empty", make_chunk(b"S", b""), None, "is dropped: expected 1 or 2 bytes, received 0"),
        ("long", make_chunk(b"S", b"\x20" * 3), None, "is dropped: expected 1 or 2 bytes, .* 3"),
        ("second", make_chunk(b"S", b"\x20") * 2, 32, "is dropped: the first one holds"),
    )
    def test_strength_that_cannot_be_used_is_dropped(self, chunks, expected, pattern):
        contents = bitstream.read(make_file(chunks, plane_chunk(1), iterations=1))
        self.assertLen(contents.planes, 1)
        self.assertEqual(contents.strength, expected)
        (warning,) = contents.warnings
        self.assertRegex(warning, f"^the strength chunk 'S' at byte (26|33) .*{pattern}")

    def test_first_of_two_metadata_chunks_holds(self):
        first, second = make_chunk(b"x", b"first"), make_chunk(b"x", b"second")
        contents = bitstream.read(make_file(first, second, plane_chunk(1), iterations=1))
        self.assertEqual(contents.metadata, Metadata(xmp=b"first"))
        (warning,) = contents.warnings
        self.assertIn("XMP chunk 'x' at byte 37 is dropped: the first one holds", warning)

    def test_first_of_two_alpha_chunks_holds(self):
        first, second = make_chunk(b"A", b"first"), make_chunk(b"A", b"second")
        data = make_file(first, second, plane_chunk(1), has_alpha=True, iterations=1)
        contents = bitstream.read(data)
        self.assertEqual(contents.alpha, b"first")
        self.assertLen(contents.warnings, 1)

    def test_alpha_that_the_header_does_not_declare_is_dropped(self):
        data = make_file(make_chunk(b"A", ALPHA), plane_chunk(1), iterations=1)
        contents = bitstream.read(data)
        self.assertIsNone(contents.alpha)
        self.assertIn("the header declares no alpha", contents.warnings[0])

    @parameterized.named_parameters(
        ("skipped", (1, 3), "for iteration 3 where 2 was expected; intact: 1 of 3 iterations"),
        ("repeated", (1, 1), "for iteration 1 where 2 was expected; intact: 1 of 3"),
        ("beyond", (1, 2, 3, 4), "for iteration 4, but the header declares 3; nothing is read"),
        ("again", (1, 2, 3, 1), "for iteration 1 where 4 was expected; nothing is read"),
    )
    def test_plane_out_of_order_ends_the_reading(self, iterations, message):
        contents = bitstream.read(make_file(*[plane_chunk(n) for n in iterations]))
        self.assertLen(contents.planes, len(iterations) - 1)
        self.assertIn(message, contents.warnings[0])

    def test_plane_too_short_for_its_fields_ends_the_reading(self):
        contents = bitstream.read(make_file(plane_chunk(1), make_chunk(b"P", b"\1")))
        self.assertLen(contents.planes, 1)
        self.assertIn("too short: 1 of at least 2 bytes; intact: 1 of 3", contents.warnings[0])

    @parameterized.named_parameters(
        ("zeros", bytes(512), "is 0x00 where the type of a chunk was expected; nothing is read"),
        ("text", b"trailing", "the file ends at byte 46, but chunk 't' at byte 38 runs to byte"),
        ("letter", b"P", "byte 39, but the length of chunk 'P' at byte 38 runs to byte 40"),
    )
    def test_garbage_after_the_last_plane_is_a_warning(self, garbage, message):
        data = make_file(plane_chunk(1), iterations=1) + garbage
        contents = bitstream.read(data)
        self.assertLen(contents.planes, 1)
        (warning,) = contents.warnings
        self.assertIn(message, warning)
        self.assertIn("no iteration is missing", warning)
        with self.assertRaisesRegex(BitstreamError, "; read without strict"):
            bitstream.read(data, strict=True)

    @parameterized.named_parameters(
        ("not_shortest", b"P\x80\x00", "80 00"),
        ("zero_ended", b"P\x85\x80\x00", "85 80 00"),
        ("above_31_bits", b"P\xff\xff\xff\xff\x08", "ff ff ff ff 08"),
        ("too_long", b"P\xff\xff\xff\xff\xff\x01", "ff ff ff ff ff"),
    )
    def test_length_in_another_form_is_damage(self, chunk, shown):
        contents = bitstream.read(make_file(plane_chunk(1), chunk + bytes(100), iterations=2))
        self.assertLen(contents.planes, 1)
        self.assertRegex(
            contents.warnings[0],
            rf"bytes 39 to \d+, the length of chunk 'P' at byte 38, are {shown}, which is no",
        )

    def test_length_beyond_the_file_is_damage(self):
        chunk = b"P\xff\xff\xff\xff\x07"
        contents = bitstream.read(make_file(plane_chunk(1), chunk, iterations=2))
        self.assertIn("byte 38 runs to byte 2147483695; intact: 1 of 2", contents.warnings[0])


class HeaderTest(parameterized.TestCase):
    @parameterized.named_parameters(
        ("empty", b"", "expected an .rnnc file, received an empty one"),
        ("png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "received one that starts with 89 50 4e 47"),
        ("short_text", b"hi", "received one that starts with 68 69; name a file"),
        ("cut_signature", SMALL_FILE[:5], "the file ends at byte 5, inside the signature"),
        ("cut_version", SMALL_FILE[:8], "byte 8, but the format version runs to byte 9; fetch"),
        ("cut_colour", SMALL_FILE[:9], "the file ends at byte 9, but the colour"),
        ("cut_width", SMALL_FILE[:12], "the file ends at byte 12, but the width runs to byte 13"),
        ("cut_model", SMALL_FILE[:20], "but the model identity runs to byte 22; fetch"),
        ("cut_crc", SMALL_FILE[:25], "byte 25, but the checksum runs to byte 26; fetch"),
        ("text", SMALL_FILE.replace(b"\r\n", b"\n"), "as text does this: fetch it again as binary"),
        ("version", SMALL_FILE[:8] + b"\2", "expected format version 1, received 2"),
        ("no_planes", SMALL_FILE[:26], "the file ends at byte 26 where the chunk of iteration 1"),
    )
    def test_other_files_are_refused_in_one_line(self, data, message):
        for function in (bitstream.read, bitstream.read_info):
            with self.assertRaisesRegex(BitstreamError, re.escape(message)):
                function(data)

    def test_damaged_header_is_an_error(self):
        data = bytearray(SMALL_FILE)
        data[13] ^= 1
        with self.assertRaisesRegex(
            BitstreamError, r"^the header fails its checksum \(stored 0x.*, computed 0x.*\); fetch"
        ):
            bitstream.read(data)

    def test_unknown_colour_bits_need_a_newer_reader(self):
        data = refit_header_crc(SMALL_FILE, 9, 0x07)
        with self.assertRaisesRegex(BitstreamError, "colour byte 0x07 has bits .* newer rnn_codec"):
            bitstream.read(data)

    @parameterized.parameters((10, "and 0 iterations"), (13, "200 x 0 pixels"))
    def test_zero_counts_are_an_error(self, position, message):
        data = refit_header_crc(SMALL_FILE, position, 0)
        with self.assertRaisesRegex(BitstreamError, message):
            bitstream.read(data)

    @parameterized.parameters((False, False, "L"), (False, True, "LA"), (True, False, "RGB"))
    def test_mode_is_pillows(self, is_rgb, has_alpha, mode):
        self.assertEqual(make_header(is_rgb=is_rgb, has_alpha=has_alpha).mode, mode)


class UnknownChunkTest(absltest.TestCase):
    def test_optional_one_is_skipped_anywhere(self):
        unknown = make_chunk(b"q", b"from the future")
        planes = plane_chunk(1), plane_chunk(2)
        data = make_file(unknown, planes[0], unknown, planes[1], unknown, iterations=2)
        contents = bitstream.read(data, strict=True)
        self.assertEqual([plane.payload for plane in contents.planes], [b"bits", b"bits"])

    def test_required_one_needs_a_newer_reader(self):
        data = make_file(plane_chunk(1), make_chunk(b"Q", b"?"), plane_chunk(2), iterations=2)
        with self.assertRaisesRegex(
            BitstreamError, "needs the unknown chunk 'Q' at byte 38, .* newer rnn_codec"
        ):
            bitstream.read(data)

    def test_damaged_required_one_ends_the_reading(self):
        # Whether it was required is not known any more, so the planes after it may mean anything.
        chunk = bytearray(make_chunk(b"Q", b"?"))
        chunk[-1] ^= 1
        contents = bitstream.read(make_file(plane_chunk(1), chunk, plane_chunk(2), iterations=2))
        self.assertLen(contents.planes, 1)
        self.assertIn("intact: 1 of 2 iterations", contents.warnings[0])

    def test_metadata_after_the_planes_is_read(self):
        data = make_file(plane_chunk(1), make_chunk(b"x", b"late"), iterations=1)
        self.assertEqual(bitstream.read(data, strict=True).metadata, Metadata(xmp=b"late"))


class LimitsTest(absltest.TestCase):
    def test_pixels_are_checked_before_anything_else(self):
        data = bitstream.write(make_header(width=60_000, height=50_000), PLANES)
        with self.assertRaisesRegex(
            BitstreamError,
            "at most 89,478,485 pixels, .* declares 60000 x 50000 = 3,000,000,000; .*--max_pixels",
        ):
            bitstream.read(data)
        self.assertEqual(
            bitstream.read(data, limits=Limits(max_pixels=3_000_000_000)).planes, PLANES
        )

    def test_pixels_at_the_limit_pass(self):
        self.assertEqual(bitstream.read(SMALL_FILE, limits=Limits(20_000)).planes, PLANES)
        with self.assertRaises(BitstreamError):
            bitstream.read(SMALL_FILE, limits=Limits(19_999))

    def test_large_metadata_and_alpha_are_dropped(self):
        contents = bitstream.read(SMALL_FILE, limits=Limits(max_metadata_bytes=6))
        self.assertEqual(contents.metadata, dataclasses.replace(METADATA, icc_profile=None))
        (warning,) = contents.warnings
        self.assertIn("'i' at byte 26 has 9 bytes, the limit is 6; it is dropped", warning)
        contents = bitstream.read(SMALL_FILE, limits=Limits(max_alpha_bytes=11))
        self.assertIsNone(contents.alpha)
        self.assertEqual((contents.planes, contents.metadata), (PLANES, METADATA))

    def test_number_of_chunks_is_bounded(self):
        damaged = b"q\0...."
        data = make_file(plane_chunk(1), damaged * 20_000, plane_chunk(2), iterations=2)
        contents = bitstream.read(data)
        self.assertLen(contents.planes, 1)
        self.assertIn("more than 10000 chunks", contents.warnings[-1])
        just_enough = Limits(max_chunks=7)
        self.assertLen(bitstream.read(SMALL_FILE, strict=True, limits=just_enough).planes, 3)


class TruncateTest(parameterized.TestCase):
    @parameterized.parameters(1, 2, 3)
    def test_equals_a_file_with_fewer_planes(self, iterations):
        header = make_header(has_alpha=True, iterations=iterations)
        shorter = bitstream.write(header, PLANES[:iterations], METADATA, ALPHA)
        self.assertEqual(bitstream.truncate(SMALL_FILE, iterations), shorter)
        size = bitstream.read_info(SMALL_FILE).bytes_at_iteration[iterations - 1]
        self.assertLen(shorter, size)

    def test_makes_a_cut_file_whole(self):
        cut = SMALL_FILE[:-1]
        self.assertNotEmpty(bitstream.read(cut).warnings)
        contents = bitstream.read(bitstream.truncate(cut, 2), strict=True)
        self.assertEqual(contents.planes, PLANES[:2])

    def test_keeps_unknown_optional_chunks_before_the_cut(self):
        unknown = make_chunk(b"q", b"?")
        planes = plane_chunk(1), plane_chunk(2)
        data = make_file(unknown, planes[0], unknown, planes[1], unknown, iterations=2)
        one = make_file(unknown, planes[0], iterations=1)
        both = make_file(unknown, planes[0], unknown, planes[1], iterations=2)
        self.assertEqual(bitstream.truncate(data, 1), one)
        self.assertEqual(bitstream.truncate(data, 2), both)

    def test_leaves_damaged_chunks_out(self):
        damaged = bytearray(make_chunk(b"x", b"body"))
        damaged[4] ^= 1
        data = make_file(damaged, plane_chunk(1), plane_chunk(2), iterations=2)
        self.assertEqual(bitstream.truncate(data, 1), make_file(plane_chunk(1), iterations=1))

    @parameterized.parameters(-1, 0, 3, 256)
    def test_more_or_less_than_the_file_holds_is_an_error(self, iterations):
        cut = SMALL_FILE[:-1]
        with self.assertRaisesRegex(
            BitstreamError, f"expected 1 to 2 iterations, which is what .* received {iterations}"
        ):
            bitstream.truncate(cut, iterations)


class InfoTest(absltest.TestCase):
    def test_needs_no_heavy_import(self):
        # What `decode.py --info` answers at once rests on this.
        code = (
            "import sys, rnn_codec.container.bitstream; "
            "print(*{'numpy', 'keras', 'tensorflow', 'PIL'} & set(sys.modules))"
        )
        output = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
        )
        self.assertEqual((output.stdout.strip(), output.stderr), ("", ""))

    def test_tells_what_the_file_holds(self):
        info = bitstream.read_info(SMALL_FILE)
        self.assertEqual((info.width, info.height, info.mode), (200, 100, "RGBA"))
        self.assertEqual((info.iterations, info.iterations_written), (3, 3))
        self.assertEqual(info.model_id, "0123456789abcdef")
        self.assertEqual(info.format_version, 1)
        self.assertEqual(info.file_bytes, len(SMALL_FILE))
        self.assertEqual(info.bits_per_pixel, 8 * len(SMALL_FILE) / 20_000)
        self.assertEqual(info.bytes_at_iteration, bitstream.read(SMALL_FILE).plane_ends)
        self.assertEqual(info.coders, ("raw", "neural", "adaptive"))
        self.assertEqual(info.metadata, {"icc_profile": 9, "exif": 6, "xmp": 6})
        self.assertEqual(info.alpha_bytes, len(ALPHA))
        self.assertEqual(info.warnings, ())

    def test_survives_json(self):
        for data in (SMALL_FILE, SMALL_FILE[:-1]):
            fields = bitstream.read_info(data).as_dict()
            self.assertEqual(json.loads(json.dumps(fields)), fields)

    def test_tells_of_a_cut(self):
        info = bitstream.read_info(SMALL_FILE[:-1])
        self.assertEqual((info.iterations, info.iterations_written), (2, 3))
        self.assertLen(info.warnings, 1)

    def test_names_a_coder_it_does_not_know(self):
        data = bitstream.write(make_header(iterations=1), [Plane(9, b"")])
        self.assertEqual(bitstream.read_info(data).coders, ("unknown(9)",))

    def test_has_no_limit_on_pixels(self):
        data = bitstream.write(make_header(width=2**31 - 1, height=2**31 - 1), PLANES)
        self.assertEqual(bitstream.read_info(data).width, 2**31 - 1)
        self.assertEqual(bitstream.truncate(data, 3), data)


if __name__ == "__main__":
    absltest.main()
