"""What `evaluate.py` leaves for readers: a page, plots, and figures for TensorBoard.

The page is one file that loads nothing: pictures, styles and script are in it, and its content
security policy forbids the browser everything else. Its markup, styles and script are in page.html;
what is filled in here is escaped.
"""

import base64
import dataclasses
import hashlib
import html
import io
import json
import logging
import os
import string

import numpy as np
from PIL import Image

from rnn_codec import storage
from rnn_codec.evaluation import plots
from rnn_codec.training import events

_CROP_SIDE = 176  # pixels: two of them side by side on a phone
_WEBP_SIDE = 16383  # pixels: the format has no larger ones
_TOO_SMALL = "too small for five scales"
_UNKNOWN = "–"


@dataclasses.dataclass(frozen=True)
class Version:
    """An image as one codec restored it."""

    codec: str
    setting: object  # quality, distance, iterations: whatever the codec has
    bytes: int  # of the whole file
    bpp: float
    ms_ssim: float | None  # over RGB; None for an image too small for five scales
    psnr_db: float  # over RGB; infinity for equal pictures
    ciede2000: float  # mean over the pixels
    pixels: np.ndarray  # uint8 [H, W, 3]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One image in versions of about equal bytes."""

    name: str
    original: np.ndarray  # uint8 [H, W, 3]
    versions: list[Version]


def write(folder, rows, means, summary, published, pictures):
    """Writes report.html, a PNG of each rate-distortion plot, and TensorBoard's logs/.

    Args:
        folder: path. Made if there is none.
        rows: list of dictionaries, the contents of rows.csv: one image, codec and setting each.
        means: dictionary of codec to a list of dictionaries, by ascending bpp: a setting, and the
            mean over the images of every column that holds numbers.
        summary: dictionary, the contents of summary.json. What it lacks is shown as unknown.
        published: dictionary of codec to a dictionary of column to a list of (bpp, value).
        pictures: list of `Comparison`.

    Raises:
        CodecError: a file cannot be written.
    """
    os.makedirs(folder, exist_ok=True)
    drawn = {measure.name: _plot(measure, means, published) for measure in plots.MEASURES}
    for name, data in drawn.items():
        storage.write_atomically(os.path.join(folder, f"rate_distortion_{name}.png"), data)
    _write_events(os.path.join(folder, "logs"), drawn)
    page = _page(rows, means, summary, drawn, pictures)
    storage.write_atomically(os.path.join(folder, "report.html"), page.encode())


def _plot(measure, means, published):
    """A plot as bytes of a PNG."""
    curves = {
        codec: [(point["bpp"], point.get(measure.column)) for point in points]
        for codec, points in means.items()
    }
    published = {codec: columns.get(measure.column, []) for codec, columns in published.items()}
    return plots.png(plots.draw(measure, curves, published))


def _write_events(folder, drawn):
    try:
        writer = events.EventWriter(folder, step=-1)  # hides all of an earlier report
    except ImportError:
        logging.warning("no TensorBoard figures; for them: pip install 'rnn-codec[train]'")
        return
    for name in ("ms_ssim", "psnr"):
        with Image.open(io.BytesIO(drawn[name])) as picture:
            writer.image(0, f"rate_distortion/{name}", picture.convert("RGB"))
    writer.close()


# --- The page -----------------------------------------------------------------------------------


def _page(rows, means, summary, drawn, pictures):
    path = os.path.join(os.path.dirname(__file__), "page.html")
    with open(path, encoding="utf-8") as file:
        template = string.Template(file.read())
    return template.substitute(
        images=_images_sentences(rows, summary),
        command=html.escape(summary.get("command", "")),
        plots="\n".join(_plot_figure(measure, drawn[measure.name]) for measure in plots.MEASURES),
        overview=_overview(means, summary),
        means="\n".join(_means_of(codec, means[codec]) for codec in _ours_first(means)),
        bd_rates=_bd_rates(summary),
        versions=_versions(summary),
        data=_script_json(_pictures(pictures)),
    )


def _ours_first(codecs):
    return sorted(codecs, key=lambda codec: not plots.is_ours(codec))


def _images_sentences(rows, summary):
    """How many images there are, how many the means are over, and which have no MS-SSIM."""
    names = dict.fromkeys(row["image"] for row in rows)
    small = dict.fromkeys(row["image"] for row in rows if row.get("ms_ssim_rgb") is None)
    shared = summary.get("images", names)
    sentences = f"{len(names)} image{'' if len(names) == 1 else 's'}."
    if len(shared) < len(names):
        sentences += f" Means are over {len(shared)} of them."
    if small:
        sentences += f" Without MS-SSIM, as {_TOO_SMALL}: {', '.join(small)}."
    return html.escape(sentences)


