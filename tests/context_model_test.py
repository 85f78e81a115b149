"""Tests for rnn_codec/context_model.py: that it computes the same integers everywhere."""

import decimal
import os
import subprocess
import sys
from unittest import mock

from absl.testing import absltest, parameterized
import numpy as np

from rnn_codec import context_model
from tests import testing

ITERATIONS, BITS = 5, 16
# One position, one row, one column, odd sides, and more positions than one product takes (below).
SHAPES = [(1, 1), (1, 9), (8, 1), (5, 7), (9, 11)]


def planes_of(rows, columns, count=ITERATIONS, seed=0):
    return np.random.default_rng(seed).integers(0, 2, (count, rows, columns, BITS), dtype=np.uint8)


def probabilities(model, planes):
    """P of each bit, as it is when the plane is coded: int array like `planes`."""
    result = np.zeros(planes.shape, np.int64)
    for index, plane in enumerate(planes):
        steps, coded = model.predict(list(planes[:index]), plane.shape), None
        try:
            while True:
                where, predicted = steps.send(coded)
                result[index][where] = predicted
                coded = plane[where]
        except StopIteration:
            pass
    return result


class ArithmeticTest(parameterized.TestCase):
    @parameterized.product(shape=SHAPES, extreme=(False, True))
    def test_all_give_the_integers_of_the_definition(self, shape, extreme):
        arrays = testing.context_arrays(ITERATIONS, BITS, features=24, extreme=extreme)
        planes = planes_of(*shape)
        expected = probabilities(context_model.ContextModel(arrays, "definition"), planes)
        self.assertGreater(len(np.unique(expected)), 1)
        with mock.patch.object(context_model, "_BLOCK", 40):
            for arithmetic in ("definition", "numpy", "keras"):
                model = context_model.ContextModel(arrays, arithmetic)
                np.testing.assert_array_equal(probabilities(model, planes), expected)

    def test_sums_at_the_extremes_stay_exact_in_float32(self):
        # All weights and all inputs of one sign, in the widest model that a preset may have.
        shapes = context_model.shapes(1, features=128, bits=32)
        arrays = {
            name: np.full(shape, 2**20, np.int32)
            if "bias" in name
            else np.full(shape, 127, np.int8)
            for name, shape in shapes.items()
        }
        model = context_model.ContextModel({k: np.repeat(a, 8, 0) for k, a in arrays.items()})
        largest = 9 * 32 * (context_model.EARLIER + 7) * 127 + 25 * 32 * 127 + 2**20
        self.assertLess(largest + 4, 2**24)
        self.assertLess(128 * 127 * 127 + 2**20 + 64, 2**24)
        planes = np.ones((8, 2, 2, 32), np.uint8)
        self.assertEqual(probabilities(model, planes).min(), context_model.PROBABILITIES[-1])

    @parameterized.parameters({"OMP_NUM_THREADS": "1"}, {"TF_ENABLE_ONEDNN_OPTS": "0"})
    def test_the_environment_does_not_matter(self, **variables):
        model = context_model.ContextModel(testing.context_arrays(ITERATIONS, BITS), "keras")
        expected = testing.digest(probabilities(model, planes_of(9, 5)))
        program = (
            "from tests import context_model_test as t, testing; "
            "arrays = testing.context_arrays(t.ITERATIONS, t.BITS); "
            "model = t.context_model.ContextModel(arrays, 'keras'); "
            "print(testing.digest(t.probabilities(model, t.planes_of(9, 5))))"
        )
        run = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, **variables, "PYTHONPATH": testing.ROOT},
        )
        self.assertEqual(run.stdout.strip(), expected)

    def test_integers_are_frozen(self):
        # Every packed file depends on them.
        model = context_model.ContextModel(testing.context_arrays(ITERATIONS, BITS), "definition")
        self.assertEqual(testing.digest(probabilities(model, planes_of(9, 5))), FROZEN)


class CausalityTest(parameterized.TestCase):
    def test_a_prediction_depends_on_nothing_that_is_coded_later(self):
        model = context_model.ContextModel(testing.context_arrays(ITERATIONS, BITS))
        planes = planes_of(6, 6)
        before = probabilities(model, planes)
        # Order of coding: the step of each bit of a plane.
        parity = np.add.outer(np.arange(6), np.arange(6)) % 2
        group = np.arange(BITS) // (BITS // context_model.GROUPS)
        step = 2 * group[None, None, :] + parity[:, :, None]
        for changed in ((0, 2, 3, 0), (1, 3, 3, 7), (3, 0, 5, 15)):
            other = planes.copy()
            other[changed] ^= 1
            differs = probabilities(model, other) != before
            index, *place = changed
            self.assertFalse(differs[:index].any())
            self.assertFalse(differs[index][step <= step[tuple(place)]].any())
            self.assertTrue(differs.any())


class TableTest(absltest.TestCase):
    def test_is_the_logistic_function(self):
        decimal.getcontext().prec = 40
        for z in range(-767, 768, 13):
            exact = 65536 / (1 + (-decimal.Decimal(z) / 64).exp())
            found = int(context_model.PROBABILITIES[z + 767])
            # Straight lines between points a quarter apart are off by at most 0.0008.
            self.assertAlmostEqual(found, float(exact), delta=52)
        self.assertTrue(np.all(np.diff(context_model.PROBABILITIES) >= 0))
        sums = context_model.PROBABILITIES + context_model.PROBABILITIES[::-1]
        self.assertLessEqual(np.abs(sums - 65536).max(), 1)


class CheckTest(parameterized.TestCase):
    def test_refuses_what_is_no_model(self):
        arrays = testing.context_arrays(ITERATIONS, BITS)
        for broken in (
            {},
            {**arrays, "known": arrays["known"][:, :3]},
            {**arrays, "bias": arrays["bias"] + 2**21},
            {**arrays, "hidden": arrays["hidden"].astype(np.float32)},
        ):
            with self.assertRaisesRegex(ValueError, "^expected"):
                context_model.ContextModel(broken)


FROZEN = "1532bfb20add8ec0"

if __name__ == "__main__":
    absltest.main()
