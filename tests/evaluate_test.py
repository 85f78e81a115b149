"""Tests for rnn_codec/commands/evaluate.py: a folder in, tables, plots and a page out."""

import contextlib
import csv
import io
import json
import pathlib
import subprocess
import sys
import tempfile
from unittest import mock

from absl.testing import absltest, parameterized
from PIL import Image
import pytest
import testing

from rnn_codec.evaluation import curves, report, runner
from rnn_codec.standard import peers
from rnn_codec.standard.codecs import Jpeg, PillowFormat
from rnn_codec.standard.peers import Peer

ROOT = pathlib.Path(__file__).parent.parent


class Png(PillowFormat):
    """A codec that a user adds: one small class."""

    name = "png"
    image_format = "PNG"
    feature = "zlib"
    options = {}

    def rate_option(self, quality, channels):
        return {"compress_level": quality}


# Three settings of JPEG instead of a dozen.
PEERS = {"jpeg420": Peer(Jpeg, (5, 30, 90)), "png": Peer(Png, (1, 9))}


class EvaluateTest(parameterized.TestCase):
    """A test with a folder of images, and one for the results."""

    def setUp(self):
        super().setUp()
        folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
        self.images, self.output = folder / "images", folder / "output"
        self.images.mkdir()
        self.enter_context(mock.patch.dict(peers.PEERS, PEERS))
        # Plots take longer than all the rest; one test has them.
        self.write_report = report.write
        self.report = self.enter_context(mock.patch.object(report, "write"))

    def save(self, name, array):
        Image.fromarray(array).save(self.images / name)

    def main(self, *args):
        """Runs the command in this process: exit code, standard output, stderr."""
        defaults = {
            "--images": self.images,
            "--output": self.output,
            "--presets": "",
            "--codecs": "jpeg420",
            "--published": "",
        }
        args = [*(f"{name}={value}" for name, value in defaults.items()), *args]
        with (
            mock.patch.object(sys, "argv", ["evaluate.py", *args]),
            contextlib.redirect_stdout(io.StringIO()) as stdout,
            contextlib.redirect_stderr(io.StringIO()) as stderr,
        ):
            code = testing.call("evaluate", *args)
        return code, stdout.getvalue(), stderr.getvalue()

    def read_json(self, name):
        return json.loads((self.output / name).read_text())

    @pytest.mark.network
    def test_ours_and_another_on_a_photograph(self):
        self.report.side_effect = self.write_report
        self.save("photo.png", testing.make_array(170, 180))
        code, _, stderr = self.main(f"--presets={testing.preset_folder()}", "--shown=1")
        self.assertEqual((code, stderr), (0, ""))
        rows = self.read_json("rows.json")
        self.assertEqual({row["codec"] for row in rows}, {testing.BLOCKS, "jpeg420"})
        self.assertLen(rows, testing.ITERATIONS + 3)
        self.assertTrue(all(tuple(row) == runner.COLUMNS for row in rows))
        with open(self.output / "means.csv", newline="") as file:
            means = list(csv.DictReader(file))
        self.assertEqual(list(means[0]), ["codec", "setting", *curves.MEAN_COLUMNS])
        self.assertEqual([float(mean["bpp"]) for mean in means], [row["bpp"] for row in rows])
        summary = self.read_json("summary.json")
        self.assertEqual(summary["images"], ["photo.png"])
        self.assertIn(testing.make_codec().identity.hex(), str(summary["versions"]))
        self.assertLen(summary["bd_rate"], 4)
        for name in ("report.html", "rate_distortion_ms_ssim.png", "rows.csv", "run.json"):
            self.assertTrue((self.output / name).exists(), name)

    def test_as_many_images_are_shown_as_asked_for(self):
        for name in ("a.png", "b.png"):
            self.save(name, testing.make_array(40, 48))
        self.main("--shown=1")
        *_, pictures = self.report.call_args.args
        self.assertEqual(
            [picture.name for picture in pictures],
            ["a.png, 30 bytes", "a.png, 60 bytes", "a.png, 120 bytes"],
        )

    def test_colour_error_is_printed_beside_ms_ssim(self):
        self.save("photo.png", testing.make_array(170, 180))
        _, stdout, _ = self.main()
        tables = [line for line in stdout.splitlines() if "MS-SSIM" in line]
        self.assertLen(tables, 2)
        for heading in tables:
            self.assertIn("CIEDE2000", heading)

    def test_a_second_run_measures_only_what_is_missing(self):
        for name in ("a.png", "b.png"):
            self.save(name, testing.make_array(40, 48))
        self.main("--limit=1")
        rows = (self.output / "rows.csv").read_text()
        with mock.patch.object(Jpeg, "encode", side_effect=AssertionError("again")):
            code, _, _ = self.main("--limit=1", "--shown=0")
        self.assertEqual((code, (self.output / "rows.csv").read_text()), (0, rows))
        self.main("--codecs=jpeg420,png")
        added = (self.output / "rows.csv").read_text()
        self.assertStartsWith(added, rows)
        self.assertLen(added.splitlines(), 1 + 2 * 3 + 2 * 2)

    def test_a_summary_is_of_what_was_asked_for(self):
        for name in ("a.png", "b.png"):
            self.save(name, testing.make_array(40, 48))
        self.main("--codecs=jpeg420,png")
        self.main("--limit=1")
        summary = self.read_json("summary.json")
        self.assertEqual((summary["images"], list(summary["codecs"])), (["a.png"], ["jpeg420"]))
        self.assertLen(self.read_json("rows.json"), 10)

    def test_a_line_for_each_image_that_is_special(self):
        photo = testing.make_array(170, 180)
        self.save("photo.png", photo)
        self.save("alpha.png", testing.make_array(170, 180, "RGBA"))
        self.save("grey.png", photo[..., 0])
        self.save("tiny.png", photo[:7, :5])
        Image.fromarray(photo).convert("CMYK").save(self.images / "cmyk.jpg")
        (self.images / "broken.png").write_bytes((self.images / "photo.png").read_bytes()[:500])
        code, stdout, stderr = self.main()
        self.assertEqual(code, 1)
        for name, text in (
            ("alpha.png", "warning: .*alpha.png: has alpha"),
            ("grey.png", "warning: .*grey.png: is grey"),
            ("tiny.png", "warning: .*tiny.png: is 5 x 7, too small for five scales"),
            ("cmyk.jpg", "warning: .*cmyk.jpg: was converted from CMYK"),
            ("broken.png", "evaluate: .*broken.png: expected an intact picture"),
        ):
            lines = [line for line in stderr.splitlines() if name in line]
            self.assertRegex(lines[0], f"^evaluate: .*{text.removeprefix('evaluate: ')}")
        self.assertIn("Means over 4 images, without broken.png, tiny.png", stdout)
        tiny = [row for row in self.read_json("rows.json") if row["image"] == "tiny.png"]
        self.assertEqual({row["ms_ssim_rgb"] for row in tiny}, {None})

    def test_images_too_small_for_ms_ssim_still_have_tables(self):
        self.save("tiny.png", testing.make_array(7, 5))
        code, stdout, _ = self.main()
        self.assertEqual(code, 0)
        self.assertRegex(stdout, r"jpeg420 +5 .* - ")

    def test_a_codec_that_fails_on_an_image_does_not_stop_the_others(self):
        self.save("a.png", testing.make_array(24, 24))
        self.save("b.png", testing.make_array(24, 25))

        def encode(self, pixels, setting):
            if pixels.shape[1] == 25:
                raise OSError("no odd sides")
            return super(Png, self).encode(pixels, setting)

        with mock.patch.object(Png, "encode", encode):
            code, stdout, stderr = self.main("--codecs=png,jpeg420")
        self.assertEqual(code, 1)
        self.assertRegex(stderr, r"b.png: png: expected to code 25 x 24 pixels, .*no odd sides")
        self.assertIn("Means over 1 image, without b.png", stdout)
        coded = {(row["image"], row["codec"]) for row in self.read_json("rows.json")}
        self.assertIn(("b.png", "jpeg420"), coded)

    def test_a_missing_codec_is_one_line(self):
        self.save("photo.png", testing.make_array(24, 24))
        with mock.patch.dict("sys.modules", {"pillow_heif": None}):
            code, _, stderr = self.main("--codecs=jpeg420,heif")
        self.assertEqual(code, 0)
        self.assertRegex(stderr, r"^evaluate: heif: .*rnn-codec\[baselines-gpl\] .*\n")

    def test_missing_published_curves_are_one_line(self):
        self.save("photo.png", testing.make_array(24, 24))
        code, _, stderr = self.main("--published=nowhere.csv")
        self.assertEqual(code, 0)
        self.assertRegex(stderr, r"^evaluate: nowhere.csv: expected published curves .*\n")

    def test_published_curves_are_references(self):
        self.save("photo.png", testing.make_array(170, 180))
        self.main(f"--published={ROOT / 'tests' / 'published_points.csv'}")
        references = {entry["reference"] for entry in self.read_json("summary.json")["bd_rate"]}
        self.assertIn("johnston-2017-cvpr", references)

    @parameterized.parameters(
        (["--codecs="], "expected at least one codec"),
        (["--codecs=jpeg420,gif"], "'gif': expected codecs of"),
        (["--codecs=jpeg420,jpeg420"], "jpeg420: expected this name for one codec"),
        (["--presets=nowhere"], "'nowhere': expected a preset's folder"),
        (["--images=nowhere.png"], "nowhere.png: expected a file, found none"),
    )
    def test_faults_are_one_line(self, args, expected):
        self.save("photo.png", testing.make_array(24, 24))
        code, _, stderr = self.main(*args)
        self.assertEqual(code, 1)
        self.assertRegex(stderr, f"^evaluate: {expected}")

    def test_results_among_the_images_are_refused(self):
        self.save("photo.png", testing.make_array(24, 24))
        code, _, stderr = self.main(f"--output={self.images / 'results'}")
        self.assertEqual(code, 1)
        self.assertRegex(stderr, "^evaluate: .*results: expected a folder outside of --images")

    def test_nothing_but_broken_images(self):
        (self.images / "broken.png").write_bytes(b"none")
        code, _, stderr = self.main()
        self.assertEqual(code, 1)
        self.assertRegex(stderr, "(?s)broken.png: expected a picture.*no means and no report")

    def test_a_missing_package_names_the_extra(self):
        self.save("photo.png", testing.make_array(24, 24))
        loaded = [name for name in sys.modules if name.startswith("rnn_codec.evaluation")]
        without = {name: None for name in ("bjontegaard",)}
        with mock.patch.dict("sys.modules", without):
            for name in loaded:
                del sys.modules[name]
            code, _, stderr = self.main()
        self.assertEqual(code, 1)
        self.assertRegex(stderr, r"package bjontegaard, .*pip install rnn-codec\[eval\]\n$")

    def test_an_argument_without_a_flag_is_the_folder_unless_that_has_a_flag(self):
        code, _, stderr = self.main("photo.png")
        self.assertEqual(code, 1)
        self.assertEqual(stderr, "evaluate: unexpected argument 'photo.png'; see --help\n")

    @parameterized.parameters(
        (["--bases=webp"], "--bases: has no meaning without a preset of the hybrid codec; "),
        (["--published_dataset=kodak"], "--published_dataset: has no meaning without --published"),
    )
    def test_options_that_would_be_ignored_are_refused(self, args, expected):
        self.save("photo.png", testing.make_array(24, 24))
        code, _, stderr = self.main(*args)
        self.assertEqual(code, 1)
        self.assertStartsWith(stderr, f"evaluate: {expected}")

    def test_help_shows_the_flags(self):
        done = subprocess.run(
            [sys.executable, str(ROOT / "evaluate.py"), "--help"], capture_output=True, text=True
        )
        self.assertIn("--published_dataset", done.stdout)


if __name__ == "__main__":
    absltest.main()
