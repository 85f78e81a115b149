"""Training of the context model that predicts a codec's bits; the codec itself stays as it is.

`ContextNetwork` is `context_model.ContextModel` in Keras and floating point, with weights and
activations rounded to the integers' grid in the forward pass (fake quantisation), so that what is
trained is what will run. `train(...)` codes one crop of each photograph once, keeps the bits in the
work folder, fits, and leaves `workdir/preset`: the preset with its new context model.
"""

import dataclasses
import hashlib
import io
import logging
import math
import os
import types

import keras
from keras import ops
import numpy as np
from tqdm import tqdm

from rnn_codec import presets, storage
from rnn_codec.entropy import context_model
from rnn_codec.errors import CodecError
from rnn_codec.recurrent import progressive
from rnn_codec.recurrent.options import ContextOptions
from rnn_codec.training import checkpoints, data, progress, run, tensorboard

PLANES_FILE = "planes.npz"

_HELD = 48  # crops to validate on
_WARMUP_STEPS = 50


class ContextNetwork(keras.Model):
    """The context model, to be trained.

    Args:
        iterations: int. Planes.
        features: int. Width of the hidden layers.
        bits: int. Channels of a plane.
        quantised: bool. Whether weights and activations are rounded.

    Call arguments:
        planes: `[B, N, rows, columns, bits]`, -1.0 or 1.0.

    Output:
        Logits of P(bit = 1), of the same shape.
    """

    def __init__(self, iterations, features, bits, quantised=True, **kwargs):
        super().__init__(**kwargs)
        self.iterations = iterations
        self.features = features
        self.bits = bits
        self.quantised = quantised
        self.bits_per_bit = run.PerIteration(iterations, name="bits_per_bit")

    def build(self, input_shape):
        self.arrays = {}
        for name, shape in context_model.shapes(self.iterations, self.features, self.bits).items():
            # Inputs of one product: Keras would count the iterations and steps among them.
            fan_in = math.prod(shape[1:-1]) if len(shape) == 5 else shape[-2]
            # Without an output at first, so that every bit starts at one half.
            limit = 0.0 if "bias" in name or name == "output" else math.sqrt(3.0 / fan_in)
            uniform = keras.initializers.RandomUniform(-limit, limit, seed=len(self.arrays))
            self.arrays[name] = self.add_weight(shape, uniform, name=name)

    def call(self, planes):
        rounded = {name: self._rounded(name, array) for name, array in self.arrays.items()}
        planes = ops.cast(planes, self.compute_dtype)
        logits = []
        for index in range(self.iterations):
            arrays = {name: array[index] for name, array in rounded.items()}
            logits.append(self._plane(planes, index, arrays))
        return ops.stack(logits, axis=1)

    def _plane(self, planes, index, arrays):
        """Logits of one plane: `[B, rows, columns, bits]`."""
        plane = planes[:, index]
        parity = np.add.outer(np.arange(plane.shape[1]), np.arange(plane.shape[2])) % 2
        even = ops.cast(parity[:, :, None] == 0, plane.dtype)
        sums = _convolve(_context(planes, index), arrays["earlier"]) + arrays["bias"]
        logits, size = [], self.bits // context_model.GROUPS
        for group in range(context_model.GROUPS):
            channels = slice(group * size, (group + 1) * size)
            coded, kernel = plane[..., channels], arrays["known"][:, :, channels]
            first = self._logits(sums, arrays, 2 * group)
            sums = sums + _convolve(coded * even, kernel)
            second = self._logits(sums, arrays, 2 * group + 1)
            sums = sums + _convolve(coded * (1.0 - even), kernel)
            logits.append(first * even + second * (1.0 - even))
        return ops.concatenate(logits, axis=-1)

    def _logits(self, sums, arrays, step):
        features = self._activation(sums)
        features = ops.matmul(features, arrays["hidden"][step]) + arrays["hidden_bias"][step]
        features = self._activation(features)
        z = ops.matmul(features, arrays["output"][step]) + arrays["output_bias"][step]
        limit = context_model.OUTPUT_LIMIT / context_model.OUTPUT_SCALE
        return self._grid(ops.clip(z, -limit, limit), context_model.OUTPUT_SCALE)

    def _activation(self, sums):
        limit = context_model.ACTIVATION_LIMIT / context_model.ACTIVATION_SCALE
        return self._grid(ops.clip(sums, 0.0, limit), context_model.ACTIVATION_SCALE)

    def _rounded(self, name, array):
        if "bias" in name:
            return self._grid(array, _bias_scale(name))
        limit = context_model.WEIGHT_LIMIT / context_model.WEIGHT_SCALE
        return self._grid(ops.clip(array, -limit, limit), context_model.WEIGHT_SCALE)

    def _grid(self, values, scale):
        """Multiples of 1 / scale, halves up, with the gradient of the identity."""
        if not self.quantised:
            return values
        rounded = ops.floor(values * scale + 0.5) / scale
        return values + ops.stop_gradient(rounded - values)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        # -log2 of the probability of the bit that it was.
        cost = ops.softplus(-ops.cast(x, y_pred.dtype) * y_pred) / math.log(2.0)
        cost = ops.mean(cost, axis=(2, 3, 4))  # [B, N]
        self.bits_per_bit.update_state(cost)
        return ops.mean(cost)

    def integers(self):
        """The arrays of a `context_model.ContextModel`."""
        integers = {}
        for name, array in self.arrays.items():
            if "bias" in name:
                scale, limit, kind = _bias_scale(name), context_model.BIAS_LIMIT, np.int32
            else:
                scale, limit, kind = context_model.WEIGHT_SCALE, context_model.WEIGHT_LIMIT, np.int8
            values = np.floor(np.asarray(array, np.float64) * scale + 0.5)
            integers[name] = np.clip(values, -limit, limit).astype(kind)
        return integers


