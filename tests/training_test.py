"""Tests for rnn_codec/recurrent/recipe.py, training/run.py and backend/distribution.py."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from unittest import mock

from absl.testing import absltest, parameterized
import keras
import numpy as np
import pytest
from tensorboard.backend.event_processing import event_accumulator
import training_runs
from training_runs import CONFIG, OPTIONS

from rnn_codec import presets
from rnn_codec.backend import distribution
from rnn_codec.errors import CodecError
from rnn_codec.recurrent import recipe
from rnn_codec.training import run

pytestmark = pytest.mark.network

# For what needs a network of its own: one iteration compiles faster.
SHORT_CONFIG = dataclasses.replace(CONFIG, iterations=1)
SHORT = dataclasses.replace(OPTIONS, steps=2, steps_per_epoch=2)


class OnStep(keras.callbacks.Callback):
    """Calls a function after some step of this process."""

    def __init__(self, step, function):
        super().__init__()
        self.step, self.function = step, function
        self.steps = 0

    def on_train_batch_end(self, batch, logs=None):
        self.steps += 1
        if self.steps == self.step:
            if keras.backend.backend() == "jax":
                self.model.jax_state_sync()
            self.function(self.model)


class WorkdirTest(parameterized.TestCase):
    """A test with a work folder."""

    def setUp(self):
        super().setUp()
        self.workdir = self.make_folder()

    def make_folder(self):
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        return os.path.join(folder, "run")

    def train(self, options=OPTIONS, config=CONFIG, workdir=None, **kwargs):
        photos = kwargs.pop("photos", None) or training_runs.photo_arrays()
        return recipe.train(config, photos, options, workdir or self.workdir, **kwargs)


class RunTest(WorkdirTest):
    """One run, not interrupted, and all that it leaves behind."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = tempfile.mkdtemp()
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.whole = os.path.join(cls.folder, "whole")
        cls.photos = training_runs.photo_arrays()
        cls.figures = recipe.train(CONFIG, cls.photos, OPTIONS, cls.whole)
        cls.checkpoint = training_runs.read_checkpoint(cls.whole)

    def events(self, name):
        accumulator = event_accumulator.EventAccumulator(
            os.path.join(self.whole, run.LOG_FOLDER, name)
        )
        accumulator.Reload()
        return accumulator

    def test_ends_at_exactly_its_last_step(self):
        self.assertEqual(json.loads(self.checkpoint["state"].tobytes()), {"step": 23})
        iteration = next(self.checkpoint[name] for name in self.checkpoint if "/iteration" in name)
        self.assertEqual(iteration, 23)

    def test_returns_figures_of_each_iteration(self):
        self.assertGreater(self.figures["psnr_db/iteration_02"], 5.0)
        self.assertBetween(self.figures["ms_ssim/iteration_02"], 0.0, 1.0)
        mean = np.mean([self.figures[f"loss/iteration_0{i}"] for i in (1, 2)])
        self.assertAlmostEqual(self.figures["loss"], mean, places=5)

    def test_learns(self):
        losses = [event.value for event in self.events("validation").Scalars("loss")]
        self.assertLess(losses[-1], losses[0])

    def test_logs_each_validation(self):
        log = self.events("validation")
        figures = ("loss", "psnr_db", "ms_ssim", "bits_per_pixel")
        names = {f"{name}/iteration_0{i}" for name in figures for i in (1, 2)}
        self.assertEqual(set(log.Tags()["scalars"]), names | {"loss"})
        steps = [event.step for event in log.Scalars("psnr_db/iteration_02")]
        self.assertEqual(steps, [5, 10, 15, 20, 23])
        last = log.Scalars("psnr_db/iteration_02")[-1].value
        self.assertAlmostEqual(last, self.figures["psnr_db/iteration_02"], places=4)
        bits = log.Scalars("bits_per_pixel/iteration_01")[-1].value
        self.assertBetween(bits, 0.0, CONFIG.bits / 256)

    def test_logs_pictures(self):
        log = self.events("validation")
        self.assertEqual(set(log.Tags()["images"]), {"rate_distortion", "strip_1", "strip_2"})
        strip = log.Images("strip_1")[-1]
        # I, P[1], P[2] of 32 pixels, above R[1], R[2].
        self.assertEqual((strip.width, strip.height), (96, 64))

    def test_logs_training(self):
        log = self.events("train")
        names = {
            f"{name}/iteration_0{i}"
            for name in ("loss", "psnr_db", "bits_per_pixel")
            for i in (1, 2)
        }
        self.assertEqual(set(log.Tags()["scalars"]), names)

    def test_a_checkpoint_holds_raw_weights_and_their_average(self):
        raw = [
            self.checkpoint[name] for name in sorted(self.checkpoint) if name.startswith("model/")
        ]
        averages = [
            self.checkpoint[name] for name in sorted(self.checkpoint) if name.endswith("_average")
        ]
        self.assertLen(averages, len(raw))
        difference = max(np.abs(a - b).max() for a, b in zip(raw, averages))
        self.assertGreater(difference, 1e-4)

    def test_an_interrupted_run_resumed_ends_with_the_same_bits(self):
        # In the middle of an epoch; what was done of it is repeated.
        def interrupt(model):
            raise KeyboardInterrupt

        with self.assertRaises(KeyboardInterrupt):
            self.train(extra_callbacks=[OnStep(8, interrupt)])
        self.assert_preset_is_the_average(self.workdir)
        state = training_runs.read_checkpoint(self.workdir)["state"]
        self.assertEqual(json.loads(state.tobytes()), {"step": 5})
        self.assertEqual(self.train(resume=True), self.figures)
        resumed = training_runs.read_checkpoint(self.workdir)
        self.assertEqual(sorted(resumed), sorted(self.checkpoint))
        for name, expected in self.checkpoint.items():
            np.testing.assert_array_equal(resumed[name], expected, name)
        for name in os.listdir(os.path.join(self.whole, run.PRESET_FOLDER)):
            paths = [
                os.path.join(folder, run.PRESET_FOLDER, name)
                for folder in (self.whole, self.workdir)
            ]
            self.assertEqual(*map(training_runs.read, paths), name)

    def assert_preset_is_the_average(self, workdir):
        """After one epoch, whose weights are the best by necessity."""
        checkpoint = training_runs.read_checkpoint(workdir)
        averages = [checkpoint[name] for name in sorted(checkpoint) if name.endswith("_average")]
        preset = presets.load(os.path.join(workdir, run.PRESET_FOLDER))
        for (path, saved), average in zip(preset.weights.items(), averages, strict=True):
            np.testing.assert_array_equal(saved, average.astype(np.float16), path)

    def test_a_finished_run_has_nothing_to_do(self):
        before = training_runs.files_below(self.whole)
        with self.assertLogs(level="INFO") as logs:
            self.assertEqual(self.train(workdir=self.whole, resume=True), {})
        self.assertIn("reached its 23 steps", logs.output[-1])
        self.assertEqual(training_runs.files_below(self.whole), before)

    def test_a_run_is_not_overwritten(self):
        with self.assertRaisesRegex(CodecError, "holds a run already; add --resume"):
            self.train(workdir=self.whole)

    def test_another_networks_checkpoint_is_refused(self):
        config = dataclasses.replace(CONFIG, bits=16)
        with self.assertRaisesRegex(CodecError, "resume with the flags the run was started with"):
            self.train(config=config, workdir=self.whole, resume=True)

    def test_weights_broken_at_the_end_of_an_epoch_are_not_kept(self):
        # No step comes whose loss would tell, nor does validation: bits of a broken encoder are
        # bits all the same.
        def break_encoder(model):
            for variable in [*model.trainable_variables, *model.optimizer.variables]:
                if re.search("encoder[/_]", variable.path):
                    variable.assign(np.full(variable.shape, np.nan))

        kept = {}

        def look(model):
            kept.update(self.kept_files())

        with self.assertRaisesRegex(CodecError, "^step 10: the weights are no longer finite"):
            self.train(extra_callbacks=[OnStep(6, look), OnStep(10, break_encoder)])
        self.assertNotEmpty(kept)
        self.assertEqual(self.kept_files(), kept)

    def kept_files(self):
        files = training_runs.files_below(self.workdir)
        return {path: content for path, content in files.items() if "/logs/" not in path}

    def test_a_fault_of_the_data_is_told_as_itself(self):
        photos = training_runs.photo_arrays()
        load, loads = photos.load, []

        def fail(item):
            loads.append(item)
            if len(loads) > 80:
                raise CodecError("disk: gone")
            return load(item)

        with mock.patch.object(photos, "load", fail), self.assertLogs(level="WARNING"):
            with self.assertRaisesRegex(CodecError, "^disk: gone; so it went with 100 photographs"):
                self.train(photos=photos)


