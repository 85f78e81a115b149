"""Tests for rnn_codec/entropy/range_coder.py."""

import math
import pathlib
import re

from absl.testing import absltest, parameterized
import hypothesis
from hypothesis import strategies as st
import numpy as np
import reference_range_coder
import testing

from rnn_codec.entropy import range_coder
from rnn_codec.errors import BitstreamError

SETTINGS = hypothesis.settings(max_examples=150, deadline=None, database=None)


@st.composite
def messages(draw):
    """Bits, probabilities of which some are extreme, and where to cut them in two."""
    count = draw(st.integers(0, 300))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    extreme = rng.choice([1, 2, 65534, 65535], count)
    probabilities = np.where(rng.random(count) < 0.5, extreme, rng.integers(1, 65536, count))
    # From bits as likely as the model says to bits it holds nearly impossible.
    likely = rng.random(count) < probabilities / 65536
    bits = np.where(rng.random(count) < draw(st.floats(0.0, 1.0)), likely, ~likely)
    return bits.astype(np.uint8), probabilities, draw(st.integers(0, count))


def _zero(probability):
    return ((65536 - probability) * (2**24 - 2) >> 16) + 1


def encode(encoder, bits, probabilities, cut):
    encoder.encode(bits[:cut], probabilities[:cut])
    encoder.encode(bits[cut:], probabilities[cut:])
    return encoder.finish()


class RangeCoderTest(parameterized.TestCase):
    @SETTINGS
    @hypothesis.given(message=messages())
    def test_library_and_reference_write_the_same_bytes(self, message):
        data = encode(range_coder.Encoder(), *message)
        self.assertEqual(data, encode(reference_range_coder.Encoder(), *message))

    @parameterized.parameters(range_coder.Decoder, reference_range_coder.Decoder)
    def test_reads_what_was_written(self, decoder_class):
        @SETTINGS
        @hypothesis.given(message=messages(), read_cut=st.floats(0.0, 1.0))
        def check(message, read_cut):
            bits, probabilities, _ = message
            decoder = decoder_class(encode(range_coder.Encoder(), *message))
            cut = round(read_cut * len(bits))
            parts = [decoder.decode(probabilities[:cut]), decoder.decode(probabilities[cut:])]
            np.testing.assert_array_equal(np.concatenate(parts), bits)

        check()

    @SETTINGS
    @hypothesis.given(words=st.binary(max_size=40), seed=st.integers(0, 2**32 - 1))
    def test_both_decoders_make_the_same_of_any_data(self, words, seed):
        data = words[: len(words) // 4 * 4]
        probabilities = np.random.default_rng(seed).integers(1, 65536, 400)
        outcomes = []
        for decoder_class in (range_coder.Decoder, reference_range_coder.Decoder):
            try:
                outcomes.append(decoder_class(data).decode(probabilities).tolist())
            except BitstreamError:
                outcomes.append("refused")
        self.assertEqual(*outcomes)

    def test_bytes_are_frozen(self):
        # Every packed file depends on them.
        probabilities = np.arange(500, 65536, 500)
        bits = np.arange(len(probabilities)) % 3 == 0
        encoder = range_coder.Encoder()
        encoder.encode(bits, probabilities)
        self.assertEqual(encoder.finish().hex(), FROZEN)

    def test_the_documents_example_is_what_is_written(self):
        text = pathlib.Path(testing.ROOT, "docs", "bitstream.md").read_text()
        match = re.search(r"Example: the bits ([^w]*) with P = (.*) are the payload `(.*)`", text)
        bits, probabilities = (
            [int(number) for number in group.split(",")] for group in match.groups()[:2]
        )
        for encoder in (range_coder.Encoder(), reference_range_coder.Encoder()):
            encoder.encode(bits, probabilities)
            self.assertEqual(encoder.finish().hex(), match[3])

    def test_length_is_the_entropy_and_at_most_two_words(self):
        rng = np.random.default_rng(0)
        probabilities = rng.integers(1, 65536, 20_000)
        p = probabilities / 65536
        bits = rng.random(20_000) < p
        encoder = range_coder.Encoder()
        encoder.encode(bits, probabilities)
        entropy = -np.log2(np.where(bits, p, 1 - p)).sum() / 8
        self.assertBetween(len(encoder.finish()), math.floor(entropy), entropy * 1.0001 + 8)

    @parameterized.parameters(range_coder.Decoder, reference_range_coder.Decoder)
    def test_what_no_encoder_writes_is_refused(self, decoder_class):
        with self.assertRaisesRegex(BitstreamError, "^[^\n]*data that no encoder writes"):
            decoder_class(b"\xff" * 8).decode(np.full(100, 30000))

    def test_carries_run_through_words_that_were_held_back(self):
        # The interval is kept around the same point: low stays just below 2^64, or falls below.
        for last in (0, 1):
            reference, library = reference_range_coder.Encoder(), range_coder.Encoder()
            longest = 0
            for _ in range(300):
                middle = 2**64 - reference._low - 1
                scale = reference._range >> 24
                bit = int(_zero(32768) * scale <= middle)
                for encoder in (reference, library):
                    encoder.encode([bit], [32768])
                longest = max(longest, reference._num_held)
            self.assertGreater(longest, 2)
            for encoder in (reference, library):
                encoder.encode([last] * 40, [32768] * 40)
            self.assertEqual(reference.finish(), library.finish())

    @parameterized.parameters(range_coder.Decoder, reference_range_coder.Decoder)
    def test_a_length_that_is_no_multiple_of_four_is_an_error(self, decoder_class):
        with self.assertRaisesRegex(BitstreamError, "^[^\n]*has 5 bytes where a multiple of 4"):
            decoder_class(bytes(5))


FROZEN = "89cbebffe397399c36317970afb3bba6e76ec6a77a07fdc40064216c"

if __name__ == "__main__":
    absltest.main()
