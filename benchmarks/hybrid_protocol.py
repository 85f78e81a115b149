"""The published protocol of the hybrid codec: grey images, PSNR and SSIM at the bits of JPEG.

    python benchmarks/hybrid_protocol.py --both=hybrid --restoration=hybrid --either=hybrid \\
        --compact=runs/compact/preset

JPEG is the paper's: baseline, with the Huffman tables of the standard; its file of Lena at quality
10 has 8,011 bytes, as there. With --optimised it is as the codec writes it otherwise.

For each quality the bytes of the standard codec's file of an image are the bound for all. RecCNN
alone restores that very file; ComCNN alone and both networks take the highest quality whose file is
not larger; "either" is what the encoder takes of these two. The row "neither" is a mean of 2x2
pixels, enlarged by a bicubic filter. Bytes are of the standard codec's files, without our
container's 42 or so, as the paper has no container. SSIM has Gaussian windows, as MATLAB's `ssim`.

Reference:
    Jiang et al., 2017, https://arxiv.org/abs/1708.00838, tables 1 and 2. Its averages are over
    seven images. Set12 has three of them, which have a table of their own: Cameraman, House and
    Lena. Its Peppers and Parrots seem to be other files: what the paper has for these names is at
    least 4 dB above JPEG's PSNR here.
"""

import collections
import os

from absl import app, flags
import numpy as np
from tqdm import tqdm

from rnn_codec import presets
from rnn_codec.commands import files
from rnn_codec.pictures import metrics, reading
from rnn_codec.pictures.picture import Picture
from rnn_codec.standard import codecs as base_codecs
from rnn_codec.targets import Target

_IMAGES = flags.DEFINE_string("images", "../shared/data/set12", "Folder of grey images.")
_QUALITIES = flags.DEFINE_list("qualities", ["5", "10"], "Of the standard codec.")
_BASE = flags.DEFINE_enum("base", "jpeg", list(base_codecs.CODECS), "The standard codec.")
_BOTH = flags.DEFINE_string("both", None, "Preset of both networks.")
_RESTORATION = flags.DEFINE_string("restoration", None, "Preset of RecCNN alone.")
_EITHER = flags.DEFINE_string("either", None, "Preset of all networks, to choose from.")
_COMPACT = flags.DEFINE_string("compact", None, "Preset of ComCNN alone.")
_OPTIMISED = flags.DEFINE_bool(
    "optimised", False, "Progressive JPEG with Huffman tables of its own."
)

# JPEG's quality -> row -> PSNR in dB and SSIM.
_PUBLISHED = {
    "5": {
        "jpeg": (25.43, 0.7456),
        "compact": (26.69, 0.7934),
        "restoration": (28.02, 0.8351),
        "both": (28.83, 0.8535),
    },
    "10": {
        "jpeg": (28.17, 0.8206),
        "compact": (29.12, 0.8597),
        "restoration": (30.17, 0.8801),
        "both": (30.59, 0.8895),
    },
}
# JPEG's quality -> image -> PSNR in dB of both networks.
_PUBLISHED_IMAGES = {
    "5": {"01": 26.53, "02": 31.45, "08": 31.14},
    "10": {"01": 27.44, "02": 33.25, "08": 33.11},
}


class _BaselineJpeg(base_codecs.Jpeg):
    options = {}


