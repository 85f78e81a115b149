"""What JPEG, WebP and AVIF make of the validation's pictures, to draw beside a run's curve."""

from collections.abc import Callable
import concurrent.futures

import numpy as np

from rnn_codec.errors import CodecError
from rnn_codec.pictures import metrics
from rnn_codec.standard import codecs

# A few qualities of each, over the range of rates that people use.
_QUALITIES = {
    "jpeg": (10, 25, 50, 75, 90),
    "webp": (5, 25, 50, 75, 90),
    "avif": (10, 25, 45, 65, 85),
}
_FIGURES: dict[str, Callable] = {"ms_ssim": metrics.ms_ssim, "psnr_db": metrics.psnr_db}


class PeerCurves:
    """Rate-distortion curves of standard codecs over some pictures, computed beside the training.

    Args:
        pictures: uint8 `[B, H, W, 3]`, with sides of at least 161 pixels for MS-SSIM.
    """

    def __init__(self, pictures: np.ndarray):
        self._pool = concurrent.futures.ThreadPoolExecutor(1)
        self._curves = self._pool.submit(_measure, pictures)

    def curves(self, figure: str) -> dict[str, list[tuple[float, float]]]:
        """Codec to its points, each bits per pixel and the mean of a figure; waits for them."""
        return self._curves.result().get(figure, {})

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


def _measure(pictures):
    pixels = pictures.shape[1] * pictures.shape[2]
    has_similarity = min(pictures.shape[1:3]) >= metrics.MINIMUM_SIDE
    figures = {name: f for name, f in _FIGURES.items() if has_similarity or name != "ms_ssim"}
    curves = {figure: {} for figure in figures}
    for name, qualities in _QUALITIES.items():
        try:
            codec = codecs.CODECS[name]()
        except CodecError:
            continue  # Its library is not installed: the others are drawn.
        for quality in qualities:
            files = [codec.encode(picture, quality) for picture in pictures]
            rate = 8.0 * float(np.mean([len(file) for file in files])) / pixels
            restored = [codec.decode(file) for file in files]
            for figure, measure in figures.items():
                value = float(np.mean([measure(*pair) for pair in zip(pictures, restored)]))
                curves[figure].setdefault(name, []).append((rate, value))
    return curves
