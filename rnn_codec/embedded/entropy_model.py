"""Probabilities of the events of a plane, by a small network that computes in integers.

The contract of a file is its bits, so what predicts them must give the same numbers on every
machine, for ever. Weights are 8-bit integers, activations 7-bit, scales powers of two; every sum
stays below 2**24, so that float32 products and sums are exact in whatever order they are taken.
`Definition` computes in int64 and is the definition; `Numpy` (float32) must give, and in the tests
does give, the same integers.

What is coded. Index t[n] of plane n refines t[n-1]. A coefficient that was insignificant, t[n-1]
= 0, becomes -1, 0 or 1: significant or not, then a sign. At plane 0 it may become more, in unary;
later it may too, where it was not coded before.
One that was significant gets one bit, the next of its magnitude.

What is known. Of a plane, runs of channels are coded one after the other, and of a run first the
even positions, whose row and column add up to an even number, then the odd ones. The model sees

    earlier   the magnitudes of all channels at plane n-1 (at plane 1 their signs too), mixed to a
              few numbers a position, in a neighbourhood of 3x3;
    own       the eight neighbours in the same channel, at plane n-1, the even ones at plane n once
              they are known;
    in plane  what parts of runs before, and this one's even half, added to their plane: at planes
              0 and 1 only, where little is known of earlier planes.

    mixed  = clip(round(mix * levels / 2^5), -127, 127)                     in 16ths
    sums   = round(conv3x3 * mixed / 2^3) + bias + update3x3 * added levels in 256ths
    hidden = clip(round(sums / 2^4), 0, 127)                                in 16ths
    z      = out * hidden + out_bias                                        in 1024ths
    class  = clip(round((z + gain * table[own]) / 2^7), -63, 63)            in 8ths: a logit
    P      = PROBABILITIES[class + 63]                                      in 65536ths

`levels` are of magnitudes, LEVELS[|t|], in halves; where signs are seen, t itself, at most 12
either way, follows, in ones; `gain`, `table` and `out_bias` are by half. A coefficient that was
insignificant, and whose class lies below the plane's threshold, is not coded: it stays zero, and
may be found late, with a larger magnitude; `late[class]` tells how likely. One that was significant
has its class replaced by `refine[magnitude, class]`. Signs are predicted at planes 0 and 1 only;
later they are single raw bits.

Shapes: `N` planes, `K` channels in the order in which they are sent, `M` mixed and `H` hidden
features, `P` positions. Knows nothing of bytes.
"""

import numpy as np

from rnn_codec.embedded.arithmetic import ARITHMETICS, convolve, flat_kernel

# The level of a magnitude, round(2 log2(1 + |t|)), as a number: logarithms may round elsewhere.
_STEPS_UP = (1, 1, 2, 3, 4, 6, 9, 13, 19, 26, 38, 53)  # the first magnitude of each level from 1 on
MAGNITUDE_LIMIT = 63  # larger ones have its level
LEVELS = np.searchsorted(_STEPS_UP, np.arange(MAGNITUDE_LIMIT + 1), side="right").astype(np.uint8)
LEVEL_LIMIT = int(LEVELS[-1])

# Of own neighbours: twice the levels of the four at the sides, plus those of the four diagonal.
OWN_LIMIT = 12 * LEVEL_LIMIT

SIGNED = 2  # planes from 0 on whose signs are predicted and that see what their runs added
CLASS_LIMIT, CLASSES = 63, 127
REFINED = 16  # magnitudes with refinement tables of their own; larger ones have the last
UNARY = 14  # magnitudes of plane 0 told in unary; larger ones in an escape

LATE_BINS = 8  # of classes of significance, which tell whether something was found late

SIGNED_LIMIT = 12  # of an index that is seen with its sign

INPUT_SCALE, MIX_SCALE, CONV_SCALE, OUT_SCALE = 2, 256, 128, 64
GAIN_SCALE, TABLE_SCALE, LEAN_SCALE = 32, 32, 64
ACTIVATION_SCALE, SUM_SCALE, CLASS_SCALE = 16, 256, 8
WEIGHT_LIMIT, ACTIVATION_LIMIT, TABLE_LIMIT = 127, 127, 255
BIAS_LIMIT = 2**20
_MIX_SHIFT, _CONV_SHIFT, _HIDDEN_SHIFT, _CLASS_SHIFT, _LEAN_SHIFT = 5, 3, 4, 7, 6

