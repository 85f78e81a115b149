"""Container of `.rnnc` files: one header, then chunks, one of them for each iteration.

Why chunks: a reader that stops after plane n holds a valid picture of quality n, so truncation is
a feature, not corruption. Each chunk therefore carries its own length and CRC-32C, a plane carries
its index, nothing in plane n refers to a later one, and what every quality needs comes first.

What `read` promises: data that were cut or damaged give the first planes that were written, in
order and unchanged, and a warning that names the byte; or a `BitstreamError`. Never another plane.

Layout, worked example and version policy: docs/bitstream.md. All integers are little-endian. This
module knows no pixels, probabilities or networks: payloads, profiles and alpha are opaque bytes.
"""

import dataclasses

import google_crc32c

from rnn_codec.errors import BitstreamError

# As in PNG: a byte that is not ASCII, then line ends that a transfer as text would change.
SIGNATURE = b"\x89RNC\r\n\x1a\n"
FORMAT_VERSION = 1

# What packed a plane; the payload of a raw one is its bits as they are.
RAW, NEURAL, ADAPTIVE = 0, 1, 2
# The payload is a whole file of a standard codec.
JPEG, JPEG2000, WEBP, AVIF, HEIF = range(16, 21)
_CODER_NAMES = {
    RAW: "raw", NEURAL: "neural", ADAPTIVE: "adaptive",
    JPEG: "jpeg", JPEG2000: "jpeg2000", WEBP: "webp", AVIF: "avif", HEIF: "heif",
}  # fmt: skip

# The strength that adds all of a residual.
FULL_STRENGTH = 64
MAX_STRENGTH = 255
MAX_QUALITY_LEVEL = 255

_MODEL_ID_BYTES = 8
_CRC_BYTES = 4
_MAX_NUMBER = 2**31 - 1  # of a width, a height, the length of a chunk
_MAX_NUMBER_BYTES = 5  # what it takes, 7 bits a byte
_MAX_FIELDS = {"width": _MAX_NUMBER, "height": _MAX_NUMBER, "iterations": 255}

_COLOUR_RGB = 0x01
_COLOUR_ALPHA = 0x02

