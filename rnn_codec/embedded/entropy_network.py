"""`entropy_model.EntropyModel` in Keras and floating point, to be trained.

Weights and activations are rounded to the integers' grid in the forward pass, with the gradient of
the identity, so that what is trained is what will run. All planes are trained at once: each has
arrays of its own.
"""

import math

import keras
from keras import ops
import numpy as np

from rnn_codec.embedded import entropy_model as integers

_NATS = 1.0 / math.log(2.0)


@keras.saving.register_keras_serializable(package="rnn_codec")
class EntropyNetwork(keras.Model):
    """The entropy model of all planes.

    Args:
        live: array of bool `[N, K]`. Which channels of a plane can become significant.
        runs: for each plane, the run of each channel, int `[N, K]`, not falling. Counts where runs
            see each other.
        frequency: float `[N, K]`. How often a coefficient becomes significant; where to begin.
        mixed: int. Features that the earlier planes are mixed to.
        features: int. Hidden features of the planes whose signs are not predicted.
        signed_features: int. Those of the others.
        quantised: bool. Whether weights and activations are rounded.

    Call arguments:
        index: `[B, h, w, K]`, indices of the last plane in the order in which channels are sent.

    Output:
        Bits of each plane of a position, float32 `[B, N]`.
    """

    def __init__(
        self,
        live,
        runs,
        frequency,
        mixed=32,
        features=64,
        signed_features=48,
        quantised=True,
        **kwargs,
    ):
        super().__init__(**kwargs)
        live = np.asarray(live, bool)
        self.live = live
        self.quantised = quantised
        self.plane_models = []
        for plane in range(len(live)):
            width = signed_features if plane < integers.SIGNED else features
            before = live[plane - 1] if plane else np.zeros_like(live[0])
            self.plane_models.append(
                PlaneNetwork(
                    plane,
                    np.flatnonzero(live[plane]),
                    np.flatnonzero(before),
                    np.asarray(runs[plane])[live[plane]],
                    np.asarray(frequency[plane])[live[plane]],
                    mixed,
                    width,
                    quantised,
                    name=f"plane_{plane}",
                )
            )

    def build(self, input_shape=None):
        for model in self.plane_models:
            model.build()
        self.built = True

    def call(self, index):
        index = ops.cast(index, "float32")
        last = len(self.live) - 1
        sign, magnitude = ops.sign(index), ops.abs(index)
        planes = [ops.floor(magnitude * 0.5 ** (last - n)) for n in range(last + 1)]
        before = [ops.zeros_like(magnitude), *planes[:-1]]
        bits = [
            model(sign, before=old, magnitude=new)
            for model, old, new in zip(self.plane_models, before, planes)
        ]
        return ops.stack(bits, axis=1)

    def export(self, thresholds):
        """The arrays of an `entropy_model.EntropyModel`, but for the order of its channels.

        Args:
            thresholds: int `[N]`. The lowest classes that are coded.
        """
        arrays = {
            "live": self.live.astype(np.uint8),
            "threshold": np.asarray(thresholds, np.int8),
            # Next to never, until it is counted.
            "late": np.full((len(self.live), integers.LATE_BINS), -integers.CLASS_LIMIT, np.int8),
        }
        for number, model in enumerate(self.plane_models):
            for name, array in model.export(self.live.shape[1]).items():
                arrays[f"{name}_{number}"] = array
        return arrays


