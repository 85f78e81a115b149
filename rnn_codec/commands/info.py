"""Says what .rnnc files hold, without decoding them.

rnnc info photo.rnnc                                size, iterations, bytes, metadata
rnnc info --json codes                              one JSON object for each file in a folder
"""

from rnn_codec import options
from rnn_codec.commands import files, tasks
from rnn_codec.commands.command import Command, refuse_others, simple
from rnn_codec.commands.groups import InputOptions
from rnn_codec.container import bitstream
from rnn_codec.standard import codecs as base_codecs


def _run(given):
    refuse_others(given, (InputOptions,), "here")
    request = options.make(InputOptions, given)
    jobs = [files.Job(source, "") for source, _ in files.sources(request.input, {".rnnc"})]
    return tasks.run_all(COMMAND.name, jobs, _print_info, request.json, quiet=False)


def _print_info(job, report):
    info = base_codecs.read_info(files.read(job))
    for warning in info.warnings:
        report.warning(job, warning)
    sizes = " ".join(str(size) for size in info.bytes_at_iteration)
    metadata = ", ".join(f"{name} {size} bytes" for name, size in info.metadata.items())
    steps = [f"  bytes up to each iteration: {sizes}"] if sizes else []
    if info.points:
        ends = ", ".join(f"{p.plane + 1}/{p.channels} {p.bytes}" for p in info.points)
        steps.append(f"  it may end after (iteration/channels bytes): {ends}")
    lines = [
        f"{job.name}: {info.width} x {info.height} {info.mode}, {info.file_bytes} bytes, "
        f"{info.bits_per_pixel:.3f} bpp",
        f"  iterations: {info.iterations} of {info.iterations_written}, "
        f"coders: {' '.join(info.coders)}",
        *(["  exact: the pixels are those of the original"] if info.exact else steps),
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


COMMAND = Command("info", __doc__, simple(InputOptions), _run)
