"""Restores pictures from .rnnc files, at any number of iterations that they hold.

decode.py --input=photo.rnnc                                all iterations, photo.png
decode.py --input=photo.rnnc --output=preview.jpg --iterations=2
decode.py --input=photo.rnnc --all_iterations               photo_01.png, photo_02.png, ...
decode.py --info photo.rnnc                                 what is in it; loads no network
"""

import functools
import hashlib
import os

from absl import app, flags

from rnn_codec import bitstream
from rnn_codec.commands import files
from rnn_codec.errors import CodecError

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
    if _INFO.value:
        jobs = [files.Job(source, "") for source, _ in files.sources(inputs, {_EXTENSION})]
        return files.run_all("decode", jobs, _print_info, _JSON.value, quiet=False)
    # The numbered names are checked once their number is known.
    overwrite = _OVERWRITE.value or _ALL.value
    jobs = files.plan(inputs, _OUTPUT.value, {_EXTENSION}, _rename, overwrite)
    make_task = functools.partial(_Decoding, taken=files.real_sources(jobs))
    return files.run_tasks("decode", jobs, make_task, _JSON.value, _QUIET.value)


def _rename(name):
    """photo.rnnc -> photo.png, photo.jpg.rnnc -> photo.jpg.png: never the encoder's own input."""
    return f"{name.removesuffix(_EXTENSION)}.{(_FORMAT.value or 'png').removeprefix('.')}"


def _print_info(job, report):
    info = bitstream.read_info(files.read(job))
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
    report.result("\n".join(lines), {"input": job.name, **info.as_dict()})


class _Decoding(files.Task):
    """A file on its way to one picture or several."""

    def __init__(self, job, taken):
        super().__init__(job)
        self._taken = taken
        self._limits = bitstream.Limits(max_pixels=_MAX_PIXELS.value)

    def read(self):
        self._format = _image_format(self.job)
        self._data = files.read(self.job)
        contents = bitstream.read(self._data, _STRICT.value, self._limits)
        _check_format(self._format, contents)
        self._targets = _targets(self.job, len(contents.planes), self._taken)
        self.pixels = contents.header.width * contents.header.height

    def code(self):
        codec = files.load_codec(_PRESET.value, _ARITHMETIC.value, _PRECISION.value)
        counts = list(self._targets)
        for count, picture in codec.decode_picture(self._data, counts, _STRICT.value, self._limits):
            yield functools.partial(self._write, picture, self._targets[count])
        self._picture = picture
        self._hash = None
        if _JSON.value:
            self._hash = _hash(codec, self._data, counts[-1], self._limits)

    def _write(self, picture, target):
        from rnn_codec import image_io

        files.write(target, image_io.picture_bytes(picture, self._format), self.job.folder)

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
        from rnn_codec import image_io

        lost = image_io.unstored_metadata(self._picture, self._format)
        return [f"{self._format} cannot hold the {', '.join(lost)}; left out"] if lost else []


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


def _check_format(image_format, contents):
    """Raises what writing the picture would raise, before the network has run."""
    import numpy as np

    from rnn_codec import image_io

    channels = (3 if contents.header.is_rgb else 1) + (contents.alpha is not None)
    pixel = image_io.picture_from_array(np.zeros((1, 1, channels), np.uint8))
    image_io.picture_bytes(pixel, image_format)


def _numbered(path, count):
    stem, extension = os.path.splitext(path)
    return f"{stem}_{count:02d}{extension}"


def run():
    """The installed command."""
    files.show_help_of(__name__)
    app.run(main)
