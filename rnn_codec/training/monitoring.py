"""What a person watches while training: a progress bar with an honest remaining time, TensorBoard.

Event files are written by the `tensorboard` package itself, so they need no TensorFlow. TensorBoard
draws only against the step; where the other axis is the rate, the curve is drawn here and logged as
an image.
"""

import io
import logging
import math
import os
import sys
import time

import keras
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

from rnn_codec.errors import CodecError
from rnn_codec.recurrent import progressive

# Strips of pictures take a megabyte each: so many times in a run, and at its last validation.
_STRIPS_PER_RUN = 20

# In the line after each epoch, as far as a model has them.
_SHOWN = (("ms_ssim", "{:.4f}"), ("psnr_db", "{:.2f}"), ("bits_per_bit", "{:.4f}"))

# One chart for all iterations of each figure, in TensorBoard's tab "Custom scalars".
_CHARTS = ("loss", "psnr_db", "ms_ssim", "bits_per_pixel")


class StepCallback(keras.callbacks.Callback):
    """Counts the steps of a run: `step` of them are done, those before it was resumed included.

    `close` is called when `fit` ends in any way, `on_train_end` only when it ends well.
    """

    def __init__(self, first_step):
        super().__init__()
        self.step = first_step

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1

    def close(self):
        pass


class Progress(StepCallback):
    """A bar over all steps of the run, on stderr.

    Remaining time is from the mean rate since the first step of this process, validations and
    checkpoints included, compilation excluded: it does not jump and does not flatter.
    """

    def __init__(self, first_step, total_steps):
        super().__init__(first_step)
        self.total_steps = total_steps
        self.bar = None

    def on_train_batch_end(self, batch, logs=None):
        super().on_train_batch_end(batch, logs)
        if self.bar is None:
            self.bar = tqdm(
                total=self.total_steps,
                initial=self.step,
                smoothing=0,
                unit="step",
                mininterval=2.0 if sys.stderr.isatty() else 60.0,
                dynamic_ncols=True,
            )
            return
        drawn = self.bar.update()
        if drawn:  # only then, as asking for the loss waits for the step
            self.bar.set_postfix_str(f"loss {float(logs['loss']):.4f}")

    def on_epoch_end(self, epoch, logs=None):
        figures = validation_figures(logs)
        quality = []
        for metric, form in _SHOWN:
            values = [form.format(value) for value in _by_iteration(figures, metric)]
            quality.extend([f"{metric} " + " ".join(values)] if values else [])
        loss = figures.get("loss", math.nan)
        line = f"step {self.step}: validation loss {loss:.4f}; " + "; ".join(quality)
        tqdm.write(line, file=sys.stderr)

    def close(self):
        if self.bar is not None:
            self.bar.close()


