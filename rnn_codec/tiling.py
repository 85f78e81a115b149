"""The loop over pictures too large to compute whole: tile by tile, states on the host.

Within one iteration everything that a step reads is known before: the bits, and the states that the
iteration before left. So a step can be computed tile by tile, each with a margin that its
convolutions reach over, and nothing shows where tiles meet. `TiledSteps` has the interface of
`compilation.CompiledSteps`, whose functions it calls on the tiles.

What stays in memory for the whole picture are 8-bit pixels, bits and states, these in the compute
precision. For each pixel of the default preset: 36 bytes of decoder states in float32, and for
encoding 18 of the encoder's; half of it in bfloat16.
"""

import contextlib
import ctypes

import keras
import numpy as np

from rnn_codec import progressive
from rnn_codec.config import STRIDE

# In blocks of 16x16 pixels. The margin covers what decoder, synthesis, gain estimator and encoder
# of any architecture reach over together; all are even, as gains are of 32x32 pixels.
MARGIN = 6

# Tiles, in blocks too. Wide ones take 1.5 GB of float32 each, but only a fifth is computed for
# margins; above so many blocks, where states take gigabytes, narrow ones leave memory for them. The
# paper's networks take ten times as much.
_WIDE_TILE, _NARROW_TILE, _STACKED_TILE = 128, 40, 64
_FEW_BLOCKS = 2**25 // STRIDE**2


class TiledSteps:
    """Steps for `progressive.iterate` that compute by tiles.

    The states and pictures that the loop hands from step to step are all one `_Canvas`, changed in
    place. Steps are put off until their results are needed, so that a tile goes through decoder,
    synthesis and encoder at one time and no picture or features have to be kept.

    Args:
        network: `progressive.ProgressiveNetwork`.
        steps: `compilation.CompiledSteps` of it.
        tile: int. Side of a tile in blocks, even and at least `MARGIN`. Depends on the picture if
            None.
    """

    def __init__(self, network, steps, tile=None):
        self.accumulates = network.accumulates
        self._network = network
        self._steps = steps
        self._tile = tile

    def initial_states(self, batch, height, width, encoding=True):
        rows, columns = height // STRIDE, width // STRIDE
        tile = self._tile or self._tile_for(rows * columns)
        canvas = _Canvas(self._network, batch, rows, columns, tile, encoding)
        return canvas, canvas, canvas, None

    def _tile_for(self, blocks):
        if self._network.config.architecture == "stacked":
            return _STACKED_TILE
        return _WIDE_TILE if blocks <= _FEW_BLOCKS else _NARROW_TILE

    def analyse(self, image, reconstruction, gain, encoder_states, decoder_states, index):
        """Bits `[B, H/16, W/16, bits]` in int8, of an image in 8 bits `[B, H, W, 3]`."""
        canvas, bits = decoder_states, None
        for window in canvas.sweep():
            states = canvas.read(window)
            if canvas.pending is not None:
                states.update(self._decoded(canvas, window, states, synthesise=True))
            pixels = progressive.normalise(window.cut(image))
            tile_bits, states["encoder"] = self._steps.analyse(
                pixels,
                states["reconstruction"],
                states["gain"],
                states["encoder"],
                states["decoder"],
                index,
            )
            canvas.write(window, states)
            tile_bits = window.inner(_to_numpy(tile_bits))
            if bits is None:
                bits = canvas.empty_bits(tile_bits.shape[-1])
            window.paste(tile_bits, bits)
        canvas.pending = None
        _release_memory()  # the bits are packed next, which takes some
        return bits, canvas

    def decode_bits(self, bits, decoder_states, index):
        canvas = decoder_states
        if canvas.pending is not None:
            for window in canvas.sweep():
                states = canvas.read(window)
                states.update(self._decoded(canvas, window, states, self.accumulates))
                canvas.write(window, states)
        canvas.pending = bits, index
        return canvas, canvas

    def synthesise(self, features, reconstruction, gain):
        return TiledPicture(self, features), gain

    def end_encoding(self, picture):
        """Frees what only a further `analyse` would need, before a `TiledPicture` is read."""
        picture.canvas.drop("encoder")

    def tiles(self, canvas):
        """Pairs of slices of the picture and its pixels there, float32, after the pending bits."""
        for window in canvas.sweep():
            states = self._decoded(canvas, window, canvas.read(window), synthesise=True)
            pixels = window.inner(_to_numpy(states["reconstruction"]))
            yield window.pixels, pixels

    def _decoded(self, canvas, window, states, synthesise):
        """The states of a window after its pending bits."""
        bits, index = canvas.pending
        tile_bits = window.cut(bits).astype(np.float32)
        if bits.dtype == np.uint8:  # a file's plane, not the binarizer's
            tile_bits = 2.0 * tile_bits - 1.0
        features, decoder = self._steps.decode_bits(tile_bits, states["decoder"], index)
        if not synthesise:
            return {"decoder": decoder}
        reconstruction, gain = self._steps.synthesise(
            features, states["reconstruction"], states["gain"]
        )
        return {"decoder": decoder, "reconstruction": reconstruction, "gain": gain}


