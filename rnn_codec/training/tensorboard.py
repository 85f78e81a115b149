"""Callbacks that log a run for TensorBoard, and profile it."""

from collections.abc import Callable
import dataclasses
import logging
import os
import time

import keras
import numpy as np
from PIL import Image

from rnn_codec.errors import CodecError
from rnn_codec.training import events
from rnn_codec.training.progress import StepCallback, validation_figures

# Strips of pictures take a megabyte each: so many times in a run, and at its last validation.
_STRIPS_PER_RUN = 20

# One chart for all iterations of each figure, in TensorBoard's tab "Custom scalars".
_CHARTS = ("loss", "psnr_db", "ms_ssim", "visible_error", "bits_per_pixel", "living_channels")


# These take too long for every step.
_NOT_TRAINED = ("ms_ssim", "visible_error", "living_channels")


@dataclasses.dataclass(frozen=True)
class Shown:
    """What is drawn of a progressive codec in training."""

    images: np.ndarray  # uint8 [B, H, W, 3]
    # Function of such images in [-1, 1] that gives reconstructions [B, N, H, W, 3].
    reconstruct: Callable[[np.ndarray], np.ndarray]
    # Function of the validation's figures that gives charts, as `events.rate_distortion_figure`
    # draws them.
    charts: Callable[[dict[str, float]], dict]
    pixels_per_step: int
    bits_per_iteration: float | None = None  # per pixel, where figures are told per coded bit


class TensorBoard(StepCallback):
    """Event files in `train` and `validation` below a folder.

    Every `every` steps: the mean loss of these steps, the learning rate and pixels per second.
    After each epoch, for each iteration: loss, quality, bits per pixel and what else the model
    measures; and the rate-distortion figure. After some, also a strip of each of the pictures shown
    (I, P[1..N] above R[1..N], where grey is 0 and contrast is halved).

    Args:
        folder: path.
        first_step, total_steps: int. Of the run.
        learning_rate: function of the step.
        shown: `Shown`.
        graph: network whose graph in TensorFlow is to be written, or None.
        every: int. Steps.

    Raises:
        ImportError: there is no `tensorboard`.
    """

    def __init__(self, folder, first_step, total_steps, learning_rate, shown, graph=None, every=50):
        super().__init__(first_step)
        self.total_steps = total_steps
        self.learning_rate = learning_rate
        self.shown = shown
        self.graph = graph
        self.every = every
        self.train = events.EventWriter(os.path.join(folder, "train"), first_step)
        self.validation = events.EventWriter(os.path.join(folder, "validation"), first_step)
        self.validation.layout({name: f"^{name}/iteration_" for name in _CHARTS})
        self._strips = first_step * _STRIPS_PER_RUN // total_steps
        self._seen, self._mean = 0, 0.0  # steps of the epoch at the last point, their mean loss
        self._time = time.monotonic()

    def on_train_begin(self, logs=None):
        if self.graph is not None:
            self.train.graph(_tensorflow_graph(self.graph, self.shown.images))

    def on_epoch_begin(self, epoch, logs=None):
        self._seen, self._mean = 0, 0.0
        self._time = time.monotonic()

    def on_train_batch_end(self, batch, logs=None):
        super().on_train_batch_end(batch, logs)
        if self.step % self.every:
            return
        # Keras's loss is the mean since the epoch began; TensorBoard's is that of the last steps.
        seen, mean = batch + 1, float(logs["loss"])
        loss = (mean * seen - self._mean * self._seen) / (seen - self._seen)
        rate = float(self.learning_rate(self.step))
        now = time.monotonic()
        pixels = (seen - self._seen) * self.shown.pixels_per_step / max(now - self._time, 1e-9)
        self._seen, self._mean, self._time = seen, mean, now
        values = {"loss": loss, "learning_rate": rate, "pixels_per_second": pixels}
        self.train.scalars(self.step, values)

    def on_epoch_end(self, epoch, logs=None):
        bits = self.shown.bits_per_iteration
        train = {name: float(value) for name, value in logs.items() if "val_" not in name}
        # The loss has finer points already; some figures are not computed in training.
        train = {n: v for n, v in train.items() if n != "loss" and not n.startswith(_NOT_TRAINED)}
        self.train.scalars(self.step, _with_bits_per_pixel(train, bits))
        figures = _with_bits_per_pixel(validation_figures(logs), bits)
        self.validation.scalars(self.step, figures)
        figure = events.rate_distortion_figure(self.shown.charts(figures))
        self.validation.image(self.step, "rate_distortion", figure)
        strips = self.step * _STRIPS_PER_RUN // self.total_steps
        if strips > self._strips or self.step >= self.total_steps:
            self._strips = strips
            for number, pixels in enumerate(self._draw_strips(), start=1):
                self.validation.image(self.step, f"strip_{number}", Image.fromarray(pixels))
        self.train.flush()
        self.validation.flush()

    def _draw_strips(self):
        image = np.asarray(self.shown.images, np.float32) / 127.5 - 1.0
        return events.strip(image, np.clip(self.shown.reconstruct(image), -1.0, 1.0))

    def close(self):
        self.train.close()
        self.validation.close()


