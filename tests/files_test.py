"""Tests for rnn_codec/commands/files.py."""

import concurrent.futures
import errno
import io
import json
import os
import pathlib
import sys
import tempfile
import threading
import time
from unittest import mock
import weakref

from absl.testing import absltest, parameterized

from rnn_codec.commands import files
from rnn_codec.commands.files import Job
from rnn_codec.errors import CodecError, ImageError, PresetError

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


class RunAllTest(FilesTest):
    def run_all(self, work, jobs, as_json=False, quiet=False):
        """Exit code and the lines on standard output and stderr."""
        out, err = io.StringIO(), io.StringIO()
        with mock.patch.object(sys, "stdout", out), mock.patch.object(sys, "stderr", err):
            code = files.run_all("command", jobs, work, as_json, quiet)
        return code, out.getvalue().splitlines(), err.getvalue().splitlines()

    def test_goes_on_after_a_bad_file_and_names_it_at_the_end(self):
        done = []

        def work(job, report):
            if job.source.startswith("bad"):
                raise CodecError("expected a good file")
            done.append(job.source)
            report.result(f"{job.source}: done", {"input": job.source})

        jobs = [Job(name, "x") for name in ("a", "bad 1", "b", "bad 2", "c")]
        code, out, err = self.run_all(work, jobs)
        self.assertEqual((code, done), (1, ["a", "b", "c"]))
        self.assertEqual(out, ["a: done", "b: done", "c: done"])
        self.assertEqual(
            err,
            [
                "command: bad 1: expected a good file",
                "command: bad 2: expected a good file",
                "command: 2 of 5 files failed: bad 1, bad 2",
            ],
        )
        code, out, err = self.run_all(work, jobs, as_json=True)
        expected = [
            {"input": "a"},
            {"input": "bad 1", "error": "expected a good file"},
            {"input": "b"},
            {"input": "bad 2", "error": "expected a good file"},
            {"input": "c"},
        ]
        self.assertEqual([json.loads(line) for line in out], expected)
        self.assertEqual(code, 1)

    @parameterized.parameters(
        ("a.png", "a.png: damaged", "a.png: damaged"),
        ("a.png", "damaged", "a.png: damaged"),
        ("exp", "expected a picture", "exp: expected a picture"),
        ("a", "a.png: exists", "a: a.png: exists"),
        ("-", "standard input: damaged", "standard input: damaged"),
        ("-", "damaged", "standard input: damaged"),
    )
    def test_each_line_has_the_name_of_the_file_once(self, source, text, expected):
        def work(job, report):
            report.warning(job, text)
            raise ImageError(text)

        code, _, err = self.run_all(work, [Job(source, "x")])
        self.assertEqual(code, 1)
        self.assertEqual(err, [f"command: warning: {expected}", f"command: {expected}"])

    def test_fault_of_the_preset_ends_it_all(self):
        work = mock.Mock(side_effect=PresetError("'absent': expected a preset"))
        with self.assertRaises(PresetError):
            self.run_all(work, [Job("a", "x"), Job("b", "y")])
        self.assertEqual(work.call_count, 1)

    def test_picture_that_does_not_fit_in_memory(self):
        code, _, err = self.run_all(mock.Mock(side_effect=MemoryError), [Job("a", "x")])
        self.assertEqual(code, 1)
        self.assertLen(err, 1)
        self.assertStartsWith(err[0], "command: a: expected a picture that fits in memory")

    def test_faults_of_our_own_are_not_hidden(self):
        with self.assertRaises(ZeroDivisionError):
            self.run_all(lambda job, report: 1 / 0, [Job("a", "x")])

    def test_results_make_room_for_data(self):
        def work(job, report):
            report.result("a: done", {})

        self.assertEqual(self.run_all(work, [Job("a", "-")]), (0, [], ["a: done"]))
        self.assertEqual(self.run_all(work, [Job("a", "x")], quiet=True), (0, [], []))
        with self.assertRaisesRegex(CodecError, "^expected --json or --output=-, not both"):
            self.run_all(work, [Job("a", "-")], as_json=True)

    def test_names_that_are_no_text_are_escaped(self):
        name = os.fsdecode(b"caf\xe9")

        def work(job, report):
            report.result(f"{job.name}: done", {"input": job.name})
            report.warning(job, "odd")

        for encoding, shown in (("utf-8", "caf\\udce9 é"), ("ascii", "caf\\udce9 \\xe9")):
            out = io.TextIOWrapper(io.BytesIO(), encoding)
            with mock.patch.object(sys, "stdout", out), mock.patch.object(sys, "stderr", out):
                files.run_all("command", [Job(f"{name} é", "x")], work, False, False)
            out.flush()
            lines = out.buffer.getvalue().decode(encoding).splitlines()
            self.assertEqual(lines, [f"{shown}: done", f"command: warning: {shown}: odd"])


