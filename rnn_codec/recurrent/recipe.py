"""Training of a codec through `Model.fit`: the same on TensorFlow, JAX and torch.

The workflow: `train(config, photos, options, workdir)` builds the network, restores the last
checkpoint of the work folder if asked to, and fits in epochs of `steps_per_epoch`. After each
epoch it validates with the averaged weights, exports them as a preset to `workdir/preset` if they
are the best so far, ready for `encode.py --preset`, and writes a checkpoint. That comes last: a run
killed at any moment and resumed repeats what it had not finished, and ends as if never killed.

`workdir` holds `checkpoint.npz`, `preset/`, TensorBoard's `logs/`, and what was asked, `run.json`.
"""

import dataclasses
import json
import logging
import math
import os

import keras
from keras import ops
import numpy as np

from rnn_codec import presets, storage
from rnn_codec.backend import distribution
from rnn_codec.errors import CodecError
from rnn_codec.layers.common import dtype_policy
from rnn_codec.recurrent import losses, progressive
from rnn_codec.training import checkpoints, data, monitoring, similarity

PRESET_FOLDER, LOG_FOLDER, RUN_FILE = "preset", "logs", "run.json"

# Of the validation crops, so many are shown in TensorBoard.
_SHOWN_IMAGES = 3


@dataclasses.dataclass(frozen=True)
class TrainingOptions:
    """What a run is, apart from the network and the photographs. Defaults train the product."""

    steps: int = 100_000
    steps_per_epoch: int = 1_000  # between checkpoints and validations
    batch_size: int = 16
    patch_size: int = 64
    iterations: int | None = None  # of the loop while training; the config's if None
    loss: str = "perceptual"
    learning_rate: float = 1e-3
    warmup_steps: int = 500
    clip_norm: float = 1.0
    ema_momentum: float = 0.999
    precision: str = "float32"  # or mixed_bfloat16
    maximum_downscale: float = 2.0
    hard_tiles: int | None = None
    validation_images: int = 24
    validation_size: int = 192  # at least 161, or the coarsest scale of MS-SSIM is cut short
    seed: int = 0
    # How it is run and watched, which changes nothing else.
    devices: str = "auto"  # see `distribution.scope`
    graph: bool = False  # into the logs (TensorFlow only)
    profile: tuple[int, int] | None = None  # first and last step of a profile, into the logs


@keras.saving.register_keras_serializable(package="rnn_codec")
class TrainingModel(keras.Model):
    """A network with its loss and its per-iteration metrics, for `fit` and `evaluate`.

    Args:
        network: `progressive.ProgressiveNetwork`.
        loss: str, a name in `losses.LOSSES`.
        num_iterations: int. Turns of the loop.
    """

    def __init__(self, network, loss="perceptual", num_iterations=None, **kwargs):
        super().__init__(**kwargs)
        self.network = network
        self.loss_function = losses.LOSSES[loss]
        self.num_iterations = num_iterations or network.config.iterations
        self.loss_by_iteration = PerIteration(self.num_iterations, name="loss")
        self.psnr = PerIteration(self.num_iterations, name="psnr_db")
        self.ms_ssim = PerIteration(self.num_iterations, name="ms_ssim")
        self.entropy = PlaneEntropy(self.num_iterations, network.config.bits, name="bits_per_bit")

    def call(self, images, training=False):
        return self.network(images, training=training, num_iterations=self.num_iterations)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        original = progressive.normalise(x)[:, None]  # [B, 1, H, W, 3]
        reconstructions = y_pred["reconstructions"]  # [B, N, H, W, 3]
        shown = ops.clip(reconstructions, -1.0, 1.0)
        error = ops.mean(ops.square(original - shown), axis=(2, 3, 4))  # [B, N]
        # The peak is 2, and an error of a hundredth of a level is enough for any picture.
        self.psnr.update_state(10.0 / math.log(10.0) * ops.log(4.0 / (error + 1e-8)))
        if not training:  # too dear for every step
            self.ms_ssim.update_state(similarity.ms_ssim(0.5 + 0.5 * original, 0.5 + 0.5 * shown))
        self.entropy.update_state(y_pred["planes"])
        loss = self.loss_function(original, reconstructions)  # [N]
        self.loss_by_iteration.update_state(loss[None])
        return distribution.per_replica(ops.mean(loss))