# 65536 * sigmoid(c / 8) for c = 0, 1, ..., 63, rounded.
_SIGMOID = (
    32768,
    34813,
    36843,
    38841,
    40793,
    42687,
    44511,
    46254,
    47911,
    49474,
    50941,
    52310,
    53581,
    54754,
    55834,
    56822,
    57724,
    58544,
    59287,
    59959,
    60565,
    61109,
    61598,
    62036,
    62428,
    62778,
    63090,
    63368,
    63615,
    63835,
    64030,
    64203,
    64357,
    64494,
    64614,
    64721,
    64816,
    64900,
    64974,
    65039,
    65097,
    65149,
    65194,
    65234,
    65269,
    65300,
    65328,
    65352,
    65374,
    65393,
    65410,
    65425,
    65438,
    65449,
    65459,
    65468,
    65476,
    65483,
    65489,
    65495,
    65500,
    65504,
    65508,
    65511,
)
PROBABILITIES = np.array([65536 - p for p in _SIGMOID[:0:-1]] + list(_SIGMOID), np.int32)


class EntropyModel:
    """The predictor of one preset.

    Args:
        arrays: dictionary of integer arrays; see `shapes`. `order` has the channels' numbers in the
            order in which they are sent, the order of all other arrays.
        arithmetic: str, a name in `ARITHMETICS`. The results do not depend on it.

    Raises:
        ValueError: shapes that do not fit, weights out of range, or sums that may reach 2**24.
    """

    def __init__(self, arrays, arithmetic="numpy"):
        check(arrays)
        self.arithmetic = ARITHMETICS[arithmetic]()
        self.planes, self.latents = arrays["live"].shape
        self.order = arrays["order"].astype(np.intp)
        self.runs = arrays["runs"].astype(int)  # [N, R + 1]: ends, from 0 to K
        self.plane_models = [
            PlaneModel(plane_arrays(arrays, plane), plane, self.arithmetic)
            for plane in range(self.planes)
        ]

    @property
    def index_limit(self):
        """The largest magnitude of an index of the last plane."""
        return index_limit(self.planes)


class PlaneModel:
    """The model of one plane, ready to compute.

    Args:
        arrays: dictionary, as `plane_arrays` gives it.
        plane: int, from 0.
        arithmetic: `Definition` or `Numpy`.
    """

    def __init__(self, arrays, plane, arithmetic):
        self.plane = plane
        self.arithmetic = arithmetic
        dtype = arithmetic.dtype
        self.signed = plane < SIGNED
        self.live = arrays["live"].astype(bool)
        self.late = (arrays["late"].astype(int) + CLASS_LIMIT).astype(np.uint8)
        self.threshold = int(arrays["threshold"])
        self.bias = arrays["bias"].astype(dtype)  # [2, H]
        self.out = arrays["out"].astype(dtype)  # [outputs, K, H]
        self.out_bias = arrays["out_bias"].astype(dtype)  # [2, outputs, K]
        self.gain = arrays["gain"].astype(dtype)  # [2, K]
        self.table = [bytes(np.resize(row.astype(np.uint8), 256)) for row in arrays["table"]]
        if plane:
            self.inputs = np.flatnonzero(np.any(arrays["mix"], axis=(0, 1)))
            mix = arrays["mix"][:, :, self.inputs]
            self.mix = mix.reshape(len(mix), -1).astype(dtype)  # [M, kinds * inputs]
            self.conv = flat_kernel(arrays["conv"].astype(dtype))  # [H, 9 M]
            self.refine = arrays["refine"]
            self.lean = arrays["lean"].astype(np.int32) if self.signed else None
        else:
            self.more = arrays["more"].astype(np.int32)
        self.update = arrays["update"] if self.signed else None

    def begin(self, lattice, levels, magnitude, negative):
        """What the earlier planes tell of this one, as `PlaneSums`.

        Args:
            lattice: `lattice.Lattice`.
            levels: uint8 `[2, K, C]`. Of the magnitudes.
            magnitude, negative: int and bool, of the same shape. The indices of the plane before.
        """
        dtype = self.arithmetic.dtype
        count = self.bias.shape[1]
        sums = np.zeros((2, count, lattice.cells), dtype)
        if self.plane and len(self.inputs):
            mixed = [self._mixed(*parts) for parts in zip(levels, magnitude, negative)]
            grid = lattice.join(np.stack(mixed))
            sums = lattice.split(self._convolved(grid))
        return PlaneSums(self, lattice, sums)

    def _mixed(self, levels, magnitude, negative):
        """`[K, C]` -> `[M, C]`."""
        inputs = levels[self.inputs].astype(self.arithmetic.dtype)
        if self.signed:
            signed = with_sign(magnitude[self.inputs], negative[self.inputs])
            # In halves, as levels are.
            inputs = np.concatenate([inputs, 2 * signed.astype(self.arithmetic.dtype)])
        sums = self.mix @ inputs
        return self.arithmetic.rescale(sums, _MIX_SHIFT, -ACTIVATION_LIMIT, ACTIVATION_LIMIT)

    def _convolved(self, grid):
        """`[M, h, w]` -> `[H, h, w]`, in 256ths."""
        sums = convolve(grid, self.conv)
        limit = 2**24
        return self.arithmetic.rescale(sums, _CONV_SHIFT, -limit, limit)


