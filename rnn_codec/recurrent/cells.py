"""Convolutional recurrent cells: one time step each, no loop.

`B` is the batch, `H, W` the size of the cell's output (its input is `strides` times larger), `C`
its filters. A cell is called with its input and the list of its states and returns its output and
the list of new states. The convolution of the input carries the cell's strides; states live at the
output's resolution. The paper's cells have no biases, so `use_bias` is off unless asked for.

Reference:
    Toderici et al., 2017, "Full Resolution Image Compression with Recurrent Neural Networks",
    https://arxiv.org/abs/1608.05148, section 3.1.
"""

import dataclasses

import keras
from keras import ops
import numpy as np

from rnn_codec.layers import geometry
from rnn_codec.layers.initializers import GlorotUniform

# The paper's alpha_h and alpha_x.
RESIDUAL_SCALE = 0.1


class ConvRNNCell(keras.layers.Layer):
    """What every convolutional cell here shares: its two kernels' geometry and its zero state.

    Args:
        filters: int. Channels of the output.
        kernel_size: int. Of the convolution of the input.
        recurrent_kernel_size: int. Of the convolution of the state.
        strides: int. Of the convolution of the input.
        use_bias: bool. Whether the convolution of the input adds a bias.

    Call arguments:
        inputs: `[B, H * strides, W * strides, channels]`.
        states: list of `num_states` tensors, each `[B, H, W, state_channels]`.

    Output:
        The output `[B, H, W, filters]` and the list of new states.
    """

    num_states = 1
    recurrent_depth = 1  # convolutions of the state that follow one another

    def __init__(
        self,
        filters,
        kernel_size=3,
        recurrent_kernel_size=1,
        strides=1,
        use_bias=False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.filters = filters
        self.kernel_size = kernel_size
        self.recurrent_kernel_size = recurrent_kernel_size
        self.strides = strides
        self.use_bias = use_bias

    @property
    def state_channels(self):
        """Channels of each state."""
        return self.filters

    def initial_states(self, batch, height, width):
        """Zeros, in the compute precision, for an output of `height` by `width`."""
        shape = (batch, height, width, self.state_channels)
        return [ops.zeros(shape, dtype=self.compute_dtype) for _ in range(self.num_states)]

    def geometry(self, before):
        # The input is seen once. The convolutions of the state follow one another, and the first of
        # them sees no input of this step.
        result = before.reaching(geometry.overhang(self.kernel_size, self.strides))
        result = result.scaled(self.strides)
        state = result.scale * geometry.overhang(self.recurrent_kernel_size)
        reach = max(result.reach, state) + (self.recurrent_depth - 1) * state
        convolutions = [
            part for part in self._flatten_layers() if isinstance(part, keras.layers.Conv2D)
        ]
        counts = map(geometry.kernel_macs, convolutions)
        return dataclasses.replace(result, reach=reach).computing(*counts)

    def _input_conv(self, filters, name, **kwargs):
        return keras.layers.Conv2D(
            filters,
            self.kernel_size,
            strides=self.strides,
            padding="same",
            use_bias=self.use_bias,
            kernel_initializer=GlorotUniform(),
            dtype=self.dtype_policy,
            name=name,
            **kwargs,
        )

    def _recurrent_conv(self, filters, name):
        return keras.layers.Conv2D(
            filters,
            self.recurrent_kernel_size,
            padding="same",
            use_bias=False,
            kernel_initializer=GlorotUniform(),
            dtype=self.dtype_policy,
            name=name,
        )

    def _build_state_conv(self, layer, input_shape):
        batch, height, width, _ = input_shape
        height = None if height is None else -(-height // self.strides)
        width = None if width is None else -(-width // self.strides)
        layer.build((batch, height, width, self.state_channels))


class ConvLSTMCell(ConvRNNCell):
    """Convolutional LSTM: `c' = s(f) c + s(i) tanh(j)`, `h' = s(o) tanh(c')`, output `h'`.

    `[f, i, o, j] = W x + U h`. The states are `[h, c]`. One is added to the forget gate's input, so
    that an untrained cell remembers.

    Reference:
        Toderici et al., 2017, equations 4 to 6; Zaremba et al., 2014, for the form.
    """

    num_states = 2
    forget_bias = 1.0

    def __init__(self, filters, **kwargs):
        super().__init__(filters, **kwargs)
        self.input_conv = self._input_conv(4 * filters, "input")
        self.recurrent_conv = self._recurrent_conv(4 * filters, "recurrent")

    def build(self, input_shape):
        self.input_conv.build(input_shape)
        self._build_state_conv(self.recurrent_conv, input_shape)

    def call(self, inputs, states):
        hidden, memory = states
        gates = self.input_conv(inputs) + self.recurrent_conv(hidden)  # [B, H, W, 4C]
        forget, write, read, candidate = ops.split(gates, 4, axis=-1)
        memory = ops.sigmoid(forget + self.forget_bias) * memory
        memory = memory + ops.sigmoid(write) * ops.tanh(candidate)
        hidden = ops.sigmoid(read) * ops.tanh(memory)
        return hidden, [hidden, memory]


class AssociativeLSTMCell(ConvRNNCell):
    """LSTM whose memory is a sum of complex key-value products, with redundant copies.

    A complex tensor of `C / 2` numbers is `C` channels: the real half, then the imaginary half.

        [f, i, o] = s(...), [j, k_in, k_out] = bound(...) of W x + U h
        c_s' = f c_s + (P_s k_in) (*) (i j)               for each copy s
        h'   = o bound(mean over s of (P_s k_out) (*) c_s')

    `(*)` multiplies complex numbers, `bound(v) = v / max(1, |v|)`, `P_s` permutes the keys, equally
    in both halves. Gates are real and shared by the two halves. The states are `[h, c]`, where
    `c` holds the copies one after the other, `num_copies * C` channels.

    One is added to the forget gate's input, as in the LSTM, and to the keys' real halves: without,
    an untrained cell multiplies three small numbers, and four such layers have an output and
    gradients of exactly zero.

    Args:
        num_copies: int. Redundant copies of the memory. The first is not permuted.

    Reference:
        Danihelka et al., 2016, https://arxiv.org/abs/1602.03032; Toderici et al., 2017, equations
        7 to 10.
    """

    num_states = 2
    forget_bias = 1.0
    key_bias = 1.0

    def __init__(self, filters, num_copies=1, **kwargs):
        super().__init__(filters, **kwargs)
        if filters % 2:
            raise ValueError(f"filters must be even (complex halves). Received: filters={filters}")
        self.num_copies = num_copies
        # f, i, o are C/2 each; j, k_in, k_out are C each.
        self.input_conv = self._input_conv(9 * filters // 2, "input")
        self.recurrent_conv = self._recurrent_conv(9 * filters // 2, "recurrent")

    def build(self, input_shape):
        self.input_conv.build(input_shape)
        self._build_state_conv(self.recurrent_conv, input_shape)

    def permutations(self):
        """Channel order of the keys for each copy: int array `[num_copies, C]`."""
        half = self.filters // 2
        rows = []
        for copy in range(self.num_copies):
            # Part of the model, not of its weights, so they must never change: NumPy promises that
            # of a bit generator's raw numbers, not of `Generator.permutation`.
            order = np.arange(half)
            if copy:
                order = np.argsort(np.random.PCG64(copy).random_raw(half))
            rows.append(np.concatenate([order, order + half]))
        return np.stack(rows)

    def initial_states(self, batch, height, width):
        shapes = [
            (batch, height, width, self.filters),
            (batch, height, width, self.filters * self.num_copies),
        ]
        return [ops.zeros(shape, dtype=self.compute_dtype) for shape in shapes]

    def call(self, inputs, states):
        hidden, memory = states
        half = self.filters // 2
        gates = self.input_conv(inputs) + self.recurrent_conv(hidden)
        sizes = np.cumsum([half, half, half, self.filters, self.filters])
        forget, write, read, value, key_in, key_out = ops.split(gates, sizes.tolist(), axis=-1)
        forget = _both_halves(ops.sigmoid(forget + self.forget_bias))
        write = _both_halves(ops.sigmoid(write))
        read = _both_halves(ops.sigmoid(read))
        unit = ops.cast(np.repeat([self.key_bias, 0.0], half), gates.dtype)
        value, key_in, key_out = _bound(value), _bound(key_in + unit), _bound(key_out + unit)

        copies, recalled = [], 0.0
        for order, copy in zip(self.permutations(), ops.split(memory, self.num_copies, axis=-1)):
            key = ops.take(key_in, order, axis=-1)
            copy = forget * copy + _complex_multiply(key, write * value)
            recalled = recalled + _complex_multiply(ops.take(key_out, order, axis=-1), copy)
            copies.append(copy)
        hidden = read * _bound(recalled / self.num_copies)
        return hidden, [hidden, ops.concatenate(copies, axis=-1)]


def _both_halves(gate):
    return ops.concatenate([gate, gate], axis=-1)


def _bound(value):
    """Scales each complex number to a modulus of at most one. `[..., C]` -> `[..., C]`."""
    real, imaginary = ops.split(value, 2, axis=-1)
    # The maximum comes before the root, whose gradient is infinite at zero.
    modulus = ops.sqrt(ops.maximum(real * real + imaginary * imaginary, 1.0))
    return value / _both_halves(modulus)


def _complex_multiply(a, b):
    a_real, a_imaginary = ops.split(a, 2, axis=-1)
    b_real, b_imaginary = ops.split(b, 2, axis=-1)
    real = a_real * b_real - a_imaginary * b_imaginary
    imaginary = a_real * b_imaginary + a_imaginary * b_real
    return ops.concatenate([real, imaginary], axis=-1)


class ConvGRUCell(ConvRNNCell):
    """Convolutional GRU: `h' = (1 - z) h + z tanh(W x + U (r h))`, output `h'`.

    `z = s(Wz x + Uz h)`, `r = s(Wr x + Ur h)`. Mind the convention: `z` multiplies the candidate.

    Reference:
        Toderici et al., 2017, equations 11 to 13.
    """

    recurrent_depth = 2  # the gate r comes before the candidate

    def __init__(self, filters, **kwargs):
        super().__init__(filters, **kwargs)
        self.input_conv = self._input_conv(3 * filters, "input")
        self.gate_conv = self._gate_conv()
        self.candidate_conv = self._recurrent_conv(filters, "candidate")

    def _gate_conv(self):
        return self._recurrent_conv(2 * self.filters, "gates")

    def build(self, input_shape):
        self.input_conv.build(input_shape)
        self._build_state_conv(self.gate_conv, input_shape)
        self._build_state_conv(self.candidate_conv, input_shape)

    def call(self, inputs, states):
        (hidden,) = states
        hidden = self._next_hidden(self.input_conv(inputs), hidden, self.gate_conv(hidden))
        return hidden, [hidden]

    def _next_hidden(self, from_input, hidden, from_hidden):
        filters = self.filters
        gates = _sigmoid(from_input[..., : 2 * filters] + from_hidden)  # [B, H, W, 2C]
        update, reset = gates[..., :filters], gates[..., filters:]
        candidate = from_input[..., 2 * filters :] + self.candidate_conv(reset * hidden)
        return hidden + update * (ops.tanh(candidate) - hidden)


class ResidualConvGRUCell(ConvGRUCell):
    """The paper's Residual GRU: a GRU with scaled shortcuts along time and along depth.

        h' = (1 - z) h + z tanh(W x + U (r h)) + 0.1 Wh h
        o  = h' + 0.1 Wox x

    `o` goes to the next layer, `h'` is the state. `Wox` is 1x1 with the cell's own strides.

    Reference:
        Toderici et al., 2017, section 3.1 ("Residual Gated Recurrent Unit").
    """

    def __init__(self, filters, **kwargs):
        super().__init__(filters, **kwargs)
        self.shortcut_conv = keras.layers.Conv2D(
            filters,
            1,
            strides=self.strides,
            use_bias=False,
            kernel_initializer=GlorotUniform(),
            dtype=self.dtype_policy,
            name="input_shortcut",
        )

    def _gate_conv(self):
        # Wh rides along with the gates: one convolution of the state gives z, r and the shortcut.
        return self._recurrent_conv(3 * self.filters, "gates_and_shortcut")

    def build(self, input_shape):
        super().build(input_shape)
        self.shortcut_conv.build(input_shape)

    def call(self, inputs, states):
        (hidden,) = states
        from_hidden = self.gate_conv(hidden)  # [B, H, W, 3C]
        gates, shortcut = from_hidden[..., : 2 * self.filters], from_hidden[..., 2 * self.filters :]
        hidden = self._next_hidden(self.input_conv(inputs), hidden, gates)
        hidden = hidden + RESIDUAL_SCALE * shortcut
        return hidden + RESIDUAL_SCALE * self.shortcut_conv(inputs), [hidden]


def _sigmoid(values):
    """In float32, which takes half the time that bfloat16 takes on a CPU."""
    return ops.cast(ops.sigmoid(ops.cast(values, "float32")), values.dtype)


CELLS = {
    "lstm": ConvLSTMCell,
    "associative_lstm": AssociativeLSTMCell,
    "gru": ConvGRUCell,
    "residual_gru": ResidualConvGRUCell,
}
