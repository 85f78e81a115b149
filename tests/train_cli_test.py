"""Tests for rnn_codec/commands/train.py."""

import contextlib
import io
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from absl.testing import absltest, parameterized
import numpy as np
import pytest
from tensorboard.backend.event_processing import event_accumulator
import testing
import training_runs

from rnn_codec import presets
from rnn_codec.training import checkpoints, run

ROOT = pathlib.Path(__file__).parent.parent
COMMAND = (sys.executable, str(ROOT / "train.py"))


class TrainTest(parameterized.TestCase):
    """A test with a folder of photographs, and a path for a run."""

    def setUp(self):
        super().setUp()
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)
        self.photos = os.path.join(self.folder, "photos")
        self.workdir = os.path.join(self.folder, "run")

    def start(self, *args):
        """Runs the command in a process of its own, to its end."""
        return subprocess.run(
            [*COMMAND, *args],
            env=training_runs.environment(),
            capture_output=True,
            text=True,
            timeout=900,
        )

    def main(self, *args):
        """Runs the command in this process: exit code, and what it printed to stderr."""
        args = [f"--data={self.photos}", f"--workdir={self.workdir}", *args]
        with contextlib.redirect_stderr(io.StringIO()) as stderr:
            code = testing.call("train", *args)
        return code, stderr.getvalue()

    def assert_one_line(self, text, pattern):
        self.assertRegex(text, f"^train: {pattern}.*\n$")
        self.assertEqual(text.count("\n"), 1, text)


class FlagsTest(TrainTest):
    """Faults that need no Keras to be seen."""

    @parameterized.named_parameters(
        ("no_data", ["--workdir=w"], "expected --data or --tfds, received neither; give one"),
        (
            "two_data",
            ["--workdir=w", "--data=d", "--tfds=t"],
            "expected --data or --tfds, received both; give one",
        ),
        ("no_workdir", ["--data=d"], "expected --workdir; see --help"),
        (
            "odd_patch",
            ["--workdir=w", "--data=d", "--patch_size=40"],
            "--patch_size=40: expected a multiple of 16",
        ),
        (
            "odd_crop",
            ["--workdir=w", "--data=d", "--validation_size=100"],
            "--validation_size=100: expected",
        ),
        (
            "no_patches",
            ["--workdir=w", "--data=d", "--batch_size=0"],
            "--batch_size=0: expected a whole",
        ),
        ("precision", ["--workdir=w", "--data=d", "--precision=int"], "--precision=int: expected"),
        ("devices", ["--workdir=w", "--data=d", "--devices=0"], "--devices=0: expected auto"),
        (
            "profile",
            ["--workdir=w", "--data=d", "--profile=9,8"],
            "--profile=9,8: expected two steps",
        ),
        ("unknown", ["--workdir=w", "--data=d", "--bogus"], "Unknown command line flag 'bogus'"),
    )
    def test_faults_are_one_line(self, args, pattern):
        process = self.start(*args)
        self.assertEqual((process.returncode, process.stdout), (1, ""))
        self.assert_one_line(process.stderr, pattern)

    def test_help_is_quick_and_lists_the_flags(self):
        command = [sys.executable, "-X", "importtime", *COMMAND[1:], "--help"]
        process = subprocess.run(command, capture_output=True, text=True)
        self.assertNotRegex(process.stderr, r"(?m)\| +(keras|tensorflow|jax)$")
        text = "--steps_per_epoch: With --model=embedded or entropy or codec or context:"
        self.assertIn(text, process.stdout)
        self.assertIn("python train.py --data=photos --workdir=runs/first --resume", process.stdout)


@pytest.mark.network
class HybridTest(TrainTest):
    def test_trains_a_preset(self):
        training_runs.write_photographs(self.photos)
        testing.make_hybrid().save_preset(os.path.join(self.folder, "start"))
        args = (
            "--model=hybrid", f"--preset={self.folder}/start", "--initial_weights", "--block=2",
            "--base=webp", "--qualities=10,50", "--steps=5", "--steps_per_epoch=2",
            "--compact_every=2", "--batch_size=2", "--patch_size=32", "--validation_images=1",
            "--validation_size=32", "--validation_percent=30", "--nobatch_normalisation",
            "--shortcuts", "--conditioned",
        )  # fmt: skip
        # Other layers than those of the weights.
        if not any(arg.startswith("--model=") for arg in args):
            args = ["--model=codec", *args]
        code, stderr = self.main(*args)
        self.assertEqual(code, 1)
        self.assertRegex(stderr, "train: preset .* its weights are of another network")
        code, stderr = self.main(*(arg for arg in args if arg != "--initial_weights"))
        self.assertEqual(code, 0, stderr)
        config = presets.load(os.path.join(self.workdir, "preset")).config
        self.assertEqual((config.base, config.block, config.conditioned), ("webp", 2, True))
        self.assertEqual((config.lowest_quality, config.highest_quality), (10, 50))
        self.assertEqual(steps_done(self.workdir), 5)


