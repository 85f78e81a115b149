"""Container of `.rnnc` files: one header, then chunks, one of them for each iteration.

Why chunks: a reader that stops after plane n holds a valid picture of quality n, so truncation is
a feature, not corruption. Each chunk therefore carries its own length and CRC-32C, a plane carries
its index, nothing in plane n refers to a later one, and what every quality needs comes first.

What `read` promises: data that were cut or damaged give the first planes that were written, in
order and unchanged, and a warning that names the byte; or a `BitstreamError`. Never another plane.

Layout, worked example and version policy: docs/bitstream.md. All integers are little-endian. The
container knows no pixels, probabilities or networks: payloads, profiles and alpha are opaque bytes.
This module reads and writes whole files; what a chunk may hold stands in `chunks`, one row a kind.
"""

import dataclasses

from rnn_codec.container import chunks, framing
from rnn_codec.container.fields import (
    ADAPTIVE,
    AVIF,
    CODER_NAMES,
    FULL_STRENGTH,
    HEIF,
    JPEG,
    JPEG2000,
    MAX_QUALITY_LEVEL,
    MAX_STRENGTH,
    NEURAL,
    NO_LIMITS,
    RAW,
    WEBP,
    Fields,
    Limits,
    Metadata,
    Plane,
    Shared,
)
from rnn_codec.container.framing import Damage
from rnn_codec.container.header import (
    FORMAT_VERSION,
    SIGNATURE,
    Header,
    check_header,
    read_header,
    write_header,
)
from rnn_codec.errors import BitstreamError

