"""Tests for rnn_codec/recurrent/codec.py, with tiny networks."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from unittest import mock

from absl.testing import absltest, parameterized
import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest
import testing

import rnn_codec
from rnn_codec import presets
from rnn_codec.backend import compilation
from rnn_codec.codec import Codec
from rnn_codec.container import bitstream
from rnn_codec.errors import (
    BitstreamError,
    CodecError,
    ImageError,
    ModelMismatchError,
    PresetError,
)
from rnn_codec.pictures import metrics, reading, writing
from rnn_codec.pictures.picture import Picture, picture_from_array, to_array
from rnn_codec.recurrent import tiling
from rnn_codec.recurrent.codec import RecurrentCodec
from rnn_codec.targets import Target

pytestmark = pytest.mark.network

ROOT = pathlib.Path(__file__).parent.parent
COUNTS = range(1, testing.ITERATIONS + 1)

# Few different numbers of blocks: JAX compiles anew for each.
SIZES = {"one_pixel": (1, 1), "odd": (15, 17), "even": (16, 32), "ms_ssim": (161, 161)}


def encode_each(codec, picture):
    """`Encoded` after each number of iterations."""
    return {n: codec.encode_picture(picture, Target(iterations=n)) for n in COUNTS}


class RoundTripTest(parameterized.TestCase):
    @parameterized.product(preset=(testing.STACKED, testing.BLOCKS), size=list(SIZES))
    def test_decoder_shows_what_the_encoder_saw(self, preset, size):
        codec = testing.make_codec(preset)
        picture = picture_from_array(testing.make_array(*SIZES[size]))
        whole = codec.encode_picture(picture)
        self.assertEqual(whole.iterations, testing.ITERATIONS)
        for count, encoded in encode_each(codec, picture).items():
            self.assertEqual(encoded.iterations, count)
            restored = codec.decode(whole.data, count)
            np.testing.assert_array_equal(restored, encoded.picture.pixels)
            np.testing.assert_array_equal(codec.decode(encoded.data), encoded.picture.pixels)
        np.testing.assert_array_equal(codec.decode(whole.data), whole.picture.pixels)

    @parameterized.parameters("L", "LA", "RGB", "RGBA")
    def test_modes_and_alpha_survive(self, mode):
        codec, array = testing.make_codec(), testing.make_array(15, 17, mode)
        data = codec.encode(array)
        self.assertEqual(rnn_codec.read_info(data).mode, mode)
        for count in COUNTS:
            restored = codec.decode(data, count)
            self.assertEqual((restored.dtype, restored.shape), (array.dtype, array.shape))
            if mode in ("LA", "RGBA"):
                np.testing.assert_array_equal(restored[..., -1], array[..., -1])

    def test_alpha_costs_no_colour(self):
        codec, array = testing.make_codec(), testing.make_array(15, 17, "RGBA")
        opaque = codec.decode(codec.encode(array[..., :3]))
        np.testing.assert_array_equal(codec.decode(codec.encode(array))[..., :3], opaque)

    def test_single_channel_comes_back_as_grey(self):
        codec, array = testing.make_codec(), testing.make_array(15, 17, "L")
        self.assertEqual(codec.encode(array[..., None]), codec.encode(array))
        self.assertEqual(codec.decode(codec.encode(array[..., None])).shape, (15, 17))

    @hypothesis.settings(max_examples=20, deadline=None, database=None)
    @hypothesis.given(
        height=st.integers(1, 16),
        width=st.integers(1, 32),
        mode=st.sampled_from(("L", "LA", "RGB", "RGBA")),
        preset=st.sampled_from((testing.TWO_SCALE, testing.STACKED, testing.BLOCKS)),
    )
    def test_any_size_and_mode(self, height, width, mode, preset):
        codec, array = testing.make_codec(preset), testing.make_array(height, width, mode)
        encoded = codec.encode_picture(picture_from_array(array))
        restored = codec.decode(encoded.data)
        self.assertEqual(restored.shape, array.shape)
        np.testing.assert_array_equal(restored, to_array(encoded.picture))

    def test_codec_that_saw_other_pictures_decodes_the_same(self):
        # A graph that was compiled for another size, or for encoding, must not round otherwise.
        codec = testing.make_codec()
        encoded = [codec.encode(testing.make_array(*size)) for size in SIZES.values()]
        fresh = Codec.from_preset(testing.preset_folder())
        for data in reversed(encoded):
            np.testing.assert_array_equal(fresh.decode(data), codec.decode(data))
        data = fresh.encode(testing.make_array(*SIZES["odd"]))
        self.assertEqual(data, codec.encode(testing.make_array(*SIZES["odd"])))

    def test_lower_precision_keeps_the_promise_too(self):
        codec = Codec.from_preset(testing.preset_folder(), precision="bfloat16")
        picture = picture_from_array(testing.make_array(*SIZES["odd"]))
        whole = codec.encode_picture(picture)
        for count, encoded in encode_each(codec, picture).items():
            restored = codec.decode(whole.data, count)
            np.testing.assert_array_equal(restored, encoded.picture.pixels)

    def test_precisions_read_each_others_files(self):
        array = testing.make_array(161, 161)
        codecs = [
            testing.make_codec(testing.BLOCKS),
            Codec.from_preset(testing.preset_folder(testing.BLOCKS), precision="bfloat16"),
        ]
        for writer in codecs:
            data = writer.encode(array)
            figures = [metrics.psnr_db(array, reader.decode(data)) for reader in codecs]
            self.assertAlmostEqual(*figures, delta=0.05)

    def test_precision_may_be_chosen_by_the_machine(self):
        for flags, expected in ((set(), "float32"), ({"fma", "avx512_bf16"}, "bfloat16")):
            with mock.patch.object(compilation, "_cpu_flags", return_value=flags):
                codec = Codec.from_preset(testing.preset_folder(), precision="auto")
            self.assertEqual(codec.network.compute_dtype, expected)

    def test_entropy_coders_hold_the_same_bits(self):
        codec, image = testing.make_codec(testing.BLOCKS), testing.make_array(140, 90)
        raw = codec.encode(image, entropy="raw")
        sizes = {"raw": len(raw)}
        for entropy in ("adaptive", "neural"):
            data = codec.encode(image, entropy=entropy)
            sizes[entropy] = len(data)
            self.assertIn(entropy, rnn_codec.read_info(data).coders)
            np.testing.assert_equal(codec.read_planes(data), codec.read_planes(raw))
            for count in COUNTS:
                prefix = data[: rnn_codec.read_info(data).bytes_at_iteration[count - 1]]
                np.testing.assert_array_equal(codec.decode(prefix), codec.decode(raw, count))
        self.assertLess(sizes["adaptive"], sizes["raw"])
        self.assertLess(sizes["neural"], sizes["raw"])
        self.assertEqual(codec.encode(image), codec.encode(image, entropy="neural"))

    def test_a_preset_without_context_model_stores_raw(self):
        codec, image = testing.make_codec(testing.TWO_SCALE), testing.make_array(140, 90)
        self.assertEqual(codec.encode(image), codec.encode(image, entropy="raw"))
        self.assertLess(len(codec.encode(image, entropy="adaptive")), len(codec.encode(image)))
        with self.assertRaisesRegex(CodecError, "^preset 'tiny_two_scale': expected one with a "):
            codec.encode(image, entropy="neural")
        with self.assertRaisesRegex(CodecError, "^entropy: expected one of .* received 'zip'$"):
            codec.encode(image, entropy="zip")

    def test_quality_rises_with_iterations(self):
        # Else the tests of targets below would test little.
        codec, array = testing.make_codec(), testing.make_array(161, 161)
        data = codec.encode(array)
        figures = [metrics.psnr_db(array, codec.decode(data, count)) for count in COUNTS]
        self.assertEqual(figures, sorted(set(figures)))
        self.assertGreater(figures[0], 15)


class LargePictureTest(parameterized.TestCase):
    """Pictures above the limit are computed by tiles."""

    SIZE = 2048, 1536

    def setUp(self):
        super().setUp()
        self.codec = testing.make_codec(testing.BLOCKS)
        self.picture = picture_from_array(testing.make_array(300, 230))

    def by_tiles(self, limit=0, tile=6):
        steps = tiling.TiledSteps(self.codec.network, self.codec._steps, tile)
        self.enterContext(mock.patch.object(self.codec, "_tiled_steps", steps))
        self.enterContext(mock.patch("rnn_codec.recurrent.codec._WHOLE_PIXELS", limit))

    def test_equals_the_whole_picture(self):
        picture = picture_from_array(testing.make_array(*self.SIZE))
        whole = self.codec.encode_picture(picture)
        decoded = self.codec.decode(whole.data).astype(int)
        self.by_tiles(tile=64)
        np.testing.assert_allclose(self.codec.decode(whole.data), decoded, atol=1)
        by_tiles = self.codec.encode_picture(picture)
        self.assertAlmostEqual(by_tiles.psnr_db, whole.psnr_db, delta=0.01)
        self.assertAlmostEqual(len(by_tiles.data) / len(whole.data), 1.0, delta=0.001)

    @parameterized.parameters("L", "LA", "RGB", "RGBA")
    def test_modes(self, mode):
        array = testing.make_array(131, 117, mode)
        expected = self.codec.decode(self.codec.encode(array))
        self.by_tiles()
        restored = self.codec.decode(self.codec.encode(array))
        self.assertEqual(restored.shape, expected.shape)
        # A bit may differ, and then a block.
        self.assertLess(np.mean(restored != expected), 0.1)

    @parameterized.parameters(
        dict(iterations=2), dict(target_bytes=300), dict(target_psnr=23.0), dict(target_msssim=0.8)
    )
    def test_targets(self, **target):
        expected = self.codec.encode_picture(self.picture, Target(**target))
        self.assertLess(expected.iterations, testing.ITERATIONS)  # or the target means nothing
        self.by_tiles()
        encoded = self.codec.encode_picture(self.picture, Target(**target))
        self.assertEqual(encoded.iterations, expected.iterations)
        self.assertAlmostEqual(encoded.psnr_db, expected.psnr_db, delta=0.05)
        np.testing.assert_array_equal(self.codec.decode(encoded.data), encoded.picture.pixels)

    def test_all_iterations_in_one_go(self):
        self.by_tiles()
        data = self.codec.encode(self.picture.pixels)
        for count, picture in self.codec.decode_picture(data, "all"):
            np.testing.assert_array_equal(picture.pixels, self.codec.decode(data, count))


class ManyPicturesTest(parameterized.TestCase):
    """Several pictures in one call, of which those of one padded size are computed together."""

    SIZES = ((15, 17, "RGB"), (33, 16, "RGBA"), (16, 32, "L"), (1, 30, "RGB"), (9, 25, "LA"))

    def setUp(self):
        super().setUp()
        self.codec = testing.make_codec(testing.BLOCKS)
        self.pictures = [picture_from_array(testing.make_array(*s)) for s in self.SIZES]

    def batches(self, step):
        """How many pictures a step of the network is given at a time; the list fills itself."""
        sizes, function = [], getattr(self.codec._steps, step)

        def noted(inputs, *arguments):
            sizes.append(len(inputs))
            return function(inputs, *arguments)

        self.enterContext(mock.patch.object(self.codec._steps, step, noted))
        return sizes

    @parameterized.parameters(
        {"pixels": 2**20, "together": [4, 4, 4, 1, 1, 1]},
        {"pixels": 3 * 16 * 32, "together": [3, 3, 3, 1, 1, 1, 1, 1, 1]},
        {"pixels": 1, "together": 15 * [1]},
    )
    def test_each_has_the_file_that_it_has_alone(self, pixels, together):
        expected = [self.codec.encode_picture(picture) for picture in self.pictures]
        sizes = self.batches("analyse")
        with mock.patch("rnn_codec.recurrent.codec._BATCH_PIXELS", pixels):
            results = self.codec.encode_pictures(self.pictures)
        if not compilation.compiles_each_size():
            self.assertEqual(sizes, together)
        for encoded, alone in zip(results, expected, strict=True):
            # A feature next to zero might round to the other side in another batch.
            planes = [np.stack(self.codec.read_planes(e.data)) for e in (encoded, alone)]
            self.assertLess(np.mean(planes[0] != planes[1]), 0.01)
            restored = picture_from_array(self.codec.decode(encoded.data)).pixels
            np.testing.assert_allclose(restored, encoded.picture.pixels, atol=1)

    def test_each_stops_at_its_own_target(self):
        shape = (16, 32)
        pictures = [
            picture_from_array(array)
            for array in (np.full((*shape, 3), 128, np.uint8), testing.make_array(*shape))
        ]
        figures = [[e.psnr_db for e in encode_each(self.codec, p).values()] for p in pictures]
        target = Target(target_psnr=np.mean([max(row) for row in figures]))
        expected = [self.codec.encode_picture(picture, target) for picture in pictures]
        self.assertLen({encoded.iterations for encoded in expected}, 2)
        sizes = self.batches("analyse")
        results = self.codec.encode_pictures(pictures, target)
        self.assertEqual(set(sizes), {1})  # one that is good enough would run on for the others
        self.assertEqual([e.iterations for e in results], [e.iterations for e in expected])
        self.assertEqual([e.warnings for e in results], [e.warnings for e in expected])

    def test_a_fault_of_one_is_its_result(self):
        whole = self.codec.encode_picture(self.pictures[1])
        target = Target(target_bytes=len(whole.data) // 2)
        results = self.codec.encode_pictures(self.pictures, target)
        faulty = [isinstance(result, CodecError) for result in results]
        self.assertEqual(faulty, [self.fails(picture, target) for picture in self.pictures])
        self.assertLen(set(faulty), 2)

    def fails(self, picture, target):
        try:
            self.codec.encode_picture(picture, target)
        except CodecError:
            return True
        return False

    def test_a_fault_keeps_no_pictures_alive(self):
        (fault,) = self.codec.encode_pictures(self.pictures[:1], Target(target_bytes=1))
        self.assertIsNone(fault.__traceback__)

    def test_a_wrong_request_is_refused(self):
        with self.assertRaisesRegex(CodecError, "expected 1 to 3 iterations"):
            self.codec.encode_pictures(self.pictures, Target(iterations=99))

    def test_none_are_none(self):
        self.assertEqual(self.codec.encode_pictures([]), [])
        self.assertEqual(self.codec.decode_pictures([]), [])

    @parameterized.parameters(None, "all", [[2]])
    def test_files_of_any_length_are_decoded_as_alone(self, iterations):
        data = [self.codec.encode_picture(picture).data for picture in self.pictures]
        data[0] = rnn_codec.truncate(data[0], 2)
        sizes = self.batches("decode_bits")
        results = self.codec.decode_pictures([b"nothing", *data], iterations)
        if not compilation.compiles_each_size():
            self.assertEqual(max(sizes), 4)
        self.assertIsInstance(results[0], BitstreamError)
        for file, pairs in zip(data, results[1:], strict=True):
            expected = list(self.codec.decode_picture(file, iterations))
            self.assertEqual([count for count, _ in pairs], [count for count, _ in expected])
            for (_, picture), (_, alone) in zip(pairs, expected):
                np.testing.assert_allclose(picture.pixels, alone.pixels, atol=1)
                np.testing.assert_equal(picture.alpha, alone.alpha)

    def test_iterations_that_one_file_does_not_hold_are_its_fault(self):
        data = [self.codec.encode_picture(picture).data for picture in self.pictures[:2]]
        data[0] = rnn_codec.truncate(data[0], 1)
        first, second = self.codec.decode_pictures(data, [3])
        self.assertRegex(str(first), "expected 1 to 1 iterations")
        self.assertLen(second, 1)


class EncodeTest(parameterized.TestCase):
    @parameterized.parameters(*COUNTS)
    def test_truncated_file_is_that_of_fewer_iterations(self, count):
        codec, array = testing.make_codec(), testing.make_array(15, 17, "RGBA")
        truncated = rnn_codec.truncate(codec.encode(array), count)
        self.assertEqual(truncated, codec.encode(array, iterations=count))

    def test_input_may_be_any_view_and_is_left_alone(self):
        codec, array = testing.make_codec(), testing.make_array(30, 34)
        copy = array.copy()
        view = array[::2, ::-2]
        self.assertEqual(codec.encode(view), codec.encode(view.copy()))
        np.testing.assert_array_equal(array, copy)

    def test_info_tells_what_was_encoded(self):
        codec = testing.make_codec()
        data = codec.encode(testing.make_array(15, 17, "LA"), iterations=2)
        info = rnn_codec.read_info(data)
        self.assertEqual((info.height, info.width, info.mode), (15, 17, "LA"))
        self.assertEqual((info.iterations, info.iterations_written), (2, 2))
        self.assertEqual(info.model_id, codec.identity.hex())
        self.assertEqual(info.warnings, ())

    @parameterized.named_parameters(
        ("float", np.zeros((4, 4, 3), np.float32)),
        ("sixteen_bits", np.zeros((4, 4, 3), np.uint16)),
        ("bool", np.zeros((4, 4), bool)),
        ("batch", np.zeros((1, 4, 4, 3), np.uint8)),
        ("five_channels", np.zeros((4, 4, 5), np.uint8)),
        ("no_pixels", np.zeros((0, 4, 3), np.uint8)),
        ("row", np.zeros(4, np.uint8)),
        ("path", "photo.png"),
        ("nothing", None),
    )
    def test_other_arrays_are_refused(self, array):
        with self.assertRaisesRegex(ImageError, "^array: expected uint8 of shape .* received .*"):
            testing.make_codec().encode(array)

    @parameterized.parameters(0, -1, 4, 255, 2.5, "2", np.int64(4))
    def test_iterations_beyond_the_preset_are_refused(self, iterations):
        with self.assertRaisesRegex(CodecError, f"^expected .*received .*{iterations}"):
            testing.make_codec().encode(testing.make_array(4, 4), iterations=iterations)

    def test_iterations_may_be_numpys(self):
        codec, array = testing.make_codec(), testing.make_array(4, 4)
        data = codec.encode(array, iterations=np.int64(2))
        self.assertEqual(data, codec.encode(array, iterations=2))
        np.testing.assert_array_equal(codec.decode(data, np.uint8(2)), codec.decode(data))

    def test_two_targets_are_refused(self):
        with self.assertRaisesRegex(CodecError, "iterations and target_bpp.*keep one"):
            testing.make_codec().encode(testing.make_array(4, 4), iterations=1, target_bpp=1.0)


class SizeTargetTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.codec, self.array = testing.make_codec(), testing.make_array(161, 161)
        self.data = self.codec.encode(self.array)
        self.sizes = rnn_codec.read_info(self.data).bytes_at_iteration

    @parameterized.parameters(1, 2, 3)
    def test_size_is_reached_but_not_exceeded(self, count):
        expected = rnn_codec.truncate(self.data, count)
        for target in (self.sizes[count - 1], [*self.sizes, 10**6][count] - 1):
            self.assertEqual(self.codec.encode(self.array, target_bytes=target), expected)
            bpp = 8 * target / (161 * 161)
            self.assertEqual(self.codec.encode(self.array, target_bpp=bpp), expected)

    @parameterized.parameters("LA", "RGBA")
    def test_size_is_of_the_whole_file(self, mode):
        array = testing.make_array(15, 17, mode)
        picture = dataclasses.replace(
            picture_from_array(array), icc_profile=b"profile", xmp=b"<xmp/>" * 20
        )
        whole = self.codec.encode_picture(picture).data
        sizes = rnn_codec.read_info(whole).bytes_at_iteration
        self.assertGreater(sizes[0], 120)
        for count, size in enumerate(sizes[1:], start=1):
            encoded = self.codec.encode_picture(picture, Target(target_bytes=size - 1))
            self.assertEqual(encoded.data, rnn_codec.truncate(whole, count))

    def test_size_too_small_for_one_iteration_is_refused(self):
        with self.assertRaisesRegex(
            CodecError,
            rf"at most {self.sizes[0] - 1} bytes, .* takes {self.sizes[0]} bytes, [\d.]+ bits per "
            "pixel; raise the target, or drop metadata and alpha$",
        ):
            self.codec.encode(self.array, target_bytes=self.sizes[0] - 1)
        with self.assertRaisesRegex(CodecError, "at most 0.001 bits per pixel, but one iteration"):
            self.codec.encode(self.array, target_bpp=0.001)

    def test_infinite_size_is_all_iterations(self):
        self.assertEqual(self.codec.encode(self.array, target_bpp=float("inf")), self.data)


class QualityTargetTest(parameterized.TestCase):
    FIGURES = {"target_psnr": "psnr_db", "target_msssim": "ms_ssim"}

    def setUp(self):
        super().setUp()
        self.codec = testing.make_codec()
        self.picture = picture_from_array(testing.make_array(161, 161))
        self.each = encode_each(self.codec, self.picture)

    @parameterized.product(name=list(FIGURES), count=list(COUNTS))
    def test_fewest_iterations_that_reach_it(self, name, count):
        reached = getattr(self.each[count], self.FIGURES[name])
        lower = getattr(self.each[count - 1], self.FIGURES[name]) if count > 1 else 0.01
        self.assertLess(lower, reached)
        for target in (reached, lower + 0.01 * (reached - lower)):
            encoded = self.codec.encode_picture(self.picture, Target(**{name: target}))
            self.assertEqual(encoded.data, self.each[count].data)
            self.assertEqual(encoded.warnings, ())

    @parameterized.product(name=list(FIGURES))
    def test_unreachable_is_a_warning_and_all_iterations(self, name):
        encoded = self.codec.encode_picture(self.picture, Target(**{name: 99}))
        self.assertEqual(encoded.data, self.each[testing.ITERATIONS].data)
        (warning,) = encoded.warnings
        self.assertRegex(warning, "^the target .* of 99 is not reached: .* after all 3 iterations$")

    def test_infinite_psnr_is_never_reached(self):
        encoded = self.codec.encode_picture(self.picture, Target(target_psnr=float("inf")))
        self.assertLen(encoded.warnings, 1)

    def test_msssim_of_a_small_picture_is_refused_before_any_work(self):
        with (
            mock.patch.object(self.codec, "_steps", None),
            self.assertRaisesRegex(CodecError, "at least 161 pixels .* 161 x 160; give another"),
        ):
            self.codec.encode(testing.make_array(160, 161), target_msssim=0.5)

    def test_figures_are_those_of_the_decoded_picture(self):
        encoded = self.each[2]
        restored = self.codec.decode(encoded.data)
        original = self.picture.pixels
        self.assertEqual(encoded.psnr_db, metrics.psnr_db(original, restored))
        self.assertEqual(encoded.ms_ssim, metrics.ms_ssim(original, restored))
        self.assertEqual(encoded.bpp, 8 * len(encoded.data) / 161**2)

    def test_small_pictures_have_no_msssim(self):
        picture = picture_from_array(testing.make_array(15, 17))
        self.assertIsNone(self.codec.encode_picture(picture).ms_ssim)


class DecodeTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.codec = testing.make_codec()
        self.array = testing.make_array(15, 17, "RGBA")
        self.data = self.codec.encode(self.array)
        self.prefixes = {count: self.codec.decode(self.data, count) for count in COUNTS}

    @parameterized.parameters(0, -1, 4, 999, 1.5, "1")
    def test_iterations_that_the_file_does_not_hold_are_refused(self, iterations):
        with self.assertRaisesRegex(
            BitstreamError, f"^expected 1 to 3 iterations, .* holds, received '?{iterations}'?$"
        ):
            self.codec.decode(self.data, iterations)

    def test_truncated_file_holds_fewer(self):
        with self.assertRaisesRegex(BitstreamError, "expected 1 to 2 iterations"):
            self.codec.decode(rnn_codec.truncate(self.data, 2), 3)

    def test_all_and_some_iterations_in_one_go(self):
        for wanted, expected in (("all", COUNTS), ([3, 1], [1, 3]), ([2], [2]), (None, [3])):
            decoded = dict(self.codec.decode_picture(self.data, wanted))
            self.assertEqual(list(decoded), list(expected))
            for count, picture in decoded.items():
                np.testing.assert_array_equal(to_array(picture), self.prefixes[count])

    @parameterized.parameters(bytes, bytearray, memoryview)
    def test_takes_any_bytes(self, kind):
        np.testing.assert_array_equal(self.codec.decode(kind(self.data)), self.prefixes[3])

    def test_file_of_another_model_is_refused(self):
        data = testing.make_codec(testing.STACKED).encode(self.array)
        with self.assertRaisesRegex(
            ModelMismatchError, f"'tiny_blocks'.*{rnn_codec.read_info(data).model_id}.*preset"
        ):
            self.codec.decode(data)

    @parameterized.named_parameters(
        ("short", 0, b"\0", "iteration 2 holds 1 bytes where a picture of this size takes 2"),
        ("long", 0, b"\0\0\0", "iteration 2 holds 3 bytes"),
        ("unknown_coder", 77, b"\0\0", "iteration 2 was packed by coder 77"),
    )
    def test_planes_that_no_codec_wrote_are_refused(self, coder, payload, message):
        # Intact by their checksums, so no damage: decoding less would hide it.
        contents = bitstream.read(self.data)
        planes = list(contents.planes)
        planes[1] = bitstream.Plane(coder, payload)
        data = bitstream.write(contents.header, planes, alpha=contents.alpha)
        with self.assertRaisesRegex(BitstreamError, message):
            self.codec.decode(data)
        np.testing.assert_array_equal(self.codec.decode(data, 1), self.prefixes[1])

    @parameterized.parameters(bitstream.RAW, bitstream.NEURAL, bitstream.ADAPTIVE)
    def test_more_iterations_than_the_preset_has_are_refused(self, coder):
        codec = testing.make_codec(testing.WIDE)
        contents = bitstream.read(codec.encode(self.array[..., :3], entropy="raw"))
        planes = [*contents.planes, bitstream.Plane(coder, bytes(4))]
        header = dataclasses.replace(contents.header, iterations=len(planes))
        data = bitstream.write(header, planes)
        for read in (codec.decode, codec.read_planes):
            with self.assertRaisesRegex(BitstreamError, "^the header declares 4 iterations, where"):
                read(data)

    def test_few_pixels_in_many_blocks_are_refused(self):
        contents = bitstream.read(self.data)
        header = dataclasses.replace(contents.header, width=1, height=60_000_000, has_alpha=False)
        planes = [bitstream.Plane(bitstream.ADAPTIVE, b"")] * header.iterations
        data = bitstream.write(header, planes)
        for read in (self.codec.decode, self.codec.read_planes):
            with self.assertRaisesRegex(BitstreamError, "^the header .* takes 3750000 blocks"):
                read(data)

    @parameterized.parameters(0, -1, 4)
    def test_planes_of_iterations_that_are_not_there_are_refused(self, iterations):
        with self.assertRaisesRegex(BitstreamError, "^expected 1 to 3 iterations"):
            self.codec.read_planes(self.data, iterations)

    def test_alpha_of_another_size_is_refused(self):
        contents = bitstream.read(self.data)
        alpha = writing.encode_alpha(np.zeros((15, 18), np.uint8))
        data = bitstream.write(contents.header, contents.planes, alpha=alpha)
        with self.assertRaisesRegex(BitstreamError, "^alpha: expected a PNG in mode L, 17 x 15"):
            self.codec.decode(data)

    def test_small_file_that_declares_a_large_picture_costs_no_memory(self):
        header = dataclasses.replace(bitstream.read(self.data).header, has_alpha=False)
        header = dataclasses.replace(header, width=9000, height=9000)
        data = bitstream.write(header, [bitstream.Plane(0, b"x")] * 3)
        with self.assertRaisesRegex(BitstreamError, "iteration 1 holds 1 bytes"):
            self.codec.decode(data)
        with self.assertRaisesRegex(BitstreamError, "at most 80,999,999 pixels"):
            limits = bitstream.Limits(max_pixels=80_999_999)
            list(self.codec.decode_picture(data, limits=limits))

    def test_metadata_survive_to_the_last_byte(self):
        blocks = {"icc_profile": b"\0profile\xff", "exif": b"Exif\0\0II*\0", "xmp": b"<x/>\n"}
        encoded = self.codec.encode_picture(Picture(self.array[..., :3], **blocks))
        ((_, picture),) = self.codec.decode_picture(encoded.data)
        self.assertEqual({name: getattr(picture, name) for name in blocks}, blocks)
        self.assertEqual(picture.warnings, ())


class DamageTest(parameterized.TestCase):
    """Cut and damaged files give the right prefix or a `CodecError`, never anything else."""

    def setUp(self):
        super().setUp()
        self.codec = testing.make_codec()
        array = testing.make_array(15, 17, "LA")
        array[..., 1] = 200  # a few bytes as PNG
        self.picture = dataclasses.replace(
            picture_from_array(array), exif=b"Exif\0\0II", xmp=b"<x/>"
        )
        self.data = self.codec.encode_picture(self.picture).data
        self.prefixes = {
            count: picture.pixels for count, picture in self.codec.decode_picture(self.data, "all")
        }

    def decode(self, data):
        """The number of iterations, 0 for a `CodecError`; all that came is checked."""
        try:
            ((count, picture),) = self.codec.decode_picture(data)
        except CodecError as error:
            self.assertNotIn("\n", str(error))
            return 0
        np.testing.assert_array_equal(picture.pixels, self.prefixes[count])
        for name in ("exif", "xmp"):
            self.assertIn(getattr(picture, name), (None, getattr(self.picture, name)))
        if picture.alpha is not None:
            np.testing.assert_array_equal(picture.alpha, self.picture.alpha)
        self.assertNotEmpty(picture.warnings)
        with self.assertRaises(CodecError):
            self.codec.decode(data, strict=True)
        return count

    def test_every_truncation(self):
        counts = [self.decode(self.data[:size]) for size in range(len(self.data))]
        ends = rnn_codec.read_info(self.data).bytes_at_iteration
        expected = [sum(size >= end for end in ends) for size in range(len(self.data))]
        self.assertEqual(counts, expected)

    @parameterized.parameters(0x01, 0x20, 0x80, 0xFF)
    def test_every_flipped_byte(self, pattern):
        counts = set()
        for position in range(len(self.data)):
            damaged = bytearray(self.data)
            damaged[position] ^= pattern
            counts.add(self.decode(bytes(damaged)))
        self.assertEqual(counts, {0, 1, 2, 3})

    @hypothesis.settings(max_examples=100, deadline=None, database=None)
    @hypothesis.given(data=st.data())
    def test_parts_that_are_missing_or_repeated(self, data):
        start, end = sorted(data.draw(st.tuples(*[st.integers(0, len(self.data))] * 2)))
        into = data.draw(st.integers(0, len(self.data)))
        spliced = self.data[:into] + self.data[start:end] + self.data[end:]
        if spliced != self.data:
            self.decode(spliced)

    def test_bytes_after_the_end(self):
        self.assertEqual(self.decode(self.data + b"more"), testing.ITERATIONS)


class FilesTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        self.codec = testing.make_codec()
        self.folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
        self.source = self.folder / "photo.png"
        self.array = testing.make_array(15, 17, "RGBA")
        writing.write_picture(picture_from_array(self.array), self.source)

    def test_files_are_those_of_the_arrays(self):
        file, restored = self.folder / "photo.rnnc", self.folder / "restored.png"
        encoded = self.codec.encode_file(self.source, file, Target(iterations=2))
        data = self.codec.encode(self.array, iterations=2)
        self.assertEqual((file.read_bytes(), encoded.data), (data, data))
        picture = self.codec.decode_file(file, restored, iterations=1)
        expected = self.codec.decode(data, 1)
        np.testing.assert_array_equal(to_array(picture), expected)
        restored_again = reading.read_picture(restored)
        np.testing.assert_array_equal(to_array(restored_again), expected)

    def test_input_is_never_replaced(self):
        before = self.source.read_bytes()
        os.symlink(self.source, self.folder / "link.png")
        for function in (self.codec.encode_file, self.codec.decode_file):
            for name in ("photo.png", "link.png"):
                with self.assertRaisesRegex(CodecError, f"{name}: is the input too; name another"):
                    function(self.source, self.folder / name)
        self.assertEqual(self.source.read_bytes(), before)

    def test_faults_leave_no_file(self):
        (self.folder / "bad.png").write_bytes(b"no picture")
        with self.assertRaisesRegex(CodecError, "bad.png: expected a picture"):
            self.codec.encode_file(self.folder / "bad.png", self.folder / "bad.rnnc")
        with self.assertRaises(CodecError):
            self.codec.decode_file(self.folder / "bad.png", self.folder / "worse.png")
        with self.assertRaisesRegex(CodecError, "absent.png: expected a file, found none"):
            self.codec.encode_file(self.folder / "absent.png", self.folder / "absent.rnnc")
        names = {path.name for path in self.folder.iterdir()}
        self.assertEqual(names, {"photo.png", "bad.png"})


class PresetTest(absltest.TestCase):
    def test_saved_preset_is_the_same_model(self):
        codec = testing.make_codec()
        with tempfile.TemporaryDirectory() as folder:
            codec.save_preset(os.path.join(folder, "copy"))
            preset = presets.load(os.path.join(folder, "copy"))
        self.assertEqual(preset.identity, codec.identity)
        self.assertEqual(preset.config, codec.config)

    def test_models_differ_in_identity(self):
        self.assertNotEqual(
            testing.make_codec(testing.TWO_SCALE).identity,
            testing.make_codec(testing.STACKED).identity,
        )

    def test_unknown_preset_is_refused(self):
        with self.assertRaisesRegex(PresetError, "^'absent': expected a preset's folder or one of"):
            Codec.from_preset("absent")

    def test_weights_of_another_network_are_refused(self):
        config = testing.make_codec(testing.TWO_SCALE).config
        weights = testing.make_codec(testing.STACKED).preset.weights
        with self.assertRaisesRegex(PresetError, "its weights are of another network"):
            RecurrentCodec(presets.Preset(config, weights))


class PackageTest(absltest.TestCase):
    def test_names_that_the_package_promises(self):
        for name in rnn_codec.__all__:
            self.assertTrue(hasattr(rnn_codec, name), name)
        self.assertIs(rnn_codec.Codec, Codec)
        with self.assertRaises(AttributeError):
            rnn_codec.absent  # noqa: B018

    def test_import_is_light(self):
        code = (
            "import sys, json, rnn_codec; "
            "print(json.dumps(sorted({'keras', 'tensorflow', 'jax', 'numpy'} & set(sys.modules))))"
        )
        output = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True)
        self.assertEqual((json.loads(output.stdout), output.stderr), ([], b""))


if __name__ == "__main__":
    absltest.main()
