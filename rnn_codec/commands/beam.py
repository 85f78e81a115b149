"""Encodes or decodes everything under a folder or in a bucket, by Apache Beam; needs `[beam]`.

rnnc beam encode --input=photos -o codes            processes of this machine
rnnc beam decode --input='codes/**/a*.rnnc' -o pictures --direct_num_workers=4
rnnc beam encode --input=gs://bucket/photos -o gs://bucket/codes --runner=...

Other options are Beam's. Without --runner, its local runner works in as many processes as there are
cores. The exit code is 1 if a file failed; the column `error` of the table says why.
"""

import dataclasses
import importlib.util
import logging
import os

from rnn_codec import options, presets, wings
from rnn_codec.commands.command import Command, refuse_others
from rnn_codec.errors import CodecError
from rnn_codec.options import option
from rnn_codec.pictures import reading
from rnn_codec.targets import Target


@dataclasses.dataclass(frozen=True)
class BeamOptions:
    """What is read and written, either way."""

    input: tuple[str, ...] = option(
        (),
        "Read this file, this folder, or what has a name of this pattern (*, **, ?), local or in "
        "a bucket.",
        repeated=True,
        common=True,
    )
    output: str = option(
        "",
        "Write the results into this folder, where they lie as their sources do.",
        required=True,
        short="o",
        common=True,
    )
    table: str | None = option(
        None,
        "Write what became of each file to this CSV file. By default it is results.csv in "
        "--output.",
        common=True,
    )
    preset: str | None = option(
        None,
        "Use the preset of this name, or in this folder that every worker can read, instead of "
        "the default one.",
    )
    max_pixels: int = option(
        reading.DEFAULT_MAX_PIXELS, "Refuse pictures with more pixels than this.", lower=1
    )
    overwrite: bool = option(False, "Replace results and table.", common=True)


@dataclasses.dataclass(frozen=True)
class DecodeOptions:
    """What only decoding takes."""

    iterations: int | None = option(
        None,
        "Use only this many iterations. By default all whole ones in the file are used.",
        lower=1,
        common=True,
    )
    format: str = option("png", "Write this format: png, jpeg, webp and so on.")
    strict: bool = option(False, "Treat any damage as an error instead of a warning.")


# Beam's own first choice for a local run would be a program that it downloads (Prism), except for
# pipelines that may have unsafe triggers. Ours has no triggers at all.
_DEFAULTS = (
    "--allow_unsafe_triggers",
    "--direct_running_mode=multi_processing",
    "--direct_num_workers=0",
    "--default_sdk_harness_log_level=ERROR",
)
_LOCAL_RUNNERS = (None, "DirectRunner", "FnApiRunner")


def _modes():
    return {
        **{f"encode ({wing.name})": _encoding_groups(wing) for wing in wings.every()},
        "decode": (BeamOptions, DecodeOptions),
    }


def _encoding_groups(wing):
    return BeamOptions, Target, wing.encode_options


def _run(given, arguments):
    verb = arguments[0] if arguments else None
    if verb not in _OPERATIONS:
        raise CodecError(f"expected encode or decode as the first argument, received {verb}")
    groups = [groups for mode, groups in _modes().items() if mode.startswith(verb)]
    refuse_others(given, tuple(group for one in groups for group in one), f"with {verb}")
    request = options.make(BeamOptions, given)
    if not request.input:
        raise CodecError("expected at least one --input (a folder, a file or a pattern)")
    if importlib.util.find_spec("apache_beam") is None:
        raise CodecError(
            "expected apache-beam, which is not installed; install rnn-codec with the extra [beam]"
        )
    pipeline_options = _options(arguments[1:])

    from rnn_codec.plugins import beam

    operation = _OPERATIONS[verb](given, request)
    table = request.table or os.path.join(request.output, beam.TABLE)
    count, failed = beam.run(
        operation, request.input, request.output, table, request.overwrite, pipeline_options
    )
    print(f"{count - failed} of {count} files done, {failed} failed; see {table}")
    return 1 if failed else 0


def _encoding(given, request):
    from rnn_codec.plugins import beam

    wing = wings.of(presets.load(request.preset, load_weights=False).config)
    refuse_others(given, _encoding_groups(wing), f"with a preset of the {wing.name} codec")
    own = options.as_arguments(options.make(wing.encode_options, given))
    return beam.Encoding(request.preset, options.make(Target, given), own, request.max_pixels)


def _decoding(given, request):
    from rnn_codec.plugins import beam

    own = options.make(DecodeOptions, given)
    return beam.Decoding(request.preset, own.iterations, own.format, own.strict, request.max_pixels)


_OPERATIONS = {"encode": _encoding, "decode": _decoding}


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
            raise CodecError(
                f"--{unknown[0]}: expected an option of this command or of Beam; drop it"
            )
        _share_cores(options.view_as(DirectOptions).direct_num_workers)
        # It tells of every process and port.
        logging.getLogger("apache_beam").setLevel(logging.ERROR)
    return options


def _share_cores(workers):
    """Gives TensorFlow in each of the local processes its share of the cores, not all of them."""
    cores = os.cpu_count()
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", str(max(1, cores // (workers or cores))))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


COMMAND = Command("beam", __doc__, _modes, _run, where="with {}", takes_unknown=True)