class StubTask(files.Task):
    """Calls what `RunTasksTest` plugs in, and notes what is called in which order."""

    def __init__(self, job, test):
        super().__init__(job)
        self._test = test
        self.pixels = test.pixels.get(job.source, 10**6)

    def read(self):
        self._test.note("read", self.job)

    @classmethod
    def code_together(cls, tasks):
        tasks[0]._test.together.append("".join(task.job.source for task in tasks))

    def code(self):
        self._test.note("code", self.job)
        yield lambda: self._test.note("write", self.job)

    def report(self, report, seconds):
        self._test.seconds.append(seconds)
        report.result(f"{self.job.name}: done", {"input": self.job.name})


def write_at_once(writers, write):
    """For `files._Writers.submit`, where threads would race for a clock."""
    del writers
    write()
    future = concurrent.futures.Future()
    future.set_result(None)
    return future


class RunTasksTest(FilesTest):
    """Stages of files `a`, `b`, ... , whose hooks may wait for each other or fail."""

    def setUp(self):
        super().setUp()
        self.pixels = {}  # {source: of its picture}
        self.hooks = {}  # {(stage, source): function}
        self.noted = []
        self.threads = {}
        self.seconds = []
        self.together = []

    def note(self, stage, job):
        self.threads[stage, job.source] = threading.current_thread()
        self.hooks.get((stage, job.source), lambda: None)()
        self.noted.append((stage, job.source))

    def run_tasks(self, names="abcd", as_json=False, make_task=None):
        """Exit code and the lines on standard output and stderr."""
        self.make(*names)
        jobs = [Job(name, f"{name}.out") for name in names]
        out, err = io.StringIO(), io.StringIO()
        with mock.patch.object(sys, "stdout", out), mock.patch.object(sys, "stderr", err):
            make_task = make_task or (lambda job: StubTask(job, self))
            code = files.run_tasks("command", jobs, make_task, as_json, quiet=False)
        return code, out.getvalue().splitlines(), err.getvalue().splitlines()

    def fail_at(self, stage, source, error):
        self.hooks[stage, source] = mock.Mock(side_effect=error)

    def wait_at(self, stage, source, other_stage, other_source):
        """Makes one stage last until another has begun."""
        event = threading.Event()
        self.hooks[stage, source] = lambda: self.assertTrue(event.wait(timeout=60))
        self.hooks[other_stage, other_source] = event.set

    def test_next_file_is_read_while_the_network_runs(self):
        self.wait_at("code", "a", "read", "b")
        self.assertEqual(self.run_tasks()[0], 0)

    def test_files_are_written_while_the_network_runs(self):
        self.wait_at("write", "a", "code", "c")
        code, out, _ = self.run_tasks()
        self.assertEqual((code, out), (0, [f"{name}: done" for name in "abcd"]))

    def test_no_more_than_one_file_is_read_ahead(self):
        for name in "abcd":
            self.hooks["code", name] = lambda: time.sleep(0.05)  # time for a mistake
        self.run_tasks("abcdef")
        for index, name in enumerate("abcd"):
            position = self.noted.index(("code", name))
            self.assertNotIn(("read", "abcdef"[index + 2]), self.noted[:position])

    def test_small_pictures_are_coded_together(self):
        self.pixels = dict.fromkeys("bcdefh", 1)
        self.fail_at("read", "d", ImageError("d: damaged"))
        code, out, _ = self.run_tasks("abcdefgh")
        self.assertEqual(self.together, ["bcef"])
        self.assertEqual(out, [f"{name}: done" for name in "abcefgh"])
        self.assertEqual(code, 1)

    @parameterized.parameters({"pixels": 1, "group": 64}, {"pixels": 2**18, "group": 8})
    def test_only_so_many_are_coded_together(self, pixels, group):
        names = [chr(ord("a") + number) for number in range(20)]
        names = [a + b for a in names for b in "abcd"]
        self.pixels = dict.fromkeys(names, pixels)
        self.run_tasks(names)
        groups = [names[start : start + group] for start in range(0, len(names), group)]
        self.assertEqual(self.together, ["".join(names) for names in groups])

    def test_seconds_of_those_coded_together_go_by_pixels(self):
        self.pixels = {"a": 1000, "b": 3000}
        clock = iter(range(0, 1000, 10))
        # Reading takes 10 of each, both together 10, coding and writing 10 of each.
        with (
            mock.patch("time.monotonic", lambda: next(clock)),
            mock.patch.object(files._Writers, "submit", write_at_once),
        ):
            self.run_tasks("ab")
        self.assertEqual(self.seconds, [10 + 2.5 + 10, 10 + 7.5 + 10])

    def test_fault_of_the_preset_ends_a_group_too(self):
        self.pixels = dict.fromkeys("abcd", 1)
        self.fail_at("code", "a", PresetError("'absent': expected a preset"))
        error = PresetError("'absent': expected a preset")
        with (
            mock.patch.object(StubTask, "code_together", side_effect=error),
            self.assertRaises(PresetError),
        ):
            self.run_tasks()

    def test_what_fails_for_all_is_left_to_each(self):
        self.pixels = dict.fromkeys("abcd", 1)
        with mock.patch.object(StubTask, "code_together", side_effect=MemoryError) as together:
            code, out, _ = self.run_tasks()
        together.assert_called_once()
        self.assertEqual((code, out), (0, [f"{name}: done" for name in "abcd"]))

    def test_two_files_at_most_are_being_written(self):
        both, checked, third = (
            threading.Barrier(2, timeout=60),
            threading.Event(),
            threading.Event(),
        )

        def check():
            both.wait()
            self.assertFalse(third.wait(timeout=0.2))
            checked.set()

        self.hooks["write", "a"] = check
        self.hooks["write", "b"] = lambda: (both.wait(), checked.wait(timeout=60))
        self.hooks["write", "c"] = third.set
        self.assertEqual(self.run_tasks()[0], 0)

    def test_tasks_are_few_at_any_time(self):
        names = [f"{number:02d}" for number in range(20)]
        alive = weakref.WeakSet()

        def make_task(job):
            task = StubTask(job, self)
            alive.add(task)
            return task

        counts = []
        for name in names:
            self.hooks["code", name] = lambda: counts.append(len(alive))
        # The slowest to be written is the first; all others would be done long before.
        done = threading.Event()
        self.hooks["write", "00"] = lambda: done.wait(timeout=0.3)
        self.hooks["write", "19"] = done.set
        self.run_tasks(names, make_task=make_task)
        self.assertLen(counts, 20)
        self.assertLess(max(counts), 8)

    def test_nothing_runs_beside_a_large_picture(self):
        self.pixels = dict.fromkeys("abc", 10**9)
        self.run_tasks("abc")
        stages = [(stage, name) for name in "abc" for stage in ("read", "code", "write")]
        self.assertEqual(self.noted, stages)

    def test_a_large_picture_is_gone_before_the_next_is_read(self):
        self.pixels = dict.fromkeys("abc", 10**9)
        alive, counts = weakref.WeakSet(), []

        def make_task(job):
            task = StubTask(job, self)
            alive.add(task)
            return task

        for name in "abc":
            self.hooks["read", name] = lambda: counts.append(len(alive))
        self.run_tasks("abc", make_task=make_task)
        self.assertEqual(counts, [1, 1, 1])

    def test_what_may_wait_for_ever_is_read_where_an_interrupt_arrives(self):
        os.mkfifo("c")
        jobs = [Job("a", "x"), Job("-", "y"), Job("c", "z")]
        self.make("a")
        with mock.patch.object(sys, "stdout", io.StringIO()):
            files.run_tasks("command", jobs, lambda job: StubTask(job, self), False, quiet=True)
        for source in ("a", "-", "c"):
            self.assertIs(self.threads["read", source], threading.main_thread())

    @parameterized.product(stage=("read", "code", "write"), as_json=(True, False))
    def test_goes_on_after_a_fault_of_any_stage_and_keeps_the_order(self, stage, as_json):
        self.fail_at(stage, "b", ImageError("b: damaged"))
        self.fail_at(stage, "c", MemoryError)
        self.wait_at("write", "a", "code", "d")
        code, out, err = self.run_tasks("abcd", as_json)
        self.assertEqual(code, 1)
        if as_json:
            self.assertEqual([json.loads(line)["input"] for line in out], list("abcd"))
        else:
            self.assertEqual(out, ["a: done", "d: done"])
        self.assertEqual(err[0], "command: b: damaged")
        self.assertStartsWith(err[1], "command: c: expected a picture that fits in memory")
        self.assertEqual(err[2], "command: 2 of 4 files failed: b, c")

    def test_fault_of_the_preset_ends_it_all(self):
        self.fail_at("code", "a", PresetError("'absent': expected a preset"))
        with self.assertRaises(PresetError):
            self.run_tasks()
        self.assertNotIn(("code", "b"), self.noted)

    @parameterized.parameters("read", "code", "write")
    def test_faults_of_our_own_are_not_hidden(self, stage):
        self.fail_at(stage, "b", ZeroDivisionError)
        with self.assertRaises(ZeroDivisionError):
            self.run_tasks()

    def test_interrupt_lets_begun_writing_end(self):
        interrupted = threading.Event()

        def interrupt():
            interrupted.set()
            raise KeyboardInterrupt

        self.hooks["write", "a"] = lambda: self.assertTrue(interrupted.wait(timeout=60))
        self.hooks["code", "b"] = interrupt
        with self.assertRaises(KeyboardInterrupt):
            self.run_tasks()
        self.assertIn(("write", "a"), self.noted)
        self.assertNotIn(("code", "c"), self.noted)

    def test_seconds_leave_out_the_waiting_for_others(self):
        clock = iter(range(0, 1000, 10))
        # Of one file: reading from 0 to 10, coding and writing from 20 to 30.
        with mock.patch("time.monotonic", lambda: next(clock)):
            self.run_tasks("a")
        self.assertEqual(self.seconds, [20])


class ReadTest(FilesTest):
    def test_reads_files_and_the_stream(self):
        self.make("a.png")
        self.assertEqual(files.read(Job("a.png", "x")), b"data of a.png")
        with mock.patch.object(sys, "stdin", mock.Mock(buffer=io.BytesIO(b"\0binary"))):
            self.assertEqual(files.read(Job("-", "x")), b"\0binary")


if __name__ == "__main__":
    absltest.main()
