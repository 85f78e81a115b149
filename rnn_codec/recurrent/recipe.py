"""Training of the recurrent codec through `Model.fit`: the same on TensorFlow and on JAX.

The workflow: `train(config, photos, options, workdir)` builds the network, restores the last
checkpoint of the work folder if asked to, and fits in epochs of `steps_per_epoch`, each ended by a
validation with the averaged weights. What the work folder holds: `training.run`.
"""

import itertools
import math
import os

import keras
from keras import ops
import numpy as np

from rnn_codec import presets
from rnn_codec.backend import distribution
from rnn_codec.errors import CodecError
from rnn_codec.layers.common import dtype_policy
from rnn_codec.recurrent import losses, progressive
from rnn_codec.recurrent.config import STRIDE
from rnn_codec.recurrent.options import TrainingOptions
from rnn_codec.training import data, progress, run, similarity, tensorboard

# Of the validation crops, so many are shown in TensorBoard.
_SHOWN_IMAGES = 3


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
        self.loss_by_iteration = run.PerIteration(self.num_iterations, name="loss")
        self.psnr = run.PerIteration(self.num_iterations, name="psnr_db")
        self.ms_ssim = run.PerIteration(self.num_iterations, name="ms_ssim")
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
        return run.by_iteration(self.name, ops.mean(entropy, axis=-1))


def train(
    config,
    photos,
    options: TrainingOptions,
    workdir,
    resume=False,
    initial_preset=None,
    extra_callbacks=(),
):
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
    if (options.iterations or 1) > config.iterations:
        raise CodecError(
            f"--iterations={options.iterations}: expected at most the {config.iterations} of the "
            "configuration; raise --max_iterations too"
        )
    if options.loss not in losses.LOSSES:
        raise CodecError(
            f"--loss={options.loss}: expected one of {', '.join(losses.LOSSES)}; name another"
        )
    run.refuse_other_run(workdir, resume)
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
        step = run.first_step(workdir, groups, options.steps, model.network, initial_preset)
        if step >= options.steps:
            return {}
        run.record_run(workdir, config, photos, options)
        return _fit(model, groups, photos, options, workdir, step, num_devices, extra_callbacks)


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
    counter = progress.Progress(step, options.steps)
    logs = tensorboard.tensorboard_callbacks(
        os.path.join(workdir, run.LOG_FOLDER),
        step,
        options.steps,
        _schedule(options),
        _shown(model, validation[:_SHOWN_IMAGES], options),
        model.network if options.graph else None,
        options.profile,
    )
    keeper = run.RunKeeper(workdir, groups, step, options.steps)
    # The order counts: validation, preset and logs see the averaged weights, the checkpoint not.
    callbacks = [
        counter,
        run.PresetExport(
            os.path.join(workdir, run.PRESET_FOLDER),
            lambda: presets.from_network(model.network),
            resumed=step > 0,
        ),
        *logs,
        run.AveragedWeights(),
        keeper,
        *extra_callbacks,
    ]
    run.fit(
        model,
        batches,
        closed=(counter, *logs),
        epochs=-(-(options.steps - step) // options.steps_per_epoch),
        steps_per_epoch=options.steps_per_epoch,
        validation_data=(validation, None),
        validation_batch_size=num_devices * max(1, min(8, num_images) // num_devices),
        callbacks=callbacks,
    )
    return keeper.figures


def _schedule(options):
    return run.learning_rate_schedule(options.learning_rate, options.steps, options.warmup_steps)


def _shown(model, images, options):
    """What TensorBoard shows of a `TrainingModel`: some pictures after each iteration."""
    steps = []  # compiled when they are first needed

    def reconstruct(image):
        if not steps:
            steps.append(progressive.CompiledSteps(model.network))
        iterations = progressive.iterate(steps[0], image=image)
        shown = [
            ops.convert_to_numpy(iteration.reconstruction)
            for iteration in itertools.islice(iterations, model.num_iterations)
        ]
        return np.stack(shown, axis=1)

    bits = model.network.config.bits / STRIDE**2

    def charts(figures):
        """Quality over the rate before entropy coding."""
        return {
            name: {"this codec": [((i + 1) * bits, value) for i, value in enumerate(values)]}
            for name in ("ms_ssim", "psnr_db")
            if (values := progress.by_iteration(figures, name))
        }

    pixels = options.batch_size * options.patch_size**2
    return tensorboard.Shown(images, reconstruct, charts, pixels, bits)


def build(config, options, num_devices=1):
    """A compiled `TrainingModel` and the groups of variables that a checkpoint holds."""
    network = progressive.ProgressiveNetwork.create(config)
    model = TrainingModel(network, options.loss, options.iterations)
    optimizer = run.make_optimizer(_schedule(options), options.clip_norm, options.ema_momentum)
    optimizer.build(network.trainable_variables)
    model.compile(optimizer=optimizer, jit_compile=run.jit_compile(num_devices))
    return model, {"model": network.variables, "optimizer": optimizer.variables}