class PlaneNetwork(keras.layers.Layer):
    """The model of one plane; see `EntropyNetwork`.

    Args:
        plane: int, from 0.
        channels: int array `[L]`. Those that can become significant.
        inputs: int array. Those that could at the plane before.
        runs: int array `[L]`. The run of each channel.
        frequency: float array `[L]`.
        mixed, features: int. M and H.
        quantised: bool.

    Call arguments:
        sign: float32 `[B, h, w, K]`.
        before, magnitude: of the same shape. Magnitudes at the plane before and at this one.

    Output:
        Bits of a position, float32 `[B]`.
    """

    def __init__(
        self, plane, channels, inputs, runs, frequency, mixed, features, quantised, **kwargs
    ):
        super().__init__(**kwargs)
        self.plane = plane
        self.channels = channels
        self.inputs = inputs
        self.runs = runs
        self.frequency = np.clip(frequency, 1e-5, 0.9)
        self.mixed = mixed
        self.features = features
        self.quantised = quantised
        self.signed = plane < integers.SIGNED
        self.kinds = 2 if self.signed else 1  # of inputs: magnitudes, and what has a sign
        self.outputs = 3 if plane == 0 else self.kinds

    def build(self, input_shape=None):
        count, width = len(self.channels), self.features
        table = 0.8 * np.log2(1.0 + np.arange(integers.OWN_LIMIT + 1))
        bias = np.zeros((2, self.outputs, count), np.float32)
        bias[:, 0] = np.log(self.frequency / (1.0 - self.frequency)) - 1.5
        bias[:, 2:] = -1.0  # that a magnitude goes on
        shapes = {
            "bias": (np.zeros((2, width)), 0),
            "out": (np.zeros((width, self.outputs, count)), 0),
            "out_bias": (bias, 0),
            "gain": (np.ones((2, count)), 0),
            "table": (np.stack([table, table]), 0),
        }
        if self.plane:
            shapes["mix"] = ((self.kinds * len(self.inputs), self.mixed), 0.35)
            shapes["conv"] = ((3, 3, self.mixed, width), 1.0)
            shapes["refine_start"] = (np.zeros(integers.REFINED), 0)
            shapes["refine_slope"] = (np.zeros(integers.REFINED), 0)
            if self.signed:
                shapes["lean"] = (np.full(integers.REFINED, 0.5), 0)
        else:
            shapes["more"] = (np.zeros((2, integers.UNARY, count)), 0)
        if self.signed:
            shapes["update"] = ((3, 3, self.kinds, count, width), 1.0)
        self.arrays = {}
        for name, (start, gain) in shapes.items():
            if gain:
                fan_in = math.prod(start[:-1])
                limit = gain * math.sqrt(3.0 / max(fan_in, 1))
                seed = 100 * self.plane + len(self.arrays)
                initializer = keras.initializers.RandomUniform(-limit, limit, seed=seed)
                shape = start
            else:
                shape, initializer = start.shape, _constant(start)
            self.arrays[name] = self.add_weight(shape, initializer, name=name)
        self.built = True

    def call(self, sign, *, before, magnitude):
        arrays = {name: self._rounded(name, array) for name, array in self.arrays.items()}
        rows, columns = sign.shape[1:3]
        odd = np.add.outer(np.arange(rows), np.arange(columns)) % 2
        odd = ops.convert_to_tensor(odd.astype(np.float32)[None, :, :, None])
        sums = ops.zeros_like(sign[..., :1])
        if self.plane:
            sums = self._earlier(sign, before, arrays)
        sign, before, magnitude = (
            ops.take(x, self.channels, axis=-1) for x in (sign, before, magnitude)
        )
        if self.signed:
            outputs = self._in_plane(sums, sign, before, magnitude, odd, arrays)
        else:
            outputs = self._outputs(sums, arrays, slice(None), odd)
        classes = _clip_grid(self, outputs[0] + self._own(before, magnitude, odd, arrays))
        return self._bits(classes, outputs[1:], sign, before, magnitude, odd, arrays)

    def _earlier(self, sign, before, arrays):
        levels = _levels(ops.take(before, self.inputs, axis=-1))
        if self.signed:
            signed = ops.minimum(before, float(integers.SIGNED_LIMIT)) * sign
            levels = ops.concatenate([levels, ops.take(signed, self.inputs, axis=-1)], axis=-1)
        limit = integers.ACTIVATION_LIMIT / integers.ACTIVATION_SCALE
        mixed = ops.clip(ops.matmul(levels, arrays["mix"]), -limit, limit)
        sums = _convolve(self._grid(mixed, integers.ACTIVATION_SCALE), arrays["conv"])
        return self._grid(sums, integers.SUM_SCALE)

    def _in_plane(self, sums, sign, before, magnitude, odd, arrays):
        """Outputs of channels whose runs see what runs before them added."""
        added = _levels(magnitude) - _levels(2.0 * before)
        signed = sign * ops.minimum(magnitude - 2.0 * before, float(integers.SIGNED_LIMIT))
        added = ops.stack([added, signed], axis=3)  # [B, h, w, 2, L]
        outputs = []
        for run in np.unique(self.runs):
            first, end = np.searchsorted(self.runs, (run, run + 1))
            part = ops.concatenate([added[..., 0, first:end], added[..., 1, first:end]], axis=-1)
            kernel = arrays["update"][:, :, :, first:end]
            kernel = ops.reshape(kernel, (3, 3, 2 * (end - first), self.features))
            even = self._outputs(sums, arrays, slice(first, end), 0.0)
            sums = sums + _convolve(part * (1.0 - odd), kernel)
            late = self._outputs(sums, arrays, slice(first, end), 1.0)
            sums = sums + _convolve(part * odd, kernel)
            outputs.append([e * (1.0 - odd) + o * odd for e, o in zip(even, late)])
        return [ops.concatenate(parts, axis=-1) for parts in zip(*outputs)]

    def _outputs(self, sums, arrays, channels, odd):
        """A list of `[B, h, w, channels]`: class, sign, and whether a magnitude goes on."""
        bias = arrays["bias"]
        limit = integers.ACTIVATION_LIMIT / integers.ACTIVATION_SCALE
        hidden = ops.clip(sums + bias[0] + (bias[1] - bias[0]) * odd, 0.0, limit)
        hidden = self._grid(hidden, integers.ACTIVATION_SCALE)
        outputs = []
        for kind in range(self.outputs):
            bias = arrays["out_bias"][:, kind, channels]
            z = ops.matmul(hidden, arrays["out"][:, kind, channels])
            outputs.append(z + bias[0] + (bias[1] - bias[0]) * odd)
        return outputs

    def _own(self, before, magnitude, odd, arrays):
        known = integers.INPUT_SCALE * _levels(before)
        now = integers.INPUT_SCALE * _levels(magnitude) * (1.0 - odd)
        corners = _diagonal(known)
        even = 2.0 * _sides(known) + corners
        late = 2.0 * _sides(now) + corners
        position = ops.cast(even * (1.0 - odd) + late * odd, "int32")
        table, gain = arrays["table"], arrays["gain"]
        # One table after the other.
        position = position + ops.cast(odd * table.shape[1], "int32")
        values = ops.take(ops.reshape(table, (-1,)), position)
        return values * (gain[0] + (gain[1] - gain[0]) * odd)

    def _bits(self, classes, outputs, sign, before, magnitude, odd, arrays):
        new = ops.cast(before == 0, "float32")
        significant = ops.cast(magnitude > 0, "float32")
        logits, bit = classes, significant
        if self.plane:
            bit = new * significant + (1.0 - new) * (magnitude - 2.0 * before)
            which = ops.cast(ops.minimum(before, integers.REFINED - 1), "int32")
            refined = ops.take(arrays["refine_start"], which)
            refined = refined + ops.take(arrays["refine_slope"], which) * classes
            refined = _clip_grid(self, refined)
            if self.signed:
                lean = ops.take(arrays["lean"], which) * sign * _clip_grid(self, outputs[0])
                refined = refined + self._grid(lean, integers.CLASS_SCALE)
            logits = new * classes + (1.0 - new) * _clip_grid(self, refined)
        nats = ops.softplus(logits) - bit * logits
        begun = new * significant
        if self.signed:
            nats = nats + begun * ops.softplus(-sign * _clip_grid(self, outputs[0]))
        else:
            nats = nats + begun * math.log(2.0)
        if self.plane == 0:
            nats = nats + self._unary(magnitude, outputs[1], odd, arrays["more"])
        return _NATS * ops.mean(ops.sum(nats, axis=-1), axis=(1, 2))

    def _unary(self, magnitude, outputs, odd, more):
        """Cost of telling magnitudes that are at least 1, round by round."""
        odd = odd[..., None]
        more = ops.transpose(more, (0, 2, 1))  # [2, L, UNARY]
        logits = _clip_grid(self, outputs)[..., None] + more[0] + (more[1] - more[0]) * odd
        logits = _clip_grid(self, logits)  # [B, h, w, L, UNARY]
        told = ops.arange(1, integers.UNARY + 1, dtype="float32")
        asked = ops.cast(magnitude[..., None] >= told, "float32")
        goes_on = ops.cast(magnitude[..., None] > told, "float32")
        return ops.sum(asked * (ops.softplus(logits) - goes_on * logits), axis=-1)

    def _rounded(self, name, array):
        scale, limit = _SCALES[name]
        low = 0.0 if name in ("gain", "table") else -limit / scale
        return self._grid(ops.clip(array, low, limit / scale), scale)

    def _grid(self, values, scale):
        """Multiples of 1 / scale, halves up, with the gradient of the identity."""
        if not self.quantised:
            return values
        rounded = ops.floor(values * scale + 0.5) / scale
        return values + ops.stop_gradient(rounded - values)

    def export(self, latents):
        """Integer arrays of this plane, over all `latents` channels."""
        found = {}
        for name, array in self.arrays.items():
            scale, limit = _SCALES[name]
            values = np.floor(np.asarray(ops.convert_to_numpy(array), np.float64) * scale + 0.5)
            low = 0 if name in ("gain", "table") else -limit
            found[name] = np.clip(values, low, limit)

        def spread(values, axis, channels):
            shape = list(values.shape)
            shape[axis] = latents
            out = np.zeros(shape, values.dtype)
            np.moveaxis(out, axis, 0)[channels] = np.moveaxis(values, axis, 0)
            return out

        arrays = {
            "bias": found["bias"].astype(np.int32),
            "out": spread(np.transpose(found["out"], (1, 2, 0)), 1, self.channels).astype(np.int8),
            "out_bias": spread(found["out_bias"], 2, self.channels).astype(np.int32),
            "gain": spread(found["gain"], 1, self.channels).astype(np.int8),
            "table": found["table"].astype(np.int16),
        }
        if self.plane:
            mix = found["mix"].T.reshape(self.mixed, self.kinds, len(self.inputs))
            arrays["mix"] = spread(mix, 2, self.inputs).astype(np.int8)
            arrays["conv"] = found["conv"].astype(np.int8)
            arrays["refine"] = self._refine_table()
            if self.signed:
                arrays["lean"] = found["lean"].astype(np.int8)
        else:
            arrays["more"] = spread(found["more"], 2, self.channels).astype(np.int8)
        if self.signed:
            arrays["update"] = spread(found["update"], 3, self.channels).astype(np.int8)
        return arrays

    def _refine_table(self):
        """Classes of refinement bits by magnitude and class: int8 `[REFINED, CLASSES]`."""
        start, slope = (
            np.asarray(ops.convert_to_numpy(self.arrays[name]), np.float64)[:, None]
            for name in ("refine_start", "refine_slope")
        )
        classes = np.arange(integers.CLASSES) - integers.CLASS_LIMIT
        table = np.floor(start * integers.CLASS_SCALE + slope * classes + 0.5)
        return np.clip(table, -integers.CLASS_LIMIT, integers.CLASS_LIMIT).astype(np.int8)


