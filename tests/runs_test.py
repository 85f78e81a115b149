"""Tests for runs of channels, and lossless pictures, in rnn_codec/container/ and its page."""

import dataclasses
import json
import re

from absl.testing import absltest, parameterized
from format_files import (
    DOCUMENT,
    SETTINGS,
    documented_dump,
    documented_rows,
    documented_variables,
    make_chunk,
    make_file,
    make_header,
)
import hypothesis
from hypothesis import strategies as st

from rnn_codec.container import bitstream
from rnn_codec.container.bitstream import Limits, Metadata, Plane, Point, Run
from rnn_codec.errors import BitstreamError

CHANNELS = 200
RUNS = (
    Run(0, 0, 49, b"first"),
    Run(0, 50, 199, b""),
    Run(1, 0, 199, b"a whole plane"),
    Run(2, 0, 9, b"few"),
    Run(2, 10, 139, b"some"),
)
METADATA = Metadata(exif=b"Exif\0\0", xmp=b"<xmp/>")
ALPHA = b"a PNG stream"


def write(runs=RUNS, channels=CHANNELS, metadata=METADATA, alpha=ALPHA, **changes):
    fields = {"iterations": runs[-1].plane + 1, "has_alpha": alpha is not None} | changes
    header = make_header(**fields)
    return bitstream.write(header, metadata=metadata, alpha=alpha, runs=runs, channels=channels)


SMALL_FILE = write()


def write_lossless(body=b"RIFF....WEBPVP8L", **changes):
    fields = {"iterations": 1, "model_id": bitstream.NO_MODEL} | changes
    return bitstream.write(make_header(**fields), lossless=body)


LOSSLESS = write_lossless()


@st.composite
def pictures(draw):
    """The channels of a plane, and the runs of a file that may end within one."""
    channels = draw(st.sampled_from((1, 2, 3, 127, 128, 300, 4096)))
    runs, place = [], (0, 0)
    for payload in draw(st.lists(st.binary(max_size=150), min_size=1, max_size=12)):
        plane, first = place
        last = draw(st.integers(first, channels - 1) | st.just(channels - 1))
        runs.append(Run(plane, first, last, payload))
        place = (plane + 1, 0) if last == channels - 1 else (plane, last + 1)
    return channels, tuple(runs)


class RoundTripTest(parameterized.TestCase):
    @SETTINGS
    @hypothesis.given(pictures(), st.none() | st.binary(max_size=20))
    def test_reads_what_it_wrote(self, picture, alpha):
        channels, runs = picture
        data = write(runs, channels, alpha=alpha)
        contents = bitstream.read(data, strict=True)
        self.assertEqual((contents.runs, contents.channels), (runs, channels))
        self.assertEqual((contents.metadata, contents.alpha), (METADATA, alpha))
        self.assertEqual(contents.planes, ())
        self.assertEqual(contents.run_ends[-1], len(data))
        whole = [end for run, end in zip(runs, contents.run_ends) if run.last == channels - 1]
        self.assertEqual((contents.plane_ends, contents.iterations), (tuple(whole), len(whole)))

    @SETTINGS
    @hypothesis.given(pictures())
    def test_a_lower_quality_is_a_prefix_but_for_the_count(self, picture):
        channels, runs = picture
        data = write(runs, channels)
        start = data.index(b"e\x06Exif")  # the first chunk
        for count in range(1, len(runs) + 1):
            lower = write(runs[:count], channels)
            self.assertEqual(lower[start:], data[start : len(lower)])

    @parameterized.named_parameters(
        ("first", (Run(0, 1, 9, b""),), "Run 0 must begin at channel 0 of plane 0 and end below"),
        ("gap", (Run(0, 0, 9, b""), Run(0, 11, 19, b"")), "begin at channel 10 of plane 0 and"),
        ("half", (Run(0, 0, 9, b""), Run(1, 0, 19, b"")), "Run 1 must begin at channel 10 of"),
        ("beyond", (Run(0, 0, 200, b""),), "end below channel 200. Received: plane 0, 0 to 200"),
        ("empty", (Run(0, 0, 9, b""), Run(0, 10, 9, b"")), "Received: plane 0, 10 to 9"),
    )
    def test_write_refuses_runs_out_of_order(self, runs, message):
        with self.assertRaisesRegex(ValueError, re.escape(message)):
            write(runs)

    @parameterized.named_parameters(
        ("count", dict(iterations=4), "declares 4 iterations. Received: runs of 3 planes"),
        ("no_channels", dict(channels=None), "Runs come with channels. Received: None and 5 runs"),
        ("channels", dict(channels=4097), "channels must be 1 to 4096. Received: 4097"),
    )
    def test_write_refuses_numbers_that_do_not_fit(self, changes, message):
        with self.assertRaisesRegex(ValueError, message):
            write(**changes)

    def test_write_refuses_two_kinds_of_picture(self):
        header = make_header(iterations=1)
        run = {"runs": [Run(0, 0, 9, b"")], "channels": 10}
        with self.assertRaisesRegex(ValueError, "Received: planes and another"):
            bitstream.write(header, [Plane(0, b"")], **run)
        with self.assertRaisesRegex(ValueError, "Received: planes and another"):
            bitstream.write(header, [Plane(0, b"")], lossless=b"")
        header = dataclasses.replace(header, model_id=bitstream.NO_MODEL)
        with self.assertRaisesRegex(ValueError, "without runs.* Received: 1 runs"):
            bitstream.write(header, lossless=b"", **run)