def _bias_scale(name):
    """Of the sums that a bias is added to."""
    inputs = 1 if name == "bias" else context_model.ACTIVATION_SCALE
    return context_model.WEIGHT_SCALE * inputs


def _context(planes, index):
    """As `context_model` sees earlier planes: `[B, rows, columns, 4 * bits]`."""
    absent = ops.zeros_like(planes[:, 0])
    earlier = [planes[:, i] for i in range(index)]
    last = [absent] * (context_model.EARLIER - len(earlier)) + earlier[-context_model.EARLIER :]
    return ops.concatenate([*last, sum(earlier, start=absent)], axis=-1)


def _convolve(inputs, kernel):
    return ops.conv(inputs, kernel, padding="same", data_format="channels_last")


class PlaneBatches(keras.utils.PyDataset):
    """Random batches of coded crops. A pure function of seed and step.

    Item:
        float32 `[batch_size, N, rows, columns, bits]`, -1 or 1, in a tuple of one.
    """

    def __init__(self, planes, batch_size, seed, first_step):
        super().__init__()
        self.planes = planes
        self.batch_size = batch_size
        self.seed = seed
        self.first_step = first_step

    @property
    def num_batches(self):
        return None

    def __getitem__(self, index):
        rng = np.random.default_rng((self.seed, self.first_step + index))
        return (signs(self.planes[rng.integers(len(self.planes), size=self.batch_size)]),)


def signs(planes):
    """uint8 zeros and ones to float32 -1 and 1."""
    return 2.0 * planes.astype(np.float32) - 1.0


