"""How far a restored picture is from its original, in the figures that the field uses.

All compare 8-bit RGB, uint8 `[H, W, 3]`. A picture too small for a measure gets None. Decibels stop
at 100, the value of equal pictures: infinity has no mean. Colour is measured beside structure
because MS-SSIM hardly sees it: a codec can lose an axis of colour and still score well.
"""

import contextlib
import functools
import io

import numpy as np
from PIL import Image
from skimage import color
import ssimulacra2

from rnn_codec.pictures import metrics, similarity

with contextlib.redirect_stdout(io.StringIO()):  # it prints that it found no PyTorch
    import psnr_hvsm

NAMES = (
    "psnr_rgb_db",
    "ms_ssim_rgb",
    "ms_ssim_luma",
    "psnr_hvs_m_db",
    "ssimulacra2",
    "ciede2000_mean",
    "ciede2000_p95",
    "mean_error_r",
    "mean_error_g",
    "mean_error_b",
)

MAXIMUM_DB = 100.0
_BLOCK = 8  # side of the blocks that PSNR-HVS-M looks at
_DECIMALS = 6


class Original:
    """A picture to compare restorations with; what depends on it alone is computed once.

    Args:
        pixels: uint8 `[H, W, 3]`.
    """

    def __init__(self, pixels):
        self.pixels = pixels

    def compare(self, restored):
        """The measures of a restoration: a dictionary with the keys `NAMES`.

        * psnr_rgb_db: peak signal-to-noise ratio over all samples.
        * ms_ssim_rgb: MS-SSIM over five scales, mean of the channels; None below 161 pixels a side.
        * ms_ssim_luma: the same of the luma (BT.601, full range).
        * psnr_hvs_m_db: PSNR weighted by visibility and masking, of the luma as its authors take it
          (BT.601, 16 to 235), over whole blocks of 8x8 pixels; None if there is none.
        * ssimulacra2: 100 for equal pictures; 90 is hard to tell apart, 70 high quality, 50 medium;
          there is no lower bound. None below 8 pixels a side.
        * ciede2000_mean, ciede2000_p95: colour difference of the pixels, read as sRGB; about 1 is
          just noticeable.
        * mean_error_r, mean_error_g, mean_error_b: restored minus original, in levels of 255.

        Args:
            restored: uint8 `[H, W, 3]`, of the original's size.
        """
        if restored.shape != self.pixels.shape:
            raise ValueError(
                f"Expected pixels of shape {self.pixels.shape}. Received: {restored.shape}"
            )
        differences = color.deltaE_ciede2000(self._lab, _lab(restored))
        errors = np.mean(restored, axis=(0, 1)) - np.mean(self.pixels, axis=(0, 1))
        values = (
            min(metrics.psnr_db(self.pixels, restored), MAXIMUM_DB),
            *_ms_ssim(self._planes, _planes(restored)),
            _psnr_hvs_m_db(self._blocks, _luma_blocks(restored)),
            _ssimulacra2(self.pixels, restored),
            differences.mean(dtype=np.float64),
            np.percentile(differences, 95),
            *errors,
        )
        return {
            name: None if value is None else round(float(value), _DECIMALS)
            for name, value in zip(NAMES, values)
        }

    @functools.cached_property
    def _lab(self):
        return _lab(self.pixels)

    @functools.cached_property
    def _planes(self):
        return _planes(self.pixels)

    @functools.cached_property
    def _blocks(self):
        return _luma_blocks(self.pixels)


def _lab(pixels):
    return color.rgb2lab(pixels.astype(np.float32) / 255.0)


def _planes(pixels):
    """Red, green, blue and luma, 0 to 1: float32 `[4, H, W, 1]`."""
    luma = np.asarray(Image.fromarray(pixels).convert("L"))
    return np.stack([*np.moveaxis(pixels, -1, 0), luma])[..., None].astype(np.float32) / 255.0


def _ms_ssim(original, restored):
    """MS-SSIM of RGB and of luma, from planes; twice None for a side too small."""
    if min(original.shape[1:3]) < metrics.MINIMUM_SIDE:
        return None, None
    *colours, luma = similarity.ms_ssim(original, restored)
    return np.mean(colours), luma


def _ssimulacra2(original, restored):
    if min(original.shape[:2]) < _BLOCK:
        return None
    files = []
    for pixels in (original, restored):
        file = io.BytesIO()  # the package reads files
        Image.fromarray(pixels).save(file, "BMP")
        files.append(file)
    return ssimulacra2.compute_ssimulacra2(*files)


def _luma_blocks(pixels):
    """Luma 0 to 1 of the whole blocks: float64, sides multiples of 8."""
    height, width = (side // _BLOCK * _BLOCK for side in pixels.shape[:2])
    # Levels up to 255, although the package's manual divides them: then its luma is constant.
    luma, _, _ = psnr_hvsm.bt601ycbcr(pixels[:height, :width])
    return luma


def _psnr_hvs_m_db(original, restored):
    if not original.size:
        return None
    # It divides by zero in flat blocks and for equal pictures, and drops the quotients.
    with np.errstate(divide="ignore", invalid="ignore"):
        _, psnr_hvs_m = psnr_hvsm.psnr_hvs_hvsm(original, restored)
    return min(psnr_hvs_m, MAXIMUM_DB)
