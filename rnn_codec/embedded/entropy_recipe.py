"""Training of the entropy model of a preset; the transform itself stays as it is.

`train(...)` computes the indices of crops of the photographs once and keeps them in the work
folder, finds the order in which channels are sent, fits, and leaves `workdir/preset`: the preset
with its entropy model.
"""

import dataclasses
import hashlib
import io
import logging
import os
import types

import keras
from keras import ops
import numpy as np
from PIL import Image

from rnn_codec import presets, storage
from rnn_codec.embedded import channel_order, entropy_model, runs
from rnn_codec.embedded.entropy_network import EntropyNetwork
from rnn_codec.embedded.entropy_options import EntropyOptions
from rnn_codec.embedded.network import EmbeddedNetwork, truncate
from rnn_codec.errors import CodecError
from rnn_codec.training import data, progress, run, tensorboard

INDEX_FILE = "indices.npz"

# The suggested runs of a plane, of about equal bits.
RUNS = 5
# A channel that becomes significant less often than this is never coded.
_RAREST = 3e-5
_HELD = 48  # crops to validate on
_COUNTED = 24  # crops to count what is found late in
_REDUCTION = 0.62
_ORDER_CROPS, _ORDER_SIZE = 8, 128
_WARMUP_STEPS = 50


class TrainedNetwork(keras.Model):
    """An `EntropyNetwork` with its loss: bits, each plane's against what they are at first.

    Args:
        network: `EntropyNetwork`.
        bits: float `[N, K]`. Bits per position without context; the loss divides by their sums.
    """

    def __init__(self, network, bits, **kwargs):
        super().__init__(**kwargs)
        self.network = network
        self.bits = bits
        self.usual = np.maximum(np.asarray(bits.sum(axis=1), np.float32), 1e-3)
        self.bits_per_pixel = run.PerIteration(len(self.usual), name="bits_per_pixel")

    def build(self, input_shape=None):
        self.network.build()
        self.built = True

    def call(self, index):
        return self.network(index)

    def run_ends(self):
        """Where the suggested runs of each plane begin and end: int16 `[N, RUNS + 1]`."""
        return np.stack([equal_runs(bits, RUNS) for bits in self.bits]).astype(np.int16)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        self.bits_per_pixel.update_state(y_pred / 256.0)
        return ops.mean(y_pred / self.usual)


class IndexBatches(keras.utils.PyDataset):
    """Random batches of crops' indices. A pure function of seed and step.

    Item:
        int16 `[batch_size, h, w, K]`, in a tuple of one.
    """

    def __init__(self, index, batch_size, seed, first_step):
        super().__init__()
        self.index = index
        self.batch_size = batch_size
        self.seed = seed
        self.first_step = first_step

    @property
    def num_batches(self):
        return None

    def __getitem__(self, step):
        rng = np.random.default_rng((self.seed, self.first_step + step))
        return (self.index[np.sort(rng.integers(len(self.index), size=self.batch_size))],)


def train(preset, photos, options: EntropyOptions, workdir, resume=False):
    """Trains an entropy model for a preset; see the module's docstring.

    Args:
        preset: `presets.Preset` with weights.
        photos: `data.PhotoFolder` or `data.PhotoArrays`.
        options: `EntropyOptions`.
        workdir: folder; made if missing.
        resume: bool. Go on from its checkpoint.

    Returns:
        Dictionary of the last validation's figures: `loss`, and bits per pixel of each plane,
        `bits_per_pixel/iteration_01`, ...

    Raises:
        CodecError: the work folder holds another run, or no photograph is large enough.
    """
    run.refuse_other_run(workdir, resume)
    os.makedirs(workdir, exist_ok=True)
    keras.utils.set_random_seed(options.seed)
    indices = crop_indices(preset, photos, options, workdir)

    def export(context):
        folder = os.path.join(workdir, run.PRESET_FOLDER)
        return folder, lambda: dataclasses.replace(preset, context=context())

    identity = dataclasses.replace(preset, context=None).identity.hex()
    return fit(indices, preset.config.iterations, options, workdir, identity, export)


