"""What the recipes of all wings share: work folder, checkpoint, best preset, schedule.

After each epoch a run validates, exports its weights as a preset to `workdir/preset` if they are
the best so far, ready for `encode.py --preset`, and writes a checkpoint. That comes last: a run
killed at any moment and resumed repeats what it had not finished, and ends as if never killed.

`workdir` holds `checkpoint.npz`, `preset/`, TensorBoard's `logs/`, and what was asked, `run.json`.
"""

from collections.abc import Callable, Iterable
import dataclasses
import json
import logging
import math
import os
from typing import Any

import keras
from keras import ops
import numpy as np

from rnn_codec import presets, storage
from rnn_codec.backend import distribution
from rnn_codec.configuration import JsonConfig
from rnn_codec.errors import CodecError
from rnn_codec.training import checkpoints
from rnn_codec.training.progress import StepCallback, validation_figures

PRESET_FOLDER, LOG_FOLDER, RUN_FILE = "preset", "logs", "run.json"


def refuse_other_run(workdir: str, resume: bool) -> None:
    """Raises `CodecError` for a work folder with a run, unless that is to go on."""
    if checkpoints.exists(workdir) and not resume:
        raise CodecError(f"{workdir}: holds a run already; add --resume or give another --workdir")


def first_step(
    workdir: str,
    groups: dict[str, list],
    steps: int,
    network: keras.Model | None = None,
    initial_preset: presets.Preset | None = None,
    state: dict[str, str] | None = None,
) -> int:
    """Gives a run its weights, of the work folder's checkpoint if there is one.

    Args:
        workdir: folder.
        groups: dictionary of variables, as for `checkpoints.restore`.
        steps: int. Of the whole run.
        network: model that gets the weights of the preset.
        initial_preset: `presets.Preset` or None.
        state: what a checkpoint must hold beside the step, as `RunKeeper` kept it.

    Returns:
        How many steps are done.

    Raises:
        CodecError: the checkpoint is damaged, or of another run.
    """
    step = 0
    if checkpoints.exists(workdir):
        held = checkpoints.restore(os.path.join(workdir, checkpoints.FILE_NAME), groups)
        for name, value in (state or {}).items():
            if held[name] != value:
                raise CodecError(
                    f"{workdir}: holds a run for {name} {held[name]}, received {name} {value}; "
                    "give another --workdir"
                )
        step = held["step"]
        logging.info("resumed at step %d of %d", step, steps)
    elif initial_preset is not None:
        presets.assign(initial_preset, network)
    if step >= steps:
        logging.info("nothing to do: the run has reached its %d steps", steps)
    return step


def learning_rate_schedule(
    learning_rate: float, steps: int, warmup_steps: int
) -> keras.optimizers.schedules.LearningRateSchedule:
    """Function of the step: linear warm-up, then a cosine down to a hundredth at the last."""
    return keras.optimizers.schedules.CosineDecay(
        0.0 if warmup_steps else learning_rate,
        decay_steps=max(1, steps - warmup_steps),
        alpha=0.01,
        warmup_target=learning_rate if warmup_steps else None,
        warmup_steps=warmup_steps,
    )


def make_optimizer(
    schedule: keras.optimizers.schedules.LearningRateSchedule,
    clip_norm: float = 1.0,
    ema_momentum: float = 0.999,
) -> keras.optimizers.Optimizer:
    """Adam with a schedule, clipped gradients and averaged weights."""
    return distribution.Adam(
        schedule,
        global_clipnorm=clip_norm,
        use_ema=True,
        ema_momentum=ema_momentum,
        name="adam",
    )


def fit(model: keras.Model, batches: Any, closed: Iterable[StepCallback] = (), **options) -> None:
    """`Model.fit`, told as little as possible, which raises what the batches met as it was.

    Args:
        model: compiled `keras.Model`.
        batches: `keras.utils.PyDataset`.
        closed: callbacks to close in any case.
        **options: of `Model.fit`.
    """
    try:
        model.fit(batches, shuffle=False, verbose=0, **options)
    except Exception as error:
        # TensorFlow wraps what an input pipeline raises in a traceback of its own.
        fault = getattr(batches, "error", None)
        if fault is None:
            raise
        raise fault from error
    finally:
        for callback in closed:
            callback.close()


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


