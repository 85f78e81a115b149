"""The transform of pictures of any size: whole, or tile by tile with margins.

A tile is computed with as many pixels around it as its convolutions reach, cut off at the
picture's borders, where the network repeats the edge as it would for the whole picture. So nothing
shows where tiles meet.
"""

from collections.abc import Callable, Iterator

from keras import ops
import numpy as np

from rnn_codec.backend import compilation
from rnn_codec.embedded.config import BLOCK
from rnn_codec.embedded.network import EmbeddedNetwork, truncate

# The side of a tile and its margins, in blocks of 16x16 pixels.
TILE = 64
MARGIN = 2  # a test holds it against what the network reads


class Transform:
    """Analysis and synthesis of one picture of any size, compiled.

    Args:
        network: `EmbeddedNetwork`.
        tile: int. The side of a tile in blocks; pictures of at most one are computed whole.
    """

    def __init__(self, network: EmbeddedNetwork, tile: int = TILE):
        self._tile = tile
        self._latents = network.config.latents
        finest = network.config.iterations - 1

        def analyse(pictures):
            known = ops.full((1, network.config.latents), finest, dtype="int32")
            return truncate(network.quantiser.scaled(network.analyse(pictures), known))

        self._analyse = compilation.compile_for_inference(analyse, network)
        self._synthesise = compilation.compile_for_inference(network.reconstruct, network)

    def analyse(self, pixels: np.ndarray, progress: Callable[[float], None] | None = None):
        """Indices at the finest plane: int16 `[h, w, K]`, of uint8 `[16 h, 16 w, 3]`."""
        rows, columns = (side // BLOCK for side in pixels.shape[:2])
        index = np.empty((rows, columns, self._latents), np.int16)
        for window, inner, share in self._windows(rows, columns):
            picture = pixels[_pixels(window)].astype(np.float32) / 127.5 - 1.0
            part = ops.convert_to_numpy(self._analyse(ops.convert_to_tensor(picture[None])))[0]
            part = part[_inside(window, inner)]
            index[inner] = np.clip(part, -_MAX_INDEX, _MAX_INDEX)
            if progress:
                progress(share)
        return index

    def synthesise(
        self, index: np.ndarray, known: np.ndarray, plane: int, sent: int
    ) -> Iterator[tuple[tuple[slice, slice], np.ndarray]]:
        """The picture of indices, tile by tile.

        Args:
            index: integers `[h, w, K]`, in units of each channel's step.
            known: int32 `[K]`. The finest plane known of each channel, -1 for none.
            plane: int, from 0. The finest plane of which anything was sent.
            sent: int, 1..K. How many channels of it were sent.

        Yields:
            Slices of rows and columns of pixels, and float32 `[height, width, 3]` in -1..1, not
            clipped.
        """
        known = ops.convert_to_tensor(np.asarray(known, np.int32)[None])
        plane, sent = (ops.convert_to_tensor(np.array([v], np.int32)) for v in (plane, sent))
        for window, inner, _ in self._windows(*index.shape[:2]):
            part = ops.convert_to_tensor(index[window][None].astype(np.float32))
            picture = ops.convert_to_numpy(self._synthesise(part, known, plane, sent))[0]
            yield _pixels(inner), picture[_pixels(_inside(window, inner))]

    def _windows(self, rows, columns):
        """Slices of each tile with its margin, and without, and the share that is done then."""
        starts = [
            (top, left)
            for top in range(0, rows, self._tile)
            for left in range(0, columns, self._tile)
        ]
        for number, (top, left) in enumerate(starts, start=1):
            bottom, right = min(top + self._tile, rows), min(left + self._tile, columns)
            window = (
                slice(max(0, top - MARGIN), min(bottom + MARGIN, rows)),
                slice(max(0, left - MARGIN), min(right + MARGIN, columns)),
            )
            yield window, (slice(top, bottom), slice(left, right)), number / len(starts)


_MAX_INDEX = 2**15 - 1


def _inside(window, inner):
    """Where `inner` lies in `window`; both are slices of rows and columns."""
    return tuple(
        slice(part.start - whole.start, part.stop - whole.start)
        for whole, part in zip(window, inner)
    )


def _pixels(window):
    return tuple(slice(BLOCK * part.start, BLOCK * part.stop) for part in window)
