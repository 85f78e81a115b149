"""Bits with a probability each to bytes and back: range coding by the library constriction.

`Encoder` and `Decoder` take arrays, and a stream may be read in other portions than it was written
in. `ReferenceEncoder` and `ReferenceDecoder` are the same coder in plain integers: they define the
format (docs/bitstream.md), and tests hold one to the other.

Probabilities are integers: P(bit = 1) is `probability / 65536`, from 1 to 65535.
"""

import constriction
import numpy as np

from rnn_codec.errors import BitstreamError

PROBABILITY_BITS = 16

# constriction's: 24 bits for a cumulative distribution, a state of 64 bits, words of 32.
_PRECISION, _WORD, _STATE = 24, 32, 64
_WORD_MASK, _STATE_MASK = 2**_WORD - 1, 2**_STATE - 1

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


class ReferenceEncoder:
    """`Encoder` in plain Python integers; slow."""

    def __init__(self):
        self._low, self._range = 0, _STATE_MASK
        self._words = []
        # Words held back, because a carry may still run through them: the first and how many.
        self._held, self._num_held = 0, 0

    def encode(self, bits, probabilities):
        for bit, probability in _pairs(bits, probabilities):
            self._encode(*_interval(bit, probability))

    def _encode(self, left, width):
        scale = self._range >> _PRECISION
        self._range = scale * width
        low = self._low + scale * left
        carry, low = low > _STATE_MASK, low & _STATE_MASK
        if self._num_held and low + self._range <= _STATE_MASK:
            self._release(carry)
        self._low = low
        if self._range < 2 ** (_STATE - _WORD):
            word = low >> (_STATE - _WORD)
            self._low = (low << _WORD) & _STATE_MASK
            self._range <<= _WORD
            if self._num_held:
                self._num_held += 1
            elif self._low + self._range <= _STATE_MASK:
                self._words.append(word)
            else:
                self._held, self._num_held = word, 1

    def _release(self, carry):
        filler = 0 if carry else _WORD_MASK
        self._words.append((self._held + carry) & _WORD_MASK)
        self._words.extend([filler] * (self._num_held - 1))
        self._num_held = 0

    def finish(self):
        if self._range == _STATE_MASK:
            return b""  # nothing was encoded
        point = self._low + 2 ** (_STATE - _WORD) - 1
        if self._num_held:
            self._release(point > _STATE_MASK)
        point &= _STATE_MASK
        last = point >> (_STATE - _WORD)
        words = [*self._words, last]
        # One word decides among all points of the interval, unless its end shares that word.
        if (self._low + self._range) >> (_STATE - _WORD) & _WORD_MASK == last:
            words.append(0)
        return np.array(words, "<u4").tobytes()


class ReferenceDecoder:
    """`Decoder` in plain Python integers; slow."""

    def __init__(self, data):
        self._words = iter(_words(data).tolist())
        self._low, self._range = 0, _STATE_MASK
        self._point = next(self._words, 0) << _WORD | next(self._words, 0)

    def decode(self, probabilities):
        probabilities = np.asarray(probabilities)
        bits = [self._decode(probability) for probability in probabilities.ravel().tolist()]
        return np.array(bits, np.uint8).reshape(probabilities.shape)

    def _decode(self, probability):
        scale = self._range >> _PRECISION
        quantile = ((self._point - self._low) & _STATE_MASK) // scale
        if quantile >= 2**_PRECISION:
            raise BitstreamError("a range-coded stream holds data that no encoder writes")
        bit = int(quantile >= _interval(1, probability)[0])
        left, width = _interval(bit, probability)
        self._low = (self._low + scale * left) & _STATE_MASK
        self._range = scale * width
        if self._range < 2 ** (_STATE - _WORD):
            self._low = (self._low << _WORD) & _STATE_MASK
            self._range <<= _WORD
            self._point = (self._point << _WORD) & _STATE_MASK | next(self._words, 0)
        return bit


def _interval(bit, probability):
    """Start and width of a bit's part of [0, 2**24), in which neither part is empty."""
    zero = ((2**PROBABILITY_BITS - probability) * (2**_PRECISION - 2) >> PROBABILITY_BITS) + 1
    return (zero, 2**_PRECISION - zero) if bit else (0, zero)


def _pairs(bits, probabilities):
    return zip(np.ravel(bits).tolist(), np.ravel(probabilities).tolist(), strict=True)


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
