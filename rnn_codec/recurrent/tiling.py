"""The loop over pictures too large to compute whole: tile by tile, states on the host.

Within one iteration everything that a step reads is known before: the bits, and the states that the
iteration before left. So a step can be computed tile by tile, each with a margin that its
convolutions reach over, and nothing shows where tiles meet. The margin shrinks on the way: decoder,
synthesis and encoder each get only what those after them reach. `TiledSteps` has the interface of
`progressive.CompiledSteps`, whose functions it calls on the tiles: only here is an image in 8 bits,
and a reconstruction the promise to compute it.

What stays in memory for the whole picture are 8-bit pixels, bits and states, these in the compute
precision. For each pixel of the default preset: 36 bytes of decoder states in float32, and for
encoding 18 of the encoder's; half of it in bfloat16.
"""

import contextlib
import ctypes
import typing

import keras
import numpy as np

from rnn_codec.backend import compilation
from rnn_codec.recurrent import complexity, progressive
from rnn_codec.recurrent.config import STRIDE

# Side of a tile in blocks of 16x16 pixels; even, as gains are of 32x32. Wider ones are no faster.
_TILE = 64


class TiledSteps:
    """Steps for `progressive.iterate` that compute by tiles.

    The states and pictures that the loop hands from step to step are all one `_Canvas`, changed in
    place. Steps are put off until their results are needed, so that a tile goes through decoder,
    synthesis and encoder at one time and no picture or features have to be kept.

    Args:
        network: `progressive.ProgressiveNetwork`.
        steps: `progressive.CompiledSteps` of it.
        tile: int. Side of a tile in blocks, even and at least `margin`.

    Attributes:
        margin: int. The most blocks around a tile that are computed with it.
    """

    def __init__(self, network, steps, tile=_TILE):
        self.accumulates = network.accumulates
        self._network = network
        self._steps = steps
        self._tile = tile
        self._analysing = _margins(network, encoding=True)
        self._showing = _margins(network, encoding=False)
        self._advancing = self._showing
        if not network.accumulates:
            self._advancing = _margins(network, encoding=False, synthesise=False)
        if compilation.compiles_each_size():
            # The encoder's own graphs: fewer to compile, and what it saw to the last bit.
            self._showing = self._analysing._replace(picture=0)
            self._advancing = self._showing
            if not network.accumulates:
                self._advancing = self._showing._replace(features=None)
        self.margin = self._analysing.bits
        if tile < self.margin or tile % 2:
            raise ValueError(
                f"tile must be even and at least {self.margin} blocks. Received: tile={tile}"
            )

    def initial_states(self, batch, height, width, encoding=True):
        rows, columns = height // STRIDE, width // STRIDE
        canvas = _Canvas(self._network, batch, (rows, columns), self._tile, self.margin, encoding)
        return canvas, canvas, canvas, None

    def analyse(self, image, reconstruction, gain, encoder_states, decoder_states, index):
        """Bits `[B, H/16, W/16, bits]` in int8, of an image in 8 bits `[B, H, W, 3]`."""
        canvas, bits = decoder_states, None
        for tile in canvas.sweep():
            window = tile.widened(self._analysing.picture)
            states = canvas.read(window, "encoder")
            if canvas.pending is None:
                states.update(canvas.read(window, "decoder", "reconstruction", "gain"))
            else:
                states.update(self._decoded(canvas, tile, self._analysing))
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
            tile_bits = window.crop(_to_numpy(tile_bits), tile)
            if bits is None:
                bits = canvas.empty_bits(tile_bits.shape[-1])
            tile.paste(tile_bits, bits)
        canvas.pending = None
        _release_memory()  # the bits are packed next, which takes some
        return bits, canvas

    def decode_bits(self, bits, decoder_states, index):
        canvas = decoder_states
        if canvas.pending is not None:
            for tile in canvas.sweep():
                canvas.write(tile, self._decoded(canvas, tile, self._advancing))
        canvas.pending = bits, index
        return canvas, canvas

    def synthesise(self, features, reconstruction, gain):
        return _Promise(features, features.pending), gain

    def image_of(self, pixels):
        return pixels

    def planes_of(self, planes):
        return planes

    def is_held(self, reconstruction):
        return reconstruction.canvas.pending is reconstruction.pending

    def tiles(self, reconstruction, index):
        if not self.is_held(reconstruction):
            raise RuntimeError("this picture was to be read before the loop went on")
        canvas = reconstruction.canvas
        for tile in canvas.sweep():
            states = self._decoded(canvas, tile, self._showing)
            yield tile.pixels, _to_numpy(states["reconstruction"][index])

    def end_encoding(self, reconstruction):
        reconstruction.canvas.drop("encoder")

    def _decoded(self, canvas, tile, margins):
        """The states of a tile after its pending bits, with the margin that the encoder gets."""
        bits, index = canvas.pending
        window = tile.widened(margins.bits)
        tile_bits = window.cut(bits).astype(np.float32)
        if bits.dtype == np.uint8:  # a file's plane, not the binarizer's
            tile_bits = 2.0 * tile_bits - 1.0
        states = canvas.read(window, "decoder")
        features, decoder = self._steps.decode_bits(tile_bits, states["decoder"], index)
        result = tile.widened(margins.picture)
        decoded = {"decoder": window.crop(decoder, result)}
        if margins.features is not None:
            inner = tile.widened(margins.features)
            states = canvas.read(inner, "reconstruction", "gain")
            reconstruction, gain = self._steps.synthesise(
                window.crop(features, inner), states["reconstruction"], states["gain"]
            )
            decoded["reconstruction"] = inner.crop(reconstruction, result)
            has_gains = self._network.gain is not None  # else it is one number
            decoded["gain"] = inner.crop(gain, result) if has_gains else gain
        return decoded


