"""ComCNN and RecCNN over pictures of any size, tile by tile; knows no codec.

What RecCNN adds to a picture is multiplied by the strength: so a picture that is good already can
be left as it is.
"""

from collections.abc import Iterator
import functools
import math

from keras import ops
import numpy as np

from rnn_codec.backend import compilation
from rnn_codec.container.bitstream import FULL_STRENGTH, MAX_STRENGTH
from rnn_codec.errors import BitstreamError, CodecError
from rnn_codec.hybrid import complexity
from rnn_codec.hybrid.networks import HybridNetwork, condition_of
from rnn_codec.pictures.picture import Picture, pad_to_multiple
from rnn_codec.standard.codecs import BaseCodec, with_colour

# In cells of 2x2 pixels of the picture. A tile takes about 0.6 GB, with a margin of 24.
_TILE = 384

# Margins are multiples of it. So networks of 20 layers still get the windows, and give the pixels
# to the last bit, of the days when all had a margin of 24.
_MARGIN_STEP = 8

# In levels: more than any residual has.
_MAX_RESIDUAL = 510


class TiledNetwork:
    """The parts of a network as compiled functions that take pictures tile by tile.

    Args:
        network: `HybridNetwork`.

    Attributes:
        config: its `HybridConfig`.
        margin: int. Cells around a tile that are computed with it: what its layers reach over.
    """

    def __init__(self, network: HybridNetwork):
        self.config = network.config
        self.margin = -(-complexity.reach(network) // (2 * _MARGIN_STEP)) * _MARGIN_STEP
        self._network = network
        self._functions = {}  # compiled, by name, reduction and number of channels

    def compress(self, pixels: np.ndarray, reduction: int) -> np.ndarray:
        """What the standard codec is to store: uint8, shaped as the pixels, with smaller sides."""
        if reduction == 1:
            return pixels
        return self.rounded("compress", pad_to_multiple(pixels, 2))

    def rounded(self, name: str, pixels: np.ndarray) -> np.ndarray:
        """As `tiles` of half the size, put together in uint8."""
        height, width = (side // 2 if name == "compress" else 2 * side for side in pixels.shape[:2])
        result = np.empty((height, width, *pixels.shape[2:]), np.uint8)
        for place, values in self.tiles(name, pixels, 2):
            rounded = np.clip(np.rint(values), 0, 255)
            result[place] = rounded.reshape(result[place].shape)
        return result

    def tiles(
        self, name: str, pixels: np.ndarray, reduction: int, condition: np.ndarray | None = None
    ) -> Iterator[tuple[tuple[slice, slice], np.ndarray]]:
        """Calls a method of the network on one tile after another.

        Args:
            name: str, "compress", "enlarge" or "restore".
            pixels: uint8 `[H, W]` or `[H, W, 3]`. In cells: of 2x2 pixels of the picture itself, of
                2/r x 2/r of a compact one.
            reduction: int, r.
            condition: `[K]`, of "restore" alone.

        Yields:
            Pairs of the place in the result, a tuple of slices, and its values, float32 in levels.
        """
        before, after = (2, 2 // reduction) if name == "compress" else (2 // reduction, 2)
        image = np.atleast_3d(pixels)
        function = self._function(name, reduction, image.shape[2])
        conditions = () if condition is None else (condition,)
        rows, columns = image.shape[0] // before, image.shape[1] // before
        for top in range(0, rows, _TILE):
            for left in range(0, columns, _TILE):
                (first, last), inner_rows, rows_out = self._window(top, rows, after)
                (start, stop), inner_columns, columns_out = self._window(left, columns, after)
                window = image[before * first : before * last, before * start : before * stop]
                values = function(window[None].astype(np.float32) / 255.0, *conditions)
                values = ops.convert_to_numpy(values)[0, inner_rows, inner_columns]
                yield (rows_out, columns_out), 255.0 * values

    def _window(self, start, size, after):
        """One axis of a tile: cells to read, the pixels to keep of them, and where they belong."""
        stop = min(start + _TILE, size)
        first, last = max(0, start - self.margin), min(size, stop + self.margin)
        inner = slice(after * (start - first), after * (stop - first))
        return (first, last), inner, slice(after * start, after * stop)

    def _function(self, name, reduction, channels):
        key = name, reduction, channels
        if key not in self._functions:
            function = functools.partial(getattr(self._network, name), reduction=reduction)
            self._functions[key] = compilation.compile_for_inference(function, self._network)
        return self._functions[key]


class Restoration:
    """A standard codec's picture, and what RecCNN would add to it.

    Args:
        network: `TiledNetwork`.
        compact: uint8 `[H, W]` or `[H, W, 3]`, what the standard codec gave.
        reduction: int. How many times smaller its sides are than the picture's.
        shape: of the picture.
        condition: `[K]`, what RecCNN is told; see `networks.condition_of`.
    """

    def __init__(
        self,
        network: TiledNetwork,
        compact: np.ndarray,
        reduction: int,
        shape: tuple[int, ...],
        condition: np.ndarray,
    ):
        enlarged = compact if reduction == 1 else network.rounded("enlarge", compact)
        self._enlarged = enlarged[: shape[0], : shape[1]]
        self._network = network
        self._compact = pad_to_multiple(compact, 2 // reduction)
        self._reduction = reduction
        self._condition = condition
        self._kept = None  # the residual, where it is needed twice

    def pixels(self, strength: int) -> np.ndarray:
        """The picture with so many 64ths of the residual: uint8, a copy."""
        pixels = self._enlarged.copy()
        if strength:
            factor = np.float32(strength / FULL_STRENGTH)
            for place, residual in self._kept or self._residual():
                added = factor * residual.astype(np.float32)
                pixels[place] = np.clip(np.rint(pixels[place] + added), 0, 255)
        return pixels

    def best_strength(self, original: np.ndarray) -> int:
        """The strength of the least squared error to pixels, before these are rounded."""
        if self._network.config.networks == "compact":
            return 0  # there is no RecCNN
        self._kept = list(self._residual())
        product = energy = 0.0
        for place, residual in self._kept:
            residual = residual.astype(np.float32)
            error = original[place].astype(np.float32) - self._enlarged[place]
            product += float(np.vdot(residual, error))
            energy += float(np.vdot(residual, residual))
        strength = round(FULL_STRENGTH * product / max(energy, 1e-9))
        return int(np.clip(strength, 0, MAX_STRENGTH))

    def _residual(self):
        """Yields, tile by tile, its place in the picture and float16 levels.

        They are what is missing from the enlarged picture, in 8 bits, to that of the network.
        """
        tiles = self._network.tiles("restore", self._compact, self._reduction, self._condition)
        for place, values in tiles:
            enlarged = self._enlarged[place]
            values = values[: enlarged.shape[0], : enlarged.shape[1]].reshape(enlarged.shape)
            residual = np.clip(values - enlarged, -_MAX_RESIDUAL, _MAX_RESIDUAL)
            yield place, residual.astype(np.float16)


def restoration_of(
    network: TiledNetwork,
    base: BaseCodec,
    file: bytes,
    quality_level: int | None,
    frame: Picture,
) -> Restoration:
    """The `Restoration` of a standard codec's file, in the size and colour of `frame`.

    `quality_level` may be None, for unknown.

    Raises:
        BitstreamError: the file is damaged, or of another size.
    """
    sizes = {
        (-(-frame.height // reduction), -(-frame.width // reduction)): reduction
        for reduction in reversed(network.config.reductions)  # a pixel counts as of full size
    }
    try:
        compact = base.decode(file, max_pixels=max(map(math.prod, sizes)))
    except CodecError as error:
        reason = str(error).rpartition("; ")[0]  # what to do about a file of its own is moot
        raise BitstreamError(
            f"the picture inside: {reason}; the file was not written by this codec"
        ) from error
    if compact.shape[:2] not in sizes:
        expected = " or ".join(f"{width} x {height}" for height, width in sizes)
        raise BitstreamError(
            f"the picture inside: expected {expected} pixels, received "
            f"{compact.shape[1]} x {compact.shape[0]}; the file was not written by this codec"
        )
    reduction = sizes[compact.shape[:2]]
    compact = with_colour(compact, frame.is_rgb)
    condition = condition_of(base.name, quality_level)
    return Restoration(network, compact, reduction, frame.pixels.shape, condition)


def strength_for(jpeg_quality: float | None) -> float:
    """A strength for pictures that were stored as JPEG, with libjpeg's quality or None if unknown.

    The shipped RecCNN, told the quality, gained with it on each of eight validation crops at
    qualities from 5 to 95, where all of the residual is too much for some above 90.
    """
    if jpeg_quality is None:
        return 0.5
    return float(np.clip((100 - jpeg_quality) / 8, 0.0, 1.0))