def steps_done(workdir):
    """The steps that a run has done."""
    state = training_runs.read_checkpoint(workdir)["state"]
    return json.loads(state.tobytes())["step"]


class FaultsTest(TrainTest):
    """Faults that are seen before a first step."""

    def assert_fault(self, args, pattern):
        if not any(arg.startswith("--model=") for arg in args):
            args = ["--model=codec", *args]
        code, stderr = self.main(*args)
        self.assertEqual(code, 1)
        self.assert_one_line(stderr, pattern)

    def test_no_photographs(self):
        self.assert_fault([], f"{self.photos}: expected a folder of photographs; there is none")
        os.mkdir(self.photos)
        self.assert_fault([], f"{self.photos}: expected photographs .* found none")

    def test_photographs_too_small(self):
        training_runs.write_photographs(self.photos)
        self.assert_fault(["--patch_size=256"], f"{self.photos}: expected .* at least 256 pixels")

    def test_unknown_preset(self):
        training_runs.write_photographs(self.photos)
        self.assert_fault(["--preset=none_such"], "'none_such': expected a preset's folder or one")

    def test_preset_without_weights(self):
        training_runs.write_photographs(self.photos)
        args = ["--preset=residual_gru", "--initial_weights"]
        self.assert_fault(args, "'residual_gru': no trained weights ship for it")

    def test_more_iterations_than_the_configuration_has(self):
        training_runs.write_photographs(self.photos)
        args = ["--max_iterations=4", "--iterations=5"]
        self.assert_fault(args, "--iterations=5: expected at most the 4 of the configuration")

    def test_unknown_loss(self):
        training_runs.write_photographs(self.photos)
        self.assert_fault(["--loss=l2"], "--loss=l2: expected one of l1, perceptual; name another")

    def test_an_option_of_the_other_source(self):
        pattern = "--tfds_dir: has no meaning without --tfds; leave it out"
        self.assert_fault(["--tfds_dir=d"], pattern)

    def test_a_flag_that_a_context_model_has_no_use_for(self):
        args = ["--model=context", f"--preset={testing.preset_folder()}", "--loss=l1"]
        self.assert_fault(args, "--loss: has no meaning with --model=context; leave it out")

    @parameterized.named_parameters(
        ("width", ["--width=2"], "--width: has no meaning with --model=hybrid; leave it out"),
        ("qualities", ["--qualities=9,3"], "lowest_quality must be from 0 to highest_"),
        ("odd", ["--shortcuts", "--batch_normalisation"], "shortcuts need an even number of"),
        ("preset", ["--preset=gru"], "--preset=gru: expected one of another kind of codec for"),
        ("none", ["--qualities=97,99"], "expected a range of qualities of jpeg, which has 1 to 95"),
    )
    def test_hybrid(self, args, pattern):
        training_runs.write_photographs(self.photos)
        self.assert_fault(["--model=hybrid", "--patch_size=32", *args], pattern)

    @parameterized.parameters(
        ("--base=webp", "--base: has no meaning with --model=codec; leave it out"),
        ("--preset=hybrid", "--preset=hybrid: expected one of another kind of codec for"),
    )
    def test_what_only_the_hybrid_codec_has(self, arg, pattern):
        training_runs.write_photographs(self.photos)
        self.assert_fault([arg], pattern)

    def test_workdir_in_use(self):
        training_runs.write_photographs(self.photos)
        os.mkdir(self.workdir)
        pathlib.Path(self.workdir, checkpoints.FILE_NAME).touch()
        self.assert_fault([], f"{self.workdir}: holds a run already; add --resume")
        self.assert_fault(["--resume"], f"{self.workdir}/checkpoint.npz: expected a checkpoint")

    def test_workdir_not_to_be_made(self):
        training_runs.write_photographs(self.photos)
        self.workdir = os.path.join(self.photos, "00.png", "below_a_file")
        self.assert_fault(["--width=0.01"], f"{self.workdir}: expected a folder to write to")

    def test_too_few_photographs_to_validate_on(self):
        training_runs.write_photographs(self.photos)
        args = ["--width=0.01", "--patch_size=32", "--validation_percent=1"]
        self.assert_fault(args, "expected validation photographs .* raise --validation_percent")

    def test_an_argument_that_is_no_flag(self):
        self.assert_fault(["photos"], "unexpected argument 'photos'; see --help")