def _plot_figure(measure, data):
    alternative = html.escape(f"{measure.label} over bits per pixel, each codec a curve")
    return f'<img class="plot" src="{_data_uri(data, "png")}" alt="{alternative}">'


def _overview(means, summary):
    baseline = plots.label(summary.get("baseline", "the baseline"))
    headings = (
        "codec",
        "bpp at MS-SSIM 0.9",
        f"relative to {baseline}",
        "CIEDE2000 at MS-SSIM 0.9",
        "area, 0.125 to 2 bpp",
        "measured bpp",
    )
    rows = []
    for codec in _ours_first(means):
        figures = summary.get("codecs", {}).get(codec, {})
        row = (
            plots.label(codec),
            _number(figures.get("bpp_at_ms_ssim_0.9"), ".3f"),
            _number(figures.get("bpp_relative_to_baseline"), ".2f"),
            _number(figures.get("ciede2000_at_ms_ssim_0.9"), ".2f"),
            _number(figures.get("auc_ms_ssim"), ".4f"),
            _interval(figures.get("covered_bpp"), ".3f"),
        )
        rows.append(row)
    caption = "From the means over the images; the area is that under MS-SSIM over bpp"
    return _table(caption, headings, rows)


# Heading, column and format; the colour error stands beside MS-SSIM.
_MEANS_COLUMNS = (
    ("bpp", "bpp", ".3f"),
    ("bytes", "bytes", ",.0f"),
    ("MS-SSIM RGB", "ms_ssim_rgb", ".4f"),
    ("CIEDE2000 mean", "ciede2000_mean", ".2f"),
    ("CIEDE2000 95 %", "ciede2000_p95", ".2f"),
    ("MS-SSIM luma", "ms_ssim_luma", ".4f"),
    ("PSNR RGB, dB", "psnr_rgb_db", ".2f"),
    ("PSNR-HVS-M, dB", "psnr_hvs_m_db", ".2f"),
    ("SSIMULACRA2", "ssimulacra2", ".1f"),
    ("error R, levels", "mean_error_r", "+.2f"),
    ("error G", "mean_error_g", "+.2f"),
    ("error B", "mean_error_b", "+.2f"),
    ("encode, s", "encode_seconds", ".3f"),
    ("decode, s", "decode_seconds", ".3f"),
)


def _means_of(codec, points):
    headings = ("setting", *(heading for heading, _, _ in _MEANS_COLUMNS))
    rows = []
    for point in points:
        figures = [_number(point.get(column), form) for _, column, form in _MEANS_COLUMNS]
        rows.append((point["setting"], *figures))
    table = _table(f"{plots.label(codec)}, means over the images", headings, rows)
    return _details(plots.label(codec), table, plots.is_ours(codec))


def _bd_rates(summary):
    """A table for each codec: both measures against each reference."""
    pairs = {}  # codec -> (reference, is published) -> metric -> entry
    for entry in summary.get("bd_rate", []):
        reference = (entry["reference"], entry.get("reference_is_published", False))
        of_codec = pairs.setdefault(entry["codec"], {})
        of_codec.setdefault(reference, {})[entry["metric"]] = entry
    colours = {
        codec: _number(figures.get("ciede2000_at_ms_ssim_0.9"), ".2f")
        for codec, figures in summary.get("codecs", {}).items()
    }
    headings = (
        "reference", "on MS-SSIM", "overlap, dB",
        "CIEDE2000 of the reference at MS-SSIM 0.9",
        "on PSNR", "overlap, dB",
    )  # fmt: skip
    tables = []
    for codec in _ours_first(pairs):
        rows = [
            (
                f"{reference} (published)" if is_published else plots.label(reference),
                *_bd_rate(metrics.get("ms_ssim_rgb")),
                _UNKNOWN if is_published else colours.get(reference, _UNKNOWN),
                *_bd_rate(metrics.get("psnr_rgb_db")),
            )
            for (reference, is_published), metrics in pairs[codec].items()
        ]
        colour = colours.get(codec, _UNKNOWN)
        caption = f"{plots.label(codec)}, whose CIEDE2000 at MS-SSIM 0.9 is {colour}"
        table = _table(caption, headings, rows)
        tables.append(_details(plots.label(codec), table, plots.is_ours(codec)))
    return "\n".join(tables) or "<p>None: it takes two curves.</p>"


def _bd_rate(entry):
    """Percent and overlap as text."""
    if entry is None:
        return _UNKNOWN, _UNKNOWN
    if entry.get("percent") is None:
        return "no overlap", _UNKNOWN
    return f"{entry['percent']:+.1f} %", _interval(entry.get("overlap"), ".2f")


