"""Tests for rnn_codec/commands/files.py."""

import errno
import io
import os
import pathlib
import sys
import tempfile
from unittest import mock

from absl.testing import absltest, parameterized

from rnn_codec.commands import files
from rnn_codec.commands.files import Job
from rnn_codec.errors import CodecError

EXTENSIONS = {".png", ".jpg"}


def add_extension(name):
    return f"{name}.out"


class FilesTest(parameterized.TestCase):
    """In a folder of its own."""

    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
        working_folder = os.getcwd()
        self.addCleanup(os.chdir, working_folder)
        os.chdir(self.folder)

    def make(self, *names):
        for name in names:
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"data of " + name.encode())

    def plan(self, *inputs, output=None, overwrite=False, rename=add_extension):
        jobs = files.plan(list(inputs), output, EXTENSIONS, rename, overwrite)
        return [(job.source, job.target) for job in jobs]


class PlanTest(FilesTest):
    def test_result_lies_beside_its_source(self):
        self.make("a.png", "sub/b.png")
        absolute = str(self.folder / "a.png")
        for source in ("a.png", "sub/b.png", "./a.png", absolute):
            self.assertEqual(self.plan(source), [(source, f"{source}.out")])

    def test_missing_sources_are_left_to_the_reader(self):
        self.assertEqual(self.plan("absent.png"), [("absent.png", "absent.png.out")])

    def test_result_takes_the_name_that_was_given(self):
        self.make("a.png", "old")
        self.assertEqual(self.plan("a.png", output="new"), [("a.png", "new")])
        self.assertEqual(self.plan("a.png", output="old"), [("a.png", "old")])

    def test_result_goes_into_an_existing_folder(self):
        self.make("sub/a.png", "b.png")
        os.mkdir("out")
        self.assertEqual(
            self.plan("sub/a.png", "b.png", output="out"),
            [("sub/a.png", "out/a.png.out"), ("b.png", "out/b.png.out")],
        )

    @parameterized.parameters("pics", "pics/", "./pics", "pics//", "pics/.")
    def test_folder_stands_for_the_files_below_it(self, name):
        self.make("pics/b.png", "pics/a.JPG", "pics/no.txt", "pics/deep/down/c.png")
        os.mkdir("out")
        jobs = self.plan(name, output="out")
        self.assertEqual(
            [(os.path.normpath(source), target) for source, target in jobs],
            [
                ("pics/a.JPG", "out/a.JPG.out"),
                ("pics/b.png", "out/b.png.out"),
                ("pics/deep/down/c.png", "out/deep/down/c.png.out"),
            ],
        )
        for source, target in self.plan(name):
            self.assertEqual(os.path.normpath(target), os.path.normpath(source) + ".out")

    def test_working_folder(self):
        self.make("a.png")
        ((source, target),) = self.plan(".")
        self.assertEqual(
            (os.path.normpath(source), os.path.normpath(target)), ("a.png", "a.png.out")
        )

    def test_stream_goes_to_a_stream_or_file(self):
        self.assertEqual(self.plan("-"), [("-", "-")])
        self.assertEqual(self.plan("-", output="-"), [("-", "-")])
        self.assertEqual(self.plan("-", output="new"), [("-", "new")])
        self.assertEqual(self.plan("a.png", output="-"), [("a.png", "-")])

    def test_file_called_as_the_stream_is_reached_by_its_path(self):
        self.make("-")
        self.assertEqual(self.plan("./-"), [("./-", "./-.out")])


