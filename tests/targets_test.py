"""Tests for rnn_codec/targets.py; what the encoder makes of a target: tests/codec_test.py."""

import fractions
import math

from absl.testing import absltest, parameterized
import hypothesis
from hypothesis import strategies as st
import numpy as np

from rnn_codec.errors import CodecError
from rnn_codec.targets import Target

SETTINGS = hypothesis.settings(max_examples=200, deadline=None, database=None)


class TargetTest(parameterized.TestCase):
    @parameterized.parameters(
        {},
        {"iterations": 1},
        {"iterations": np.int64(3)},
        {"target_bpp": 0.25},
        {"target_bpp": 1},
        {"target_bpp": np.float32(0.5)},
        {"target_bpp": math.inf},
        {"target_bytes": 1},
        {"target_psnr": 30},
        {"target_msssim": 0.95},
    )
    def test_takes_one_or_none(self, **given):
        target = Target(**given)
        for name, value in vars(target).items():
            self.assertEqual(value, given.get(name))

    @parameterized.parameters(
        ({"iterations": 1, "target_bpp": 1.0}, "expected one of iterations and target_bpp"),
        ({"target_psnr": 30, "target_msssim": 0.9}, "one of target_psnr and target_msssim"),
        (
            {"iterations": 1, "target_bytes": 9, "target_psnr": 9},
            "one of iterations and target_bytes and target_psnr, received 3; keep one",
        ),
    )
    def test_several_are_refused_by_name(self, given, message):
        with self.assertRaisesRegex(CodecError, message):
            Target(**given)

    @parameterized.parameters(
        *({name: 0} for name in vars(Target())),
        *({name: -1} for name in vars(Target())),
        *({name: "1"} for name in vars(Target())),
        {"iterations": 1.0},
        {"target_bytes": 1000.0},
        {"target_bpp": math.nan},
        {"target_psnr": math.nan},
        {"target_bpp": -math.inf},
        {"target_psnr": 1j},
    )
    def test_what_is_no_number_above_zero_is_refused_by_name(self, **given):
        ((name, value),) = given.items()
        kind = "whole number" if name in ("iterations", "target_bytes") else "number"
        with self.assertRaises(CodecError) as caught:
            Target(**given)
        self.assertEqual(
            str(caught.exception), f"expected {name} to be a {kind} above 0, received {value!r}"
        )


class AllowsTest(parameterized.TestCase):
    @parameterized.parameters(
        {}, {"iterations": 1}, {"target_psnr": 30}, {"target_msssim": 0.9}, {"target_bpp": math.inf}
    )
    def test_others_allow_any_size(self, **given):
        self.assertTrue(Target(**given).allows(10**9, 1))

    def test_bytes_are_an_upper_bound(self):
        target = Target(target_bytes=100)
        self.assertEqual([target.allows(size, 1) for size in (99, 100, 101)], [True, True, False])

    def test_bits_per_pixel_are_an_upper_bound(self):
        target = Target(target_bpp=0.5)
        self.assertEqual(
            [target.allows(size, 1600) for size in (99, 100, 101)], [True, True, False]
        )

    @SETTINGS
    @hypothesis.given(size=st.integers(1, 10**9), pixels=st.integers(1, 10**9))
    def test_reported_figure_is_a_target_that_fits(self, size, pixels):
        target = Target(target_bpp=8 * size / pixels)
        self.assertTrue(target.allows(size, pixels))
        self.assertFalse(target.allows(size + 1, pixels))

    @SETTINGS
    @hypothesis.given(
        bpp=st.floats(1e-6, 100), size=st.integers(1, 10**9), pixels=st.integers(1, 10**9)
    )
    def test_never_exceeds_by_more_than_the_rounding_of_a_float(self, bpp, size, pixels):
        if Target(target_bpp=bpp).allows(size, pixels):
            exact = fractions.Fraction(8 * size, pixels)
            self.assertLessEqual(
                exact, fractions.Fraction(bpp) * (1 + fractions.Fraction(1, 2**52))
            )


if __name__ == "__main__":
    absltest.main()
