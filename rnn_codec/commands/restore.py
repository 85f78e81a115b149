"""Improves pictures that a standard codec has stored, by a network.

rnnc restore old.jpg                                old.restored.png
rnnc restore photos -o restored                     all pictures in a folder
"""

import dataclasses
import functools
import os

from rnn_codec import options, presets, wings
from rnn_codec.commands import files, formats, tasks
from rnn_codec.commands.command import Command, refuse_others, simple
from rnn_codec.commands.groups import FileOptions, NetworkOptions
from rnn_codec.errors import PresetError
from rnn_codec.options import option
from rnn_codec.pictures import reading, writing


@dataclasses.dataclass(frozen=True)
class RestoreOptions(FileOptions):
    """What is read and written."""

    input: tuple[str, ...] = option(
        (),
        "Read this picture, all pictures below this folder, or standard input (-). Arguments "
        "without an option's name are inputs too.",
        repeated=True,
        positional="PICTURE",
    )
    format: str | None = option(
        None,
        "Write this format: png, jpeg, webp and so on. By default the output's extension says, or "
        "it is png.",
        common=True,
    )


@dataclasses.dataclass(frozen=True)
class _Network(NetworkOptions):
    preset: str | None = option(
        None, "Use the preset of this name or in this folder, instead of the default one."
    )


def _run(given):
    refuse_others(given, (RestoreOptions, _Network), "here")
    request, network = options.make(RestoreOptions, given), options.make(_Network, given)
    jobs = files.plan(
        request.input,
        request.output,
        reading.IMAGE_EXTENSIONS,
        lambda name: _rename(name, request.format),
        request.overwrite,
    )
    load = functools.partial(files.load_codec, _chosen(network.preset), network.precision)
    make_task = functools.partial(_Restoring, request=request, load=load)
    return tasks.run_tasks(COMMAND.name, jobs, make_task, request.json, request.quiet)


def _rename(name, image_format):
    """photo.jpg -> photo.restored.png: never a picture that was there before."""
    return f"{os.path.splitext(name)[0]}.restored.{formats.extension_of(image_format)}"


def _chosen(preset):
    """The preset's name or folder; `PresetError` if its codec restores no pictures."""
    restoring = next(wing for wing in wings.every() if wing.restores)
    wing = wings.of(presets.load(preset or restoring.default, load_weights=False).config)
    if not wing.restores:
        raise PresetError(
            f"--preset={preset}: expected a preset of the {restoring.name} codec, received one of "
            f"the {wing.name}; name another"
        )
    return preset or restoring.default


class _Restoring(tasks.Task):
    """A picture that a standard codec has stored, on its way through RecCNN."""

    def __init__(self, job, request, load):
        super().__init__(job)
        self._request = request
        self._load = load  # function without arguments that returns the codec

    def read(self):
        self._format = formats.of(self.job.target, self._request.format)
        data = files.read(self.job)
        self._picture = reading.read_picture(data, self._request.max_pixels, name=self.job.name)
        self._quality = reading.jpeg_quality(data)
        formats.check(self._format, self._picture.is_rgb, self._picture.alpha is not None)
        self.pixels = self._picture.width * self._picture.height

    def code(self):
        codec = self._load()
        self._picture = codec.restore_picture(self._picture, jpeg_quality=self._quality)
        data = writing.picture_bytes(self._picture, self._format)
        yield functools.partial(files.write, self.job.target, data, self.job.folder)

    def report(self, report, seconds):
        picture = self._picture
        warnings = [*picture.warnings, *formats.losses(picture, self._format)]
        for warning in warnings:
            report.warning(self.job, warning)
        record = {
            "input": self.job.name,
            "output": self.job.target,
            "width": picture.width,
            "height": picture.height,
            "mode": picture.mode,
            "seconds": seconds,
            "warnings": warnings,
        }
        report.result(
            f"{os.path.basename(self.job.name)}: {picture.width} x {picture.height} "
            f"{picture.mode}, restored, {seconds:.1f} s",
            record,
        )


COMMAND = Command("restore", __doc__, simple(RestoreOptions, _Network), _run)
