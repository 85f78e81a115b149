"""Container of `.rnnc` files: one header, then chunks, in which the picture grows.

Why chunks: a reader that stops after plane n holds a valid picture of quality n, so truncation is
a feature, not corruption. Each chunk therefore carries its own length and CRC-32C, a plane carries
its index, nothing in plane n refers to a later one, and what every quality needs comes first. An
embedded codec's plane is split further, into runs of channels: each of them is a point to stop at.

What `read` promises: data that were cut or damaged give the first planes or runs that were written,
in order and unchanged, and a warning that names the byte; or a `BitstreamError`. Never others.

Layout, worked example and version policy: docs/bitstream.md. All integers are little-endian. The
container knows no pixels, probabilities or networks: payloads, profiles and alpha are opaque bytes.
This module reads and writes whole files; what a chunk may hold stands in `chunks`, one row a kind.
"""

from collections.abc import Sequence
import dataclasses
from typing import Any

from rnn_codec.container import chunks, framing
from rnn_codec.container.fields import (
    ADAPTIVE,
    CODER_NAMES,
    FULL_STRENGTH,
    MAX_CHANNELS,
    MAX_QUALITY_LEVEL,
    MAX_STRENGTH,
    NEURAL,
    NO_LIMITS,
    RAW,
    STANDARD_CODERS,
    Fields,
    Limits,
    Metadata,
    Plane,
    Run,
    Shared,
)
from rnn_codec.container.header import (
    FORMAT_VERSION,
    NO_MODEL,
    SIGNATURE,
    Header,
    check_header,
    write_header,
)
from rnn_codec.container.reader import read_chunks

