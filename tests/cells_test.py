"""Tests for rnn_codec/recurrent/cells.py, against the cells' equations written again in NumPy."""

import os
import tempfile

from absl.testing import absltest, parameterized
import keras
from keras import ops
import numpy as np
import pytest

from rnn_codec.backend import compilation
from rnn_codec.recurrent import cells

pytestmark = pytest.mark.network

BATCH, CHANNELS, FILTERS = 2, 3, 8


def convolve(inputs, kernel, strides):
    """Sums over windows of zero-padded inputs, the odd zero at the end. `[B, H, W, C]`."""
    sizes = inputs.shape[1:3]
    outputs = [-(-size // strides) for size in sizes]
    padding = [
        max((output - 1) * strides + len(kernel) - size, 0) for output, size in zip(outputs, sizes)
    ]
    padded = np.pad(inputs, [(0, 0), *((zeros // 2, -(-zeros // 2)) for zeros in padding), (0, 0)])
    result = np.zeros((len(inputs), *outputs, kernel.shape[-1]))
    for row, column in np.ndindex(*outputs):
        top, left = row * strides, column * strides
        window = padded[:, top : top + len(kernel), left : left + len(kernel)]
        result[:, row, column] = np.tensordot(window, kernel, axes=3)
    return result


def apply(layer, inputs):
    """What a convolution layer should give, in float64."""
    kernel, *bias = [to_numpy(weight).astype(np.float64) for weight in layer.weights]
    return convolve(inputs, kernel, layer.strides[0]) + sum(bias)


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def bound(x):
    return x / np.maximum(1.0, np.abs(x))


def to_complex(x):
    real, imaginary = np.split(x, 2, axis=-1)
    return real + 1j * imaginary


def from_complex(x):
    return np.concatenate([x.real, x.imag], axis=-1)


def lstm(cell, x, states):
    h, c = states
    sums = apply(cell.input_conv, x) + apply(cell.recurrent_conv, h)
    f, i, o, j = np.split(sums, 4, axis=-1)
    c = sigmoid(f + 1.0) * c + sigmoid(i) * np.tanh(j)
    h = sigmoid(o) * np.tanh(c)
    return h, [h, c]


def associative_lstm(cell, x, states):
    h, c = states
    sums = apply(cell.input_conv, x) + apply(cell.recurrent_conv, h)
    f, i, o = np.split(sums[..., : 3 * FILTERS // 2], 3, axis=-1)
    value, key_in, key_out = np.split(sums[..., 3 * FILTERS // 2 :], 3, axis=-1)
    value, key_in, key_out = (to_complex(part) for part in (value, key_in, key_out))
    value, key_in, key_out = bound(value), bound(key_in + 1.0), bound(key_out + 1.0)
    copies, recalled = [], []
    for order, copy in zip(cell.permutations(), np.split(c, cell.num_copies, axis=-1)):
        order = order[: FILTERS // 2]
        copy = sigmoid(f + 1.0) * to_complex(copy) + key_in[..., order] * sigmoid(i) * value
        recalled.append(key_out[..., order] * copy)
        copies.append(from_complex(copy))
    h = from_complex(sigmoid(o) * bound(np.mean(recalled, axis=0)))
    return h, [h, np.concatenate(copies, axis=-1)]


def gru(cell, x, states):
    (h,) = states
    from_z, from_r, from_candidate = np.split(apply(cell.input_conv, x), 3, axis=-1)
    z, r = np.split(apply(cell.gate_conv, h), 2, axis=-1)
    z, r = sigmoid(from_z + z), sigmoid(from_r + r)
    h = (1.0 - z) * h + z * np.tanh(from_candidate + apply(cell.candidate_conv, r * h))
    return h, [h]


def residual_gru(cell, x, states):
    (h,) = states
    from_z, from_r, from_candidate = np.split(apply(cell.input_conv, x), 3, axis=-1)
    z, r, shortcut = np.split(apply(cell.gate_conv, h), 3, axis=-1)
    z, r = sigmoid(from_z + z), sigmoid(from_r + r)
    h = (1.0 - z) * h + z * np.tanh(from_candidate + apply(cell.candidate_conv, r * h))
    h = h + 0.1 * shortcut
    return h + 0.1 * apply(cell.shortcut_conv, x), [h]


# Name, class, arguments of its own, reference.
CELLS = (
    ("lstm", cells.ConvLSTMCell, {}, lstm),
    ("associative_lstm", cells.AssociativeLSTMCell, {}, associative_lstm),
    ("redundant_associative_lstm", cells.AssociativeLSTMCell, {"num_copies": 3}, associative_lstm),
    ("gru", cells.ConvGRUCell, {}, gru),
    ("residual_gru", cells.ResidualConvGRUCell, {}, residual_gru),
)

# Name, height and width of the input, kernel, recurrent kernel, strides, bias. Even and odd sizes
# differ in where the padding goes.
GEOMETRIES = (
    ("as_in_the_encoder", (4, 6), 3, 1, 2, False),
    ("as_in_the_product", (5, 6), 3, 3, 2, True),
    ("as_in_the_decoder", (3, 4), 2, 1, 1, False),
    ("even_kernel_with_strides", (5, 4), 2, 3, 2, True),
    ("least_kernels", (5, 4), 1, 1, 2, False),
)

# Policy, dtypes of outputs and of variables, and a bound on the difference from float32 for values
# of about 1: a few roundings to 8 bits (bfloat16) or 11 (float16).
PRECISIONS = (
    ("float32", "float32", "float32", 0.0),
    ("bfloat16", "bfloat16", "bfloat16", 0.05),
    ("mixed_bfloat16", "bfloat16", "float32", 0.05),
    ("mixed_float16", "float16", "float32", 0.005),
)


def each_cell(*others):
    """Each cell, by name, combined with each row of `others`, which start with a name too."""
    if not others:
        return parameterized.named_parameters(*CELLS)
    return parameterized.named_parameters(
        (f"{cell[0]}_{other[0]}", *cell[1:], *other) for cell in CELLS for other in others
    )


def to_numpy(tensor):
    return ops.convert_to_numpy(ops.cast(tensor, "float32"))


def build(cell, height, width):
    """Gives a cell random weights."""
    cell.build((BATCH, height, width, CHANNELS))
    rng = np.random.default_rng(1)
    for weight in cell.weights:
        weight.assign(rng.normal(0.0, 0.5, weight.shape))


def make_model(cell, height=4, width=6):
    """The cell as a model of its input and states, with random weights."""
    build(cell, height, width)
    states = cell.initial_states(BATCH, height // cell.strides, width // cell.strides)
    shapes = [(height, width, CHANNELS), *(state.shape[1:] for state in states)]
    inputs = [keras.Input(shape, batch_size=BATCH) for shape in shapes]
    output, states = cell(inputs[0], inputs[1:])
    return keras.Model(inputs, [output, *states])


def make_inputs(model):
    rng = np.random.default_rng(2)
    return [rng.uniform(-1.0, 1.0, tensor.shape).astype(np.float32) for tensor in model.inputs]


def run(model, inputs):
    return [to_numpy(output) for output in model(inputs)]


class CellTest(parameterized.TestCase):
    @each_cell(*GEOMETRIES)
    def test_computes_its_equations(
        self, make_cell, arguments, reference, _, size, kernel, recurrent_kernel, strides, use_bias
    ):
        cell = make_cell(
            FILTERS,
            kernel_size=kernel,
            recurrent_kernel_size=recurrent_kernel,
            strides=strides,
            use_bias=use_bias,
            **arguments,
        )
        build(cell, *size)
        compiled = compilation.compile_for_inference(cell, cell)
        states = cell.initial_states(BATCH, *(-(-side // strides) for side in size))
        expected_states = [np.zeros(state.shape) for state in states]
        rng = np.random.default_rng(2)
        for _ in range(2):  # the second step starts from states that are not zero
            inputs = rng.normal(size=(BATCH, *size, CHANNELS)).astype(np.float32)
            output, states = compiled(inputs, states)
            expected, expected_states = reference(cell, inputs, expected_states)
            for tensor, values in zip([output, *states], [expected, *expected_states]):
                np.testing.assert_allclose(to_numpy(tensor), values, atol=1e-5)

    @each_cell(*PRECISIONS)
    def test_computes_and_is_kept_in_every_precision(
        self, make_cell, arguments, _, policy, compute_dtype, variable_dtype, bound
    ):
        exact = make_model(make_cell(FILTERS, strides=2, use_bias=True, **arguments))
        cell = make_cell(FILTERS, strides=2, use_bias=True, dtype=policy, **arguments)
        model = make_model(cell)
        inputs = make_inputs(model)
        for output in model(inputs):
            self.assertEqual(keras.backend.standardize_dtype(output.dtype), compute_dtype)
        for weight in cell.weights:
            self.assertEqual(weight.dtype, variable_dtype)
        for state in cell.initial_states(1, 2, 2):
            self.assertEqual(keras.backend.standardize_dtype(state.dtype), compute_dtype)

        outputs = run(model, inputs)
        for values, expected in zip(outputs, run(exact, inputs)):
            np.testing.assert_allclose(values, expected, atol=bound, rtol=0)

        folder = self.enterContext(tempfile.TemporaryDirectory())
        path = os.path.join(folder, "cell.keras")
        model.save(path)
        loaded = keras.saving.load_model(path)
        self.assertEqual(loaded.get_layer(cell.name).dtype_policy.name, policy)
        for values, expected in zip(run(loaded, inputs), outputs):
            np.testing.assert_array_equal(values, expected)

    @each_cell()
    def test_compiled_equals_eager(self, make_cell, arguments, _):
        model = make_model(make_cell(FILTERS, strides=2, recurrent_kernel_size=3, **arguments))
        inputs = make_inputs(model)
        compiled = compilation.compile_for_inference(model, model)
        for values, expected in zip(compiled(inputs), run(model, inputs)):
            np.testing.assert_allclose(to_numpy(values), expected, atol=1e-6)

    @each_cell()
    def test_training_reaches_every_weight(self, make_cell, arguments, _):
        model = make_model(make_cell(FILTERS, use_bias=True, **arguments))
        inputs = make_inputs(model)
        model.compile(keras.optimizers.SGD(1.0), loss=["mse"] * len(model.outputs))
        before = [to_numpy(weight) for weight in model.trainable_weights]
        model.train_on_batch(inputs, [np.zeros(output.shape) for output in model.outputs])
        for weight, values in zip(model.trainable_weights, before):
            self.assertTrue(np.all(np.isfinite(to_numpy(weight))), weight.path)
            self.assertGreater(np.mean(to_numpy(weight) != values), 0.9, weight.path)

    def test_memory_needs_complex_halves(self):
        with self.assertRaisesRegex(ValueError, "must be even.*filters=5"):
            cells.AssociativeLSTMCell(5)

    def test_permutations_are_frozen(self):
        # They are part of every trained associative LSTM.
        np.testing.assert_array_equal(
            cells.AssociativeLSTMCell(16, num_copies=3).permutations()[:, :8],
            [[0, 1, 2, 3, 4, 5, 6, 7], [2, 4, 7, 5, 0, 6, 3, 1], [7, 3, 6, 0, 1, 4, 5, 2]],
        )


if __name__ == "__main__":
    absltest.main()
