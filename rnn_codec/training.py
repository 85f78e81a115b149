"""Training of a codec through `Model.fit`: the same on TensorFlow, JAX and torch.

The workflow: `train(config, photos, options, workdir)` builds the network, restores the last
checkpoint of the work folder if asked to, and fits in epochs of `steps_per_epoch`. After each
epoch it validates with the averaged weights, writes a checkpoint, and exports the best weights so
far as a preset to `workdir/preset`, ready for `encode.py --preset`.
"""

import dataclasses
import json
import logging
import math
import os

import keras
from keras import ops

from rnn_codec import (
    checkpoints,
    data,
    image_io,
    losses,
    monitoring,
    presets,
    progressive,
    similarity,
)
from rnn_codec.errors import CodecError

PRESET_FOLDER = "preset"


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
        return ops.mean(self.loss_function(original, reconstructions))


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


def make_optimizer(options):
    """Adam with warm-up, cosine decay, clipped gradients and averaged weights."""
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0 if options.warmup_steps else options.learning_rate,
        decay_steps=max(1, options.steps - options.warmup_steps),
        alpha=0.01,
        warmup_target=options.learning_rate if options.warmup_steps else None,
        warmup_steps=options.warmup_steps,
    )
    return keras.optimizers.Adam(
        schedule,
        global_clipnorm=options.clip_norm,
        use_ema=True,
        ema_momentum=options.ema_momentum,
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
        CodecError: the work folder holds another run, or the loss ceased to be finite.
    """
    keras.utils.set_random_seed(options.seed)
    keras.config.set_dtype_policy(options.precision)
    checkpoint = os.path.join(workdir, checkpoints.FILE_NAME)
    if checkpoints.exists(workdir) and not resume:
        raise CodecError(f"{workdir}: holds a run already; add --resume or give another --workdir")
    os.makedirs(workdir, exist_ok=True)

    model, groups = build(config, options)
    state = {"step": 0}
    if resume and checkpoints.exists(workdir):
        state = checkpoints.restore(checkpoint, groups)
        logging.info("resumed at step %d of %d", state["step"], options.steps)
    elif initial_preset is not None:
        presets.assign(initial_preset, model.network)
        model.optimizer.build(model.trainable_variables)
    if state["step"] >= options.steps:
        logging.info("nothing to do: the run has reached its %d steps", options.steps)
        return {}

    batches = data.PatchBatches(
        photos,
        options.batch_size,
        options.patch_size,
        seed=options.seed,
        first_step=state["step"],
        maximum_downscale=options.maximum_downscale,
        hard_tiles=options.hard_tiles,
        workers=2,
        max_queue_size=8,
    )
    validation = data.validation_patches(
        photos, options.validation_images, options.validation_size, options.seed
    )
    keeper = RunKeeper(workdir, groups, state)
    callbacks = [
        monitoring.Progress(state["step"], options.steps),
        keeper,
        keras.callbacks.SwapEMAWeights(swap_on_epoch=True),
        PresetExport(os.path.join(workdir, PRESET_FOLDER), model.network),
        *extra_callbacks,
    ]
    epochs = -(-(options.steps - state["step"]) // options.steps_per_epoch)
    model.fit(
        batches,
        epochs=epochs,
        steps_per_epoch=options.steps_per_epoch,
        validation_data=(validation, None),
        validation_batch_size=min(8, len(validation)),
        callbacks=callbacks,
        verbose=0,
    )
    return keeper.figures


class RunKeeper(keras.callbacks.Callback):
    """Writes the checkpoint after each epoch, before the averaged weights are swapped in."""

    def __init__(self, workdir, groups, state):
        super().__init__()
        self.path = os.path.join(workdir, checkpoints.FILE_NAME)
        self.groups = groups
        self.state = dict(state)
        self.figures = {}

    def on_train_batch_end(self, batch, logs=None):
        self.state["step"] += 1
        if not math.isfinite(float(logs["loss"])):
            raise CodecError(
                f"step {self.state['step']}: the loss is {float(logs['loss'])}; training stopped. "
                f"The last checkpoint and the best preset in {os.path.dirname(self.path)} are "
                "whole: resume with a lower --learning_rate or --clip_norm"
            )

    def on_epoch_end(self, epoch, logs=None):
        self.figures = monitoring.validation_figures(logs)
        checkpoints.save(self.path, self.groups, self.state)


class PresetExport(keras.callbacks.Callback):
    """Keeps the weights of the lowest validation loss as a preset. Runs after the swap."""

    RECORD = "validation.json"

    def __init__(self, folder, network):
        super().__init__()
        self.folder = folder
        self.network = network
        self.record = os.path.join(folder, self.RECORD)

    def on_epoch_end(self, epoch, logs=None):
        figures = monitoring.validation_figures(logs)
        if os.path.exists(self.record):
            with open(self.record, encoding="utf-8") as file:
                if json.load(file)["loss"] <= figures["loss"]:
                    return
        presets.save(presets.from_network(self.network), self.folder)
        image_io.write_atomically(self.record, json.dumps(figures, indent=2).encode())


def build(config, options):
    """A compiled `TrainingModel` and the groups of variables that a checkpoint holds."""
    network = progressive.ProgressiveNetwork.create(config)
    model = TrainingModel(network, options.loss, options.iterations)
    optimizer = make_optimizer(options)
    optimizer.build(network.trainable_variables)
    model.compile(optimizer=optimizer, jit_compile=_jit_compile())
    return model, {"model": network.variables, "optimizer": optimizer.variables}


def _jit_compile():
    """XLA everywhere but on TensorFlow's CPU, where its convolutions are slower than oneDNN's."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return bool(tf.config.list_logical_devices("GPU"))
    return "auto"
