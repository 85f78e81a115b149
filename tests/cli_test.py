"""Tests for the commands encode and decode: what a user sees of files, streams and faults."""

import contextlib
import errno
import hashlib
import io
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
from unittest import mock

from absl.testing import absltest, parameterized
import numpy as np
from PIL import Image, ImageCms, PngImagePlugin
import pytest
import testing
from testing import run_command

import rnn_codec
from rnn_codec import loading, storage
from rnn_codec.commands import files, rnnc
from rnn_codec.container import bitstream
from rnn_codec.pictures import metrics, reading
from rnn_codec.pictures.picture import Picture, picture_from_array
from rnn_codec.targets import Target

pytestmark = pytest.mark.network

ROOT = pathlib.Path(__file__).parent.parent

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = '<x:xmpmeta xmlns:x="adobe:ns:meta/">é</x:xmpmeta>'.encode()
_ORIENTATION = 274


def make_exif(orientation):
    exif = Image.Exif()
    exif[_ORIENTATION] = orientation
    exif[271] = "Maker"
    return exif.tobytes()


def planes_sha256(planes):
    return hashlib.sha256(b"".join(plane.tobytes() for plane in planes)).hexdigest()


def save(array, path=None, image_format=None, **options):
    """Writes a picture with Pillow; returns its bytes."""
    file = io.BytesIO()
    image_format = image_format or (Image.registered_extensions()[pathlib.Path(path).suffix])
    image = array if isinstance(array, Image.Image) else Image.fromarray(array)
    image.save(file, image_format, **options)
    if path is not None:
        pathlib.Path(path).write_bytes(file.getvalue())
    return file.getvalue()


def load(source):
    """The pixels of a picture, read with Pillow."""
    return np.array(Image.open(io.BytesIO(source) if isinstance(source, bytes) else source))


class CommandTest(parameterized.TestCase):
    """In a folder of its own, with one small picture and its file."""

    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
        working_folder = os.getcwd()
        self.addCleanup(os.chdir, working_folder)
        os.chdir(self.folder)
        self.codec = testing.make_codec()
        self.array = testing.make_array(15, 17)
        save(self.array, "photo.png")
        self.data = self.codec.encode(self.array)

    def write_rnnc(self, name="photo.rnnc", data=None):
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(self.data if data is None else data)

    def contents(self):
        """Every file below the folder: {path: bytes}."""
        return {
            path.relative_to(self.folder).as_posix(): path.read_bytes()
            for path in sorted(self.folder.rglob("*"))
            if path.is_file()
        }

    def succeed(self, *args, **kwargs):
        result = run_command(*args, **kwargs)
        self.assertEqual((result.exit_code, result.stderr), (0, ""))
        return result

    @contextlib.contextmanager
    def assert_nothing_written(self):
        before = self.contents()
        yield
        self.assertEqual(self.contents(), before)

    def fail_with(self, message, *args, **kwargs):
        """The command fails with one line, prints nothing else, and touches no file."""
        with self.assert_nothing_written():
            result = run_command(*args, **kwargs)
        self.assertEqual((result.exit_code, result.data), (1, b""))
        program = "info" if "--info" in args else args[0]
        self.assertRegex(result.stderr, rf"^{program}: .*\n$")
        self.assertEqual(result.stderr.count("\n"), 1)
        self.assertRegex(result.stderr, message)
        self.assertNotRegex(result.stderr, r"Traceback|\.$")