def _versions(summary):
    versions = summary.get("versions", {})
    return _table("Of this run", ("what", "version"), [(k, versions[k]) for k in sorted(versions)])


def _number(value, form):
    return _UNKNOWN if value is None else format(value, form)


def _interval(pair, form):
    return _UNKNOWN if pair is None else f"{pair[0]:{form}} to {pair[1]:{form}}"


def _table(caption, headings, rows):
    """A table in a box that scrolls, with the keyboard too; the first cell of a row heads it."""
    caption = html.escape(caption)
    head = "".join(f'<th scope="col">{html.escape(heading)}</th>' for heading in headings)
    lines = []
    for first, *others in rows:
        cells = "".join(f"<td>{html.escape(str(value))}</td>" for value in others)
        lines.append(f'<tr><th scope="row">{html.escape(str(first))}</th>{cells}</tr>')
    return (
        f'<div class="table" role="region" tabindex="0" aria-label="{caption}">'
        f"<table><caption>{caption}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _details(title, content, is_open):
    opening = "<details open>" if is_open else "<details>"
    return f"{opening}<summary>{html.escape(title)}</summary>{content}</details>"


# --- Pictures -----------------------------------------------------------------------------------


def _pictures(comparisons):
    """What the page's script shows.

    Returns:
        Dictionary of "pictures", a list of data URIs, and "comparisons", whose versions name
        pictures by their index. The first version is the original.
    """
    pictures = _Pictures()
    shown = [_shown(comparison, pictures) for comparison in comparisons]
    return {"pictures": pictures.uris, "comparisons": shown}


class _Pictures:
    """Pictures as data URIs, each of them once: an original is in several comparisons."""

    def __init__(self):
        self.uris = []
        self._indices = {}  # by digest of the pixels

    def add(self, pixels):
        """Returns the index of a picture."""
        digest = hashlib.sha256(f"{pixels.shape}".encode() + pixels.tobytes()).digest()
        if digest not in self._indices:
            self._indices[digest] = len(self.uris)
            self.uris.append(_picture_uri(pixels))
        return self._indices[digest]


def _shown(comparison, pictures):
    original = {
        "label": "original",
        "figures": "",
        "picture": pictures.add(comparison.original),
    }
    versions = [
        {
            "label": f"{plots.label(version.codec)}, setting\u00a0{version.setting}",
            "figures": _figures(version),
            "picture": pictures.add(version.pixels),
        }
        for version in sorted(comparison.versions, key=lambda v: not plots.is_ours(v.codec))
    ]
    height, width = comparison.original.shape[:2]
    return {
        "name": comparison.name,
        "width": width,
        "height": height,
        "crop": _crop(comparison.original),
        "versions": [original, *versions],
    }


def _figures(version):
    """Size and quality, as lines."""
    ms_ssim = _TOO_SMALL if version.ms_ssim is None else f"{version.ms_ssim:.4f}"
    return (
        f"{version.bytes:,} bytes, {version.bpp:.3f} bpp\n"
        f"MS-SSIM {ms_ssim}\n"
        f"CIEDE2000 {version.ciede2000:.2f}\n"
        f"PSNR {version.psnr_db:.2f} dB"
    )


def _crop(pixels):
    """The square with the most detail, by its sum of differences between neighbours."""
    height, width = (min(side, _CROP_SIDE) for side in pixels.shape[:2])
    grey = pixels.mean(axis=-1)
    slopes = np.abs(np.diff(grey, axis=0, prepend=grey[:1]))
    slopes += np.abs(np.diff(grey, axis=1, prepend=grey[:, :1]))
    sums = np.pad(slopes, ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
    strips = sums[height:] - sums[:-height]
    squares = strips[:, width:] - strips[:, :-width]  # by their upper left corner
    top, left = np.unravel_index(squares.argmax(), squares.shape)
    return {"left": int(left), "top": int(top), "width": width, "height": height}


def _picture_uri(pixels):
    """Pixels without loss: WebP, a third smaller than PNG, where its limit allows."""
    buffer = io.BytesIO()
    image_format = "webp" if max(pixels.shape[:2]) <= _WEBP_SIDE else "png"
    Image.fromarray(pixels).save(buffer, image_format, lossless=True)
    return _data_uri(buffer.getvalue(), image_format)


def _data_uri(data, image_format):
    return f"data:image/{image_format};base64,{base64.b64encode(data).decode()}"


def _script_json(value):
    """JSON that cannot end the script element around it, or open a comment there."""
    return json.dumps(value, allow_nan=False).replace("<", "\\u003c")
