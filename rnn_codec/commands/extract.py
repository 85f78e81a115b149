"""Writes the standard codec's file that a file of the hybrid codec holds.

rnnc extract photo.png.rnnc                         photo.png.jpg, for any viewer
rnnc extract photo.png.rnnc -o - | display
"""

import dataclasses
import functools
import os

from rnn_codec import options
from rnn_codec.commands import files, tasks
from rnn_codec.commands.command import Command, refuse_others, simple
from rnn_codec.commands.groups import FileOptions
from rnn_codec.container import bitstream
from rnn_codec.options import option
from rnn_codec.standard import codecs as base_codecs

_EXTENSION = ".rnnc"


@dataclasses.dataclass(frozen=True)
class ExtractOptions(FileOptions):
    """What is read and written."""

    strict: bool = option(False, "Treat any damage as an error instead of a warning.")


def _run(given):
    refuse_others(given, (ExtractOptions,), "here")
    request = options.make(ExtractOptions, given)
    # The extension is known only once the file was read.
    jobs = files.plan(request.input, request.output, {_EXTENSION}, _stem, overwrite=True)
    extract = functools.partial(_extract, request=request, taken=files.real_sources(jobs))
    return tasks.run_all(COMMAND.name, jobs, extract, request.json, request.quiet)


def _stem(name):
    return name.removesuffix(_EXTENSION)


def _extract(job, report, request, taken):
    limits = bitstream.Limits(max_pixels=request.max_pixels)
    file, extension = base_codecs.extract(files.read(job), request.strict, limits)
    target = job.target
    if job.folder is not None:  # a name made up here
        target += extension
        files.check_free(target, request.overwrite)
        files.check_no_input(target, taken)
    files.write(target, file, job.folder)
    record = {"input": job.name, "output": target, "output_bytes": len(file)}
    report.result(f"{os.path.basename(job.name)}: {target}, {len(file)} bytes", record)


COMMAND = Command("extract", __doc__, simple(ExtractOptions), _run)
