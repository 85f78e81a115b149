"""Tests for rnn_codec/recurrent/binarizer.py."""

from absl.testing import absltest, parameterized
import keras
from keras import ops
import numpy as np

from rnn_codec.recurrent.binarizer import Binarizer

MODES = (
    ("in_use", False, False),
    ("training", False, True),
    ("training_stochastic", True, True),
)


def make_binarizer(filters=4, **kwargs):
    """One whose convolution is the identity, so that its input is tanh's."""
    binarizer = Binarizer(filters, **kwargs)
    binarizer.build((None, None, None, filters))
    kernel, bias = binarizer.conv.weights
    kernel.assign(np.eye(filters)[None, None])
    bias.assign(np.zeros(filters))
    return binarizer


def make_features(seed=0, size=8, filters=4):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(2, size, size, filters)).astype(np.float32)


def to_numpy(tensor):
    return ops.convert_to_numpy(ops.cast(tensor, "float32"))


def gradient(function, point):
    """Of the sum of `function` at `point`."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        point = tf.constant(point)
        with tf.GradientTape() as tape:
            tape.watch(point)
            total = tf.reduce_sum(function(point))
        return tape.gradient(total, point).numpy()
    import jax

    return np.asarray(jax.grad(lambda values: function(values).sum())(point))


class BinarizerTest(parameterized.TestCase):
    @parameterized.named_parameters(
        (f"{name}_{policy}", stochastic, training, policy)
        for name, stochastic, training in MODES
        for policy in ("float32", "mixed_bfloat16")
    )
    def test_gives_exact_bits(self, stochastic, training, policy):
        binarizer = make_binarizer(stochastic=stochastic, dtype=policy)
        bits = binarizer(make_features(), training=training)
        self.assertEqual(keras.backend.standardize_dtype(bits.dtype), binarizer.compute_dtype)
        self.assertEqual(set(to_numpy(bits).ravel()), {-1.0, 1.0})

    @parameterized.parameters(False, True)
    def test_bit_is_the_sign_and_one_for_zero(self, training):
        features = np.array([-2.0, -1e-30, -0.0, 0.0, 1e-30, 2.0], np.float32).reshape(1, 6, 1, 1)
        bits = make_binarizer(1)(features, training=training)
        np.testing.assert_array_equal(to_numpy(bits).ravel(), [-1, -1, 1, 1, 1, 1])

    def test_zero_weights_give_ones(self):
        binarizer = make_binarizer()
        for weight in binarizer.weights:
            weight.assign(np.zeros(weight.shape))
        np.testing.assert_array_equal(to_numpy(binarizer(make_features())), 1.0)

    def test_use_is_deterministic_though_training_draws(self):
        binarizer, features = make_binarizer(stochastic=True), make_features()
        expected = np.where(features >= 0, 1.0, -1.0)
        for _ in range(2):
            np.testing.assert_array_equal(to_numpy(binarizer(features)), expected)
        drawn = [to_numpy(binarizer(features, training=True)) for _ in range(2)]
        self.assertFalse(np.array_equal(drawn[0], drawn[1]))

    def test_draws_repeat_with_their_seed(self):
        features = make_features()
        first, again, other = (
            to_numpy(make_binarizer(stochastic=True, seed=seed)(features, training=True))
            for seed in (1, 1, 2)
        )
        np.testing.assert_array_equal(first, again)
        self.assertFalse(np.array_equal(first, other))

    def test_drawn_bits_have_the_mean_of_tanh(self):
        means = np.array([-0.9, -0.2, 0.5, 0.99], np.float32)
        features = np.broadcast_to(np.arctanh(means), (1, 100, 100, 4))
        bits = to_numpy(make_binarizer(stochastic=True)(features, training=True))
        deviations = np.sqrt((1.0 - means**2) / (100 * 100))
        np.testing.assert_array_less(np.abs(bits.mean(axis=(0, 1, 2)) - means), 4.0 * deviations)

    @parameterized.parameters(False, True)
    def test_gradient_is_that_of_tanh(self, stochastic):
        binarizer = make_binarizer(stochastic=stochastic)
        features = make_features()
        np.testing.assert_allclose(
            gradient(lambda x: binarizer(x, training=True), features),
            1.0 - np.tanh(features) ** 2,
            atol=1e-6,
        )

    def test_iterations_may_have_weights_of_their_own(self):
        binarizer = Binarizer(1, iterations=2)
        features = np.array([-1.0, 2.0], np.float32).reshape(1, 2, 1, 1)
        binarizer(features, index=0)
        binarizer.conv.kernel.assign([[[1.0]], [[-1.0]]])
        for index, expected in ((0, [-1, 1]), (np.int32(1), [1, -1])):
            bits = to_numpy(binarizer(features, index=index))
            np.testing.assert_array_equal(bits.ravel(), expected)


if __name__ == "__main__":
    absltest.main()
