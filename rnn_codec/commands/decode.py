"""Restores pictures from .rnnc files.

rnnc decode photo.rnnc                              photo.png, from all iterations in the file
rnnc decode photo.rnnc -o preview.jpg --iterations=2
rnnc decode photo.rnnc --all_iterations             photo_01.png, photo_02.png, ...
"""

import collections
import dataclasses
import functools
import hashlib
import os

from rnn_codec import loading, options, presets, wings
from rnn_codec.commands import files, formats, tasks
from rnn_codec.commands.command import Command, refuse_others
from rnn_codec.commands.groups import FileOptions, NetworkOptions
from rnn_codec.container import bitstream
from rnn_codec.errors import CodecError
from rnn_codec.frames import ExactFiles
from rnn_codec.options import option
from rnn_codec.pictures import writing

_EXTENSION = ".rnnc"


@dataclasses.dataclass(frozen=True)
class DecodeOptions(FileOptions):
    """What all codecs' decoders take."""

    iterations: int | None = option(
        None,
        "Use only this many iterations. By default all whole ones in the file are used.",
        lower=1,
        common=True,
    )
    all_iterations: bool = option(
        False, "Write a picture for each iteration, with _01, _02 and so on at its name's end."
    )
    format: str | None = option(
        None,
        "Write this format: png, jpeg, webp and so on. By default the output's extension says, or "
        "it is png.",
        common=True,
    )
    strict: bool = option(False, "Treat any damage as an error instead of a warning.")


_GROUPS = (DecodeOptions, NetworkOptions)


def _modes():
    return {wing.name: (*_GROUPS, wing.decode_options) for wing in wings.every()}


def _run(given):
    refuse_others(given, tuple(group for groups in _modes().values() for group in groups), "here")
    request, network = options.make(DecodeOptions, given), options.make(NetworkOptions, given)
    if request.all_iterations and request.iterations is not None:
        raise CodecError("expected --iterations or --all_iterations, received both; drop one")
    # The numbered names are checked once their number is known.
    overwrite = request.overwrite or request.all_iterations
    rename = functools.partial(_rename, image_format=request.format)
    jobs = files.plan(request.input, request.output, {_EXTENSION}, rename, overwrite)
    make_task = functools.partial(
        _Decoding,
        request=request,
        network=network,
        given=given,
        taken=files.real_sources(jobs),
    )
    return tasks.run_tasks(COMMAND.name, jobs, make_task, request.json, request.quiet)


def _rename(name, image_format):
    """photo.rnnc -> photo.png, photo.jpg.rnnc -> photo.jpg.png: never the encoder's own input."""
    return f"{name.removesuffix(_EXTENSION)}.{formats.extension_of(image_format)}"


def _own_options(given, preset):
    """What the decoder takes besides, for files of a preset; `CodecError` for what it does not."""
    wing = wings.of(presets.load(preset, load_weights=False).config)
    refuse_others(given, _modes()[wing.name], f"with files of the {wing.name} codec")
    return options.as_arguments(options.make(wing.decode_options, given))


class _Decoding(tasks.Task):
    """A file on its way to one picture or several."""

    def __init__(self, job, request, network, given, taken):
        super().__init__(job)
        self._request = request
        self._network = network
        self._given = given  # of which the options of the codec's kind are taken
        self._taken = taken
        self._limits = bitstream.Limits(max_pixels=request.max_pixels)
        self._counts = "all" if request.all_iterations else None
        if request.iterations is not None:
            self._counts = [request.iterations]
        self._pictures = None
        self._preset, self._own = None, {}  # as a file needs that has its pixels exactly

    def read(self):
        if self._request.all_iterations and self.job.target == files.STREAM:
            raise CodecError(
                "expected a file for --all_iterations, which writes several; not a stream"
            )
        self._format = formats.of(self.job.target, self._request.format)
        self._data = files.read(self.job)
        contents = bitstream.read(self._data, self._request.strict, self._limits)
        formats.check(self._format, contents.header.is_rgb, contents.alpha is not None)
        if contents.lossless is None:
            self._preset = self._network.preset or loading.preset_of(contents.header.model_id)
            self._own = _own_options(self._given, self._preset)
        self._targets = self._numbered_targets(contents.iterations)
        self.pixels = contents.header.width * contents.header.height

    def _load(self):
        if self._preset is None:
            return ExactFiles()
        return files.load_codec(self._preset, self._network.precision)

    def _numbered_targets(self, held):
        """The file for each count of iterations to decode, of those that the source holds."""
        if not self._request.all_iterations:
            return {self._request.iterations or held: self.job.target}
        targets = {count: _numbered(self.job.target, count) for count in range(1, held + 1)}
        for target in targets.values():
            files.check_free(target, self._request.overwrite)
            files.check_no_input(target, self._taken)
        return targets

    @classmethod
    def code_together(cls, group):
        by_preset = collections.defaultdict(list)
        for task in group:
            by_preset[task._preset].append(task)
        for group in by_preset.values():
            first, data = group[0], [task._data for task in group]
            decoded = first._load().decode_pictures(data, *first._arguments(), **first._own)
            for task, pictures in zip(group, decoded):
                task._pictures = pictures

    def code(self):
        codec, pictures = self._load(), self._pictures
        if pictures is None:
            # One after the other: all the pictures of a large file may be more than memory holds.
            pictures = codec.decode_picture(self._data, *self._arguments(), **self._own)
        elif isinstance(pictures, CodecError):
            raise pictures
        for count, picture in pictures:
            yield functools.partial(self._write, picture, self._targets[count])
        self._picture, self._pictures = picture, None
        self._hash = None
        if self._request.json:
            self._hash = _hash(codec, self._data, count, self._limits)

    def _arguments(self):
        """What all codecs' `decode_picture` take after the bytes."""
        return self._counts, self._request.strict, self._limits

    def _write(self, picture, target):
        files.write(target, writing.picture_bytes(picture, self._format), self.job.folder)

    def report(self, report, seconds):
        picture, counts = self._picture, list(self._targets)
        warnings = [*picture.warnings, *formats.losses(picture, self._format)]
        for warning in warnings:
            report.warning(self.job, warning)
        span = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else f"{counts[0]}"
        record = {
            "input": self.job.name,
            "outputs": [
                {"iterations": count, "output": target} for count, target in self._targets.items()
            ],
            "width": picture.width,
            "height": picture.height,
            "mode": picture.mode,
            "input_bytes": len(self._data),
            "planes_sha256": self._hash,
            "seconds": seconds,
            "warnings": warnings,
        }
        report.result(
            f"{os.path.basename(self.job.name)}: {picture.width} x {picture.height} "
            f"{picture.mode}, iterations {span}, {seconds:.1f} s",
            record,
        )


def _hash(codec, data, count, limits):
    """SHA-256 of the decoded bits, one byte each: what must be equal on every machine."""
    planes = codec.read_planes(data, count, limits)
    return hashlib.sha256(b"".join(plane.tobytes() for plane in planes)).hexdigest()


def _numbered(path, count):
    stem, extension = os.path.splitext(path)
    return f"{stem}_{count:02d}{extension}"


COMMAND = Command("decode", __doc__, _modes, _run, where="with files of the {} codec")
