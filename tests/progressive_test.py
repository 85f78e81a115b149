"""Tests for rnn_codec/recurrent/progressive.py and its compiled steps, on tiny networks."""

import collections
import contextlib
import dataclasses
import functools
import itertools
import math
import os
import tempfile
from unittest import mock

from absl.testing import absltest, parameterized
import keras
from keras import ops
import numpy as np
import pytest

from rnn_codec.recurrent import progressive
from rnn_codec.recurrent.block_transform import visible_error
from rnn_codec.recurrent.config import ARCHITECTURES, CELL_NAMES, RECONSTRUCTIONS, CodecConfig

pytestmark = pytest.mark.network

ITERATIONS = 3


def tiny_config(name, architecture="two_scale", cell="gru", reconstruction="one_shot", **kwargs):
    return CodecConfig(
        name,
        architecture,
        encoder_cell=cell,
        decoder_cell=cell,
        reconstruction=reconstruction,
        width=0.01,
        bits=4,
        iterations=ITERATIONS,
        **kwargs,
    )


PRODUCT = tiny_config("product", stochastic_bits=False, encoder_sees_image=True)
SCALED = dataclasses.replace(PRODUCT, name="scaled", reconstruction="residual_scaling")
# With what the default preset has beside: a block transform for each iteration, and blocks that are
# good enough; of these random weights' pictures some are.
BLOCKS = dataclasses.replace(
    PRODUCT,
    name="blocks",
    architecture="wide_two_scale",
    residual_scale=4.0,
    atoms=6,
    good_enough=0.9,
)
FAMILY = [
    tiny_config("_".join(choices), *choices)
    for choices in itertools.product(ARCHITECTURES, CELL_NAMES, RECONSTRUCTIONS)
]
PAPER = [config for config in FAMILY if config.name.startswith("stacked_residual_gru")]


def each(configs):
    return parameterized.named_parameters((config.name, config) for config in configs)


def make_network(config):
    """A network with random weights, also where training starts from zeros."""
    network = progressive.ProgressiveNetwork.create(config)
    rng = np.random.default_rng(1)
    for weight in network.trainable_variables:
        deviation = math.sqrt(2.0 / math.prod(weight.shape[:-1]))
        weight.assign(rng.normal(0.0, deviation, weight.shape))
    return network


shared_network = functools.cache(make_network)


def make_picture(height=16, width=32, batch=2):
    rng = np.random.default_rng(2)
    return rng.uniform(-1.0, 1.0, (batch, height, width, 3)).astype(np.float32)


def encode(steps, image, count=ITERATIONS):
    """Planes and reconstructions of the first iterations, as NumPy arrays."""
    turns = list(itertools.islice(progressive.iterate(steps, image=image), count))
    return [to_numpy(t.bits) for t in turns], [to_numpy(t.reconstruction) for t in turns]


def decode(steps, planes, wanted=None):
    """Reconstructions as NumPy arrays, None where one was skipped."""
    turns = progressive.iterate(steps, planes=planes, wanted=wanted)
    return [None if t.reconstruction is None else to_numpy(t.reconstruction) for t in turns]


def to_numpy(tensor):
    return ops.convert_to_numpy(ops.cast(tensor, "float32"))


def written_out(network, image):
    """The loop as the paper has it, with all but the networks in NumPy."""
    config = network.config
    batch, height, width, _ = image.shape
    encoder_states, decoder_states, *_ = network.initial_states(batch, height, width)
    picture, gain = np.zeros_like(image), np.float32(1.0)
    for index in range(ITERATIONS):
        seen = residual = config.residual_scale * (image - picture) * gain
        if config.encoder_sees_image:
            seen = np.concatenate([residual, image], axis=-1)
        features, encoder_states = network.encoder(seen, encoder_states)
        if config.atoms:
            coefficients = network.block_analysis(residual, decoder_states[0][0], index=index)
            features = np.concatenate([features, coefficients], axis=-1)
        bits = to_numpy(network.binarizer(features, index=index))
        received = bits
        if config.good_enough:
            bits[to_numpy(visible_error(image, picture))[..., 0] < config.good_enough] = 1.0
            received = np.where(bits.min(axis=-1, keepdims=True) > 0, 0.0, bits)
        if config.atoms:
            features, decoder_states = decode_blocks(network, received, decoder_states, index)
        else:
            features, decoder_states = network.decoder(received, decoder_states)
        output = to_numpy(network.synthesis(features))
        if config.reconstruction == "one_shot":
            picture = output
        elif config.reconstruction == "additive":
            picture = picture + output
        else:
            picture = picture + output / gain
            blocks = to_numpy(network.gain(output / gain))
            gain = blocks.repeat(32, axis=1).repeat(32, axis=2)[:, :height, :width]
        yield bits, picture


