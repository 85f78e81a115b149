"""Tests for rnn_codec/evaluation/measures.py: each measure against a second implementation."""

import math

from absl.testing import absltest, parameterized
from keras import ops
import numpy as np
import pytest
from skimage import color
import testing

from rnn_codec.evaluation import measures
from rnn_codec.pictures import metrics
from rnn_codec.training import ssimulacra2

# The luminance table of JPEG, from which the weights of PSNR-HVS-M follow.
JPEG_TABLE = np.array([
    [16, 11, 10, 16, 24, 40, 51, 61],
    [12, 12, 14, 19, 26, 58, 60, 55],
    [14, 13, 16, 24, 40, 57, 69, 56],
    [14, 17, 22, 29, 51, 87, 80, 62],
    [18, 22, 37, 56, 68, 109, 103, 77],
    [24, 35, 55, 64, 81, 104, 113, 92],
    [49, 64, 78, 87, 103, 121, 120, 101],
    [72, 92, 95, 98, 112, 100, 103, 99],
])  # fmt: skip

# Sharma, Wu and Dalal, 2005, "The CIEDE2000 color-difference formula: implementation notes,
# supplementary test data, and mathematical observations", table 1: pairs of Lab, difference.
SHARMA_PAIRS = (
    ((50.0000, 2.6772, -79.7751), (50.0000, 0.0000, -82.7485), 2.0425),
    ((50.0000, 3.1571, -77.2803), (50.0000, 0.0000, -82.7485), 2.8615),
    ((50.0000, 2.8361, -74.0200), (50.0000, 0.0000, -82.7485), 3.4412),
    ((50.0000, -1.3802, -84.2814), (50.0000, 0.0000, -82.7485), 1.0000),
    ((50.0000, 2.4900, -0.0010), (50.0000, -2.4900, 0.0009), 7.1792),
    ((50.0000, 2.4900, -0.0010), (50.0000, -2.4900, 0.0011), 7.2195),
    ((50.0000, 2.5000, 0.0000), (73.0000, 25.0000, -18.0000), 27.1492),
    ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
    ((22.7233, 20.0904, -46.6940), (23.0331, 14.9730, -42.5619), 2.0373),
    ((2.0776, 0.0795, -1.1350), (0.9033, -0.0636, -0.5514), 0.9082),
)


def make_pair(height, width, sigma=8.0):
    original = testing.make_array(height, width)
    noise = np.random.default_rng(1).normal(0, sigma, original.shape)
    return original, np.clip(np.rint(original + noise), 0, 255).astype(np.uint8)


def compare(original, restored):
    return measures.Original(original).compare(restored)


def make_dct():
    """The orthonormal 8-point DCT as a matrix."""
    k, n = np.mgrid[:8, :8]
    return np.where(k == 0, math.sqrt(1 / 8), math.sqrt(2 / 8)) * np.cos(
        math.pi * (2 * n + 1) * k / 16
    )


def psnr_hvs_m_by_formula(original, restored):
    """Ponomarenko et al., 2007, "On between-coefficient contrast masking of DCT basis functions".

    Of luma 0 to 255, block by block.
    """
    dct, sum_of_squares = make_dct(), 0.0
    weights = 25.735 / JPEG_TABLE  # their normalisation of the table
    masking = (10.0 / JPEG_TABLE) ** 2
    height, width = original.shape
    for top in range(0, height, 8):
        for left in range(0, width, 8):
            blocks = [y[top : top + 8, left : left + 8] for y in (original, restored)]
            spectra = [dct @ block @ dct.T for block in blocks]
            mask = max(_mask(*pair, masking) for pair in zip(blocks, spectra))
            difference = np.abs(spectra[0] - spectra[1])
            threshold = mask / masking
            threshold[0, 0] = 0.0  # the mean is not masked
            visible = np.maximum(difference - threshold, 0.0)
            sum_of_squares += np.sum((visible * weights) ** 2)
    return 10 * math.log10(255**2 / (sum_of_squares / original.size))


