"""Training of the embedded codec through `Model.fit`, on any of Keras's backends.

The workflow: `train(config, photos, options, workdir)` builds the network, takes the weights of a
preset or begins as a linear transform, begins dead channels anew, and fits in epochs of
`steps_per_epoch`, each ended by a validation at every plane with the averaged weights. Each run is
a cycle: its cosine ends annealed, and another run may go on from its preset with another seed.
"""

import dataclasses
import functools
import logging
import os

import keras
from keras import ops
import numpy as np

from rnn_codec import presets
from rnn_codec.backend import compilation, distribution
from rnn_codec.embedded import revival
from rnn_codec.embedded.network import EmbeddedNetwork
from rnn_codec.embedded.options import EmbeddedOptions
from rnn_codec.embedded.rate import RateEstimate
from rnn_codec.embedded.start import Start
from rnn_codec.embedded.training_model import TrainingModel
from rnn_codec.errors import CodecError
from rnn_codec.layers.common import dtype_policy
from rnn_codec.training import data, peers, progress, run, tensorboard
from rnn_codec.training.drawings import drawings

# Of the validation crops, so many are shown in TensorBoard.
_SHOWN_IMAGES = 3
_DRAWINGS = 240
# What a fresh network's nonlinear part is at first, beside the linear one.
_NONLINEAR_SHARE = 0.1
_CHANCE = 2  # salts the random stream of planes and cuts


def train(
    config,
    photos,
    options: EmbeddedOptions,
    workdir,
    resume=False,
    initial_preset=None,
    extra_callbacks=(),
):
    """Trains an embedded codec; see the module's docstring.

    Args:
        config: `EmbeddedConfig`.
        photos: `data.PhotoFolder` or `data.PhotoArrays`.
        options: `EmbeddedOptions`.
        workdir: folder for checkpoint, preset and logs; made if missing.
        resume: bool. Go on from the work folder's checkpoint.
        initial_preset: `presets.Preset` whose weights to start from. One of fewer latents grows.
        extra_callbacks: Keras callbacks, added last.

    Returns:
        Dictionary of the last validation's figures.

    Raises:
        CodecError: the work folder holds another run or cannot be written, the options do not fit
            the data or the devices, or the loss ceased to be finite.
    """
    run.refuse_other_run(workdir, resume)
    keras.utils.set_random_seed(options.seed)
    precision = options.precision
    if precision == "auto":
        precision = compilation.faster_training_precision()
        logging.info("training in %s, the faster one here", precision)
    with dtype_policy(precision), distribution.scope(options.devices) as num_devices:
        if options.batch_size % num_devices:
            raise CodecError(
                f"--batch_size={options.batch_size}: expected a multiple of the {num_devices} "
                "devices that share each batch (--devices)"
            )
        model, groups = build(config, options, num_devices)
        step = run.first_step(workdir, groups, options.steps)
        if step >= options.steps:
            return {}
        run.record_run(workdir, config, photos, options)
        batches = _Batches(photos, config, options, step)
        if not step:
            _begin(model, photos, options, initial_preset, batches)
        return _fit(model, groups, photos, options, workdir, step, batches, extra_callbacks)


def build(config, options, num_devices=1):
    """A compiled `TrainingModel` and the groups of variables that a checkpoint holds."""
    network = EmbeddedNetwork.create(config)
    rate = RateEstimate(config.iterations, config.latents, name="rate")
    rate.build((None, None, None, config.latents))
    model = TrainingModel(
        network,
        rate,
        options.seen_share,
        options.alpha,
        fuse=options.fuse and num_devices == 1,
        name="training",
    )
    optimizer = distribution.Adam(
        _schedule(options),
        beta_2=0.98,  # The rate-distortion loss is noisy, but its scale changes quickly.
        epsilon=1e-8,
        global_clipnorm=options.clip_norm,
        use_ema=True,
        ema_momentum=options.ema_momentum,
        ema_ramps=True,
        name="adam",
    )
    optimizer.build(model.trainable_variables)
    model.compile(optimizer=optimizer, jit_compile=run.jit_compile(num_devices))
    variables = [*network.variables, *rate.variables]
    return model, {"model": variables, "optimizer": optimizer.variables}


def export(model):
    """The `presets.Preset` of a `TrainingModel` as it is now."""
    preset = presets.from_network(model.network)
    return dataclasses.replace(preset, training=presets.float16_arrays(model.rate.weights))


def _schedule(options):
    return run.learning_rate_schedule(options.learning_rate, options.steps, options.warmup_steps)


def _begin(model, photos, options, preset, batches):
    """Weights of a preset, or those of a linear transform; then dead channels begin anew."""
    network, latents = model.network, model.network.config.latents
    if preset is None:
        living = np.zeros(latents, bool)
        for layer in (network.analysis.layers[-1], network.synthesis.pixels):
            layer.kernel.assign(_NONLINEAR_SHARE * ops.convert_to_tensor(layer.kernel))
    else:
        held = preset.config.latents
        if preset.config != dataclasses.replace(network.config, latents=held) or held > latents:
            raise CodecError(
                f"preset {preset.config.name!r}: expected weights of {network.config.channels} "
                f"channels, {network.config.iterations} iterations and at most {latents} latents; "
                "give the preset whose network is to be trained, or leave out --initial_weights"
            )
        _assign(preset.weights, network.weights, held)
        if preset.training is None:
            logging.warning("the preset has no training.npz: the estimate of the rate begins anew")
        else:
            _assign(preset.training, model.rate.weights, held)
        shares = revival.active_shares(network, batches.pictures(4))
        living = (shares >= revival.LEAST_ACTIVITY) & (np.arange(latents) < held)
    if living.all():
        return
    count = revival.revive(network, model.rate, ~living, Start(photos, options.seed))
    if preset is not None:
        logging.info("latent channels begun anew or added: %d", count)


