"""Bits in groups of equal probability to bytes and back: range coding by the library constriction.

Looking up a probability for each bit takes most of a range decoder's time, some 45 ns a bit; a
group whose bits share one takes 9 ns a bit. So the bits of a step are ordered by the class of their
probability, by which both sides can sort, and raw bits go sixteen at a time.

The coder is that of `range_coder`, with the same intervals: 24 bits for a cumulative distribution,
a state of 64 bits, words of 32. Sixteen raw bits are one symbol that takes `[256 s, 256 s + 256)`
of 2**24.
"""

import constriction
import numpy as np

from rnn_codec.errors import BitstreamError

_TOGETHER = 16  # raw bits


class Models:
    """The distributions of classes.

    Args:
        probabilities: P(bit = 1) of each class in 65536ths, 1 to 65535.
    """

    def __init__(self, probabilities):
        fractions = [int(p) / 2**16 for p in probabilities]  # exact
        self.bits = [constriction.stream.model.Bernoulli(p, perfect=False) for p in fractions]
        self.half = constriction.stream.model.Bernoulli(0.5, perfect=False)
        self.word = constriction.stream.model.Uniform(2**_TOGETHER)


class Encoder:
    """Packs bits; `finish()` gives the bytes.

    Args:
        models: `Models`.
    """

    def __init__(self, models):
        self._models = models
        self._coder = constriction.stream.queue.RangeEncoder()

    def grouped(self, bits, counts):
        """Appends bits that are sorted by class.

        Args:
            bits: array of zeros and ones.
            counts: how many are of each class, in the order of `Models`.
        """
        bits = np.ascontiguousarray(bits, np.int32)
        start = 0
        for model, count in zip(self._models.bits, counts.tolist()):
            if count:
                self._coder.encode(bits[start : start + count], model)
                start += count

    def raw(self, bits):
        """Appends bits without a model."""
        whole = len(bits) // _TOGETHER * _TOGETHER
        if whole:
            words = np.packbits(bits[:whole].astype(bool)).view(">u2").astype(np.int32)
            self._coder.encode(words, self._models.word)
        if whole < len(bits):
            self._coder.encode(np.ascontiguousarray(bits[whole:], np.int32), self._models.half)

    def finish(self):
        """The bytes of all bits."""
        return self._coder.get_compressed().astype("<u4").tobytes()


class Decoder:
    """Reads bits back, in the order in which they were packed.

    Args:
        models: `Models`.
        data: bytes.

    Raises:
        BitstreamError: the data cannot come from an `Encoder`.
    """

    def __init__(self, models, data):
        if len(data) % 4:
            raise BitstreamError(
                f"a range-coded stream has {len(data)} bytes where a multiple of 4 was expected; "
                "the file was not written by this codec"
            )
        self._models = models
        words = np.frombuffer(data, "<u4").astype(np.uint32)
        self._coder = constriction.stream.queue.RangeDecoder(words)

    def grouped(self, counts):
        """Bits sorted by class, as many of each as `counts` says: uint8."""
        parts = [
            self._decode(model, count)
            for model, count in zip(self._models.bits, counts.tolist())
            if count
        ]
        return np.concatenate(parts).astype(np.uint8) if parts else np.zeros(0, np.uint8)

    def raw(self, count):
        """So many bits that have no model: uint8."""
        words, rest = divmod(count, _TOGETHER)
        bits = np.zeros(count, np.uint8)
        if words:
            values = self._decode(self._models.word, words).astype(">u2")
            bits[: words * _TOGETHER] = np.unpackbits(values.view(np.uint8))
        if rest:
            bits[count - rest :] = self._decode(self._models.half, rest)
        return bits

    def finish(self):
        """Raises `BitstreamError` if bytes are left over."""
        if not self._coder.maybe_exhausted():
            raise BitstreamError(
                "a range-coded stream is longer than what it holds; the file was not written by "
                "this codec, or was damaged before its checksum was computed"
            )

    def _decode(self, model, count):
        try:
            return self._coder.decode(model, count)
        except AssertionError as error:  # what constriction raises for impossible data
            raise BitstreamError(
                "a range-coded stream holds data that no encoder writes; it was made by another "
                "program or damaged before its checksum was computed"
            ) from error
