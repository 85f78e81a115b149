"""Bit planes to chunk payloads and back: the seam where an entropy coder takes over.

A plane is uint8 zeros and ones, `[height/16, width/16, bits]`. Raw, it is packed eight to a byte,
the first bit in the highest place, channels running fastest. Knows nothing of pixels or networks.
"""

import numpy as np

from rnn_codec import bitstream
from rnn_codec.errors import BitstreamError


def pack(bits):
    """The `bitstream.Plane` of one plane of bits."""
    return bitstream.Plane(bitstream.RAW, np.packbits(bits).tobytes())


def unpack(planes, shape):
    """Bits of the planes of a file, in order.

    Args:
        planes: sequence of `bitstream.Plane`.
        shape: of each plane.

    Returns:
        List of uint8 arrays of `shape`.

    Raises:
        BitstreamError: a payload is of another size, or of a coder this version does not have.
    """
    # Sizes first: a small file that declares a large picture must not get its memory.
    count = int(np.prod(shape, dtype=np.int64))
    for number, plane in enumerate(planes, start=1):
        if plane.coder != bitstream.RAW:
            raise BitstreamError(
                f"iteration {number} was packed by coder {plane.coder}, which this version of "
                "rnn_codec does not have; decode it with a newer one"
            )
        if len(plane.payload) != -(-count // 8):
            raise BitstreamError(
                f"iteration {number} holds {len(plane.payload)} bytes where a picture of this size "
                f"takes {-(-count // 8)}; the file was not written by this codec"
            )
    return [_unpack_raw(plane.payload, count).reshape(shape) for plane in planes]


def _unpack_raw(payload, count):
    return np.unpackbits(np.frombuffer(payload, np.uint8), count=count)