_PLANE = "P"
_ALPHA = "A"
_STRENGTH = "S"
_METADATA = {"i": "icc_profile", "e": "exif", "x": "xmp"}  # in the order of the file
_CHUNK_NAMES = {
    "P": "plane", "A": "alpha", "S": "strength",
    "i": "ICC profile", "e": "EXIF", "x": "XMP",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Header:
    """What holds for the whole picture."""

    width: int  # pixels, 1..2^31-1
    height: int
    is_rgb: bool  # False: grey
    has_alpha: bool
    iterations: int  # 1..255, as written; a file that was cut holds fewer planes
    model_id: bytes  # 8 bytes: the start of a SHA-256 over all that the model is

    @property
    def mode(self):
        """The Pillow mode of the picture: "L", "LA", "RGB" or "RGBA"."""
        return ("RGB" if self.is_rgb else "L") + ("A" if self.has_alpha else "")


@dataclasses.dataclass(frozen=True)
class Plane:
    """The code of one iteration."""

    coder: int  # 0..255: how the payload was made; `RAW`, an entropy coder, a standard codec
    payload: bytes


@dataclasses.dataclass(frozen=True)
class Metadata:
    """Bodies as other image formats carry them; None: the file has none."""

    icc_profile: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None


@dataclasses.dataclass(frozen=True)
class Limits:
    """What `read` accepts from a file it does not trust, checked before anything is allocated."""

    max_pixels: int = 89_478_485  # above this Pillow warns of a decompression bomb
    max_metadata_bytes: int = 16 * 2**20  # of each chunk; a larger one is dropped
    max_alpha_bytes: int = 128 * 2**20  # what `max_pixels` of noise take as PNG, with room to spare
    max_chunks: int = 10_000  # else small damaged chunks by the million cost memory for warnings


# What `truncate` and `read_info` go by: they make no pixels and unpack no metadata.
_NO_LIMITS = Limits(
    max_pixels=_MAX_NUMBER**2, max_metadata_bytes=_MAX_NUMBER, max_alpha_bytes=_MAX_NUMBER
)


@dataclasses.dataclass(frozen=True)
class Contents:
    """What a file holds, as far as it is intact."""

    header: Header
    planes: tuple[Plane, ...]  # at least one, at most `header.iterations`
    plane_ends: tuple[int, ...]  # bytes of the file up to and with each plane
    metadata: Metadata
    alpha: bytes | None  # None although `header.has_alpha`: it was damaged
    strength: int | None  # 0..255, in 64ths; None: the file has none
    quality_level: int | None  # 0..255, of a standard codec; None: the file has none
    warnings: tuple[str, ...]
    file_bytes: int


@dataclasses.dataclass(frozen=True)
class FileInfo:
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
    coders: tuple[str, ...]  # of each plane: "raw", "neural", ..., "heif", or "unknown(n)"
    metadata: dict[str, int]  # bytes of each kind present: icc_profile, exif, xmp
    alpha_bytes: int | None
    strength: int | None  # of RecCNN, in 64ths
    quality_level: int | None  # of the standard codec, from 0, its lowest, to 255, its highest
    warnings: tuple[str, ...]

    def as_dict(self):
        """Returns the fields in the types of JSON."""
        fields = dataclasses.asdict(self)
        return {name: list(v) if isinstance(v, tuple) else v for name, v in fields.items()}


class _Damage(Exception):
    """Nothing past this point can be trusted: for `read` an error in the header, else a warning."""


# ---- The whole file ----


def write(header, planes, metadata=Metadata(), alpha=None, strength=None, quality_level=None):
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

    Raises:
        ValueError: An argument does not fit the format or another argument.
    """
    _check_arguments(header, planes, alpha, strength, quality_level)
    parts = [_write_header(header)]
    for kind, name in _METADATA.items():
        body = getattr(metadata, name)
        if body is not None:
            parts.append(_write_chunk(kind, body))
    if alpha is not None:
        parts.append(_write_chunk(_ALPHA, alpha))
    if strength is not None:
        body = (strength,) if quality_level is None else (strength, quality_level)
        parts.append(_write_chunk(_STRENGTH, bytes(body)))
    for index, plane in enumerate(planes):
        parts.append(_write_chunk(_PLANE, bytes((index, plane.coder)) + plane.payload))
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
    reader = _read_chunks(data, strict, limits)
    return Contents(
        header=reader.header,
        planes=tuple(reader.planes),
        plane_ends=tuple(reader.plane_ends),
        metadata=Metadata(**reader.metadata),
        alpha=reader.alpha,
        strength=reader.strength,
        quality_level=reader.quality_level,
        warnings=tuple(reader.warnings),
        file_bytes=len(reader.view),
    )


def truncate(data, iterations):
    """Returns the file that an encoder would have written had it stopped after `iterations`.

    Unlike a cut, which leaves the header's count as it was, this gives a file that reads without a
    warning. Unknown optional chunks before the last plane are kept; damaged ones are left out. A
    lost alpha channel stays declared, so that readers go on reporting the loss.

    Raises:
        BitstreamError: The file holds fewer whole iterations, or cannot be read at all.
    """
    reader = _read_chunks(data, strict=False, limits=_NO_LIMITS)
    if not 1 <= iterations <= len(reader.planes):
        raise BitstreamError(
            f"expected 1 to {len(reader.planes)} iterations, which is what the file holds, "
            f"received {iterations}"
        )
    end = reader.plane_ends[iterations - 1]
    parts = [_write_header(dataclasses.replace(reader.header, iterations=iterations))]
    parts += [reader.view[span.start : span.end] for span in reader.kept if span.end <= end]
    return b"".join(parts)


def read_info(data):
    """Returns the FileInfo of a file; no limit on pixels applies, as none are made."""
    contents = read(data, limits=_NO_LIMITS)
    header = contents.header
    metadata = dataclasses.asdict(contents.metadata)
    return FileInfo(
        width=header.width,
        height=header.height,
        mode=header.mode,
        iterations=len(contents.planes),
        iterations_written=header.iterations,
        model_id=header.model_id.hex(),
        format_version=FORMAT_VERSION,
        file_bytes=contents.file_bytes,
        bits_per_pixel=8 * contents.file_bytes / (header.width * header.height),
        bytes_at_iteration=contents.plane_ends,
        coders=tuple(_coder_name(plane.coder) for plane in contents.planes),
        metadata={name: len(body) for name, body in metadata.items() if body is not None},
        alpha_bytes=None if contents.alpha is None else len(contents.alpha),
        strength=contents.strength,
        quality_level=contents.quality_level,
        warnings=contents.warnings,
    )


def _coder_name(coder):
    return _CODER_NAMES.get(coder, f"unknown({coder})")


def _check_arguments(header, planes, alpha, strength, quality_level):
    for name, most in _MAX_FIELDS.items():
        value = getattr(header, name)
        if not 1 <= value <= most:
            raise ValueError(f"{name} must be 1 to {most}. Received: {value}")
    if len(header.model_id) != _MODEL_ID_BYTES:
        raise ValueError(f"model_id must be {_MODEL_ID_BYTES} bytes. Received: {header.model_id!r}")
    if len(planes) != header.iterations:
        raise ValueError(
            f"The header declares {header.iterations} iterations. Received: {len(planes)} planes"
        )
    for plane in planes:
        if not 0 <= plane.coder <= 255:
            raise ValueError(f"A plane's coder must be 0 to 255. Received: {plane.coder}")
    if strength is not None and not 0 <= strength <= MAX_STRENGTH:
        raise ValueError(f"strength must be 0 to 255. Received: {strength}")
    if quality_level is not None:
        if strength is None:
            raise ValueError("A quality_level comes with a strength. Received: no strength")
        if not 0 <= quality_level <= MAX_QUALITY_LEVEL:
            raise ValueError(f"quality_level must be 0 to 255. Received: {quality_level}")
    if header.has_alpha != (alpha is not None):
        received = "no alpha" if alpha is None else f"{len(alpha)} bytes of alpha"
        raise ValueError(f"The header says has_alpha={header.has_alpha}. Received: {received}")


# ---- Header ----


def _write_header(header):
    colour = (_COLOUR_RGB if header.is_rgb else 0) | (_COLOUR_ALPHA if header.has_alpha else 0)
    fields = SIGNATURE + bytes((FORMAT_VERSION, colour, header.iterations))
    fields += _write_number(header.width) + _write_number(header.height) + header.model_id
    return fields + _write_crc(google_crc32c.value(fields))


def _read_header(view):
    """Returns the Header and the position of the first chunk."""
    _check_signature(view)
    try:
        _check_version(view)
        fields, position = _read_header_fields(view)
    except _Damage as damage:
        raise BitstreamError(f"{damage}; fetch the file again") from None
    colour, iterations, width, height, model_id = fields
    if colour & ~(_COLOUR_RGB | _COLOUR_ALPHA):
        raise BitstreamError(
            f"the header's colour byte 0x{colour:02x} has bits that this reader does not know; "
            "decode the file with a newer rnn_codec"
        )
    if not (width and height and iterations):
        raise BitstreamError(
            f"expected at least 1 of each, received a header of {width} x {height} pixels and "
            f"{iterations} iterations; write the file anew"
        )
    is_rgb, has_alpha = bool(colour & _COLOUR_RGB), bool(colour & _COLOUR_ALPHA)
    return Header(width, height, is_rgb, has_alpha, iterations, model_id), position


def _read_header_fields(view):
    """Returns the fields as stored, once their CRC fits, and the position after it."""
    start = len(SIGNATURE) + 1
    colour, iterations = _take(view, start, 2, "the colour and the number of iterations")
    width, position = _read_number(view, start + 2, "the width")
    height, position = _read_number(view, position, "the height")
    model_id = bytes(_take(view, position, _MODEL_ID_BYTES, "the model identity"))
    position += _MODEL_ID_BYTES
    _check_crc(view, position, google_crc32c.value(bytes(view[:position])), "the header")
    return (colour, iterations, width, height, model_id), position + _CRC_BYTES


def _check_signature(view):
    start = bytes(view[: len(SIGNATURE)])
    if start == SIGNATURE:
        return
    if not start:
        raise BitstreamError("expected an .rnnc file, received an empty one; check its source")
    if SIGNATURE.startswith(start):
        raise BitstreamError(
            f"the file ends at byte {len(view)}, inside the signature of an .rnnc file; "
            "fetch it again"
        )
    if start.startswith(SIGNATURE[:4]):
        raise BitstreamError(
            f"the signature of the .rnnc file was changed to {start.hex(' ')}, expected "
            f"{SIGNATURE.hex(' ')}; a transfer as text does this: fetch it again as binary data"
        )
    raise BitstreamError(
        f"expected an .rnnc file, which starts with {SIGNATURE.hex(' ')}, received one that starts "
        f"with {start.hex(' ')}; name a file that encode wrote"
    )


def _check_version(view):
    """Comes before the header's CRC, as another version may keep that elsewhere."""
    (version,) = _take(view, len(SIGNATURE), 1, "the format version")
    if version != FORMAT_VERSION:
        raise BitstreamError(
            f"expected format version {FORMAT_VERSION}, received {version}; decode the file with a "
            "newer rnn_codec or, if it is damaged, fetch it again"
        )


def _check_pixels(header, limits):
    pixels = header.width * header.height
    if pixels > limits.max_pixels:
        raise BitstreamError(
            f"expected at most {limits.max_pixels:,} pixels, received a file that declares "
            f"{header.width} x {header.height} = {pixels:,}; raise --max_pixels if it can be "
            "trusted"
        )


# ---- Chunks ----


@dataclasses.dataclass(frozen=True)
class _Span:
    """Where a chunk claims to lie; true once its CRC fits."""

    kind: str
    start: int
    body_start: int
    body_end: int

    @property
    def end(self):
        return self.body_end + _CRC_BYTES

    @property
    def is_required(self):
        return self.kind.isupper()

    def __str__(self):
        name = _CHUNK_NAMES.get(self.kind, "unknown")
        return f"{name} chunk '{self.kind}' at byte {self.start}"


def _write_chunk(kind, body):
    if len(body) > _MAX_NUMBER:
        raise ValueError(f"A chunk holds {_MAX_NUMBER} bytes at most. Received: {len(body)} bytes")
    fields = kind.encode("ascii") + _write_number(len(body)) + body
    return fields + _write_crc(google_crc32c.value(fields))


def _read_span(view, start):
    """Finds the chunk at `start`; it lies within the data, but its CRC was not looked at."""
    kind = chr(view[start])
    if not (kind.isascii() and kind.isalpha()):
        raise _Damage(f"byte {start} is 0x{view[start]:02x} where the type of a chunk was expected")
    what = f"chunk '{kind}' at byte {start}"
    length, body_start = _read_number(view, start + 1, f"the length of {what}")
    _take(view, body_start, length + _CRC_BYTES, what)
    return _Span(kind, start, body_start, body_start + length)


def _read_body(view, span):
    body = bytes(view[span.body_start : span.body_end])
    type_and_length = bytes(view[span.start : span.body_start])
    computed = google_crc32c.extend(google_crc32c.value(type_and_length), body)
    _check_crc(view, span.body_end, computed, f"the {span}")
    return body


def _spans(view, position, max_chunks):
    """Yields where the chunks lie, from `position` to the end of the data."""
    for _ in range(max_chunks):
        if position == len(view):
            return
        span = _read_span(view, position)
        yield span
        position = span.end
    if position < len(view):
        raise _Damage(f"the file has more than {max_chunks} chunks, those from byte {position} on")


def _read_chunks(data, strict, limits):
    """Returns a `_Reader` that holds everything intact and at least one plane."""
    view = memoryview(data)
    header, position = _read_header(view)
    _check_pixels(header, limits)
    reader = _Reader(view, header, strict, limits)
    try:
        for span in _spans(view, position, limits.max_chunks):
            reader.add(span)
        reader.check_end()
    except _Damage as damage:
        reader.stop(damage)
    reader.check_alpha()
    return reader


class _Reader:
    """What the chunks of one file have said so far.

    `add` takes the chunks in order. Where one cannot be used, it either warns and leaves it out, or
    raises `_Damage`: then no later chunk can be used either.
    """

    def __init__(self, view, header, strict, limits):
        self.view = view
        self.header = header
        self.planes = []
        self.plane_ends = []
        self.metadata = {}  # name -> body
        self.alpha = None
        self.strength = None
        self.quality_level = None
        self.kept = []  # spans of the chunks that `truncate` copies
        self.warnings = []
        self._strict = strict
        self._max_bytes = dict.fromkeys(_METADATA, limits.max_metadata_bytes)
        self._max_bytes[_ALPHA] = limits.max_alpha_bytes

    def add(self, span):
        length = span.body_end - span.body_start
        limit = self._max_bytes.get(span.kind, length)
        if length > limit:
            self._warn(f"the {span} has {length} bytes, the limit is {limit}; it is dropped")
            return
        try:
            body = _read_body(self.view, span)
        except _Damage as damage:
            if span.is_required and span.kind not in (_ALPHA, _STRENGTH):
                raise
            self._warn(f"{damage}; it is dropped")
            return
        if self._use(span, body):
            self.kept.append(span)

    def _use(self, span, body):
        """Returns whether the chunk, which is intact, belongs in the file."""
        if span.kind == _PLANE:
            return self._use_plane(span, body)
        if span.kind == _ALPHA:
            return self._use_alpha(span, body)
        if span.kind == _STRENGTH:
            return self._use_strength(span, body)
        if span.kind in _METADATA:
            return self._use_metadata(span, body)
        if span.is_required:
            raise BitstreamError(
                f"the file needs the {span}, which this reader cannot use; "
                "decode it with a newer rnn_codec"
            )
        return True

    def _use_plane(self, span, body):
        if len(body) < 2:
            raise _Damage(f"the {span} is too short: {len(body)} of at least 2 bytes")
        index, coder = body[:2]
        if index >= self.header.iterations:
            raise _Damage(
                f"the {span} is for iteration {index + 1}, but the header declares "
                f"{self.header.iterations}"
            )
        if index != len(self.planes):
            raise _Damage(
                f"the {span} is for iteration {index + 1} where {len(self.planes) + 1} was expected"
            )
        self.planes.append(Plane(coder, body[2:]))
        self.plane_ends.append(span.end)
        return True

    def _use_alpha(self, span, body):
        if not self.header.has_alpha:
            self._warn(f"the {span} is dropped: the header declares no alpha")
        elif self.alpha is not None:
            self._warn(f"the {span} is dropped: the first one holds")
        else:
            self.alpha = body
            return True
        return False

    def _use_strength(self, span, body):
        if len(body) not in (1, 2):
            self._warn(f"the {span} is dropped: expected 1 or 2 bytes, received {len(body)}")
        elif self.strength is not None:
            self._warn(f"the {span} is dropped: the first one holds")
        else:
            self.strength = body[0]
            self.quality_level = body[1] if len(body) == 2 else None
            return True
        return False

    def _use_metadata(self, span, body):
        name = _METADATA[span.kind]
        if name in self.metadata:
            self._warn(f"the {span} is dropped: the first one holds")
            return False
        self.metadata[name] = body
        return True

    def check_end(self):
        if len(self.planes) < self.header.iterations:
            raise _Damage(
                f"the file ends at byte {len(self.view)} where the chunk of iteration "
                f"{len(self.planes) + 1} was expected"
            )

    def stop(self, damage):
        """Takes note of why nothing after `damage` is read."""
        if not self.planes:
            raise BitstreamError(f"{damage}; no whole iteration remains: fetch the file again")
        if len(self.planes) == self.header.iterations:
            self._warn(f"{damage}; nothing is read from there on, but no iteration is missing")
        else:
            self._warn(
                f"{damage}; intact: {len(self.planes)} of {self.header.iterations} iterations"
            )

    def check_alpha(self):
        if self.header.has_alpha and self.alpha is None:
            self._warn("the header declares alpha, but no intact alpha chunk was found")

    def _warn(self, message):
        if self._strict:
            raise BitstreamError(f"{message}; read without strict to use what is intact")
        self.warnings.append(message)


# ---- Parts that header and chunks share ----


def _write_number(value):
    """Unsigned LEB128: 7 bits a byte, the lowest first; the top bit says that more follow."""
    data = bytearray()
    while value >= 0x80:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    data.append(value)
    return bytes(data)


def _read_number(view, start, what):
    """Returns the number and the position after it."""
    value = 0
    for position in range(start, start + _MAX_NUMBER_BYTES):
        (byte,) = _take(view, position, 1, what)
        value |= (byte & 0x7F) << 7 * (position - start)
        if byte < 0x80:
            break
    is_longer_than_needed = byte == 0 and position > start
    if byte >= 0x80 or value > _MAX_NUMBER or is_longer_than_needed:
        raise _Damage(
            f"bytes {start} to {position}, {what}, are {view[start : position + 1].hex(' ')}, "
            f"which is no number up to {_MAX_NUMBER} in its shortest form"
        )
    return value, position + 1


def _take(view, start, count, what):
    """Returns `count` bytes, without a copy."""
    end = start + count
    if end > len(view):
        raise _Damage(f"the file ends at byte {len(view)}, but {what} runs to byte {end}")
    return view[start:end]


def _write_crc(crc):
    return crc.to_bytes(_CRC_BYTES, "little")


def _check_crc(view, position, computed, what):
    """Compares with the CRC-32C that lies at `position`."""
    stored = int.from_bytes(_take(view, position, _CRC_BYTES, "the checksum"), "little")
    if stored != computed:
        raise _Damage(
            f"{what} fails its checksum (stored 0x{stored:08x}, computed 0x{computed:08x})"
        )
