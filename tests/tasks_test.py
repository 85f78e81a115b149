"""Tests for rnn_codec/commands/tasks.py."""

import concurrent.futures
import io
import json
import os
import sys
import threading
import time
from unittest import mock
import weakref

from absl.testing import absltest, parameterized
import files_test

from rnn_codec.commands import tasks
from rnn_codec.commands.files import Job
from rnn_codec.errors import CodecError, ImageError, PresetError


class RunAllTest(files_test.FilesTest):
    def run_all(self, work, jobs, as_json=False, quiet=False):
        """Exit code and the lines on standard output and stderr."""
        out, err = io.StringIO(), io.StringIO()
        with mock.patch.object(sys, "stdout", out), mock.patch.object(sys, "stderr", err):
            code = tasks.run_all("command", jobs, work, as_json, quiet)
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
                tasks.run_all("command", [Job(f"{name} é", "x")], work, False, False)
            out.flush()
            lines = out.buffer.getvalue().decode(encoding).splitlines()
            self.assertEqual(lines, [f"{shown}: done", f"command: warning: {shown}: odd"])


class StubTask(tasks.Task):
    """Calls what `RunTasksTest` plugs in, and notes what is called in which order."""

    def __init__(self, job, test):
        super().__init__(job)
        self._test = test
        self.pixels = test.pixels.get(job.source, 10**6)

    def read(self):
        self._test.note("read", self.job)

    @classmethod
    def code_together(cls, group):
        group[0]._test.together.append("".join(task.job.source for task in group))

    def code(self):
        self._test.note("code", self.job)
        yield lambda: self._test.note("write", self.job)

    def report(self, report, seconds):
        self._test.seconds.append(seconds)
        report.result(f"{self.job.name}: done", {"input": self.job.name})


def write_at_once(writers, write):
    """For `tasks._Writers.submit`, where threads would race for a clock."""
    del writers
    write()
    future = concurrent.futures.Future()
    future.set_result(None)
    return future


class RunTasksTest(files_test.FilesTest):
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
            code = tasks.run_tasks("command", jobs, make_task, as_json, quiet=False)
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
            mock.patch.object(tasks._Writers, "submit", write_at_once),
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
            tasks.run_tasks("command", jobs, lambda job: StubTask(job, self), False, quiet=True)
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


if __name__ == "__main__":
    absltest.main()
