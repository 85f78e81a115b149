"""Tests for rnn_codec/training/tensorboard.py, events.py and progress.py."""

import contextlib
import io
import os
import shutil
import sys
import tempfile
from unittest import mock

from absl.testing import absltest, parameterized
import keras
import numpy as np
from PIL import Image
from tensorboard.backend.event_processing import event_accumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.util import tensor_util

from rnn_codec.errors import CodecError
from rnn_codec.training import events, tensorboard
from rnn_codec.training.progress import Progress

# A codec of two iterations, each 32 bits for 16x16 pixels, which restores the picture itself.
SHOWN = tensorboard.Shown(
    np.zeros((1, 32, 32, 3), np.uint8),
    lambda image: np.stack([image, image], axis=1),
    charts=lambda figures: {"ms_ssim": {"this codec": [(0.125, 0.8), (0.25, 0.9)]}},
    pixels_per_step=1024,
    bits_per_iteration=0.125,
)


class ProgressTest(absltest.TestCase):
    def test_shows_steps_of_the_whole_run_and_closes(self):
        with contextlib.redirect_stderr(io.StringIO()) as stderr:
            bar = Progress(first_step=10, total_steps=14)
            for _ in range(4):
                bar.on_train_batch_end(0, {"loss": 0.5})
            bar.close()
        self.assertEqual(bar.step, 14)
        self.assertIn("14/14", stderr.getvalue())

    def test_remaining_time_is_from_the_mean_rate_since_the_first_step(self):
        now = [1000.0]
        with (
            contextlib.redirect_stderr(io.StringIO()) as stderr,
            mock.patch("tqdm.std.time", lambda: now[0]),
        ):
            bar = Progress(first_step=0, total_steps=101)
            now[0] += 3600  # compilation: no part of the rate
            bar.on_train_batch_end(0, {"loss": 0.5})
            for seconds in (10, 10, 100, 10, 70):  # a validation, a checkpoint: part of it
                now[0] += seconds
                bar.on_train_batch_end(0, {"loss": 0.5})
        # 200 seconds for 5 steps: 95 more take 3800.
        self.assertEqual(bar.bar._time(), now[0])
        self.assertIn("6/101 [03:20<1:03:20", stderr.getvalue().split("\r")[-1])

    def test_tells_each_validation_in_a_line(self):
        logs = {"loss": 1.0, "val_loss": 0.25}
        for number in (1, 2):
            logs[f"val_ms_ssim/iteration_0{number}"] = 0.9 + 0.05 * number
            logs[f"val_psnr_db/iteration_0{number}"] = 20.0 + number
        with contextlib.redirect_stderr(io.StringIO()) as stderr:
            Progress(first_step=7, total_steps=9).on_epoch_end(0, logs)
        self.assertEqual(
            stderr.getvalue(),
            "step 7: validation loss 0.2500; ms_ssim 0.9500 1.0000; psnr_db 21.00 22.00\n",
        )


class PicturesTest(parameterized.TestCase):
    def test_a_strip_shows_pictures_above_residuals(self):
        # One pixel each; levels 200, then 100 and 220.
        image = np.full((1, 1, 1, 3), 200 / 127.5 - 1, np.float32)
        levels = np.array([100, 220], np.float32).reshape(1, 2, 1, 1, 1)
        reconstructions = np.broadcast_to(levels / 127.5 - 1, (1, 2, 1, 1, 3))
        strip = events.strip(image, reconstructions)
        self.assertEqual((strip.shape, strip.dtype), ((1, 2, 3, 3), np.uint8))
        np.testing.assert_array_equal(strip[0, 0, :, 0], [200, 100, 220])
        # R = 100 and -20, shown as 128 + R / 2.
        np.testing.assert_array_equal(strip[0, 1, :, 0], [128, 178, 118])

    def test_a_strip_keeps_pictures_upright_and_apart(self):
        rng = np.random.default_rng(0)
        image = rng.uniform(-1, 1, (2, 4, 6, 3)).astype(np.float32)
        strip = events.strip(image, np.stack([image, -image], axis=1))
        expected = np.rint(127.5 + 127.5 * image)
        self.assertEqual(strip.shape, (2, 8, 18, 3))
        np.testing.assert_array_equal(strip[:, :4, :6], expected)
        np.testing.assert_array_equal(strip[:, :4, 6:12], expected)
        np.testing.assert_array_equal(strip[:, 4:, 6:12], 128)

    @parameterized.named_parameters(
        ("rising", [0.8, 0.9, 0.95]), ("flat", [0.5, 0.5]), ("one_point", [0.7])
    )
    def test_the_rate_distortion_figure_draws_each_curve(self, values):
        points = [(0.125 * 2**i, value) for i, value in enumerate(values)]
        charts = {
            "ms_ssim": {"this codec": points, "jpeg": [(0.1, 0.6), (0.9, 0.8)]},
            "psnr_db": {"this codec": [(rate, 30 * value) for rate, value in points]},
        }
        picture = events.rate_distortion_figure(charts)
        self.assertEqual(picture.size, (960, 360))
        navy = (np.asarray(picture) == (0, 0, 128)).all(axis=-1)
        self.assertTrue(navy[:, :480].any() and navy[:, 480:].any())
        red = (np.asarray(picture) == (178, 34, 34)).all(axis=-1)
        self.assertTrue(red[:, :480].any() and not red[:, 480:].any())


