"""A picture in memory: pixels, alpha, and the metadata blocks that travel with it.

The codec sees two kinds of pixels, `[height, width]` grey and `[height, width, 3]` RGB, both uint8.
"""

import dataclasses

import numpy as np

from rnn_codec.errors import ImageError


@dataclasses.dataclass(frozen=True, eq=False)  # `==` on arrays has no single truth value
class Picture:
    """One picture: pixels, alpha, and the metadata blocks that travel with it unread."""

    pixels: np.ndarray  # uint8, [height, width] grey or [height, width, 3] RGB
    alpha: np.ndarray | None = None  # uint8, [height, width]; 0 is transparent, 255 opaque
    icc_profile: bytes | None = None  # describes `pixels`; None: sRGB, by convention
    exif: bytes | None = None  # always with its prefix b"Exif\0\0", then a TIFF header
    xmp: bytes | None = None  # the XML packet, UTF-8
    warnings: tuple[str, ...] = ()  # what reading gave up; each starts with the file's name

    @property
    def height(self) -> int:
        return self.pixels.shape[0]

    @property
    def width(self) -> int:
        return self.pixels.shape[1]

    @property
    def is_rgb(self) -> bool:
        return self.pixels.ndim == 3

    @property
    def mode(self) -> str:
        """ "L", "LA", "RGB" or "RGBA", as Pillow names them."""
        return ("RGB" if self.is_rgb else "L") + ("" if self.alpha is None else "A")


def picture_from_array(array) -> Picture:
    """Makes a picture, without metadata, of an array.

    Args:
        array: uint8, `[H, W]` or `[H, W, 1]` grey, `[H, W, 2]` grey and alpha, `[H, W, 3]` RGB,
            `[H, W, 4]` RGB and alpha. It is copied.

    Raises:
        ImageError: any other shape or type.
    """
    array = np.asarray(array)
    channels = array.shape[2] if array.ndim == 3 else 1
    if (
        array.dtype != np.uint8
        or array.ndim not in (2, 3)
        or not array.size
        or channels not in (1, 2, 3, 4)
    ):
        raise ImageError(
            "array: expected uint8 of shape [H, W], or [H, W, channels] with 1 to 4 channels, and "
            f"at least one pixel, received {array.dtype} of shape {list(array.shape)}; convert it"
        )
    array = array.reshape(*array.shape[:2], channels)
    has_alpha = channels in (2, 4)
    pixels = array[..., :3] if channels >= 3 else array[..., 0]
    return Picture(pixels=pixels.copy(), alpha=array[..., -1].copy() if has_alpha else None)


def to_array(picture) -> np.ndarray:
    """The inverse of `picture_from_array`: uint8, `[H, W]`, or `[H, W, 2 to 4]` as there."""
    if picture.alpha is None:
        return picture.pixels.copy()
    pixels = picture.pixels if picture.is_rgb else picture.pixels[..., None]
    return np.concatenate([pixels, picture.alpha[..., None]], axis=2)


def pad_to_multiple(pixels, multiple) -> np.ndarray:
    """Extends a picture at the bottom and on the right until its sides are multiples.

    The last rows and columns are mirrored about the picture's edge (half-sample symmetry: the edge
    row itself is repeated first), as often as it takes, so that no artificial edge costs bits and
    one pixel suffices. To undo it, slice: `padded[:height, :width]`.

    Args:
        pixels: `[H, W, 3]`, or any array whose first two axes are rows and columns.
        multiple: int, at least 1.

    Returns:
        `[ceil(H / multiple) * multiple, ceil(W / multiple) * multiple, 3]`, a new array unless
        nothing is to be added.
    """
    if multiple < 1:
        raise ValueError(f"Expected a multiple of at least 1. Received: multiple={multiple}")
    height, width = pixels.shape[:2]
    if height % multiple == 0 and width % multiple == 0:
        return pixels
    margins = [(0, -height % multiple), (0, -width % multiple)] + [(0, 0)] * (pixels.ndim - 2)
    return np.pad(pixels, margins, mode="symmetric")