class OptionsTest(WorkdirTest):
    """Runs of their own."""

    def test_trains_in_mixed_precision_from_a_preset(self):
        network = recipe.build(SHORT_CONFIG, SHORT)[0].network
        preset = presets.from_network(network)
        options = dataclasses.replace(
            SHORT, precision="mixed_bfloat16", loss="perceptual", learning_rate=0.0
        )
        figures = self.train(options, SHORT_CONFIG, initial_preset=preset)
        self.assertTrue(np.isfinite(figures["loss"]))
        for name, array in training_runs.read_checkpoint(self.workdir).items():
            if name.startswith("model/"):
                self.assertEqual(array.dtype, np.float32)
                path = name.split("/", 2)[2]
                np.testing.assert_array_equal(array, preset.weights[path].astype(np.float32))
        self.assertEqual(keras.config.dtype_policy().name, "float32")

    def test_batches_must_divide_among_devices(self):
        with mock.patch.object(distribution, "scope") as scope:
            scope.return_value.__enter__.return_value = 3
            with self.assertRaisesRegex(CodecError, "--batch_size=4: expected a multiple of the 3"):
                self.train()

    def test_devices_must_exist(self):
        with self.assertRaisesRegex(CodecError, "--devices=64: expected at most"):
            self.train(dataclasses.replace(OPTIONS, devices="64"))
        with self.assertRaisesRegex(CodecError, "^--devices=tpu: [^\n]*$"):
            self.train(dataclasses.replace(OPTIONS, devices="tpu"))

    def test_workdir_must_be_writable(self):
        os.makedirs(os.path.dirname(self.workdir), exist_ok=True)
        with open(self.workdir, "w"):
            pass
        with self.assertRaisesRegex(CodecError, "expected a folder to write to"):
            self.train(workdir=os.path.join(self.workdir, "below_a_file"))

    def test_tells_what_was_asked_otherwise_on_resuming(self):
        photos = training_runs.photo_arrays()
        run.record_run(self.workdir, CONFIG, photos, OPTIONS)
        options = dataclasses.replace(OPTIONS, seed=7, profile=(1, 2))
        photos.training.pop()
        with self.assertLogs(level="WARNING") as logs:
            run.record_run(self.workdir, CONFIG, photos, options)
        self.assertLen(logs.output, 2)
        count = len(photos.training)
        self.assertIn(f"photographs was {count + 1} before and is {count} now", logs.output[0])
        self.assertIn("seed was 0 before and is 7 now", logs.output[1])

    def test_learning_rate_warms_up_and_decays(self):
        schedule = run.learning_rate_schedule(1e-2, steps=100, warmup_steps=10)
        rates = [float(schedule(step)) for step in (0, 5, 10, 55, 100)]
        np.testing.assert_allclose(rates, [0.0, 5e-3, 1e-2, 5.05e-3, 1e-4], rtol=1e-5)

    @pytest.mark.tensorflow
    def test_graph_and_profile_on_request(self):
        options = dataclasses.replace(SHORT, graph=True, profile=(1, 2))
        self.train(options, SHORT_CONFIG)
        logs = os.path.join(self.workdir, run.LOG_FOLDER, "train")
        accumulator = event_accumulator.EventAccumulator(logs)
        accumulator.Reload()
        names = {node.name for node in accumulator.Graph().node}
        self.assertTrue(any("encoder" in name for name in names))
        self.assertTrue(
            any(name.endswith(".xplane.pb") for name in training_runs.files_below(logs))
        )