class PerIteration(keras.metrics.Metric):
    """Mean of a figure for each iteration: `name/iteration_01`, ..."""

    def __init__(self, num_iterations, name):
        super().__init__(name=name)
        self.num_iterations = num_iterations
        self.total = self.add_variable((num_iterations,), "zeros", name="total")
        self.count = self.add_variable((), "zeros", name="count")

    def update_state(self, values):
        """Adds `[B, num_iterations]` values."""
        values = ops.cast(values, self.dtype)
        self.total.assign(self.total + ops.sum(values, axis=0))
        self.count.assign(self.count + ops.cast(ops.shape(values)[0], self.dtype))

    def result(self):
        return _by_iteration(self.name, self.total / ops.maximum(self.count, 1.0))


class PlaneEntropy(keras.metrics.Metric):
    """Zero-order entropy of each plane per stored bit: what a trivial coder would leave."""

    def __init__(self, num_iterations, bits, name):
        super().__init__(name=name)
        self.ones = self.add_variable((num_iterations, bits), "zeros", name="ones")
        self.count = self.add_variable((), "zeros", name="count")

    def update_state(self, planes):
        """Adds planes of -1 and 1, `[B, N, h, w, bits]`."""
        ones = ops.cast(planes > 0, self.dtype)
        self.ones.assign(self.ones + ops.sum(ones, axis=(0, 2, 3)))
        positions = math.prod(planes.shape[2:4])
        self.count.assign(self.count + positions * ops.cast(ops.shape(planes)[0], self.dtype))

    def result(self):
        p = ops.clip(self.ones / ops.maximum(self.count, 1.0), 1e-6, 1.0 - 1e-6)
        entropy = -(p * ops.log(p) + (1.0 - p) * ops.log(1.0 - p)) / math.log(2.0)
        return _by_iteration(self.name, ops.mean(entropy, axis=-1))


def _by_iteration(name, values):
    return {f"{name}/iteration_{i + 1:02d}": values[i] for i in range(values.shape[0])}


def learning_rate_schedule(options):
    """Function of the step: linear warm-up, then a cosine down to a hundredth at the last."""
    return keras.optimizers.schedules.CosineDecay(
        0.0 if options.warmup_steps else options.learning_rate,
        decay_steps=max(1, options.steps - options.warmup_steps),
        alpha=0.01,
        warmup_target=options.learning_rate if options.warmup_steps else None,
        warmup_steps=options.warmup_steps,
    )


def make_optimizer(options):
    """Adam with warm-up, cosine decay, clipped gradients and averaged weights."""
    return distribution.Adam(
        learning_rate_schedule(options),
        global_clipnorm=options.clip_norm,
        use_ema=True,
        ema_momentum=options.ema_momentum,
        name="adam",
    )


def train(config, photos, options, workdir, resume=False, initial_preset=None, extra_callbacks=()):
    """Trains a codec; see the module's docstring.

    Args:
        config: `CodecConfig`.
        photos: `data.PhotoFolder` or `data.PhotoArrays`.
        options: `TrainingOptions`.
        workdir: folder for checkpoint, preset and logs; made if missing.
        resume: bool. Go on from the work folder's checkpoint.
        initial_preset: `presets.Preset` whose weights to start from.
        extra_callbacks: Keras callbacks, added last.

    Returns:
        Dictionary of the last validation's figures.

    Raises:
        CodecError: the work folder holds another run or cannot be written, the options do not fit
            the data or the devices, or the loss ceased to be finite.
    """
    refuse_other_run(workdir, resume)
    keras.utils.set_random_seed(options.seed)
    with (
        dtype_policy(options.precision),
        distribution.scope(options.devices) as num_devices,
    ):
        if options.batch_size % num_devices:
            raise CodecError(
                f"--batch_size={options.batch_size}: expected a multiple of the {num_devices} "
                "devices that share each batch (--devices)"
            )
        model, groups = build(config, options, num_devices)
        step = first_step(workdir, groups, options.steps, model.network, initial_preset)
        if step >= options.steps:
            return {}
        record_run(workdir, config, photos, options)
        return _fit(model, groups, photos, options, workdir, step, num_devices, extra_callbacks)