class TiledPicture:
    """A reconstruction, computed when it is asked for; only until the loop goes on."""

    def __init__(self, steps, canvas):
        self._steps = steps
        self.canvas = canvas
        self._pending = canvas.pending

    def tiles(self):
        """Yields pairs of slices (rows and columns) and float32 `[B, height, width, 3]`.

        Raises:
            RuntimeError: the loop went on, and the states are those of a later iteration.
        """
        if self.canvas.pending is not self._pending:
            raise RuntimeError("this picture was to be read before the loop went on")
        return self._steps.tiles(self.canvas)


class _Window:
    """A tile and its margin, in blocks, cut off at the picture's borders."""

    def __init__(self, rows, columns, top, left, tile):
        self.size = rows, columns
        self.tile = (top, min(top + tile, rows)), (left, min(left + tile, columns))
        self.outer = tuple(
            (max(0, start - MARGIN), min(stop + MARGIN, size))
            for (start, stop), size in zip(self.tile, self.size)
        )

    @property
    def pixels(self):
        """Slices of a picture: the tile's rows and columns."""
        return tuple(slice(STRIDE * start, STRIDE * stop) for start, stop in self.tile)

    def cut(self, array):
        """The part of an array of the whole picture, with margin."""
        return array[self._slices(array, self.outer)]

    def inner(self, array):
        """The tile's part of an array of the window."""
        scale = array.shape[1] // (self.outer[0][1] - self.outer[0][0])
        rows, columns = (
            slice(scale * (start - first), scale * (stop - first))
            for (start, stop), (first, _) in zip(self.tile, self.outer)
        )
        return array[:, rows, columns]

    def paste(self, tile, array):
        """Puts the tile's part where it belongs in an array of the whole picture."""
        array[self._slices(array, self.tile)] = tile

    def _slices(self, array, bounds):
        scale = array.shape[1] // self.size[0]
        rows, columns = (slice(scale * start, scale * stop) for start, stop in bounds)
        return slice(None), rows, columns


