"""How bytes are framed: numbers, checksums, and where chunks lie.

A chunk is a letter, the length of its body, the body, and a CRC-32C of all that. This module knows
no kind of chunk; `chunks` has their table. docs/bitstream.md has the layout, byte by byte.
"""

import dataclasses

import google_crc32c

CRC_BYTES = 4
MAX_NUMBER = 2**31 - 1  # It bounds a width, a height, and the length of a chunk.
_MAX_NUMBER_BYTES = 5  # This is what `MAX_NUMBER` takes, at 7 bits a byte.


class Damage(Exception):
    """Nothing past this point can be trusted: for `read` an error in the header, else a warning."""


# ---- Numbers and checksums ----


def write_number(value):
    """Unsigned LEB128: 7 bits a byte, the lowest first; the top bit says that more follow."""
    data = bytearray()
    while value >= 0x80:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    data.append(value)
    return bytes(data)


def read_number(view, start, what):
    """Returns the number and the position after it."""
    value = 0
    for position in range(start, start + _MAX_NUMBER_BYTES):
        (byte,) = take(view, position, 1, what)
        value |= (byte & 0x7F) << 7 * (position - start)
        if byte < 0x80:
            break
    is_longer_than_needed = byte == 0 and position > start
    if byte >= 0x80 or value > MAX_NUMBER or is_longer_than_needed:
        raise Damage(
            f"bytes {start} to {position}, {what}, are {view[start : position + 1].hex(' ')}, "
            f"which is no number up to {MAX_NUMBER} in its shortest form"
        )
    return value, position + 1


def take(view, start, count, what):
    """Returns `count` bytes, without a copy."""
    end = start + count
    if end > len(view):
        raise Damage(f"the file ends at byte {len(view)}, but {what} runs to byte {end}")
    return view[start:end]


def write_crc(fields):
    """Returns the CRC-32C of bytes, as it is stored."""
    return google_crc32c.value(fields).to_bytes(CRC_BYTES, "little")


def check_crc(view, position, computed, what):
    """Compares with the CRC-32C that lies at `position`."""
    stored = int.from_bytes(take(view, position, CRC_BYTES, "the checksum"), "little")
    if stored != computed:
        raise Damage(
            f"{what} fails its checksum (stored 0x{stored:08x}, computed 0x{computed:08x})"
        )


# ---- Chunks ----


@dataclasses.dataclass(frozen=True)
class Span:
    """Where a chunk claims to lie; true once its CRC fits."""

    letter: str
    start: int
    body_start: int
    body_end: int

    @property
    def end(self):
        return self.body_end + CRC_BYTES

    @property
    def body_bytes(self):
        return self.body_end - self.body_start

    @property
    def is_required(self):
        """Whether a reader that does not know the letter must refuse the file."""
        return self.letter.isupper()

    def __str__(self):
        return f"chunk '{self.letter}' at byte {self.start}"


def write_chunk(letter, body):
    if len(body) > MAX_NUMBER:
        raise ValueError(f"A chunk holds {MAX_NUMBER} bytes at most. Received: {len(body)} bytes")
    fields = letter.encode("ascii") + write_number(len(body)) + body
    return fields + write_crc(fields)


def read_span(view, start):
    """Finds the chunk at `start`; it lies within the data, but its CRC was not looked at."""
    letter = chr(view[start])
    if not (letter.isascii() and letter.isalpha()):
        raise Damage(f"byte {start} is 0x{view[start]:02x} where the type of a chunk was expected")
    what = f"chunk '{letter}' at byte {start}"
    length, body_start = read_number(view, start + 1, f"the length of {what}")
    take(view, body_start, length + CRC_BYTES, what)
    return Span(letter, start, body_start, body_start + length)


def read_body(view, span, what):
    """Returns the body of a chunk, a copy, if its checksum fits; `what` names it in messages."""
    body = bytes(view[span.body_start : span.body_end])
    letter_and_length = bytes(view[span.start : span.body_start])
    computed = google_crc32c.extend(google_crc32c.value(letter_and_length), body)
    check_crc(view, span.body_end, computed, what)
    return body


def spans(view, position, max_chunks):
    """Yields where the chunks lie, from `position` to the end of the data."""
    for _ in range(max_chunks):
        if position == len(view):
            return
        span = read_span(view, position)
        yield span
        position = span.end
    if position < len(view):
        raise Damage(f"the file has more than {max_chunks} chunks, those from byte {position} on")
