"""Restores pictures from .rnnc files, at any number of iterations that they hold.

decode.py --input=photo.rnnc                                all iterations, photo.png
decode.py --input=photo.rnnc --output=preview.jpg --iterations=2
decode.py --input=photo.rnnc --all_iterations               photo_01.png, photo_02.png, ...
decode.py --info photo.rnnc                                 what is in it; loads no network
decode.py --extract photo.rnnc                              photo.jpg, of the hybrid codec's files
decode.py --restore photo.jpg                               photo.restored.png, of any JPEG file
"""

import collections
import functools
import hashlib
import os

from absl import app, flags
import numpy as np

from rnn_codec import loading, wings
from rnn_codec.commands import files, tasks
from rnn_codec.container import bitstream
from rnn_codec.errors import CodecError, PresetError
from rnn_codec.pictures import reading, writing
from rnn_codec.pictures.picture import picture_from_array
from rnn_codec.standard import codecs as base_codecs

_INPUT = flags.DEFINE_multi_string(
    "input", [], "File, folder of files, or - for standard input. Names without a flag count too."
)
_OUTPUT = flags.DEFINE_string(
    "output", None, "File or existing folder, or -. Defaults to the input's name with .png."
)
_FORMAT = flags.DEFINE_string(
    "format", None, "png, jpeg, webp, ... Defaults to the output's extension, or png."
)
_ITERATIONS = flags.DEFINE_integer(
    "iterations", None, "Use only this many. Defaults to all whole ones in the file.", 1
)
_ALL = flags.DEFINE_bool(
    "all_iterations", False, "Write a picture for each iteration; _01, _02, ... end its name."
)
_INFO = flags.DEFINE_bool("info", False, "Say what the file holds, and write nothing.")
_EXTRACT = flags.DEFINE_bool(
    "extract", False, "Write the standard codec's file that a hybrid codec's file holds."
)
_RESTORE = flags.DEFINE_bool(
    "restore", False, "Take pictures instead of .rnnc files, and let RecCNN alone restore them."
)
_STRICT = flags.DEFINE_bool("strict", False, "Any damage is an error, not a warning.")
_PRESET = flags.DEFINE_string("preset", None, "Name or folder. Defaults to the product's preset.")
_MAX_PIXELS = flags.DEFINE_integer(
    "max_pixels", 89_478_485, "Refuse files that declare more pixels than this.", 1
)
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace files whose names were not given.")
_PRECISION = flags.DEFINE_enum(
    "precision",
    "auto",
    ["auto", "float32", "bfloat16"],
    "To compute pixels in. Auto is bfloat16 where the processor multiplies in it.",
)
_ARITHMETIC = flags.DEFINE_enum(
    "arithmetic",
    "numpy",
    ["numpy", "keras", "definition"],
    "Of the context model: float32 on the CPU, on Keras' device, or slow integers. The bits are "
    "the same.",
)
_JSON = flags.DEFINE_bool("json", False, "Print one JSON object per file on standard output.")
_QUIET = flags.DEFINE_bool("quiet", False, "No summary lines.")

_EXTENSION = ".rnnc"


def main(argv):
    return files.run_guarded("decode", functools.partial(_run, argv))


def _run(argv):
    inputs = [*_INPUT.value, *argv[1:]]
    if _ALL.value and _ITERATIONS.value is not None:
        raise CodecError("expected --iterations or --all_iterations, received both; drop one")
    _check_modes()
    if _INFO.value:
        jobs = [files.Job(source, "") for source, _ in files.sources(inputs, {_EXTENSION})]
        return tasks.run_all("decode", jobs, _print_info, _JSON.value, quiet=False)
    if _EXTRACT.value:
        # The extension is known only once the file was read.
        jobs = files.plan(inputs, _OUTPUT.value, {_EXTENSION}, _stem, overwrite=True)
        extract = functools.partial(_extract, taken=files.real_sources(jobs))
        return tasks.run_all("decode", jobs, extract, _JSON.value, _QUIET.value)
    if _RESTORE.value:
        extensions = _picture_extensions()
        jobs = files.plan(inputs, _OUTPUT.value, extensions, _rename_restored, _OVERWRITE.value)
        return tasks.run_tasks("decode", jobs, _Restoring, _JSON.value, _QUIET.value)
    # The numbered names are checked once their number is known.
    overwrite = _OVERWRITE.value or _ALL.value
    jobs = files.plan(inputs, _OUTPUT.value, {_EXTENSION}, _rename, overwrite)
    make_task = functools.partial(_Decoding, taken=files.real_sources(jobs))
    return tasks.run_tasks("decode", jobs, make_task, _JSON.value, _QUIET.value)