class _Canvas:
    """What the loop keeps of a whole picture between iterations.

    A tile is written while its neighbours are still to read, in their margins, what was there
    before. So `sweep` goes in rows of tiles, and what the rest of the sweep may ask for is copied
    before it is overwritten: a strip along the bottom of each tile, kept until the row below has
    passed it, and one along the right side of the tile before.
    """

    def __init__(self, network, batch, rows, columns, tile, encoding):
        self.size = rows, columns
        self.tile = tile
        self.batch = batch
        self.pending = None  # bits that are to be decoded, and their iteration
        encoder, decoder, reconstruction, gain = network.initial_states(
            batch, STRIDE, STRIDE, encoding
        )
        states = {"decoder": decoder}
        if encoding:
            states["encoder"] = encoder
        # P[i] is kept where P[i+1] needs it; elsewhere P[0] stands in, which is zero.
        if network.accumulates:
            states["reconstruction"] = reconstruction
        if network.gain is not None:
            states["gain"] = gain
        self._others = {"encoder": None, "gain": _to_numpy(gain)}
        self._arrays = keras.tree.map_structure(self._enlarged, states)
        self._flat = keras.tree.flatten(self._arrays)
        # What was there before it was overwritten: strips of tiles by their left side, and one.
        self._above, self._below, self._before = {}, {}, None

    def _enlarged(self, block):
        """An array for the whole picture, from the one of a single block."""
        block = np.asarray(keras.ops.convert_to_numpy(block))
        batch, height, width, channels = block.shape
        rows, columns = self.size
        if not block.any():  # memory that is not touched yet is not there yet
            return np.zeros((batch, height * rows, width * columns, channels), block.dtype)
        return np.tile(block, (1, rows, columns, 1))

    def drop(self, name):
        """Lets go of one of the states; a window then has None instead."""
        del self._arrays[name]
        self._flat = keras.tree.flatten(self._arrays)

    def empty_bits(self, channels):
        """For -1 and 1 of the whole picture."""
        return np.empty((self.batch, *self.size, channels), np.int8)

    def sweep(self):
        """Yields the windows in order, each to be read at once and, if at all, written."""
        rows, columns = self.size
        self._below = {}
        for top in range(0, rows, self.tile):
            self._above, self._below, self._before = self._below, {}, None
            for left in range(0, columns, self.tile):
                yield _Window(rows, columns, top, left, self.tile)
        self._above, self._below, self._before = {}, {}, None

    def read(self, window):
        """The states of a window as they were before the sweep."""
        (top, _), (left, _) = window.tile
        (first_row, _), (first_column, last_column) = window.outer
        parts = []
        for i, array in enumerate(self._flat):
            scale = array.shape[1] // self.size[0]
            part = window.cut(array).copy()
            above, before = scale * (top - first_row), scale * (left - first_column)
            if above and self._above:
                part[:, :above] = self._strip_above(i, first_column, last_column)[:, -above:]
            if before and self._before:
                strip = self._before[i]
                part[:, above : above + strip.shape[1], :before] = strip
            parts.append(part)
        # The windows to come begin in this tile at most.
        self._above = {start: strips for start, strips in self._above.items() if start >= left}
        states = keras.tree.pack_sequence_as(self._arrays, parts)
        height, width = (STRIDE * (stop - start) for start, stop in window.outer)
        zeros = np.zeros((self.batch, height, width, 3), np.float32)
        return {"reconstruction": zeros, **self._others, **states}

    def write(self, window, states):
        """Puts the tile's part of new states into the picture's."""
        (top, bottom), (left, right) = window.tile
        self._before = [self._part(a, top, bottom, right - MARGIN, right) for a in self._flat]
        self._below[left] = [
            self._part(a, bottom - MARGIN, bottom, left, right) for a in self._flat
        ]
        states = {name: states[name] for name in self._arrays}
        for array, part in zip(self._flat, keras.tree.flatten(states), strict=True):
            window.paste(window.inner(np.asarray(keras.ops.convert_to_numpy(part))), array)

    def _strip_above(self, number, first, last):
        """What was above a window in one of the arrays, between two columns."""
        starts = [start for start in self._above if start < last]
        strip = np.concatenate([self._above[start][number] for start in starts], axis=2)
        scale = self._flat[number].shape[1] // self.size[0]
        return strip[:, :, scale * (first - starts[0]) : scale * (last - starts[0])]

    def _part(self, array, top, bottom, left, right):
        """A copy of blocks of an array; it starts at the border where there are fewer."""
        scale = array.shape[1] // self.size[0]
        rows = slice(scale * max(0, top), scale * bottom)
        return array[:, rows, scale * max(0, left) : scale * right].copy()


def _release_memory():
    """Hands what the C library holds of freed memory back to the system, where that is glibc."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def _to_numpy(tensor):
    return keras.ops.convert_to_numpy(keras.ops.cast(tensor, "float32"))