__all__ = [
    "ADAPTIVE",
    "AVIF",
    "FORMAT_VERSION",
    "FULL_STRENGTH",
    "HEIF",
    "JPEG",
    "JPEG2000",
    "MAX_QUALITY_LEVEL",
    "MAX_STRENGTH",
    "NEURAL",
    "RAW",
    "SIGNATURE",
    "WEBP",
    "Contents",
    "FileInfo",
    "Header",
    "Limits",
    "Metadata",
    "Plane",
    "read",
    "read_info",
    "truncate",
    "write",
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contents(Fields):
    """What a file holds, as far as it is intact.

    `planes` are at least one, and at most `header.iterations`. `alpha` is None although
    `header.has_alpha` where it was damaged.
    """

    header: Header
    plane_ends: tuple[int, ...]  # bytes of the file up to and with each plane
    warnings: tuple[str, ...]
    file_bytes: int


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
    coders: tuple[str, ...]  # of each plane: "raw", "neural", "adaptive", or "unknown(n)"
    metadata: dict[str, int]  # bytes of each kind present: icc_profile, exif, xmp
    alpha_bytes: int | None
    warnings: tuple[str, ...]

    def as_dict(self):
        """Returns the fields in the types of JSON."""
        fields = dataclasses.asdict(self)
        return {name: list(v) if isinstance(v, tuple) else v for name, v in fields.items()}


# ---- The whole file ----


def write(
    header, planes=(), metadata=Metadata(), alpha=None, strength=None, quality_level=None, **others
):
    """Returns the bytes of a file.

    Args:
        header: Header. `iterations` is the number of planes.
        planes: sequence of Plane, from the first iteration on.
        metadata: Metadata. Defaults to none.
        alpha: bytes, a PNG stream; given if and only if `header.has_alpha`.
        strength: int, 0 to 255. How much of its residual a network adds, in 64ths. Defaults to
            none, which is all of it.
        quality_level: int, 0 to 255. The quality of a standard codec, of which there is a strength
            too. Defaults to none, which is unknown.
        **others: further fields of `Fields`.

    Raises:
        ValueError: An argument does not fit the format or another argument.
    """
    check_header(header)
    others |= {"strength": strength, "quality_level": quality_level}
    fields = Fields(planes=tuple(planes), metadata=metadata, alpha=alpha, **others)
    parts = [write_header(header)]
    for kind in chunks.KINDS:
        parts += [framing.write_chunk(kind.letter, body) for body in kind.write(header, fields)]
    return b"".join(parts)


def read(data, strict=False, limits=Limits()):
    """Returns the intact part of a file.

    Args:
        data: bytes-like. A file, or its beginning.
        strict: bool. Whether anything worth a warning is an error. Defaults to False.
        limits: Limits. What to accept.

    Returns:
        Contents with at least one plane.

    Raises:
        BitstreamError: Not such a file, or one with no whole plane, with too many pixels, or in
            need of a newer reader; with `strict`, also any damage.
    """
    return _read_chunks(data, strict, limits).contents()


def truncate(data, iterations):
    """Returns the file that an encoder would have written had it stopped after `iterations`.

    Unlike a cut, which leaves the header's count as it was, this gives a file that reads without a
    warning. Unknown optional chunks before the last plane are kept; damaged ones are left out. A
    lost alpha channel stays declared, so that readers go on reporting the loss.

    Raises:
        BitstreamError: The file holds fewer whole iterations, or cannot be read at all.
    """
    reader = _read_chunks(data, strict=False, limits=NO_LIMITS)
    if not 1 <= iterations <= len(reader.plane_ends):
        raise BitstreamError(
            f"expected 1 to {len(reader.plane_ends)} iterations, which is what the file holds, "
            f"received {iterations}"
        )
    end = reader.plane_ends[iterations - 1]
    parts = [write_header(dataclasses.replace(reader.header, iterations=iterations))]
    parts += [reader.view[span.start : span.end] for span in reader.kept if span.end <= end]
    return b"".join(parts)


def read_info(data):
    """Returns the FileInfo of a file; no limit on pixels applies, as none are made."""
    contents = read(data, limits=NO_LIMITS)
    header = contents.header
    metadata = dataclasses.asdict(contents.metadata)
    shared = {field.name: getattr(contents, field.name) for field in dataclasses.fields(Shared)}
    return FileInfo(
        width=header.width,
        height=header.height,
        mode=header.mode,
        iterations=len(contents.plane_ends),
        iterations_written=header.iterations,
        model_id=header.model_id.hex(),
        format_version=FORMAT_VERSION,
        file_bytes=contents.file_bytes,
        bits_per_pixel=8 * contents.file_bytes / (header.width * header.height),
        bytes_at_iteration=contents.plane_ends,
        coders=tuple(_coder_name(plane.coder) for plane in contents.planes),
        metadata={name: len(body) for name, body in metadata.items() if body is not None},
        alpha_bytes=None if contents.alpha is None else len(contents.alpha),
        warnings=contents.warnings,
        **shared,
    )


def _coder_name(coder):
    return CODER_NAMES.get(coder, f"unknown({coder})")


# ---- Reading by the table ----


def _read_chunks(data, strict, limits):
    """Returns a `_Reader` that holds everything intact and at least one plane."""
    view = memoryview(data)
    header, position = read_header(view)
    _check_pixels(header, limits)
    reader = _Reader(view, header, strict, limits)
    try:
        for span in framing.spans(view, position, limits.max_chunks):
            reader.add(span)
        reader.check_end()
    except Damage as damage:
        reader.stop(damage)
    reader.check_alpha()
    return reader


def _check_pixels(header, limits):
    pixels = header.width * header.height
    if pixels > limits.max_pixels:
        raise BitstreamError(
            f"expected at most {limits.max_pixels:,} pixels, received a file that declares "
            f"{header.width} x {header.height} = {pixels:,}; raise --max_pixels if it can be "
            "trusted"
        )


class _Reader:
    """What the chunks of one file have said so far.

    `add` takes the chunks in order. Where one cannot be used, it either warns and leaves it out, or
    raises `Damage`: then no later chunk can be used either.
    """

    def __init__(self, view, header, strict, limits):
        self.view = view
        self.header = header
        self.plane_ends = []
        self.kept = []  # spans of the chunks that `truncate` copies
        self._held = {kind.field: [] for kind in chunks.KINDS if kind.repeats}
        self._warnings = []
        self._strict = strict
        self._limits = limits

    def contents(self):
        """Returns all of it, as Contents."""
        held = {name: tuple(v) if isinstance(v, list) else v for name, v in self._held.items()}
        names = {field.name for field in dataclasses.fields(Metadata)}
        metadata = Metadata(**{name: held.pop(name) for name in names & held.keys()})
        return Contents(
            header=self.header,
            metadata=metadata,
            plane_ends=tuple(self.plane_ends),
            warnings=tuple(self._warnings),
            file_bytes=len(self.view),
            **held,
        )

    def add(self, span):
        kind = chunks.BY_LETTER.get(span.letter)
        name = f"the {kind.name if kind else 'unknown'} {span}"
        limit = getattr(self._limits, kind.limit) if kind and kind.limit else span.body_bytes
        if span.body_bytes > limit:
            self._warn(f"{name} has {span.body_bytes} bytes, the limit is {limit}; it is dropped")
            return
        try:
            body = framing.read_body(self.view, span, name)
        except Damage as damage:
            if kind.damage_is_fatal if kind else span.is_required:
                raise
            self._warn(f"{damage}; it is dropped")
            return
        if kind:
            self._use(kind, span, body, name)
        elif span.is_required:
            raise BitstreamError(
                f"the file needs {name}, which this reader cannot use; "
                "decode it with a newer rnn_codec"
            )
        else:
            self.kept.append(span)

    def _use(self, kind, span, body, name):
        """Takes over what an intact chunk holds, unless it does not belong there."""
        try:
            parsed = kind.parse(body, self.header, self._held)
            if kind.field in self._held and not kind.repeats:
                raise chunks.Unfit("the first one holds")
        except chunks.Unfit as reason:
            if kind.damage_is_fatal:
                raise Damage(f"{name} {reason}") from None
            self._warn(f"{name} is dropped: {reason}")
            return
        if kind.repeats:
            self._held[kind.field].append(parsed.pop(kind.field))
            self.plane_ends.append(span.end)
        self._held.update(parsed)
        self.kept.append(span)

    def check_end(self):
        if len(self.plane_ends) < self.header.iterations:
            raise Damage(
                f"the file ends at byte {len(self.view)} where the chunk of iteration "
                f"{len(self.plane_ends) + 1} was expected"
            )

    def stop(self, damage):
        """Takes note of why nothing after `damage` is read."""
        count = len(self.plane_ends)
        if not count:
            raise BitstreamError(f"{damage}; no whole iteration remains: fetch the file again")
        if count == self.header.iterations:
            self._warn(f"{damage}; nothing is read from there on, but no iteration is missing")
        else:
            self._warn(f"{damage}; intact: {count} of {self.header.iterations} iterations")

    def check_alpha(self):
        if self.header.has_alpha and self._held.get("alpha") is None:
            self._warn("the header declares alpha, but no intact alpha chunk was found")

    def _warn(self, message):
        if self._strict:
            raise BitstreamError(f"{message}; read without strict to use what is intact")
        self._warnings.append(message)
