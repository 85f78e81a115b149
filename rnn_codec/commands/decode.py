"""Restores pictures from .rnnc files, at any number of iterations that they hold.

decode.py --input=photo.rnnc                                all iterations, photo.png
decode.py --input=photo.rnnc --output=preview.jpg --iterations=2
decode.py --input=photo.rnnc --all_iterations               photo_01.png, photo_02.png, ...
decode.py --info photo.rnnc                                 what is in it; loads no network
"""

import functools
import hashlib
import os
import time

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
    work = functools.partial(_decode, taken=files.real_sources(jobs))
    return files.run_all("decode", jobs, work, _JSON.value, _QUIET.value)


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


def _decode(job, report, taken):
    from rnn_codec import image_io

    start = time.monotonic()
    image_format = _image_format(job)
    data = files.read(job)
    # The container first: a file that is none should not wait for Keras.
    limits = bitstream.Limits(max_pixels=_MAX_PIXELS.value)
    contents = bitstream.read(data, _STRICT.value, limits)
    _check_format(image_format, contents)
    targets = _targets(job, len(contents.planes), taken)
    outputs, picture = [], None
    codec = files.load_codec(_PRESET.value, _ARITHMETIC.value)
    for count, picture in codec.decode_picture(data, list(targets), _STRICT.value, limits):
        picture_file = image_io.picture_bytes(picture, image_format)
        files.write(targets[count], picture_file, job.folder)
        outputs.append({"iterations": count, "output": targets[count]})
    warnings = list(picture.warnings)
    lost = image_io.unstored_metadata(picture, image_format)
    if lost:
        warnings.append(f"{image_format} cannot hold the {', '.join(lost)}; left out")
    for warning in warnings:
        report.warning(job, warning)
    seconds = time.monotonic() - start
    counts = [output["iterations"] for output in outputs]
    span = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else f"{counts[0]}"
    record = {
        "input": job.name,
        "outputs": outputs,
        "width": picture.width,
        "height": picture.height,
        "mode": picture.mode,
        "input_bytes": len(data),
        "planes_sha256": _hash(codec, data, counts[-1], limits) if _JSON.value else None,
        "seconds": seconds,
        "warnings": warnings,
    }
    report.result(
        f"{os.path.basename(job.name)}: {picture.width} x {picture.height} {picture.mode}, "
        f"iterations {span}, {seconds:.1f} s",
        record,
    )


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
