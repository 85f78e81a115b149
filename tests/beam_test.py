"""Tests for rnn_codec/plugins/beam.py and rnn_codec/commands/beam.py."""

import csv
import importlib.util
import io
import os
import pathlib
import re
import subprocess
import sys
import tempfile
from unittest import mock

from absl.testing import absltest, parameterized
import numpy as np
from PIL import Image
import pytest
import testing

pytestmark = pytest.mark.network

pytest.importorskip("apache_beam", reason="the pipeline needs the extra [beam]")

from apache_beam.io.filesystems import FileSystems  # noqa: E402
from apache_beam.options.pipeline_options import PipelineOptions  # noqa: E402

from rnn_codec import loading  # noqa: E402
from rnn_codec.errors import CodecError, PresetError  # noqa: E402
from rnn_codec.pictures.picture import picture_from_array  # noqa: E402
from rnn_codec.plugins import beam  # noqa: E402
from rnn_codec.targets import Target  # noqa: E402


class BeamTest(parameterized.TestCase):
    """In a folder of its own."""

    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory())).resolve()
        working_folder = os.getcwd()
        self.addCleanup(os.chdir, working_folder)
        os.chdir(self.folder)

    def make(self, *names):
        """Files without pictures in them."""
        for name in names:
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"no picture")

    def save(self, name, side=32, seed=0):
        """Writes a picture; returns its pixels."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        array = testing.make_array(side, side, seed=seed)
        Image.fromarray(array).save(path)
        return array

    def names(self, folder):
        """Every file below a folder."""
        return sorted(
            path.relative_to(self.folder / folder).as_posix()
            for path in (self.folder / folder).rglob("*")
            if path.is_file()
        )


def read_table(path):
    return list(csv.DictReader(io.StringIO(pathlib.Path(path).read_text())))


class PlanTest(BeamTest):
    def plan(self, *inputs, operation=None, output="out", overwrite=False):
        """Pairs of source and target, relative to the test's folder."""
        jobs = beam.plan(operation or beam.Encoding(), inputs, output, overwrite)
        return [
            tuple(os.path.relpath(path, self.folder) for path in (job.source, job.target))
            for job in jobs
        ]

    @parameterized.parameters("pics", "pics/", "./pics", "pics/**", "pics/**.*")
    def test_results_lie_as_their_sources_do(self, pattern):
        self.make("pics/a.png", "pics/deep/down/b.JPG", "pics/notes.txt", "pics.png")
        expected = [
            ("pics/a.png", "out/a.png.rnnc"),
            ("pics/deep/down/b.JPG", "out/deep/down/b.JPG.rnnc"),
        ]
        self.assertEqual(self.plan(pattern), expected)
        self.assertEqual(self.plan(f"{self.folder}/{pattern}"), expected)

    def test_patterns(self):
        self.make("pics/a1.png", "pics/a2.png", "pics/deep/a3.png", "b.png")
        for pattern, targets in (
            ("pics/a*", ["a1.png", "a2.png"]),
            ("pics/a[13].png", ["a1.png"]),
            ("pics/**/a?.png", ["deep/a3.png"]),
            ("*.png", ["b.png"]),
            ("pics/a1.png", ["a1.png"]),
        ):
            targets = [f"out/{name}.rnnc" for name in targets]
            self.assertEqual([target for _, target in self.plan(pattern)], targets, pattern)

    def test_names_that_look_like_patterns(self):
        self.make("pics [2020]/a*.png", "pics [2020]/ab.png", "pics 2/c.png")
        expected = ["out/a*.png.rnnc", "out/ab.png.rnnc"]
        self.assertEqual([target for _, target in self.plan("pics [2020]")], expected)
        self.assertEqual(self.plan("pics [2020]/a*.png")[0][1], "out/a*.png.rnnc")

    def test_decoding(self):
        self.make("codes/a.png.rnnc", "codes/deep/b.RNNC", "codes/c.png")
        self.assertEqual(
            self.plan("codes", operation=beam.Decoding(image_format="webp")),
            [("codes/a.png.rnnc", "out/a.png.webp"), ("codes/deep/b.RNNC", "out/deep/b.webp")],
        )

    def assert_refused(self, message, *inputs, **options):
        with self.assertRaisesRegex(CodecError, message) as caught:
            self.plan(*inputs, **options)
        self.assertNotRegex(str(caught.exception), r"\n|\.$")

    def test_no_files(self):
        self.make("pics/notes.txt")
        for pattern in ("pics", "absent", "pics/*.png"):
            message = f"^{re.escape(pattern)}: expected files with the extensions .apng, "
            self.assert_refused(message, pattern)

    def test_two_results_in_one_place(self):
        self.make("1/a.png", "2/a.png")
        self.assert_refused("/out/a.png.rnnc: would hold the results of .*/1/a.png and", "1", "2")
        self.make("3/a.rnnc", "3/a.RNNC")
        self.assert_refused("/out/a.png: would hold", "3", operation=beam.Decoding())

    def test_existing_results_are_kept_unless_asked(self):
        self.make("pics/a.png", "pics/b.png", "out [1]/b.png.rnnc")
        self.assert_refused(
            r"/out \[1\]/b.png.rnnc: exists already; add --overwrite", "pics", output="out [1]"
        )
        self.assertLen(self.plan("pics", output="out [1]", overwrite=True), 2)

    def test_storage_that_beam_does_not_know(self):
        self.assert_refused(r"^xyz://bucket/a/\*\*: could not be listed \(", "xyz://bucket/a")


