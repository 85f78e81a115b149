"""When the encoder stops."""

import dataclasses

from rnn_codec.errors import CodecError


@dataclasses.dataclass(frozen=True)
class Target:
    """A bound on a file or on its quality. At most one is given; none: all iterations.

    Sizes are of the whole file; the most iterations that do not exceed them are kept. Of the
    qualities, the fewest iterations that reach them.
    """

    iterations: int | None = None
    target_bpp: float | None = None  # bits per pixel
    target_bytes: int | None = None
    target_psnr: float | None = None  # dB
    target_msssim: float | None = None  # 0 to 1

    def __post_init__(self):
        given = {name: value for name, value in vars(self).items() if value is not None}
        if len(given) > 1:
            raise CodecError(
                f"expected one of {' and '.join(given)}, received {len(given)}; keep one"
            )
        for name, value in given.items():
            if not value > 0:
                raise CodecError(f"expected {name} above 0, received {value}")

    def size_limit(self, width, height):
        """Bytes that the file may have, or None."""
        if self.target_bpp is not None:
            return int(self.target_bpp * width * height / 8)
        return self.target_bytes