def fit(indices, planes, options, workdir, identity="", export=None):
    """Fits an entropy model to indices.

    Args:
        indices: dictionary of `training` and `held`, int16 `[crops, h, w, K]`, and `order`, int16
            `[K]`.
        planes: int. N.
        options: `EntropyOptions`.
        workdir: folder, which may hold a checkpoint to go on from.
        identity: str. Of what the indices are of.
        export: function of one that gives the model's arrays; returns a folder and a function that
            makes the preset to be kept there. None: nothing is kept but the checkpoint.

    Returns:
        The figures of the last validation.
    """
    training, held, order = (indices[name] for name in ("training", "held", "order"))
    training, held = training[..., order], held[..., order]
    model = make_model(training, planes, options)
    network = model.network
    schedule = run.learning_rate_schedule(options.learning_rate, options.steps, _WARMUP_STEPS)
    optimizer = run.make_optimizer(schedule, ema_momentum=0.98)
    optimizer.build(model.trainable_variables)
    model.compile(optimizer=optimizer, jit_compile=run.jit_compile())
    groups = {"model": model.trainable_variables, "optimizer": optimizer.variables}
    state = {"codec": identity}
    step = run.first_step(workdir, groups, options.steps, state=state)
    if step >= options.steps:
        return {}
    counter = progress.Progress(step, options.steps)
    logs = tensorboard.scalar_callbacks(os.path.join(workdir, run.LOG_FOLDER), step)
    keeper = run.RunKeeper(workdir, groups, step, options.steps, state)
    callbacks = [counter, *logs]
    if export is not None and options.quantised:

        def context():
            thresholds = np.full(planes, options.threshold)
            arrays = {"order": order, "runs": model.run_ends(), **network.export(thresholds)}
            sample = training[:: max(1, len(training) // _COUNTED)]
            return {**arrays, "late": late_classes(arrays, sample)}

        callbacks.append(run.PresetExport(*export(context), step > 0))
    run.fit(
        model,
        IndexBatches(training, options.batch_size, options.seed, step),
        closed=(counter, *logs),
        epochs=-(-(options.steps - step) // options.steps_per_epoch),
        steps_per_epoch=options.steps_per_epoch,
        validation_data=(held, None),
        validation_batch_size=options.batch_size,
        # The order counts: those before AveragedWeights see the averages, those after do not.
        callbacks=[*callbacks, run.AveragedWeights(), keeper],
    )
    return keeper.figures


def make_model(index, planes, options):
    """A `TrainedNetwork` that begins at what a sample of indices is like.

    Args:
        index: int16 `[crops, h, w, K]`, channels in the order in which they are sent.
        planes: int. N.
        options: `EntropyOptions`.
    """
    sample = np.asarray(index[:: max(1, len(index) // 300)])
    magnitude = np.abs(sample)
    frequency = np.stack(
        [(magnitude >> (planes - 1 - n) > 0).mean(axis=(0, 1, 2)) for n in range(planes)]
    )
    live = frequency > _RAREST
    # What was live stays so: a significant coefficient is refined in all later planes.
    live = np.logical_or.accumulate(live, axis=0)
    live[~live.any(axis=1), 0] = True
    bits = channel_order.bits_of_planes(sample, planes)
    place = np.arange(bits.shape[1])
    run_of = np.stack([np.searchsorted(equal_runs(b, RUNS)[1:-1], place, "right") for b in bits])
    network = EntropyNetwork(
        live,
        run_of,
        frequency,
        options.mixed,
        options.features,
        options.signed_features,
        options.quantised,
        name="entropy",
    )
    model = TrainedNetwork(network, bits, name="trained")
    model.build()
    return model


def late_classes(arrays, index):
    """Classes of finding a coefficient late, counted: int8 `[N, LATE_BINS]`.

    Args:
        arrays: of an `entropy_model.EntropyModel`.
        index: int `[crops, h, w, K]`, channels in the order in which they are sent.
    """
    order = np.arange(len(arrays["order"]), dtype=np.int16)
    model = entropy_model.EntropyModel({**arrays, "order": order})
    counts = np.full((model.planes, entropy_model.LATE_BINS, 2), (1.0, 0.1))
    for crop in index:
        encoder = runs.RunEncoder(model, crop)
        for plane in range(model.planes):
            encoder.encode(plane, 0, model.latents)
        counts += encoder.late_counts
    logits = np.log(counts[..., 1] / counts[..., 0])
    limit = entropy_model.CLASS_LIMIT
    return np.clip(np.rint(logits * entropy_model.CLASS_SCALE), -limit, limit).astype(np.int8)


def equal_runs(bits, count):
    """Ends of runs of channels that take about equal bits: int `[count + 1]`, from 0 to K.

    Args:
        bits: float `[K]`.
        count: int.
    """
    shares = np.cumsum(bits) / max(np.sum(bits), 1e-12)
    inner = np.searchsorted(shares, np.arange(1, count) / count) + 1
    return np.minimum(np.concatenate([[0], inner, [len(bits)]]), len(bits))


def crop_indices(preset, photos, options, workdir):
    """Indices of crops of photographs, for training and for validation, and the channels' order.

    They are kept in the work folder, as they take minutes.

    Returns:
        Dictionary of `training` and `held`, int16 `[crops, h, w, K]`, and `order`, int16 `[K]`.
    """
    path = os.path.join(workdir, INDEX_FILE)
    key = _key(preset, photos, options)
    if os.path.exists(path):
        with np.load(path, allow_pickle=False) as file:
            if str(file["key"]) == key:
                return {name: file[name] for name in ("training", "held", "order")}
    network = EmbeddedNetwork.create(preset.config)
    presets.assign(preset, network)
    crops = {
        "training": _crops(photos, photos.training, options.crops, options),
        "held": _crops(photos, photos.validation, min(_HELD, options.crops), options),
    }
    found = {}
    for name, pixels in crops.items():
        logging.info("analysing %d crops of %d pixels", len(pixels), options.patch_size)
        parts = [index_of(network, pixels[i : i + 4]) for i in range(0, len(pixels), 4)]
        found[name] = np.concatenate(parts)
    step, size = max(1, len(crops["training"]) // _ORDER_CROPS), _ORDER_SIZE
    few = _normalise(crops["training"][::step][:_ORDER_CROPS])
    planes = preset.config.iterations
    measured = [plane for plane in channel_order.MEASURED_PLANES if plane < planes]
    logging.info("measuring what channels gain")
    gains = channel_order.measure_gains(network, few[:, :size, :size], measured)
    bits = channel_order.bits_of_planes(found["training"], planes)[measured]
    found["order"] = channel_order.order(gains, bits)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, key=np.array(key), **found)
    storage.write_atomically(path, buffer.getvalue())
    return found


def _crops(photos, items, count, options):
    """Crops of photographs, half of them reduced: uint8 `[count or fewer, size, size, 3]`."""

    def reduced(item):
        picture = Image.fromarray(photos.load(item))
        sides = [max(1, round(_REDUCTION * side)) for side in picture.size]
        return np.asarray(picture.resize(sides, Image.Resampling.LANCZOS))

    size, found = options.patch_size, []
    for number, load in enumerate((photos.load, reduced)):
        source = types.SimpleNamespace(validation=items, load=load)
        try:
            found.append(
                data.validation_patches(source, -(-count // 2), size, options.seed + number)
            )
        except CodecError:
            if not number:
                raise
            logging.warning("no photograph is large enough to be reduced")
    return np.concatenate(found)


def index_of(network, pictures):
    """uint8 `[B, H, W, 3]` -> int16 `[B, h, w, K]`, indices of the last plane."""
    latents = network.analyse(_normalise(pictures))
    scaled = latents * 2.0 ** (network.config.iterations - 1)
    limit = float(entropy_model.index_limit(network.config.iterations))
    index = ops.clip(truncate(scaled), -limit, limit)
    return ops.convert_to_numpy(index).astype(np.int16)


def _normalise(pictures):
    return pictures.astype(np.float32) / 127.5 - 1.0


def _key(preset, photos, options):
    """What the indices depend on: a string."""
    codec = dataclasses.replace(preset, context=None).identity.hex()
    # Of two sets of photographs, a crop here and there tells.
    sample = data.validation_patches(photos, 4, options.patch_size, options.seed)
    digest = hashlib.sha256(sample.tobytes()).hexdigest()
    counts = f"{len(photos.training)} {len(photos.validation)}"
    return f"{codec} {options.patch_size} {options.crops} {options.seed} {counts} {digest}"