class RunTest(BeamTest):
    """In this process, which has the codec already."""

    def run_pipeline(self, operation, inputs, output, *arguments, **options):
        # Why the flag: rnn_codec/commands/beam.py.
        arguments = PipelineOptions(["--allow_unsafe_triggers", *arguments])
        return beam.run(operation, [inputs], output, options=arguments, **options)

    def encoding(self, **options):
        return beam.Encoding(preset=testing.preset_folder(), **options)

    def decoding(self, **options):
        return beam.Decoding(preset=testing.preset_folder(), **options)

    def test_there_and_back(self):
        codec = testing.make_codec()
        arrays = {"a.png": self.save("pics/a.png", 161), "deep/b.bmp": self.save("pics/deep/b.bmp")}
        counts = self.run_pipeline(self.encoding(target=Target(iterations=2)), "pics", "codes")
        self.assertEqual(counts, (2, 0))
        for name, array in arrays.items():
            code = (self.folder / "codes" / f"{name}.rnnc").read_bytes()
            self.assertEqual(code, codec.encode(array, iterations=2))
        counts = self.run_pipeline(self.decoding(iterations=1), "codes", "restored")
        self.assertEqual(counts, (2, 0))
        for name, array in arrays.items():
            restored = np.array(Image.open(self.folder / "restored" / f"{name}.png"))
            expected = codec.decode(codec.encode(array), iterations=1)
            np.testing.assert_array_equal(restored, expected)
        self.assert_rows_of("a.png", arrays["a.png"], codec)

    def assert_rows_of(self, name, array, codec):
        encoded = codec.encode_picture(picture_from_array(array), Target(2))
        source, code, restored = (
            self.folder / folder / f"{name}{extension}"
            for folder, extension in (("pics", ""), ("codes", ".rnnc"), ("restored", ".png"))
        )
        row = read_table("codes/results.csv")[0]
        self.assertGreater(float(row.pop("seconds")), 0)
        self.assertEqual(
            row,
            {
                "input": str(source),
                "output": str(code),
                "width": "161",
                "height": "161",
                "iterations": "2",
                "input_bytes": str(source.stat().st_size),
                "output_bytes": str(len(encoded.data)),
                "bits_per_pixel": str(encoded.bpp),
                "psnr_db": str(encoded.psnr_db),
                "ms_ssim": str(encoded.ms_ssim),
                "warnings": "",
                "error": "",
            },
        )
        row = read_table("restored/results.csv")[0]
        self.assertEqual((row["input"], row["output"]), (str(code), str(restored)))
        self.assertEqual((row["iterations"], row["psnr_db"], row["ms_ssim"]), ("1", "", ""))
        self.assertEqual(row["bits_per_pixel"], str(encoded.bpp))
        self.assertEqual(row["output_bytes"], str(restored.stat().st_size))

    def test_codec_is_loaded_once_in_a_process(self):
        for seed in range(6):
            self.save(f"pics/{seed}.png", seed=seed)
        with mock.patch.object(loading, "load", return_value=testing.make_codec()) as load:
            arguments = ("--direct_running_mode=multi_threading", "--direct_num_workers=2")
            counts = self.run_pipeline(self.encoding(), "pics", "codes", *arguments)
        self.assertEqual(counts, (6, 0))
        load.assert_called_once_with(testing.preset_folder())

    def test_warnings_and_faults_of_files_are_rows(self):
        data = testing.make_codec().encode(self.save("a.png"))
        self.make("codes/b.rnnc")
        (self.folder / "codes/a.rnnc").write_bytes(data[:-1])
        (self.folder / "codes/c.rnnc").write_bytes(data)
        counts = self.run_pipeline(self.decoding(), "codes", "out", table="tables/t.csv")
        self.assertEqual(counts, (3, 1))
        cut, bad, good = read_table("tables/t.csv")
        self.assertRegex(cut["warnings"], "the file ends at byte .*: 2 of 3 iterations")
        self.assertStartsWith(bad["error"], "expected an .rnnc file")
        self.assertEqual([row["error"] for row in (cut, good)], ["", ""])
        self.assertEqual(self.names("out"), ["a.png", "c.png"])

    def test_names_that_are_no_text(self):
        self.save(os.fsdecode(b"pics/caf\xe9,.png"))
        self.assertEqual(self.run_pipeline(self.encoding(), "pics", "codes"), (1, 0))
        (row,) = read_table("codes/results.csv")
        self.assertEndsWith(row["input"], "/pics/caf\\udce9,.png")

    def test_write_that_fails_leaves_nothing(self):
        self.save("pics/a.png")
        self.save("pics/b.png")
        rename = FileSystems.rename

        def fail_once(sources, targets):
            if targets[0].endswith("a.png.rnnc"):
                raise OSError("No space left\non device")
            rename(sources, targets)

        with mock.patch.object(FileSystems, "rename", side_effect=fail_once):
            counts = self.run_pipeline(self.encoding(), "pics", "codes")
        self.assertEqual(counts, (2, 1))
        self.assertRegex(
            read_table("codes/results.csv")[0]["error"],
            r"^.*/codes/a.png.rnnc: could not be written \(No space left on device\); check",
        )
        self.assertEqual(self.names("codes"), ["b.png.rnnc", "results.csv"])

    def test_existing_table_is_kept_unless_asked(self):
        self.save("pics/a.png")
        self.make("codes/results.csv")
        with self.assertRaisesRegex(CodecError, "/codes/results.csv: exists already; add --over"):
            self.run_pipeline(self.encoding(), "pics", "codes")
        self.assertEqual(self.names("codes"), ["results.csv"])
        self.run_pipeline(self.encoding(), "pics", "codes", overwrite=True)
        self.assertEqual(self.names("codes"), ["a.png.rnnc", "results.csv"])
        self.assertLen(read_table("codes/results.csv"), 1)

    def test_unknown_preset_is_told_before_any_work(self):
        self.save("pics/a.png")
        with self.assertRaisesRegex(PresetError, "'absent'"):
            self.run_pipeline(beam.Encoding(preset="absent"), "pics", "codes")
        self.assertFalse((self.folder / "codes").exists())


