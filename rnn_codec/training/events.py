"""TensorBoard's event files, and what is drawn into them; no Keras and no TensorFlow.

Event files are written by the `tensorboard` package itself. TensorBoard draws only against the
step; where the other axis is the rate, the curve is drawn here and logged as an image.
"""

import io
import time

import numpy as np
from PIL import Image, ImageDraw, ImageFont


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


def strip(image: np.ndarray, reconstructions: np.ndarray) -> np.ndarray:
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


def rate_distortion_figure(
    curves: dict[str, list[float]], bits_per_iteration: float
) -> Image.Image:
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