# What a weight of one is as an integer, and the largest integer.
_SCALES = {
    "mix": (integers.MIX_SCALE, integers.WEIGHT_LIMIT),
    "conv": (integers.CONV_SCALE, integers.WEIGHT_LIMIT),
    "update": (integers.CONV_SCALE, integers.WEIGHT_LIMIT),
    "bias": (integers.SUM_SCALE, integers.BIAS_LIMIT),
    "out": (integers.OUT_SCALE, integers.WEIGHT_LIMIT),
    "out_bias": (integers.OUT_SCALE * integers.ACTIVATION_SCALE, integers.BIAS_LIMIT),
    "gain": (integers.GAIN_SCALE, integers.WEIGHT_LIMIT),
    "table": (integers.TABLE_SCALE, integers.TABLE_LIMIT),
    "lean": (integers.LEAN_SCALE, integers.WEIGHT_LIMIT),
    "more": (integers.CLASS_SCALE, integers.CLASS_LIMIT),
    # Rounded in the table that is made of them.
    "refine_start": (2**16, 2**20),
    "refine_slope": (2**16, 2**20),
}


def _clip_grid(layer, values):
    limit = integers.CLASS_LIMIT / integers.CLASS_SCALE
    return layer._grid(ops.clip(values, -limit, limit), integers.CLASS_SCALE)


def _levels(magnitude):
    """Levels in units of a doubling: `entropy_model.LEVELS` by a formula."""
    magnitude = ops.minimum(magnitude, float(integers.MAGNITUDE_LIMIT))
    doubled = integers.INPUT_SCALE * _NATS * ops.log(1.0 + magnitude)
    return ops.floor(doubled + 0.5) / integers.INPUT_SCALE


def _sides(values):
    """Sum of the four neighbours that share a side, zeros around. `[B, h, w, C]`."""
    padded = ops.pad(values, ((0, 0), (1, 1), (1, 1), (0, 0)))
    rows = padded[:, :-2, 1:-1] + padded[:, 2:, 1:-1]
    return rows + padded[:, 1:-1, :-2] + padded[:, 1:-1, 2:]


def _diagonal(values):
    padded = ops.pad(values, ((0, 0), (1, 1), (1, 1), (0, 0)))
    rows = padded[:, :-2] + padded[:, 2:]
    return rows[:, :, :-2] + rows[:, :, 2:]


def _convolve(inputs, kernel):
    return ops.conv(inputs, kernel, padding="same", data_format="channels_last")


def _constant(values):
    values = np.asarray(values, np.float32)
    return lambda shape, dtype=None: ops.convert_to_tensor(values)