class CommandTest(BeamTest):
    def run_command(self, *arguments):
        """Exit code and stderr, in this process."""
        err = io.StringIO()
        with mock.patch.object(sys, "stderr", err):
            code = testing.call("beam", *arguments)
        return code, err.getvalue()

    @parameterized.parameters(
        ([], "expected encode or decode as the first argument, received None"),
        (["shrink"], "expected encode or decode as the first argument, received shrink"),
        (["encode"], "expected at least one --input"),
        (
            ["encode", "--input=a", "--targt_bpp=1"],
            "--targt_bpp: expected an option of this command",
        ),
        (["encode", "--input=a", "--target_bpp=0"], "expected target_bpp to be a number above 0"),
        (["encode", "--input=a"], "a: expected files with the extensions .apng, "),
        (["encode", "--input=a", "--strict"], "--strict: has no meaning with encode; leave it out"),
        (["decode", "--input=a", "--entropy=raw"], "--entropy: has no meaning with decode; leave"),
    )
    def test_faults(self, arguments, message):
        code, text = self.run_command(*arguments, "--output=out")
        self.assertEqual(code, 1)
        self.assertRegex(text, rf"^beam: {re.escape(message)}.*\n$")
        self.assertEmpty(self.names("."))

    def test_missing_extra(self):
        with mock.patch.object(importlib.util, "find_spec", return_value=None):
            code, text = self.run_command("encode", "--input=a", "--output=out")
        self.assertEqual(code, 1)
        self.assertRegex(text, r"^beam: expected apache-beam, .* with the extra \[beam\]\n$")

    def test_200_pictures_in_two_processes(self):
        """With five broken ones; the launching process imports no backend."""
        broken = [f"pics/{number % 4}/{number:03d}.png" for number in range(0, 200, 40)]
        for number in range(200):
            self.save(f"pics/{number % 4}/{number:03d}.png", seed=number)
        self.make(*broken)
        command = [sys.executable, "-X", "importtime", "-m", "rnn_codec", "beam", "encode"]
        arguments = ["--input=pics/**", "--output=codes", f"--preset={testing.preset_folder()}"]
        process = subprocess.run(
            [*command, *arguments, "--direct_num_workers=2"], capture_output=True, text=True
        )
        self.assertEqual(process.returncode, 1, process.stderr)
        self.assertEqual(process.stdout, "195 of 200 files done, 5 failed; see codes/results.csv\n")
        imported = set(re.findall(r"^import time:.*\| +([\w.]+)$", process.stderr, re.MULTILINE))
        self.assertIn("apache_beam", imported)
        self.assertNoCommonElements(imported, ("tensorflow", "keras", "jax", "torch"))

        rows = read_table("codes/results.csv")
        pictures = sorted(str(self.folder / "pics" / name) for name in self.names("pics"))
        self.assertEqual([row["input"] for row in rows], pictures)
        failed = {row["input"]: row["error"] for row in rows if row["error"]}
        self.assertCountEqual(failed, (str(self.folder / name) for name in broken))
        for name, error in failed.items():
            self.assertStartsWith(error, f"{name}: expected a picture")
        written = [row["output"] for row in rows if not row["error"]]
        self.assertCountEqual(
            [str(self.folder / "codes" / name) for name in self.names("codes")],
            [*written, str(self.folder / "codes/results.csv")],
        )
        array = testing.make_array(32, 32, seed=199)
        code = (self.folder / "codes/3/199.png.rnnc").read_bytes()
        self.assertEqual(code, testing.make_codec().encode(array))


if __name__ == "__main__":
    absltest.main()
