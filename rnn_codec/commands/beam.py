"""Encodes or decodes everything under a folder or in a bucket, by Apache Beam; needs `[beam]`.

rnn-codec-beam encode --input=photos --output=codes             processes of this machine
rnn-codec-beam decode --input='codes/**/a*.rnnc' --output=pictures --direct_num_workers=4
rnn-codec-beam encode --input=gs://bucket/photos --output=gs://bucket/codes --runner=...

Other flags are Beam's. Without --runner, its local runner works in as many processes as there are
cores. The exit code is 1 if a file failed; the column `error` of the table says why.
"""

import functools
import importlib.util
import logging
import os

from absl import app, flags

from rnn_codec.commands import files
from rnn_codec.errors import CodecError
from rnn_codec.pictures import reading
from rnn_codec.targets import Target

_INPUT = flags.DEFINE_multi_string(
    "input", [], "Folder, file or pattern (*, **, ?), local or of a bucket."
)
_OUTPUT = flags.DEFINE_string(
    "output", None, "Folder for the results, which lie there as their sources do.", required=True
)
_TABLE = flags.DEFINE_string(
    "table", None, "CSV file for what became of each file. Defaults to results.csv in --output."
)
_ITERATIONS = flags.DEFINE_integer(
    "iterations", None, "To encode, or to decode. Defaults to all there are.", 1
)
_TARGET_BPP = flags.DEFINE_float("target_bpp", None, "As of encode.py.")
_TARGET_BYTES = flags.DEFINE_integer("target_bytes", None, "As of encode.py.")
_TARGET_PSNR = flags.DEFINE_float("target_psnr", None, "As of encode.py.")
_TARGET_MSSIM = flags.DEFINE_float("target_msssim", None, "As of encode.py.")
_ENTROPY = flags.DEFINE_enum(
    "entropy", None, ["neural", "adaptive", "raw"], "Of encoding; as of encode.py."
)
_FORMAT = flags.DEFINE_string("format", "png", "Of decoded pictures: png, jpeg, webp, ...")
_STRICT = flags.DEFINE_bool("strict", False, "Of decoding: any damage is an error.")
_PRESET = flags.DEFINE_string(
    "preset", None, "Name, or a folder that every worker can read. Defaults to the product's."
)
_MAX_PIXELS = flags.DEFINE_integer(
    "max_pixels", reading.DEFAULT_MAX_PIXELS, "Refuse files with more pixels than this.", 1
)
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace results and table.")

# Beam's own first choice for a local run would be a program that it downloads (Prism), except for
# pipelines that may have unsafe triggers. Ours has no triggers at all.
_DEFAULTS = (
    "--allow_unsafe_triggers",
    "--direct_running_mode=multi_processing",
    "--direct_num_workers=0",
    "--default_sdk_harness_log_level=ERROR",
)
_LOCAL_RUNNERS = (None, "DirectRunner", "FnApiRunner")


def main(argv):
    return files.run_guarded("beam", functools.partial(_run, argv[1:]))


def _run(arguments):
    operation = _operation(arguments[0] if arguments else None)
    if not _INPUT.value:
        raise CodecError("expected at least one --input (a folder, a file or a pattern)")
    if importlib.util.find_spec("apache_beam") is None:
        raise CodecError(
            "expected apache-beam, which is not installed; install rnn-codec with the extra [beam]"
        )
    options = _options(arguments[1:])

    from rnn_codec.plugins import beam

    table = _TABLE.value or os.path.join(_OUTPUT.value, beam.TABLE)
    count, failed = beam.run(
        operation(), _INPUT.value, _OUTPUT.value, table, _OVERWRITE.value, options
    )
    print(f"{count - failed} of {count} files done, {failed} failed; see {table}")
    return 1 if failed else 0


def _operation(verb):
    operations = {"encode": _encoding, "decode": _decoding}
    if verb not in operations:
        raise CodecError(f"expected encode or decode as the first argument, received {verb}")
    return operations[verb]


def _encoding():
    from rnn_codec.plugins import beam

    target = Target(
        iterations=_ITERATIONS.value,
        target_bpp=_TARGET_BPP.value,
        target_bytes=_TARGET_BYTES.value,
        target_psnr=_TARGET_PSNR.value,
        target_msssim=_TARGET_MSSIM.value,
    )
    return beam.Encoding(_PRESET.value, target, _ENTROPY.value, _MAX_PIXELS.value)


def _decoding():
    from rnn_codec.plugins import beam

    return beam.Decoding(
        _PRESET.value, _ITERATIONS.value, _FORMAT.value, _STRICT.value, _MAX_PIXELS.value
    )


def _options(arguments):
    """Beam's options.

    Raises:
        CodecError: a flag that nobody knows; Beam itself would go on with a warning.
    """
    from apache_beam.options.pipeline_options import (
        DirectOptions,
        PipelineOptions,
        StandardOptions,
    )

    options = PipelineOptions([*_DEFAULTS, *arguments])
    # Other runners may have options that Beam's Python part does not know.
    if options.view_as(StandardOptions).runner in _LOCAL_RUNNERS:
        given = options.get_all_options(retain_unknown_options=True)
        unknown = sorted(given.keys() - options.get_all_options().keys())
        if unknown:
            raise CodecError(f"--{unknown[0]}: expected a flag of this command or of Beam; drop it")
        _share_cores(options.view_as(DirectOptions).direct_num_workers)
        # It tells of every process and port.
        logging.getLogger("apache_beam").setLevel(logging.ERROR)
    return options


def _share_cores(workers):
    """Gives TensorFlow in each of the local processes its share of the cores, not all of them."""
    cores = os.cpu_count()
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", str(max(1, cores // (workers or cores))))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def run():
    """The installed command."""
    files.show_help_of(__name__)
    app.run(main, flags_parser=lambda argv: flags.FLAGS(argv, known_only=True))


if __name__ == "__main__":
    run()