__all__ = [
    "ADAPTIVE",
    "FORMAT_VERSION",
    "FULL_STRENGTH",
    "MAX_CHANNELS",
    "MAX_QUALITY_LEVEL",
    "MAX_STRENGTH",
    "NEURAL",
    "RAW",
    "SIGNATURE",
    "STANDARD_CODERS",
    "Contents",
    "FileInfo",
    "Header",
    "Limits",
    "Metadata",
    "NO_MODEL",
    "Plane",
    "Point",
    "Run",
    "read",
    "read_info",
    "truncate",
    "write",
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contents(Fields):
    """What a file holds, as far as it is intact.

    There is at least one plane, one run, or the lossless picture. `alpha` is None although
    `header.has_alpha` where it was damaged.
    """

    header: Header
    plane_ends: tuple[int, ...]  # bytes of the file up to and with each whole plane
    run_ends: tuple[int, ...]  # bytes of the file up to and with each run
    warnings: tuple[str, ...]
    file_bytes: int

    @property
    def iterations(self) -> int:
        """How many are whole; a file of runs may hold a part of the first only."""
        return len(self.plane_ends)


@dataclasses.dataclass(frozen=True)
class Point:
    """Where a file of runs may end: after `channels` channels of a plane, and all planes before."""

    plane: int  # from 0
    channels: int  # of this plane
    bytes: int  # of the file up to there


@dataclasses.dataclass(frozen=True, kw_only=True)
class FileInfo(Shared):
    """What can be said of a file without a network."""

    width: int
    height: int
    mode: str  # "L", "LA", "RGB" or "RGBA"
    iterations: int  # whole ones in this file
    iterations_written: int  # what the header declares
    model_id: str  # 16 hexadecimal digits
    format_version: int
    file_bytes: int
    bits_per_pixel: float  # of the whole file, metadata and alpha included
    bytes_at_iteration: tuple[int, ...]  # size of the file when cut after each iteration
    points: tuple[Point, ...]  # every point at which a file of runs may end
    exact: bool  # whether the pixels are those of the original
    # Of each plane: "raw", "neural", "adaptive", a standard codec's name, "standard(n)" if that was
    # not given, or "unknown(n)". Of other files: "runs" or "lossless WebP".
    coders: tuple[str, ...]
    metadata: dict[str, int]  # bytes of each kind present: icc_profile, exif, xmp
    alpha_bytes: int | None
    warnings: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Returns the fields in the types of JSON."""
        fields = dataclasses.asdict(self)
        return {name: list(v) if isinstance(v, tuple) else v for name, v in fields.items()}


# ---- The whole file ----


def write(
    header: Header,
    planes: Sequence[Plane] = (),
    metadata: Metadata = Metadata(),
    alpha: bytes | None = None,
    strength: int | None = None,
    quality_level: int | None = None,
    **others: Any,
) -> bytes:
    """Returns the bytes of a file.

    Args:
        header: Header. `iterations` is the number of planes, whole or begun.
        planes: sequence of Plane, from the first iteration on. A file without planes has `runs`
            and `channels`, or `lossless`.
        metadata: Metadata. Defaults to none.
        alpha: bytes, a PNG stream; given if and only if `header.has_alpha`.
        strength: int, 0 to 255. How much of its residual a network adds, in 64ths. Defaults to
            none, which is all of it.
        quality_level: int, 0 to 255. The quality of a standard codec, of which there is a strength
            too. Defaults to none, which is unknown.
        **others: further fields of `Fields`: `runs`, a sequence of Run, plane by plane and in
            each from channel 0 upward, with `channels`, int, of each plane; or `lossless`, bytes
            of a lossless WebP file, under a header of one iteration and `NO_MODEL`.

    Raises:
        ValueError: An argument does not fit the format or another argument.
    """
    check_header(header)
    others |= {"strength": strength, "quality_level": quality_level}
    others["runs"] = tuple(others.get("runs", ()))
    fields = Fields(planes=tuple(planes), metadata=metadata, alpha=alpha, **others)
    parts = [write_header(header)]
    for kind in chunks.KINDS:
        parts += [framing.write_chunk(kind.letter, body) for body in kind.write(header, fields)]
    return b"".join(parts)


def read(data: bytes, strict: bool = False, limits: Limits = Limits()) -> Contents:
    """Returns the intact part of a file.

    Args:
        data: bytes-like. A file, or its beginning.
        strict: bool. Whether anything worth a warning is an error. Defaults to False.
        limits: Limits. What to accept.

    Returns:
        Contents with at least one plane or run, or the lossless picture.

    Raises:
        BitstreamError: Not such a file, or one with no whole plane or run, with too many pixels, or
            in need of a newer reader; with `strict`, also any damage.
    """
    return _contents(read_chunks(data, strict, limits))


def truncate(data: bytes, iterations: int | None = None, max_bytes: int | None = None) -> bytes:
    """Returns the file that an encoder would have written had it stopped earlier.

    Unlike a cut, which leaves the header's count as it was, this gives a file that reads without a
    warning. Unknown optional chunks before the last plane or run are kept; damaged ones are left
    out. A lost alpha channel stays declared, so that readers go on reporting the loss.

    Args:
        data: bytes-like. A file, or its beginning.
        iterations: int. After so many whole planes.
        max_bytes: int. Instead: at the last point within so many bytes, in a file of runs after
            any run. A file that is within them loses no more than what was damaged.

    Raises:
        BitstreamError: The file holds fewer whole iterations, has no point within the bytes, is of
            a lossless picture, or cannot be read at all.
        ValueError: Both are given, or neither.
    """
    if (iterations is None) == (max_bytes is None):
        raise ValueError(f"Give iterations or max_bytes. Received: {iterations} and {max_bytes}")
    reader = read_chunks(data, strict=False, limits=NO_LIMITS)
    if iterations is not None:
        step = reader.step_of(iterations)
    else:
        step = reader.step_within(max_bytes)
    header = dataclasses.replace(reader.header, iterations=step.begun)
    return b"".join([write_header(header), *reader.chunks_up_to(step)])


def read_info(data: bytes, standard_names: dict[int, str] | None = None) -> FileInfo:
    """Returns the FileInfo of a file; no limit on pixels applies, as none are made.

    Args:
        data: bytes-like. A file, or its beginning.
        standard_names: dictionary from the coders of standard codecs to their names, which the
            container does not know; `rnn_codec.read_info` gives them. Defaults to none.
    """
    contents = read(data, limits=NO_LIMITS)
    header = contents.header
    metadata = dataclasses.asdict(contents.metadata)
    shared = {field.name: getattr(contents, field.name) for field in dataclasses.fields(Shared)}
    return FileInfo(
        width=header.width,
        height=header.height,
        mode=header.mode,
        iterations=contents.iterations,
        iterations_written=header.iterations,
        model_id=header.model_id.hex(),
        format_version=FORMAT_VERSION,
        file_bytes=contents.file_bytes,
        bits_per_pixel=8 * contents.file_bytes / (header.width * header.height),
        bytes_at_iteration=contents.plane_ends,
        points=_points(contents),
        exact=contents.lossless is not None,
        coders=_coder_names(contents, standard_names or {}),
        metadata={name: len(body) for name, body in metadata.items() if body is not None},
        alpha_bytes=None if contents.alpha is None else len(contents.alpha),
        warnings=contents.warnings,
        **shared,
    )


def _contents(reader):
    held = {name: tuple(v) if isinstance(v, list) else v for name, v in reader.held.items()}
    names = {field.name for field in dataclasses.fields(Metadata)}
    metadata = Metadata(**{name: held.pop(name) for name in names & held.keys()})
    return Contents(
        header=reader.header,
        metadata=metadata,
        plane_ends=tuple(step.end for step in reader.steps if not step.channels),
        run_ends=tuple(step.end for step in reader.steps) if held["runs"] else (),
        warnings=tuple(reader.warnings),
        file_bytes=len(reader.view),
        **held,
    )


def _points(contents):
    return tuple(
        Point(run.plane, run.last + 1, end) for run, end in zip(contents.runs, contents.run_ends)
    )


def _coder_names(contents, standard_names):
    if contents.runs:
        return ("runs",)
    if contents.lossless is not None:
        return ("lossless WebP",)
    return tuple(_coder_name(plane.coder, standard_names) for plane in contents.planes)


def _coder_name(coder, standard_names):
    kind = "standard" if coder in STANDARD_CODERS else "unknown"
    return (CODER_NAMES | standard_names).get(coder, f"{kind}({coder})")
