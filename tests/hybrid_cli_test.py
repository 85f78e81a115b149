"""Tests for what encode, decode and presets do with the hybrid codec."""

import functools
import io
import json
import os
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
from rnn_codec.pictures import reading
from rnn_codec.standard import codecs as base_codecs

pytestmark = pytest.mark.network


class HybridCommandTest(parameterized.TestCase):
    """In a folder with a picture and the folders of two presets."""

    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.folder)
        self.recurrent = testing.make_codec()
        self.array = testing.make_array(40, 30)
        Image.fromarray(self.array).save("photo.png")
        Image.fromarray(self.array).save("photo.jpg", quality=10)
        for name in ("all", "both", "conditioned", "restoration"):
            testing.make_hybrid(name).save_preset(name)
        self.run = functools.partial(testing.run_command, preset="both")

    def assert_fault(self, result, pattern):
        self.assertEqual(result.exit_code, 1)
        self.assertRegex(result.stderr, f"^(encode|decode|extract|restore): {pattern}")
        self.assertEqual(result.stderr.count("\n"), 1, result.stderr)

    def encode(self, *args):
        result = self.run("encode", "--codec=hybrid", "--json", "photo.png", *args)
        self.assertEqual(result.exit_code, 0, result.stderr)
        return json.loads(result.stdout)

    @parameterized.parameters(*base_codecs.CODECS)
    def test_there_and_back(self, base):
        record = self.encode(f"--base={base}", "--quality=3")
        self.assertEqual((record["base"], record["quality"]), (base, 3))
        self.assertEqual(record["output_bytes"], os.path.getsize("photo.png.rnnc"))
        result = self.run("decode", "--json", "--output=out.png", "photo.png.rnnc")
        self.assertEqual(result.exit_code, 0, result.stderr)
        self.assertEqual(len(json.loads(result.stdout)["planes_sha256"]), 64)
        with Image.open("out.png") as image:
            self.assertEqual(image.size, (30, 40))

    def test_summary_names_base_and_quality(self):
        result = self.run("encode", "--quality=20", "photo.png")
        self.assertRegex(
            result.stdout, r"^photo.png: .* bpp, jpeg of quality 20, half size, PSNR .* dB, "
        )

    def test_target(self):
        record = self.encode("--target_bytes=500", "--base=webp")
        self.assertLessEqual(record["output_bytes"], 500)

    @parameterized.parameters(("full", (30, 40)), ("half", (15, 20)))
    def test_stored_size(self, name, size):
        record = self.encode("--preset=all", f"--stored_size={name}")
        self.assertEqual(record["stored_size"], name)
        self.run("decode", "--extract", "photo.png.rnnc")
        with Image.open("photo.png.jpg") as image:
            self.assertEqual(image.size, size)
        result = self.run("decode", "--output=out.png", "--preset=all", "photo.png.rnnc")
        self.assertEqual(result.exit_code, 0, result.stderr)

    def test_extracted_file_opens_anywhere(self):
        self.encode()
        result = self.run("decode", "--extract", "photo.png.rnnc")
        self.assertRegex(result.stdout, r"^photo.png.rnnc: photo.png.jpg, \d+ bytes\n$")
        with Image.open("photo.png.jpg") as image:
            self.assertEqual((image.format, image.size), ("JPEG", (15, 20)))
        self.assert_fault(self.run("decode", "--extract", "photo.png.rnnc"), ".* exists already")
        result = self.run("decode", "--extract", "--output=-", "photo.png.rnnc")
        with Image.open(io.BytesIO(result.data)) as image:
            self.assertEqual(image.format, "JPEG")

    def test_info(self):
        self.encode("--base=avif")
        result = self.run("decode", "--info", "photo.png.rnnc")
        self.assertIn("iterations: 1 of 1, coders: avif", result.stdout)
        self.assertRegex(result.stdout, r"\n  strength: \d\.\d\d of RecCNN's residual\n")
        self.assertNotIn("quality of", result.stdout)
        for base, quality in (("avif", "33"), ("heif", "70")):
            options = f"--base={base}", f"--quality={quality}", "--stored_size=full", "--overwrite"
            self.encode("--preset=conditioned", *options)
            result = self.run("decode", "--info", "photo.png.rnnc")
            self.assertIn(f"\n  quality of {base}: {quality}\n", result.stdout)

    def test_restore(self):
        result = self.run("decode", "--restore", "photo.jpg", preset="./restoration")
        self.assertEqual(result.stderr, "")
        self.assertRegex(result.stdout, r"^photo.jpg: 30 x 40 RGB, restored, .* s\n$")
        with Image.open("photo.jpg") as before, Image.open("photo.restored.png") as after:
            # The network is untrained, and adds nothing.
            np.testing.assert_array_equal(np.asarray(after), np.asarray(before))

    def test_restore_knows_the_quality_of_a_jpeg_file(self):
        testing.make_hybrid("conditioned", seed=1).save_preset("trained")
        result = self.run("decode", "--restore", "photo.jpg", preset="./trained")
        self.assertEqual(result.stderr, "")
        codec = Codec.from_preset("./trained", precision="auto")
        expected = codec.restore_picture(reading.read_picture("photo.jpg"), jpeg_quality=10)
        with Image.open("photo.restored.png") as after:
            np.testing.assert_array_equal(np.asarray(after), expected.pixels)

    def test_decoder_finds_the_preset(self):
        self.encode()
        identity = testing.make_hybrid().identity
        with mock.patch.object(presets, "find", side_effect={identity: "both"}.get) as find:
            result = self.run("decode", "--output=out.png", "--preset=", "photo.png.rnnc")
        self.assertEqual(result.exit_code, 0, result.stderr)
        find.assert_called_once_with(identity)

    @parameterized.named_parameters(
        ("entropy", ["--entropy=raw"], "--entropy: has no meaning with preset 'both'"),
        ("iterations", ["--iterations=1"], "photo.png: expected a quality or another target"),
        ("both", ["--quality=5", "--target_bpp=1"], "photo.png: expected a quality or a target"),
        ("quality", ["--quality=96"], "photo.png: expected a quality of jpeg from 1 to 95"),
        ("size", ["--stored_size=full"], "photo.png: stored_size: expected half, which is what"),
        ("kind", ["--codec=recurrent"], "--preset=both: expected a preset of the recurrent codec"),
    )
    def test_faults_of_encode(self, args, pattern):
        self.assert_fault(self.run("encode", "photo.png", *args), pattern)

    def test_base_for_the_recurrent_codec(self):
        result = testing.run_command("encode", "--base=webp", "photo.png")
        self.assert_fault(result, "--base: has no meaning with preset '.*blocks'")

    @parameterized.named_parameters(
        ("restore_half", ["--restore", "photo.jpg"], "both", ".*expected one with a RecCNN for"),
        (
            "restore_other",
            ["--restore", "photo.jpg"],
            None,
            "--preset=.*: expected a preset of the hybrid codec",
        ),
        ("two", ["--restore", "--extract", "photo.jpg"], "both", "expected one of --extract, --re"),
        ("no_file", ["--extract", "recurrent.rnnc"], "both", ".*expected a file of the hybrid"),
        ("other_model", ["recurrent.rnnc"], "both", ".*expected a file of model"),
    )
    def test_faults_of_decode(self, args, preset, pattern):
        data = self.recurrent.encode(self.array)
        pathlib.Path("recurrent.rnnc").write_bytes(data)
        self.assert_fault(testing.run_command("decode", *args, preset=preset), pattern)

    def test_extracting_from_a_cut_file(self):
        self.encode()
        data = pathlib.Path("photo.png.rnnc").read_bytes()
        pathlib.Path("cut.rnnc").write_bytes(data[:-20])
        result = self.run("decode", "--extract", "cut.rnnc")
        self.assert_fault(result, "cut.rnnc: .*no whole iteration remains")
        self.assertFalse(os.path.exists("cut.jpg"))

    def test_limit_on_pixels_before_extraction(self):
        self.encode()
        result = self.run("decode", "--extract", "--max_pixels=100", "photo.png.rnnc")
        self.assert_fault(result, "photo.png.rnnc: expected at most 100 pixels")


class FindTest(absltest.TestCase):
    def test_by_identity(self):
        folder = self.enter_context(tempfile.TemporaryDirectory())
        codec = testing.make_hybrid()
        codec.save_preset(os.path.join(folder, "hybrid"))
        with mock.patch.object(presets, "_SHIPPED", folder):
            self.assertEqual(presets.find(codec.identity), "hybrid")
            self.assertIsNone(presets.find(bytes(8)))


if __name__ == "__main__":
    absltest.main()
