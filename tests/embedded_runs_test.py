"""Tests for rnn_codec/embedded/runs.py."""

from absl.testing import absltest, parameterized
import entropy_models
import numpy as np

from rnn_codec.embedded import entropy_model, runs
from rnn_codec.errors import BitstreamError

PLANES, LATENTS = entropy_models.PLANES, entropy_models.LATENTS
MODEL = entropy_model.EntropyModel(entropy_models.arrays())
# One that codes everything.
ALL = entropy_models.arrays(threshold=-63)
ALL["live"][:] = 1
COMPLETE = entropy_model.EntropyModel(ALL)
CUTS = {
    "one": (0, LATENTS),
    "each": tuple(range(LATENTS + 1)),
    "uneven": (0, 1, 7, LATENTS),
}


def plane_of(index, plane, planes=PLANES):
    return np.sign(index) * (np.abs(index) >> planes - 1 - plane)


def transmit(model, index, cuts, check):
    """Sends all runs; calls `check(encoder, decoder, plane, last)` after each."""
    encoder = runs.RunEncoder(model, index)
    decoder = runs.RunDecoder(model, index.shape[:2])
    for plane in range(model.planes):
        for first, last in zip(cuts, cuts[1:]):
            payload = encoder.encode(plane, first, last)
            decoder.decode(plane, first, last, payload)
            check(encoder, decoder, plane, last)
    return decoder