class _Margins(typing.NamedTuple):
    """Blocks around a tile that each part of the network must be given."""

    bits: int  # the decoder
    features: int | None  # the synthesis; None where there is to be no picture
    picture: int  # the encoder; 0 where nothing is to be encoded


def _margins(network, encoding, synthesise=True):
    """The `_Margins` that the receptive fields of a network call for."""
    parts = complexity.parts_of(network)
    # A gain is one number for 32x32 pixels, and so estimated from all of them.
    step = STRIDE if network.gain is None else 2 * STRIDE

    def whole(pixels):
        return -(-pixels // step) * step

    seen = parts.encoder.reach if encoding else 0
    picture = whole(seen)
    if network.gain is not None:
        seen = picture + parts.gain.reach
    shown = parts.synthesis.reach if synthesise else 0
    features = whole(seen + shown) if synthesise else None
    bits = whole(seen + parts.decoder.reach + shown)
    return _Margins(*(margin and margin // STRIDE for margin in (bits, features, picture)))


class _Promise(typing.NamedTuple):
    """A reconstruction that is computed when it is asked for; only until the loop goes on."""

    canvas: "_Canvas"
    pending: tuple  # the canvas's own, as long as the promise holds


class _Window:
    """A tile and a margin, in blocks, cut off at the picture's borders.

    Args:
        size: rows and columns of the picture.
        inner: of the tile, pairs of the first row, or column, and the one after the last.
        margin: int. How many more `outer` has on each side.
    """

    def __init__(self, size, inner, margin=0):
        self.size = size
        self.inner = inner
        self.outer = tuple(
            (max(0, start - margin), min(stop + margin, last))
            for (start, stop), last in zip(inner, size)
        )

    def widened(self, margin):
        """The same tile with another margin."""
        return _Window(self.size, self.inner, margin)

    @property
    def pixels(self):
        """Slices of a picture: the window's rows and columns."""
        return tuple(slice(STRIDE * start, STRIDE * stop) for start, stop in self.outer)

    def cut(self, array):
        """The window's part of an array of the whole picture."""
        return array[_slices(array, self.size, self.outer)]

    def crop(self, arrays, window):
        """What another window, inside this one, has of arrays of this one, however nested."""
        size = [stop - start for start, stop in self.outer]
        bounds = [
            (start - first, stop - first)
            for (first, _), (start, stop) in zip(self.outer, window.outer)
        ]
        return keras.tree.map_structure(lambda a: a[_slices(a, size, bounds)], arrays)

    def paste(self, part, array):
        """Puts an array of the window where it belongs in one of the whole picture."""
        array[_slices(array, self.size, self.outer)] = part


def _slices(array, size, bounds):
    """Where rows and columns of blocks are in an array of so many in all."""
    scale = array.shape[1] // size[0]
    rows, columns = (slice(scale * start, scale * stop) for start, stop in bounds)
    return slice(None), rows, columns


class _Canvas:
    """What the loop keeps of a whole picture between iterations.

    A tile is written while its neighbours are still to read, in their margins, what was there
    before. So `sweep` goes in rows of tiles, and what the rest of the sweep may ask for is copied
    before it is overwritten: a strip along the bottom of each tile, kept until the row below has
    passed it, and one along the right side of the tile before.
    """

    def __init__(self, network, batch, size, tile, margin, encoding):
        self.size = size
        self.tile = tile
        self.margin = margin
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
        self._gain = _to_numpy(gain)
        self._states = {
            name: keras.tree.map_structure(self._enlarged, state) for name, state in states.items()
        }
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
        """Lets go of one of the states."""
        del self._states[name]

    def empty_bits(self, channels):
        """For -1 and 1 of the whole picture."""
        return np.empty((self.batch, *self.size, channels), np.int8)

    def sweep(self):
        """Yields the tiles in order, each to be read at once, with margin, then perhaps written."""
        rows, columns = self.size
        self._below = {}
        for top in range(0, rows, self.tile):
            self._above, self._below, self._before = self._below, {}, None
            for left in range(0, columns, self.tile):
                bottom, right = min(top + self.tile, rows), min(left + self.tile, columns)
                yield _Window(self.size, ((top, bottom), (left, right)))
                # The windows to come begin in this tile at most.
                self._above = {key: strips for key, strips in self._above.items() if key >= left}
        self._above, self._below, self._before = {}, {}, None

    def read(self, window, *names):
        """Those states of a window as they were before the sweep: a dictionary."""
        height, width = (STRIDE * (stop - start) for start, stop in window.outer)
        states = {}
        for name in names:
            if name in self._states:
                flat = enumerate(keras.tree.flatten(self._states[name]))
                parts = [self._before_sweep(window, array, (name, i)) for i, array in flat]
                states[name] = keras.tree.pack_sequence_as(self._states[name], parts)
            elif name == "gain":
                states[name] = self._gain
            else:
                states[name] = np.zeros((self.batch, height, width, 3), np.float32)
        return states

    def _before_sweep(self, window, array, key):
        (top, _), (left, _) = window.inner
        (first_row, _), (first_column, last_column) = window.outer
        scale = array.shape[1] // self.size[0]
        part = window.cut(array).copy()
        above, before = scale * (top - first_row), scale * (left - first_column)
        if above and self._above:
            part[:, :above] = self._strip_above(key, scale, first_column, last_column)[:, -above:]
        if before and self._before:
            strip = self._before[key][:, :, -before:]
            part[:, above : above + strip.shape[1], :before] = strip
        return part

    def write(self, window, states):
        """Puts the tile's part of new states of a window into the picture's."""
        (top, bottom), (left, right) = window.inner
        tile = window.widened(0)
        self._before, self._below[left] = {}, {}
        for name, state in self._states.items():
            new = keras.tree.flatten(window.crop(states[name], tile))
            for i, (array, part) in enumerate(zip(keras.tree.flatten(state), new, strict=True)):
                self._before[name, i] = self._part(array, top, bottom, right - self.margin, right)
                self._below[left][name, i] = self._part(
                    array, bottom - self.margin, bottom, left, right
                )
                tile.paste(np.asarray(keras.ops.convert_to_numpy(part)), array)

    def _strip_above(self, key, scale, first, last):
        """What was above a window in one of the arrays, between two columns."""
        starts = [start for start in self._above if start < last]
        strip = np.concatenate([self._above[start][key] for start in starts], axis=2)
        return strip[:, :, scale * (first - starts[0]) : scale * (last - starts[0])]

    def _part(self, array, top, bottom, left, right):
        """A copy of blocks of an array; it starts at the border where there are fewer."""
        bounds = (max(0, top), bottom), (max(0, left), right)
        return array[_slices(array, self.size, bounds)].copy()


def _release_memory():
    """Hands what the C library holds of freed memory back to the system, where that is glibc."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def _to_numpy(tensor):
    return keras.ops.convert_to_numpy(keras.ops.cast(tensor, "float32"))
