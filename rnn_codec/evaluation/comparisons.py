"""Pictures for the report: each codec at about the bytes that this project's codec takes."""

from rnn_codec.evaluation import report
from rnn_codec.evaluation.codecs import ProgressiveCodec

_ITERATIONS = (1, 2, 4)
_BPP = (0.125, 0.25, 0.5)


def compare(name, pixels, rows, codecs):
    """Codes an image again with each codec at the settings nearest to a few sizes.

    The sizes are those of the first progressive codec after 1, 2 and 4 iterations; without one,
    those of 0.125, 0.25 and 0.5 bits per pixel.

    Args:
        name: str. The image's.
        pixels: uint8 `[H, W, 3]`.
        rows: list of the image's rows, some for each codec.
        codecs: list of `codecs.ImageCodec`.

    Returns:
        List of `report.Comparison`, one for each size.
    """
    compared = []
    for size in _sizes(pixels, rows, codecs):
        versions = []
        for codec in codecs:
            own = [row for row in rows if row["codec"] == codec.name]
            versions.append(_version(pixels, codec, nearest(own, size)))
        compared.append(report.Comparison(f"{name}, {size:,.0f} bytes", pixels, versions))
    return compared


def _sizes(pixels, rows, codecs):
    leading = [codec.name for codec in codecs if isinstance(codec, ProgressiveCodec)]
    if not leading:
        return [bpp * pixels.shape[0] * pixels.shape[1] / 8 for bpp in _BPP]
    of_leading = [row for row in rows if row["codec"] == leading[0]]
    return [row["bytes"] for row in of_leading if row["setting"] in _ITERATIONS]


def nearest(rows, size):
    """The row with the largest file not above `size` bytes; else the one with the smallest."""
    fitting = [row for row in rows if row["bytes"] <= size]
    if fitting:
        return max(fitting, key=lambda row: row["bytes"])
    return min(rows, key=lambda row: row["bytes"])


def _version(pixels, codec, row):
    return report.Version(
        codec=codec.name,
        setting=row["setting"],
        bytes=row["bytes"],
        bpp=row["bpp"],
        ms_ssim=row["ms_ssim_rgb"],
        psnr_db=row["psnr_rgb_db"],
        ciede2000=row["ciede2000_mean"],
        pixels=codec.decode(codec.encode(pixels, row["setting"])),
    )