class EncodeTest(CommandTest):
    def test_writes_what_the_library_writes(self):
        for args, name, options in (
            (["photo.png"], "photo.png.rnnc", {}),
            (["--input=photo.png", "--iterations=2"], "photo.png.rnnc", {"iterations": 2}),
            (["photo.png", "--output=a", "--target_bytes=55"], "a", {"target_bytes": 55}),
            (["--output=b.rnnc", "photo.png", "--target_bpp=1.8"], "b.rnnc", {"target_bpp": 1.8}),
            (["--output=c", "photo.png", "--target_psnr=1"], "c", {"target_psnr": 1}),
        ):
            self.succeed("encode", *args)
            path = self.folder / name
            self.assertEqual(path.read_bytes(), self.codec.encode(self.array, **options))
            path.unlink()
        self.assertEqual(list(self.contents()), ["photo.png"])

    def test_target_msssim(self):
        array = testing.make_array(161, 161)
        save(array, "large.png")
        self.succeed("encode", "large.png", "--target_msssim=0.8", "--output=a")
        expected = self.codec.encode(array, target_msssim=0.8)
        self.assertLess(rnn_codec.read_info(expected).iterations, testing.ITERATIONS)
        self.assertEqual((self.folder / "a").read_bytes(), expected)

    def test_summary_has_sizes_rate_quality_and_time(self):
        save(testing.make_array(161, 161), "large.png")
        out = self.succeed("encode", "photo.png", "large.png").stdout.splitlines()
        sizes = {name: len(data) for name, data in self.contents().items()}
        self.assertRegex(
            out[0],
            rf"^photo.png: {sizes['photo.png']} -> {sizes['photo.png.rnnc']} bytes, "
            r"1\.725 bpp, 3 iterations, PSNR \d\d\.\d\d dB, \d+\.\d s$",
        )
        self.assertRegex(out[1], r" bpp, 3 iterations, PSNR .* dB, MS-SSIM 0\.\d{4}, \d+\.\d s$")
        self.assertLen(out, 2)

    def test_entropy(self):
        save(testing.make_array(140, 90), "large.png")
        for entropy, preset in (("adaptive", testing.TWO_SCALE), ("neural", testing.WIDE)):
            preset = testing.preset_folder(preset)
            arguments = ["large.png", f"--entropy={entropy}", "--overwrite"]
            result = run_command("encode", *arguments, preset=preset)
            self.assertEqual(result.exit_code, 0, result.stderr)
            info = bitstream.read_info((self.folder / "large.png.rnnc").read_bytes())
            self.assertIn(entropy, info.coders)

    def test_neural_entropy_needs_a_context_model(self):
        self.fail_with(
            "encode: photo.png: preset 'tiny_two_scale': expected one with a context model, .*",
            "encode", "photo.png", "--entropy=neural",
            f"--preset={testing.preset_folder(testing.TWO_SCALE)}",
        )  # fmt: skip

    def test_quiet(self):
        result = self.succeed("encode", "photo.png", "--quiet")
        self.assertEqual(result.data, b"")

    def test_json_has_a_record_for_each_file(self):
        save(testing.make_array(161, 161), "large.png")
        result = self.succeed("encode", "photo.png", "large.png", "--json")
        small, large = (json.loads(line) for line in result.stdout.splitlines())
        encoded = self.codec.encode_picture(reading.read_picture("large.png"))
        seconds = large.pop("seconds")
        self.assertGreater(seconds, 0)
        self.assertEqual(
            large,
            {
                "input": "large.png",
                "output": "large.png.rnnc",
                "width": 161,
                "height": 161,
                "input_bytes": os.path.getsize("large.png"),
                "output_bytes": os.path.getsize("large.png.rnnc"),
                "bits_per_pixel": encoded.bpp,
                "iterations": 3,
                "psnr_db": encoded.psnr_db,
                "ms_ssim": encoded.ms_ssim,
                "warnings": [],
            },
        )
        self.assertIsNone(small["ms_ssim"])

    def test_unreachable_target_is_a_warning(self):
        result = run_command("encode", "photo.png", "--target_psnr=90", "--json")
        self.assertEqual(result.exit_code, 0)
        self.assertRegex(
            result.stderr,
            "^encode: warning: photo.png: the target PSNR of 90 is not reached: .* after all 3 "
            "iterations\n$",
        )
        self.assertLen(json.loads(result.stdout)["warnings"], 1)
        self.assertEqual((self.folder / "photo.png.rnnc").read_bytes(), self.data)

    def test_modes(self):
        for mode in ("L", "LA", "RGB", "RGBA"):
            array = testing.make_array(15, 17, mode)
            save(array, f"{mode}.png")
            self.succeed("encode", f"{mode}.png")
            self.succeed("decode", f"{mode}.png.rnnc", f"--output={mode}.decoded.png")
            restored = load(f"{mode}.decoded.png")
            np.testing.assert_array_equal(restored, self.codec.decode(self.codec.encode(array)))
            if "A" in mode:
                np.testing.assert_array_equal(restored[..., -1], array[..., -1])

    @parameterized.parameters("P", "CMYK", "1", "LAB")
    def test_other_modes_are_converted(self, mode):
        source = Image.fromarray(self.array)
        if mode == "LAB":
            srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
            converted = ImageCms.profileToProfile(source, srgb, lab, outputMode="LAB")
        else:
            converted = source.convert(mode)
        save(converted, "other.tif", "TIFF")
        result = run_command("encode", "other.tif")
        self.assertEqual(result.exit_code, 0)
        info = rnn_codec.read_info((self.folder / "other.tif.rnnc").read_bytes())
        self.assertEqual(info.mode, "L" if mode == "1" else "RGB")
        if mode in ("CMYK", "LAB"):
            self.assertRegex(result.stderr, "^encode: warning: other.tif: was converted from .*\n$")
        else:
            self.assertEqual(result.stderr, "")

    def test_first_frame_of_an_animation_with_a_warning(self):
        frames = [Image.fromarray(testing.make_array(15, 17, seed=seed)) for seed in (0, 1)]
        frames[0].save("moving.webp", save_all=True, append_images=frames[1:], lossless=True)
        result = run_command("encode", "moving.webp")
        self.assertEqual(result.exit_code, 0)
        self.assertRegex(
            result.stderr,
            "^encode: warning: moving.webp: has several pictures or frames; only the first .*\n$",
        )
        self.assertEqual((self.folder / "moving.webp.rnnc").read_bytes(), self.data)


