"""The published protocol of the hybrid codec: grey images, PSNR and SSIM at the bits of JPEG.

    python benchmarks/hybrid_protocol.py --both=hybrid --restoration=hybrid --either=hybrid \\
        --compact=runs/compact/preset

For each quality the bytes of the standard codec's file of an image are the bound for all. RecCNN
alone restores that very file; ComCNN alone and both networks take the highest quality whose file is
not larger; "either" is what the encoder takes of these two. The row "neither" is a mean of 2x2
pixels, enlarged by a bicubic filter. Bytes are of the standard codec's files, without our
container's 35 or so, as the paper has no container. SSIM has Gaussian windows, as MATLAB's `ssim`.

Reference:
    Jiang et al., 2017, https://arxiv.org/abs/1708.00838, tables 1 and 2. Its averages are over
    seven images, of which Set12 has some.
"""

import collections

from absl import app, flags
import numpy as np
from tqdm import tqdm

from rnn_codec import base_codecs, image_io, metrics, presets
from rnn_codec.commands import files
from rnn_codec.targets import Target

_IMAGES = flags.DEFINE_string("images", "../shared/data/set12", "Folder of grey images.")
_QUALITIES = flags.DEFINE_list("qualities", ["5", "10"], "Of the standard codec.")
_BASE = flags.DEFINE_enum("base", "jpeg", list(base_codecs.CODECS), "The standard codec.")
_BOTH = flags.DEFINE_string("both", None, "Preset of both networks.")
_RESTORATION = flags.DEFINE_string("restoration", None, "Preset of RecCNN alone.")
_EITHER = flags.DEFINE_string("either", None, "Preset of all networks, to choose from.")
_COMPACT = flags.DEFINE_string("compact", None, "Preset of ComCNN alone.")

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


def main(argv):
    del argv
    files.load_keras()
    from rnn_codec.codec import Codec
    from rnn_codec.hybrid_codec import HybridCodec
    from rnn_codec.hybrid_networks import HybridNetwork

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
    pairs = files.sources([_IMAGES.value], image_io.IMAGE_EXTENSIONS)
    for text in _QUALITIES.value:
        quality = base_codecs.checked_quality(base, float(text))
        figures = collections.defaultdict(list)  # row -> of each image
        for path, _ in tqdm(pairs, disable=None, leave=False):
            picture = _grey(image_io.read_picture(path))
            file = base.encode(picture.pixels, quality)
            figures[base.name].append(_figures(picture.pixels, base.decode(file), len(file)))
            for row, (codec, stored_size) in codecs.items():
                figures[row].append(_coded(codec, stored_size, base, quality, picture, len(file)))
        _print_table(base.name, text, figures)


def _grey(picture):
    """Only the luma, without what a file carries."""
    return image_io.Picture(base_codecs.with_colour(picture.pixels, is_rgb=False))


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


if __name__ == "__main__":
    app.run(main)
