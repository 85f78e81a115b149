"""Tests for rnn_codec/embedded/lattice.py."""

from absl.testing import absltest, parameterized
import numpy as np

from rnn_codec.embedded.lattice import Lattice

SHAPES = [(1, 1), (1, 2), (2, 1), (1, 7), (6, 1), (5, 6), (6, 5), (4, 4)]


class LatticeTest(parameterized.TestCase):
    @parameterized.parameters(*SHAPES)
    def test_joins_what_it_split(self, rows, columns):
        grid = np.arange(3 * rows * columns).reshape(3, rows, columns)
        lattice = Lattice(rows, columns)
        halves = lattice.split(grid)
        np.testing.assert_array_equal(lattice.join(halves), grid)
        self.assertEqual(lattice.valid.sum(), rows * columns)
        self.assertEqual(halves[:, 0][~lattice.valid].sum(), 0)

    @parameterized.parameters(*SHAPES)
    def test_halves_are_a_checkerboard(self, rows, columns):
        parity = np.add.outer(np.arange(rows), np.arange(columns)) % 2
        halves = Lattice(rows, columns).split(parity[None] + 1)
        self.assertTrue(np.isin(halves[0], (0, 1)).all())
        self.assertTrue(np.isin(halves[1], (0, 2)).all())

    @parameterized.parameters(*SHAPES)
    def test_neighbours_are_those_of_the_grid(self, rows, columns):
        grid = np.random.default_rng(0).integers(0, 13, (3, rows, columns), dtype=np.uint8)
        padded = np.pad(grid, ((0, 0), (1, 1), (1, 1))).astype(int)
        expected = np.zeros(grid.shape, int)
        for y in range(3):
            for x in range(3):
                weight = (0, 2, 1)[(y != 1) + (x != 1)]
                expected += weight * padded[:, y : y + rows, x : x + columns]
        lattice = Lattice(rows, columns)
        halves = lattice.split(grid)
        found = np.stack(
            [lattice.neighbours(halves[1 - half], halves[half], half) for half in range(2)]
        )
        np.testing.assert_array_equal(lattice.join(found), expected)


if __name__ == "__main__":
    absltest.main()