class DecodeTest(CommandTest):
    def setUp(self):
        super().setUp()
        self.write_rnnc()
        os.remove("photo.png")

    @parameterized.parameters(1, 2, 3)
    def test_iterations_are_the_encoders_own(self, count):
        self.succeed("decode", "photo.rnnc", f"--iterations={count}")
        expected = self.codec.encode_picture(
            picture_from_array(self.array), Target(iterations=count)
        )
        np.testing.assert_array_equal(load("photo.png"), expected.picture.pixels)

    def test_all_iterations_by_default(self):
        out = self.succeed("decode", "--input=photo.rnnc").stdout
        np.testing.assert_array_equal(load("photo.png"), self.codec.decode(self.data))
        self.assertRegex(out, r"^photo.rnnc: 17 x 15 RGB, iterations 3, \d+\.\d s\n$")

    def test_each_iteration(self):
        out = self.succeed("decode", "photo.rnnc", "--all_iterations").stdout
        names = [f"photo_{count:02d}.png" for count in (1, 2, 3)]
        self.assertEqual(list(self.contents()), ["photo.rnnc", *names])
        for count, name in enumerate(names, start=1):
            np.testing.assert_array_equal(load(name), self.codec.decode(self.data, count))
        self.assertIn("iterations 1 to 3", out)
        self.succeed("decode", "photo.rnnc", "--all_iterations", "--output=p.webp")
        np.testing.assert_array_equal(load("p_02.webp"), load("photo_02.png"))
        self.assertLen(self.contents(), 7)

    def test_each_iteration_replaces_no_file_unless_asked(self):
        (self.folder / "photo.png").write_bytes(b"kept: no result has this name")
        (self.folder / "photo_02.png").write_bytes(b"precious")
        args = ("decode", "photo.rnnc", "--all_iterations")
        self.fail_with("photo.rnnc: photo_02.png: exists already; add --overwrite", *args)
        self.fail_with("photo_02.png: exists already", *args, "--output=photo.png")
        self.succeed(*args, "--overwrite")
        np.testing.assert_array_equal(load("photo_02.png"), self.codec.decode(self.data, 2))
        self.assertEqual((self.folder / "photo.png").read_bytes(), b"kept: no result has this name")
        # However odd the names: an input stays.
        os.rename("photo.rnnc", "photo_02.png")
        self.fail_with(
            "photo_02.png: is an input too", "decode", "photo_02.png", "--all_iterations",
            "--output=photo.png", "--overwrite",
        )  # fmt: skip

    def test_each_iteration_needs_a_name(self):
        self.fail_with(
            "standard input: expected a file for --all_iterations",
            "decode", "-", "--all_iterations", stdin=self.data,
        )  # fmt: skip

    @parameterized.parameters("png", "webp", "tiff", "bmp", "ppm", "jp2")
    def test_lossless_formats(self, extension):
        self.succeed("decode", "photo.rnnc", f"--output=a.{extension}")
        self.succeed("decode", "photo.rnnc", f"--format={extension}")
        for name in (f"a.{extension}", f"photo.{extension}"):
            np.testing.assert_array_equal(load(name), self.codec.decode(self.data))

    def test_format_beats_the_extension(self):
        self.succeed("decode", "photo.rnnc", "--output=a.png", "--format=jpeg")
        self.assertEqual(Image.open("a.png").format, "JPEG")
        self.succeed("decode", "photo.rnnc", "--output=no_extension")
        self.assertEqual(Image.open("no_extension").format, "PNG")

    def test_json_has_a_record_for_each_file(self):
        result = self.succeed("decode", "photo.rnnc", "--all_iterations", "--json")
        record = json.loads(result.stdout)
        self.assertGreater(record.pop("seconds"), 0)
        self.assertEqual(
            record,
            {
                "input": "photo.rnnc",
                "outputs": [
                    {"iterations": count, "output": f"photo_{count:02d}.png"} for count in (1, 2, 3)
                ],
                "width": 17,
                "height": 15,
                "mode": "RGB",
                "input_bytes": len(self.data),
                "planes_sha256": planes_sha256(self.codec.read_planes(self.data)),
                "warnings": [],
            },
        )

    def test_json_has_the_hash_of_the_bits_that_were_decoded(self):
        result = self.succeed("decode", "photo.rnnc", "--iterations=2", "--json")
        expected = planes_sha256(self.codec.read_planes(self.data)[:2])
        self.assertEqual(json.loads(result.stdout)["planes_sha256"], expected)

    def test_cut_file_gives_the_whole_iterations_with_a_warning(self):
        self.write_rnnc(data=self.data[:-1])
        result = run_command("decode", "photo.rnnc")
        self.assertEqual(result.exit_code, 0)
        self.assertRegex(
            result.stderr,
            "^decode: warning: photo.rnnc: the file ends at byte .* intact: 2 of 3 iterations\n$",
        )
        np.testing.assert_array_equal(load("photo.png"), self.codec.decode(self.data, 2))

    def test_strict_makes_damage_an_error(self):
        self.write_rnnc(data=self.data[:-1])
        self.fail_with(
            "decode: photo.rnnc: the file ends at byte .*; read without strict",
            "decode", "photo.rnnc", "--strict",
        )  # fmt: skip
        self.write_rnnc()
        self.succeed("decode", "photo.rnnc", "--strict")

    def test_metadata_that_a_format_cannot_hold_are_told(self):
        picture = Picture(self.array, exif=make_exif(6), xmp=XMP)
        self.write_rnnc(data=self.codec.encode_picture(picture).data)
        result = run_command("decode", "photo.rnnc", "--output=a.bmp", "--json")
        text = "bmp cannot hold the exif, xmp; left out"
        self.assertEqual(result.stderr, f"decode: warning: photo.rnnc: {text}\n")
        self.assertEqual(json.loads(result.stdout)["warnings"], [text])


