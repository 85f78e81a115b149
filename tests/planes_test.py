"""Tests for rnn_codec/entropy/planes.py."""

from absl.testing import absltest, parameterized
import hypothesis
from hypothesis import strategies as st
import numpy as np

from rnn_codec.container import bitstream
from rnn_codec.entropy import context_model, planes
from rnn_codec.errors import BitstreamError
from tests import testing

SHAPES = st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 33))


def pack(bits, entropy="raw", model=None):
    coder = planes.PlaneCoder(bits[0].shape, model)
    return [coder.pack(plane, entropy) for plane in bits]


def unpack(packed, shape, model=None):
    coder = planes.PlaneCoder(shape, model)
    return [coder.unpack(plane) for plane in packed]


class RoundTripTest(parameterized.TestCase):
    @parameterized.parameters("raw", "adaptive")
    def test_unpacks_what_it_packed(self, entropy):
        @hypothesis.settings(max_examples=60, deadline=None, database=None)
        @hypothesis.given(
            shape=SHAPES,
            count=st.integers(1, 4),
            ones=st.floats(0.0, 1.0),
            seed=st.integers(0, 2**32 - 1),
        )
        def check(shape, count, ones, seed):
            bits = np.random.default_rng(seed).random((count, *shape)) < ones
            unpacked = unpack(pack(bits, entropy), shape)
            self.assertLen(unpacked, count)
            for plane, expected in zip(unpacked, bits):
                self.assertEqual(plane.dtype, np.uint8)
                np.testing.assert_array_equal(plane, expected)

        check()

    @parameterized.parameters((1, 1), (1, 4), (5, 1), (6, 7))
    def test_neural_unpacks_what_it_packed(self, rows, columns):
        model = context_model.ContextModel(testing.context_arrays(iterations=3, bits=8))
        bits = np.random.default_rng(0).integers(0, 2, (3, rows, columns, 8), dtype=np.uint8)
        packed = pack(bits, "neural", model)
        np.testing.assert_array_equal(unpack(packed, bits[0].shape, model), bits)

    @parameterized.parameters("adaptive", "neural")
    def test_predictable_planes_shrink(self, entropy):
        # A bias towards zero, whatever is around.
        arrays = testing.context_arrays(iterations=2, bits=8)
        arrays["output"][:] = 0
        arrays["output_bias"][:] = -(2**14)
        bits = np.zeros((2, 24, 24, 8), np.uint8)
        packed = pack(bits, entropy, context_model.ContextModel(arrays))
        for plane in packed:
            self.assertEqual(plane.coder, planes.ENTROPY_CODERS[entropy])
            self.assertLess(len(plane.payload), 24 * 24 // 10)

    @parameterized.parameters("adaptive", "neural")
    def test_a_plane_that_would_grow_is_stored_raw(self, entropy):
        # And the others need not be.
        model = context_model.ContextModel(testing.context_arrays(iterations=2, bits=8))
        noise = np.random.default_rng(0).integers(0, 2, (1, 9, 9, 8), dtype=np.uint8)
        first, _ = pack(np.concatenate([noise, noise]), entropy, model)
        self.assertEqual(first, bitstream.Plane(bitstream.RAW, np.packbits(noise).tobytes()))

    def test_coders_may_change_within_a_file(self):
        model = context_model.ContextModel(testing.context_arrays(iterations=3, bits=8))
        bits = np.zeros((3, 16, 16, 8), np.uint8)
        bits[2, 3:5] = 1
        coder = planes.PlaneCoder(bits[0].shape, model)
        packed = [coder.pack(*pair) for pair in zip(bits, ("adaptive", "raw", "adaptive"))]
        self.assertEqual([plane.coder for plane in packed], [2, 0, 2])
        np.testing.assert_array_equal(unpack(packed, bits[0].shape, model), bits)

    def test_order_of_bits_is_frozen(self):
        # Every raw file depends on it. One row of two positions with five channels each: the first
        # bit is the highest of the first byte, and the rest of the last byte is zero.
        bits = np.array([[[1, 0, 0, 1, 1], [0, 1, 1, 0, 1]]], np.uint8)
        expected = bitstream.Plane(bitstream.RAW, bytes([0b10011011, 0b01000000]))
        self.assertEqual(pack([bits]), [expected])
        self.assertEqual(pack([bits.astype(bool)]), [expected])

        rows = np.zeros((2, 2, 4), np.uint8)
        rows[1, 0] = 1
        self.assertEqual(pack([rows])[0].payload, b"\x00\xf0")


class DamageTest(parameterized.TestCase):
    @parameterized.parameters(0, 2, 4)
    def test_a_payload_of_another_size_is_an_error(self, size):
        good = pack([np.ones((1, 2, 9), np.uint8)])
        bad = bitstream.Plane(bitstream.RAW, bytes(size))
        message = f"^iteration 2 holds {size} bytes where a picture of this size takes 3; [^\n]*$"
        with self.assertRaisesRegex(BitstreamError, message):
            unpack([*good, bad], (1, 2, 9))

    def test_sizes_are_compared_before_memory_is_taken(self):
        good = pack([np.ones((1, 1, 32), np.uint8)])
        with self.assertRaisesRegex(BitstreamError, "^iteration 1 holds 4 bytes"):
            unpack(good, (2**27, 2**27, 32))

    @parameterized.parameters(bitstream.NEURAL, 200)
    def test_a_coder_that_is_not_there_is_an_error(self, coder):
        plane = bitstream.Plane(coder, b"\0\0\0\0")
        message = f"^iteration 1 was packed by coder {coder}[^\n]*$"
        with self.assertRaisesRegex(BitstreamError, message):
            unpack([plane], (1, 1, 8))

    @hypothesis.settings(max_examples=100, deadline=None, database=None)
    @hypothesis.given(
        payload=st.binary(max_size=60),
        coder=st.sampled_from([bitstream.NEURAL, bitstream.ADAPTIVE]),
    )
    def test_any_payload_gives_bits_or_an_error(self, payload, coder):
        model = context_model.ContextModel(testing.context_arrays(iterations=1, bits=8))
        try:
            (bits,) = unpack([bitstream.Plane(coder, payload)], (4, 5, 8), model)
        except BitstreamError:
            return
        self.assertEqual(bits.shape, (4, 5, 8))
        self.assertLessEqual(bits.max(), 1)


if __name__ == "__main__":
    absltest.main()
