"""Tests for rnn_codec/training/similarity.py, against TensorFlow's function and plain NumPy."""

import functools

from absl.testing import absltest, parameterized
import keras
from keras import ops
import numpy as np
import pytest

from rnn_codec.pictures import similarity as definition
from rnn_codec.training import similarity

pytestmark = pytest.mark.network

WEIGHTS = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333])

PAIRS = ("noise", "negative", "constants", "black_and_white", "itself")


def make_picture(height, width, seed=0):
    """Waves of many lengths with grain, 0 to 1."""
    rng = np.random.default_rng(seed)
    rows, columns = np.ogrid[:height, :width]
    picture = rng.normal(0.0, 0.3, (height, width, 3))
    for length in (3, 10, 30, 100):
        angles, phases = rng.uniform(0, 2 * np.pi, (2, 3))
        distance = rows[..., None] * np.cos(angles) + columns[..., None] * np.sin(angles)
        picture += np.sin(distance * 2 * np.pi / length + phases)
    return (0.5 + 0.1 * picture).clip(0, 1).astype(np.float32)


def distort(picture, amount, seed=1):
    noise = np.random.default_rng(seed).normal(size=picture.shape)
    return (picture + amount * noise).clip(0, 1).astype(np.float32)


def make_pair(kind, side):
    picture = make_picture(side, side)
    return {
        "noise": (picture, distort(picture, 0.2)),
        "negative": (picture, 1 - picture),
        "constants": (np.full_like(picture, 0.3), np.full_like(picture, 0.6)),
        "black_and_white": (np.zeros_like(picture), np.ones_like(picture)),
        "itself": (picture, picture),
    }[kind]


def blur(planes):
    """Gaussian means of the 11x11 windows that fit; smaller windows in smaller planes."""
    for axis in (0, 1):
        window = min(11, planes.shape[axis])
        weights = np.exp(-((np.arange(window) - (window - 1) / 2) ** 2) / (2 * 1.5**2))
        windows = np.lib.stride_tricks.sliding_window_view(planes, window, axis)
        planes = windows @ (weights / weights.sum())
    return planes


