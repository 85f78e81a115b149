"""What encode and decode share: which file goes where, and one line per file and fault.

Names: `-` is a standard stream. A folder stands for the files in it and below that the command
reads. Without `--output` a result lies beside its source; with a folder as `--output`, in that
folder, under the path that the source has below the folder it was found in. Names made up here
never replace an existing file unless the user says so; a name that the user gave does.
"""

import contextlib
import dataclasses
import functools
import json
import logging
import os
import sys

from tqdm import tqdm

from rnn_codec import loading, storage
from rnn_codec.errors import CodecError

STREAM = "-"


@dataclasses.dataclass(frozen=True)
class Job:
    """One file to read and one to write."""

    source: str  # a path or `STREAM`
    target: str  # likewise
    folder: str | None = None  # existing; the target's folders below it may be made

    @property
    def name(self):
        return "standard input" if self.source == STREAM else self.source


def plan(inputs, output, extensions, rename, overwrite):
    """The jobs of a command line.

    Args:
        inputs: list of paths, folders or `STREAM`.
        output: path of a file or folder, `STREAM`, or None.
        extensions: set of lower-case extensions that stand for a folder's files.
        rename: function from the name of a source to that of its result.
        overwrite: bool. Whether made-up names may replace files.

    Raises:
        CodecError: nothing to do, or a result would have no place or replace an input.
    """
    found = sources(inputs, extensions)
    into_folder = output is not None and os.path.isdir(output)
    single = len(found) == 1 and not os.path.isdir(inputs[0])
    if output is not None and not into_folder:
        _check_single(output, inputs, single)
    jobs = []
    for source, relative in found:
        if output is not None and not into_folder:
            jobs.append(Job(source, output))
        elif source == STREAM:
            jobs.append(Job(source, _stream_target(output)))
        else:
            folder = output if into_folder else source.removesuffix(relative)
            jobs.append(Job(source, os.path.join(folder, rename(relative)), folder))
            check_free(jobs[-1].target, overwrite)
    _check_clashes(jobs)
    return jobs


def _check_single(output, inputs, single):
    """An output that is no folder takes one result; `CodecError` if it would not do."""
    if single and not output.endswith(os.sep):
        return
    what = inputs[0] if len(inputs) == 1 else f"{len(inputs)} inputs"
    if output == STREAM:
        raise CodecError(
            f"standard output: expected one file to write there, received {what}; name a folder "
            "with --output"
        )
    raise CodecError(
        f"{output}: expected an existing folder to hold the results of {what}; make it first"
    )


def sources(inputs, extensions):
    """Pairs of a source and its path below the folder that was named, for a command line."""
    if not inputs:
        raise CodecError("expected at least one --input (a file, a folder, or - for a stream)")
    return [pair for item in inputs for pair in _expand(item, extensions)]


def _expand(item, extensions):
    """Pairs of a source and its path below the folder that was named."""
    if item == STREAM or not os.path.isdir(item):
        return [(item, os.path.basename(item))]
    pairs = []
    for parent, folders, names in os.walk(item):
        folders.sort()
        for name in sorted(names):
            if os.path.splitext(name)[1].lower() in extensions:
                path = os.path.join(parent, name)
                pairs.append((path, os.path.relpath(path, item)))
    if not pairs:
        raise CodecError(
            f"{item}: expected files with the extensions {', '.join(sorted(extensions))} in this "
            "folder; there are none"
        )
    return pairs


def _stream_target(output):
    if output is not None:
        raise CodecError(f"{output}: is a folder; name a file for what comes from standard input")
    return STREAM


def check_free(path, overwrite):
    """A name that was made up must not replace a file; `CodecError` if it would."""
    if not overwrite and os.path.exists(path):
        raise CodecError(f"{path}: exists already; add --overwrite, or name the file with --output")


def check_no_input(path, taken):
    """A result must not replace one of `real_sources`; `CodecError` if it would."""
    if os.path.realpath(path) in taken:
        raise CodecError(f"{path}: is an input too; name another --output")


def real_sources(jobs):
    """The files that jobs read, whatever links name them: a set of paths."""
    return {os.path.realpath(job.source) for job in jobs if job.source != STREAM}