class PlaneSums:
    """Sums of the hidden features while a plane is coded.

    Args:
        model: `PlaneModel`.
        lattice: `lattice.Lattice`.
        sums: `[2, H, C]`, in 256ths.
    """

    def __init__(self, model, lattice, sums):
        self._model = model
        self._lattice = lattice
        self._sums = sums
        # Where runs add nothing, the hidden features of both halves stay what they are.
        self._hidden = None if model.signed else [self._features(half) for half in range(2)]

    def copy(self):
        """Another, which `add` of this one does not change."""
        return PlaneSums(self._model, self._lattice, self._sums.copy())

    def _features(self, half):
        sums = self._sums[half] + self._model.bias[half][:, None]
        return self._model.arithmetic.rescale(sums, _HIDDEN_SHIFT, 0, ACTIVATION_LIMIT)

    def outputs(self, half, channels):
        """Class, sign and magnitude outputs of a half's cells in 1024ths: `[outputs, L, C]`.

        Args:
            half: int.
            channels: slice or int array, `L` of the K.
        """
        model = self._model
        hidden = self._features(half) if self._hidden is None else self._hidden[half]
        bias = model.out_bias[half]
        return [w[channels] @ hidden + b[channels][:, None] for w, b in zip(model.out, bias)]

    def add(self, half, channels, magnitudes, signed):
        """Takes note of what a half of a run added to the plane before.

        Args:
            half: int.
            channels: int array or slice.
            magnitudes, signed: int `[L, C]`. Levels added, and what was added to indices.
        """
        model, lattice = self._model, self._lattice
        # Most channels of a run add nothing at all.
        adds = np.flatnonzero(signed.any(axis=1))
        if not len(adds):
            return
        channels = np.arange(model.out.shape[1])[channels][adds]
        added = np.concatenate([magnitudes[adds], 2 * signed[adds]]).astype(model.arithmetic.dtype)
        halves = np.zeros((2, *added.shape), added.dtype)
        halves[half] = added
        kernel = model.update[:, :, :, channels].astype(model.arithmetic.dtype)
        kernel = kernel.reshape(3, 3, len(added), -1)
        self._sums += lattice.split(convolve(lattice.join(halves), flat_kernel(kernel)))


def levels_of(magnitudes):
    """LEVELS of magnitudes: uint8."""
    clipped = np.minimum(magnitudes, MAGNITUDE_LIMIT).astype(np.uint8)
    return np.frombuffer(clipped.tobytes().translate(_LEVEL_BYTES), np.uint8).reshape(clipped.shape)