class FormatTest(parameterized.TestCase):
    """Changing what is frozen here breaks every file ever written: see the version policy."""

    def test_bytes_are_frozen(self):
        runs = (Run(0, 0, 39, b"\xc0"), Run(0, 40, 299, b"\xff\xee"), Run(1, 0, 299, b""))
        data = write(runs, 300, Metadata(), None)
        self.assertEqual(
            data[26:].hex(" "),
            "52 05 00 ac 02 28 c0 9d 49 8f b6 52 05 01 28 00 ff ee 30 b9 ca 25 52 02 02 00 "
            "7f e4 e8 dd",
        )

    def test_documented_example_is_what_write_makes(self):
        self.assertEqual(documented_dump(1), documented_variables(1)["data"])

    def test_documented_dump_reads_as_the_document_says(self):
        contents = bitstream.read(documented_dump(1), strict=True)
        self.assertEqual(contents.channels, 256)
        self.assertEqual([run[:3] for run in contents.runs], [(0, 0, 39), (0, 40, 255), (1, 0, 59)])
        self.assertEqual((contents.run_ends, contents.plane_ends), ((39, 50, 60), (50,)))

    def test_documented_table_covers_every_byte(self):
        self.assertEqual(documented_rows(1), documented_dump(1))

    def test_documented_runs_have_these_bytes(self):
        rows = re.findall(
            r"^\| (\d+) \| (\d+) to (\d+) of (\d+) \| `([0-9a-f ]+)` \|$",
            DOCUMENT.read_text(),
            re.M,
        )
        self.assertLen(rows, 5)
        for plane, first, last, channels, expected in rows:
            plane, first, last, channels = int(plane), int(first), int(last), int(channels)
            before = [Run(index, 0, channels - 1, b"") for index in range(plane)]
            before += [Run(plane, 0, first - 1, b"")] if first else []
            runs = (*before, Run(plane, first, last, b"payload"))
            data = write(runs, channels, Metadata(), None)
            start = bitstream.read(data).run_ends[-2] if before else 26
            self.assertEqual(data[start + 2 : -11].hex(" "), expected)


# Bits per pixel of photographs up to the end of each plane, about.
RATES = (0.03, 0.08, 0.19, 0.4, 0.75, 1.3, 2.2, 3.5)