class InfoTest(CommandTest):
    def test_tells_what_the_file_holds(self):
        picture = Picture(self.array, self.array[..., 0], xmp=XMP)
        data = self.codec.encode_picture(picture).data
        self.write_rnnc(data=data)
        with self.assert_nothing_written():
            out = self.succeed("decode", "--info", "photo.rnnc").stdout
        info = rnn_codec.read_info(data)
        self.assertIn(f"photo.rnnc: 17 x 15 RGBA, {len(data)} bytes, ", out)
        self.assertIn("iterations: 3 of 3, coders: raw raw raw\n", out)
        self.assertIn(" ".join(map(str, info.bytes_at_iteration)), out)
        self.assertIn(f"model {self.codec.identity.hex()}, format version 1\n", out)
        self.assertIn(f"metadata: xmp {len(XMP)} bytes\n", out)
        self.assertIn(f"alpha: {info.alpha_bytes} bytes\n", out)

    def test_json(self):
        self.write_rnnc("folder/b.rnnc", self.data[:-1])
        self.write_rnnc("folder/a.rnnc")
        result = run_command("decode", "folder", "--info", "--json")
        whole, cut = (json.loads(line) for line in result.stdout.splitlines())
        info = rnn_codec.read_info(self.data).as_dict()
        self.assertEqual(whole, {"input": "folder/a.rnnc", **info})
        self.assertEqual((cut["iterations"], cut["iterations_written"]), (2, 3))
        self.assertRegex(result.stderr, "^info: warning: folder/b.rnnc: the file ends at .*\n$")

    def test_reads_a_stream(self):
        out = self.succeed("decode", "-", "--info", stdin=self.data).stdout
        self.assertStartsWith(out, "standard input: 17 x 15 RGB")

    def test_faults(self):
        self.write_rnnc("empty.rnnc", b"")
        self.fail_with("info: empty.rnnc: expected an .rnnc", "decode", "--info", "empty.rnnc")
        self.fail_with("info: photo.png: expected an .rnnc", "decode", "--info", "photo.png")
        self.fail_with("info: absent: expected a file", "decode", "--info", "absent")


class StreamTest(CommandTest):
    def test_both_ways(self):
        encoded = run_command("encode", "-", stdin=save(self.array, image_format="PNG"))
        self.assertEqual((encoded.exit_code, encoded.data), (0, self.data))
        self.assertRegex(encoded.stderr, "^standard input: .* -> .* bytes.*\n$")
        decoded = run_command("decode", "-", "--quiet", stdin=encoded.data)
        self.assertEqual((decoded.exit_code, decoded.stderr), (0, ""))
        np.testing.assert_array_equal(load(decoded.data), self.codec.decode(self.data))
        self.assertEqual(list(self.contents()), ["photo.png"])

    def test_one_way(self):
        result = run_command("encode", "photo.png", "--output=-", "--quiet")
        self.assertEqual((result.data, result.stderr), (self.data, ""))
        self.succeed("encode", "-", "--output=a.rnnc", stdin=save(self.array, image_format="PNG"))
        self.assertEqual((self.folder / "a.rnnc").read_bytes(), self.data)
        jpeg = run_command("decode", "a.rnnc", "--output=-", "--format=jpeg", "--iterations=1")
        self.assertEqual(Image.open(io.BytesIO(jpeg.data)).format, "JPEG")

    def test_faults(self):
        self.fail_with(
            "encode: standard input: expected a picture, received an empty", "encode", "-"
        )
        self.fail_with("decode: standard input: expected an .rnnc file", "decode", "-")
        self.fail_with(
            "encode: expected --json or --output=-, not both",
            "encode", "photo.png", "--output=-", "--json",
        )  # fmt: skip
        self.fail_with("encode: standard output: would hold", "encode", "-", "-")


