"""Tests for rnn_codec/recurrent/losses.py."""

from absl.testing import absltest, parameterized
import keras
from keras import ops
import numpy as np

from rnn_codec.recurrent import losses
from rnn_codec.training import similarity


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
    """Figures for each iteration. Compiled on JAX: there, each operation alone takes longer."""
    if keras.backend.backend() == "jax":
        import jax

        loss = jax.jit(loss)
    return ops.convert_to_numpy(loss(original, reconstructions))


class Picture(keras.Model):
    """What training would make of a picture whose pixels are its weights."""

    def __init__(self, pixels):
        super().__init__()
        self.pixels = self.add_weight(shape=pixels.shape, initializer="zeros")
        self.pixels.assign(pixels)

    def call(self, inputs):
        return ops.convert_to_tensor(self.pixels)


class LossTest(parameterized.TestCase):
    @parameterized.parameters(*losses.LOSSES)
    def test_gives_a_figure_for_each_iteration_and_a_lower_one_for_a_better_picture(self, name):
        original = make_pictures()
        reconstructions = with_noise(original, 0.5, 0.2, 0.05, 0.01)
        figures = evaluate(losses.LOSSES[name], original, reconstructions)
        self.assertEqual(figures.shape, (4,))
        self.assertTrue(np.all(np.diff(figures) < 0), figures)

    @parameterized.parameters(*losses.LOSSES)
    def test_a_step_from_the_perfect_reconstruction_is_finite(self, name):
        original = make_pictures()
        model = Picture(original)
        model.compile(keras.optimizers.SGD(0.1), loss=losses.LOSSES[name])
        model.train_on_batch(original, original)
        pixels = ops.convert_to_numpy(model.pixels)
        np.testing.assert_allclose(pixels, original, atol=0.1)

    def test_l1_is_the_mean_absolute_residual(self):
        original = make_pictures()
        reconstructions = with_noise(original, 0.5, 0.1, 0.0)
        expected = [np.mean(np.abs(original[:, 0] - reconstructions[:, i])) for i in range(3)]
        figures = evaluate(losses.l1, original, reconstructions)
        np.testing.assert_allclose(figures, expected, rtol=1e-5)


class PerceptualTest(parameterized.TestCase):
    def test_is_finite_for_the_best_and_the_worst(self):
        original = make_pictures()
        others = [-original, 0 * original, 100 * original]
        figures = evaluate(losses.perceptual, original, np.concatenate([original, *others], axis=1))
        self.assertTrue(np.all(np.isfinite(figures)), figures)
        self.assertLess(figures[0], -6.0)
        self.assertGreater(min(figures[1:]), -1.0)

    def test_sees_colours_that_structure_does_not(self):
        # Each channel keeps its waves and grain and takes the mean of another one.
        original = make_pictures()
        means = original.mean(axis=(2, 3), keepdims=True)
        exchanged = original - means + means[..., [1, 0, 2]]
        grey = original - means + means.mean(axis=-1, keepdims=True)
        noisy = with_noise(original, 0.1, 0.05)
        reconstructions = np.concatenate([exchanged, grey, noisy], axis=1)
        structure = evaluate(
            similarity.dissimilarity, 0.5 + 0.5 * original, 0.5 + 0.5 * reconstructions
        )
        of_exchanged, of_grey, of_noise, _ = structure.mean(axis=0)
        self.assertLess(max(of_exchanged, of_grey), of_noise)

        of_exchanged, of_grey, of_noise, _ = evaluate(losses.perceptual, original, reconstructions)
        self.assertGreater(of_grey, of_noise + 1.0)  # logarithms: more than twice
        self.assertGreater(of_exchanged, of_grey)


if __name__ == "__main__":
    absltest.main()
