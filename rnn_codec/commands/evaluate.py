"""Measures codecs on a folder of images: real bytes of whole files, decoded, compared as 8-bit RGB.

evaluate.py --images=kodak --output=results                 every codec, a page, plots and tables
evaluate.py --images=kodak --output=quick --limit=2         a quick look
evaluate.py --images=kodak --output=results --presets=two_scale_gru,my_run/preset
evaluate.py --images=photos --output=results --codecs=jpeg420,webp --presets=
evaluate.py --images=kodak --output=hybrid --presets=hybrid --bases=jpeg,webp,heif

A second call goes on where the first was stopped, and measures only what is not there yet.
"""

import collections
import functools
import os
import shlex
import sys

from absl import app, flags

from rnn_codec import presets
from rnn_codec.commands import files, tasks
from rnn_codec.errors import CodecError
from rnn_codec.pictures import reading

_IMAGES = flags.DEFINE_string("images", None, "Folder of images, or one image.", required=True)
_OUTPUT = flags.DEFINE_string(
    "output", None, "Folder for tables, plots and the page. Made if missing.", required=True
)
_PRESETS = flags.DEFINE_list(
    "presets",
    None,
    "Names or folders of this project's presets. Defaults to the product's; empty: none.",
)
_BASES = flags.DEFINE_list(
    "bases", [], "Measure hybrid presets with each of these standard codecs. Empty: their own."
)
_CODECS = flags.DEFINE_list(
    "codecs",
    ["jpeg420", "jpeg2000", "webp", "avif", "jpegxl", "heif"],
    "The codecs to compare with: these, and jpeg444. Empty: none.",
)
_LIMIT = flags.DEFINE_integer("limit", None, "Measure only so many images, the first by name.", 1)
_SHOWN = flags.DEFINE_integer("shown", 3, "So many images are shown in the page.", 0)
_PUBLISHED = flags.DEFINE_string(
    "published",
    "../shared/reference_curves/published.csv",
    "CSV of published curves (dataset, codec, metric, bpp, value). Empty: none.",
)
_PUBLISHED_DATASET = flags.DEFINE_string(
    "published_dataset", "kodak", "The data set of the published curves: the one in --images."
)


def main(argv):
    return files.run_guarded("evaluate", functools.partial(_run, argv))


def _run(argv):
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected argument {argv[1]!r}; name a folder with --images.")
    images = _images()
    files.load_keras()
    _check_installed()
    from rnn_codec.evaluation import outputs, runner

    codecs, published = _chosen_codecs(), _published()
    command = shlex.join(["evaluate.py", *sys.argv[1:]])
    results = runner.Results(_OUTPUT.value, codecs, images, command)
    for note in results.notes:
        _tell(note)
    names = {path: name for name, path in images.items()}
    work = functools.partial(_measure, names=names, codecs=codecs, results=results)
    jobs = [files.Job(path, "") for path in names]
    exit_code = tasks.run_all("evaluate", jobs, work, as_json=False, quiet=True)
    lines = outputs.write(_OUTPUT.value, results, codecs, images, published, _SHOWN.value)
    print("\n".join(lines))
    return exit_code


def _images():
    """The images asked for: name, below the folder, to path."""
    folder, output = (os.path.realpath(path) for path in (_IMAGES.value, _OUTPUT.value))
    if os.path.commonpath([folder, output]) == folder:
        raise CodecError(
            f"{_OUTPUT.value}: expected a folder outside of --images, as it will hold pictures too;"
            " name another --output"
        )
    pairs = files.sources([_IMAGES.value], reading.IMAGE_EXTENSIONS)
    return {name: path for path, name in pairs[: _LIMIT.value]}


def _check_installed():
    """Raises `CodecError` where a package is missing that no measurement does without."""
    try:
        from rnn_codec.evaluation import outputs  # noqa: F401
    except ModuleNotFoundError as error:
        raise CodecError(
            f"expected the package {error.name}, which is not installed; pip install "
            "rnn-codec[eval]"
        ) from error


def _chosen_codecs():
    """This project's codecs, then the others, as far as they are installed."""
    from rnn_codec.evaluation import codecs

    names = [presets.DEFAULT] if _PRESETS.value is None else _PRESETS.value
    chosen = []
    for name in names:
        chosen += codecs.make_own(name, _BASES.value)
    for name in _CODECS.value:
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


def _published():
    from rnn_codec.evaluation import curves

    if not _PUBLISHED.value:
        return {}
    try:
        return curves.read_published(_PUBLISHED.value, _PUBLISHED_DATASET.value)
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


def run():
    """The installed command."""
    files.show_help_of(__name__)
    app.run(main)