class ManyFilesTest(CommandTest):
    def setUp(self):
        super().setUp()
        os.makedirs("photos/trip/day")
        os.remove("photo.png")
        self.arrays = {
            name: testing.make_array(15, 17, seed=seed)
            for seed, name in enumerate(("a.png", "b.bmp", "trip/day/c.png"))
        }
        for name, array in self.arrays.items():
            save(array, self.folder / "photos" / name)
        (self.folder / "photos/notes.txt").write_text("no picture")

    def test_folder_to_folder_and_back(self):
        os.mkdir("codes")
        os.mkdir("restored")
        out = self.succeed("encode", "photos", "--output=codes").stdout
        self.assertLen(out.splitlines(), 3)
        self.succeed("decode", "codes", "--output=restored")
        for name, array in self.arrays.items():
            code = (self.folder / "codes" / f"{name}.rnnc").read_bytes()
            self.assertEqual(code, self.codec.encode(array))
            restored = load(self.folder / "restored" / f"{name}.png")
            np.testing.assert_array_equal(restored, self.codec.decode(code))
        self.assertLen(self.contents(), 4 + 3 + 3)

    def test_folder_in_place(self):
        self.succeed("encode", "photos")
        self.succeed("decode", "photos")
        names = {f"photos/{name}{suffix}" for name in self.arrays for suffix in (".rnnc", ".png")}
        self.assertContainsSubset(names, self.contents())
        # photos/a.png.png now: nothing was replaced, and a second run replaces nothing either.
        self.fail_with("^encode: photos/a.png.rnnc: exists already", "encode", "photos")
        self.assertNotEqual(run_command("decode", "photos").exit_code, 0)

    def test_others_are_done_and_the_bad_one_is_named_at_the_end(self):
        bad = self.folder / "photos/bad.png"
        bad.write_bytes(b"no picture")
        result = run_command("encode", "photos", "absent.png", "--json")
        self.assertEqual(result.exit_code, 1)
        first, second, last = result.stderr.splitlines()
        self.assertStartsWith(first, "encode: photos/bad.png: expected a picture")
        self.assertStartsWith(second, "encode: absent.png: expected a file, found none")
        self.assertEqual(last, "encode: 2 of 5 files failed: photos/bad.png, absent.png")
        records = [json.loads(line) for line in result.stdout.splitlines()]
        self.assertLen(records, 5)
        self.assertEqual(
            [r["input"] for r in records if "error" in r], ["photos/bad.png", "absent.png"]
        )
        for name in self.arrays:
            self.assertTrue((self.folder / f"photos/{name}.rnnc").exists())
        self.write_rnnc("photos/wrong.rnnc", b"no code")
        result = run_command("decode", "photos", "--quiet")
        self.assertEqual((result.exit_code, result.data), (1, b""))
        self.assertRegex(
            result.stderr,
            "^decode: photos/wrong.rnnc: expected an .rnnc file.*\n"
            "decode: 1 of 4 files failed: photos/wrong.rnnc\n$",
        )
        self.assertTrue((self.folder / "photos/trip/day/c.png.png").exists())
        self.assertFalse((self.folder / "photos/bad.png.rnnc").exists())

    def test_others_are_done_where_one_cannot_be_written(self):
        os.makedirs("codes/b.bmp.rnnc")
        result = run_command("encode", "photos", "--output=codes", "--overwrite", "--quiet")
        self.assertEqual(result.exit_code, 1)
        self.assertRegex(
            result.stderr,
            "^encode: photos/b.bmp: codes/b.bmp.rnnc: expected a file to write, found a folder.*\n"
            "encode: 1 of 3 files failed: photos/b.bmp\n$",
        )
        for name in ("a.png", "trip/day/c.png"):
            code = (self.folder / f"codes/{name}.rnnc").read_bytes()
            self.assertEqual(code, self.codec.encode(self.arrays[name]))

    def test_each_iteration_of_each_file(self):
        self.succeed("encode", "photos")
        self.succeed("decode", "photos", "--all_iterations", "--quiet")
        for name, array in self.arrays.items():
            code = self.codec.encode(array)
            for count in (1, 2, 3):
                restored = load(self.folder / f"photos/{name}_{count:02d}.png")
                np.testing.assert_array_equal(restored, self.codec.decode(code, count))

    def test_shell_patterns_and_flags_in_any_order(self):
        os.mkdir("codes")
        self.succeed(
            "encode", "photos/a.png", "--output=codes", "--input=photos/b.bmp", "--iterations=1"
        )
        self.assertContainsSubset(("codes/a.png.rnnc", "codes/b.bmp.rnnc"), self.contents())

    def test_clashes_are_refused_before_any_work(self):
        os.mkdir("codes")
        save(self.array, "a.png")
        self.fail_with(
            "codes/a.png.rnnc: would hold the results of a.png and of photos/a.png",
            "encode", "a.png", "photos", "--output=codes",
        )  # fmt: skip
        self.fail_with(
            "^encode: new: expected an existing folder to hold the results of photos; make it",
            "encode", "photos", "--output=new",
        )  # fmt: skip


class OverwriteTest(CommandTest):
    def test_made_up_names_replace_nothing_unless_asked(self):
        self.write_rnnc("photo.png.rnnc", b"precious")
        self.fail_with(
            "^encode: photo.png.rnnc: exists already; add --overwrite", "encode", "photo.png"
        )
        self.succeed("encode", "photo.png", "--overwrite")
        self.assertEqual((self.folder / "photo.png.rnnc").read_bytes(), self.data)
        self.write_rnnc("photo.rnnc")
        self.fail_with(
            "^decode: photo.png: exists already; add --overwrite", "decode", "photo.rnnc"
        )
        self.succeed("decode", "photo.rnnc", "--overwrite")
        np.testing.assert_array_equal(load("photo.png"), self.codec.decode(self.data))

    def test_given_names_are_replaced(self):
        self.write_rnnc("old", b"old")
        self.succeed("encode", "photo.png", "--output=old")
        self.assertEqual((self.folder / "old").read_bytes(), self.data)
        self.succeed("decode", "old", "--output=photo.png")
        np.testing.assert_array_equal(load("photo.png"), self.codec.decode(self.data))

    @parameterized.parameters("encode", "decode")
    def test_input_is_never_replaced(self, command):
        self.write_rnnc()
        name = {"encode": "photo.png", "decode": "photo.rnnc"}[command]
        os.symlink(name, "link")
        for output in (name, f"./{name}", "link"):
            self.fail_with(
                f"^{command}: {output}: is an input too; name another --output",
                command, name, f"--output={output}", "--overwrite",
            )  # fmt: skip

    def test_failure_keeps_the_old_file(self):
        self.write_rnnc("old", b"old")
        (self.folder / "bad.png").write_bytes(b"no picture")
        self.fail_with("bad.png: expected a picture", "encode", "bad.png", "--output=old")
        self.fail_with("bad.png: expected an .rnnc", "decode", "bad.png", "--output=old")