def with_sign(magnitudes, negative):
    """Magnitudes, at most SIGNED_LIMIT, with their signs."""
    clipped = np.minimum(magnitudes, SIGNED_LIMIT)
    return np.where(negative, -clipped, clipped)


_LEVEL_BYTES = bytes(np.resize(LEVELS, 256))


def looked_up(values, table):
    """A table of 256 bytes at uint8 values."""
    return np.frombuffer(values.tobytes().translate(table), np.uint8).reshape(values.shape)


def classes_of(sums, arithmetic):
    """Classes of sums in 1024ths, plus 63: uint8. May compute in place."""
    classes = arithmetic.rescale(sums, _CLASS_SHIFT, -CLASS_LIMIT, CLASS_LIMIT)
    classes += CLASS_LIMIT
    return classes.astype(np.uint8)


def refined_classes(model, magnitudes, classes, leaning):
    """Classes, plus 63, of refinement bits: uint8.

    Args:
        model: `PlaneModel`.
        magnitudes: int array, of the plane before, above 0.
        classes: uint8 array, plus 63, of the significance that is not asked for.
        leaning: int array of sign classes, negative where the sign says the other; None where signs
            are not predicted.
    """
    which = np.minimum(magnitudes, REFINED - 1)
    refined = model.refine[which, classes].astype(np.int32)
    if leaning is not None:
        refined += (model.lean[which] * leaning + (1 << _LEAN_SHIFT - 1)) >> _LEAN_SHIFT
        np.clip(refined, -CLASS_LIMIT, CLASS_LIMIT, out=refined)
    return (refined + CLASS_LIMIT).astype(np.uint8)


def late_bins(classes):
    """Bins of classes, plus 63, of significance."""
    return classes // (128 // LATE_BINS)


def index_limit(planes):
    """The largest magnitude of an index of the last plane: at plane 0 it is at most 255."""
    return 256 * 2 ** (planes - 1) - 1


def index_dtype(planes):
    """Of indices of the last plane."""
    return np.int16 if planes <= 8 else np.int32


def plane_arrays(arrays, plane):
    """The arrays of one plane, by names without its number."""
    own = {name: arrays[name][plane] for name in ("live", "threshold", "late")}
    suffix = f"_{plane}"
    own.update((k[: -len(suffix)], a) for k, a in arrays.items() if k.endswith(suffix))
    return own


def shapes(planes, latents, runs, mixed, features):
    """Shape and kind of each array of a model.

    Args:
        planes, latents: int. N and K.
        runs: int. Suggested runs of a plane.
        mixed: for each plane, M; that of plane 0 is not looked at.
        features: for each plane, H.
    """
    found = {
        "order": ((latents,), np.int16),
        "runs": ((planes, runs + 1), np.int16),
        "live": ((planes, latents), np.uint8),
        "threshold": ((planes,), np.int8),
        "late": ((planes, LATE_BINS), np.int8),
    }
    for plane, (mix, width) in enumerate(zip(mixed, features)):
        kinds = 2 if plane < SIGNED else 1
        outputs = 3 if plane == 0 else kinds
        own = {
            "bias": ((2, width), np.int32),
            "out": ((outputs, latents, width), np.int8),
            "out_bias": ((2, outputs, latents), np.int32),
            "gain": ((2, latents), np.int8),
            "table": ((2, OWN_LIMIT + 1), np.int16),
        }
        if plane:
            own["mix"] = ((mix, kinds, latents), np.int8)
            own["conv"] = ((3, 3, mix, width), np.int8)
            own["refine"] = ((REFINED, CLASSES), np.int8)
        else:
            own["more"] = ((2, UNARY, latents), np.int8)
        if plane < SIGNED:
            own["update"] = ((3, 3, kinds, latents, width), np.int8)
            if plane:
                own["lean"] = ((REFINED,), np.int8)
        found.update((f"{name}_{plane}", shape) for name, shape in own.items())
    return found