def _assign(arrays, variables, held):
    """Gives variables the weights of a network of `held` latents; more are left as they are."""
    for variable in variables:
        array = arrays[variable.path].astype(np.float32)
        if array.shape == tuple(variable.shape):
            variable.assign(array)
            continue
        values = ops.convert_to_numpy(variable).copy()
        if variable.path.startswith("rate/out/"):  # means, then scales
            target = values.reshape(*values.shape[:-1], 2, -1)
            target[..., :held] = array.reshape(*array.shape[:-1], 2, held)
        else:
            values[tuple(slice(side) for side in array.shape)] = array
        variable.assign(values)


def _fit(model, groups, photos, options, workdir, step, batches, extra_callbacks):
    validation = data.validation_patches(
        photos, options.validation_images, options.validation_size, options.seed
    )
    counter = progress.Progress(step, options.steps)
    peer_curves = peers.PeerCurves(validation)
    logs = tensorboard.tensorboard_callbacks(
        os.path.join(workdir, run.LOG_FOLDER),
        step,
        options.steps,
        _schedule(options),
        _shown(model, validation[:_SHOWN_IMAGES], options, peer_curves),
        profile=options.profile,
    )
    keeper = run.RunKeeper(workdir, groups, step, options.steps)
    # The order counts: validation, preset and logs see the averaged weights, the checkpoint not.
    callbacks = [
        counter,
        run.PresetExport(
            os.path.join(workdir, run.PRESET_FOLDER),
            functools.partial(export, model),
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
        closed=(counter, *logs, peer_curves),
        epochs=-(-(options.steps - step) // options.steps_per_epoch),
        steps_per_epoch=options.steps_per_epoch,
        validation_data=_Validation(validation, model.network.config),
        callbacks=callbacks,
    )
    return keeper.figures


class _Batches(data.PatchBatches):
    """Patches, each with a random plane and cut: functions of seed and step alone."""

    def __init__(self, photos, config, options, first_step):
        self.config = config
        self.partial_share = options.partial_share
        super().__init__(
            photos,
            options.batch_size,
            options.patch_size,
            seed=options.seed,
            first_step=first_step,
            maximum_downscale=options.maximum_downscale,
            drawings=drawings(_DRAWINGS, options.patch_size) if options.drawn_share else (),
            drawn_share=options.drawn_share,
            turned_share=0.2,
            threads=2,
            transform=self._with_planes,
        )

    def _with_planes(self, patches, step):
        rng = np.random.default_rng((self.seed, _CHANCE, step))
        count, latents = len(patches), self.config.latents
        cut = rng.random(count) < self.partial_share
        return {
            "pictures": patches,
            "plane": rng.integers(self.config.iterations, size=count).astype(np.int32),
            "sent": np.where(cut, rng.integers(1, latents + 1, count), latents).astype(np.int32),
        }

    def pictures(self, count):
        """The first batches of the run as float32 in -1..1, which a network takes."""
        for index in range(count):
            yield self._batch(index)["pictures"].astype(np.float32) / 127.5 - 1.0


class _Validation(keras.utils.PyDataset):
    """Crops at every plane, whole: `[batch, H, W, 3]`, plane by plane."""

    def __init__(self, crops, config, batch_size=8):
        super().__init__()
        self.parts = [crops[i : i + batch_size] for i in range(0, len(crops), batch_size)]
        self.config = config

    def __len__(self):
        return len(self.parts) * self.config.iterations

    def __getitem__(self, index):
        plane, part = divmod(index, len(self.parts))
        pictures = self.parts[part]
        planes = np.full(len(pictures), plane, np.int32)
        sent = np.full(len(pictures), self.config.latents, np.int32)
        return ({"pictures": pictures, "plane": planes, "sent": sent},)


def _shown(model, images, options, peer_curves):
    """What TensorBoard shows of a `TrainingModel`: pictures and a curve, beside other codecs'."""
    config = model.network.config

    def reconstruct(image):
        pictures = []
        for plane in range(config.iterations):
            planes = np.full(len(image), plane, np.int32)
            sent = np.full(len(image), config.latents, np.int32)
            restored = model.network(ops.convert_to_tensor(image), planes, sent)
            pictures.append(ops.convert_to_numpy(restored))
        return np.stack(pictures, axis=1)

    def charts(figures):
        rates = progress.by_iteration(figures, "bits_per_pixel")
        result = {}
        for name in ("ms_ssim", "psnr_db"):
            own = list(zip(rates, progress.by_iteration(figures, name)))
            curves = {"this codec": own, **peer_curves.curves(name)}
            if name == "ms_ssim":  # in decibels, else the finer planes fall together
                curves = {
                    codec: [(rate, _decibels(value)) for rate, value in points]
                    for codec, points in curves.items()
                }
            result[f"{name}_db" if name == "ms_ssim" else name] = curves
        return result

    pixels = options.batch_size * options.patch_size**2
    return tensorboard.Shown(images, reconstruct, charts, pixels)


def _decibels(similarity):
    return float(-10.0 * np.log10(max(1.0 - similarity, 1e-6)))
