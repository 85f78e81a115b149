"""The table of chunk kinds. A new kind is a row in `KINDS` here, and a field in `fields`.

A row has a parser, from a body to fields, and a writer, from fields to bodies. All that is common
is done by those who go by the table, `bitstream.read` and `bitstream.write`: checksums, limits,
what follows from damage, repeated chunks, and the order in the file.
"""

from collections.abc import Callable, Iterable
import dataclasses
from typing import Any

from rnn_codec.container.fields import MAX_QUALITY_LEVEL, MAX_STRENGTH, Fields, Plane
from rnn_codec.container.header import Header


class Unfit(Exception):
    """An intact chunk does not belong where it stands. The text follows the chunk's name."""


# (body, header, the fields so far by name) -> new fields by name. For a kind that repeats, what is
# new is one item of its field, a list. It raises `Unfit`.
Parser = Callable[[bytes, Header, dict[str, Any]], dict[str, Any]]
# It gives the bodies of all chunks of a kind, and raises `ValueError` for what does not fit.
Writer = Callable[[Header, Fields], Iterable[bytes]]


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of chunk."""

    letter: str  # Readers that do not know an upper-case one refuse the file.
    name: str  # in messages
    field: str  # the name in `Fields` or `Metadata` of what it fills
    parse: Parser
    write: Writer
    limit: str | None = None  # the name in `Limits` of the bound of its body
    # Whether damage ends the reading. Otherwise the chunk is dropped with a warning.
    damage_is_fatal: bool = False
    repeats: bool = False


# ---- Metadata ----


def _metadata(letter, name, field):
    def parse(body, header, held):
        return {field: body}

    def write(header, fields):
        body = getattr(fields.metadata, field)
        return [] if body is None else [body]

    return Kind(letter, name, field, parse, write, limit="max_metadata_bytes")


# ---- Alpha ----


def _parse_alpha(body, header, held):
    if not header.has_alpha:
        raise Unfit("the header declares no alpha")
    return {"alpha": body}


def _write_alpha(header, fields):
    if header.has_alpha != (fields.alpha is not None):
        received = "no alpha" if fields.alpha is None else f"{len(fields.alpha)} bytes of alpha"
        raise ValueError(f"The header says has_alpha={header.has_alpha}. Received: {received}")
    return [fields.alpha] if header.has_alpha else []


# ---- Strength and quality level ----


def _parse_strength(body, header, held):
    if len(body) not in (1, 2):
        raise Unfit(f"expected 1 or 2 bytes, received {len(body)}")
    return {"strength": body[0], "quality_level": body[1] if len(body) == 2 else None}


def _write_strength(header, fields):
    strength, level = fields.strength, fields.quality_level
    if strength is None:
        if level is not None:
            raise ValueError("A quality_level comes with a strength. Received: no strength")
        return []
    if not 0 <= strength <= MAX_STRENGTH:
        raise ValueError(f"strength must be 0 to 255. Received: {strength}")
    if level is None:
        return [bytes((strength,))]
    if not 0 <= level <= MAX_QUALITY_LEVEL:
        raise ValueError(f"quality_level must be 0 to 255. Received: {level}")
    return [bytes((strength, level))]


# ---- Planes ----


def _parse_plane(body, header, held):
    if len(body) < 2:
        raise Unfit(f"is too short: {len(body)} of at least 2 bytes")
    index, coder = body[:2]
    if index >= header.iterations:
        raise Unfit(f"is for iteration {index + 1}, but the header declares {header.iterations}")
    expected = len(held["planes"])
    if index != expected:
        raise Unfit(f"is for iteration {index + 1} where {expected + 1} was expected")
    return {"planes": Plane(coder, body[2:])}


def _write_planes(header, fields):
    if len(fields.planes) != header.iterations:
        raise ValueError(
            f"The header declares {header.iterations} iterations. "
            f"Received: {len(fields.planes)} planes"
        )
    for index, plane in enumerate(fields.planes):
        if not 0 <= plane.coder <= 255:
            raise ValueError(f"A plane's coder must be 0 to 255. Received: {plane.coder}")
        yield bytes((index, plane.coder)) + plane.payload


# ---- The table, in the order of the file ----

KINDS = (
    _metadata("i", "ICC profile", "icc_profile"),
    _metadata("e", "EXIF", "exif"),
    _metadata("x", "XMP", "xmp"),
    Kind("A", "alpha", "alpha", _parse_alpha, _write_alpha, limit="max_alpha_bytes"),
    Kind("S", "strength", "strength", _parse_strength, _write_strength),
    Kind(
        "P", "plane", "planes", _parse_plane, _write_planes, damage_is_fatal=True, repeats=True
    ),
)  # fmt: skip

BY_LETTER = {kind.letter: kind for kind in KINDS}