@pytest.mark.network
class RunsTest(TrainTest):
    def setUp(self):
        super().setUp()
        training_runs.write_photographs(self.photos)

    def checkpoint_step(self):
        try:
            state = training_runs.read_checkpoint(self.workdir)["state"]
        except FileNotFoundError:
            return 0
        return json.loads(state.tobytes())["step"]

    def test_killed_at_any_moment_and_resumed_it_ends_with_the_same_bits(self):
        args = [*training_runs.FLAGS, f"--data={self.photos}", f"--workdir={self.workdir}"]
        with subprocess.Popen(
            [*COMMAND, *args], env=training_runs.environment(), stderr=subprocess.DEVNULL
        ) as process:
            # Not the generator that a run in this process has seeded.
            chance = random.SystemRandom()
            least, delay = chance.choice((5, 10)), chance.uniform(0.0, 0.1)
            deadline = time.monotonic() + 600
            while self.checkpoint_step() < least and time.monotonic() < deadline:
                self.assertIsNone(process.poll(), "it ended by itself")
                time.sleep(0.002)
            time.sleep(delay)
            process.send_signal(signal.SIGKILL)
        moment = f"killed {delay:.3f} s after the checkpoint of step {least}"
        self.assertEqual(process.returncode, -signal.SIGKILL, moment)
        self.assertBetween(self.checkpoint_step(), least, 22, moment)

        code, _ = self.main(*training_runs.FLAGS, "--resume")
        self.assertEqual(code, 0)
        whole = os.path.join(self.folder, "whole")
        code, _ = self.main(*training_runs.FLAGS, f"--workdir={whole}")
        self.assertEqual(code, 0)
        expected, resumed = map(training_runs.read_checkpoint, (whole, self.workdir))
        self.assertEqual(sorted(resumed), sorted(expected))
        for name, array in expected.items():
            np.testing.assert_array_equal(resumed[name], array, f"{name}, {moment}")
        for path, content in training_runs.files_below(whole).items():
            if "/logs/" not in path and not path.endswith(checkpoints.FILE_NAME):
                path = path.replace(whole, self.workdir)
                self.assertEqual(training_runs.read(path), content, f"{path}, {moment}")

    @pytest.mark.tensorflow  # not of its own, but JAX would compile two more runs
    def test_a_rate_too_high_ends_the_run_and_harms_nothing(self):
        args = [*training_runs.FLAGS, "--warmup_steps=0"]
        code, _ = self.main(*args, "--steps=5")
        self.assertEqual(code, 0)
        before = training_runs.files_below(self.workdir)
        code, stderr = self.main(*args, "--resume", "--learning_rate=1e38")
        self.assertEqual(code, 1)
        fault = stderr.splitlines()[-1]
        self.assertRegex(fault, "^train: step [0-9]+: the loss is no longer finite; .*--learning_")
        for path, content in before.items():
            if "/logs/" not in path and not path.endswith(run.RUN_FILE):
                self.assertEqual(training_runs.read(path), content, path)

    @pytest.mark.tensorflow  # as above
    def test_goes_on_from_a_presets_weights(self):
        folder = testing.preset_folder()
        expected = presets.load(folder)
        code, stderr = self.main(
            *training_runs.FLAGS, f"--preset={folder}", f"--width={expected.config.width}",
            f"--max_iterations={expected.config.iterations}", "--initial_weights",
            "--steps=1", "--learning_rate=0", "--hard_tiles=3",
        )  # fmt: skip
        self.assertEqual(code, 0, stderr)
        actual = presets.load(os.path.join(self.workdir, run.PRESET_FOLDER))
        for path, array in expected.weights.items():
            np.testing.assert_array_equal(actual.weights[path], array, path)
        self.assertRegex(
            stderr, "step 1: validation loss [0-9.]+; ms_ssim [0-9. ]+; psnr_db [0-9. ]"
        )

    def test_trains_a_context_model(self):
        folder = testing.preset_folder()
        code, stderr = self.main(
            "--model=context", f"--preset={folder}", "--steps=2", "--steps_per_epoch=2",
            "--batch_size=2", "--patch_size=64", "--validation_percent=30",
        )  # fmt: skip
        self.assertEqual(code, 0, stderr)
        self.assertRegex(stderr, "step 2: validation loss [0-9.]+; bits_per_bit [0-9. ]+\n")
        trained = presets.load(os.path.join(self.workdir, run.PRESET_FOLDER))
        np.testing.assert_equal(trained.weights, presets.load(folder).weights)
        self.assertEqual(len(trained.context["bias"]), trained.config.iterations)
        log = event_accumulator.EventAccumulator(os.path.join(self.workdir, "logs", "validation"))
        log.Reload()
        self.assertIn("bits_per_bit/iteration_03", log.Tags()["scalars"])


if __name__ == "__main__":
    absltest.main()
