"""Rate-distortion plots with Matplotlib, which draws here without a display or global state.

A curve is a list of (bpp, value) pairs. Codecs run here are solid lines, published curves dashed
ones, and ours are thicker than their peers. Colours are those of Okabe and Ito, which readers with
any colour vision tell apart; markers differ too.
"""

import dataclasses
import io
import math

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator


@dataclasses.dataclass(frozen=True)
class Measure:
    """What a plot shows over the rate."""

    column: str  # of the rows and means
    name: str  # of the file and the TensorBoard image
    label: str


MEASURES = (
    Measure("ms_ssim_rgb", "ms_ssim", "MS-SSIM (RGB) in dB"),
    Measure("psnr_rgb_db", "psnr", "PSNR (RGB) in dB"),
    Measure("ssimulacra2", "ssimulacra2", "SSIMULACRA2"),
    Measure("ciede2000_mean", "ciede2000", "mean CIEDE2000, lower is better"),
    Measure("psnr_hvs_m_db", "psnr_hvs_m", "PSNR-HVS-M (luma) in dB"),
)
_MS_SSIM = MEASURES[0]


@dataclasses.dataclass(frozen=True)
class _Style:
    label: str
    colour: str
    marker: str | None = None


# Every codec that is not here counts as ours: a preset has any name, or is a folder.
_PEERS = {
    "jpeg420": _Style("JPEG 4:2:0", "#000000", "s"),
    "jpeg444": _Style("JPEG 4:4:4", "#767676", "D"),
    "jpeg2000": _Style("JPEG 2000", "#e69f00", "^"),
    "webp": _Style("WebP", "#009e73", "v"),
    "avif": _Style("AVIF", "#0072b2", "P"),
    "jpegxl": _Style("JPEG XL", "#56b4e9", "X"),
    "heif": _Style("HEVC intra", "#cc79a7", "p"),
}
_OUR_COLOURS = ("#d55e00", "#7f2a00", "#f08f45")
_OUR_MARKERS = ("o", "*", "h")

# Of the published curves, those that a plot with our own has room for: this model as released, its
# successor, the best of the codecs before them, and a network per rate.
_PUBLISHED = {
    "toderici-2017-cvpr": _Style("Toderici 2017", "#d55e00"),
    "johnston-2017-cvpr": _Style("Johnston 2018", "#0072b2"),
    "bpg444": _Style("BPG 4:4:4", "#cc79a7"),
    "minnen-2018-neurips-opt-msssim": _Style("Minnen 2018, for MS-SSIM", "#009e73"),
}

_INCHES, _DPI = (8.0, 6.4), 150  # 1200 x 960 pixels
_RATE_TICKS = [2.0**n for n in range(-6, 6)]  # bpp
_MS_SSIM_TICKS = [0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999]


def is_ours(codec):
    """Whether a codec is one of ours, not a peer."""
    return codec not in _PEERS


def label(codec):
    """The name of a codec for readers."""
    return _PEERS[codec].label if codec in _PEERS else codec


def decibels(ms_ssim):
    """-10 log10(1 - MS-SSIM): its differences near 1, where codecs work, are as visible as others.

    Infinity for 1.
    """
    return -10.0 * math.log10(1.0 - ms_ssim) if ms_ssim < 1.0 else math.inf


def draw(measure, curves, published):
    """A figure of one measure over the rate.

    Args:
        measure: `Measure`.
        curves: dictionary of codec to curve, of codecs run here. MS-SSIM is plain, not in dB. A
            value of None or infinity is left out.
        published: likewise, of published curves. Those that `_PUBLISHED` names are drawn; if it
            names none, all.

    Returns:
        A Matplotlib figure.
    """
    figure = Figure(_INCHES, _DPI, facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    curves = {codec: _drawable(measure, points) for codec, points in curves.items()}
    curves = {codec: points for codec, points in curves.items() if points}
    axes.set_ylabel(measure.label)
    axes.set_xlabel("bits per pixel (whole file, logarithmic)")
    if not curves:
        axes.text(0.5, 0.5, "no values", ha="center", transform=axes.transAxes)
        axes.set(xticks=[], yticks=[])
        return figure
    _draw_codecs(axes, curves)
    low, high = _rate_limits(curves)
    _draw_published(axes, measure, published, low, high)
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(FixedLocator(_RATE_TICKS))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda bpp, _: f"{bpp:.3g}"))
    if measure is _MS_SSIM:
        _add_plain_ms_ssim(axes)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.legend(loc="outside lower center", ncols=3, fontsize=9, frameon=False)
    return figure


def png(figure):
    """A figure as bytes of a PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _drawable(measure, points):
    """The points of a curve that have a place in the plot, by ascending rate."""
    known = [(bpp, value) for bpp, value in points if value is not None]
    if measure is _MS_SSIM:
        known = [(bpp, decibels(value)) for bpp, value in known]
    return sorted((bpp, value) for bpp, value in known if math.isfinite(value))


def _draw_codecs(axes, curves):
    ours = [codec for codec in curves if is_ours(codec)]
    for number, codec in enumerate(ours):
        style = _Style(
            codec,
            _OUR_COLOURS[number % len(_OUR_COLOURS)],
            _OUR_MARKERS[number % len(_OUR_MARKERS)],
        )
        _draw_codec(axes, curves[codec], style, linewidth=2.8, markersize=7, zorder=4)
    for codec in curves:
        if not is_ours(codec):
            _draw_codec(axes, curves[codec], _PEERS[codec], linewidth=1.3, markersize=5, zorder=3)


def _draw_codec(axes, points, style, **line):
    axes.plot(*zip(*points), color=style.colour, marker=style.marker, label=style.label, **line)


def _rate_limits(curves):
    rates = [bpp for points in curves.values() for bpp, _ in points]
    low, high = min(rates) / 1.1, max(rates) * 1.1
    return low, max(high, 2.0 * low)  # an octave has a tick


def _draw_published(axes, measure, published, low, high):
    """Draws what lies within the rates of the codecs run here."""
    for codec in [codec for codec in _PUBLISHED if codec in published] or published:
        style = _PUBLISHED.get(codec, _Style(codec, "#767676"))
        points = _drawable(measure, published[codec])
        points = [(bpp, value) for bpp, value in points if low <= bpp <= high]
        if points:
            name = f"{style.label} (published)"
            axes.plot(*zip(*points), "--", color=style.colour, linewidth=1.0, label=name, zorder=2)


def _add_plain_ms_ssim(axes):
    """Says decibels as MS-SSIM on the right."""
    low, high = axes.get_ylim()
    plain = [value for value in _MS_SSIM_TICKS if low <= decibels(value) <= high]
    right = axes.secondary_yaxis("right")
    right.set_yticks([decibels(value) for value in plain], [f"{value:g}" for value in plain])
    right.set_ylabel("MS-SSIM (RGB)")