class RunKeeperTest(WorkdirTest):
    def setUp(self):
        super().setUp()
        os.makedirs(self.workdir)
        self.weight = keras.Variable([1.0, 2.0], name="weight")
        groups = {"model": [self.weight], "optimizer": []}
        self.keeper = run.RunKeeper(self.workdir, groups, first_step=40, total_steps=50)
        self.keeper.set_model(mock.Mock(stop_training=False))

    def test_writes_the_step_and_the_weights(self):
        for _ in range(3):
            self.keeper.on_train_batch_end(0, {"loss": 1.0})
        self.keeper.on_test_end({"loss": 1.0})
        self.keeper.on_epoch_end(0, {"loss": 1.0, "val_loss": 2.0})
        checkpoint = training_runs.read_checkpoint(self.workdir)
        self.assertEqual(json.loads(checkpoint["state"].tobytes()), {"step": 43})
        np.testing.assert_array_equal(checkpoint["model/0000/weight"], [1.0, 2.0])
        self.assertEqual(self.keeper.figures, {"loss": 2.0})

    def test_stops_at_the_last_step(self):
        for step in range(41, 51):
            self.assertFalse(self.keeper.model.stop_training, step)
            self.keeper.on_train_batch_end(0, {"loss": 1.0})
        self.assertTrue(self.keeper.model.stop_training)

    @parameterized.parameters(np.nan, np.inf, -np.inf)
    def test_a_loss_that_is_not_finite_ends_the_run_by_the_next_step(self, loss):
        self.keeper.on_train_batch_end(0, {"loss": 1.0})
        self.keeper.on_train_batch_end(1, {"loss": loss})
        with self.assertRaisesRegex(CodecError, "^step 42: the loss is no longer finite") as fault:
            self.keeper.on_train_batch_end(2, {"loss": 1.0})
        self.assertNotIn("\n", str(fault.exception))
        with self.assertRaisesRegex(CodecError, "^step 42: the loss is no longer finite"):
            self.keeper.on_test_end({"loss": 1.0})
        self.assertEmpty(os.listdir(self.workdir))

    def test_a_validation_that_is_not_finite_ends_the_run(self):
        with self.assertRaisesRegex(CodecError, "the loss is no longer finite"):
            self.keeper.on_test_end({"loss": np.nan})