class Scalars(StepCallback):
    """The figures of each epoch, in `train` and `validation` below a folder."""

    def __init__(self, folder, first_step):
        super().__init__(first_step)
        self.train = events.EventWriter(os.path.join(folder, "train"), first_step)
        self.validation = events.EventWriter(os.path.join(folder, "validation"), first_step)
        self.validation.layout({"bits_per_bit": "^bits_per_bit/iteration_"})

    def on_epoch_end(self, epoch, logs=None):
        train = {name: float(value) for name, value in logs.items() if "val_" not in name}
        self.train.scalars(self.step, train)
        self.validation.scalars(self.step, validation_figures(logs))
        self.train.flush()
        self.validation.flush()

    def close(self):
        self.train.close()
        self.validation.close()


class Profiler(StepCallback):
    """Writes a profile of some steps for TensorBoard's tab "Profile" (TensorFlow and JAX).

    Args:
        folder: path.
        first_step: int. Steps done when training begins.
        steps: pair of int. The first and the last step to profile.

    Raises:
        CodecError: the backend has no profiler.
    """

    def __init__(self, folder, first_step, steps):
        super().__init__(first_step)
        self.folder = folder
        self.steps = steps
        self._start, self._stop = _profiler()
        self._running = False

    def on_train_batch_begin(self, batch, logs=None):
        if self.step + 1 == self.steps[0]:
            self._start(self.folder)
            self._running = True

    def on_train_batch_end(self, batch, logs=None):
        super().on_train_batch_end(batch, logs)
        if self._running and self.step == self.steps[1]:
            float(logs["loss"])  # waits until the step is done
            self.close()

    def close(self):
        if self._running:
            self._stop()
            self._running = False


def _profiler():
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.profiler.experimental.start, tf.profiler.experimental.stop
    if backend == "jax":
        import jax

        return jax.profiler.start_trace, jax.profiler.stop_trace
    raise CodecError(f"--profile: expected the backend tensorflow or jax, received {backend}")


def _tensorflow_graph(network, images):
    """Serialized graph of one pass over the images in training."""
    import tensorflow as tf

    function = tf.function(lambda images: network(images, training=True))
    shape = tf.TensorSpec((None, *images.shape[1:]), tf.uint8)
    return function.get_concrete_function(shape).graph.as_graph_def().SerializeToString()


def tensorboard_callbacks(
    folder, first_step, total_steps, learning_rate, shown, graph=None, profile=None
) -> list[StepCallback]:
    """The callbacks that write logs: none, but for a line that says why, without `tensorboard`.

    Args:
        folder: path.
        first_step, total_steps: int. Of the run.
        learning_rate: function of the step.
        shown: `Shown`.
        graph: network whose graph in TensorFlow is to be written, or None.
        profile: first and last step to profile, or None.

    Raises:
        CodecError: the backend has no graph or no profiler, and one was asked for.
    """
    if graph is not None and keras.backend.backend() != "tensorflow":
        raise CodecError(
            f"--graph: expected the backend tensorflow, received {keras.backend.backend()}"
        )
    callbacks = [Profiler(os.path.join(folder, "train"), first_step, profile)] if profile else []
    board = _optional(TensorBoard, folder, first_step, total_steps, learning_rate, shown, graph)
    return [*board, *callbacks]


def scalar_callbacks(folder, first_step):
    """The callback that writes figures: none, but for a line that says why, without it."""
    return _optional(Scalars, folder, first_step)


def _optional(callback, *args):
    try:
        return [callback(*args)]
    except ImportError:
        logging.warning("no TensorBoard logs; for them: pip install 'rnn-codec[train]'")
        return []


def _with_bits_per_pixel(figures, bits):
    """Says entropy per bit of a plane as bits per pixel, which add up over planes."""
    if bits is None:
        return figures
    return {
        name.replace("bits_per_bit", "bits_per_pixel"): bits * value
        if name.startswith("bits_per_bit")
        else value
        for name, value in figures.items()
    }