def _check_clashes(jobs):
    taken, targets = real_sources(jobs), {}
    for job in jobs:
        is_stream = job.target == STREAM
        path = STREAM if is_stream else os.path.realpath(job.target)
        if not is_stream:
            check_no_input(job.target, taken)
        if path in targets:
            raise CodecError(
                f"{'standard output' if is_stream else job.target}: would hold the results of "
                f"{targets[path]} and of {job.name}; give them in two calls, into two folders"
            )
        targets[path] = job.name


def read(job):
    """Bytes of a job's source."""
    if job.source == STREAM:
        return storage.read_stream(sys.stdin.buffer, job.name)
    return storage.read_bytes(job.source)


def write(path, data, folder=None):
    """Writes bytes to a path, whole or not at all, or to standard output.

    Args:
        path: where to, or `STREAM`.
        data: bytes.
        folder: existing folder that the path lies in. Folders between the two are made, as those
            of the input are mirrored; others are not, as their names may be slips.
    """
    if path == STREAM:
        with _standard_output():
            sys.stdout.buffer.write(data)
        return
    if folder is not None:
        parent = os.path.dirname(path) or "."
        try:
            os.makedirs(parent, exist_ok=True)
        except OSError as error:
            raise CodecError(
                f"{path}: expected a folder {parent}, which could not be made "
                f"({error.strerror}); choose another --output"
            ) from error
    storage.write_atomically(path, data)


@contextlib.contextmanager
def _standard_output():
    """Makes what goes wrong there (a reader that left, a full disk) a `CodecError`."""
    try:
        yield
        sys.stdout.flush()
    except OSError as error:
        # Python would try once more when it exits, and add lines of its own.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise CodecError(
            f"standard output: could not be written ({error.strerror}); check what reads it"
        ) from error


class Report:
    """Says what became of each file: on standard output, or on stderr where that carries data."""

    def __init__(self, command, jobs, as_json, quiet):
        self.command = command
        self.as_json = as_json
        self.quiet = quiet
        self.failed = []
        self._data_on_stdout = any(job.target == STREAM for job in jobs)
        if as_json and self._data_on_stdout:
            raise CodecError("expected --json or --output=-, not both: each needs standard output")

    def result(self, line, record):
        """Takes a summary for people and a record for scripts."""
        if self.as_json:
            self._print_record(record)
        elif self._data_on_stdout and not self.quiet:
            _print(line, sys.stderr)
        elif not self.quiet:
            with _standard_output():
                _print(line, sys.stdout)

    def warning(self, job, text):
        _print(f"{self.command}: warning: {_with_name(job, text)}", sys.stderr)

    def failure(self, job, error):
        self.failed.append(job.name)
        _print(f"{self.command}: {_with_name(job, error)}", sys.stderr)
        if self.as_json:
            self._print_record({"input": job.name, "error": str(error)})

    def _print_record(self, record):
        with _standard_output():
            _print(json.dumps(record), sys.stdout)

    def exit_code(self, count):
        if self.failed and count > 1:
            names = ", ".join(self.failed)
            _print(
                f"{self.command}: {len(self.failed)} of {count} files failed: {names}", sys.stderr
            )
        return 1 if self.failed else 0


def _with_name(job, text):
    """Faults of files and pictures start with the name; those of bytes do not know it."""
    return str(text) if str(text).startswith(f"{job.name}: ") else f"{job.name}: {text}"


def _print(text, stream):
    # Names of files may hold what the stream cannot show, even bytes that are no text.
    encoding = stream.encoding or "utf-8"
    tqdm.write(text.encode(encoding, "backslashreplace").decode(encoding), file=stream)


def run_guarded(command, function):
    """The exit code of `function()`, or 1 and one line on stderr for a fault or an interruption."""
    try:
        return function()
    except CodecError as error:
        print(f"{command}: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print(f"{command}: interrupted", file=sys.stderr)
    return 1


@functools.cache
def load_codec(preset, precision="float32"):
    """The codec of a preset's name or folder, loaded when the first picture needs it."""
    load_keras()

    return loading.load(preset, precision)


def load_keras():
    """Imports Keras and its backend without the backend's start-up chatter on stderr.

    TensorFlow 2.21 writes some of it before it has read TF_CPP_MIN_LOG_LEVEL, straight to the file
    descriptor, so that is where it is stopped. Exceptions are not affected.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # JAX tells at first use which accelerators it looked for in vain, and absl shows that.
    logging.getLogger("jax").setLevel(logging.WARNING)
    sys.stderr.flush()
    saved = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        import keras  # noqa: F401
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)