def train(preset, photos, options: ContextOptions, workdir, resume=False):
    """Trains a context model for a preset; see the module's docstring.

    Args:
        preset: `presets.Preset` with weights.
        photos: `data.PhotoFolder` or `data.PhotoArrays`.
        options: `ContextOptions`.
        workdir: folder; made if missing.
        resume: bool. Go on from its checkpoint.

    Returns:
        Dictionary of the last validation's figures: `loss` in bits per stored bit, and
        `bits_per_bit/iteration_01`, ...

    Raises:
        CodecError: the work folder holds another run, no photograph is large enough, or the codec's
            bits do not divide into groups.
    """
    run.refuse_other_run(workdir, resume)
    config = preset.config
    if config.bits % context_model.GROUPS:
        raise CodecError(
            f"preset {config.name!r}: expected a number of bits that {context_model.GROUPS} "
            f"divides, received {config.bits}; such a codec has no context model"
        )
    os.makedirs(workdir, exist_ok=True)
    keras.utils.set_random_seed(options.seed)
    planes, held = coded_crops(preset, photos, options, workdir)
    model = ContextNetwork(
        config.iterations, options.features, config.bits, options.quantised, name="context"
    )
    model.build(planes.shape)
    schedule = run.learning_rate_schedule(options.learning_rate, options.steps, _WARMUP_STEPS)
    optimizer = run.make_optimizer(schedule, ema_momentum=0.99)
    optimizer.build(model.trainable_variables)
    model.compile(optimizer=optimizer, jit_compile=run.jit_compile())
    groups = {"model": model.variables, "optimizer": optimizer.variables}
    state = {"codec": dataclasses.replace(preset, context=None).identity.hex()}
    step = run.first_step(workdir, groups, options.steps, state=state)
    if step >= options.steps:
        return {}
    counter = progress.Progress(step, options.steps)
    logs = tensorboard.scalar_callbacks(os.path.join(workdir, run.LOG_FOLDER), step)
    keeper = run.RunKeeper(workdir, groups, step, options.steps, state)
    callbacks = [counter, *logs]
    if options.quantised:
        folder = os.path.join(workdir, run.PRESET_FOLDER)
        callbacks.append(
            run.PresetExport(
                folder, lambda: dataclasses.replace(preset, context=model.integers()), step > 0
            )
        )
    run.fit(
        model,
        PlaneBatches(planes, options.batch_size, options.seed, step),
        closed=(counter, *logs),
        epochs=-(-(options.steps - step) // options.steps_per_epoch),
        steps_per_epoch=options.steps_per_epoch,
        validation_data=(signs(held), None),
        validation_batch_size=options.batch_size,
        # The order counts: those before AveragedWeights see the averages, those after do not.
        callbacks=[*callbacks, run.AveragedWeights(), keeper],
    )
    if options.quantised:
        _log_cost_of_integers(workdir, model, signs(held), options.batch_size)
    return keeper.figures


def _log_cost_of_integers(workdir, model, planes, batch_size):
    """Says what the weights of the checkpoint would reach if nothing were rounded."""
    losses = []
    for quantised in (True, False):
        # Not `model` itself: on JAX its arrays are gone after `fit`.
        network = ContextNetwork(model.iterations, model.features, model.bits, quantised)
        network.build(planes.shape)
        path = os.path.join(workdir, checkpoints.FILE_NAME)
        checkpoints.restore(path, {"model": network.variables})
        network.compile(jit_compile=run.jit_compile())
        figures = network.evaluate(planes, batch_size=batch_size, verbose=0, return_dict=True)
        losses.append(figures["loss"])
    excess = 100.0 * (losses[0] / losses[1] - 1.0)
    logging.info(
        "last weights: %.5f bits per bit in integers, %.5f without rounding (%+.2f %%)",
        *losses,
        excess,
    )


def coded_crops(preset, photos, options, workdir):
    """Planes of one crop of each photograph, for training and for validation.

    They are kept in the work folder, as the codec takes minutes to compute them.

    Returns:
        Two uint8 arrays `[crops, N, rows, columns, bits]` of zeros and ones.
    """
    path = os.path.join(workdir, PLANES_FILE)
    key = _key(preset, photos, options)
    coded = _read_crops(path, key, preset.config.bits)
    if coded is not None:
        return coded
    network = progressive.ProgressiveNetwork.create(preset.config)
    presets.assign(preset, network)
    steps = progressive.CompiledSteps(network)
    coded = []
    for items, limit in ((photos.training, options.crops), (photos.validation, _HELD)):
        # One of each photograph, as far as they are large enough.
        source = types.SimpleNamespace(validation=items, load=photos.load)
        count = min(limit, len(items))
        crops = data.validation_patches(source, count, options.patch_size, options.seed)
        logging.info("coding %d crops of %d pixels", count, options.patch_size)
        coded.append(np.stack([_code(steps, preset.config, crop) for crop in tqdm(crops)]))
    training_bits, held_bits = (np.packbits(planes, axis=-1) for planes in coded)
    buffer = io.BytesIO()
    np.savez(buffer, key=np.array(key), training=training_bits, held=held_bits)
    storage.write_atomically(path, buffer.getvalue())
    return coded


def _read_crops(path, key, bits):
    """What an earlier call kept, if it is of the same codec, photographs and options."""
    if not os.path.exists(path):
        return None
    with np.load(path, allow_pickle=False) as file:
        if str(file["key"]) != key:
            return None
        return [np.unpackbits(file[name], axis=-1, count=bits) for name in ("training", "held")]


def _code(steps, config, crop):
    """uint8 `[H, W, 3]` -> uint8 `[N, H/16, W/16, bits]`, zeros and ones."""
    planes = []
    for iteration in progressive.iterate(steps, image=progressive.normalise(crop[None])):
        planes.append(ops.convert_to_numpy(iteration.bits)[0] > 0)
        if len(planes) == config.iterations:
            return np.stack(planes).astype(np.uint8)


def _key(preset, photos, options):
    """What the planes depend on: a string."""
    codec = dataclasses.replace(preset, context=None).identity.hex()
    # Of two sets of photographs, a crop here and there tells.
    sample = data.validation_patches(photos, 4, options.patch_size, options.seed)
    digest = hashlib.sha256(sample.tobytes()).hexdigest()
    counts = f"{len(photos.training)} {len(photos.validation)}"
    return f"{codec} {options.patch_size} {options.crops} {options.seed} {counts} {digest}"
