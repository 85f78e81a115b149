"""What a run leaves behind its rows: means, summary, report, and the tables it prints."""

import csv
import io
import os

from rnn_codec import storage
from rnn_codec.errors import CodecError
from rnn_codec.evaluation import comparisons, curves, report, runner

BASELINE = "jpeg420"  # what figures at equal quality are relative to

_TABLE_BPP = (0.125, 0.25, 0.5, 1.0, 2.0)

# Heading, column, format. The colour error always stands beside MS-SSIM, which hardly sees colour.
_MEANS_TABLE = (
    ("bpp", "bpp", ".3f"),
    ("PSNR, dB", "psnr_rgb_db", ".2f"),
    ("HVS-M, dB", "psnr_hvs_m_db", ".2f"),
    ("MS-SSIM", "ms_ssim_rgb", ".4f"),
    ("SSIMULACRA2", "ssimulacra2", ".1f"),
    ("CIEDE2000", "ciede2000_mean", ".2f"),
    ("its 95 %", "ciede2000_p95", ".2f"),
)


def write(folder, results, codecs, images, published, num_shown):
    """Writes rows.json, means.csv, summary.json and the report.

    Args:
        folder: str. That of `results`.
        results: `runner.Results`.
        codecs: list of `codecs.ImageCodec` to summarise.
        images: dictionary of name to path of the images to summarise.
        published: as `curves.read_published` returns it.
        num_shown: int. Images that the page shows.

    Returns:
        Lines for the user: which images were left out, the means, the summary.

    Raises:
        CodecError: no image was measured with every codec, or a file cannot be written.
    """
    rows, codecs = _asked(results, codecs, images)
    names = [codec.name for codec in codecs]
    shared = curves.comparable_images(rows, names)
    if not shared:
        raise CodecError(
            f"{folder}: expected images that every codec has coded, received none; there are no "
            "means and no report"
        )
    means = curves.means(rows, names)
    summary = {
        "command": results.run["command"],
        "images": shared,
        "versions": _versions(results.run, names),
        **curves.summarise(means, published, BASELINE),
    }
    for name, data in (
        ("rows.json", runner.json_bytes(results.rows)),
        ("means.csv", _means_csv(means)),
        ("summary.json", runner.json_bytes(summary)),
    ):
        storage.write_atomically(os.path.join(folder, name), data)
    pictures = []
    for name in shared[:num_shown]:
        pixels, _ = runner.read_image(images[name])
        of_image = [row for row in rows if row["image"] == name]
        pictures += comparisons.compare(name, pixels, of_image, codecs)
    report.write(folder, rows, means, summary, published, pictures)
    return [_images_line(images, shared), "", *_means_table(means), "", *_summary_table(summary)]


def _asked(results, codecs, images):
    """The rows of these images and codecs, and the codecs that have any."""
    names = {codec.name for codec in codecs}
    rows = [row for row in results.rows if row["image"] in images and row["codec"] in names]
    measured = {row["codec"] for row in rows}
    return rows, [codec for codec in codecs if codec.name in measured]


def _versions(run, names):
    """What was measured with, one line each."""
    return {
        **{name: str(version) for name, version in (run["measures"] | run["machine"]).items()},
        **{f"codec {name}": ", ".join(_texts(run["codecs"][name])) for name in names},
    }


def _texts(description):
    return [f"{key} {value}" for key, value in description.items() if key != "settings"]


def _means_csv(means):
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, ["codec", "setting", *curves.MEAN_COLUMNS], lineterminator="\n")
    writer.writeheader()
    for codec, points in means.items():
        writer.writerows({"codec": codec, **point} for point in points)
    return text.getvalue().encode()


def _images_line(images, shared):
    left_out = [name for name in images if name not in shared]
    line = f"Means over {len(shared)} image{'s' if len(shared) > 1 else ''}"
    return f"{line}, without {', '.join(left_out)}" if left_out else line


def _means_table(means):
    """Of each codec the settings nearest to a few rates."""
    headings = ("codec", "setting", *(heading for heading, _, _ in _MEANS_TABLE))
    lines = []
    for codec, points in means.items():
        chosen = {
            min(range(len(points)), key=lambda i: abs(points[i]["bpp"] / rate - 1))
            for rate in _TABLE_BPP
        }
        for point in (points[index] for index in sorted(chosen)):
            figures = [_text(point[column], form) for _, column, form in _MEANS_TABLE]
            lines.append((codec, str(point["setting"]), *figures))
    return _aligned([headings, *lines])


def _summary_table(summary):
    """One line for each codec."""
    at_target = f"at MS-SSIM {curves.TARGET_MS_SSIM}"
    headings = (
        "codec", f"bpp {at_target}", f"of {BASELINE}'s", f"CIEDE2000 {at_target}",
        "area of MS-SSIM", f"BD-rate to {BASELINE}: MS-SSIM", "PSNR",
    )  # fmt: skip
    bd_rates = {
        (rate["codec"], rate["metric"]): _text(rate["percent"], "+.1f", " %", "no overlap")
        for rate in summary["bd_rate"]
        if rate["reference"] == BASELINE and not rate["reference_is_published"]
    }
    lines = [
        (
            codec,
            _text(figures["bpp_at_ms_ssim_0.9"], ".3f"),
            _text(figures["bpp_relative_to_baseline"], ".2f"),
            _text(figures["ciede2000_at_ms_ssim_0.9"], ".2f"),
            _text(figures["auc_ms_ssim"], ".4f"),
            *(bd_rates.get((codec, metric), "-") for metric in curves.METRICS),
        )
        for codec, figures in summary["codecs"].items()
    ]
    return _aligned([headings, *lines])


def _text(value, form, unit="", absent="-"):
    return absent if value is None else f"{value:{form}}{unit}"


def _aligned(table):
    """Lines whose columns are as wide as they must be, the first to the left."""
    widths = [max(map(len, column)) for column in zip(*table)]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:]))]
        )
        for row in table
    ]
