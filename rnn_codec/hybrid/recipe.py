"""Training of the hybrid codec: RecCNN and ComCNN in turn, as in the paper.

In most epochs RecCNN learns from what the real codec made of ComCNN's pictures; where there is one
for pictures stored at full size, every other time that one learns from those. In every
`compact_every`-th epoch ComCNN learns through a fixed RecCNN. No gradient passes the codec, so
there it counts as the identity: its error is added to ComCNN's output as a constant. That error is
the real codec's, measured in the threads that prepare batches with ComCNN as it was when the epoch
began; while RecCNN learns, ComCNN stands still and the measurement is exact.

ComCNN can lower the error by spending more bits, and if nothing stops it, spends more than they
are worth: with the paper's objective its first 200 steps gain PSNR, and lose 0.2 dB at equal bits.
So its loss has an estimate of the bits, too, and the figure that decides which weights are exported
is the PSNR at the bits that a plain mean of 2x2 pixels takes in the same codec.

`workdir` holds what it holds for `training`, and a run is resumed in the same way.

Reference:
    Jiang et al., 2017, https://arxiv.org/abs/1708.00838, section III.
"""

import dataclasses
import functools
import math
import os

import keras
from keras import ops
import numpy as np
from PIL import Image

from rnn_codec import presets
from rnn_codec.backend import compilation, distribution
from rnn_codec.errors import CodecError
from rnn_codec.hybrid import losses
from rnn_codec.hybrid import networks as hybrid_networks
from rnn_codec.hybrid.networks import HybridNetwork
from rnn_codec.hybrid.options import HybridOptions
from rnn_codec.layers.common import dtype_policy
from rnn_codec.pictures import metrics
from rnn_codec.standard import codecs as base_codecs
from rnn_codec.training import data, progress, run, tensorboard

# What learns in an epoch; the name of that part of the network.
RESTORATION, FULL_RESTORATION, COMPACT = "restoration", "full_restoration", "compact"

# Salts the random stream of qualities; `data` has 0 and 1.
_QUALITY_STREAM = 2

# Of the patches: networks of three channels see grey pictures, too.
_GREY_SHARE = 1 / 8

# Of the batches: conditioned networks learn to do without it.
_CONDITION_DROPOUT = 1 / 16

# Of a number from 0 to 1, the place among the qualities of the configuration's codec: as many are
# drawn from the lowest third as from the others. JPEG's steps grow fast there.
_QUALITY_POWER = 1.5

# Of the batches, where there are other codecs to train for than the configuration's.
_OTHERS_SHARE = 1 / 2

_VALIDATION_QUALITIES = 3


class TurnModel(keras.Model):
    """The networks while one of them learns.

    Args:
        network: `HybridNetwork`.
        turn: str, `RESTORATION`, `FULL_RESTORATION` or `COMPACT`.
        rate_weight: float. Of the bits in ComCNN's loss, in dB for each doubling.

    Call arguments:
        inputs: tuple of pictures `[B, H, W, C]`, what the codec made of their compact pictures
            `[B, H/r, W/r, C]`, these compact pictures, and conditions `[B, K]`, all the same.

    Output:
        Restored pictures, `[B, H, W, C]`.
    """

    def __init__(self, network, turn, rate_weight=0.0, **kwargs):
        super().__init__(**kwargs)
        self.network = network
        self.turn = turn
        self.rate_weight = rate_weight

    def call(self, inputs, training=False):
        pixels, decoded, compact, conditions = inputs
        condition = conditions[0]
        reduction = _reduction_of(self.turn)
        if self.turn != COMPACT:
            return self.network.restore(decoded, condition, reduction=reduction, training=training)
        coding_error = decoded - compact
        compact = self.network.compress(pixels, reduction)
        if self.rate_weight:
            self.add_loss(
                self.rate_weight / math.log(2.0) * ops.log(losses.estimated_bits(compact))
            )
        # Not in training mode: the other network stands still, with its normalisation.
        return self.network.restore(compact + coding_error, condition, reduction=reduction)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The batch's squared error in dB: its gradient does not fade as errors get small."""
        return sum(self.losses, start=losses.error_in_decibels(x[0], y_pred))


