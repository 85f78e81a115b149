"""How the entropy model lays out the positions of a picture: two halves of a checkerboard, padded.

Half 0 holds the positions whose row and column add up to an even number, half 1 the others. Cell
`(half, row, j)` is the position in column `2 j + (row + half) % 2`. Rows of cells are padded by one
cell on each side, and a half by one row of them, all zero, and laid out flat, so that a neighbour
of every cell of every channel is one shifted view of one flat array.

Shapes: `h, w` positions, `D = ceil(w / 2)`, `C = (h + 2) (D + 2)` cells of a half.
"""

import numpy as np


class Lattice:
    """The layout for one size of picture.

    Args:
        rows, columns: int. Positions, h and w, at least 1.
    """

    def __init__(self, rows, columns):
        self.rows, self.columns = rows, columns
        self.pairs = -(-columns // 2)
        self.stride = self.pairs + 2
        self.cells = (rows + 2) * self.stride
        # Whether a cell is a position, by half.
        self.valid = self.split(np.ones((1, rows, columns), bool))[:, 0]
        # All ones where the cells at j - 1 are the nearer ones, by half.
        row = np.arange(-1, rows + 1)[None, :, None]
        left = (row + np.arange(2)[:, None, None]) % 2 == 0
        left = np.broadcast_to(left, (2, rows + 2, self.stride)).reshape(2, -1)
        self._left = np.where(left, 255, 0).astype(np.uint8)
        self._tiles = [np.zeros(0, np.uint8)] * 2

    def split(self, grid):
        """`[K, h, w]` -> `[2, K, C]`."""
        count = len(grid)
        halves = np.zeros((2, count, self.rows + 2, self.stride), grid.dtype)
        for half, first, column in self._parts():
            part = grid[:, first::2, column::2]
            halves[half, :, 1 + first : 1 + self.rows : 2, 1 : 1 + part.shape[2]] = part
        return halves.reshape(2, count, self.cells)

    def join(self, halves):
        """`[2, K, C]` -> `[K, h, w]`."""
        count = halves.shape[1]
        grid = np.empty((count, self.rows, self.columns), halves.dtype)
        halves = halves.reshape(2, count, self.rows + 2, self.stride)
        for half, first, column in self._parts():
            part = grid[:, first::2, column::2]
            part[...] = halves[half, :, 1 + first : 1 + self.rows : 2, 1 : 1 + part.shape[2]]
        return grid

    def _parts(self):
        """Half, first row and first column of four parts that have regular positions."""
        return [(half, first, (first + half) % 2) for half in range(2) for first in range(2)]

    def neighbours(self, others, same, half):
        """Twice the sum of the four at the sides plus that of the four diagonal: uint8 `[L, C]`.

        Args:
            others, same: uint8 `[L, C]`. Values of the other half, and of `half` itself; zero at
                cells that are no positions. The sum must stay below 256.
            half: int, 0 or 1. Whose cells are asked for. Other cells than positions get any value.
        """
        others, same = others.reshape(-1), same.reshape(-1)
        size, row = len(others), self.stride
        edge = row + 1
        left = self._tile(half, size)[edge : size - edge]

        def at(values, offset):
            return values[edge + offset : size - edge + offset]

        total = at(others, -row) + at(others, row)
        total += at(others, 0)
        total += _choose(left, at(others, -1), at(others, 1))
        total += total
        vertical = same[: size - 2 * row] + same[2 * row :]  # from cell `row` on
        total += vertical[1:-1]
        total += _choose(left, vertical[:-2], vertical[2:])
        out = np.zeros(size, np.uint8)
        out[edge : size - edge] = total
        return out.reshape(-1, self.cells)

    def _tile(self, half, size):
        if len(self._tiles[half]) < size:
            self._tiles[half] = np.tile(self._left[half], size // self.cells)
        return self._tiles[half][:size]


def _choose(mask, yes, no):
    """`yes` where the mask has all bits, `no` where it has none."""
    chosen = yes ^ no
    chosen &= mask
    chosen ^= no
    return chosen
