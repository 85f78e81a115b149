"""Hostile files, a bounded number of them; `make fuzz` tries millions (fuzz/README.md)."""

import dataclasses
import tracemalloc

from absl.testing import absltest, parameterized
import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from rnn_codec.container import bitstream
from rnn_codec.container.bitstream import Limits, Plane
from rnn_codec.entropy import planes
from rnn_codec.pictures import reading, writing
from tests import hostile, testing

pytestmark = pytest.mark.network

# Random numbers that hypothesis chooses, so that it can make a failing example simpler.
FILES = st.builds(hostile.mutate, st.sampled_from(hostile.SEEDS), st.randoms())

PARSER = hypothesis.settings(max_examples=400, deadline=None, database=None)
DECODER = hypothesis.settings(max_examples=40, deadline=None, database=None)


class MutationTest(absltest.TestCase):
    def test_parts_make_the_file(self):
        for seed in hostile.SEEDS:
            self.assertEqual(hostile.join(hostile.split(seed)), seed)

    def test_checksums_fit_again(self):
        parts = hostile.split(min(hostile.SEEDS, key=len))
        parts.size = [1, 300]
        parts.chunks = [(kind, body + b"more") for kind, body in parts.chunks]
        contents = bitstream.read(hostile.join(parts))
        self.assertEqual((contents.header.width, contents.header.height), (1, 300))
        self.assertEqual(contents.planes[0].payload, parts.chunks[0][1][2:])


class ParserTest(absltest.TestCase):
    @PARSER
    @hypothesis.given(FILES)
    def test_changed_files(self, data):
        hostile.check_parser(data)

    @PARSER
    @hypothesis.given(st.binary(max_size=300))
    def test_any_bytes(self, data):
        hostile.check_parser(data)
        hostile.check_parser(bitstream.SIGNATURE + data)

    @PARSER
    @hypothesis.given(
        size=st.lists(st.integers(0, 2**35), min_size=2, max_size=2),
        fields=st.binary(min_size=3, max_size=3),
        seed=st.sampled_from(hostile.SEEDS),
    )
    def test_extreme_headers(self, size, fields, seed):
        parts = dataclasses.replace(hostile.split(seed), size=size)
        hostile.check_parser(hostile.join(parts))
        parts.fields[-3:] = fields
        hostile.check_parser(hostile.join(parts))

    @PARSER
    @hypothesis.given(FILES)
    def test_memory_follows_the_file_whatever_it_declares(self, data):
        for read in (bitstream.read, bitstream.read_info):
            # A few kilobytes for the code that runs for the first time.
            self.assertLess(peak(hostile.attempt, read, data), 20 * len(data) + 2**16)


class DecoderTest(parameterized.TestCase):
    @DECODER
    @hypothesis.given(FILES)
    def test_changed_files(self, data):
        hostile.check_decoder(data)

    @DECODER
    @hypothesis.given(st.binary(max_size=300))
    def test_any_bytes(self, data):
        hostile.check_decoder(data)

    @DECODER
    @hypothesis.given(
        bodies=st.lists(
            st.tuples(st.sampled_from((b"\0", b"\1", b"\2")), st.binary(max_size=40)),
            min_size=3,
            max_size=3,
        )
    )
    def test_any_payload_for_any_coder(self, bodies):
        parts = hostile.split(file_of(testing.BLOCKS))
        parts.size = [20, 20]
        parts.chunks = [
            (ord("P"), bytes([index]) + coder + payload)
            for index, (coder, payload) in enumerate(bodies)
        ]
        hostile.check_decoder(hostile.join(parts))

    @DECODER
    @hypothesis.given(st.binary(max_size=100), st.randoms())
    def test_any_metadata(self, exif, rng):
        # A directory, most often, with entries that point anywhere.
        entries = b"Exif\0\0II*\0\x08\0\0\0" + bytes([rng.randrange(4)]) + b"\0"
        parts = hostile.split(file_of(testing.BLOCKS))
        parts.size = [1, 1]
        parts.chunks[:0] = [(kind, rng.choice((exif, entries + exif))) for kind in b"iex"]
        hostile.check_decoder(hostile.join(parts))

    @parameterized.parameters("read_planes", "decode")
    def test_a_size_beyond_the_limits_costs_nothing(self, function):
        codec = testing.make_codec(testing.BLOCKS)
        parts = hostile.split(file_of(testing.BLOCKS))
        for size in ([2**31 - 1, 2**31 - 1], [1, 89_478_485], [89_478_486, 1]):
            parts.size = size
            used = peak(hostile.attempt, getattr(codec, function), hostile.join(parts))
            self.assertLess(used, 2**16)


class CostTest(parameterized.TestCase):
    """What a file may cost grows at most as fast as what it declares."""

    @parameterized.product(
        coder=(bitstream.NEURAL, bitstream.ADAPTIVE), shape=((48, 48), (400, 1), (1, 400))
    )
    def test_memory_of_planes_follows_the_picture(self, coder, shape):
        model = testing.make_codec(testing.BLOCKS).context_model

        def unpack(rows, columns):
            # Of no bytes: the smallest file for its picture.
            planes.PlaneCoder((rows, columns, 8), model).unpack(Plane(coder, b""))

        unpack(*shape)  # what is held once, whatever the size
        large = peak(unpack, 2 * shape[0], 2 * shape[1])
        self.assertLess(large, 4.4 * peak(unpack, *shape))

    def test_alpha_that_expands_is_refused_before_it_does(self):
        bomb = writing.encode_alpha(np.zeros((8000, 8000), np.uint8))
        self.assertLess(len(bomb), 100_000)
        self.assertLess(peak(hostile.attempt, reading.decode_alpha, bomb, 16, 16), 2**20)

    def test_repeated_metadata_are_held_once(self):
        parts = hostile.split(min(hostile.SEEDS, key=len))
        parts.chunks[:0] = [(ord("e"), bytes(2**20))] * 8
        data = hostile.join(parts)
        held = bitstream.read(data, limits=Limits()).metadata.exif
        self.assertLen(held, 2**20)
        self.assertLess(peak(bitstream.read, data), 4 * 2**20)


def file_of(preset):
    """The smallest golden file of a tiny preset."""
    identity = testing.make_codec(preset).identity
    return min((seed for seed in hostile.SEEDS if identity in seed), key=len)


def peak(function, *args):
    """The most bytes that Python and NumPy hold at once during a call."""
    tracemalloc.start()
    try:
        function(*args)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


if __name__ == "__main__":
    absltest.main()
