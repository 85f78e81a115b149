"""P(bit = 1) for every bit of a plane, by a small network that computes in integers.

The contract of a file is its bits, so what predicts them must give the same numbers on every
machine, for ever. Weights are 8-bit integers, activations 7-bit, scales powers of two; every sum
stays below 2**24, so that float32 products and sums are exact in whatever order they are taken.
`DEFINITION` computes in int64 and is the definition; `NUMPY` (float32) and `KERAS` (float32, on the
backend's device) must give, and in the tests do give, the same integers.

A plane is coded in `2 * GROUPS` steps: the channels in groups, and of each group first the
positions whose row and column add up to an even number, then the others. A step sees all earlier
planes and what earlier steps coded of this one. The number of steps does not depend on the
picture's size.

    acc[k]  = earlier_k * [planes k-3, k-2, k-1, sum of all before k] + bias_k + known_k * coded
    a1      = clip(round(acc / 2**3), 0, 127)
    a2      = clip(round((hidden_ks a1 + b_ks) / 2**7), 0, 127)
    z       = clip(round((output_ks a2 + c_ks) / 2**5), -767, 767)          in 64ths
    P       = table(z)                                                      in 65536ths

`*` is a convolution with zeros around, `round` takes halves up, `k` is the iteration and `s` the
step. Bits enter as -1 and 1, and as 0 where not yet known.
"""

import numpy as np

from rnn_codec.errors import CodecError

GROUPS = 4
STEPS = 2 * GROUPS
EARLIER = 3  # planes before the current one that are seen bit by bit

# Scales of integers: weights in 128ths, activations in 16ths, the output in 64ths.
WEIGHT_SCALE, ACTIVATION_SCALE, OUTPUT_SCALE = 128, 16, 64
WEIGHT_LIMIT, ACTIVATION_LIMIT, OUTPUT_LIMIT = 127, 127, 767
_SHIFTS = {"features": 3, "hidden": 7, "output": 5}
# Biases stay far below what would bring a sum near 2**24.
BIAS_LIMIT = 2**20

# Positions per product; more would take more memory.
_BLOCK = 2048

# 65536 * sigmoid(x) for x = 0, 1/4, ..., 12, rounded. Numbers instead of a formula: an exponential
# function may round differently elsewhere.
_SIGMOID = (
    32768,
    36843,
    40793,
    44511,
    47911,
    50941,
    53581,
    55834,
    57724,
    59287,
    60565,
    61598,
    62428,
    63090,
    63615,
    64030,
    64357,
    64614,
    64816,
    64974,
    65097,
    65194,
    65269,
    65328,
    65374,
    65410,
    65438,
    65459,
    65476,
    65489,
    65500,
    65508,
    65514,
    65519,
    65523,
    65526,
    65528,
    65530,
    65531,
    65532,
    65533,
    65534,
    65534,
    65535,
    65535,
    65535,
    65535,
    65535,
    65536,
)