def _rename(name):
    """photo.rnnc -> photo.png, photo.jpg.rnnc -> photo.jpg.png: never the encoder's own input."""
    return f"{name.removesuffix(_EXTENSION)}.{(_FORMAT.value or 'png').removeprefix('.')}"


def _stem(name):
    return name.removesuffix(_EXTENSION)


def _rename_restored(name):
    """photo.jpg -> photo.restored.png: never a picture that was there before."""
    extension = (_FORMAT.value or "png").removeprefix(".")
    return f"{os.path.splitext(name)[0]}.restored.{extension}"


def _picture_extensions():
    return reading.IMAGE_EXTENSIONS


def _check_modes():
    modes = {"info": _INFO, "extract": _EXTRACT, "restore": _RESTORE, "all_iterations": _ALL}
    given = [f"--{name}" for name, flag in modes.items() if flag.value]
    if len(given) > 1:
        raise CodecError(f"expected one of {', '.join(given)}, received {len(given)}; keep one")


def _extract(job, report, taken):
    limits = bitstream.Limits(max_pixels=_MAX_PIXELS.value)
    file, extension = base_codecs.extract(files.read(job), _STRICT.value, limits)
    target = job.target
    if job.folder is not None:  # a name made up here
        target += extension
        files.check_free(target, _OVERWRITE.value)
        files.check_no_input(target, taken)
    files.write(target, file, job.folder)
    record = {"input": job.name, "output": target, "output_bytes": len(file)}
    report.result(f"{os.path.basename(job.name)}: {target}, {len(file)} bytes", record)


def _print_info(job, report):
    info = base_codecs.read_info(files.read(job))
    for warning in info.warnings:
        report.warning(job, warning)
    sizes = " ".join(str(size) for size in info.bytes_at_iteration)
    metadata = ", ".join(f"{name} {size} bytes" for name, size in info.metadata.items())
    lines = [
        f"{job.name}: {info.width} x {info.height} {info.mode}, {info.file_bytes} bytes, "
        f"{info.bits_per_pixel:.3f} bpp",
        f"  iterations: {info.iterations} of {info.iterations_written}, "
        f"coders: {' '.join(info.coders)}",
        f"  bytes up to each iteration: {sizes}",
        f"  model {info.model_id}, format version {info.format_version}",
    ]
    if metadata:
        lines.append(f"  metadata: {metadata}")
    if info.alpha_bytes is not None:
        lines.append(f"  alpha: {info.alpha_bytes} bytes")
    if info.strength is not None:
        share = info.strength / bitstream.FULL_STRENGTH
        lines.append(f"  strength: {share:.2f} of RecCNN's residual")
    kind = base_codecs.CODECS.get(info.coders[0])
    if kind and info.quality_level is not None:
        lines.append(f"  quality of {kind.name}: {kind.quality_of(info.quality_level)}")
    report.result("\n".join(lines), {"input": job.name, **info.as_dict()})


class _Decoding(tasks.Task):
    """A file on its way to one picture or several."""

    def __init__(self, job, taken):
        super().__init__(job)
        self._taken = taken
        self._limits = bitstream.Limits(max_pixels=_MAX_PIXELS.value)
        self._pictures = None

    def read(self):
        self._format = _image_format(self.job)
        self._data = files.read(self.job)
        contents = bitstream.read(self._data, _STRICT.value, self._limits)
        _check_format(self._format, contents.header.is_rgb, contents.alpha is not None)
        self._preset = _preset_of(contents)
        self._targets = _targets(self.job, len(contents.planes), self._taken)
        self.pixels = contents.header.width * contents.header.height

    @classmethod
    def code_together(cls, group):
        by_preset = collections.defaultdict(list)
        for task in group:
            by_preset[task._preset].append(task)
        for preset, group in by_preset.items():
            codec = _load_codec(preset)
            data = [task._data for task in group]
            decoded = codec.decode_pictures(data, _counts(), _STRICT.value, group[0]._limits)
            for task, pictures in zip(group, decoded):
                task._pictures = pictures

    def code(self):
        codec = _load_codec(self._preset)
        pictures = self._pictures
        if pictures is None:
            # One after the other: all the pictures of a large file may be more than memory holds.
            pictures = codec.decode_picture(self._data, _counts(), _STRICT.value, self._limits)
        elif isinstance(pictures, CodecError):
            raise pictures
        for count, picture in pictures:
            yield functools.partial(self._write, picture, self._targets[count])
        self._picture, self._pictures = picture, None
        self._hash = None
        if _JSON.value:
            self._hash = _hash(codec, self._data, count, self._limits)

    def _write(self, picture, target):
        files.write(target, writing.picture_bytes(picture, self._format), self.job.folder)

    def report(self, report, seconds):
        picture, counts = self._picture, list(self._targets)
        warnings = [*picture.warnings, *self._losses()]
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

    def _losses(self):
        return _losses(self._picture, self._format)


