"""Tests for rnn_codec/entropy/grouped_coder.py."""

from absl.testing import absltest, parameterized
import numpy as np
import reference_range_coder

from rnn_codec.entropy import grouped_coder
from rnn_codec.errors import BitstreamError

PROBABILITIES = np.array([1, 700, 32768, 60000, 65535])
MODELS = grouped_coder.Models(PROBABILITIES)


def events(count, seed=0):
    rng = np.random.default_rng(seed)
    classes = np.sort(rng.integers(0, len(PROBABILITIES), count))
    bits = (rng.integers(0, 65536, count) < PROBABILITIES[classes]).astype(np.uint8)
    return bits, np.bincount(classes, minlength=len(PROBABILITIES))


class GroupedCoderTest(parameterized.TestCase):
    @parameterized.parameters(0, 1, 15, 16, 17, 3000)
    def test_decodes_what_it_encoded(self, count):
        bits, counts = events(count)
        raw = np.random.default_rng(1).integers(0, 2, count).astype(np.uint8)
        encoder = grouped_coder.Encoder(MODELS)
        encoder.grouped(bits, counts)
        encoder.raw(raw)
        encoder.grouped(bits, counts)
        decoder = grouped_coder.Decoder(MODELS, encoder.finish())
        np.testing.assert_array_equal(decoder.grouped(counts), bits)
        np.testing.assert_array_equal(decoder.raw(count), raw)
        np.testing.assert_array_equal(decoder.grouped(counts), bits)
        decoder.finish()

    def test_is_the_coder_that_the_reference_defines(self):
        bits, counts = events(500)
        encoder, reference = grouped_coder.Encoder(MODELS), reference_range_coder.Encoder()
        encoder.grouped(bits, counts)
        encoder.raw(bits[:5])
        reference.encode(bits, np.repeat(PROBABILITIES, counts))
        reference.encode(bits[:5], np.full(5, 32768))
        self.assertEqual(encoder.finish(), reference.finish())

    def test_raw_bits_take_their_number(self):
        encoder = grouped_coder.Encoder(MODELS)
        encoder.raw(np.random.default_rng(0).integers(0, 2, 16000))
        self.assertBetween(len(encoder.finish()), 2000, 2008)

    def test_refuses_what_no_encoder_writes(self):
        with self.assertRaisesRegex(BitstreamError, "multiple of 4"):
            grouped_coder.Decoder(MODELS, b"abc")
        _, counts = events(500)
        with self.assertRaisesRegex(BitstreamError, "no encoder writes"):
            grouped_coder.Decoder(MODELS, b"\xff" * 400).grouped(counts)

    def test_refuses_what_is_left_over(self):
        bits, counts = events(50)
        encoder = grouped_coder.Encoder(MODELS)
        encoder.grouped(bits, counts)
        decoder = grouped_coder.Decoder(MODELS, encoder.finish() + bytes(16))
        decoder.grouped(counts)
        with self.assertRaisesRegex(BitstreamError, "longer than"):
            decoder.finish()


if __name__ == "__main__":
    absltest.main()