class LogTest(absltest.TestCase):
    """A test with a folder for logs."""

    def setUp(self):
        super().setUp()
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)

    def read(self, name="."):
        path = os.path.join(self.folder, name)
        log = event_accumulator.EventAccumulator(path, {"images": 0})  # 0: all of them
        log.Reload()
        return log


class EventWriterTest(LogTest):
    def test_writes_what_tensorboard_reads(self):
        writer = events.EventWriter(self.folder, step=0)
        writer.scalars(3, {"loss": 0.5, "learning_rate": 0.25})
        writer.image(3, "strip_1", Image.new("RGB", (6, 4), "red"))
        writer.layout({"psnr_db": "^psnr_db/iteration_"})
        writer.close()
        log = self.read()
        self.assertEqual([(e.step, e.value) for e in log.Scalars("loss")], [(3, 0.5)])
        image = log.Images("strip_1")[0]
        with Image.open(io.BytesIO(image.encoded_image_string)) as picture:
            self.assertEqual(picture.getpixel((5, 3)), (255, 0, 0))
        tensor = log.Tensors("custom_scalars__config__")[0].tensor_proto
        layout = layout_pb2.Layout.FromString(tensor_util.make_ndarray(tensor).item())
        (chart,) = layout.category[0].chart
        self.assertEqual((chart.title, chart.multiline.tag), ("psnr_db", ["^psnr_db/iteration_"]))

    def test_what_a_killed_process_wrote_past_its_checkpoint_is_hidden(self):
        for first_step, value in ((0, 1.0), (10, 2.0)):
            writer = events.EventWriter(self.folder, first_step)
            for step in range(first_step + 5, first_step + 16, 5):
                writer.scalars(step, {"loss": value})
            writer.close()
        points = [(event.step, event.value) for event in self.read().Scalars("loss")]
        self.assertEqual(points, [(5, 1.0), (10, 1.0), (15, 2.0), (20, 2.0), (25, 2.0)])


class TensorBoardTest(LogTest):
    def board(self, **kwargs):
        return tensorboard.TensorBoard(
            self.folder, 0, 100, lambda step: step / 100, SHOWN, **{"every": 2, **kwargs}
        )

    def test_the_loss_is_that_of_the_last_steps(self):
        board = self.board()
        for epoch in (0, 1):
            board.on_epoch_begin(epoch)
            losses = np.arange(1.0, 6.0) + 10 * epoch
            for batch in range(5):
                board.on_train_batch_end(batch, {"loss": losses[: batch + 1].mean()})
        board.close()
        points = [
            (event.step, round(event.value, 5)) for event in self.read("train").Scalars("loss")
        ]
        # An epoch's odd step is left out: Keras's mean began anew.
        self.assertEqual(points, [(2, 1.5), (4, 3.5), (6, 11.0), (8, 12.5), (10, 14.5)])
        rates = [event.value for event in self.read("train").Scalars("learning_rate")]
        np.testing.assert_allclose(rates, [0.02, 0.04, 0.06, 0.08, 0.10])

    def test_strips_come_twenty_times_in_a_run(self):
        board = self.board(every=1000)
        logs = {f"val_{name}/iteration_01": 0.5 for name in ("ms_ssim", "psnr_db", "bits_per_bit")}
        for batch in range(100):
            board.on_train_batch_end(batch, {"loss": 1.0})
            board.on_epoch_end(batch, logs)
        board.close()
        log = self.read("validation")
        steps = [event.step for event in log.Images("strip_1")]
        self.assertEqual(steps, list(range(5, 101, 5)))
        bits = log.Scalars("bits_per_pixel/iteration_01")
        self.assertLen(bits, 100)
        self.assertEqual(bits[0].value, 0.5 * 32 / 256)


class TensorBoardCallbacksTest(LogTest):
    def callbacks(self, graph=None, profile=None):
        return tensorboard.tensorboard_callbacks(
            self.folder, 0, 100, lambda step: 0.0, SHOWN, graph, profile
        )

    def test_without_tensorboard_a_line_says_what_brings_it(self):
        missing = dict.fromkeys(name for name in sys.modules if name.startswith("tensorboard"))
        with mock.patch.dict(sys.modules, missing), self.assertLogs(level="WARNING") as logs:
            self.assertEqual(self.callbacks(), [])
        self.assertLen(logs.output, 1)
        self.assertIn("pip install 'rnn-codec[train]'", logs.output[0])

    def test_what_the_backend_lacks_is_refused(self):
        with mock.patch.object(keras.backend, "backend", lambda: "numpy"):
            with self.assertRaisesRegex(CodecError, "--graph: expected .* received numpy"):
                self.callbacks(graph=mock.Mock())
            with self.assertRaisesRegex(CodecError, "--profile: expected .* received numpy"):
                self.callbacks(profile=(1, 2))

    def test_profiles_the_steps_asked_for(self):
        callbacks = self.callbacks(profile=(3, 4))
        profiler = callbacks[-1]
        with (
            mock.patch.object(profiler, "_start") as start,
            mock.patch.object(profiler, "_stop") as stop,
        ):
            for step in range(1, 7):
                profiler.on_train_batch_begin(step)
                self.assertEqual(start.call_count, step >= 3)
                profiler.on_train_batch_end(step, {"loss": 1.0})
                self.assertEqual(stop.call_count, step >= 4)
        for callback in callbacks:
            callback.close()


if __name__ == "__main__":
    absltest.main()
