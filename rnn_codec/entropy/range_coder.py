"""Bits with a probability each to bytes and back: range coding by the library constriction.

`Encoder` and `Decoder` take arrays, and a stream may be read in other portions than it was written
in. docs/bitstream.md defines the format, and tests hold this to the same coder in plain integers.

Probabilities are integers: P(bit = 1) is `probability / 65536`, from 1 to 65535.
"""

import constriction
import numpy as np

from rnn_codec.errors import BitstreamError

PROBABILITY_BITS = 16

# Bits given to constriction at once: they take twelve bytes each.
_PORTION = 2**16


class Encoder:
    """Packs bits: `encode(...)` as often as wanted, then `finish()`."""

    def __init__(self):
        self._coder = constriction.stream.queue.RangeEncoder()
        self._model = constriction.stream.model.Bernoulli(perfect=False)

    def encode(self, bits, probabilities):
        """Appends bits.

        Args:
            bits: array of zeros and ones.
            probabilities: integer array of the same shape, 1 to 65535.
        """
        bits, probabilities = np.ravel(bits), np.ravel(probabilities)
        for start in range(0, len(bits), _PORTION):
            part = slice(start, start + _PORTION)
            symbols = np.ascontiguousarray(bits[part], np.int32)
            self._coder.encode(symbols, self._model, _fractions(probabilities[part]))

    def finish(self):
        """The bytes of all bits."""
        return self._coder.get_compressed().astype("<u4").tobytes()


class Decoder:
    """Reads bits back, in the order in which they were packed.

    Raises:
        BitstreamError: the data cannot come from an `Encoder`.
    """

    def __init__(self, data):
        self._coder = constriction.stream.queue.RangeDecoder(_words(data).astype(np.uint32))
        self._model = constriction.stream.model.Bernoulli(perfect=False)

    def decode(self, probabilities):
        """Bits for an array of probabilities: uint8 of the same shape."""
        probabilities = np.asarray(probabilities)
        try:
            symbols = self._coder.decode(self._model, _fractions(probabilities))
        except AssertionError as error:  # what constriction raises for impossible data
            raise BitstreamError(
                "a range-coded stream holds data that no encoder writes; it was made by another "
                "program or damaged before its checksum was computed"
            ) from error
        return symbols.astype(np.uint8).reshape(probabilities.shape)


def _fractions(probabilities):
    # Multiples of 2**-16 are exact, and so is what constriction makes of them.
    return np.asarray(probabilities, np.float64).ravel() / 2**PROBABILITY_BITS


def _words(data):
    if len(data) % 4:
        raise BitstreamError(
            f"a range-coded stream has {len(data)} bytes where a multiple of 4 was expected; the "
            "file was not written by this codec"
        )
    return np.frombuffer(data, "<u4")
