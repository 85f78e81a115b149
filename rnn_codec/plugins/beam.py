"""Pictures of a whole folder or bucket, encoded or decoded by an Apache Beam pipeline.

The launching process lists the files and names the results, so whatever is wrong with the names
shows before any work; it imports no Keras. Workers read, convert and write, through Beam's file
systems: local folders, and the buckets that the extras of apache-beam bring. Each worker process
loads the network once.

What this module promises:
  * A bad file is a row with an error in the table, and the others go on.
  * A result appears under its name whole or not at all, as far as the file system can rename.
  * A bundle that a runner tries again gives the same results in the same places.

Example:
    encoding = beam.Encoding(target=Target(target_bpp=0.5))
    count, failed = beam.run(encoding, ["gs://bucket/photos"], "gs://bucket/codes")
"""

import contextlib
import csv
import dataclasses
import glob
import io
import os
import re
import secrets
import threading
import time

import apache_beam
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.utils.shared import Shared

from rnn_codec import loading, presets
from rnn_codec.container import bitstream
from rnn_codec.errors import CodecError, one_line
from rnn_codec.pictures import reading, writing
from rnn_codec.targets import Target

TABLE = "results.csv"

# Beam's default is to compress and expand by the name of a file.
_AS_IS = CompressionTypes.UNCOMPRESSED

# One picture at a time: a worker process may have a dozen threads, and the network's memory grows
# with each picture in it. Reading and writing go on beside it.
_NETWORK = threading.Lock()


@dataclasses.dataclass(frozen=True)
class Job:
    """One file to read and one to write."""

    source: str
    target: str


@dataclasses.dataclass(frozen=True)
class FileResult:
    """A row of the table. Of a failed file only names, seconds and error are known."""

    input: str
    output: str
    width: int | None = None
    height: int | None = None
    iterations: int | None = None
    input_bytes: int | None = None
    output_bytes: int | None = None
    bits_per_pixel: float | None = None  # of the .rnnc file
    psnr_db: float | None = None  # of encoding; inf for equal pictures
    ms_ssim: float | None = None  # of encoding; None for a side below 161 pixels
    seconds: float | None = None  # of reading, converting and writing
    warnings: str | None = None
    error: str | None = None


@dataclasses.dataclass(frozen=True)
class Encoding:
    """Pictures become `.rnnc` files.

    Args:
        preset: str. Name, or a folder that every worker can read. Defaults to the default preset.
        target: `Target`.
        options: dictionary. What the codec's `encode_picture` takes besides.
        max_pixels: int. Pictures with more are refused.
    """

    preset: str | None = None
    target: Target = Target()
    options: dict = dataclasses.field(default_factory=dict)
    max_pixels: int = reading.DEFAULT_MAX_PIXELS

    @property
    def extensions(self):
        return reading.IMAGE_EXTENSIONS

    def rename(self, name):
        return f"{name}.rnnc"

    def convert(self, codec, data, name):
        """The bytes of the result, and the columns of the table that tell of it."""
        picture = reading.read_picture(data, self.max_pixels, name)
        with _NETWORK:
            encoded = codec.encode_picture(picture, self.target, **self.options)
        return encoded.data, {
            "width": picture.width,
            "height": picture.height,
            "iterations": encoded.iterations,
            "bits_per_pixel": encoded.bpp,
            "psnr_db": encoded.psnr_db,
            "ms_ssim": encoded.ms_ssim,
            "warnings": "; ".join(encoded.warnings),
        }


@dataclasses.dataclass(frozen=True)
class Decoding:
    """`.rnnc` files become pictures.

    Args:
        preset: str. Name, or a folder that every worker can read. Defaults to the default preset.
        iterations: int. Defaults to all whole ones of each file.
        image_format: str. "png", "jpeg", "webp", ...
        strict: bool. Whether any damage is an error.
        max_pixels: int. Files that declare more are refused.
    """

    preset: str | None = None
    iterations: int | None = None
    image_format: str = "png"
    strict: bool = False
    max_pixels: int = reading.DEFAULT_MAX_PIXELS

    @property
    def extensions(self):
        return {".rnnc"}

    def rename(self, name):
        return f"{os.path.splitext(name)[0]}.{self.image_format}"

    def convert(self, codec, data, name):
        """The bytes of the result, and the columns of the table that tell of it."""
        del name  # faults of containers do not repeat it
        counts = None if self.iterations is None else [self.iterations]
        limits = bitstream.Limits(max_pixels=self.max_pixels)
        with _NETWORK:
            ((count, picture),) = codec.decode_picture(data, counts, self.strict, limits)
        return writing.picture_bytes(picture, self.image_format), {
            "width": picture.width,
            "height": picture.height,
            "iterations": count,
            "bits_per_pixel": 8 * len(data) / (picture.width * picture.height),
            "warnings": "; ".join(picture.warnings),
        }


def run(operation, inputs, output, table=None, overwrite=False, options=None):
    """Converts everything under some prefixes and writes a table of what came of it.

    Args:
        operation: `Encoding` or `Decoding`.
        inputs: list of str. Folders, prefixes, files or patterns as of `FileSystems.match`.
        output: str. Folder of the results, which lie in it as the sources lie in theirs.
        table: str. The CSV file to write, a `FileResult` in each row, sorted by `input`. Defaults
            to `TABLE` in `output`.
        overwrite: bool. Whether results and table may replace files.
        options: `PipelineOptions`. Defaults to those of Beam.

    Returns:
        The number of files, and the number of those that failed.

    Raises:
        CodecError: the inputs cannot be listed, or a result would have no place.
        PresetError: there is no such preset on this machine.
    """
    options = options or PipelineOptions()
    FileSystems.set_options(options)
    presets.load(operation.preset)  # no file would fare well without
    table = _absolute(table or FileSystems.join(output, TABLE))
    jobs = plan(operation, inputs, output, overwrite)
    if not overwrite and FileSystems.exists(table):
        raise CodecError(f"{table}: exists already; add --overwrite, or name another --table")
    with apache_beam.Pipeline(options=options) as pipeline:
        results = pipeline | apache_beam.Create(jobs) | ConvertFiles(operation)
        results | apache_beam.combiners.ToList() | apache_beam.Map(_write_table, table)
    rows = list(csv.DictReader(io.StringIO(_read(table).decode())))
    return len(rows), sum(bool(row["error"]) for row in rows)


