"""Tests for rnn_codec/evaluation/: runner.py (rows, and what survives a stop), comparisons.py."""

import csv
import errno
import json
import pathlib
import tempfile
from unittest import mock

from absl.testing import absltest, parameterized
import numpy as np
from PIL import Image
import pytest
import testing

from rnn_codec.errors import CodecError, ImageError
from rnn_codec.evaluation import codecs, comparisons, measures, runner


class FakeCodec(codecs.ImageCodec):
    """Lowers the contrast, in as many bytes as its setting says: done at once."""

    settings = (100, 200)

    def __init__(self, name="fake", version="1.0"):
        self.name = name
        self._version = version
        self._pixels = None

    def encode(self, pixels, setting):
        self._pixels = pixels // 2 + setting // 8
        return bytes(setting)

    def decode(self, data):
        return self._pixels

    def describe(self):
        return {"library": f"fake {self._version}", "options": {"speed": (1, 2)}}


class BrokenCodec(FakeCodec):
    def encode(self, pixels, setting):
        raise OSError("encoder error -2\nwhen writing")


def measure(name="a.png", codec=None):
    pixels = testing.make_array(24, 32)
    return runner.measure(name, pixels, codec or FakeCodec(), measures.Original(pixels))


class MeasureTest(absltest.TestCase):
    def test_a_row_for_each_setting(self):
        rows = measure()
        self.assertEqual([tuple(row) for row in rows], [runner.COLUMNS] * 2)
        self.assertEqual([row["bytes"] for row in rows], [100, 200])
        self.assertAlmostEqual(rows[1]["bpp"], 8 * 200 / (24 * 32), 5)
        self.assertEqual((rows[0]["image"], rows[0]["codec"]), ("a.png", "fake"))
        self.assertIsNone(rows[0]["ms_ssim_rgb"])

    def test_a_codec_that_fails_is_one_line(self):
        with self.assertRaises(CodecError) as caught:
            measure(codec=BrokenCodec())
        self.assertEqual(
            str(caught.exception),
            "fake: expected to code 32 x 24 pixels, received an error (encoder error -2 when "
            "writing); leave the image or the codec out",
        )


class ReadImageTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.path = str(pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()), "a.png"))

    def read(self, array):
        Image.fromarray(array).save(self.path)
        return runner.read_image(self.path)

    def test_a_photograph_needs_no_words(self):
        array = testing.make_array(161, 170)
        pixels, notes = self.read(array)
        np.testing.assert_array_equal(pixels, array)
        self.assertEqual(notes, [])

    @parameterized.parameters(
        ("L", (161, 170), "is grey; measured as RGB with three equal channels"),
        ("RGBA", (161, 170), "has alpha, which is left out"),
        ("RGB", (160, 170), "is 170 x 160, too small for five scales"),
    )
    def test_what_is_special_is_told(self, mode, size, expected):
        array = testing.make_array(*size, mode)
        pixels, (note,) = self.read(array)
        self.assertStartsWith(note, f"{self.path}: {expected}")
        colours = array[..., None] if mode == "L" else array[..., :3]
        np.testing.assert_array_equal(pixels, np.broadcast_to(colours, (*size, 3)))

    def test_a_broken_picture_is_a_fault(self):
        with open(self.path, "wb") as file:
            file.write(b"\x89PNG\r\n\x1a\nno more")
        with self.assertRaisesRegex(ImageError, "a.png: expected"):
            runner.read_image(self.path)


