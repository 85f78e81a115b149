"""A classic adaptive context model for planes: counts of ones per context, no training.

A row is coded in two steps, even columns, then odd ones, whose left and right neighbours are known
by then. A bit's context is its channel, three neighbours in that channel, and the bit of the plane
before at the same place. P(bit = 1) is `(ones + 1/2) / (all + 1)` of what was coded in the same
context in earlier steps. Integers only, so it is the same everywhere. It is the baseline that
`context_model` has to beat, and there for presets that have no such model.
"""

import numpy as np

# (row, column) offsets of the three neighbours for even and for odd columns.
_NEIGHBOURS = (((-1, 0), (-1, -1), (-1, 1)), ((-1, 0), (0, -1), (0, 1)))
_CONTEXTS = 2**4


class AdaptiveModel:
    """Has the interface of `context_model.ContextModel`, for any number of planes."""

    def predict(self, earlier, shape):
        """Generator that codes one plane; see `ContextModel.predict`."""
        rows, columns, bits = shape
        before = earlier[-1][:] if earlier else np.zeros(shape, np.uint8)
        # With a border of zeros on all sides.
        coded = np.zeros((rows + 2, columns + 2, bits), np.int64)
        channels = np.arange(bits)
        counts = np.zeros((2, _CONTEXTS, bits, 2), np.int64)  # zeros and ones so far
        for row in range(rows):
            for odd in range(min(2, columns)):
                here = np.arange(odd, columns, 2)
                context = before[row, here].astype(np.int64)  # [P, bits]
                for down, right in _NEIGHBOURS[odd]:
                    context = 2 * context + coded[row + 1 + down, here + 1 + right]
                zeros, ones = np.moveaxis(counts[odd][context, channels], -1, 0)
                probabilities = (2 * ones + 1) * 65536 // (2 * (zeros + ones) + 2)
                received = yield (row, slice(odd, None, 2)), np.clip(probabilities, 1, 65535)
                coded[row + 1, here + 1] = received
                np.add.at(counts[odd], (context, channels, received.astype(np.int64)), 1)
