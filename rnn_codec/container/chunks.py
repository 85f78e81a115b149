"""The table of chunk kinds. A new kind is a row in `KINDS` here, and a field in `fields`.

A row has a parser, from a body to fields, and a writer, from fields to bodies. All that is common
is done by those who go by the table, `bitstream.read` and `bitstream.write`: checksums, limits,
what follows from damage, repeated chunks, and the order in the file.
"""

from collections.abc import Callable, Iterable
import dataclasses
from typing import Any

from rnn_codec.container import framing
from rnn_codec.container.fields import (
    MAX_CHANNELS,
    MAX_QUALITY_LEVEL,
    MAX_STRENGTH,
    Fields,
    Plane,
    Run,
)
from rnn_codec.container.header import NO_MODEL, Header


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
    is_picture: bool = False  # A file has chunks of one such kind only.
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
    if fields.runs or fields.lossless is not None:
        if fields.planes:
            raise ValueError("A file has one kind of picture. Received: planes and another")
        return
    if len(fields.planes) != header.iterations:
        raise ValueError(
            f"The header declares {header.iterations} iterations. "
            f"Received: {len(fields.planes)} planes"
        )
    for index, plane in enumerate(fields.planes):
        if not 0 <= plane.coder <= 255:
            raise ValueError(f"A plane's coder must be 0 to 255. Received: {plane.coder}")
        yield bytes((index, plane.coder)) + plane.payload


# ---- Runs ----


def _parse_run(body, header, held):
    runs, channels = held["runs"], held.get("channels")
    try:
        (plane, first), declared, count, payload = _read_place(body)
    except framing.Damage:
        raise Unfit("does not say which channels it holds") from None
    expected = next_place(runs, channels)
    if (plane, first) != expected:
        raise Unfit(f"is for {_in_words(plane, first)} where {_in_words(*expected)} was expected")
    if plane >= header.iterations:
        raise Unfit(f"is for iteration {plane + 1}, but the header declares {header.iterations}")
    if not runs:
        channels = declared
        if not 1 <= channels <= MAX_CHANNELS:
            raise Unfit(f"declares {channels} channels, expected 1 to {MAX_CHANNELS}")
    rest = channels - first
    if count >= rest:
        raise Unfit(f"is for {count} channels, where {rest - 1} at most come before the last")
    last = first + (count or rest) - 1
    return {"runs": Run(plane, first, last, payload), "channels": channels}


def _read_place(body):
    """Returns plane and first channel, channels of a plane, the count, and what comes after."""
    place, position = framing.read_number(body, 0, "the place")
    plane, first, channels = place >> 1, 0, None
    if place & 1:
        first, position = framing.read_number(body, position, "the first channel")
        if first == 0:
            raise framing.Damage("channel 0 is written in another way")
    if place == 0:
        channels, position = framing.read_number(body, position, "the channels of a plane")
    count, position = framing.read_number(body, position, "the count")
    return (plane, first), channels, count, body[position:]


def _write_runs(header, fields):
    runs, channels = fields.runs, fields.channels
    if (channels is not None) != bool(runs):
        raise ValueError(f"Runs come with channels. Received: {channels} and {len(runs)} runs")
    if not runs:
        return
    if not 1 <= channels <= MAX_CHANNELS:
        raise ValueError(f"channels must be 1 to {MAX_CHANNELS}. Received: {channels}")
    if header.iterations != runs[-1].plane + 1:
        raise ValueError(
            f"The header declares {header.iterations} iterations. "
            f"Received: runs of {runs[-1].plane + 1} planes"
        )
    for index, run in enumerate(runs):
        expected = next_place(runs[max(0, index - 1) : index], channels)
        if (run.plane, run.first) != expected or not run.first <= run.last < channels:
            plane, first = expected
            raise ValueError(
                f"Run {index} must begin at channel {first} of plane {plane} and end below "
                f"channel {channels}. Received: plane {run.plane}, {run.first} to {run.last}"
            )
        place = [2 * run.plane + (run.first > 0)]
        place += [run.first] if run.first else []
        place += [channels] if index == 0 else []
        place += [0 if run.last == channels - 1 else run.last - run.first + 1]
        yield b"".join(map(framing.write_number, place)) + run.payload


def next_place(runs, channels):
    """Returns the plane and the channel that the run after these begins with."""
    if not runs:
        return 0, 0
    last = runs[-1]
    return (last.plane + 1, 0) if last.last == channels - 1 else (last.plane, last.last + 1)


def _in_words(plane, channel):
    return f"channel {channel} of iteration {plane + 1}"


# ---- A lossless picture ----


def _parse_lossless(body, header, held):
    if header.model_id != NO_MODEL or header.iterations != 1:
        raise Unfit("is in a file whose header declares a model or more than one iteration")
    return {"lossless": body}


def _write_lossless(header, fields):
    if fields.lossless is None:
        return []
    if fields.runs or header.model_id != NO_MODEL or header.iterations != 1:
        raise ValueError(
            "A lossless picture comes without runs, under a header of one iteration and no model. "
            f"Received: {len(fields.runs)} runs, {header.iterations} iterations, model "
            f"{header.model_id.hex()}"
        )
    return [fields.lossless]


# ---- The table, in the order of the file ----

_PICTURE = {"damage_is_fatal": True, "is_picture": True}

KINDS = (
    _metadata("i", "ICC profile", "icc_profile"),
    _metadata("e", "EXIF", "exif"),
    _metadata("x", "XMP", "xmp"),
    Kind("A", "alpha", "alpha", _parse_alpha, _write_alpha, "max_alpha_bytes"),
    Kind("S", "strength", "strength", _parse_strength, _write_strength),
    Kind("P", "plane", "planes", _parse_plane, _write_planes, repeats=True, **_PICTURE),
    Kind("R", "run", "runs", _parse_run, _write_runs, repeats=True, **_PICTURE),
    Kind(
        "L",
        "lossless",
        "lossless",
        _parse_lossless,
        _write_lossless,
        "max_lossless_bytes",
        **_PICTURE,
    ),
)

BY_LETTER = {kind.letter: kind for kind in KINDS}


def progress(held):
    """Returns how many iterations are whole, and how many channels of the next are there.

    Args:
        held: the fields so far by name.
    """
    if held["runs"]:
        return next_place(held["runs"], held["channels"])
    return len(held["planes"]) + ("lossless" in held), 0