def check(arrays):
    """Raises ValueError for arrays that are no model, or one whose sums could reach 2**24."""
    try:
        planes, latents = arrays["live"].shape
        runs = arrays["runs"].shape[1] - 1
        features = [arrays[f"bias_{n}"].shape[1] for n in range(planes)]
        mixed = [0] + [arrays[f"conv_{n}"].shape[2] for n in range(1, planes)]
    except (KeyError, ValueError, IndexError) as error:
        raise ValueError(f"expected the arrays of an entropy model. Received: {error}") from error
    if not 1 <= planes <= 16 or not latents or runs < 1:
        raise ValueError(f"expected 1 to 16 planes. Received: {planes} of {latents} channels")
    expected = {k: (s, np.dtype(d)) for k, (s, d) in _expected(arrays, runs, mixed, features)}
    received = {name: (array.shape, array.dtype) for name, array in arrays.items()}
    if expected != received:
        wrong = sorted(
            name
            for name in expected.keys() | received.keys()
            if expected.get(name) != received.get(name)
        )
        name = wrong[0]
        raise ValueError(
            f"expected {name} to be {expected.get(name)}. Received: {received.get(name)}"
        )
    _check_channels(arrays, latents)
    for plane in range(planes):
        _check_plane(plane_arrays(arrays, plane), plane)


def _expected(arrays, runs, mixed, features):
    return shapes(*arrays["live"].shape, runs, mixed, features).items()


def _check_channels(arrays, latents):
    if sorted(arrays["order"].tolist()) != list(range(latents)):
        raise ValueError("expected the order to hold each channel once")
    ends = arrays["runs"].astype(int)
    if (ends[:, 0] != 0).any() or (ends[:, -1] != latents).any() or (np.diff(ends) < 0).any():
        raise ValueError(f"expected runs from 0 to {latents}. Received: {ends.tolist()}")
    # What is significant is refined in all later planes.
    if (np.diff(arrays["live"].astype(int), axis=0) < 0).any():
        raise ValueError("expected channels that live at a plane to live at all later ones")


def _check_plane(arrays, plane):
    limits = {
        "bias": (-BIAS_LIMIT, BIAS_LIMIT),
        "out_bias": (-BIAS_LIMIT, BIAS_LIMIT),
        "gain": (0, WEIGHT_LIMIT),
        "table": (0, TABLE_LIMIT),
        "live": (0, 1),
        "refine": (-CLASS_LIMIT, CLASS_LIMIT),
        "more": (-CLASS_LIMIT, CLASS_LIMIT),
        "late": (-CLASS_LIMIT, CLASS_LIMIT),
        "threshold": (-CLASS_LIMIT, CLASS_LIMIT + 1),
    }
    for name, array in arrays.items():
        low, high = limits.get(name, (-WEIGHT_LIMIT, WEIGHT_LIMIT))
        if array.size and (array.min() < low or array.max() > high):
            raise ValueError(
                f"expected {name} of plane {plane} from {low} to {high}. Received: "
                f"{array.min()} to {array.max()}"
            )
    largest = largest_sum(arrays)
    if largest >= 2**24:
        raise ValueError(
            f"expected sums below 2**24. Received: weights of plane {plane} whose sums may reach "
            f"{largest}"
        )


def largest_sum(arrays):
    """The largest magnitude that any sum of a plane can take: int.

    Args:
        arrays: dictionary, as `plane_arrays` gives it.
    """

    def reach(name, axes, limit):
        if name not in arrays:
            return 0
        return int(np.abs(arrays[name].astype(np.int64)).sum(axis=axes).max(initial=0)) * limit

    most = max(LEVEL_LIMIT, 2 * SIGNED_LIMIT)
    mixed = reach("mix", (1, 2), most)
    convolved = reach("conv", (0, 1, 2), ACTIVATION_LIMIT)
    updated = reach("update", (0, 1, 2, 3), most)
    bias = int(np.abs(arrays["bias"].astype(np.int64)).max(initial=0))
    features = (convolved >> _CONV_SHIFT) + 1 + bias + updated
    own = int(arrays["gain"].max(initial=0)) * int(arrays["table"].max(initial=0))
    out_bias = int(np.abs(arrays["out_bias"].astype(np.int64)).max(initial=0))
    outputs = reach("out", (2,), ACTIVATION_LIMIT) + out_bias + own
    return max(mixed, convolved, updated, features, outputs) + (1 << _CLASS_SHIFT)
