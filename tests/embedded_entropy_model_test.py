"""Tests for rnn_codec/embedded/entropy_model.py: the same integers everywhere, bounded sums."""

import decimal
import hashlib
from unittest import mock

from absl.testing import absltest, parameterized
import entropy_models
import numpy as np

from rnn_codec.embedded import arithmetic, entropy_model, runs

SHAPES = [(1, 1), (1, 9), (8, 1), (5, 7), (6, 12)]


def payloads(arrays, index, kind, ends=None):
    """Payloads of all runs."""
    model = entropy_model.EntropyModel(arrays, kind)
    encoder = runs.RunEncoder(model, index)
    found = []
    for plane in range(model.planes):
        cuts = np.unique(model.runs[plane] if ends is None else ends)
        found += [encoder.encode(plane, a, b) for a, b in zip(cuts, cuts[1:])]
    return found


class ArithmeticTest(parameterized.TestCase):
    @parameterized.product(shape=SHAPES, scale=(25, 300))
    def test_float32_gives_the_integers_of_the_definition(self, shape, scale):
        # A large scale has weights at their limits.
        arrays = entropy_models.arrays(seed=scale, scale=scale)
        index = entropy_models.index(*shape)
        expected = payloads(arrays, index, "definition")
        with mock.patch.object(arithmetic, "_BLOCK", 10):
            self.assertEqual(payloads(arrays, index, "numpy"), expected)

    def test_sums_near_the_limit_stay_exact(self):
        sums = np.array([2**24 - 65, -(2**24) + 65, 63, 64, -64, -65, 191, 192])
        expected = arithmetic.Definition().rescale(sums, 7, -(2**20), 2**20)
        found = arithmetic.Numpy().rescale(sums.astype(np.float32), 7, -(2**20), 2**20)
        np.testing.assert_array_equal(found, expected)

    def test_payloads_are_frozen(self):
        # Changing these bytes breaks every file ever written.
        for ends, expected in FROZEN.items():
            found = payloads(entropy_models.arrays(), entropy_models.index(5, 7), "numpy", ends)
            digest = hashlib.sha256(b"".join(found)).hexdigest()[:16]
            self.assertEqual((sum(map(len, found)), digest), expected)


class TablesTest(absltest.TestCase):
    def test_probabilities_are_those_of_logits(self):
        with decimal.localcontext(prec=40):
            expected = [
                round(65536 / (1 + (-decimal.Decimal(c) / 8).exp())) for c in range(-63, 64)
            ]
        np.testing.assert_array_equal(entropy_model.PROBABILITIES, expected)

    def test_levels_are_twice_the_logarithm(self):
        expected = [round(2 * np.log2(1 + m)) for m in range(entropy_model.MAGNITUDE_LIMIT + 1)]
        np.testing.assert_array_equal(entropy_model.LEVELS, expected)
        large = entropy_model.levels_of(np.array([5, 63, 64, 30000], np.int16))
        np.testing.assert_array_equal(large, [5, 12, 12, 12])


class CheckTest(parameterized.TestCase):
    def check(self, message, **changed):
        arrays = {**entropy_models.arrays(), **changed}
        with self.assertRaisesRegex(ValueError, message):
            entropy_model.EntropyModel(arrays)

    def test_refuses_arrays_that_are_no_model(self):
        with self.assertRaisesRegex(ValueError, "arrays of an entropy model"):
            entropy_model.check({})
        arrays = entropy_models.arrays()
        self.check("expected bias_1", bias_1=arrays["bias_1"].astype(np.int8))
        self.check("expected mix_2", mix_2=arrays["mix_2"][:, :, :-1])
        self.check("expected extra", extra=arrays["live"])

    def test_refuses_weights_out_of_range(self):
        arrays = entropy_models.arrays()
        self.check("expected mix of plane 1", mix_1=np.full_like(arrays["mix_1"], -128))
        self.check("expected gain of plane 0", gain_0=-1 - arrays["gain_0"])

    def test_refuses_channels_that_do_not_fit(self):
        arrays = entropy_models.arrays()
        self.check("each channel once", order=np.zeros_like(arrays["order"]))
        self.check("expected runs", runs=arrays["runs"] + np.int16(1))
        self.check("live at all later", live=arrays["live"][::-1].copy())

    def test_refuses_sums_that_may_reach_the_limit(self):
        planes, latents, features = 1, 3, 1041
        shapes = entropy_model.shapes(planes, latents, 1, [0], [features])
        arrays = {name: np.zeros(shape, kind) for name, (shape, kind) in shapes.items()}
        arrays.update(order=np.arange(3, dtype=np.int16), runs=np.array([[0, 3]], np.int16))
        entropy_model.check(arrays)
        arrays["out_0"][:] = 127
        with self.assertRaisesRegex(ValueError, "sums below 2\\*\\*24"):
            entropy_model.check(arrays)

    def test_bounds_what_sums_can_be(self):
        # The bound is met by the largest activations.
        arrays = entropy_model.plane_arrays(entropy_models.arrays(scale=300), 2)
        out = np.abs(arrays["out"].astype(int)).sum(axis=2).max() * 127
        self.assertGreaterEqual(entropy_model.largest_sum(arrays), out)


# By the ends of the runs; None: those that the model suggests.
FROZEN = {None: (260, "d29e2788024125d3"), (0, 10): (248, "8d82163da88414dc")}

if __name__ == "__main__":
    absltest.main()
