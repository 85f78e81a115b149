"""Tests for rnn_codec/planes.py."""

from absl.testing import absltest, parameterized
import hypothesis
from hypothesis import strategies as st
import numpy as np

from rnn_codec import bitstream, planes
from rnn_codec.errors import BitstreamError

SHAPES = st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 33))


class RoundTripTest(parameterized.TestCase):
    @hypothesis.settings(max_examples=60, deadline=None, database=None)
    @hypothesis.given(shape=SHAPES, count=st.integers(0, 4), seed=st.integers(0, 2**32 - 1))
    def test_unpacks_what_it_packed(self, shape, count, seed):
        bits = np.random.default_rng(seed).integers(0, 2, (count, *shape), dtype=np.uint8)
        unpacked = planes.unpack([planes.pack(plane) for plane in bits], shape)
        self.assertLen(unpacked, count)
        for plane, expected in zip(unpacked, bits):
            self.assertEqual(plane.dtype, np.uint8)
            np.testing.assert_array_equal(plane, expected)

    def test_order_of_bits_is_frozen(self):
        # Every raw file depends on it. One row of two positions with five channels each: the first
        # bit is the highest of the first byte, and the rest of the last byte is zero.
        bits = np.array([[[1, 0, 0, 1, 1], [0, 1, 1, 0, 1]]], np.uint8)
        expected = bitstream.Plane(bitstream.RAW, bytes([0b10011011, 0b01000000]))
        self.assertEqual(planes.pack(bits), expected)
        self.assertEqual(planes.pack(bits.astype(bool)), expected)

        rows = np.zeros((2, 2, 4), np.uint8)
        rows[1, 0] = 1
        self.assertEqual(planes.pack(rows).payload, b"\x00\xf0")


class DamageTest(parameterized.TestCase):
    @parameterized.parameters(0, 2, 4)
    def test_a_payload_of_another_size_is_an_error(self, size):
        good = planes.pack(np.ones((1, 2, 9), np.uint8))
        bad = bitstream.Plane(bitstream.RAW, bytes(size))
        message = f"^iteration 2 holds {size} bytes where a picture of this size takes 3; [^\n]*$"
        with self.assertRaisesRegex(BitstreamError, message):
            planes.unpack([good, bad], (1, 2, 9))

    def test_sizes_are_compared_before_memory_is_taken(self):
        good = planes.pack(np.ones((1, 1, 32), np.uint8))
        with self.assertRaisesRegex(BitstreamError, "^iteration 1 holds 4 bytes"):
            planes.unpack([good], (2**27, 2**27, 32))

    def test_an_unknown_coder_is_an_error(self):
        unknown = bitstream.Plane(200, b"\0")
        with self.assertRaisesRegex(BitstreamError, "^iteration 1 was packed by coder 200[^\n]*$"):
            planes.unpack([unknown], (1, 1, 8))


if __name__ == "__main__":
    absltest.main()