class PatchCoder:
    """Takes patches through ComCNN, as it was at the last `update`, and the real codec.

    It has networks of its own: those in training belong to `fit`, on JAX even their arrays.

    Args:
        config: `HybridConfig`.
        other_bases: names of further standard codecs to train for.

    Attributes:
        base: the configuration's standard codec.
        qualities: list of those to train for.

    Raises:
        CodecError: the codec is not installed, or has no such qualities.
    """

    def __init__(self, config, other_bases=()):
        self.config = config
        self.base = base_codecs.make(config.base)
        self._others = [base_codecs.make(name) for name in other_bases]
        lowest, highest = config.lowest_quality, config.highest_quality
        self.qualities = [q for q in self.base.qualities if lowest <= q <= highest]
        if len(self.qualities) < 2:
            raise CodecError(
                f"expected a range of qualities of {config.base}, which has "
                f"{self.base.qualities[0]} to {self.base.qualities[-1]}, received {lowest:g} to "
                f"{highest:g}; change --qualities"
            )
        self._network = HybridNetwork.create(config)
        compile_for = functools.partial(compilation.compile_for_inference, network=self._network)
        self._compress = {
            reduction: compile_for(functools.partial(self._network.compress, reduction=reduction))
            for reduction in config.reductions
        }
        self._restore = {
            reduction: compile_for(functools.partial(self._network.restore, reduction=reduction))
            for reduction in config.reductions
        }

    def update(self, network):
        """Takes over the weights of a network."""
        self._network.set_weights(network.get_weights())

    def pixels(self, patches):
        """What the networks see of uint8 `[B, H, W, 3]`: float32 `[B, H, W, C]` in [0, 1]."""
        if self.config.channels == 1:
            patches = [np.asarray(Image.fromarray(patch).convert("L")) for patch in patches]
            patches = np.stack(patches)[..., None]
        return patches.astype(np.float32) / 255.0

    def code(self, pixels, base, quality, reduction):
        """Codes pictures, stored with sides so many times smaller.

        Args:
            pixels: as `pixels` gives them.
            base: `base_codecs.BaseCodec`.
            quality: of it.
            reduction: int.

        Returns:
            What the codec restored, the compact pictures, both float32 `[B, H/r, W/r, C]`, and the
            sizes of the files in bytes.
        """
        compact = ops.convert_to_numpy(self._compress[reduction](pixels))
        decoded, sizes = self.code_compact(compact, base, quality)
        return decoded, compact, sizes

    def code_compact(self, compact, base, quality):
        decoded, sizes = [], []
        for picture in _to_8_bits(compact):
            file = base.encode(picture, quality)
            decoded.append(base_codecs.with_colour(base.decode(file), picture.ndim == 3))
            sizes.append(len(file))
        return np.stack(decoded).reshape(compact.shape).astype(np.float32) / 255.0, sizes

    def training_item(self, seed, reduction):
        """A `transform` for `data.PatchBatches`: coded at random, some patches turned grey.

        A batch is of one quality: beside the errors of a low one those of a high one are nothing.
        """

        def transform(patches, step):
            rng = np.random.default_rng((seed, _QUALITY_STREAM, step))
            base, quality = self._setting(rng)
            pixels = self.pixels(patches)
            grey = rng.random(len(patches)) < _GREY_SHARE
            pixels[grey] = hybrid_networks.luma_of(pixels[grey])
            decoded, compact, _ = self.code(pixels, base, quality, reduction)
            known = rng.random() >= _CONDITION_DROPOUT
            condition = _condition(base, quality) if known else hybrid_networks.condition_of(None)
            return pixels, decoded, compact, np.tile(condition, (len(pixels), 1))

        return transform

    def _setting(self, rng):
        """A standard codec and its quality, at random."""
        if self._others and rng.random() < _OTHERS_SHARE:
            base = self._others[rng.integers(len(self._others))]
            return base, base.qualities[rng.integers(len(base.qualities))]
        place = rng.random() ** _QUALITY_POWER
        return self.base, self.qualities[int(place * len(self.qualities))]

    def restore(self, decoded, base, quality, reduction):
        """8-bit pictures of what the codec restored: a list of `[H, W]` or `[H, W, 3]`."""
        restore, condition = self._restore[reduction], _condition(base, quality)
        restored = [ops.convert_to_numpy(restore(one[None], condition)) for one in decoded]
        return _to_8_bits(np.concatenate(restored))


def _condition(base, quality):
    return hybrid_networks.condition_of(base.name, base.level_of(quality))


def _to_8_bits(pictures):
    """List of uint8 `[H, W]` or `[H, W, 3]`."""
    pictures = np.clip(np.rint(255.0 * pictures), 0, 255).astype(np.uint8)
    return [one[..., 0] if one.shape[-1] == 1 else one for one in pictures]


