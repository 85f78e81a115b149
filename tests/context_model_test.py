"""Tests for rnn_codec/entropy/context_model.py: that it computes the same integers everywhere."""

import decimal
import functools
import os
import subprocess
import sys
from unittest import mock

from absl.testing import absltest, parameterized
import numpy as np
import pytest

from rnn_codec.entropy import context_model
from rnn_codec.errors import CodecError
from tests import testing

ITERATIONS, BITS = 5, 16
# One position, one row, one column, odd sides, and more positions than one product takes (below).
SHAPES = [(1, 1), (1, 9), (8, 1), (5, 7), (9, 11), (3, 50)]


def planes_of(rows, columns, count=ITERATIONS, seed=0):
    return np.random.default_rng(seed).integers(0, 2, (count, rows, columns, BITS), dtype=np.uint8)


@functools.cache
def digest_of_large_planes(arithmetic):
    arrays = testing.context_arrays(2, BITS, extreme=True)
    model = context_model.ContextModel(arrays, arithmetic)
    return testing.digest(testing.predict(model, planes_of(64, 64, count=2)))


class ArithmeticTest(parameterized.TestCase):
    @parameterized.product(shape=SHAPES, extreme=(False, True))
    def test_all_give_the_integers_of_the_definition(self, shape, extreme):
        arrays = testing.context_arrays(ITERATIONS, BITS, features=24, extreme=extreme)
        planes = planes_of(*shape)
        expected = testing.predict(context_model.ContextModel(arrays, "definition"), planes)
        self.assertGreater(len(np.unique(expected)), 20)
        with mock.patch.object(context_model, "_BLOCK", 40):
            for arithmetic in ("definition", "numpy", "keras"):
                model = context_model.ContextModel(arrays, arithmetic)
                np.testing.assert_array_equal(testing.predict(model, planes), expected)

    @parameterized.parameters("numpy", "keras")
    def test_the_largest_sums_are_exact(self, arithmetic):
        # The widest convolution that a model may have; factors of the largest size, most of one
        # sign, so that sums come near 2**24 and every digit counts.
        rng = np.random.default_rng(0)
        kernel = np.where(rng.random((3, 3, 4 * 32, 5)) < 0.98, 127, -126)
        planes = np.where(rng.random((4, 4, 4 * 32)) < 0.98, 113, 112)
        found, expected = np.zeros((4, 4, 5), np.float32), np.zeros((4, 4, 5), np.int64)
        for name, sums in ((arithmetic, found), ("definition", expected)):
            model = context_model.ContextModel(testing.context_arrays(1, BITS), name)
            model._add_convolution(sums, lambda *part: planes[part], kernel.astype(sums.dtype))
        self.assertBetween(expected.max(), 0.9 * 2**24, 2**24)
        np.testing.assert_array_equal(found, expected)

    def test_many_planes_add_up(self):
        planes = [np.ones((1, 1, 4), np.uint8)] * 200
        context = context_model._context(planes, np.zeros((1, 1, 4), np.int8))
        self.assertEqual(context[0, 0].tolist(), 12 * [1] + 4 * [200])

    @parameterized.parameters(
        {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        {"TF_ENABLE_ONEDNN_OPTS": "0"},
        {"TF_ENABLE_ONEDNN_OPTS": "1", "TF_NUM_INTRAOP_THREADS": "2"},
    )
    @pytest.mark.network
    def test_the_environment_does_not_matter(self, **variables):
        program = (
            "from tests import context_model_test as t; "
            "print(t.digest_of_large_planes('keras'), t.digest_of_large_planes('numpy'))"
        )
        run = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, **variables, "PYTHONPATH": testing.ROOT},
        )
        self.assertEqual(run.stdout.split(), 2 * [digest_of_large_planes("definition")])

    def test_a_backend_that_sums_in_less_is_refused(self):
        def product(self, inputs, weights):
            with np.errstate(over="ignore"):
                return (inputs.astype(np.float16) @ weights.astype(np.float16)).astype(np.float32)

        with mock.patch.object(context_model.Keras, "product", product):
            with self.assertRaisesRegex(CodecError, "^arithmetic 'keras': expected [^\n]*$"):
                context_model.ContextModel(testing.context_arrays(1, BITS), "keras")

    def test_integers_are_frozen(self):
        # Every packed file depends on them.
        model = context_model.ContextModel(testing.context_arrays(ITERATIONS, BITS), "definition")
        self.assertEqual(testing.digest(testing.predict(model, planes_of(9, 5))), FROZEN)


class CausalityTest(parameterized.TestCase):
    def test_a_prediction_depends_on_nothing_that_is_coded_later(self):
        model = context_model.ContextModel(testing.context_arrays(ITERATIONS, BITS))
        planes = planes_of(6, 6)
        before = testing.predict(model, planes)
        # Order of coding: the step of each bit of a plane.
        parity = np.add.outer(np.arange(6), np.arange(6)) % 2
        group = np.arange(BITS) // (BITS // context_model.GROUPS)
        step = 2 * group[None, None, :] + parity[:, :, None]
        for changed in ((0, 2, 3, 0), (1, 3, 3, 7), (3, 0, 5, 15)):
            other = planes.copy()
            other[changed] ^= 1
            differs = testing.predict(model, other) != before
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
            {**arrays, "bias": np.full_like(arrays["bias"], -(2**31))},
            {**arrays, "hidden": arrays["hidden"].astype(np.float32)},
            {**arrays, "hidden": arrays["hidden"].astype(np.int64)},
            {name: array[:0] for name, array in arrays.items()},
            testing.context_arrays(ITERATIONS, bits=6),
        ):
            with self.assertRaisesRegex(ValueError, "^expected"):
                context_model.ContextModel(broken)

    @parameterized.parameters((8, 32, 128), (255, 32, 64), (8, 128, 900))
    def test_takes_models_whose_sums_are_exact(self, iterations, bits, features):
        self.assertLess(context_model.largest_sum(iterations, features, bits), 2**24)

    @parameterized.parameters((255, 64, 64), (2, 8, 1100))
    def test_refuses_models_whose_sums_are_not(self, iterations, bits, features):
        arrays = {
            name: np.zeros(shape, np.int32 if "bias" in name else np.int8)
            for name, shape in context_model.shapes(iterations, features, bits).items()
        }
        with self.assertRaisesRegex(ValueError, "^expected sums below 2\\*\\*24"):
            context_model.check(arrays)


FROZEN = "1532bfb20add8ec0"

if __name__ == "__main__":
    absltest.main()