def typical_runs(pixels):
    """Five runs a plane, fewer where one would have less than 500 bytes."""
    runs, before = [], 0
    for plane, rate in enumerate(RATES):
        size, before = round((rate - before) * pixels / 8), rate
        count = max(1, min(5, size // 500))
        firsts = [round(256 * (index / count) ** 1.5) for index in range(count + 1)]
        for first, end in zip(firsts, firsts[1:]):
            runs.append(Run(plane, first, end - 1, bytes(size // count)))
    return runs


class CostTest(parameterized.TestCase):
    def framing(self, width, height):
        """Bytes of a file at each of its points, and those of them that are no payload."""
        runs, payload = typical_runs(width * height), 0
        data = write(runs, 256, Metadata(), None, width=width, height=height)
        for run, end in zip(runs, bitstream.read(data, strict=True).run_ends):
            payload += len(run.payload)
            yield end, end - payload

    @parameterized.parameters((256, 256), (768, 512), (1024, 1024), (4000, 3000))
    def test_at_most_two_percent_above_two_kilobytes(self, width, height):
        for size, framing in self.framing(width, height):
            if size > 2000:
                header = len(bitstream.SIGNATURE) + 19
                self.assertLess(framing - header, 0.02 * size)
            else:
                self.assertLessEqual(framing, 100)

    @parameterized.parameters(8, 16, 32, 48, 64)
    def test_at_most_100_bytes_with_the_header_below(self, side):
        # Eight planes, each in one run.
        size, framing = list(self.framing(side, side))[-1]
        self.assertLess(size, 2000)
        self.assertLessEqual(framing, 100)

    @parameterized.parameters(68, 96, 128, 160)
    def test_planes_of_few_bytes_cost_a_little_more(self, side):
        # A plane takes one run at least, and its checksum alone takes four bytes: between these
        # sizes eight planes of one run each are more than the 2 % of a file of 2 kB.
        for size, framing in self.framing(side, side):
            self.assertLess(framing - 27, max(0.0225 * size, 82))


class DamageTest(parameterized.TestCase):
    def assert_prefix_or_error(self, data, runs=RUNS):
        """Reads `data`; what comes back has to be the start of `runs`, never anything else."""
        try:
            contents = bitstream.read(data)
        except BitstreamError as error:
            self.assertNotIn("\n", str(error))
            return None
        count = len(contents.runs)
        self.assertBetween(count, 1, len(runs))
        self.assertEqual(contents.runs, runs[:count])
        return contents

    def test_every_cut_gives_the_last_whole_run(self):
        run_ends = bitstream.read(SMALL_FILE).run_ends
        for size in range(len(SMALL_FILE)):
            count = sum(end <= size for end in run_ends)
            contents = self.assert_prefix_or_error(SMALL_FILE[:size])
            if count == 0:
                self.assertIsNone(contents)
                continue
            self.assertLen(contents.runs, count)
            self.assertEqual((contents.metadata, contents.alpha), (METADATA, ALPHA))
            if size == run_ends[3]:  # The third plane has begun, and the header counts three.
                self.assertEqual(contents.warnings, ())
                continue
            (warning,) = contents.warnings
            self.assertIn(f"the file ends at byte {size}", warning)
            intact = ("0 of 3 iterations, and 50 of 200", "1 of 3", "2 of 3", "2 of 3", "2 of 3")
            self.assertIn(f"intact: {intact[count - 1]}", warning)

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

    @SETTINGS
    @hypothesis.given(pictures(), st.data())
    def test_a_cut_or_a_flipped_byte_gives_a_prefix_or_an_error(self, picture, choice):
        channels, runs = picture
        data = bytearray(write(runs, channels))
        position = choice.draw(st.integers(0, len(data) - 1))
        self.assert_prefix_or_error(data[:position], runs)
        data[position] ^= choice.draw(st.integers(1, 255))
        self.assert_prefix_or_error(data, runs)

    @SETTINGS
    @hypothesis.given(pictures(), st.data())
    def test_removed_and_moved_parts_give_a_prefix_or_an_error(self, picture, choice):
        channels, runs = picture
        data = write(runs, channels)
        places = st.lists(st.integers(0, len(data)), min_size=3, max_size=3)
        # Whole chunks, too, whose checksums fit.
        ends = st.lists(
            st.sampled_from((26, *bitstream.read(data).run_ends)), min_size=3, max_size=3
        )
        a, b, c = sorted(choice.draw(places | ends))
        for changed in (
            data[:a] + data[b:],
            data[:b] + data[a:],
            data[:a] + data[b:c] + data[a:b] + data[c:],
            data[:a] + bytes(b - a) + data[b:],
        ):
            self.assert_prefix_or_error(changed, runs)

    def test_no_channel_after_a_damaged_run_is_used(self):
        data = bytearray(SMALL_FILE)
        data[data.index(b"few")] ^= 1
        contents = bitstream.read(data)
        self.assertEqual(contents.runs, RUNS[:3])
        (warning,) = contents.warnings
        self.assertRegex(
            warning, r"^the run chunk 'R' at byte \d+ fails its checksum .*; intact: 2 of 3 iter"
        )
        with self.assertRaisesRegex(BitstreamError, "; read without strict"):
            bitstream.read(data, strict=True)

    def test_channels_before_a_damaged_run_are_used(self):
        data = bytearray(SMALL_FILE)
        data[data.index(b"some")] ^= 1
        contents = bitstream.read(data)
        self.assertEqual(contents.runs, RUNS[:4])
        self.assertEndsWith(
            contents.warnings[0],
            "; intact: 2 of 3 iterations, and 10 of 200 channels of the next",
        )

    @parameterized.named_parameters(
        ("none", (), "does not say which channels it holds"),
        ("no_count", (2,), "does not say which channels it holds"),
        ("long", (0x82, 0x00, 0), "does not say which channels it holds"),
        ("channel_0", (3, 0, 0), "does not say which channels it holds"),
        ("again", (0, 10, 0), "is for channel 0 of iteration 1 where channel 0 of iteration 2 was"),
        ("gap", (3, 5, 0), "is for channel 5 of iteration 2 where channel 0 of iteration 2 was"),
        ("skipped", (4, 0), "is for channel 0 of iteration 3 where channel 0 of iteration 2 was"),
        ("whole", (2, 10), "is for 10 channels, where 9 at most come before the last"),
        ("beyond", (2, 11), "is for 11 channels, where 9 at most come before the last"),
    )
    def test_run_out_of_order_ends_the_reading(self, fields, message):
        first = make_chunk(b"R", bytes((0, 10, 0)))
        contents = bitstream.read(make_file(first, make_chunk(b"R", bytes(fields))))
        self.assertEqual(contents.runs, (Run(0, 0, 9, b""),))
        self.assertIn(message, contents.warnings[0])
        self.assertEndsWith(contents.warnings[0], "; intact: 1 of 3 iterations")

    def test_run_beyond_the_header_ends_the_reading(self):
        chunks = make_chunk(b"R", bytes((0, 10, 0))), make_chunk(b"R", bytes((2, 0)))
        contents = bitstream.read(make_file(*chunks, iterations=1))
        self.assertLen(contents.runs, 1)
        self.assertIn(
            "is for iteration 2, but the header declares 1; nothing", contents.warnings[0]
        )

    @parameterized.parameters((b"\x00\x00\x00", 0), (b"\x00\x81\x20\x00", 4097))
    def test_channels_are_bounded(self, body, channels):
        with self.assertRaisesRegex(BitstreamError, f"declares {channels} channels, expected 1 to"):
            bitstream.read(make_file(make_chunk(b"R", body)))

    def test_planes_and_runs_do_not_mix(self):
        run, plane = make_chunk(b"R", bytes((0, 10, 0))), make_chunk(b"P", b"\x01\0bits")
        contents = bitstream.read(make_file(run, plane))
        self.assertEqual((len(contents.runs), contents.planes), (1, ()))
        self.assertIn("is in a file whose picture is in 'R'; intact", contents.warnings[0])
        plane, run = make_chunk(b"P", b"\0\0bits"), make_chunk(b"R", bytes((2, 0)))
        contents = bitstream.read(make_file(plane, run))
        self.assertEqual((len(contents.planes), contents.runs), (1, ()))
        self.assertIn("is in a file whose picture is in 'P'; intact", contents.warnings[0])

    def test_number_of_runs_is_bounded(self):
        runs = tuple(Run(0, channel, channel, b"") for channel in range(100))
        contents = bitstream.read(write(runs), limits=Limits(max_chunks=50))
        self.assertLess(len(contents.runs), 50)
        self.assertIn("more than 50 chunks", contents.warnings[0])


class TruncateTest(parameterized.TestCase):
    @parameterized.parameters((1, 2), (2, 3))
    def test_counts_whole_planes(self, iterations, runs):
        self.assertEqual(bitstream.truncate(SMALL_FILE, iterations), write(RUNS[:runs]))

    @parameterized.parameters(0, 3)
    def test_more_or_less_than_the_file_holds_is_an_error(self, iterations):
        with self.assertRaisesRegex(BitstreamError, f"expected 1 to 2 .* received {iterations}"):
            bitstream.truncate(SMALL_FILE, iterations)

    def test_no_whole_plane_is_an_error(self):
        with self.assertRaisesRegex(BitstreamError, "no whole iteration; truncate it by bytes"):
            bitstream.truncate(write(RUNS[:1]), 1)

    def test_every_number_of_bytes(self):
        run_ends = bitstream.read(SMALL_FILE).run_ends
        for data in (SMALL_FILE, SMALL_FILE + make_chunk(b"q", b"later")):
            for size in range(run_ends[0], len(data) + 2):
                count = sum(end <= size for end in run_ends)
                self.assertEqual(bitstream.truncate(data, max_bytes=size), write(RUNS[:count]))
        with self.assertRaisesRegex(
            BitstreamError, f"at least {run_ends[0]} bytes, .* received {run_ends[0] - 1}"
        ):
            bitstream.truncate(SMALL_FILE, max_bytes=run_ends[0] - 1)

    def test_files_of_planes_by_bytes(self):
        planes = [Plane(0, b"first"), Plane(0, b"second")]
        data = bitstream.write(make_header(iterations=2), planes, METADATA)
        first = bitstream.write(make_header(iterations=1), planes[:1], METADATA)
        self.assertEqual(bitstream.truncate(data, max_bytes=len(data) - 1), first)
        self.assertEqual(bitstream.truncate(data, max_bytes=len(data)), data)

    def test_damaged_chunks_do_not_count(self):
        data = bytearray(SMALL_FILE)
        data[data.index(b"<xmp/>")] ^= 1
        metadata = dataclasses.replace(METADATA, xmp=None)
        expected = write(RUNS[:2], metadata=metadata)
        self.assertEqual(bitstream.truncate(data, max_bytes=len(expected)), expected)

    @parameterized.parameters({}, {"iterations": 1, "max_bytes": 100})
    def test_one_of_both(self, **wanted):
        with self.assertRaisesRegex(ValueError, "Give iterations or max_bytes"):
            bitstream.truncate(SMALL_FILE, **wanted)


class InfoTest(absltest.TestCase):
    def test_lists_every_point(self):
        info = bitstream.read_info(SMALL_FILE)
        ends = bitstream.read(SMALL_FILE).run_ends
        places = ((0, 50), (0, 200), (1, 200), (2, 10), (2, 140))
        points = tuple(Point(*place, end) for place, end in zip(places, ends))
        self.assertEqual(info.points, points)
        self.assertEqual(info.channels, CHANNELS)
        self.assertEqual((info.iterations, info.iterations_written), (2, 3))
        self.assertEqual(info.bytes_at_iteration, (ends[1], ends[2]))
        self.assertEqual((info.coders, info.exact), (("runs",), False))

    def test_survives_json(self):
        for data in (SMALL_FILE, SMALL_FILE[:-1], LOSSLESS):
            fields = bitstream.read_info(data).as_dict()
            self.assertEqual(json.loads(json.dumps(fields)), fields)
        points = bitstream.read_info(SMALL_FILE).as_dict()["points"]
        self.assertEqual((points[0]["plane"], points[0]["channels"]), (0, 50))


class LosslessTest(parameterized.TestCase):
    @SETTINGS
    @hypothesis.given(st.binary(max_size=300), st.none() | st.binary(max_size=20))
    def test_reads_what_it_wrote(self, body, alpha):
        header = make_header(iterations=1, model_id=bitstream.NO_MODEL, has_alpha=alpha is not None)
        data = bitstream.write(header, metadata=METADATA, alpha=alpha, lossless=body)
        contents = bitstream.read(data, strict=True)
        self.assertEqual((contents.lossless, contents.alpha), (body, alpha))
        self.assertEqual((contents.planes, contents.runs), ((), ()))
        self.assertEqual((contents.iterations, contents.plane_ends), (1, (len(data),)))

    def test_bytes_are_frozen(self):
        self.assertEqual(write_lossless(b"WebP")[26:].hex(" "), "4c 04 57 65 62 50 3b 62 18 db")

    def test_info_says_exact(self):
        info = bitstream.read_info(LOSSLESS)
        self.assertTrue(info.exact)
        self.assertEqual((info.coders, info.iterations), (("lossless WebP",), 1))
        self.assertEqual(info.model_id, 16 * "0")

    @parameterized.parameters({"iterations": 2}, {"model_id": b"12345678"})
    def test_the_header_has_to_fit(self, **changes):
        with self.assertRaisesRegex(ValueError, "header of one iteration and no model"):
            write_lossless(**changes)
        data = make_file(make_chunk(b"L", b"WebP"), **{"iterations": 1} | changes)
        with self.assertRaisesRegex(BitstreamError, "declares a model or more than one iteration"):
            bitstream.read(data)

    def test_every_cut_and_flipped_byte_is_one_clear_line(self):
        for position in range(len(LOSSLESS)):
            for flip in (0, 0x01, 0x20, 0x80, 0xFF):
                data = bytearray(LOSSLESS)
                data[position] ^= flip
                with self.assertRaises(BitstreamError) as caught:
                    bitstream.read(data if flip else LOSSLESS[:position])
                self.assertNotIn("\n", str(caught.exception))
                if position >= 26 and not flip:
                    self.assertRegex(
                        str(caught.exception),
                        f"^the file ends at byte {position}.*; a lossless picture cannot be shown "
                        "in part: fetch the file again$",
                    )

    def test_no_part_of_it_can_be_taken(self):
        for wanted in ({"iterations": 1}, {"max_bytes": len(LOSSLESS) - 1}):
            with self.assertRaisesRegex(BitstreamError, "lossless picture, of which no part can"):
                bitstream.truncate(LOSSLESS, **wanted)
        self.assertEqual(bitstream.truncate(LOSSLESS, max_bytes=len(LOSSLESS)), LOSSLESS)

    def test_what_follows_it_is_a_warning(self):
        for rest in (make_chunk(b"L", b"second"), make_chunk(b"P", b"\0\0"), bytes(9)):
            contents = bitstream.read(LOSSLESS + rest)
            self.assertEqual(contents.lossless, bitstream.read(LOSSLESS).lossless)
            self.assertIn("but no iteration is missing", contents.warnings[0])

    def test_its_bytes_are_limited(self):
        limits = Limits(max_lossless_bytes=15)
        with self.assertRaisesRegex(
            BitstreamError,
            "lossless chunk 'L' .* has 16 bytes, the limit is 15; raise max_lossless",
        ):
            bitstream.read(LOSSLESS, limits=limits)


if __name__ == "__main__":
    absltest.main()
