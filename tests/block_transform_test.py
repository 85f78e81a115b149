"""Tests for rnn_codec/recurrent/block_transform.py."""

from absl.testing import absltest, parameterized
from keras import ops
import numpy as np
import pytest

from rnn_codec.layers.common import space_to_depth
from rnn_codec.recurrent import block_transform

pytestmark = pytest.mark.network

ITERATIONS, ATOMS = 3, 5


def make_picture(seed=0, height=32, width=48):
    return np.random.default_rng(seed).uniform(-1, 1, (2, height, width, 3)).astype(np.float32)


def to_numpy(tensor):
    return ops.convert_to_numpy(tensor)


class SpaceToDepthTest(parameterized.TestCase):
    @parameterized.parameters(1, 2, 16)
    def test_is_undone_by_depth_to_space(self, block):
        picture = make_picture()
        blocks = space_to_depth(picture, block)
        self.assertEqual(blocks.shape, (2, 32 // block, 48 // block, 3 * block**2))
        restored = ops.depth_to_space(blocks, block, "channels_last") if block > 1 else blocks
        np.testing.assert_array_equal(to_numpy(restored), picture)


class TransformTest(parameterized.TestCase):
    def test_analysis_is_linear_in_the_residual_and_its_own_for_each_iteration(self):
        analysis = block_transform.BlockAnalysis(ITERATIONS, ATOMS)
        known = np.random.default_rng(1).normal(size=(2, 2, 3, 4)).astype(np.float32)
        first, second = make_picture(1), make_picture(2)
        results = []
        for index in range(ITERATIONS):
            apart = [to_numpy(analysis(r, known, index=index)) for r in (first, second)]
            together = to_numpy(analysis(first + 2 * second, known, index=index))
            self.assertEqual(together.shape, (2, 2, 3, ATOMS))
            np.testing.assert_allclose(together, apart[0] + 2 * apart[1], atol=1e-4)
            results.append(together)
        self.assertFalse(np.allclose(results[0], results[1]))

    def test_zero_bits_add_nothing(self):
        synthesis = block_transform.BlockSynthesis(ITERATIONS, ATOMS)
        known = np.ones((1, 2, 2, 4), np.float32)
        bits = np.ones((1, 2, 2, 6), np.float32)
        bits[0, 0, 0] = 0.0
        added = to_numpy(synthesis(bits, known, index=1))
        self.assertEqual(added.shape, (1, 2, 2, 768))
        np.testing.assert_array_equal(added[0, 0, 0], 0.0)
        self.assertGreater(np.abs(added[0, 1, 1]).max(), 0.0)

    def test_what_is_known_sets_the_length_of_a_step(self):
        synthesis = block_transform.BlockSynthesis(ITERATIONS, ATOMS)
        bits = np.ones((1, 1, 1, 6), np.float32)
        known = np.ones((1, 1, 1, 4), np.float32)
        synthesis(bits, known, index=0)
        synthesis.step.kernel.assign(np.full(synthesis.step.kernel.shape, 0.0))
        synthesis.step.bias.assign(np.full(synthesis.step.bias.shape, 0.5))
        one = to_numpy(synthesis(bits, known, index=0))
        # softplus(0.5 + 4 * 0.25) / softplus(0.5)
        synthesis.step.kernel.assign(np.full(synthesis.step.kernel.shape, 0.25))
        longer = to_numpy(synthesis(bits, known, index=0))
        ratio = np.log1p(np.exp(1.5)) / np.log1p(np.exp(0.5))
        np.testing.assert_allclose(longer, ratio * one, rtol=1e-5, atol=1e-7)


class VisibleErrorTest(absltest.TestCase):
    def test_of_flat_blocks(self):
        # No variance: (d^2 + 3 d^2) / 0.0036 for a shift by d.
        image = np.zeros((1, 16, 32, 3), np.float32)
        shifted = image.copy()
        shifted[:, :, 16:] = 0.03
        error = to_numpy(block_transform.visible_error(image, shifted))
        np.testing.assert_allclose(error[0, 0, :, 0], [0.0, 4 * 0.03**2 / 0.06**2], rtol=1e-5)

    def test_detail_hides_errors(self):
        rng = np.random.default_rng(0)
        noise = rng.normal(0, 0.02, (1, 16, 16, 3)).astype(np.float32)
        flat = np.zeros((1, 16, 16, 3), np.float32)
        detail = rng.uniform(-0.9, 0.9, flat.shape).astype(np.float32)
        errors = [
            to_numpy(block_transform.visible_error(image, image + noise)).item()
            for image in (flat, detail)
        ]
        self.assertLess(20 * errors[1], errors[0])

    def test_outside_of_the_range_counts_as_at_its_end(self):
        image = np.ones((1, 16, 16, 3), np.float32)
        error = block_transform.visible_error(image, image + 0.5)
        np.testing.assert_array_equal(to_numpy(error), 0.0)


if __name__ == "__main__":
    absltest.main()