class ResultsTest(parameterized.TestCase):
    """One image and one codec, measured once; then a second run."""

    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
        self.output = self.folder / "output"
        self.images = {"a.png": str(self.folder / "a.png")}
        Image.fromarray(testing.make_array(24, 32)).save(self.images["a.png"])
        self.rows = measure()
        self.start().add(self.rows)

    def start(self, *chosen, images=None):
        chosen = list(chosen) or [FakeCodec()]
        return runner.Results(str(self.output), chosen, images or self.images, "evaluate.py")

    def test_rows_come_back_as_they_were(self):
        results = self.start()
        self.assertEqual(results.rows, self.rows)
        self.assertTrue(results.has("a.png", "fake"))
        self.assertFalse(results.has("b.png", "fake"))
        self.assertEqual(results.notes, [])

    def test_the_file_is_plain_csv(self):
        with open(self.output / "rows.csv", newline="") as file:
            first, _ = csv.DictReader(file)
        self.assertEqual(tuple(first), runner.COLUMNS)
        self.assertEqual((first["codec"], first["setting"], first["bytes"]), ("fake", "100", "100"))
        self.assertEqual(first["ms_ssim_rgb"], "")

    def test_names_may_hold_anything(self):
        for name in ('b,"c".png', "new\nline.png", "caf\udce9.png", "1.5"):
            self.start(images={name: self.images["a.png"]}).add(measure(name))
            results = self.start(images={name: self.images["a.png"]})
            self.assertTrue(results.has(name, "fake"), name)

    @parameterized.parameters(1, 20, 150)
    def test_rows_cut_by_a_kill_are_measured_again(self, num_bytes):
        rows_path = self.output / "rows.csv"
        whole = rows_path.read_bytes()
        self.start().add(measure("b.png"))
        rows_path.write_bytes(rows_path.read_bytes()[:-num_bytes])
        results = self.start()
        self.assertEqual(results.rows, self.rows)
        self.assertEqual(rows_path.read_bytes(), whole)

    def test_another_version_of_a_codec_is_measured_again_and_told(self):
        self.start(FakeCodec(), FakeCodec("other")).add(measure(codec=FakeCodec("other")))
        results = self.start(FakeCodec(version="2.0"), FakeCodec("other"))
        self.assertFalse(results.has("a.png", "fake"))
        self.assertTrue(results.has("a.png", "other"))
        expected = "fake: measured again, as library was 'fake 1.0', is 'fake 2.0'"
        self.assertEqual(results.notes, [expected])

    def test_another_picture_of_that_name_is_measured_again_and_told(self):
        Image.fromarray(testing.make_array(24, 32, seed=1)).save(self.images["a.png"])
        results = self.start()
        self.assertEqual(results.rows, [])
        self.assertRegex(results.notes[0], "^a.png: measured again, as sha256 was '.*', is '.*'$")

    @parameterized.parameters("measures", "machine")
    def test_other_conditions_leave_no_row(self, group):
        conditions = runner.conditions()
        conditions[group]["python" if group == "machine" else "numpy"] = "0.1"
        with mock.patch.object(runner, "conditions", return_value=conditions):
            results = self.start()
        self.assertEqual(results.rows, [])
        self.assertRegex(results.notes[0], "^all rows: measured again, as .* was '.*', is '0.1'$")

    def test_what_is_not_asked_for_stays_and_is_known_later(self):
        other = {"b.png": self.images["a.png"]}
        self.start(FakeCodec("other"), images=other).add(measure("b.png", FakeCodec("other")))
        results = self.start()
        self.assertLen(results.rows, 4)
        run = json.loads((self.output / "run.json").read_text())
        self.assertEqual(set(run["codecs"]), {"fake", "other"})
        self.assertEqual(set(run["images"]), {"a.png", "b.png"})

    def test_run_says_what_was_asked_and_with_what(self):
        run = json.loads((self.output / "run.json").read_text())
        self.assertEqual(run["command"], "evaluate.py")
        self.assertEqual(run["codecs"]["fake"]["settings"], [100, 200])
        self.assertEqual(run["codecs"]["fake"]["library"], "fake 1.0")
        self.assertIn("scikit-image", run["measures"])
        self.assertGreaterEqual(run["machine"]["threads"], 1)

    @parameterized.parameters(None, "{}", "no JSON")
    def test_rows_without_their_conditions_are_refused(self, text):
        run_path = self.output / "run.json"
        run_path.unlink()
        if text is not None:
            run_path.write_text(text)
        with self.assertRaisesRegex(CodecError, "run.json: expected what rows.csv .* --output"):
            self.start()
        self.assertLen((self.output / "rows.csv").read_text().splitlines(), 3)

    def test_a_foreign_table_is_refused_and_kept(self):
        (self.output / "rows.csv").write_text("name,value\na,1\n")
        with self.assertRaisesRegex(CodecError, "rows.csv: expected rows of an earlier run"):
            self.start()
        self.assertEqual((self.output / "rows.csv").read_text(), "name,value\na,1\n")

    def test_a_disk_that_is_full_is_a_fault(self):
        results = self.start()
        full = OSError(errno.ENOSPC, "No space left on device")
        with (
            mock.patch.object(runner, "_lines", side_effect=full),
            self.assertRaisesRegex(CodecError, "rows.csv: could not be written .No space left"),
        ):
            results.add(measure("b.png"))
        self.assertFalse(results.has("b.png", "fake"))

    def test_an_output_that_is_a_file_is_a_fault(self):
        with self.assertRaisesRegex(CodecError, "a.png: expected a folder for the results"):
            runner.Results(self.images["a.png"], [FakeCodec()], self.images, "evaluate.py")


@pytest.mark.network
class ComparisonsTest(parameterized.TestCase):
    def test_nearest_is_the_largest_that_fits(self):
        rows = [{"bytes": size} for size in (300, 100, 200)]
        for size, expected in ((250, 200), (200, 200), (1000, 300), (50, 100)):
            self.assertEqual(comparisons.nearest(rows, size)["bytes"], expected)

    def test_without_a_codec_of_ours_sizes_are_rates(self):
        pixels = testing.make_array(40, 64)
        found = comparisons.compare("a.png", pixels, measure(), [FakeCodec()])
        sizes = [comparison.name for comparison in found]
        self.assertEqual(sizes, ["a.png, 40 bytes", "a.png, 80 bytes", "a.png, 160 bytes"])
        self.assertEqual([one.versions[0].bytes for one in found], [100, 100, 100])

    @pytest.mark.network
    def test_the_others_are_compared_at_the_bytes_of_ours(self):
        pixels = testing.make_array(96, 96)
        ours = codecs.ProgressiveCodec(testing.preset_folder())
        ours._codec = testing.make_codec()
        jpeg = codecs.make("jpeg420")
        original = measures.Original(pixels)
        rows = [
            row for codec in (ours, jpeg) for row in runner.measure("a", pixels, codec, original)
        ]
        first, second = comparisons.compare("a", pixels, rows, [ours, jpeg])
        self.assertEqual([one.versions[0].setting for one in (first, second)], [1, 2])
        for comparison in (first, second):
            shown = {version.codec: version for version in comparison.versions}
            self.assertEqual(set(shown), {ours.name, "jpeg420"})
            values = original.compare(shown["jpeg420"].pixels)
            self.assertEqual(shown["jpeg420"].psnr_db, values["psnr_rgb_db"])


if __name__ == "__main__":
    absltest.main()