def _probability_table():
    """P for z = -767..767: straight lines between the numbers above."""
    right = np.array(_SIGMOID, np.int64)
    knots = np.concatenate([65536 - right[:0:-1], right])  # at -12, -11.75, ..., 12
    steps = OUTPUT_SCALE // 4
    index, part = np.divmod(np.arange(-OUTPUT_LIMIT, OUTPUT_LIMIT + 1) + 12 * OUTPUT_SCALE, steps)
    table = (knots[index] * (steps - part) + knots[index + 1] * part + steps // 2) // steps
    return np.clip(table, 1, 65535).astype(np.int32)


PROBABILITIES = _probability_table()


class Definition:
    """The arithmetic that defines the model: int64."""

    dtype = np.int64

    def product(self, inputs, weights):
        """`[P, K] @ [K, C]`."""
        return inputs @ weights

    def rescale(self, sums, shift, low, high):
        """`clip(round(sums / 2**shift), low, high)`, halves up."""
        return np.clip((sums + (1 << shift - 1)) >> shift, low, high)


class Numpy:
    """The same in float32, exact because all numbers are integers below 2**24."""

    dtype = np.float32

    def product(self, inputs, weights):
        return inputs @ weights

    def rescale(self, sums, shift, low, high):
        # A sum plus a half, divided by a power of two, is exact too.
        return np.clip(np.floor((sums + 2.0 ** (shift - 1)) * 2.0**-shift), low, high)


class Keras(Numpy):
    """`Numpy`, with the products on Keras' backend and its device.

    TF32 and bfloat16 factors do no harm, as all factors are integers up to 256; sums must be
    float32.

    Raises:
        CodecError: the backend was told to compute in less.
    """

    def __init__(self):
        # Alternating, so that a partial sum in 16 bits would lose its last digits.
        inputs = np.tile(np.array([127, 1], np.float32), (1, 512))
        if self.product(inputs, inputs.T)[0, 0] != 512 * (127**2 + 1):
            raise CodecError(
                "arithmetic 'keras': expected a backend that sums in float32, received one set to "
                "a lower precision; reset its precision of matrix products, or take 'numpy'"
            )

    def product(self, inputs, weights):
        from keras import ops

        return np.asarray(ops.convert_to_numpy(ops.matmul(inputs, weights)))


ARITHMETICS = {"definition": Definition, "numpy": Numpy, "keras": Keras}


class ContextModel:
    """The predictor of one preset.

    Args:
        arrays: dictionary of integer arrays, for `N` iterations, `C` features and `b` bits:
            `earlier` `[N, 3, 3, 4b, C]`, `bias` `[N, C]`, `known` `[N, 5, 5, b, C]`,
            `hidden` `[N, 8, C, C]`, `hidden_bias` `[N, 8, C]`, `output` `[N, 8, C, b / 4]`,
            `output_bias` `[N, 8, b / 4]`. Kernels are int8, biases int32.
        arithmetic: str, a name in `ARITHMETICS`. The results do not depend on it.

    Raises:
        ValueError: shapes that do not fit, or weights out of range.
    """

    def __init__(self, arrays, arithmetic="numpy"):
        check(arrays)
        self._arithmetic = ARITHMETICS[arithmetic]()
        self._arrays = {name: a.astype(self._arithmetic.dtype) for name, a in arrays.items()}
        self.iterations = len(arrays["bias"])

    def predict(self, earlier, shape):
        """Generator that codes one plane: yields where and P, is sent the bits there.

        Args:
            earlier: list of the planes before, uint8 zeros and ones, each of `shape` or what gives
                them when indexed.
            shape: `[rows, columns, bits]`.

        Yields:
            For each step, an index into a plane, and P(bit = 1) in 65536ths of the bits there.
            Expects them to be sent, as an array of the same shape.
        """
        rows, columns, bits = shape
        weights = {name: array[len(earlier)] for name, array in self._arrays.items()}
        sums = np.tile(weights["bias"], (rows, columns, 1))
        absent = np.zeros(shape, np.int8)

        def context(*part):
            return _context([plane[part] for plane in earlier], absent[part])

        self._add_convolution(sums, context, weights["earlier"])
        parity = np.add.outer(np.arange(rows), np.arange(columns)) % 2
        size = bits // GROUPS
        for step in range(STEPS):
            channels = slice(step // 2 * size, (step // 2 + 1) * size)
            here = parity == step % 2  # [rows, columns]
            probabilities = self._probabilities(sums, here, weights, step)
            coded = yield (here, channels), probabilities
            if step == STEPS - 1:
                return
            signs = np.zeros((rows, columns, size), np.int8)
            signs[here] = 2 * coded.astype(np.int8) - 1
            known = weights["known"][:, :, channels]
            self._add_convolution(sums, lambda *part, signs=signs: signs[part], known)

    def _probabilities(self, sums, here, weights, step):
        """Sums `[rows, columns, C]`, and whether a position is of the step -> `[P, b / 4]`."""
        parts = []
        for top, bottom, left, right in _blocks(*here.shape):
            part = slice(top, bottom), slice(left, right)
            parts.append(self._block(sums[part][here[part]], weights, step))
        return np.concatenate(parts)

    def _block(self, sums, weights, step):
        arithmetic = self._arithmetic
        hidden = arithmetic.rescale(sums, _SHIFTS["features"], 0, ACTIVATION_LIMIT)
        hidden = arithmetic.product(hidden, weights["hidden"][step]) + weights["hidden_bias"][step]
        hidden = arithmetic.rescale(hidden, _SHIFTS["hidden"], 0, ACTIVATION_LIMIT)
        z = arithmetic.product(hidden, weights["output"][step]) + weights["output_bias"][step]
        z = arithmetic.rescale(z, _SHIFTS["output"], -OUTPUT_LIMIT, OUTPUT_LIMIT)
        return PROBABILITIES[z.astype(np.int64) + OUTPUT_LIMIT]

    def _add_convolution(self, sums, inputs, kernel):
        """Adds one of inputs `[rows, columns, K]`, zeros around, to sums in place.

        Args:
            sums: `[rows, columns, C]`.
            inputs: function of two slices that gives the inputs there. Never are all of them made.
            kernel: `[size, size, K, C]`.
        """
        rows, columns, _ = sums.shape
        size, _, _, filters = kernel.shape
        around = size // 2
        kernel = kernel.reshape(-1, filters)
        for top, bottom, left, right in _blocks(rows, columns):
            first, start = max(0, top - around), max(0, left - around)
            last, stop = min(rows, bottom + around), min(columns, right + around)
            window = np.pad(
                inputs(slice(first, last), slice(start, stop)),
                (
                    (first - (top - around), bottom + around - last),
                    (start - (left - around), right + around - stop),
                    (0, 0),
                ),
            )
            patches = np.concatenate(
                [
                    window[dy : bottom - top + dy, dx : right - left + dx]
                    for dy in range(size)
                    for dx in range(size)
                ],
                axis=-1,
            )
            patches = patches.reshape(-1, kernel.shape[0]).astype(self._arithmetic.dtype)
            products = self._arithmetic.product(patches, kernel)
            sums[top:bottom, left:right] += products.reshape(bottom - top, right - left, filters)


def _blocks(rows, columns):
    """Yields top, bottom, left and right of parts of at most `_BLOCK` positions.

    Whole rows, or parts of one: together they have the positions in the order of the array.
    """
    width = min(columns, _BLOCK)
    height = max(1, _BLOCK // width)
    for top in range(0, rows, height):
        for left in range(0, columns, width):
            yield top, min(top + height, rows), left, min(left + width, columns)


def _context(earlier, absent):
    """The last three planes and the sum of all, as signs: `[rows, columns, 4b]`.

    `absent` is of zeros, `[rows, columns, b]`.
    """
    signs = [2 * plane.astype(np.int8) - 1 for plane in earlier]
    last = [absent] * (EARLIER - len(signs)) + signs[-EARLIER:]
    # No more bits than it takes: there are pictures of 400,000 blocks.
    sums = absent if len(earlier) < 128 else absent.astype(np.int16)
    return np.concatenate([*last, sum(signs, start=sums)], axis=-1)


def check(arrays):
    """Raises ValueError for arrays that are no model, or one whose sums could reach 2**24."""
    try:
        iterations, features = arrays["bias"].shape
        bits = arrays["known"].shape[3]
    except (KeyError, ValueError, IndexError) as error:
        raise ValueError(f"expected the arrays of a context model. Received: {error}") from error
    expected = shapes(iterations, features, bits)
    received = {name: array.shape for name, array in arrays.items()}
    if expected != received or not iterations * features * bits or bits % GROUPS:
        raise ValueError(f"expected arrays of shapes {expected}. Received: {received}")
    for name, array in arrays.items():
        limit, kind = (BIAS_LIMIT, "int32") if "bias" in name else (WEIGHT_LIMIT, "int8")
        if array.dtype != kind or array.min() < -limit or array.max() > limit:
            raise ValueError(
                f"expected {kind} from {-limit} to {limit} in {name}. Received: {array.dtype} from "
                f"{array.min()} to {array.max()}"
            )
    if largest_sum(iterations, features, bits) >= 2**24:
        raise ValueError(
            f"expected sums below 2**24. Received: {iterations} iterations of {bits} bits with "
            f"{features} features, whose sums may reach {largest_sum(iterations, features, bits)}"
        )


def largest_sum(iterations, features, bits):
    """The largest number that a model of this size can meet."""
    # Signs of EARLIER planes and of their sum, 3x3, and of the plane itself, 5x5.
    first = (9 * (EARLIER + iterations - 1) + 25) * bits * WEIGHT_LIMIT
    later = features * ACTIVATION_LIMIT * WEIGHT_LIMIT
    return max(first, later) + BIAS_LIMIT + (1 << max(_SHIFTS.values()) - 1)


def shapes(iterations, features, bits):
    """Shape of each array of a model."""
    group = bits // GROUPS
    return {
        "earlier": (iterations, 3, 3, (EARLIER + 1) * bits, features),
        "bias": (iterations, features),
        "known": (iterations, 5, 5, bits, features),
        "hidden": (iterations, STEPS, features, features),
        "hidden_bias": (iterations, STEPS, features),
        "output": (iterations, STEPS, features, group),
        "output_bias": (iterations, STEPS, group),
    }
