"""Rows to curves, and curves to the few figures that codecs are compared by.

A curve is a list of pairs (bits per pixel, value). Those of a folder are means over its images at
equal setting, as in the literature: bits per pixel and quality are averaged at one setting, then
drawn.
"""

import csv
import itertools
import math

import bjontegaard
import numpy as np

from rnn_codec.errors import CodecError
from rnn_codec.evaluation import measures

METRICS = ("ms_ssim_rgb", "psnr_rgb_db")  # those that the published curves have
MEAN_COLUMNS = ("bytes", "bpp", *measures.NAMES, "encode_seconds", "decode_seconds")

# The range and the quality at which the release of 2017 was compared.
AREA_BPP = (0.125, 2.0)
TARGET_MS_SSIM = 0.9

# A header of a few bytes must not cost a curve its area: so much bpp may be missing at an end.
_AREA_TOLERANCE = 0.01
_MAXIMUM_MS_SSIM = 1 - 1e-10  # 100 dB


def ms_ssim_db(value):
    """-10 log10(1 - MS-SSIM): equal steps look about equally large. Stops at 100."""
    return -10.0 * np.log10(1.0 - np.minimum(value, _MAXIMUM_MS_SSIM))


def comparable_images(rows, codecs):
    """The images over which means are fair, in order of appearance.

    These are the images that each codec has coded; of them, where there are any, those that no
    measure found too small. Otherwise codecs, or rate and quality, would be averaged over different
    images.
    """
    coded = {codec: {row["image"] for row in rows if row["codec"] == codec} for codec in codecs}
    common = set.intersection(*coded.values()) if coded else set()
    small = {row["image"] for row in rows if any(row[name] is None for name in measures.NAMES)}
    kept = common - small or common
    return [image for image in dict.fromkeys(row["image"] for row in rows) if image in kept]


def means(rows, codecs):
    """Means over the comparable images at equal setting.

    Args:
        rows: list of dictionaries, see `runner.COLUMNS`.
        codecs: list of names.

    Returns:
        Dictionary of codec to a list of dictionaries with the setting and `MEAN_COLUMNS`, in
        ascending bpp. A column that some image lacks is None.
    """
    images = set(comparable_images(rows, codecs))
    result = {}
    for codec in codecs if images else ():
        chosen = [row for row in rows if row["codec"] == codec and row["image"] in images]
        settings = dict.fromkeys(row["setting"] for row in chosen)
        points = [
            {"setting": setting, **_mean([row for row in chosen if row["setting"] == setting])}
            for setting in settings
        ]
        result[codec] = sorted(points, key=lambda point: point["bpp"])
    return result


def _mean(rows):
    columns = {name: [row[name] for row in rows] for name in MEAN_COLUMNS}
    return {
        name: None if None in values else sum(values) / len(values)
        for name, values in columns.items()
    }


def curve(points, metric):
    """The curve of a codec's means; empty where the metric is missing."""
    return [(point["bpp"], point[metric]) for point in points if point[metric] is not None]


