"""Exact pixels in few bytes, for drawings: a lossless WebP stream inside the file."""

import io

import numpy as np
from PIL import Image

from rnn_codec.errors import BitstreamError

MAX_SIDE = 16383  # of a WebP picture

# In a drawing most pixels equal their left neighbour; in photographs few do.
_LEAST_EQUAL = 0.4
_ROWS_LOOKED_AT = 256


def may_win(pixels: np.ndarray) -> bool:
    """Whether a lossless file may be smaller than a lossy one: a cheap test on some rows.

    Args:
        pixels: uint8 `[H, W]` or `[H, W, 3]`.
    """
    if max(pixels.shape[:2]) > MAX_SIDE:
        return False
    rows = pixels[:: max(1, pixels.shape[0] // _ROWS_LOOKED_AT)]
    equal = rows[:, 1:] == rows[:, :-1]
    if equal.ndim == 3:
        equal = equal.all(axis=-1)
    # Of a picture too narrow to tell, the lossless file is small anyway.
    return equal.shape[1] < 8 or float(np.mean(equal)) >= _LEAST_EQUAL


def encode(pixels: np.ndarray) -> bytes:
    """A lossless WebP file of pixels, uint8 `[H, W]` or `[H, W, 3]`, at most `MAX_SIDE` a side."""
    file = io.BytesIO()
    Image.fromarray(pixels).convert("RGB").save(file, "WEBP", lossless=True, quality=80, method=4)
    return file.getvalue()


def decode(data: bytes, width: int, height: int, is_rgb: bool) -> np.ndarray:
    """The pixels of such a file: uint8 `[H, W, 3]`, or `[H, W]` of a grey picture.

    Raises:
        BitstreamError: it is damaged, or of another size or format.
    """
    expected = f"the lossless picture: expected a WebP file of {width} x {height} pixels"
    try:
        with Image.open(io.BytesIO(data), formats=("WEBP",)) as picture:
            if picture.size != (width, height):
                received = f"{picture.width} x {picture.height}"
                raise BitstreamError(f"{expected}, received one of {received}; it is damaged")
            pixels = np.asarray(picture.convert("RGB"))
    except BitstreamError:
        raise
    except Exception as error:  # noqa: BLE001 (Pillow's plugins raise of any kind)
        raise BitstreamError(f"{expected}, received a damaged one ({error})") from error
    return pixels if is_rgb else pixels[..., 0]