class Validation(progress.StepCallback):
    """Codes fixed crops for real after each epoch, and adds the figures to its logs.

    Figures: mean PSNR and bits per pixel at the lowest, a middle and the highest quality, for each
    stored size, and as loss the negative PSNR at the mean rate that the same qualities have without
    ComCNN, mean of the sizes. On a logarithmic axis of bits the three points lie nearly on a line,
    which is fitted.

    Args:
        network: `HybridNetwork` in training.
        coder: `PatchCoder`; it gets the weights, for the next epoch too.
        crops: uint8 `[N, H, W, 3]`.
        check: `run.FiniteCheck`; weights that are no longer finite are not to be kept.
        first_step: int. Of the run.
    """

    def __init__(self, network, coder, crops, check, first_step=0):
        super().__init__(first_step)
        self.network = network
        self.coder = coder
        self.check = check
        self.pixels = coder.pixels(crops)
        self.originals = _to_8_bits(self.pixels)
        places = np.linspace(0, len(coder.qualities) - 1, _VALIDATION_QUALITIES)
        self.qualities = sorted({coder.qualities[round(place)] for place in places})
        self.reference = {
            reduction: np.mean([self._plain_rate(quality, reduction) for quality in self.qualities])
            for reduction in coder.config.reductions
        }

    def _plain_rate(self, quality, reduction):
        """Logarithm of the bits per pixel that a mean of blocks takes."""
        pixels = self.pixels
        if reduction == 2:
            count, height, width, channels = pixels.shape
            blocks = pixels.reshape(count, height // 2, 2, width // 2, 2, channels)
            pixels = blocks.mean(axis=(2, 4))
        _, sizes = self.coder.code_compact(pixels, self.coder.base, quality)
        return math.log2(self._bits_per_pixel(sizes))

    def _bits_per_pixel(self, sizes):
        return 8 * sum(sizes) / math.prod(self.pixels.shape[:3])

    def on_epoch_end(self, epoch, logs=None):
        self.coder.update(self.network)
        figures = self.figures()
        self.check.loss(self.step, figures["loss"])
        self.check.weights(self.step)
        logs["learning_rate"] = float(self.model.optimizer.learning_rate)
        logs.update({f"val_{name}": value for name, value in figures.items()})

    def figures(self):
        """Dictionary of the figures."""
        figures, at_reference = {}, []
        for reduction, reference in self.reference.items():
            prefix = "full_" if reduction == 1 else ""
            psnr, rates = [], []
            for quality in self.qualities:
                decoded, _, sizes = self.coder.code(
                    self.pixels, self.coder.base, quality, reduction
                )
                restored = self.coder.restore(decoded, self.coder.base, quality, reduction)
                pairs = zip(self.originals, restored)
                psnr.append(float(np.mean([metrics.psnr_db(*pair) for pair in pairs])))
                rates.append(self._bits_per_pixel(sizes))
                figures[f"psnr_db/{prefix}quality_{quality:05.4g}"] = psnr[-1]
                figures[f"bits_per_pixel/{prefix}quality_{quality:05.4g}"] = rates[-1]
            line = np.polyfit(np.log2(rates), psnr, 1)
            at_reference.append(np.polyval(line, reference))
        return {"loss": -float(np.mean(at_reference)), **figures}


def train(
    config,
    photos,
    options: HybridOptions,
    workdir,
    resume=False,
    initial_preset=None,
    extra_callbacks=(),
):
    """Trains a hybrid codec; see the module's docstring.

    Args:
        config: `HybridConfig`.
        photos: `data.PhotoFolder` or `data.PhotoArrays`.
        options: `HybridOptions`.
        workdir: folder for checkpoint, preset and logs; made if missing.
        resume: bool. Go on from the work folder's checkpoint.
        initial_preset: `presets.Preset` whose weights to start from, for the networks that both
            have.
        extra_callbacks: Keras callbacks, added last.

    Returns:
        Dictionary of the last validation's figures.

    Raises:
        CodecError: the work folder holds another run or cannot be written, the options do not fit
            the data, or the loss ceased to be finite.
    """
    run.refuse_other_run(workdir, resume)
    keras.utils.set_random_seed(options.seed)
    coder = PatchCoder(config, options.other_bases)
    with dtype_policy(options.precision):
        network = HybridNetwork.create(config)
    models = {turn: _turn_model(network, turn, config, options) for turn in _turns(config)}
    groups = {"model": network.variables}
    groups.update({f"{turn}_optimizer": m.optimizer.variables for turn, m in models.items()})
    initial_preset = initial_preset and part_for(network, initial_preset)
    step = run.first_step(workdir, groups, options.steps, network, initial_preset)
    if step >= options.steps:
        return {}
    run.record_run(workdir, config, photos, options)
    crops = data.validation_patches(
        photos, options.validation_images, options.validation_size, options.seed
    )
    keeper = run.RunKeeper(workdir, groups, step, options.steps)
    closed = [
        progress.Progress(step, options.steps),
        *tensorboard.scalar_callbacks(os.path.join(workdir, run.LOG_FOLDER), step),
    ]
    export = run.PresetExport(
        os.path.join(workdir, run.PRESET_FOLDER),
        lambda: presets.from_network(network),
        resumed=step > 0,
    )
    # The order counts: the first adds figures to the logs that the others read.
    check = run.FiniteCheck(workdir, groups)
    validation = Validation(network, coder, crops, check, step)
    callbacks = [validation, *closed, export, keeper, *extra_callbacks]
    coder.update(network)
    try:
        while step < options.steps:
            turn = _turn_of(step // options.steps_per_epoch, config, options)
            _let_learn(network, turn)
            _fit_epoch(models[turn], coder, photos, options, step, callbacks)
            step += options.steps_per_epoch
    finally:
        for callback in closed:
            callback.close()
    return keeper.figures


def part_for(network, preset):
    """A preset's weights where a network has a place for them, and the network's own elsewhere.

    Raises:
        CodecError: there is no such place.
    """
    own = presets.from_network(network).weights
    kept = {path: array for path, array in preset.weights.items() if path in own}
    if not kept:
        raise CodecError(
            f"preset {preset.config.name!r}: expected networks of {network.config.networks!r}, "
            f"received only others ({preset.config.networks!r}); leave out --initial_weights"
        )
    return dataclasses.replace(preset, weights={**own, **kept})


def _fit_epoch(model, coder, photos, options, step, callbacks):
    """One epoch, cut short where the run ends."""
    batches = data.PatchBatches(
        photos,
        options.batch_size,
        options.patch_size,
        seed=options.seed,
        first_step=step,
        maximum_downscale=options.maximum_downscale,
        threads=2,
        transform=coder.training_item(options.seed, _reduction_of(model.turn)),
    )
    run.fit(
        model,
        batches,
        steps_per_epoch=min(options.steps_per_epoch, options.steps - step),
        callbacks=callbacks,
    )


def _turns(config):
    """The parts of the network that have something to learn."""
    return {
        "all": (RESTORATION, FULL_RESTORATION, COMPACT),
        "both": (RESTORATION, COMPACT),
        "compact": (COMPACT,),
        "restoration": (FULL_RESTORATION,),
    }[config.networks]


def _turn_of(epoch, config, options):
    """Which part learns in an epoch, counted from 0: each RecCNN as often as the other."""
    *others, last = _turns(config)
    if not others or (epoch + 1) % options.compact_every == 0:
        return last
    return others[(epoch - epoch // options.compact_every) % len(others)]


def _reduction_of(turn):
    """How many times smaller the sides of the stored picture are that a part learns from."""
    return 1 if turn == FULL_RESTORATION else 2


def _let_learn(network, turn):
    """Makes one part trainable, and the others not."""
    for part in (network.restoration, network.full_restoration, network.compact):
        if part is not None:
            part.trainable = part.name == turn


def _turn_model(network, turn, config, options):
    """A compiled `TurnModel` with an optimiser of its own."""
    epochs = range(-(-options.steps // options.steps_per_epoch))
    rate = options.compact_learning_rate if turn == COMPACT else options.learning_rate
    own = sum(_turn_of(epoch, config, options) == turn for epoch in epochs)
    steps = max(1, own) * options.steps_per_epoch
    schedule = run.learning_rate_schedule(rate, steps, options.warmup_steps)
    optimizer = distribution.Adam(schedule, global_clipnorm=options.clip_norm, name=f"{turn}_adam")
    _let_learn(network, turn)
    optimizer.build(network.trainable_variables)
    model = TurnModel(network, turn, options.rate_weight, name=turn)
    model.compile(optimizer=optimizer, jit_compile=run.jit_compile())
    return model