def _mask(block, spectrum, masking):
    energy = np.sum((spectrum**2 * masking).ravel()[1:])
    quarters = [block[i : i + 4, j : j + 4] for i in (0, 4) for j in (0, 4)]
    whole = 64 * np.var(block, ddof=1)
    ratio = sum(16 * np.var(quarter, ddof=1) for quarter in quarters) / whole if whole else 0.0
    return math.sqrt(energy * ratio / 16 / 64)


@pytest.mark.network
class CrossCheckTest(parameterized.TestCase):
    def test_psnr_is_the_formula(self):
        original, restored = make_pair(40, 56)
        error = np.mean((original.astype(float) - restored) ** 2)
        expected = 10 * math.log10(255**2 / error)
        self.assertAlmostEqual(compare(original, restored)["psnr_rgb_db"], expected, 5)

    @pytest.mark.tensorflow
    def test_ms_ssim_is_that_of_tensorflow(self):
        import tensorflow as tf

        original, restored = make_pair(165, 190)
        values = compare(original, restored)
        luma = [y @ [0.299, 0.587, 0.114] for y in (original, restored)]
        luma = [np.floor(y + 0.5)[..., None].astype(np.uint8) for y in luma]
        for name, pair in (("ms_ssim_rgb", (original, restored)), ("ms_ssim_luma", luma)):
            expected = float(tf.image.ssim_multiscale(*pair, max_val=255))
            self.assertAlmostEqual(values[name], expected, 4)

    def test_ms_ssim_is_that_of_the_encoder(self):
        original, restored = make_pair(161, 170)
        expected = metrics.ms_ssim(original, restored)
        self.assertAlmostEqual(compare(original, restored)["ms_ssim_rgb"], expected, 6)

    def test_psnr_hvs_m_is_the_formula_of_its_paper(self):
        original, restored = make_pair(40, 56)
        luma = [
            np.rint(16 + y.astype(float) @ np.array([65.481, 128.553, 24.966]) / 255)
            for y in (original, restored)
        ]
        expected = psnr_hvs_m_by_formula(*luma)
        self.assertAlmostEqual(compare(original, restored)["psnr_hvs_m_db"], expected, 3)

    @parameterized.parameters(*SHARMA_PAIRS)
    def test_ciede2000_of_published_pairs(self, first, second, expected):
        difference = color.deltaE_ciede2000(np.float32(first), np.float32(second))
        self.assertAlmostEqual(float(difference), expected, 3)

    def test_ciede2000_of_srgb_levels(self):
        # Of Lab (53.24, 80.09, 67.20) and (32.30, 79.19, -107.86): sRGB under D65.
        red, blue = (np.full((8, 8, 3), rgb, np.uint8) for rgb in ((255, 0, 0), (0, 0, 255)))
        values = compare(red, blue)
        self.assertAlmostEqual(values["ciede2000_mean"], 52.88, delta=0.02)
        self.assertAlmostEqual(values["ciede2000_p95"], 52.88, delta=0.02)