def read_published(path, dataset):
    """Published curves of a data set.

    Args:
        path: path of a CSV file with the columns dataset, codec, metric, bpp, value.
        dataset: str.

    Returns:
        Dictionary of codec to a dictionary of metric, one of `METRICS`, to its curve.

    Raises:
        CodecError: the file cannot be read, or has other columns.
    """
    published = {}
    try:
        with open(path, newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                if row["dataset"] == dataset and row["metric"] in METRICS:
                    points = published.setdefault(row["codec"], {}).setdefault(row["metric"], [])
                    points.append((float(row["bpp"]), float(row["value"])))
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise CodecError(
            f"{path}: expected published curves as CSV (dataset, codec, metric, bpp, value), "
            f"received an error ({error}); correct --published to compare with them"
        ) from error
    return published


def rising(points):
    """The points in ascending bpp without those whose value does not exceed all before them.

    Interpolation over quality needs this; published curves repeat points, and encoders now and then
    spend more for less.
    """
    kept = []
    for bpp, value in sorted(points):
        if not kept or (bpp > kept[-1][0] and value > kept[-1][1]):
            kept.append((bpp, value))
    return kept


def bd_rate(points, reference, metric):
    """How much more a codec spends than a reference at equal quality, on average.

    Bjontegaard's delta rate by Akima interpolation of the logarithm of the rate, over the quality
    that both curves reach; MS-SSIM in dB.

    Args:
        points, reference: curves.
        metric: one of `METRICS`.

    Returns:
        Percent (negative: saved) and the overlap, `[lowest, highest]` in dB; or (None, None) where
        the curves share no range.
    """
    (rate, quality), (reference_rate, reference_quality) = (
        np.array(rising(one)).reshape(-1, 2).T for one in (points, reference)
    )
    if min(len(rate), len(reference_rate)) < 2:
        return None, None
    if metric == "ms_ssim_rgb":
        quality, reference_quality = ms_ssim_db(quality), ms_ssim_db(reference_quality)
    low = max(quality[0], reference_quality[0])
    high = min(quality[-1], reference_quality[-1])
    if low >= high:
        return None, None
    percent = bjontegaard.bd_rate(
        reference_rate,
        reference_quality,
        rate,
        quality,
        method="akima",
        require_matching_points=False,
        min_overlap=0,  # no warning: the overlap is part of the result
    )
    return float(percent), [float(low), float(high)]


def area(points):
    """Area under a curve over `AREA_BPP` by the trapezoid rule.

    The curve may begin or end `_AREA_TOLERANCE` within that range, and is extended to its ends with
    its first and last value. None if more is missing: another range gives another scale.
    """
    points = sorted(points)
    low, high = AREA_BPP
    if not points or points[0][0] > low + _AREA_TOLERANCE or points[-1][0] < high - _AREA_TOLERANCE:
        return None
    rates, values = np.array(points).T
    inside = rates[(rates > low) & (rates < high)]
    positions = np.concatenate([[low], inside, [high]])
    return float(np.trapezoid(np.interp(positions, rates, values), positions))


def at_ms_ssim(points, column):
    """A column of a codec's means where its MS-SSIM is `TARGET_MS_SSIM`; None if out of reach.

    Linear in MS-SSIM in dB; of bits per pixel, the logarithm is.
    """
    path = [(point["bpp"], point["ms_ssim_rgb"], point[column]) for point in points]
    if not path or None in itertools.chain.from_iterable(path):
        return None
    kept = set(rising([(bpp, value) for bpp, value, _ in path]))
    qualities, values = np.array([(q, v) for bpp, q, v in path if (bpp, q) in kept]).T
    if not qualities[0] <= TARGET_MS_SSIM <= qualities[-1]:
        return None
    is_rate = column == "bpp"
    values = np.log(values) if is_rate else values
    value = np.interp(ms_ssim_db(TARGET_MS_SSIM), ms_ssim_db(qualities), values)
    return float(math.exp(value) if is_rate else value)


def summarise(codec_means, published, baseline):
    """The figures that codecs are compared by.

    Args:
        codec_means: as `means` returns them.
        published: as `read_published` returns them.
        baseline: str. The codec that rates at `TARGET_MS_SSIM` are relative to.

    Returns:
        Dictionary in the types of JSON. "codecs": of each, the area under the MS-SSIM curve, the
        bpp it covers, and at MS-SSIM 0.9 the bpp, its quotient with the baseline's, and the colour
        error. "bd_rate": of each codec against each other one and each published one.
    """
    codecs = {codec: _figures(points) for codec, points in codec_means.items()}
    base = codecs.get(baseline, {}).get("bpp_at_ms_ssim_0.9")
    for figures in codecs.values():
        bpp = figures["bpp_at_ms_ssim_0.9"]
        figures["bpp_relative_to_baseline"] = bpp / base if bpp and base else None
    own = {
        codec: {metric: curve(points, metric) for metric in METRICS}
        for codec, points in codec_means.items()
    }
    rates = []
    for codec in own:
        others = {reference: curves for reference, curves in own.items() if reference != codec}
        rates += _bd_rates(codec, own[codec], others, False)
        rates += _bd_rates(codec, own[codec], published, True)
    return {"baseline": baseline, "codecs": codecs, "bd_rate": rates}


def _figures(points):
    rates = [point["bpp"] for point in points]
    return {
        "auc_ms_ssim": area(curve(points, "ms_ssim_rgb")),
        "covered_bpp": [min(rates), max(rates)],
        "bpp_at_ms_ssim_0.9": at_ms_ssim(points, "bpp"),
        "ciede2000_at_ms_ssim_0.9": at_ms_ssim(points, "ciede2000_mean"),
    }


def _bd_rates(codec, curves, references, is_published):
    """Yields a record for each reference and metric."""
    for reference, metric in itertools.product(references, METRICS):
        percent, overlap = bd_rate(curves[metric], references[reference].get(metric, []), metric)
        yield {
            "codec": codec,
            "reference": reference,
            "reference_is_published": is_published,
            "metric": metric,
            "percent": percent,
            "overlap": overlap,
        }
