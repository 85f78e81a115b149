"""What encode and decode do with many files: in order, whatever becomes of one of them.

While the network runs, files are read and written by threads. A file that fails is a line, and the
others go on.
"""

import collections
from concurrent.futures import ThreadPoolExecutor
import contextlib
import functools
import os
import threading
import time

from tqdm import tqdm

from rnn_codec.commands import files
from rnn_codec.errors import CodecError, PresetError


class Task:
    """One file's way through `run_tasks`, in the order of the methods; commands fill them in.

    `read` and the functions that `code` yields may run in other threads, the others run in the
    caller's. Reading ends before coding begins, and all writing before the report.
    """

    pixels = 0  # of the picture; set by `read`

    def __init__(self, job):
        self.job = job

    def read(self):
        """Reads the source, and refuses what the network need not see."""
        raise NotImplementedError

    @classmethod
    def code_together(cls, group):
        """Runs the network on several small pictures at once, where it can; keeps what comes out.

        Faults of single tasks are theirs to raise from `code`.
        """

    def code(self):
        """Runs the network, unless that is done; yields a function for each file to write."""
        raise NotImplementedError

    def report(self, report, seconds):
        """Says to a `files.Report` what came of it; `seconds` of reading, coding and writing."""
        raise NotImplementedError


# Two: making a PNG file may take longer than the network took for the picture.
_WRITERS = 2
# Files done while an earlier one is still being written: their pictures are kept for the report.
_UNREPORTED = 4
# Above this, a picture has the memory to itself: the next is not read, and it is written, first.
_LARGE_PIXELS = 2**25
# Up to this, pictures are read and coded several at a time: so many, or so many pixels in all.
_SMALL_PIXELS, _TOGETHER, _TOGETHER_PIXELS = 2**18, 64, 2**21


def run_tasks(command, jobs, make_task, as_json, quiet):
    """Takes each job through its `Task`, goes on after a bad file, returns the exit code.

    While the network is at a picture, or at several small ones, the next are read and those before
    are written. Memory is bounded by a few pictures of `_LARGE_PIXELS`, or by what one larger
    picture takes on its own. Reports come in the order of the jobs.

    Args:
        command: str. Starts the lines on stderr.
        jobs: list of `files.Job`.
        make_task: function from a job to a `Task`.
        as_json, quiet: as for `files.Report`.

    Raises:
        PresetError: from a task; no other file would fare better.
    """
    report = files.Report(command, jobs, as_json, quiet)
    waiting = collections.deque(jobs)
    with _progress_bar(jobs) as bar, ThreadPoolExecutor(1) as reader, _Writers() as writers:
        unreported = collections.deque()
        ahead = None
        while ahead or waiting:
            runs = ahead.result() if ahead else _read_some(waiting, make_task)
            ahead = None
            if waiting and not runs[-1].is_large and _is_file(waiting[0]):
                ahead = reader.submit(_read_some, waiting, make_task)
            _code_together(runs)
            for run in runs:
                run.code(writers)
                unreported.append(run)
                while unreported and (unreported[0].is_done or len(unreported) > _UNREPORTED):
                    unreported.popleft().report(report)
                    bar.update()
            runs = run = None  # a large picture is gone before the next is read
        for run in unreported:
            run.report(report)
            bar.update()
    return report.exit_code(len(jobs))


def _read_some(waiting, make_task):
    """Takes jobs from a deque: one, or several of small pictures. Returns their `_Run`s, read."""
    runs = []
    while True:
        runs.append(_Run(make_task(waiting.popleft())))
        runs[-1].read()
        if not waiting or not _is_file(waiting[0]) or not runs[-1].is_small:
            return runs
        if len(runs) == _TOGETHER or sum(run.pixels for run in runs) >= _TOGETHER_PIXELS:
            return runs


def _is_file(job):
    """Only files are read ahead: a stream may wait for ever, and an interrupt reaches no thread."""
    return os.path.isfile(job.source)


def _code_together(runs):
    # The last one's size was not known before it was read.
    runs = [run for run in runs if run.is_small and not run.failed]
    if len(runs) < 2:
        return
    start = time.monotonic()
    # What fails for all is met again by each alone, which tells of it.
    with contextlib.suppress(CodecError, MemoryError):
        runs[0].task.code_together([run.task for run in runs])
    seconds, pixels = time.monotonic() - start, sum(run.pixels for run in runs)
    for run in runs:
        run.seconds += seconds * run.pixels / pixels


class _Writers:
    """Threads that write. Nothing queues before them: `submit` waits until one is free."""

    def __init__(self):
        self._pool = ThreadPoolExecutor(_WRITERS)
        self._free = threading.Semaphore(_WRITERS)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._pool.shutdown()  # once what was begun is whole, even after an interrupt

    def submit(self, write):
        self._free.acquire()
        future = self._pool.submit(write)
        future.add_done_callback(lambda _: self._free.release())
        return future


class _Run:
    """A task under way. What goes wrong is kept until its turn to be reported."""

    def __init__(self, task):
        self.task = task
        self.seconds = 0.0  # spent on it, but for what `code` and the writing take
        self._parts = []  # futures
        self._fault = None
        self._started = self._finished = 0.0

    @property
    def pixels(self):
        return self.task.pixels

    @property
    def is_small(self):
        return self.pixels <= _SMALL_PIXELS

    @property
    def is_large(self):
        return self.pixels > _LARGE_PIXELS

    @property
    def failed(self):
        return self._fault is not None

    @property
    def is_done(self):
        return all(part.done() for part in self._parts)

    def read(self):
        start = time.monotonic()
        with self._keep_fault():
            self.task.read()
        self.seconds += time.monotonic() - start

    def code(self, writers):
        if self._fault:
            return
        self._started = time.monotonic()
        with self._keep_fault():
            for write in self.task.code():
                timed = functools.partial(self._write, write)
                if self.is_large:
                    timed()
                else:
                    self._parts.append(writers.submit(timed))

    def _write(self, write):
        write()
        self._finished = time.monotonic()

    def report(self, report):
        with _reported(self.task.job, report):
            if self._fault:
                raise self._fault
            for part in self._parts:
                part.result()
            self.task.report(report, self.seconds + self._finished - self._started)

    @contextlib.contextmanager
    def _keep_fault(self):
        try:
            yield
        except (CodecError, MemoryError) as error:
            self._fault = error


def run_all(command, jobs, work, as_json, quiet):
    """Calls `work(job, report)` for each job, goes on after a bad file, returns the exit code.

    Raises:
        PresetError: from `work`; no other file would fare better.
    """
    report = files.Report(command, jobs, as_json, quiet)
    with _progress_bar(jobs) as bar:
        for job in jobs:
            with _reported(job, report):
                work(job, report)
            bar.update()
    return report.exit_code(len(jobs))


def _progress_bar(jobs):
    # disable=None: a bar only where a person watches.
    disable = None if len(jobs) > 1 else True
    return tqdm(total=len(jobs), unit="file", disable=disable, dynamic_ncols=True)


@contextlib.contextmanager
def _reported(job, report):
    """Makes the faults of one file lines of the report."""
    try:
        yield
    except PresetError:
        raise
    except CodecError as error:
        report.failure(job, error)
    except MemoryError:
        report.failure(job, "expected a picture that fits in memory; this one does not")