def main(argv):
    del argv
    files.load_keras()
    if not _OPTIMISED.value:
        base_codecs.CODECS["jpeg"] = _BaselineJpeg
    from rnn_codec.codec import Codec
    from rnn_codec.hybrid.codec import HybridCodec
    from rnn_codec.hybrid.networks import HybridNetwork

    plain = HybridNetwork.create(presets.CONFIGS["compact_grey"])
    codecs = {"neither": (HybridCodec(presets.from_network(plain)), "half")}
    named = {
        "compact": (_COMPACT, "half"),
        "restoration": (_RESTORATION, "full"),
        "both": (_BOTH, "half"),
        "either": (_EITHER, None),
    }
    for row, (flag, stored_size) in named.items():
        if flag.value:
            codecs[row] = Codec.from_preset(flag.value), stored_size
    base = base_codecs.make(_BASE.value)
    pairs = files.sources([_IMAGES.value], reading.IMAGE_EXTENSIONS)
    for text in _QUALITIES.value:
        quality = base_codecs.checked_quality(base, float(text))
        figures = collections.defaultdict(list)  # row -> of each image
        for path, _ in tqdm(pairs, disable=None, leave=False):
            picture = _grey(reading.read_picture(path))
            file = base.encode(picture.pixels, quality)
            figures[base.name].append(_figures(picture.pixels, base.decode(file), len(file)))
            for row, (codec, stored_size) in codecs.items():
                figures[row].append(_coded(codec, stored_size, base, quality, picture, len(file)))
        names = [os.path.splitext(name)[0] for _, name in pairs]
        _print_table(base.name, text, figures)
        _print_images(base.name, text, figures, names)


def _grey(picture):
    """Only the luma, without what a file carries."""
    return Picture(base_codecs.with_colour(picture.pixels, is_rgb=False))


def _coded(codec, stored_size, base, quality, picture, size):
    """Figures of a hybrid codec whose file has at most `size` bytes, those of base at quality."""
    options = {"base": base.name, "stored_size": stored_size}
    if stored_size == "half":
        smallest = codec.encode(picture.pixels, quality=base.qualities[0], **options)
        overhead = len(smallest) - len(base_codecs.extract(smallest)[0])
        encoded = codec.encode_picture(picture, Target(target_bytes=size + overhead), **options)
    else:
        encoded = codec.encode_picture(picture, quality=quality, **options)
    file, _ = base_codecs.extract(encoded.data)
    return _figures(picture.pixels, encoded.picture.pixels, len(file))


def _figures(original, restored, size):
    """PSNR in dB, SSIM, bits per pixel."""
    from skimage.metrics import structural_similarity

    ssim = structural_similarity(
        original,
        restored,
        data_range=255,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    return metrics.psnr_db(original, restored), ssim, 8 * size / original.size


def _print_table(base, quality, figures):
    published = _PUBLISHED.get(quality, {}) if base == "jpeg" else {}
    count = len(figures[base])
    print(f"at the bits of {base} at quality {quality}, means over {count} images")
    print("| | PSNR, dB | gain | SSIM | bpp | published PSNR | published SSIM |")
    print("|---|---|---|---|---|---|---|")
    for row, values in figures.items():
        psnr, ssim, bpp = np.mean(values, axis=0)
        gain = psnr - np.mean(figures[base], axis=0)[0]
        theirs = "{:.2f} | {:.4f}".format(*published[row]) if row in published else " | "
        print(f"| {row} | {psnr:.2f} | {gain:+.2f} | {ssim:.4f} | {bpp:.4f} | {theirs} |")
    print()


def _print_images(base, quality, figures, names):
    """The images that the paper has too: the gains in dB, and what the paper gains."""
    published = _PUBLISHED_IMAGES.get(quality, {}) if base == "jpeg" else {}
    places = [place for place, name in enumerate(names) if name in published]
    if not places:
        return
    rows = [row for row in figures if row != base]
    print(f"| quality {quality}: gain, dB | JPEG, dB | {' | '.join(rows)} | published |")
    print("|---|---|" + "---|" * (len(rows) + 1))
    gains = []
    for place in places:
        jpeg = figures[base][place][0]
        values = [figures[row][place][0] - jpeg for row in rows]
        gains.append([*values, published[names[place]] - jpeg])
        print(_gain_row(names[place], jpeg, gains[-1]))
    jpeg = np.mean([figures[base][place][0] for place in places])
    print(_gain_row("mean", jpeg, np.mean(gains, axis=0)), end="\n\n")


def _gain_row(name, jpeg, gains):
    return f"| {name} | {jpeg:.2f} | " + " | ".join(f"{gain:+.2f}" for gain in gains) + " |"


if __name__ == "__main__":
    app.run(main)
