"""When the encoder stops."""

import dataclasses
import numbers

from rnn_codec.errors import CodecError
from rnn_codec.options import option


@dataclasses.dataclass(frozen=True)
class Target:
    """A bound on a file or on its quality. At most one is given; none: all iterations.

    Sizes are of the whole file; the most iterations that do not exceed them are kept. Of the
    qualities, the fewest iterations that reach them.
    """

    iterations: int | None = option(
        None,
        "Stop after this many iterations. By default the file holds them all, or with the embedded "
        "codec what --quality says.",
        common=True,
    )
    target_bpp: float | None = option(
        None, "Make the whole file no larger than this many bits per pixel."
    )
    target_bytes: int | None = option(
        None, "Make the whole file no larger than this many bytes.", common=True
    )
    target_psnr: float | None = option(
        None, "Make the file as small as reaches this PSNR, in dB.", common=True
    )
    target_msssim: float | None = option(
        None, "Make the file as small as reaches this MS-SSIM, from 0 to 1."
    )

    def __post_init__(self):
        given = {name: value for name, value in vars(self).items() if value is not None}
        if len(given) > 1:
            raise CodecError(
                f"expected one of {' and '.join(given)}, received {len(given)}; keep one"
            )
        for name, value in given.items():
            whole = name in ("iterations", "target_bytes")
            kind = numbers.Integral if whole else numbers.Real
            if not (isinstance(value, kind) and value > 0):
                raise CodecError(
                    f"expected {name} to be {'a whole' if whole else 'a'} number above 0, "
                    f"received {value!r}"
                )

    def allows(self, file_bytes, pixels):
        """Whether a file may have this size."""
        if self.target_bpp is not None:
            # The same quotient as in every report, so that a reported figure is a target that fits.
            return 8 * file_bytes / pixels <= self.target_bpp
        return self.target_bytes is None or file_bytes <= self.target_bytes

    @property
    def is_of_quality(self):
        """Whether it bounds the picture's quality, and not a size."""
        return self.target_psnr is not None or self.target_msssim is not None