class FiniteCheck:
    """Ends a run whose loss or weights are no longer finite.

    Args:
        workdir: folder, for the message.
        groups: dictionary of name to list of variables.
    """

    def __init__(self, workdir: str, groups: dict[str, list]):
        self._workdir = workdir
        self._groups = groups

    def loss(self, step: int, value: float) -> None:
        self._expect(step, value, "loss is")

    def weights(self, step: int) -> None:
        for variables in self._groups.values():
            for variable in variables:
                self._expect(step, np.asarray(variable), "weights are")

    def _expect(self, step, value, subject):
        if not np.all(np.isfinite(value)):
            raise CodecError(
                f"step {step}: the {subject} no longer finite; training stopped. The last "
                f"checkpoint and the best preset in {self._workdir} are whole: resume with a lower "
                "--learning_rate or --clip_norm"
            )


class RunKeeper(StepCallback):
    """Ends a run at its last step or when it fails, and writes the checkpoint after each epoch.

    Args:
        workdir: folder.
        groups: dictionary of name to list of variables.
        first_step, total_steps: int. Of the run.
        state: dictionary, kept beside the step.
    """

    def __init__(
        self,
        workdir: str,
        groups: dict[str, list],
        first_step: int,
        total_steps: int,
        state: dict[str, str] | None = None,
    ):
        super().__init__(first_step)
        self.state = state or {}
        self.workdir = workdir
        self.groups = groups
        self.total_steps = total_steps
        self.figures = {}
        self._check = FiniteCheck(workdir, groups)
        self._loss = 0.0

    def on_train_batch_end(self, batch, logs=None):
        # The step before: to ask for this one's loss would wait for it, and idle the device.
        self._check.loss(self.step, self._loss)
        super().on_train_batch_end(batch, logs)
        self._loss = logs["loss"]
        if self.step == self.total_steps:
            self.model.stop_training = True

    def on_test_end(self, logs=None):
        # A step may break the weights after its own loss was computed; such are not to be kept.
        self._check.loss(self.step, self._loss)
        self._check.loss(self.step, logs["loss"])
        self._check.weights(self.step)

    def on_epoch_end(self, epoch, logs=None):
        self.figures = validation_figures(logs)
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

    def __init__(self, folder: str, make_preset: Callable[[], presets.Preset], resumed: bool):
        super().__init__()
        self.folder = folder
        self.make_preset = make_preset
        self.record = os.path.join(folder, self.RECORD)
        self.lowest = math.inf
        if resumed and os.path.exists(self.record):
            self.lowest = json.loads(storage.read_bytes(self.record))["loss"]

    def on_epoch_end(self, epoch, logs=None):
        figures = validation_figures(logs)
        if figures["loss"] < self.lowest:
            self.lowest = figures["loss"]
            presets.save(self.make_preset(), self.folder)
            storage.write_atomically(self.record, json.dumps(figures, indent=2).encode())


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
        return by_iteration(self.name, self.total / ops.maximum(self.count, 1.0))


def by_iteration(name: str, values: Any) -> dict[str, Any]:
    """A tensor `[N]` as figures `name/iteration_01`, ..."""
    return {f"{name}/iteration_{i + 1:02d}": values[i] for i in range(values.shape[0])}


def jit_compile(num_devices: int = 1) -> bool | str:
    """XLA, but on TensorFlow for one GPU only: its convolutions on CPU lose to oneDNN's."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return num_devices == 1 and bool(tf.config.list_logical_devices("GPU"))
    return "auto"


def record_run(workdir: str, config: JsonConfig, photos: Any, options: Any) -> None:
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