class MetadataTest(CommandTest):
    """Pixels lie as the camera stored them; who turns them does so once."""

    def setUp(self):
        super().setUp()
        self.exif = make_exif(6)  # to be turned clockwise by a viewer
        save(
            testing.make_array(15, 17, seed=3), "turned.jpg",
            exif=self.exif, icc_profile=PROFILE, xmp=XMP,
        )  # fmt: skip

    @parameterized.parameters("png", "jpg", "webp")
    def test_every_byte_survives(self, extension):
        self.succeed("encode", "turned.jpg", "--output=a.rnnc")
        self.succeed("decode", "a.rnnc", f"--output=a.{extension}")
        info = rnn_codec.read_info((self.folder / "a.rnnc").read_bytes())
        self.assertEqual(
            info.metadata,
            {"icc_profile": len(PROFILE), "exif": len(self.exif), "xmp": len(XMP)},
        )
        picture = reading.read_picture(f"a.{extension}")
        self.assertEqual(
            (picture.icc_profile, picture.exif, picture.xmp), (PROFILE, self.exif, XMP)
        )
        # A second time round nothing is lost either.
        self.succeed("encode", f"a.{extension}", "--output=b.rnnc")
        self.succeed("decode", "b.rnnc", "--output=b.png")
        again = reading.read_picture("b.png")
        self.assertEqual((again.icc_profile, again.exif, again.xmp), (PROFILE, self.exif, XMP))

    def test_orientation_is_kept_and_not_applied(self):
        self.succeed("encode", "turned.jpg", "--output=a.rnnc")
        self.succeed("decode", "a.rnnc", "--output=a.png")
        restored = Image.open("a.png")
        self.assertEqual(restored.size, (17, 15))
        self.assertEqual(restored.getexif()[_ORIENTATION], 6)
        stored, restored = load("turned.jpg"), np.array(restored)
        self.assertGreater(
            metrics.psnr_db(stored, restored), metrics.psnr_db(stored, restored[::-1, ::-1]) + 3
        )

    def test_orientation_is_applied_where_it_cannot_be_kept(self):
        self.succeed("encode", "turned.jpg", "--output=a.rnnc")
        self.succeed("decode", "a.rnnc", "--output=a.png")
        result = run_command("decode", "a.rnnc", "--output=a.bmp")
        self.assertIn("bmp cannot hold the icc_profile, exif, xmp", result.stderr)
        np.testing.assert_array_equal(load("a.bmp"), np.rot90(load("a.png"), -1))

    def test_strip_leaves_metadata_out_and_turns_upright(self):
        self.succeed("encode", "turned.jpg", "--strip", "--output=a.rnnc")
        data = (self.folder / "a.rnnc").read_bytes()
        info = rnn_codec.read_info(data)
        self.assertEqual((info.metadata, info.width, info.height), ({}, 15, 17))
        upright = np.rot90(load("turned.jpg"), -1)
        self.assertEqual(data, self.codec.encode(np.ascontiguousarray(upright)))
        self.succeed("decode", "a.rnnc", "--output=a.png")
        self.assertEmpty(Image.open("a.png").getexif())

    def test_png_text_and_transparency_colour(self):
        information = PngImagePlugin.PngInfo()
        information.add_itxt("XML:com.adobe.xmp", XMP.decode())
        palette = Image.fromarray(self.array).quantize(8)
        save(palette, "palette.png", pnginfo=information, transparency=3)
        self.succeed("encode", "palette.png", "--output=a.rnnc")
        self.succeed("decode", "a.rnnc", "--output=a.png")
        picture = reading.read_picture("a.png")
        self.assertEqual((picture.mode, picture.xmp), ("RGBA", XMP))
        expected = np.array(palette.convert("P")) != 3
        np.testing.assert_array_equal(picture.alpha == 255, expected)


