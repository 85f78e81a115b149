"""Compresses pictures to .rnnc files.

rnnc encode photo.png                               photo.png.rnnc, in a quality that looks clean
rnnc encode photo.png -o photo.rnnc --target_psnr=30
rnnc encode photos -o compressed                    all pictures in a folder
rnnc encode --codec=hybrid --base=webp -q 40 photo.png      networks around a standard codec
"""

import dataclasses
import functools
import os

from rnn_codec import options, presets, wings
from rnn_codec.commands import files, tasks
from rnn_codec.commands.command import Command, refuse_others
from rnn_codec.commands.groups import FileOptions, NetworkOptions
from rnn_codec.errors import CodecError, PresetError
from rnn_codec.options import option
from rnn_codec.pictures import reading, writing
from rnn_codec.targets import Target


@dataclasses.dataclass(frozen=True)
class EncodeOptions(FileOptions):
    """What all codecs' encoders take besides the target."""

    input: tuple[str, ...] = option(
        (),
        "Read this picture, all pictures below this folder, or standard input (-). Arguments "
        "without an option's name are inputs too.",
        repeated=True,
        positional="PICTURE",
    )
    codec: str | None = option(
        None,
        "Use this kind of codec, with its own default preset. By default it is the kind that the "
        "preset is of.",
        choices=lambda: [wing.name for wing in wings.every()],
        common=True,
    )
    strip: bool = option(False, "Leave out the ICC profile, EXIF and XMP, which are kept else.")


@dataclasses.dataclass(frozen=True)
class _Network(NetworkOptions):
    preset: str | None = option(
        None, "Use the preset of this name or in this folder, instead of the default one."
    )


def _modes():
    return {
        wing.name: (EncodeOptions, Target, wing.encode_options, _Network) for wing in wings.every()
    }


def _run(given):
    request = options.make(EncodeOptions, given)
    network = options.make(_Network, given)
    preset, wing = _chosen(request.codec, network.preset)
    other = [w.name for w in wings.every() if set(given) & set(options.names([w.encode_options]))]
    refuse_others(
        given,
        _modes()[wing.name],
        f"with preset {preset!r}",
        f", or name a preset of the {other[0]} codec" if other else "",
    )
    make_task = functools.partial(
        _Encoding,
        request=request,
        load=functools.partial(files.load_codec, preset, network.precision),
        target=options.make(Target, given),
        own=options.as_arguments(options.make(wing.encode_options, given)),
    )
    jobs = files.plan(
        request.input,
        request.output,
        reading.IMAGE_EXTENSIONS,
        lambda name: name + ".rnnc",
        request.overwrite,
    )
    return tasks.run_tasks(COMMAND.name, jobs, make_task, request.json, request.quiet)


def _chosen(codec, preset):
    """The preset's name or folder, and its wing; `PresetError` if it is not of the codec."""
    default = wings.named(codec).default if codec else presets.DEFAULT
    config = presets.load(preset or default, load_weights=False).config
    wing = wings.of(config)
    if codec not in (None, wing.name):
        raise PresetError(
            f"--preset={preset}: expected a preset of the {codec} codec, received one of the "
            f"{wing.name}; name another, or leave out --codec"
        )
    return preset or default, wing


class _Encoding(tasks.Task):
    """A picture on its way into a file."""

    def __init__(self, job, request, load, target, own):
        super().__init__(job)
        self._request = request
        self._load = load  # function without arguments that returns the codec
        self._target = target
        self._own = own  # what the codec's kind takes besides
        self._encoded = None

    def read(self):
        data = files.read(self.job)
        picture = reading.read_picture(data, self._request.max_pixels, name=self.job.name)
        self._picture = writing.without_metadata(picture) if self._request.strip else picture
        self._input_bytes = len(data)
        self.pixels = picture.width * picture.height

    @classmethod
    def code_together(cls, group):
        pictures, first = [task._picture for task in group], group[0]
        encoded = first._load().encode_pictures(pictures, first._target, **first._own)
        for task, result in zip(group, encoded):
            task._encoded = result

    def code(self):
        if self._encoded is None:
            self.code_together([self])
        if isinstance(self._encoded, CodecError):
            raise self._encoded
        yield functools.partial(files.write, self.job.target, self._encoded.data, self.job.folder)

    def report(self, report, seconds):
        encoded = self._encoded
        for warning in encoded.warnings:
            report.warning(self.job, warning)
        record = {
            "input": self.job.name,
            "output": self.job.target,
            "width": self._picture.width,
            "height": self._picture.height,
            "input_bytes": self._input_bytes,
            "output_bytes": len(encoded.data),
            "bits_per_pixel": encoded.bpp,
            **encoded.settings,
            "psnr_db": None if encoded.psnr_db == float("inf") else encoded.psnr_db,
            "ms_ssim": encoded.ms_ssim,
            "seconds": seconds,
            "warnings": list(encoded.warnings),
        }
        quality = f"PSNR {encoded.psnr_db:.2f} dB"
        if encoded.ms_ssim is not None:
            quality += f", MS-SSIM {encoded.ms_ssim:.4f}"
        report.result(
            f"{os.path.basename(self.job.name)}: {self._input_bytes} -> {len(encoded.data)} bytes, "
            f"{encoded.bpp:.3f} bpp, {_in_words(encoded.settings)}, {quality}, {seconds:.1f} s",
            record,
        )


def _in_words(settings):
    if "iterations" in settings:
        count = settings["iterations"]
        return f"{count} iteration{'s' if count > 1 else ''}"
    if "base" in settings:
        return "{base} of quality {quality}, {stored_size} size".format(**settings)
    return ", ".join(f"{name} {value}" for name, value in settings.items())


COMMAND = Command("encode", __doc__, _modes, _run, where="with --codec={}", selector="codec")