class PresetExportTest(WorkdirTest):
    def test_keeps_the_best_of_the_run_only(self):
        network = recipe.build(SHORT_CONFIG, SHORT)[0].network
        variable = network.trainable_variables[0]
        record = os.path.join(self.workdir, run.PresetExport.RECORD)

        def export(resumed, losses):
            exporter = run.PresetExport(
                self.workdir, lambda: presets.from_network(network), resumed
            )
            for loss in losses:
                variable.assign(np.full(variable.shape, loss))
                exporter.on_epoch_end(0, {"val_loss": loss})
            weights = presets.load(self.workdir).weights[variable.path]
            return json.loads(training_runs.read(record))["loss"], weights.flat[0]

        self.assertEqual(export(False, [3.0, 2.0, 4.0]), (2.0, 2.0))
        self.assertEqual(export(True, [2.0, 2.5]), (2.0, 2.0))
        self.assertEqual(export(True, [1.0]), (1.0, 1.0))
        # What lies there now is of another run, and proves nothing about this one.
        self.assertEqual(export(False, [5.0]), (5.0, 5.0))


class AveragedWeightsTest(absltest.TestCase):
    def test_validation_and_earlier_callbacks_see_averages_later_ones_the_raw_weights(self):
        seen = {}

        class Look(keras.callbacks.Callback):
            def __init__(self, name):
                super().__init__()
                self.name = name

            def on_epoch_end(self, epoch, logs=None):
                weight = np.asarray(self.model.trainable_variables[0]).copy()
                seen[self.name, epoch] = weight, logs["val_loss"]

        class Track(keras.callbacks.Callback):
            """The average, computed anew."""

            average, raw = None, None

            def on_train_batch_end(self, batch, logs=None):
                if keras.backend.backend() == "jax":
                    self.model.jax_state_sync()
                self.raw = np.asarray(self.model.trainable_variables[0]).copy()
                self.average = (
                    self.raw if self.average is None else 0.5 * self.average + 0.5 * self.raw
                )

            def on_epoch_end(self, epoch, logs=None):
                seen["tracked", epoch] = self.raw, self.average

        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
        optimizer = distribution.Adam(0.1, global_clipnorm=1.0, use_ema=True, ema_momentum=0.5)
        model.compile(optimizer, "mse")
        inputs, targets = np.ones((4, 1), np.float32), np.full((4, 1), 3.0, np.float32)
        callbacks = [Track(), Look("before"), run.AveragedWeights(), Look("after")]
        model.fit(
            inputs, targets, batch_size=1, epochs=2, validation_data=(inputs, targets),
            callbacks=callbacks, verbose=0,
        )  # fmt: skip
        for epoch in range(2):
            raw, average = seen["tracked", epoch]
            weight, loss = seen["before", epoch]
            np.testing.assert_allclose(weight, average, rtol=1e-6)
            self.assertAlmostEqual(loss, (3.0 - average.item()) ** 2, places=5)
            np.testing.assert_array_equal(seen["after", epoch][0], raw)