class FaultTest(CommandTest):
    """One clear line, exit code 1, no traceback, no half-written file, no lost input."""

    @parameterized.named_parameters(
        ("text", b"This is no picture.", "expected a picture .*received 19 bytes that are none"),
        ("empty", b"", "expected a picture, received an empty file"),
        ("rnnc", bitstream.SIGNATURE, "expected a picture"),
    )
    def test_no_picture(self, data, message):
        (self.folder / "bad.png").write_bytes(data)
        self.fail_with(f"^encode: bad.png: {message}", "encode", "bad.png")

    @parameterized.product(image_format=("PNG", "JPEG"), part=(0.2, 0.6, 0.95))
    def test_truncated_picture(self, image_format, part):
        data = save(testing.make_array(64, 64), image_format=image_format)
        (self.folder / "bad").write_bytes(data[: int(part * len(data))])
        self.fail_with("^encode: bad: expected (an intact|a) picture", "encode", "bad")

    def test_deep_pixels(self):
        save(Image.fromarray(np.zeros((4, 4), np.uint16)), "deep.png")
        self.fail_with("^encode: deep.png: expected 8-bit.*16-bit ones; conv", "encode", "deep.png")
        save(Image.fromarray(np.zeros((4, 4), np.float32)), "float.tif", "TIFF")
        self.fail_with("^encode: float.tif: expected 8-bit samples, .*32", "encode", "float.tif")

    def test_too_many_pixels(self):
        self.fail_with(
            "^encode: photo.png: expected at most 254 pixels, .* 17 x 15 = 255; raise --max_pixels",
            "encode", "photo.png", "--max_pixels=254",
        )  # fmt: skip
        self.succeed("encode", "photo.png", "--max_pixels=255", "--output=photo.rnnc")
        self.fail_with(
            "^decode: photo.rnnc: expected at most 254 pixels, .* 17 x 15 = 255; raise --max_pix",
            "decode", "photo.rnnc", "--max_pixels=254", "--output=a.png",
        )  # fmt: skip
        self.succeed("decode", "photo.rnnc", "--max_pixels=255", "--output=a.png")

    def test_limit_may_be_raised_above_its_default(self):
        header = bitstream.Header(9500, 9500, True, False, 1, self.codec.identity)
        self.write_rnnc("large.rnnc", bitstream.write(header, [bitstream.Plane(0, b"x")]))
        args = ("decode", "large.rnnc", "--output=a.png")
        self.fail_with("expected at most 89,478,485 pixels, .* 9500 x 9500 = 90,250,000", *args)
        self.fail_with("iteration 1 holds 1 bytes where .* 352836;", *args, "--max_pixels=99000000")

    def test_nothing_to_do(self):
        self.fail_with("^encode: expected at least one --input", "encode")
        self.fail_with("^decode: expected at least one --input", "decode")
        os.mkdir("empty")
        self.fail_with(
            "^encode: empty: expected files with the extensions .apng", "encode", "empty"
        )
        self.fail_with("^decode: empty: expected files with the ext.* .rnnc in", "decode", "empty")

    def test_missing_input(self):
        self.fail_with("^encode: absent: expected a file, found none", "encode", "absent")
        self.fail_with("^decode: absent: expected a file, found none", "decode", "absent")

    def test_unreadable_input(self):
        # Simulated: the owner of the tests may be root.
        denied = PermissionError(errno.EACCES, "Permission denied", "photo.png")
        with mock.patch.object(storage, "open", create=True, side_effect=denied):
            self.fail_with("^encode: photo.png: .*Permission denied", "encode", "photo.png")

    @parameterized.parameters("new/a", "new/deep/a", "new/")
    def test_output_folder_that_does_not_exist(self, output):
        self.write_rnnc()
        for command, name in (("encode", "photo.png"), ("decode", "photo.rnnc")):
            self.fail_with(
                f"^{command}: ({name}: )?{output}: expected an existing folder",
                command, name, f"--output={output}", "--format=png" * (command == "decode"),
            )  # fmt: skip

    @parameterized.parameters(errno.EACCES, errno.EROFS, errno.ENOSPC)
    def test_output_folder_that_cannot_be_written(self, number):
        # Simulated: the owner of the tests may be root.
        self.write_rnnc()
        fault = OSError(number, os.strerror(number))
        for name in ("os.replace", "os.fsync"):
            with mock.patch(name, side_effect=fault):
                for command, source in (("encode", "photo.png"), ("decode", "photo.rnnc")):
                    self.fail_with(
                        f"^{command}: {source}: a.png: .*{os.strerror(number)}",
                        command, source, "--output=a.png",
                    )  # fmt: skip

    def test_interrupted_run_leaves_nothing(self):
        self.write_rnnc()
        for command, source in (("encode", "photo.png"), ("decode", "photo.rnnc")):
            with mock.patch("os.replace", side_effect=KeyboardInterrupt):
                self.fail_with(f"^{command}: interrupted$", command, source, "--output=a.png")

    def test_killed_run_leaves_no_part_under_the_final_name(self):
        # What is on the disk at each moment before the name appears is what a kill would leave.
        names = []

        def note(*args, **kwargs):
            names.append(set(self.contents()))

        replace = os.replace
        with (
            mock.patch("os.fsync", side_effect=note),
            mock.patch("os.replace", side_effect=lambda *args: (note(), replace(*args))),
        ):
            self.succeed("encode", "photo.png")
        self.assertLen(names, 2)
        for present in names:
            self.assertNotIn("photo.png.rnnc", present)
        self.assertEqual(set(self.contents()), {"photo.png", "photo.png.rnnc"})

    def test_unknown_preset_is_told_once(self):
        self.write_rnnc()
        save(self.array, "other.png")
        for args in (("encode", "photo.png", "other.png"), ("decode", "photo.rnnc", "--output=a")):
            self.fail_with(
                rf"^{args[0]}: 'absent': expected a preset's folder or one of \w+",
                *args, preset="absent",
            )  # fmt: skip

    def test_file_of_another_model(self):
        self.write_rnnc(data=testing.make_codec(testing.STACKED).encode(self.array))
        self.fail_with(
            f"^decode: photo.rnnc: expected a file of model {self.codec.identity.hex()} .*preset",
            "decode", "photo.rnnc", "--output=a.png",
        )  # fmt: skip

    def test_iterations_out_of_range(self):
        self.write_rnnc(data=rnn_codec.truncate(self.data, 2))
        self.fail_with(
            "^decode: photo.rnnc: expected 1 to 2 iterations, .*the file holds, received 3$",
            "decode", "photo.rnnc", "--iterations=3", "--output=a.png",
        )  # fmt: skip
        self.fail_with(
            "^encode: photo.png: expected 1 to 3 iterations, .*'tiny_blocks'.* received 4$",
            "encode", "photo.png", "--iterations=4",
        )  # fmt: skip
        self.fail_with(
            "^decode: expected --iterations or --all_iterations, received both; drop one$",
            "decode", "photo.rnnc", "--iterations=1", "--all_iterations",
        )  # fmt: skip

    def test_targets_that_make_no_sense(self):
        for flags, message in (
            (["--iterations=1", "--target_bpp=1"], "expected one of iterations and target_bpp"),
            (["--target_psnr=1", "--target_msssim=1"], "expected one of target_psnr and target_ms"),
            (["--target_bpp=0"], "expected target_bpp to be a number above 0, received 0"),
            (["--target_bpp=nan"], "expected target_bpp to be a number above 0, received nan"),
            (["--target_bytes=-5"], "expected target_bytes to be a whole number above 0"),
            (["--target_bytes=30"], "photo.png: expected a file of at most 30 bytes, but one it"),
            (["--target_bpp=0.1"], "photo.png: expected a file of at most 0.1 bits per pixel, but"),
            (["--target_msssim=0.9"], "photo.png: expected sides of at least 161 pixels"),
        ):
            self.fail_with(f"^encode: {message}", "encode", "photo.png", *flags)

    def test_format_that_cannot_hold_the_picture_is_told_before_the_network_runs(self):
        self.write_rnnc("alpha.rnnc", self.codec.encode(testing.make_array(15, 17, "LA")))
        with mock.patch.object(type(self.codec), "decode_picture", side_effect=AssertionError):
            self.fail_with(
                "^decode: alpha.rnnc: picture as jpg: expected a picture without alpha",
                "decode", "alpha.rnnc", "--output=a.jpg",
            )  # fmt: skip
            self.fail_with(
                "^decode: alpha.rnnc: picture as xyz: expected a picture format to write",
                "decode", "alpha.rnnc", "--output=a.xyz",
            )  # fmt: skip

    def test_every_truncation_of_a_file(self):
        # What comes of every flipped byte: tests/codec_test.py.
        ends = rnn_codec.read_info(self.data).bytes_at_iteration
        expected = {count: self.codec.decode(self.data, count) for count in (1, 2, 3)}
        for size in range(len(self.data)):
            self.write_rnnc(data=self.data[:size])
            count = sum(size >= end for end in ends)
            if not count:
                self.fail_with("decode: photo.rnnc: ", "decode", "photo.rnnc", "--output=a.png")
                continue
            result = run_command("decode", "photo.rnnc", "--output=a.png")
            self.assertEqual(result.exit_code, 0)
            self.assertRegex(result.stderr, "^decode: warning: photo.rnnc: .*\n$")
            np.testing.assert_array_equal(load("a.png"), expected[count])
            os.remove("a.png")


