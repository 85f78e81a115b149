"""Tests for rnn_codec/entropy/adaptive_model.py."""

from absl.testing import absltest
import numpy as np

from rnn_codec.entropy import adaptive_model
from tests import testing


def code(planes):
    return testing.predict(adaptive_model.AdaptiveModel(), planes)


def cost(planes):
    """Mean bits per bit."""
    p = code(planes) / 65536
    return -np.log2(np.where(planes, p, 1.0 - p)).mean()


class AdaptiveModelTest(absltest.TestCase):
    def test_learns_a_constant(self):
        self.assertLess(cost(np.ones((1, 20, 20, 4), np.uint8)), 0.2)

    def test_learns_what_neighbours_tell(self):
        # Long runs along rows: what is left of an odd column tells it.
        rng = np.random.default_rng(0)
        runs = np.repeat(rng.integers(0, 2, (1, 40, 10, 4), dtype=np.uint8), 4, axis=2)
        noise = rng.integers(0, 2, (1, 40, 40, 4), dtype=np.uint8)
        self.assertLess(cost(runs), 0.7)
        self.assertGreater(cost(noise), 1.0)

    def test_learns_what_the_plane_before_tells(self):
        noise = np.random.default_rng(0).integers(0, 2, (1, 30, 30, 4), dtype=np.uint8)
        both = np.concatenate([noise, 1 - noise])
        p = code(both)[1] / 65536
        self.assertLess(-np.log2(np.where(both[1], p, 1.0 - p)).mean(), 0.4)

    def test_integers_are_frozen(self):
        # Every packed file depends on them: `(ones + 1/2) / (all + 1)`, in 65536ths.
        planes = np.ones((1, 1, 6, 1), np.uint8)
        # Even columns of a row come first, all with one context, then odd ones: the first two have
        # neighbours on both sides, the last has none on its right.
        self.assertEqual(code(planes)[0, 0, :, 0].tolist(), [32768] * 6)
        column = np.ones((1, 4, 1, 1), np.uint8)
        # Nothing is above the first row. The others have a one above them.
        self.assertEqual(code(column)[0, :, 0, 0].tolist(), [32768, 32768, 49152, 54613])

    def test_integers_of_random_planes_are_frozen(self):
        planes = np.random.default_rng(0).random((3, 7, 6, 5)) < [0.1, 0.3, 0.5, 0.7, 0.9]
        self.assertEqual(testing.digest(code(planes.astype(np.uint8))), "981f8b390642509b")

    def test_probabilities_stay_in_range(self):
        p = code(np.zeros((2, 300, 3, 2), np.uint8))
        self.assertGreaterEqual(p.min(), 1)
        self.assertLessEqual(p.max(), 65535)


if __name__ == "__main__":
    absltest.main()