class OriginalTest(parameterized.TestCase):
    def test_equal_pictures(self):
        original, _ = make_pair(165, 168)
        values = compare(original, original.copy())
        self.assertEqual((values["psnr_rgb_db"], values["psnr_hvs_m_db"]), (100.0, 100.0))
        self.assertAlmostEqual(values["ms_ssim_rgb"], 1.0, 5)
        self.assertEqual((values["ciede2000_mean"], values["mean_error_r"]), (0.0, 0.0))

    @parameterized.parameters((160, 200, False), (200, 160, False), (161, 161, True))
    def test_pictures_too_small_for_five_scales_have_no_ms_ssim(self, height, width, is_measured):
        values = compare(*make_pair(height, width))
        self.assertEqual(values["ms_ssim_rgb"] is not None, is_measured)
        self.assertEqual(values["ms_ssim_luma"] is not None, is_measured)
        self.assertIsNotNone(values["ciede2000_mean"])

    @parameterized.parameters((7, 30), (30, 7), (1, 1))
    def test_pictures_without_a_whole_block_have_no_psnr_hvs_m(self, height, width):
        values = compare(*make_pair(height, width))
        self.assertIsNone(values["psnr_hvs_m_db"])
        self.assertGreater(values["psnr_rgb_db"], 0)

    def test_psnr_hvs_m_looks_at_whole_blocks(self):
        original, restored = make_pair(24, 32)
        whole = compare(original[:16, :24], restored[:16, :24])["psnr_hvs_m_db"]
        self.assertEqual(compare(original[:23, :31], restored[:23, :31])["psnr_hvs_m_db"], whole)

    def test_mean_error_is_signed_and_by_channel(self):
        original = np.full((9, 9, 3), 100, np.uint8)
        values = compare(original, original + np.array([3, 0, 255], np.uint8))  # 255 wraps to -1
        errors = [values[f"mean_error_{channel}"] for channel in "rgb"]
        self.assertEqual(errors, [3.0, 0.0, -1.0])

    def test_percentile_tells_of_a_small_area(self):
        original = np.full((20, 20, 3), 128, np.uint8)
        restored = original.copy()
        restored[:2] = (200, 60, 60)  # a tenth of the picture
        values = compare(original, restored)
        self.assertGreater(values["ciede2000_p95"], 8 * values["ciede2000_mean"])

    def test_a_lost_axis_of_colour_escapes_ms_ssim_but_not_ciede2000(self):
        # Foliage and brick: red and green differ, their sum has the structure.
        rows, columns = np.mgrid[:192, :192]
        structure = 128 + 40 * np.sin(rows / 5) + 40 * np.cos(columns / 6)
        hue = 25 * np.sin(columns / 40)
        original = np.stack([structure + hue, structure - hue, structure - 20], axis=-1)
        original = np.clip(np.rint(original), 0, 255).astype(np.uint8)
        restored = original.copy()
        restored[..., :2] = original[..., :2].mean(axis=-1, keepdims=True).round()
        values = compare(original, restored)
        self.assertGreater(values["ms_ssim_rgb"], 0.98)
        self.assertGreater(values["ms_ssim_luma"], 0.98)
        self.assertGreater(values["ciede2000_mean"], 10)

    def test_another_size_is_refused(self):
        with self.assertRaisesRegex(ValueError, r"Expected pixels of shape \(8, 9, 3\)"):
            compare(*(np.zeros((8, width, 3), np.uint8) for width in (9, 8)))


class Ssimulacra2Test(parameterized.TestCase):
    @parameterized.parameters(2.0, 8.0, 20.0)
    def test_it_is_about_what_the_differentiable_error_maps_to(self, sigma):
        original, restored = make_pair(256, 256, sigma)
        error = float(
            ops.convert_to_numpy(
                ssimulacra2.visible_error(
                    *(
                        ops.convert_to_tensor(p[None].astype(np.float32) / 255)
                        for p in (original, restored)
                    )
                )
            )[0]
        )
        # The mapping of the metric's author; without borders the error is a little another.
        curve = 2.326765642916932 * error - 0.020884521182843837 * error**2
        curve += 6.248496625763138e-05 * error**3
        expected = 100.0 - 10.0 * curve**0.6276336467831387
        score = compare(original, restored)["ssimulacra2"]
        self.assertAlmostEqual(score, expected, delta=5.0)

    def test_equal_pictures_have_100_and_tiny_ones_none(self):
        original, _ = make_pair(32, 32)
        self.assertEqual(compare(original, original)["ssimulacra2"], 100.0)
        self.assertIsNone(compare(original[:7], original[:7])["ssimulacra2"])


if __name__ == "__main__":
    absltest.main()
