"""Tests for rnn_codec/embedded/: network, layers, rate, losses, reference.

`golden/embedded_reference.npz` was made by the torch reference from random weights.
"""

import functools

from absl.testing import absltest, parameterized
import keras
from keras import ops
import numpy as np
import pytest
import testing

from rnn_codec.embedded import layers, losses, network, reference, revival
from rnn_codec.embedded.rate import RateEstimate
from rnn_codec.embedded.training_model import TrainingModel

POINTS = ("plane0_sent12", "plane0_sent5", "plane1_sent12", "plane2_sent7", "plane2_sent12")


@functools.cache
def vectors():
    with np.load(testing.GOLDEN / "embedded_reference.npz") as file:
        return dict(file)


def make_network():
    """The reference's network and estimate of the rate."""
    prefix = "weights/"
    arrays = {k[len(prefix) :]: v for k, v in vectors().items() if k.startswith(prefix)}
    config, weights, rate_weights = reference.from_reference(arrays)
    net = network.EmbeddedNetwork.create(config)
    rate = RateEstimate(config.iterations, config.latents, name="rate")
    rate.build((None, None, None, config.latents))
    for part, values in ((net, weights), (rate, rate_weights)):
        assert {v.path for v in part.weights} == set(values)
        for variable in part.weights:
            variable.assign(values[variable.path])
    return net, rate


def pictures():
    return ops.convert_to_tensor(vectors()["picture"].astype(np.float32) / 127.5 - 1.0)


def sent_at(point, count=2):
    """Plane and channels sent of a point's name, as tensors of a batch."""
    plane, sent = point.removeprefix("plane").split("_sent")
    return tuple(ops.convert_to_tensor(np.full(count, int(v), np.int32)) for v in (plane, sent))


class ReferenceTest(parameterized.TestCase):
    def test_latents(self):
        net, _ = make_network()
        latents = ops.convert_to_numpy(net.analyse(pictures()))
        np.testing.assert_allclose(latents, vectors()["latents"], atol=1e-4)

    @parameterized.parameters(*POINTS)
    def test_indices_differ_only_where_a_latent_lies_on_an_edge(self, point):
        net, _ = make_network()
        plane, sent = sent_at(point)
        known = network.planes_known(plane, sent, net.config.latents)
        latents = ops.convert_to_tensor(vectors()["latents"])
        scaled = net.quantiser.scaled(latents, known)
        index = network.truncate(scaled) * ops.cast(known >= 0, "float32")[:, None, None, :]
        scaled, index = ops.convert_to_numpy(scaled), ops.convert_to_numpy(index)
        differs = index != vectors()[f"{point}_index"]
        self.assertTrue(np.all(np.abs(scaled - np.rint(scaled))[differs] < 1e-3))

    @parameterized.parameters(*POINTS)
    def test_pictures_of_given_indices(self, point):
        net, _ = make_network()
        index = ops.convert_to_tensor(vectors()[f"{point}_index"].astype(np.float32))
        plane, sent = sent_at(point)
        known = network.planes_known(plane, sent, net.config.latents)
        picture = ops.convert_to_numpy(net.reconstruct(index, known, plane, sent))
        np.testing.assert_allclose(picture, vectors()[f"{point}_picture"], atol=1e-4)

    @parameterized.parameters(*POINTS)
    def test_estimated_rate(self, point):
        net, rate = make_network()
        plane, sent = sent_at(point)
        known = network.planes_known(plane, sent, net.config.latents)
        index = ops.convert_to_tensor(vectors()[f"{point}_index"].astype(np.float32))
        bits = rate(index, index=index, known=known, plane=plane)
        np.testing.assert_allclose(ops.convert_to_numpy(bits), vectors()[f"{point}_rate"], 1e-3)

    def test_distortion(self):
        planes = np.array([1, 2], np.int32)
        original, restored = (
            ops.convert_to_tensor(vectors()[f"loss_{name}"].astype(np.float32))
            for name in ("original", "restored")
        )
        whole, no_rate = ops.ones((2,)), ops.zeros((2,))
        loss, _ = losses.rate_distortion(
            original, restored, no_rate, ops.convert_to_tensor(planes), whole
        )
        expected = vectors()["loss_log_distortion"]
        # Weights are normalised here, and variances summed before they are blurred.
        np.testing.assert_allclose(ops.convert_to_numpy(loss), expected, atol=1e-3)

    @pytest.mark.tensorflow
    def test_gradients_past_the_quantiser(self):
        import tensorflow as tf

        net, rate = make_network()
        model = TrainingModel(net, rate)
        planes, sent = np.array([1, 2], np.int32), np.array([12, 7], np.int32)
        inputs = {"pictures": vectors()["picture"], "plane": planes, "sent": sent}
        with tf.GradientTape() as tape:
            outputs = model(inputs, training=True)
            value = tf.reduce_mean(outputs["restored"] ** 2) + tf.reduce_mean(outputs["rate"])
        quantiser = net.quantiser
        variables = (quantiser.log_scale, net.block_analysis.log_scale, quantiser.offset)
        gradients = tape.gradient(value, [variable.value for variable in variables])
        for name, gradient in zip(
            ("log_scale", "block_analysis_log_scale", "offset"), gradients, strict=True
        ):
            expected = vectors()[f"gradient/{name}"]
            # Probabilities in the tails are differences of numbers near 1, a few roundings apart.
            np.testing.assert_allclose(gradient, expected, atol=0.02 * np.abs(expected).max())