def refuse_other_run(workdir, resume):
    """Raises `CodecError` for a work folder with a run, unless that is to go on."""
    if checkpoints.exists(workdir) and not resume:
        raise CodecError(f"{workdir}: holds a run already; add --resume or give another --workdir")


def first_step(workdir, groups, steps, network, initial_preset):
    """Gives a run its weights, of the work folder's checkpoint if there is one.

    Args:
        workdir: folder.
        groups: dictionary of variables, as for `checkpoints.restore`.
        steps: int. Of the whole run.
        network: model that gets the weights of the preset.
        initial_preset: `presets.Preset` or None.

    Returns:
        How many steps are done.
    """
    step = 0
    if checkpoints.exists(workdir):
        step = checkpoints.restore(os.path.join(workdir, checkpoints.FILE_NAME), groups)["step"]
        logging.info("resumed at step %d of %d", step, steps)
    elif initial_preset is not None:
        presets.assign(initial_preset, network)
    if step >= steps:
        logging.info("nothing to do: the run has reached its %d steps", steps)
    return step


def _fit(model, groups, photos, options, workdir, step, num_devices, extra_callbacks):
    batches = data.PatchBatches(
        photos,
        options.batch_size,
        options.patch_size,
        seed=options.seed,
        first_step=step,
        maximum_downscale=options.maximum_downscale,
        hard_tiles=options.hard_tiles,
        threads=2,
    )
    # Batches of up to 8, each to be shared evenly.
    num_images = -(-options.validation_images // num_devices) * num_devices
    validation = data.validation_patches(photos, num_images, options.validation_size, options.seed)
    progress = monitoring.Progress(step, options.steps)
    logs = monitoring.tensorboard_callbacks(
        os.path.join(workdir, LOG_FOLDER),
        step,
        options.steps,
        learning_rate_schedule(options),
        validation[:_SHOWN_IMAGES],
        options.graph,
        options.profile,
    )
    keeper = RunKeeper(workdir, groups, step, options.steps)
    # The order counts: validation, preset and logs see the averaged weights, the checkpoint not.
    callbacks = [
        progress,
        PresetExport(
            os.path.join(workdir, PRESET_FOLDER),
            lambda: presets.from_network(model.network),
            resumed=step > 0,
        ),
        *logs,
        AveragedWeights(),
        keeper,
        *extra_callbacks,
    ]
    try:
        model.fit(
            batches,
            epochs=-(-(options.steps - step) // options.steps_per_epoch),
            steps_per_epoch=options.steps_per_epoch,
            validation_data=(validation, None),
            validation_batch_size=num_devices * max(1, min(8, num_images) // num_devices),
            callbacks=callbacks,
            shuffle=False,
            verbose=0,
        )
    except Exception as error:
        if batches.error is None:
            raise
        raise batches.error from error
    finally:
        for callback in (progress, *logs):
            callback.close()
    return keeper.figures


class AveragedWeights(keras.callbacks.Callback):
    """Has the averaged weights in the model from the start of validation to the end of the epoch.

    Callbacks before this one in the list see them in `on_epoch_end`, those after it the raw ones.
    `keras.callbacks.SwapEMAWeights` swaps on TensorFlow by adding and subtracting, which rounds: a
    resumed run would not equal one that was never stopped.
    """

    def __init__(self):
        super().__init__()
        self.raw = None

    def on_test_begin(self, logs=None):
        variables = self.model.trainable_variables
        self.raw = [np.asarray(variable).copy() for variable in variables]
        self.model.optimizer.finalize_variable_values(variables)
        for variable in variables:
            # On JAX the model now shares its buffers with the averages, and gives them away.
            variable.assign(np.asarray(variable).copy())

    def on_epoch_end(self, epoch, logs=None):
        for variable, value in zip(self.model.trainable_variables, self.raw):
            variable.assign(value)
        self.raw = None


class RunKeeper(monitoring.StepCallback):
    """Ends a run at its last step or when it fails, and writes the checkpoint after each epoch.

    Args:
        workdir: folder.
        groups: dictionary of name to list of variables.
        first_step, total_steps: int. Of the run.
        state: dictionary, kept beside the step.
    """

    def __init__(self, workdir, groups, first_step, total_steps, state=None):
        super().__init__(first_step)
        self.state = state or {}
        self.workdir = workdir
        self.groups = groups
        self.total_steps = total_steps
        self.figures = {}
        self._loss = 0.0

    def on_train_batch_end(self, batch, logs=None):
        # The step before: to ask for this one's loss would wait for it, and idle the device.
        self._expect_finite(self._loss)
        super().on_train_batch_end(batch, logs)
        self._loss = logs["loss"]
        if self.step == self.total_steps:
            self.model.stop_training = True

    def on_test_end(self, logs=None):
        # A step may break the weights after its own loss was computed; such are not to be kept.
        self._expect_finite(self._loss)
        self._expect_finite(logs["loss"])
        for variables in self.groups.values():
            for variable in variables:
                self._expect_finite(np.asarray(variable), "weights are")

    def _expect_finite(self, value, subject="loss is"):
        if not np.all(np.isfinite(value)):
            raise CodecError(
                f"step {self.step}: the {subject} no longer finite; training stopped. The last "
                f"checkpoint and the best preset in {self.workdir} are whole: resume with a lower "
                "--learning_rate or --clip_norm"
            )

    def on_epoch_end(self, epoch, logs=None):
        self.figures = monitoring.validation_figures(logs)
        path = os.path.join(self.workdir, checkpoints.FILE_NAME)
        checkpoints.save(path, self.groups, {**self.state, "step": self.step})


class PresetExport(keras.callbacks.Callback):
    """Keeps the weights of the lowest validation loss as a preset.

    Args:
        folder: path.
        make_preset: function without arguments that gives the `presets.Preset` as it is now.
        resumed: bool. Whether what lies in the folder is of this run.
    """

    RECORD = "validation.json"

    def __init__(self, folder, make_preset, resumed):
        super().__init__()
        self.folder = folder
        self.make_preset = make_preset
        self.record = os.path.join(folder, self.RECORD)
        self.lowest = math.inf
        if resumed and os.path.exists(self.record):
            self.lowest = json.loads(storage.read_bytes(self.record))["loss"]

    def on_epoch_end(self, epoch, logs=None):
        figures = monitoring.validation_figures(logs)
        if figures["loss"] < self.lowest:
            self.lowest = figures["loss"]
            presets.save(self.make_preset(), self.folder)
            storage.write_atomically(self.record, json.dumps(figures, indent=2).encode())


def build(config, options, num_devices=1):
    """A compiled `TrainingModel` and the groups of variables that a checkpoint holds."""
    network = progressive.ProgressiveNetwork.create(config)
    model = TrainingModel(network, options.loss, options.iterations)
    optimizer = make_optimizer(options)
    optimizer.build(network.trainable_variables)
    model.compile(optimizer=optimizer, jit_compile=jit_compile(num_devices))
    return model, {"model": network.variables, "optimizer": optimizer.variables}


def jit_compile(num_devices=1):
    """XLA, but on TensorFlow for one GPU only: its convolutions on CPU lose to oneDNN's."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return num_devices == 1 and bool(tf.config.list_logical_devices("GPU"))
    return "auto"


def record_run(workdir, config, photos, options):
    """Writes down what was asked, and tells in what an earlier part of the run was another."""
    path = os.path.join(workdir, RUN_FILE)
    record = {
        "config": config.to_dict(),
        "options": dataclasses.asdict(options),
        "photographs": len(photos.training),
    }
    text = json.dumps(record, indent=2)
    if os.path.exists(path):
        before, now = _flatten(json.loads(storage.read_bytes(path))), _flatten(json.loads(text))
        changed = {name for name in now if before.get(name) != now[name]}
        for name in sorted(changed - {"devices", "graph", "profile"}):
            was = before.get(name)
            logging.warning("%s: %s was %s before and is %s now", workdir, name, was, now[name])
    try:
        os.makedirs(workdir, exist_ok=True)
    except OSError as error:
        raise CodecError(f"{workdir}: expected a folder to write to; {error.strerror}") from error
    storage.write_atomically(path, text.encode())


def _flatten(record):
    return {**record["config"], **record["options"], "photographs": record["photographs"]}