# Trains on one device and on two, and prints how much the checkpoints differ, as a share of each
# array's largest value. The norm is clipped well below that of the gradient, and the moments of
# Adam are compared too: its steps alone would not tell a loss of another scale.
TWO_DEVICES = """
import dataclasses, os, sys
sys.path.insert(0, sys.argv[1])
import keras
import numpy as np
if keras.backend.backend() == "tensorflow":
    import tensorflow as tf
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
    )
import training_runs
from rnn_codec.recurrent import recipe
checkpoints, losses = [], []
for devices in "12":
    options = dataclasses.replace(
        training_runs.OPTIONS, steps=3, steps_per_epoch=2, clip_norm=0.01, warmup_steps=0,
        devices=devices,
    )
    workdir = os.path.join(sys.argv[2], devices)
    # Without the block transform: in a loop of one, some of its weights have no gradient at all.
    config = dataclasses.replace(training_runs.CONFIG, iterations=1, atoms=0, good_enough=0.0)
    figures = recipe.train(config, training_runs.photo_arrays(), options, workdir)
    losses.append(figures["loss"])
    checkpoints.append(training_runs.read_checkpoint(workdir))
one, two = checkpoints
shares = [np.abs(one[k] - two[k]).max() / np.abs(one[k]).max() for k in one if "/" in k]
print(len(shares), max(shares), *losses)
"""


class DevicesTest(WorkdirTest):
    def test_two_devices_do_what_one_does(self):
        process = subprocess.run(
            [sys.executable, "-c", TWO_DEVICES, os.path.dirname(__file__), self.workdir],
            env=training_runs.environment(
                # The second halves the time to compile.
                XLA_FLAGS="--xla_force_host_platform_device_count=2 "
                "--xla_backend_optimization_level=0",
            ),
            capture_output=True,
            text=True,
            timeout=900,
        )
        self.assertEqual(process.returncode, 0, process.stderr)
        count, share, *losses = map(float, process.stdout.split())
        self.assertGreater(count, 50)
        self.assertLess(share, 1e-4)
        self.assertAlmostEqual(*losses, places=4)
        self.assertTrue(np.isfinite(losses).all())


if __name__ == "__main__":
    absltest.main()