def halve(planes):
    height, width, channels = planes.shape
    planes = np.pad(planes, [(0, height % 2), (0, width % 2), (0, 0)], mode="edge")
    return planes.reshape(-(-height // 2), 2, -(-width // 2), 2, channels).mean(axis=(1, 3))


def expected_terms(x, y):
    """Of the five scales, per channel, by the definition in float64: `[5, C]`."""
    x, y, terms = x.astype(np.float64), y.astype(np.float64), []
    for scale in range(5):
        if scale:
            x, y = halve(x), halve(y)
        mean_x, mean_y = blur(x), blur(y)
        covariance = blur(x * y) - mean_x * mean_y
        variances = blur(x * x) - mean_x**2 + blur(y * y) - mean_y**2
        term = (2 * covariance + 0.03**2) / (variances + 0.03**2)
        if scale == 4:
            term *= (2 * mean_x * mean_y + 0.01**2) / (mean_x**2 + mean_y**2 + 0.01**2)
        terms.append(term.mean(axis=(0, 1)))
    return np.array(terms)


def evaluate(function, original, distorted):
    """A value for each picture. Compiled on JAX: there, each operation alone takes longer."""
    if keras.backend.backend() == "jax":
        import jax

        function = jax.jit(function)
    return ops.convert_to_numpy(function(original, distorted))


def gradient(original, distorted):
    """Of the dissimilarity, at the distorted picture."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        distorted = tf.constant(distorted)
        with tf.GradientTape() as tape:
            tape.watch(distorted)
            value = similarity.dissimilarity(original, distorted)
        return tape.gradient(value, distorted).numpy()
    return evaluate(_jax_gradient(), original, distorted)


@functools.cache
def _jax_gradient():
    import jax

    return jax.grad(similarity.dissimilarity, argnums=1)


class MsSsimTest(parameterized.TestCase):
    @parameterized.parameters((161, 161), (200, 333), (176, 208), (48, 64))
    def test_twins_are_equal(self, height, width):
        picture = make_picture(height, width)
        for distorted in (distort(picture, 0.02), distort(picture, 0.2), 1 - picture):
            twin = evaluate(similarity.ms_ssim, picture, distorted)
            self.assertAlmostEqual(twin, definition.ms_ssim(picture, distorted), delta=1e-5)

    # 139 is the least side whose windows take two blocks of 128.
    @parameterized.parameters((161, 161), (139, 333))
    def test_is_the_definition(self, height, width):
        picture = make_picture(height, width)
        for amount in (0.01, 0.1, 0.4):
            distorted = distort(picture, amount)
            terms = expected_terms(picture, distorted)
            expected = np.prod(terms.clip(0) ** WEIGHTS[:, None], axis=0).mean()
            self.assertAlmostEqual(
                evaluate(similarity.ms_ssim, picture, distorted), expected, delta=1e-5
            )

    @pytest.mark.tensorflow
    @parameterized.parameters((161, 161), (200, 333), (176, 208))
    def test_is_what_tensorflow_computes(self, height, width):
        tf = pytest.importorskip("tensorflow")
        picture = make_picture(height, width)
        for distorted in (distort(picture, 0.02), distort(picture, 0.2), 1 - picture):
            self.assertAlmostEqual(
                evaluate(similarity.ms_ssim, picture, distorted),
                float(tf.image.ssim_multiscale(picture, distorted, 1.0)),
                delta=1e-4,
            )

    def test_equal_pictures_give_one(self):
        for picture in (make_picture(161, 161), np.zeros((161, 161, 3), np.float32)):
            self.assertAlmostEqual(evaluate(similarity.ms_ssim, picture, picture), 1.0, places=6)

    def test_opposite_pictures_give_zero(self):
        picture = make_picture(161, 161)
        self.assertEqual(evaluate(similarity.ms_ssim, picture, 1 - picture), 0.0)


class DissimilarityTest(parameterized.TestCase):
    @parameterized.product(kind=PAIRS, side=(16, 64))
    def test_is_finite_with_a_finite_gradient(self, kind, side):
        original, distorted = make_pair(kind, side)
        value = evaluate(similarity.dissimilarity, original, distorted)
        self.assertTrue(-1e-6 <= value <= 2.0, value)
        slope = gradient(original, distorted)
        self.assertTrue(np.all(np.isfinite(slope)))

    @parameterized.parameters((16, 16), (64, 64))
    def test_is_the_weighted_sum_over_scales(self, height, width):
        picture = make_picture(height, width)
        for distorted in (distort(picture, 0.1), 1 - picture):
            terms = expected_terms(picture, distorted)
            expected = np.average((1 - terms).mean(axis=1), weights=WEIGHTS)
            self.assertAlmostEqual(
                evaluate(similarity.dissimilarity, picture, distorted), expected, delta=1e-5
            )

    def test_one_original_serves_many_reconstructions(self):
        pictures = np.stack([make_picture(16, 16, seed) for seed in (1, 2)])
        distorted = np.stack([distort(pictures, amount) for amount in (0.02, 0.1, 0.3)], axis=1)
        together = evaluate(similarity.dissimilarity, pictures[:, None], distorted)
        self.assertEqual(together.shape, (2, 3))
        for i, j in np.ndindex(2, 3):
            alone = evaluate(similarity.dissimilarity, pictures[i], distorted[i, j])
            self.assertAlmostEqual(together[i, j], alone, places=5)

    def test_is_close_to_what_ms_ssim_lacks_for_small_distortions(self):
        picture = make_picture(161, 161)
        for amount, tolerance in ((0.01, 0.01), (0.04, 0.1)):
            distorted = distort(picture, amount)
            lacking = 1 - evaluate(similarity.ms_ssim, picture, distorted)
            value = evaluate(similarity.dissimilarity, picture, distorted)
            self.assertAlmostEqual(value / lacking, 1.0, delta=tolerance)

    def test_moves_away_from_the_opposite(self):
        # Where 1 - MS-SSIM is flat.
        original, opposite = make_pair("negative", 64)
        slope = gradient(original, opposite)
        nearer = opposite - 0.01 * slope / np.abs(slope).max()
        self.assertLess(
            evaluate(similarity.dissimilarity, original, nearer),
            evaluate(similarity.dissimilarity, original, opposite),
        )


if __name__ == "__main__":
    absltest.main()