class RefusalTest(FilesTest):
    def assert_refused(self, message, *inputs, **options):
        with self.assertRaisesRegex(CodecError, message) as caught:
            self.plan(*inputs, **options)
        self.assertNotRegex(str(caught.exception), r"\n|\.$")

    def test_no_input(self):
        self.assert_refused("^expected at least one --input")

    def test_folder_without_files(self):
        os.mkdir("pics")
        self.make("pics/a.txt")
        self.assert_refused("^pics: expected files with the extensions .jpg, .png", "pics")

    def test_existing_file_is_not_replaced_unless_asked(self):
        self.make("a.png", "a.png.out")
        self.assert_refused("^a.png.out: exists already; add --overwrite, or name", "a.png")
        self.assertEqual(self.plan("a.png", overwrite=True), [("a.png", "a.png.out")])
        os.mkdir("out")
        self.make("out/a.png.out")
        self.assert_refused("^out/a.png.out: exists already", "a.png", output="out")

    @parameterized.parameters(True, False)
    def test_input_is_never_replaced(self, overwrite):
        self.make("a.png", "b.png")
        os.symlink("a.png", "link.png")
        for output in ("a.png", "./a.png", "link.png", str(self.folder / "a.png")):
            self.assert_refused(
                ": is an input too; name another --output$",
                "a.png",
                output=output,
                overwrite=overwrite,
            )
        os.mkdir("out")
        os.symlink("../b.png", "out/a.png.out")
        self.assert_refused(
            "^out/a.png.out: is an input too", "a.png", "b.png", output="out", overwrite=True
        )

    def test_two_results_in_one_place(self):
        self.make("a.png", "sub/a.png")
        os.mkdir("out")
        self.assert_refused(
            "^out/a.png.out: would hold the results of a.png and of sub/a.png; ",
            "a.png",
            "sub/a.png",
            output="out",
        )
        self.assert_refused("^./a.png.out: would hold", "a.png", "./a.png")
        self.assert_refused("^a.out: would hold", "a.png", "a.jpg", rename=lambda name: "a.out")

    def test_two_results_on_one_stream(self):
        self.assert_refused("^standard output: would hold the results of standard input", "-", "-")
        self.assert_refused(
            "^standard output: expected one file to write there, received 2 inputs; name a folder",
            "a.png",
            "b.png",
            output="-",
        )

    def test_several_results_need_a_folder(self):
        self.make("pics/a.png")
        self.assert_refused(
            "^new: expected an existing folder to hold the results of 2 inputs; make it first$",
            "a.png",
            "b.png",
            output="new",
        )
        self.assert_refused("^new: expected an existing folder .* of pics;", "pics", output="new")

    def test_folder_that_does_not_exist(self):
        self.make("a.png")
        self.assert_refused(
            "^new/: expected an existing folder .* of a.png", "a.png", output="new/"
        )

    def test_stream_into_a_folder(self):
        os.mkdir("out")
        self.assert_refused("^out: is a folder; name a file for what comes", "-", output="out")


class WriteTest(FilesTest):
    def test_folders_of_the_input_are_mirrored(self):
        os.mkdir("out")
        files.write("out/deep/down/a.out", b"data", "out")
        self.assertEqual(pathlib.Path("out/deep/down/a.out").read_bytes(), b"data")

    def test_other_folders_are_not_made(self):
        with self.assertRaisesRegex(CodecError, "^new/a.out: expected an existing folder new"):
            files.write("new/a.out", b"data")
        self.assertEmpty(os.listdir())

    def test_file_in_place_of_a_folder(self):
        self.make("out/deep")
        with self.assertRaisesRegex(CodecError, "^out/deep/a.out: expected a folder out/deep, "):
            files.write("out/deep/a.out", b"data", "out")

    def test_folder_that_is_read_only(self):
        # Simulated: the owner of the tests may be root.
        os.mkdir("out")
        denied = PermissionError(errno.EACCES, "Permission denied")
        with (
            mock.patch("os.makedirs", side_effect=denied),
            self.assertRaisesRegex(CodecError, r"^out/deep/a.out: .*\(Permission denied\); choose"),
        ):
            files.write("out/deep/a.out", b"data", "out")

    def test_fault_of_the_stream(self):
        full = OSError(errno.ENOSPC, "No space left on device")
        output = mock.Mock(buffer=mock.Mock(write=mock.Mock(side_effect=full)))
        with (
            mock.patch.object(sys, "stdout", output),
            mock.patch("os.dup2"),
            self.assertRaisesRegex(
                CodecError, r"^standard output: could not be written \(No space left on device\)"
            ),
        ):
            files.write("-", b"data")


class ReadTest(FilesTest):
    def test_reads_files_and_the_stream(self):
        self.make("a.png")
        self.assertEqual(files.read(Job("a.png", "x")), b"data of a.png")
        with mock.patch.object(sys, "stdin", mock.Mock(buffer=io.BytesIO(b"\0binary"))):
            self.assertEqual(files.read(Job("-", "x")), b"\0binary")


if __name__ == "__main__":
    absltest.main()