class ConvertFiles(apache_beam.PTransform):
    """From a collection of `Job` to one of `FileResult`, by an `Encoding` or `Decoding`."""

    def __init__(self, operation):
        super().__init__()
        self._operation = operation

    def expand(self, jobs):
        # Reshuffled: else the runner would fuse this to the one process that makes the list.
        return jobs | apache_beam.Reshuffle() | apache_beam.ParDo(_Convert(self._operation))


class _Convert(apache_beam.DoFn):
    def __init__(self, operation):
        self._operation = operation
        self._handle = Shared()  # one codec for all threads of a process

    def setup(self):
        self._codec = self._handle.acquire(self._load_codec)

    def _load_codec(self):
        return loading.load(self._operation.preset)

    def process(self, job):
        start = time.monotonic()
        try:
            columns = self._convert(job)
        except CodecError as error:
            columns = {"error": str(error)}
        except MemoryError:
            columns = {"error": "expected a picture that fits in memory; this one does not"}
        seconds = time.monotonic() - start
        yield FileResult(job.source, job.target, seconds=seconds, **columns)

    def _convert(self, job):
        data = _read(job.source)
        result, columns = self._operation.convert(self._codec, data, job.source)
        _write(job.target, result)
        return {"input_bytes": len(data), "output_bytes": len(result), **columns}


# --- Names --------------------------------------------------------------------------------------


def plan(operation, inputs, output, overwrite):
    """The jobs for everything under some prefixes; arguments and faults as for `run`."""
    output = _absolute(output)
    jobs = {}
    for source, relative in _sources(inputs, operation.extensions):
        target = FileSystems.join(output, operation.rename(relative))
        if target in jobs:
            raise CodecError(
                f"{target}: would hold the results of {jobs[target].source} and of {source}; "
                "give them in two calls, into two folders"
            )
        jobs[target] = Job(source, target)
    if not overwrite:
        existing = jobs.keys() & set(_match(f"{glob.escape(output)}/**"))
        if existing:
            raise CodecError(
                f"{min(existing)}: exists already; add --overwrite, or name another --output"
            )
    return list(jobs.values())


def _sources(inputs, extensions):
    """Pairs of a file and its path below the folder that was named."""
    for pattern in inputs:
        folder, paths = _expand(_absolute(pattern))
        paths = [path for path in paths if os.path.splitext(path)[1].lower() in extensions]
        if not paths:
            raise CodecError(
                f"{pattern}: expected files with the extensions {', '.join(sorted(extensions))} "
                "there; there are none"
            )
        for path in paths:
            yield path, path.removeprefix(folder).lstrip("/")


def _expand(pattern):
    """The folder that a pattern's names are relative to, and the files it stands for."""
    if glob.has_magic(pattern) and not os.path.exists(pattern):
        return os.path.dirname(re.split(r"[*?[]", pattern)[0]), _match(pattern)
    below = _match(f"{glob.escape(pattern)}/**")
    return (pattern, below) if below else (os.path.dirname(pattern), _match(glob.escape(pattern)))


def _absolute(path):
    """A path for workers in other working folders; an address but without slashes at its end."""
    return path.rstrip("/") if FileSystems.get_scheme(path) else os.path.abspath(path)


def _match(pattern):
    """The sorted files of a pattern."""
    try:
        (found,) = FileSystems.match([pattern])
    except Exception as error:
        raise CodecError(
            f"{pattern}: could not be listed ({one_line(error)}); check the name, your access, "
            "and that the extra of apache-beam for this storage is installed"
        ) from error
    return sorted(metadata.path for metadata in found.metadata_list)


# --- Files --------------------------------------------------------------------------------------
# The clients behind `FileSystems` raise exceptions of their own kinds, hence the broad excepts.


def _read(path):
    try:
        with FileSystems.open(path, compression_type=_AS_IS) as file:
            return file.read()
    except Exception as error:
        raise CodecError(
            f"{path}: expected a readable file, received an error ({one_line(error)}); check it"
        ) from error


def _write(path, data):
    """Writes a file under another name first, and makes the folders above it."""
    folder, _ = FileSystems.split(path)
    temporary = FileSystems.join(folder, f".rnn_codec-{secrets.token_hex(8)}.tmp")
    try:
        with FileSystems.create(temporary, compression_type=_AS_IS) as file:
            file.write(data)
        FileSystems.rename([temporary], [path])
    except Exception as error:
        with contextlib.suppress(Exception):
            FileSystems.delete([temporary])
        raise CodecError(
            f"{path}: could not be written ({one_line(error)}); check the folder and its space"
        ) from error


def _write_table(results, path):
    text = io.StringIO()
    columns = [field.name for field in dataclasses.fields(FileResult)]
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(map(vars, sorted(results, key=lambda result: result.input)))
    # Names of files may hold bytes that are no text.
    _write(path, text.getvalue().encode("utf-8", "backslashreplace"))
