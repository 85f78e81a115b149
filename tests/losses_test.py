"""Tests for rnn_codec/losses.py."""

from absl.testing import absltest, parameterized
import keras
from keras import ops
import numpy as np

from rnn_codec import losses


def make_pictures(batch=2, side=32):
    """Coloured waves with grain, in [-1, 1]: `[B, 1, H, W, 3]`."""
    rng = np.random.default_rng(1)
    waves = np.sin(np.arange(side) * rng.uniform(0.1, 1.0, (batch, 3, 1)))
    planes = waves[..., None] * np.roll(waves, 1, axis=1)[..., None, :]  # [B, 3, H, W]
    pictures = 0.4 * np.moveaxis(planes, 1, -1) + rng.normal(0.0, 0.1, (batch, side, side, 3))
    pictures += np.array([0.4, -0.2, 0.0])  # reddish
    return pictures.clip(-1.0, 1.0).astype(np.float32)[:, None]


def with_noise(pictures, *amounts):
    """One reconstruction for each amount of noise: `[B, N, H, W, 3]`."""
    noise = np.random.default_rng(2).normal(size=pictures.shape)
    scales = np.reshape(amounts, (1, -1, 1, 1, 1))
    return (pictures + scales * noise).astype(np.float32)


def evaluate(loss, original, reconstructions):
    return ops.convert_to_numpy(loss(ops.convert_to_tensor(original), reconstructions))


class LossTest(parameterized.TestCase):
    @parameterized.parameters(*losses.LOSSES)
    def test_gives_one_figure_for_each_iteration_and_less_for_better_ones(self, name):
        original = make_pictures()
        figures = evaluate(
            losses.LOSSES[name], original, with_noise(original, 0.5, 0.2, 0.05, 0.01)
        )
        self.assertEqual(figures.shape, (4,))
        self.assertTrue(np.all(np.diff(figures) < 0), figures)

    def test_l1_is_the_mean_absolute_residual(self):
        original = make_pictures()
        reconstructions = with_noise(original, 0.5, 0.1, 0.0)
        expected = [np.mean(np.abs(original[:, 0] - reconstructions[:, i])) for i in range(3)]
        np.testing.assert_allclose(
            evaluate(losses.l1, original, reconstructions), expected, rtol=1e-5
        )


class PerceptualTest(parameterized.TestCase):
    def test_is_finite_for_the_best_and_the_worst(self):
        original = make_pictures()
        reconstructions = np.concatenate([original, -original, 0 * original, 100 * original], axis=1)
        figures = evaluate(losses.perceptual, original, reconstructions)
        self.assertTrue(np.all(np.isfinite(figures)), figures)
        self.assertLess(figures[0], -10.0)

    def test_a_step_from_the_best_is_finite(self):
        original = make_pictures()
        picture = keras.Variable(original)

        class Model(keras.Model):
            pass

    def test_sees_that_colours_are_exchanged(self):
        # Structure hardly tells: the same waves and grain in each channel, about other means.
        original = make_pictures()
        means = original.mean(axis=(2, 3), keepdims=True)
        exchanged = original - means + means[..., [1, 0, 2]]
        grey = original - means + means.mean(axis=-1, keepdims=True)
        noisy, swapped, faded = evaluate(
            losses.perceptual,
            original,
            np.concatenate([with_noise(original, 0.1), exchanged, grey], axis=1),
        )
        print(noisy, swapped, faded)


if __name__ == "__main__":
    absltest.main()
