"""Tests for rnn_codec/pictures/metrics.py and rnn_codec/pictures/similarity.py."""

import math

from absl.testing import absltest, parameterized
import numpy as np
import pytest
import testing

from rnn_codec.pictures import metrics, similarity


def add_noise(array, sigma, seed=0):
    noise = np.random.default_rng(seed).normal(0, sigma, array.shape)
    return np.clip(np.rint(array + noise), 0, 255).astype(np.uint8)


class PsnrTest(parameterized.TestCase):
    @parameterized.parameters((1, 48.1308), (10, 28.1308), (255, 0.0))
    def test_known_differences(self, difference, expected):
        black = np.zeros((5, 7, 3), np.uint8)
        self.assertAlmostEqual(metrics.psnr_db(black, black + np.uint8(difference)), expected, 4)

    def test_error_is_the_mean_over_all_samples(self):
        black = np.zeros((2, 2, 3), np.uint8)
        one = black.copy()
        one[1, 1, 2] = 12
        self.assertAlmostEqual(metrics.psnr_db(black, one), 10 * math.log10(255**2 / (144 / 12)))

    def test_differences_below_zero_do_not_wrap(self):
        dark, light = np.full((3, 3), 10, np.uint8), np.full((3, 3), 250, np.uint8)
        self.assertEqual(metrics.psnr_db(dark, light), metrics.psnr_db(light, dark))
        self.assertLess(metrics.psnr_db(dark, light), 1)

    def test_equal_pictures_are_infinitely_close(self):
        array = testing.make_array(5, 7)
        self.assertEqual(metrics.psnr_db(array, array.copy()), math.inf)

    def test_large_pictures_lose_no_precision(self):
        # A sum in float32 stops growing long before this many pixels.
        black = np.zeros((3000, 3000), np.uint8)
        self.assertAlmostEqual(metrics.psnr_db(black, black + np.uint8(255)), 0.0, 9)


class MsSsimTest(parameterized.TestCase):
    @parameterized.parameters("L", "RGB")
    def test_equal_pictures_have_one(self, mode):
        array = testing.make_array(161, 161, mode)
        self.assertAlmostEqual(metrics.ms_ssim(array, array.copy()), 1.0, 5)

    @parameterized.parameters((160, 161), (161, 160), (1, 1))
    def test_small_pictures_have_none(self, height, width):
        array = testing.make_array(height, width)
        self.assertIsNone(metrics.ms_ssim(array, array))

    @parameterized.parameters((1024, 161), (1201, 200), (1800, 170))
    def test_of_bands_is_of_the_whole(self, height, width):
        original = testing.make_array(height, width)
        restored = add_noise(original, 20)
        restored[600:] = add_noise(restored[600:], 30)  # bands are not alike
        pair = (pixels.astype(np.float32) / 255 for pixels in (original, restored))
        expected = float(similarity.ms_ssim(*pair))
        self.assertAlmostEqual(metrics.ms_ssim(original, restored), expected, places=5)

    def test_falls_with_noise(self):
        array = testing.make_array(161, 161)
        figures = [metrics.ms_ssim(array, add_noise(array, sigma)) for sigma in (1, 10, 40, 80)]
        self.assertEqual(figures, sorted(figures, reverse=True))
        self.assertBetween(figures[-1], 0.1, 0.9)
        self.assertIsInstance(figures[0], float)

    def test_is_the_mean_of_the_channels(self):
        array = testing.make_array(161, 161)
        noisy = add_noise(array, 30)
        channels = [metrics.ms_ssim(array[..., i], noisy[..., i]) for i in range(3)]
        self.assertAlmostEqual(metrics.ms_ssim(array, noisy), np.mean(channels), 5)

    @parameterized.parameters(((161, 161), 20), ((192, 256), 60), ((175, 333), 5))
    @pytest.mark.tensorflow
    @pytest.mark.network
    def test_equals_tensorflows(self, size, sigma):
        import tensorflow as tf

        array = testing.make_array(*size)
        noisy = add_noise(array, sigma)
        expected = tf.image.ssim_multiscale(array[None], noisy[None], 255).numpy()[0]
        self.assertAlmostEqual(metrics.ms_ssim(array, noisy), expected, 4)


if __name__ == "__main__":
    absltest.main()
