"""Compresses pictures to .rnnc files.

encode.py --input=photo.png                                 all iterations, photo.png.rnnc
encode.py --input=photo.png --output=photo.rnnc --target_psnr=30
encode.py --output=compressed photos/*.jpg                  many files, or whole folders
"""

import functools
import os
import time

from absl import app, flags

from rnn_codec.commands import files
from rnn_codec.targets import Target

_INPUT = flags.DEFINE_multi_string(
    "input",
    [],
    "Picture, folder, or - for standard input. Names without a flag count too.",
)
_OUTPUT = flags.DEFINE_string(
    "output", None, "File or existing folder, or -. Defaults to the input's name plus .rnnc."
)
_ITERATIONS = flags.DEFINE_integer(
    "iterations", None, "Stop after this many. Defaults to all that the preset has.", 1
)
_TARGET_BPP = flags.DEFINE_float(
    "target_bpp", None, "Bits per pixel of the whole file, not to be exceeded."
)
_TARGET_BYTES = flags.DEFINE_integer(
    "target_bytes", None, "Size of the whole file, not to be exceeded."
)
_TARGET_PSNR = flags.DEFINE_float("target_psnr", None, "Stop when this many dB are reached.")
_TARGET_MSSIM = flags.DEFINE_float("target_msssim", None, "Stop when this MS-SSIM is reached.")
_PRESET = flags.DEFINE_string("preset", None, "Name or folder. Defaults to the product's preset.")
_ENTROPY = flags.DEFINE_enum(
    "entropy",
    None,
    ["neural", "adaptive", "raw"],
    "What packs the bits. Defaults to neural if the preset has a context model, else to raw.",
)
_STRIP = flags.DEFINE_bool("strip", False, "Leave out ICC profile, EXIF and XMP.")
_MAX_PIXELS = flags.DEFINE_integer(
    "max_pixels", 89_478_485, "Refuse pictures with more pixels than this.", 1
)
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace files whose names were not given.")
_JSON = flags.DEFINE_bool("json", False, "Print one JSON object per file on standard output.")
_QUIET = flags.DEFINE_bool("quiet", False, "No summary lines.")


def main(argv):
    return files.run_guarded("encode", functools.partial(_run, argv))


def _run(argv):
    target = _target()
    jobs = files.plan(
        [*_INPUT.value, *argv[1:]],
        _OUTPUT.value,
        _extensions(),
        lambda name: name + ".rnnc",
        _OVERWRITE.value,
    )
    work = functools.partial(_encode, target=target)
    return files.run_all("encode", jobs, work, _JSON.value, _QUIET.value)


def _target():
    return Target(
        iterations=_ITERATIONS.value,
        target_bpp=_TARGET_BPP.value,
        target_bytes=_TARGET_BYTES.value,
        target_psnr=_TARGET_PSNR.value,
        target_msssim=_TARGET_MSSIM.value,
    )


def _extensions():
    from rnn_codec import image_io

    return image_io.IMAGE_EXTENSIONS


def _encode(job, report, target):
    from rnn_codec import image_io

    start = time.monotonic()
    # The picture first: a file that is none should not wait for Keras.
    data = files.read(job)
    picture = image_io.read_picture(data, _MAX_PIXELS.value, name=job.name)
    if _STRIP.value:
        picture = image_io.without_metadata(picture)
    encoded = files.load_codec(_PRESET.value).encode_picture(picture, target, _ENTROPY.value)
    files.write(job.target, encoded.data, job.folder)
    for warning in encoded.warnings:
        report.warning(job, warning)
    seconds = time.monotonic() - start
    record = {
        "input": job.name,
        "output": job.target,
        "width": picture.width,
        "height": picture.height,
        "input_bytes": len(data),
        "output_bytes": len(encoded.data),
        "bits_per_pixel": encoded.bpp,
        "iterations": encoded.iterations,
        "psnr_db": None if encoded.psnr_db == float("inf") else encoded.psnr_db,
        "ms_ssim": encoded.ms_ssim,
        "seconds": seconds,
        "warnings": list(encoded.warnings),
    }
    quality = f"PSNR {encoded.psnr_db:.2f} dB"
    if encoded.ms_ssim is not None:
        quality += f", MS-SSIM {encoded.ms_ssim:.4f}"
    iterations = f"{encoded.iterations} iteration{'s' if encoded.iterations > 1 else ''}"
    report.result(
        f"{os.path.basename(job.name)}: {len(data)} -> {len(encoded.data)} bytes, "
        f"{encoded.bpp:.3f} bpp, {iterations}, {quality}, {seconds:.1f} s",
        record,
    )


def run():
    """The installed command."""
    files.show_help_of(__name__)
    app.run(main)