def decode_blocks(network, received, states, index):
    *cell_states, (memory,) = states
    embedded = network.embedding(received, index=index)
    features, cell_states = network.decoder(embedded, cell_states)
    memory = memory + network.block_synthesis(received, cell_states[0][0], index=index)
    parts = ops.depth_to_space(memory, 2, "channels_last")
    return np.concatenate([features, parts], axis=-1), [*cell_states, [memory]]


class LoopTest(parameterized.TestCase):
    @each([*FAMILY, PRODUCT, BLOCKS])
    def test_is_the_papers_and_needs_only_planes_to_decode(self, config):
        network, image = shared_network(config), make_picture()
        planes, pictures = encode(network, image)
        for bits, picture, (expected_bits, expected_picture) in zip(
            planes, pictures, written_out(network, image), strict=True
        ):
            np.testing.assert_array_equal(np.abs(bits), 1.0)
            np.testing.assert_array_equal(bits, expected_bits)
            np.testing.assert_allclose(picture, expected_picture, atol=1e-5, rtol=1e-5)
        np.testing.assert_array_equal(decode(network, planes), pictures)

    @each([PRODUCT, BLOCKS, *PAPER])
    def test_stopping_early_changes_nothing_before(self, config):
        network, image = shared_network(config), make_picture()
        planes, pictures = encode(network, image)
        first_planes, first_pictures = encode(network, image, count=2)
        np.testing.assert_array_equal(first_planes, planes[:2])
        np.testing.assert_array_equal(first_pictures, pictures[:2])
        np.testing.assert_array_equal(decode(network, planes[:2]), pictures[:2])

    @each([PRODUCT, BLOCKS, *PAPER])
    def test_unwanted_iterations_are_skipped_where_that_is_possible(self, config):
        network = shared_network(config)
        planes, pictures = encode(network, make_picture())
        first, second, third = decode(network, planes, wanted=[2])
        np.testing.assert_array_equal(second, pictures[1])
        if config.reconstruction == "one_shot":
            self.assertIsNone(first)
            self.assertIsNone(third)
        else:
            np.testing.assert_array_equal([first, third], [pictures[0], pictures[2]])

    def test_blocks_that_are_good_enough_get_no_bits_and_stay(self):
        config = dataclasses.replace(BLOCKS, good_enough=100.0)
        network, image = shared_network(config), make_picture()
        planes, pictures = encode(network, image)
        np.testing.assert_array_equal(planes, 1.0)
        # An empty plane moves no memory: only the cells' own weights change the picture.
        *_, states = network.decode_bits(planes[0], network.initial_states(2, 16, 32)[1], 0)
        np.testing.assert_array_equal(to_numpy(states[-1][0]), 0.0)
        np.testing.assert_array_equal(decode(network, planes), pictures)

    def test_pictures_of_a_batch_do_not_mix(self):
        network, batch = shared_network(PRODUCT), make_picture()
        with_another = np.stack([batch[0], -batch[1]])
        for results, others in zip(encode(network, batch), encode(network, with_another)):
            results, others = np.stack(results), np.stack(others)  # [N, B, ...]
            np.testing.assert_array_equal(results[:, 0], others[:, 0])
            self.assertFalse(np.array_equal(results[:, 1], others[:, 1]))