class ProgramTest(CommandTest):
    """The programs as a shell starts them. They take seconds each, so few."""

    def start(self, program, *args, options=(), **kwargs):
        streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        command = [sys.executable, *options, str(ROOT / program), *args]
        process = subprocess.Popen(command, cwd=self.folder, **{**streams, **kwargs})
        self.enter_context(process)
        return process

    def finish(self, process, stdin=b""):
        """Exit code, standard output and stderr, the last as text."""
        out, err = process.communicate(stdin)
        return process.returncode, out, err.decode()

    def test_pipeline_equals_the_library(self):
        # Processes of their own, which compile for one picture only: the bits and pixels of this
        # process, which has seen many, must be theirs. Side by side, to save time.
        options = (f"--preset={testing.preset_folder()}", "--precision=float32")
        encoder = self.start("encode.py", "photo.png", "--output=-", *options)
        decoder = self.start("decode.py", "-", *options, "--iterations=2")
        code, restored, text = self.finish(decoder, self.data)
        self.assertEqual(code, 0, text)
        self.assertRegex(text, "^standard input: .* s\n$")
        np.testing.assert_array_equal(load(restored), self.codec.decode(self.data, 2))
        code, data, text = self.finish(encoder)
        self.assertEqual((code, data), (0, self.data))
        self.assertRegex(text, "^photo.png: .* dB, .* s\n$")

    def test_the_installed_program_there_and_back(self):
        preset = ["--preset", testing.preset_folder()]
        with mock.patch.object(loading, "load", lambda *args: self.codec):
            files.load_codec.cache_clear()
            for arguments in (
                ["encode", "photo.png", "-o", "a.rnnc", "--quiet", *preset],
                ["decode", *preset, "a.rnnc", "--quiet", "--all-iterations"],
            ):
                self.assertEqual(rnnc.main(arguments), 0)
            files.load_codec.cache_clear()
        self.assertEqual((self.folder / "a.rnnc").read_bytes(), self.data)
        np.testing.assert_array_equal(load("a_02.png"), self.codec.decode(self.data, 2))

    def test_fault_is_one_line_and_exit_code_1(self):
        (self.folder / "bad.png").write_bytes(b"no picture")
        with self.assert_nothing_written():
            code, out, text = self.finish(self.start("encode.py", "--input=bad.png"))
        self.assertEqual((code, out), (1, b""))
        self.assertRegex(text, "^encode: bad.png: expected a picture.*\n$")

    def test_info_loads_no_network(self):
        self.write_rnnc()
        options = ("-X", "importtime")  # lists the modules on stderr
        for program, arguments in (
            ("decode.py", ("photo.rnnc", "--info")),
            ("rnn_codec/__main__.py", ("info", "photo.rnnc")),
        ):
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            process = self.start(program, *arguments, options=options, env=environment)
            code, out, text = self.finish(process)
            self.assertEqual(code, 0)
            self.assertStartsWith(out.decode(), "photo.rnnc: 17 x 15 RGB")
            imported = set(re.findall(r"\| +([\w.]+)$", text, re.MULTILINE))
            self.assertIn("rnn_codec.container.bitstream", imported)
            self.assertNoCommonElements(imported, ("tensorflow", "keras", "jax", "torch"))

    @absltest.skipUnless(os.path.exists("/dev/full"), "needs a device that is always full")
    def test_full_standard_output(self):
        self.write_rnnc()
        with open("/dev/full", "wb") as full:
            process = self.start("decode.py", "photo.rnnc", "--info", stdout=full)
            code, _, text = self.finish(process)
        self.assertEqual(code, 1)
        self.assertRegex(text, "^info: photo.rnnc: standard output: could not be written .*\n$")


if __name__ == "__main__":
    absltest.main()