class TensorBoard(StepCallback):
    """Event files in `train` and `validation` below a folder.

    Every `every` steps: the mean loss of these steps, and the learning rate. After each epoch, for
    each iteration: loss, quality, and bits per pixel after zero-order entropy coding. After some,
    also a strip of each of `images` (I, P[1..N] above R[1..N], where grey is 0 and contrast is
    halved), and after all the rate-distortion figure (before entropy coding).

    Args:
        folder: path.
        first_step, total_steps: int. Of the run.
        learning_rate: function of the step.
        images: uint8 `[B, H, W, 3]`.
        graph: bool. Whether to write TensorFlow's graph of the network.
        every: int. Steps.

    Raises:
        ImportError: there is no `tensorboard`.
    """

    def __init__(
        self, folder, first_step, total_steps, learning_rate, images, graph=False, every=50
    ):
        super().__init__(first_step)
        self.total_steps = total_steps
        self.learning_rate = learning_rate
        self.images = images
        self.graph = graph
        self.every = every
        self.train = EventWriter(os.path.join(folder, "train"), first_step)
        self.validation = EventWriter(os.path.join(folder, "validation"), first_step)
        self.validation.layout({name: f"^{name}/iteration_" for name in _CHARTS})
        self._strips = first_step * _STRIPS_PER_RUN // total_steps
        self._seen, self._mean = 0, 0.0  # steps of the epoch at the last point, their mean loss
        self._steps = None

    def on_train_begin(self, logs=None):
        if self.graph:
            self.train.graph(_tensorflow_graph(self.model.network, self.images))

    def on_epoch_begin(self, epoch, logs=None):
        self._seen, self._mean = 0, 0.0

    def on_train_batch_end(self, batch, logs=None):
        super().on_train_batch_end(batch, logs)
        if self.step % self.every:
            return
        # Keras's loss is the mean since the epoch began; TensorBoard's is that of the last steps.
        seen, mean = batch + 1, float(logs["loss"])
        loss = (mean * seen - self._mean * self._seen) / (seen - self._seen)
        self._seen, self._mean = seen, mean
        rate = float(self.learning_rate(self.step))
        self.train.scalars(self.step, {"loss": loss, "learning_rate": rate})

    def on_epoch_end(self, epoch, logs=None):
        bits = self.model.network.config.bits / progressive.STRIDE**2  # per pixel, uncoded
        train = {name: float(value) for name, value in logs.items() if "val_" not in name}
        # The loss has finer points already; MS-SSIM is not computed in training.
        train = {n: v for n, v in train.items() if n != "loss" and not n.startswith("ms_ssim")}
        self.train.scalars(self.step, _with_bits_per_pixel(train, bits))
        figures = _with_bits_per_pixel(validation_figures(logs), bits)
        self.validation.scalars(self.step, figures)
        curves = {name: _by_iteration(figures, name) for name in ("ms_ssim", "psnr_db")}
        figure = rate_distortion_figure(curves, bits)
        self.validation.image(self.step, "rate_distortion", figure)
        strips = self.step * _STRIPS_PER_RUN // self.total_steps
        if strips > self._strips or self.step >= self.total_steps:
            self._strips = strips
            for number, pixels in enumerate(self._draw_strips(), start=1):
                self.validation.image(self.step, f"strip_{number}", Image.fromarray(pixels))
        self.train.flush()
        self.validation.flush()

    def _draw_strips(self):
        if self._steps is None:
            self._steps = progressive.CompiledSteps(self.model.network)
        image = np.asarray(self.images, np.float32) / 127.5 - 1.0
        reconstructions = []
        for iteration in progressive.iterate(self._steps, image=image):
            reconstruction = keras.ops.convert_to_numpy(iteration.reconstruction)
            reconstructions.append(np.clip(reconstruction, -1.0, 1.0))
            if len(reconstructions) == self.model.num_iterations:
                break
        return strip(image, np.stack(reconstructions, axis=1))

    def close(self):
        self.train.close()
        self.validation.close()


class Scalars(StepCallback):
    """The figures of each epoch, in `train` and `validation` below a folder."""

    def __init__(self, folder, first_step):
        super().__init__(first_step)
        self.train = EventWriter(os.path.join(folder, "train"), first_step)
        self.validation = EventWriter(os.path.join(folder, "validation"), first_step)
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


class EventWriter:
    """A TensorBoard event file in a folder; what an earlier process wrote past `step` is hidden."""

    def __init__(self, folder, step):
        # Here, not above: an optional package, and the command line must not wait for it.
        from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2, types_pb2
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._event, self._summary = event_pb2.Event, summary_pb2.Summary
        self._metadata = summary_pb2.SummaryMetadata
        self._text = lambda data: tensor_pb2.TensorProto(
            dtype=types_pb2.DT_STRING, string_val=[data]
        )
        self._file = EventFileWriter(folder)
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._write(step + 1, session_log=start)

    def scalars(self, step, values):
        """Adds a dictionary of tag to number."""
        values = [self._summary.Value(tag=tag, simple_value=values[tag]) for tag in sorted(values)]
        self._write(step, summary=self._summary(value=values))

    def image(self, step, tag, picture):
        """Adds a Pillow image."""
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        image = self._summary.Image(
            width=picture.width,
            height=picture.height,
            colorspace=3,
            encoded_image_string=buffer.getvalue(),
        )
        self._write(step, summary=self._summary(value=[self._summary.Value(tag=tag, image=image)]))

    def layout(self, charts):
        """Adds charts of several tags each: title to regular expression."""
        from tensorboard.plugins.custom_scalar import layout_pb2, metadata

        charts = [
            layout_pb2.Chart(title=title, multiline=layout_pb2.MultilineChartContent(tag=[tags]))
            for title, tags in charts.items()
        ]
        category = layout_pb2.Category(title="By iteration", chart=charts)
        layout = layout_pb2.Layout(category=[category])
        plugin = self._metadata.PluginData(plugin_name=metadata.PLUGIN_NAME)
        value = self._summary.Value(
            tag=metadata.CONFIG_SUMMARY_TAG,
            metadata=self._metadata(plugin_data=plugin),
            tensor=self._text(layout.SerializeToString()),
        )
        self._write(0, summary=self._summary(value=[value]))

    def graph(self, graph_def):
        """Adds a serialized TensorFlow GraphDef."""
        self._write(0, graph_def=graph_def)

    def _write(self, step, **kwargs):
        self._file.add_event(self._event(wall_time=time.time(), step=step, **kwargs))

    def flush(self):
        self._file.flush()

    def close(self):
        self._file.close()


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