class RoundTripTest(parameterized.TestCase):
    @parameterized.product(
        shape=[(1, 1), (1, 6), (7, 1), (5, 7), (6, 8)], cuts=list(CUTS), spread=(0.3, 3.0, 60.0)
    )
    def test_decoder_has_what_the_encoder_says(self, shape, cuts, spread):
        index = entropy_models.index(*shape, spread=spread)

        def check(encoder, decoder, plane, last):
            np.testing.assert_array_equal(decoder.index(), encoder.index())
            known = np.where(np.arange(LATENTS) < last, plane, plane - 1)
            np.testing.assert_array_equal(decoder.planes_known()[MODEL.order], known)

        transmit(MODEL, index, CUTS[cuts], check)

    @parameterized.parameters(0.3, 3.0, 60.0)
    def test_nothing_is_lost_where_all_is_coded(self, spread):
        index = entropy_models.index(5, 7, spread=spread)

        def check(encoder, decoder, plane, last):
            sent = np.isin(np.arange(LATENTS), COMPLETE.order[:last])
            earlier = plane_of(index, plane - 1) if plane else np.zeros_like(index)
            expected = np.where(sent, plane_of(index, plane), earlier)
            np.testing.assert_array_equal(decoder.index(), expected)

        transmit(COMPLETE, index, CUTS["uneven"], check)

    def test_largest_magnitudes(self):
        index = entropy_models.index(3, 3)
        limit = entropy_model.index_limit(PLANES)
        index[0, 0], index[1, 1], index[2, 0] = limit, -limit, 15 << PLANES - 1
        decoder = transmit(COMPLETE, index, CUTS["one"], lambda *_: None)
        np.testing.assert_array_equal(decoder.index(), index)
        self.assertEqual(entropy_model.index_limit(8), 2**15 - 1)

    def test_what_is_found_late_is_found_whole(self):
        # Nothing is coded at plane 0, everything later.
        arrays = {**ALL, "threshold": np.array([64, -63, -63, -63], np.int8)}
        model = entropy_model.EntropyModel(arrays)
        index = np.full((2, 2, LATENTS), 8 * 3 + 5)  # 3 at plane 0, 29 in all
        found = []
        transmit(model, index, CUTS["one"], lambda _, d, *__: found.append(d.index().max()))
        self.assertEqual(found, [0, 7, 14, 29])

    def test_largest_magnitudes_found_late(self):
        for plane in range(1, PLANES):
            arrays = {**ALL, "threshold": np.full(PLANES, -63, np.int8)}
            arrays["threshold"][:plane] = 64
            limit = entropy_model.index_limit(PLANES)
            index = np.resize([limit, -limit, 0, 2, 17, limit // 2], (3, 4, LATENTS))
            model = entropy_model.EntropyModel(arrays)
            decoder = transmit(model, index, CUTS["uneven"], lambda *_: None)
            np.testing.assert_array_equal(decoder.index(), index)

    def test_counts_what_is_found_late(self):
        arrays = {**ALL, "threshold": np.array([-63, 64, -63, -63], np.int8)}
        encoder = runs.RunEncoder(entropy_model.EntropyModel(arrays), np.full((1, 1, LATENTS), 5))
        for plane in range(PLANES):  # 0, 1, 2, 5
            encoder.encode(plane, 0, LATENTS)
        found = encoder.late_counts.sum(axis=1)
        np.testing.assert_array_equal(found, [(0, 0), (0, 0), (0, LATENTS), (0, 0)])

    def test_more_than_eight_planes(self):
        arrays = entropy_models.arrays(planes=10, threshold=-63)
        arrays["live"][:] = 1
        model = entropy_model.EntropyModel(arrays)
        index = np.full((2, 3, LATENTS), entropy_model.index_limit(10))
        decoder = transmit(model, index, CUTS["one"], lambda *_: None)
        np.testing.assert_array_equal(decoder.index(), index)


class OrderTest(parameterized.TestCase):
    @parameterized.parameters((1, 0, 3), (0, 1, 3))
    def test_refuses_a_run_that_does_not_follow(self, plane, first, last):
        decoder = runs.RunDecoder(MODEL, (2, 2))
        with self.assertRaisesRegex(ValueError, "begins at channel 0 of plane 0"):
            decoder.decode(plane, first, last, b"")

    @parameterized.parameters((0, 0, 0), (0, 0, LATENTS + 1), (PLANES, 0, 1), (-1, 0, 1))
    def test_refuses_a_run_that_is_none(self, plane, first, last):
        with self.assertRaisesRegex(ValueError, "expected a run of"):
            runs.RunEncoder(MODEL, entropy_models.index(1, 1)).encode(plane, first, last)


class ChannelBitsTest(parameterized.TestCase):
    def test_sum_to_what_one_run_takes(self):
        index = entropy_models.index(24, 20)
        encoder, again = (runs.RunEncoder(MODEL, index) for _ in range(2))
        for plane in range(PLANES):
            for first, last in ((0, 3), (3, LATENTS)):
                bits = encoder.channel_bits()
                self.assertEqual(bits[:first].sum(), 0)
                payload = encoder.encode(plane, first, last)
                # Asking changes nothing.
                self.assertEqual(again.encode(plane, first, last), payload)
            self.assertBetween(8 * len(payload), bits.sum() - 1, bits.sum() + 65)

    def test_dead_channels_take_none(self):
        encoder = runs.RunEncoder(MODEL, entropy_models.index(4, 4))
        dead = ~MODEL.plane_models[0].live
        self.assertTrue(dead.any())
        self.assertEqual(encoder.channel_bits()[dead].sum(), 0)
        self.assertGreater(encoder.channel_bits().sum(), 0)


class DamageTest(parameterized.TestCase):
    def test_every_damage_is_an_error_or_another_picture(self):
        index = entropy_models.index(6, 5)
        payloads = []
        encoder = runs.RunEncoder(MODEL, index)
        for plane in range(2):
            payloads.append(encoder.encode(plane, 0, LATENTS))
        rng = np.random.default_rng(0)
        failures = 0
        for _ in range(200):
            damaged = [bytearray(p) for p in payloads]
            which = damaged[rng.integers(2)]
            kind = rng.integers(3)
            if kind == 0:
                which[rng.integers(len(which))] ^= 1 << int(rng.integers(8))
            elif kind == 1:
                del which[rng.integers(len(which)) :]
            else:
                which[rng.integers(len(which)) :] = rng.bytes(int(rng.integers(40)))
            decoder = runs.RunDecoder(MODEL, index.shape[:2])
            try:
                for plane in range(2):
                    decoder.decode(plane, 0, LATENTS, bytes(damaged[plane]))
            except BitstreamError:
                failures += 1
                self.assertLen(np.unique(decoder.planes_known()), 1)
        self.assertGreater(failures, 20)

    def test_nothing_of_a_damaged_run_is_kept(self):
        index = entropy_models.index(6, 5, spread=3.0)
        encoder = runs.RunEncoder(MODEL, index)
        decoder = runs.RunDecoder(MODEL, index.shape[:2])
        first, second = encoder.encode(0, 0, 4), encoder.encode(0, 4, LATENTS)
        decoder.decode(0, 0, 4, first)
        before = decoder.index()
        for bad in (second[:-1], second + bytes(64)):
            with self.assertRaises(BitstreamError):
                decoder.decode(0, 4, LATENTS, bad)
            np.testing.assert_array_equal(decoder.index(), before)
        # And the right bytes are still taken.
        decoder.decode(0, 4, LATENTS, second)
        np.testing.assert_array_equal(decoder.index(), encoder.index())


if __name__ == "__main__":
    absltest.main()
