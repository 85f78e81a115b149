"""Where channels begin: the linear transform of blocks that suits the photographs best."""

from keras import ops
import numpy as np

from rnn_codec.embedded.config import BLOCK, SAMPLES
from rnn_codec.layers.common import space_to_depth
from rnn_codec.training import similarity

_PHOTOGRAPHS, _BLOCKS_EACH = 200, 300  # for the covariance
# Pictures to measure visibility on, and the size of the errors, in units of pixels in -1..1.
_PICTURES, _SIDE, _ERROR = 4, 96, 0.25
_ROWS_AT_ONCE = 16


class Start:
    """The KLT of 16x16 blocks of some photographs, and how visible its coefficients are.

    Args:
        photos: `data.PhotoFolder` or `data.PhotoArrays`.
        seed: int.

    Attributes:
        basis: float32 `[768, 768]`. Rows of the transform, the most important first; the samples of
            a block are ordered (row, column, channel).
    """

    def __init__(self, photos, seed=0):
        self._rng = np.random.default_rng((seed, 7))
        items = self._some(photos.training, _PHOTOGRAPHS)
        pictures = [photos.load(item).astype(np.float32) / 127.5 - 1.0 for item in items]
        blocks = [self._some(_blocks(picture), _BLOCKS_EACH) for picture in pictures]
        blocks = np.stack([block for some in blocks for block in some])
        covariance = (blocks.T @ blocks).astype(np.float64) / len(blocks)
        _, vectors = np.linalg.eigh(covariance)
        self.basis = np.ascontiguousarray(vectors[:, ::-1].T, np.float32)
        sides = [min(picture.shape[:2]) // BLOCK * BLOCK for picture in pictures]
        pictures = [picture for picture, side in zip(pictures, sides) if side >= BLOCK]
        side = min(_SIDE, *sides[:_PICTURES])
        self._crops = np.stack([picture[:side, :side] for picture in pictures[:_PICTURES]])

    def visibility(self, rows):
        """Log-step of each row for equal damage by MS-SSIM: the less it is seen, the larger.

        Args:
            rows: float32 `[R, 768]`, of length 1.

        Returns:
            float32 `[R]`, 0 on average.
        """
        count, side = self._crops.shape[:2]
        cells = side // BLOCK
        seen = []
        for first in range(0, len(rows), _ROWS_AT_ONCE):
            part = rows[first : first + _ROWS_AT_ONCE]
            signs = self._rng.choice([-_ERROR, _ERROR], (len(part), count, cells, cells, 1))
            blocks = signs * part[:, None, None, None]
            blocks = blocks.reshape(len(part), count, cells, cells, BLOCK, BLOCK, 3)
            errors = np.swapaxes(blocks, 4, 3).reshape(len(part), count, side, side, 3)
            original = 0.5 + 0.5 * np.broadcast_to(self._crops, errors.shape)
            damage = similarity.dissimilarity(
                *(
                    ops.convert_to_tensor(pictures.astype(np.float32))
                    for pictures in (original, original + 0.5 * errors)
                )
            )
            seen.extend(np.mean(ops.convert_to_numpy(damage), axis=1))
        log_step = -0.5 * np.log(np.maximum(seen, 1e-9))
        return (log_step - np.mean(log_step)).astype(np.float32)

    def _some(self, items, count):
        return [items[i] for i in self._rng.permutation(len(items))[:count]]


def _blocks(picture):
    """The whole blocks of a picture: `[blocks, 768]`."""
    height, width = (side // BLOCK * BLOCK for side in picture.shape[:2])
    blocks = space_to_depth(ops.convert_to_tensor(picture[None, :height, :width]), BLOCK)
    return ops.convert_to_numpy(blocks).reshape(-1, SAMPLES)