class NestedTest(absltest.TestCase):
    def test_each_plane_refines_the_one_before(self):
        net, _ = make_network()
        latents = ops.convert_to_tensor(vectors()["latents"])
        index = []
        for plane in range(3):
            known = np.full((2, 12), plane, np.int32)
            scaled = net.quantiser.scaled(latents, ops.convert_to_tensor(known))
            index.append(ops.convert_to_numpy(network.truncate(scaled)))
        for coarse, fine in zip(index, index[1:]):
            np.testing.assert_array_equal(np.sign(fine) * (np.abs(fine) // 2), coarse)

    def test_the_first_channels_sent_are_a_plane_ahead(self):
        plane, sent = (np.array(values, np.int32) for values in ([2, 0], [3, 4]))
        known = network.planes_known(*map(ops.convert_to_tensor, (plane, sent)), latents=5)
        expected = [[2, 2, 2, 1, 1], [0, 0, 0, 0, -1]]
        np.testing.assert_array_equal(ops.convert_to_numpy(known), expected)


class BorderTest(parameterized.TestCase):
    @parameterized.parameters((1, 1), (3, 1), (5, 2), (9, 4))
    def test_a_flat_picture_stays_flat_to_its_corners(self, kernel, strides):
        layer = layers.EdgeConv2D(4, kernel, strides)
        flat = np.broadcast_to(np.float32([0.3, -0.2, 0.7]), (1, 16, 32, 3))
        outputs = ops.convert_to_numpy(layer(ops.convert_to_tensor(flat)))
        self.assertEqual(outputs.shape, (1, 16 // strides, 32 // strides, 4))
        np.testing.assert_allclose(
            outputs, np.broadcast_to(outputs[:, :1, :1], outputs.shape), 1e-5
        )

    def test_the_edge_is_repeated(self):
        rows = ops.convert_to_tensor(np.arange(6, dtype=np.float32).reshape(1, 2, 3, 1))
        expected = np.pad(np.arange(6).reshape(2, 3), 2, "edge")
        padded = ops.convert_to_numpy(layers.pad_edge(rows, 2))
        np.testing.assert_array_equal(padded[0, :, :, 0], expected)


class RevivalTest(absltest.TestCase):
    def test_a_dead_channel_lives_again_and_the_others_stay(self):
        net, rate = make_network()
        scale = ops.convert_to_numpy(net.quantiser.log_scale).copy()
        scale[[2, 7]] = -30.0
        net.quantiser.log_scale.assign(scale)
        dead = revival.active_shares(net, [ops.convert_to_numpy(pictures())]) == 0
        np.testing.assert_array_equal(np.flatnonzero(dead), [2, 7])
        before = ops.convert_to_numpy(net.analyse(pictures()))

        class Start:
            basis = np.eye(layers.SAMPLES, dtype=np.float32)[::-1]

            def visibility(self, rows):
                return np.zeros(len(rows), np.float32)

        self.assertEqual(revival.revive(net, rate, dead, Start()), 2)
        after = ops.convert_to_numpy(net.analyse(pictures()))
        np.testing.assert_allclose(after[..., ~dead], before[..., ~dead], atol=1e-5)
        kernel = layers.block_matrix(ops.convert_to_numpy(net.block_synthesis.kernel))
        np.testing.assert_allclose(kernel[dead] @ kernel[~dead].T, 0.0, atol=1e-4)
        np.testing.assert_allclose(np.linalg.norm(kernel[dead], axis=1), 1.0, atol=1e-5)
        self.assertGreater(np.abs(after[..., dead]).max(), 0.0)


class LossTest(parameterized.TestCase):
    def test_a_cut_inside_a_plane_is_worth_a_rate_between(self):
        planes, shares = np.array([3, 3, 3], np.int32), np.float32([0.0, 0.5, 1.0])
        rates = losses.wanted_rate(*map(ops.convert_to_tensor, (planes, shares)))
        low, high = losses.RATES[2], losses.RATES[3]
        expected = [low, np.sqrt(low * high), high]
        np.testing.assert_allclose(ops.convert_to_numpy(rates), expected, 1e-5)

    def test_more_planes_than_the_tables_list_go_on_at_the_last_ratio(self):
        self.assertEqual(losses.by_plane((1.0, 2.0), planes=4), (1.0, 2.0, 4.0, 8.0))

    @parameterized.parameters("float32", "mixed_bfloat16")
    def test_the_estimate_sees_indices_that_half_precision_cannot_hold(self, policy):
        keras.config.set_dtype_policy(policy)
        self.addCleanup(keras.config.set_dtype_policy, "float32")
        rate = RateEstimate(2, 1, name="rate")
        rate.build((None, None, None, 1))
        bits = []
        for value in (1001.0, 1002.0):  # one number in bfloat16
            index = ops.full((1, 1, 1, 1), value)
            known, plane = ops.zeros((1, 1), dtype="int32"), ops.zeros((1,), dtype="int32")
            rate.log_scale.assign(np.full((2, 1), 6.0, np.float32))
            bits.append(float(rate(index, index=index, known=known, plane=plane)[0]))
        self.assertLess(bits[0], bits[1])


if __name__ == "__main__":
    absltest.main()
