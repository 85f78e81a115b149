"""Compresses pictures to .rnnc files.

encode.py --input=photo.png                                 all iterations, photo.png.rnnc
encode.py --input=photo.png --output=photo.rnnc --target_psnr=30
encode.py --output=compressed photos/*.jpg                  many files, or whole folders
encode.py --codec=hybrid --base=webp --quality=40 photo.png networks around a standard codec
"""

import functools
import os

from absl import app, flags

from rnn_codec import wings
from rnn_codec.commands import files, tasks
from rnn_codec.errors import CodecError, PresetError
from rnn_codec.hybrid import config as hybrid_config
from rnn_codec.pictures import reading, writing
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
_CODEC = flags.DEFINE_enum(
    "codec",
    None,
    [wing.name for wing in wings.every()],
    "Defaults to the preset's. Hybrid: ComCNN, a standard codec, RecCNN.",
)
_BASE = flags.DEFINE_enum(
    "base",
    None,
    hybrid_config.BASES,
    "Standard codec of the hybrid one. Defaults to the one that its preset was trained for.",
)
_QUALITY = flags.DEFINE_float(
    "quality",
    None,
    "Of that codec; of jpeg2000, its bits per pixel. Where half the size is stored instead, as "
    "many bytes at most. Instead of a target.",
)
_STORED_SIZE = flags.DEFINE_enum(
    "stored_size",
    None,
    list(hybrid_config.STORED_SIZES),
    "Of the picture that this codec stores. Defaults to what restores better at equal bytes.",
)
_PRESET = flags.DEFINE_string("preset", None, "Name or folder. Defaults to the product's preset.")
_ENTROPY = flags.DEFINE_enum(
    "entropy",
    None,
    ["neural", "adaptive", "raw"],
    "What packs the bits. Defaults to neural if the preset has a context model, else to raw.",
)
_PRECISION = flags.DEFINE_enum(
    "precision",
    "auto",
    ["auto", "float32", "bfloat16"],
    "To compute pixels in. Auto is bfloat16 where the processor multiplies in it.",
)
_STRIP = flags.DEFINE_bool("strip", False, "Leave out ICC profile, EXIF and XMP.")
_MAX_PIXELS = flags.DEFINE_integer(
    "max_pixels", 89_478_485, "Refuse pictures with more pixels than this.", 1
)
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace files whose names were not given.")
_JSON = flags.DEFINE_bool("json", False, "Print one JSON object per file on standard output.")
_QUIET = flags.DEFINE_bool("quiet", False, "No summary lines.")


# What `encode_picture` takes in one wing or another, by its name there.
_WING_OPTIONS = {
    "entropy": _ENTROPY,
    "base": _BASE,
    "quality": _QUALITY,
    "stored_size": _STORED_SIZE,
}


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
    make_task = functools.partial(_Encoding, target=target)
    return tasks.run_tasks("encode", jobs, make_task, _JSON.value, _QUIET.value)


def _target():
    return Target(
        iterations=_ITERATIONS.value,
        target_bpp=_TARGET_BPP.value,
        target_bytes=_TARGET_BYTES.value,
        target_psnr=_TARGET_PSNR.value,
        target_msssim=_TARGET_MSSIM.value,
    )


def _extensions():
    return reading.IMAGE_EXTENSIONS


class _Encoding(tasks.Task):
    """A picture on its way into a file."""

    def __init__(self, job, target):
        super().__init__(job)
        self._target = target
        self._encoded = None

    def read(self):
        data = files.read(self.job)
        picture = reading.read_picture(data, _MAX_PIXELS.value, name=self.job.name)
        self._picture = writing.without_metadata(picture) if _STRIP.value else picture
        self._input_bytes = len(data)
        self.pixels = picture.width * picture.height

    @classmethod
    def code_together(cls, group):
        codec = _load_codec()
        pictures, target = [task._picture for task in group], group[0]._target
        encoded = codec.encode_pictures(pictures, target, **_options(codec.config))
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


def _load_codec():
    """The codec of the flags; `PresetError` if these contradict each other."""
    default = wings.named(_CODEC.value).default if _CODEC.value else None
    codec = files.load_codec(_PRESET.value or default, precision=_PRECISION.value)
    wing = wings.of(codec.config)
    if _CODEC.value not in (None, wing.name):
        raise PresetError(
            f"--preset={_PRESET.value}: expected a preset of the {_CODEC.value} codec, received one"
            f" of the {wing.name}; name another, or leave out --codec"
        )
    return codec


def _options(config):
    """What `encode_picture` takes besides the target, as far as it is given."""
    own = wings.of(config).encode_options
    for wing in wings.every():
        for name in wing.encode_options:
            if name not in own and _WING_OPTIONS[name].value is not None:
                raise PresetError(
                    f"--{name}: has no meaning with preset {config.name!r}; leave it out, or name "
                    f"a preset of the {wing.name} codec"
                )
    return {name: _WING_OPTIONS[name].value for name in own}


def _in_words(settings):
    if "iterations" in settings:
        count = settings["iterations"]
        return f"{count} iteration{'s' if count > 1 else ''}"
    return "{base} of quality {quality}, {stored_size} size".format(**settings)


def run():
    """The installed command."""
    files.show_help_of(__name__)
    app.run(main)