class CompiledTest(parameterized.TestCase):
    @parameterized.named_parameters(
        ("product", PRODUCT, [(48, 32), (80, 16)]),
        ("blocks", BLOCKS, [(48, 32), (80, 16)]),
        ("paper", PAPER[-1], [(16, 32)]),
    )
    def test_equals_the_eager_loop_at_any_size(self, config, sizes):
        network = shared_network(config)
        compiled = progressive.CompiledSteps(network)
        for height, width in sizes:
            image = make_picture(height, width)
            planes, pictures = encode(compiled, image)
            eager_planes, _ = encode(network, image)
            # A feature next to zero may round to the other side.
            self.assertLess(np.mean(planes[0] != eager_planes[0]), 0.05)
            for picture, eager in zip(pictures, decode(network, planes), strict=True):
                self.assertEqual(picture.shape, (2, height, width, 3))
                np.testing.assert_allclose(picture, eager, atol=1e-4, rtol=1e-4)
            # Not nearly: it is the same machine and the same functions.
            np.testing.assert_array_equal(decode(compiled, planes), pictures)

    @pytest.mark.tensorflow
    def test_tensorflow_traces_once_for_all_sizes_and_batches(self):
        network, traces = make_network(BLOCKS), collections.Counter()

        def counting(name):
            method = getattr(network, name)

            def call(*arguments):
                traces[name] += 1
                return method(*arguments)

            return call

        names = ("analyse", "decode_bits", "synthesise")
        with contextlib.ExitStack() as stack:
            for name in names:
                stack.enter_context(mock.patch.object(network, name, counting(name)))
            compiled = progressive.CompiledSteps(network)
        for size in range(20):
            picture = make_picture(16 + 16 * size, 336 - 16 * size, batch=1 + size % 3)
            planes, _ = encode(compiled, picture)
            decode(compiled, planes)
        self.assertEqual(traces, dict.fromkeys(names, 1))

    def test_half_precision_decodes_what_it_encoded(self):
        self.addCleanup(keras.config.set_dtype_policy, keras.config.dtype_policy())
        keras.config.set_dtype_policy("mixed_bfloat16")
        network = make_network(PRODUCT)
        compiled = progressive.CompiledSteps(network)
        planes, pictures = encode(compiled, make_picture())
        np.testing.assert_array_equal(np.abs(planes), 1.0)
        self.assertTrue(np.all(np.isfinite(pictures)))
        np.testing.assert_array_equal(decode(compiled, planes), pictures)


class NetworkTest(parameterized.TestCase):
    def test_call_runs_all_iterations(self):
        network = shared_network(PRODUCT)
        pixels = np.random.default_rng(3).integers(0, 256, (2, 16, 32, 3), dtype=np.uint8)
        outputs = network(pixels)
        planes, pictures = encode(network, pixels / np.float32(127.5) - 1)
        np.testing.assert_array_equal(to_numpy(outputs["planes"]), np.stack(planes, axis=1))
        np.testing.assert_array_equal(
            to_numpy(outputs["reconstructions"]), np.stack(pictures, axis=1)
        )

    @each([PRODUCT, SCALED, BLOCKS])
    def test_training_reaches_every_weight_through_the_bits(self, config):
        network = make_network(dataclasses.replace(config, iterations=2))
        pixels = np.random.default_rng(3).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
        before = [to_numpy(weight) for weight in network.trainable_variables]
        network.compile(keras.optimizers.SGD(1.0), loss={"reconstructions": "mae", "planes": None})
        network.train_on_batch(pixels, {"reconstructions": np.zeros((2, 2, 16, 16, 3))})
        for weight, values in zip(network.trainable_variables, before):
            self.assertTrue(np.all(np.isfinite(to_numpy(weight))), weight.path)
            self.assertFalse(np.array_equal(to_numpy(weight), values), weight.path)

    @each([PRODUCT, BLOCKS])
    def test_is_kept(self, config):
        network = shared_network(config)
        path = os.path.join(self.enterContext(tempfile.TemporaryDirectory()), "network.keras")
        network.save(path)
        loaded = keras.saving.load_model(path)
        self.assertEqual(loaded.config, network.config)
        image = make_picture()
        for kept, original in zip(encode(loaded, image), encode(network, image)):
            np.testing.assert_array_equal(kept, original)


if __name__ == "__main__":
    absltest.main()
