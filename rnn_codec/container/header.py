"""The header of a `.rnnc` file: what holds for the whole picture."""

import dataclasses

import google_crc32c

from rnn_codec.container import framing
from rnn_codec.container.framing import Damage
from rnn_codec.errors import BitstreamError

# As PNG's, it is a byte that is not ASCII, then line ends that a transfer as text would change.
SIGNATURE = b"\x89RNC\r\n\x1a\n"
FORMAT_VERSION = 1

MODEL_ID_BYTES = 8
# This identity stands in files that need no model.
NO_MODEL = bytes(MODEL_ID_BYTES)

_COLOUR_RGB = 0x01
_COLOUR_ALPHA = 0x02

_MAX_FIELDS = {"width": framing.MAX_NUMBER, "height": framing.MAX_NUMBER, "iterations": 255}


@dataclasses.dataclass(frozen=True)
class Header:
    """What holds for the whole picture."""

    width: int  # pixels, 1..2^31-1
    height: int
    is_rgb: bool  # False: grey
    has_alpha: bool
    # 1..255, as written: planes, whole or begun. A file that was cut holds fewer.
    iterations: int
    model_id: bytes  # 8 bytes: the start of a SHA-256 over all that the model is

    @property
    def mode(self):
        """The Pillow mode of the picture: "L", "LA", "RGB" or "RGBA"."""
        return ("RGB" if self.is_rgb else "L") + ("A" if self.has_alpha else "")


def check_header(header):
    """Raises `ValueError` for a field that the format cannot hold."""
    for name, most in _MAX_FIELDS.items():
        value = getattr(header, name)
        if not 1 <= value <= most:
            raise ValueError(f"{name} must be 1 to {most}. Received: {value}")
    if len(header.model_id) != MODEL_ID_BYTES:
        raise ValueError(f"model_id must be {MODEL_ID_BYTES} bytes. Received: {header.model_id!r}")


def write_header(header):
    """Returns the bytes of a header. How many they are does not depend on `iterations`."""
    colour = (_COLOUR_RGB if header.is_rgb else 0) | (_COLOUR_ALPHA if header.has_alpha else 0)
    fields = SIGNATURE + bytes((FORMAT_VERSION, colour, header.iterations))
    fields += framing.write_number(header.width) + framing.write_number(header.height)
    fields += header.model_id
    return fields + framing.write_crc(fields)


def read_header(view):
    """Returns the Header and the position of the first chunk."""
    _check_signature(view)
    try:
        _check_version(view)
        fields, position = _read_fields(view)
    except Damage as damage:
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


def _read_fields(view):
    """Returns the fields as stored, once their CRC fits, and the position after it."""
    start = len(SIGNATURE) + 1
    colour, iterations = framing.take(view, start, 2, "the colour and the number of iterations")
    width, position = framing.read_number(view, start + 2, "the width")
    height, position = framing.read_number(view, position, "the height")
    model_id = bytes(framing.take(view, position, MODEL_ID_BYTES, "the model identity"))
    position += MODEL_ID_BYTES
    framing.check_crc(view, position, google_crc32c.value(bytes(view[:position])), "the header")
    return (colour, iterations, width, height, model_id), position + framing.CRC_BYTES


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
    (version,) = framing.take(view, len(SIGNATURE), 1, "the format version")
    if version != FORMAT_VERSION:
        raise BitstreamError(
            f"expected format version {FORMAT_VERSION}, received {version}; decode the file with a "
            "newer rnn_codec or, if it is damaged, fetch it again"
        )
