"""TensorBoard's event files, and what is drawn into them; no Keras and no TensorFlow.

Event files are written by the `tensorboard` package itself. TensorBoard draws only against the
step; where the other axis is the rate, the curve is drawn here and logged as an image.
"""

import io
import math
import time

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_COLORS = ("navy", "firebrick", "darkorange", "seagreen", "purple", "grey")


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


def rate_distortion_figure(charts: dict[str, dict[str, list[tuple[float, float]]]]) -> Image.Image:
    """A Pillow image of charts side by side; the axis of the rate is logarithmic.

    Args:
        charts: title of a chart to its curves; name of a curve to its points, each bits per pixel
            and a figure of quality. The first curve is drawn bold.
    """
    width, height = 480, 360
    picture = Image.new("RGB", (width * len(charts), height), "white")
    for number, (title, curves) in enumerate(charts.items()):
        picture.paste(_chart(title, curves, width, height), (number * width, 0))
    return picture


def _chart(title, curves, width, height):
    margin = 56
    font = ImageFont.load_default()
    picture = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(picture)
    left, right, top, bottom = margin, width - margin // 2, margin // 2, height - margin
    points = [point for curve in curves.values() for point in curve if min(point) > -math.inf]
    rates = [math.log2(max(rate, 1e-4)) for rate, _ in points] or [0.0]
    low_rate, high_rate = min(rates), max(max(rates), min(rates) + 1e-6)
    low, high = (function((value for _, value in points), default=0.0) for function in (min, max))
    span = (high - low) or 1.0

    def place(rate, value):
        share = (math.log2(max(rate, 1e-4)) - low_rate) / (high_rate - low_rate)
        return left + (right - left) * share, bottom - (bottom - top) * (value - low) / span

    draw.rectangle((left, top, right, bottom), outline="black")
    draw.text((left, top - 16), title, "black", font)
    draw.text(((left + right) // 2 - 40, bottom + 24), "bits per pixel", "black", font)
    for tick in range(5):
        y = bottom - (bottom - top) * tick / 4
        x = left + (right - left) * tick / 4
        draw.line((left, y, right, y), "lightgrey")
        draw.text((left - 48, y - 6), f"{low + span * tick / 4:.4g}", "black", font)
        rate = 2.0 ** (low_rate + (high_rate - low_rate) * tick / 4)
        draw.text((x - 10, bottom + 6), f"{rate:.3g}", "black", font)
    for number, (name, curve) in enumerate(curves.items()):
        color, bold = _COLORS[number % len(_COLORS)], number == 0
        places = [place(*point) for point in curve]
        draw.line(places, color, 3 if bold else 1)
        for x, y in places:
            draw.ellipse((x - 3, y - 3, x + 3, y + 3), color)
        y = bottom - 16 * (len(curves) - number)
        draw.text((right - 110, y), name, color, font)
    return picture
