"""Arithmetic in integers, and the same in float32, which is exact below 2**24 and faster."""

import numpy as np

# Positions whose neighbourhoods are gathered at once; more would take more memory.
_BLOCK = 4096


class Definition:
    """The arithmetic that defines the model: int64."""

    dtype = np.int64

    def rescale(self, sums, shift, low, high):
        """`clip(round(sums / 2**shift), low, high)`, halves up. May compute in place."""
        return np.clip((sums + (1 << shift - 1)) >> shift, low, high)


class Numpy:
    """The same in float32, exact because all numbers are integers below 2**24."""

    dtype = np.float32

    def rescale(self, sums, shift, low, high):
        # A sum plus a half, divided by a power of two, is exact too.
        sums += 2.0 ** (shift - 1)
        sums *= 2.0**-shift
        np.floor(sums, out=sums)
        return np.clip(sums, low, high, out=sums)


ARITHMETICS = {"definition": Definition, "numpy": Numpy}


def convolve(grid, kernel):
    """A 3x3 convolution, zeros around: `[M, h, w]`, `[H, 9 M]` -> `[H, h, w]`."""
    count, rows, columns = grid.shape
    padded = np.zeros((count, rows + 2, columns + 2), grid.dtype)
    padded[:, 1:-1, 1:-1] = grid
    sums = np.empty((len(kernel), rows, columns), grid.dtype)
    step = max(1, _BLOCK // columns)
    for top in range(0, rows, step):
        bottom = min(rows, top + step)
        parts = [
            padded[:, top + y : bottom + y, x : x + columns] for y in range(3) for x in range(3)
        ]
        patches = np.stack(parts).reshape(9 * count, -1)
        sums[:, top:bottom] = (kernel @ patches).reshape(len(kernel), bottom - top, columns)
    return sums


def flat_kernel(kernel):
    """`[3, 3, M, H]` -> `[H, 9 M]`."""
    return np.ascontiguousarray(kernel.reshape(-1, kernel.shape[-1]).T)
