"""The range coder of docs/bitstream.md in plain integers, which tests hold the library's to.

A cumulative distribution has 24 bits, the state 64, and words have 32. Probabilities are
integers: P(bit = 1) is `probability / 65536`, from 1 to 65535.
"""

import numpy as np

from rnn_codec.errors import BitstreamError

PROBABILITY_BITS = 16

_PRECISION, _WORD, _STATE = 24, 32, 64
_WORD_MASK, _STATE_MASK = 2**_WORD - 1, 2**_STATE - 1


class Encoder:
    """`range_coder.Encoder` in plain Python integers; slow."""

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


class Decoder:
    """`range_coder.Decoder` in plain Python integers; slow."""

    def __init__(self, data):
        self._words = iter(_words(data))
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


def _words(data):
    if len(data) % 4:
        raise BitstreamError(f"a stream has {len(data)} bytes where a multiple of 4 was expected")
    return np.frombuffer(data, "<u4").tolist()
