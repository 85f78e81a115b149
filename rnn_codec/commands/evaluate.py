"""Measures codecs on pictures: bytes of whole files, and the decoded pictures as 8-bit RGB.

rnnc evaluate kodak -o results                      every codec, a page, plots and tables
rnnc evaluate kodak -o quick --limit=2              a quick look
rnnc evaluate kodak -o results --presets=two_scale_gru,my_run/preset
rnnc evaluate photos -o results --codecs=jpeg420,webp --presets=
rnnc evaluate kodak -o hybrid --presets=hybrid --bases=jpeg,webp,heif

A second call goes on where the first was stopped, and measures only what is not there yet.
"""

import collections
import dataclasses
import functools
import os
import shlex
import sys

from rnn_codec import options, presets, wings
from rnn_codec.commands import files, tasks
from rnn_codec.commands.command import Command, refuse_others, simple
from rnn_codec.errors import CodecError
from rnn_codec.options import option
from rnn_codec.pictures import reading


@dataclasses.dataclass(frozen=True)
class EvaluateOptions:
    """What is measured, and where the results go."""

    images: str = option(
        "",
        "Measure on this picture, or on all pictures below this folder.",
        required=True,
        positional="FOLDER",
    )
    output: str = option(
        "",
        "Write tables, plots and the page into this folder, which is made if it is missing.",
        required=True,
        short="o",
        common=True,
    )
    presets: tuple[str, ...] | None = option(
        None,
        "Measure these presets of this project, by name or folder, between commas. By default it "
        "is the default one; an empty list is none.",
        common=True,
    )
    bases: tuple[str, ...] = option(
        (),
        "Measure hybrid presets around each of these standard codecs, instead of their own.",
    )
    codecs: tuple[str, ...] = option(
        ("jpeg420", "jpeg2000", "webp", "avif", "jpegxl", "heif"),
        "Measure these other codecs too, or also jpeg444; an empty list is none.",
        common=True,
    )
    limit: int | None = option(
        None, "Measure on only this many pictures, the first by name.", lower=1, common=True
    )
    shown: int = option(3, "Show this many pictures in the page.", lower=0)
    published: str = option(
        "../shared/reference_curves/published.csv",
        "Compare with the published curves in this CSV file, whose columns are dataset, codec, "
        "metric, bpp and value; an empty name is none.",
    )
    published_dataset: str = option(
        "kodak", "Take the published curves of this data set, which is the one measured on."
    )


def _run(given):
    refuse_others(given, (EvaluateOptions,), "here")
    request = options.make(EvaluateOptions, given)
    if "published_dataset" in given and not request.published:
        raise CodecError("--published_dataset: has no meaning without --published; leave it out")
    images = _images(request)
    files.load_keras()
    _check_installed()
    from rnn_codec.evaluation import outputs, runner

    codecs, published = _chosen_codecs(request), _published(request)
    command = shlex.join(["evaluate", *sys.argv[1:]])
    results = runner.Results(request.output, codecs, images, command)
    for note in results.notes:
        _tell(note)
    names = {path: name for name, path in images.items()}
    work = functools.partial(_measure, names=names, codecs=codecs, results=results)
    jobs = [files.Job(path, "") for path in names]
    exit_code = tasks.run_all("evaluate", jobs, work, as_json=False, quiet=True)
    lines = outputs.write(request.output, results, codecs, images, published, request.shown)
    print("\n".join(lines))
    return exit_code


def _images(request):
    """The images asked for: name, below the folder, to path."""
    folder, output = (os.path.realpath(path) for path in (request.images, request.output))
    if os.path.commonpath([folder, output]) == folder:
        raise CodecError(
            f"{request.output}: expected a folder outside of --images, as it will hold pictures "
            "too; name another --output"
        )
    pairs = files.sources([request.images], reading.IMAGE_EXTENSIONS)
    return {name: path for path, name in pairs[: request.limit]}


def _check_installed():
    """Raises `CodecError` where a package is missing that no measurement does without."""
    try:
        from rnn_codec.evaluation import outputs  # noqa: F401
    except ModuleNotFoundError as error:
        raise CodecError(
            f"expected the package {error.name}, which is not installed; pip install "
            "rnn-codec[eval]"
        ) from error


def _chosen_codecs(request):
    """This project's codecs, then the others, as far as they are installed."""
    from rnn_codec.evaluation import codecs

    names = [presets.DEFAULT] if request.presets is None else request.presets
    if request.bases and not any(_has_base(name) for name in names):
        raise CodecError(
            "--bases: has no meaning without a preset of the hybrid codec; leave it out, or name "
            "one with --presets"
        )
    chosen = []
    for name in names:
        chosen += codecs.make_own(name, request.bases)
    for name in request.codecs:
        try:
            chosen.append(codecs.make(name))
        except codecs.UnavailableError as error:
            _tell(error)
    if not chosen:
        raise CodecError("expected at least one codec, received none; add --codecs or --presets")
    repeated = [name for name, n in collections.Counter(c.name for c in chosen).items() if n > 1]
    if repeated:
        raise CodecError(
            f"{repeated[0]}: expected this name for one codec, received it for several; name it "
            "once, or rename the preset's folder"
        )
    return chosen


def _has_base(preset):
    """Whether a preset's codec is measured around one standard codec or another."""
    wing = wings.of(presets.load(preset, load_weights=False).config)
    return "base" in options.names([wing.encode_options])


def _published(request):
    from rnn_codec.evaluation import curves

    if not request.published:
        return {}
    try:
        return curves.read_published(request.published, request.published_dataset)
    except CodecError as error:
        _tell(error)
        return {}


def _measure(job, report, names, codecs, results):
    """Adds what rows an image lacks; one codec's fault does not keep the others from it."""
    from rnn_codec.evaluation import measures, runner

    name = names[job.source]
    missing = [codec for codec in codecs if not results.has(name, codec.name)]
    if not missing:
        return
    pixels, notes = runner.read_image(job.source)
    for note in notes:
        report.warning(job, note)
    original, faults = measures.Original(pixels), []
    for codec in missing:
        try:
            results.add(runner.measure(name, pixels, codec, original))
        except CodecError as error:
            faults.append(str(error))
    if faults:
        raise CodecError("; ".join(faults))


def _tell(line):
    print(f"evaluate: {line}", file=sys.stderr)


COMMAND = Command("evaluate", __doc__, simple(EvaluateOptions), _run)