class _Restoring(tasks.Task):
    """A picture that a standard codec has stored, on its way through RecCNN."""

    def read(self):
        self._format = _image_format(self.job)
        data = files.read(self.job)
        self._picture = reading.read_picture(data, _MAX_PIXELS.value, name=self.job.name)
        self._quality = reading.jpeg_quality(data)
        _check_format(self._format, self._picture.is_rgb, self._picture.alpha is not None)
        self.pixels = self._picture.width * self._picture.height

    def code(self):
        restoring = [wing for wing in wings.every() if wing.restores]
        preset = _PRESET.value or restoring[0].default
        codec = files.load_codec(preset, precision=_PRECISION.value)
        wing = wings.of(codec.config)
        if not wing.restores:
            raise PresetError(
                f"--preset={preset}: expected a preset of the {restoring[0].name} codec, received "
                f"one of the {wing.name}; name another"
            )
        self._picture = codec.restore_picture(self._picture, jpeg_quality=self._quality)
        data = writing.picture_bytes(self._picture, self._format)
        yield functools.partial(files.write, self.job.target, data, self.job.folder)

    def report(self, report, seconds):
        picture = self._picture
        warnings = [*picture.warnings, *_losses(picture, self._format)]
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


def _losses(picture, image_format):
    lost = writing.unstored_metadata(picture, image_format)
    return [f"{image_format} cannot hold the {', '.join(lost)}; left out"] if lost else []


def _load_codec(preset):
    return files.load_codec(preset, _ARITHMETIC.value, _PRECISION.value)


def _counts():
    """The iterations to decode of each file, as `decode_picture` takes them."""
    return "all" if _ALL.value else _ITERATIONS.value and [_ITERATIONS.value]


def _preset_of(contents):
    """The preset to decode with, as given or as the file says."""
    return _PRESET.value or loading.preset_of(contents.header.model_id)


def _hash(codec, data, count, limits):
    """SHA-256 of the decoded bits, one byte each: what must be equal on every machine."""
    planes = codec.read_planes(data, count, limits)
    return hashlib.sha256(b"".join(plane.tobytes() for plane in planes)).hexdigest()


def _targets(job, held, taken):
    """The file for each count of iterations to decode, of those that the source holds."""
    if not _ALL.value:
        return {_ITERATIONS.value or held: job.target}
    targets = {count: _numbered(job.target, count) for count in range(1, held + 1)}
    for target in targets.values():
        files.check_free(target, _OVERWRITE.value)
        files.check_no_input(target, taken)
    return targets


def _image_format(job):
    if _ALL.value and job.target == files.STREAM:
        raise CodecError("expected a file for --all_iterations, which writes several; not a stream")
    extension = os.path.splitext(job.target)[1].removeprefix(".")
    return _FORMAT.value or extension or "png"


def _check_format(image_format, is_rgb, has_alpha):
    """Raises what writing the picture would raise, before the network has run."""
    channels = (3 if is_rgb else 1) + has_alpha
    pixel = picture_from_array(np.zeros((1, 1, channels), np.uint8))
    writing.picture_bytes(pixel, image_format)


def _numbered(path, count):
    stem, extension = os.path.splitext(path)
    return f"{stem}_{count:02d}{extension}"


def run():
    """The installed command."""
    files.show_help_of(__name__)
    app.run(main)