def tensorboard_callbacks(folder, first_step, total_steps, learning_rate, images, graph, profile):
    """The callbacks that write logs: none, but for a line that says why, without `tensorboard`.

    Raises:
        CodecError: the backend has no graph or no profiler, and one was asked for.
    """
    if graph and keras.backend.backend() != "tensorflow":
        raise CodecError(
            f"--graph: expected the backend tensorflow, received {keras.backend.backend()}"
        )
    callbacks = [Profiler(os.path.join(folder, "train"), first_step, profile)] if profile else []
    board = _optional(TensorBoard, folder, first_step, total_steps, learning_rate, images, graph)
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


def strip(image, reconstructions):
    """Pictures I, P[1..N] above R[1..N]: uint8 `[B, 2H, (N + 1)W, 3]`.

    Args:
        image: `[B, H, W, 3]` in [-1, 1].
        reconstructions: `[B, N, H, W, 3]` in [-1, 1].
    """
    residuals = image[:, None] - reconstructions  # in [-2, 2]
    above = np.concatenate([image[:, None], reconstructions], axis=1)
    below = np.concatenate([np.zeros_like(image[:, None]), 0.5 * residuals], axis=1)
    both = np.stack([above, below], axis=1)  # [B, 2, N + 1, H, W, 3]
    rows = np.moveaxis(both, 3, 2)  # [B, 2, H, N + 1, W, 3]
    batch, _, height, columns, width, channels = rows.shape
    pixels = rows.reshape(batch, 2 * height, columns * width, channels)
    return np.clip(np.rint(127.5 + 127.5 * pixels), 0, 255).astype(np.uint8)


def rate_distortion_figure(curves, bits_per_iteration):
    """A Pillow image: each curve over bits per pixel, side by side.

    Args:
        curves: dictionary of title to the values of iterations 1, 2, ...
        bits_per_iteration: float. Bits per pixel.
    """
    width, height, margin = 420, 320, 56
    font = ImageFont.load_default()
    picture = Image.new("RGB", (width * len(curves), height), "white")
    draw = ImageDraw.Draw(picture)
    for number, (title, values) in enumerate(curves.items()):
        left, right = number * width + margin, (number + 1) * width - margin // 2
        top, bottom = margin // 2, height - margin
        rates = [bits_per_iteration * (i + 1) for i in range(len(values))]
        low, high = min(values), max(values)
        span = (high - low) or 1.0
        draw.rectangle((left, top, right, bottom), outline="black")
        draw.text((left, top - 16), title, "black", font)
        draw.text(((left + right) // 2 - 40, bottom + 24), "bits per pixel", "black", font)
        for tick in range(5):
            y = bottom - (bottom - top) * tick / 4
            x = left + (right - left) * tick / 4
            draw.line((left, y, right, y), "lightgrey")
            draw.text((left - 48, y - 6), f"{low + span * tick / 4:.4g}", "black", font)
            draw.text((x - 10, bottom + 6), f"{rates[-1] * tick / 4:.3g}", "black", font)
        points = [
            (left + (right - left) * r / rates[-1], bottom - (bottom - top) * (v - low) / span)
            for r, v in zip(rates, values)
        ]
        draw.line(points, "navy", 2)
        for x, y in points:
            draw.ellipse((x - 3, y - 3, x + 3, y + 3), "navy")
    return picture


def validation_figures(logs):
    """The validation's figures, without their `val_`, as floats."""
    figures = {name: value for name, value in (logs or {}).items() if name.startswith("val_")}
    return {name.removeprefix("val_"): float(value) for name, value in figures.items()}


def _by_iteration(figures, metric):
    return [figures[name] for name in sorted(figures) if name.startswith(f"{metric}/")]


def _with_bits_per_pixel(figures, bits):
    """Says entropy per bit of a plane as bits per pixel, which add up over planes."""
    return {
        name.replace("bits_per_bit", "bits_per_pixel"): bits * value
        if name.startswith("bits_per_bit")
        else value
        for name, value in figures.items()
    }
