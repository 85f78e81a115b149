"""What is lost where a file is encoded in one precision and decoded in another.

    python benchmarks/precision.py --images=kodak

Every picture is encoded in both precisions and both files are decoded in both, at every iteration
count. For each picture, the largest losses over the counts: PSNR in dB and MS-SSIM of a file read
in the other precision, below those of the same file in its own. Gains count as no loss.
"""

import os

from absl import app, flags
from tqdm import tqdm

from rnn_codec.commands import files
from rnn_codec.pictures import reading

_IMAGES = flags.DEFINE_string("images", None, "Folder of pictures.", required=True)
_PRESET = flags.DEFINE_string("preset", None, "Name or folder. Defaults to the product's preset.")
_PRECISIONS = ("float32", "bfloat16")


def main(argv):
    del argv
    files.load_keras()
    from rnn_codec.codec import Codec

    codecs = {name: Codec.from_preset(_PRESET.value, name) for name in _PRECISIONS}
    directions = _PRECISIONS, _PRECISIONS[::-1]
    print("picture | " + " | ".join(f"{a}, then {b}: dB, MS-SSIM" for a, b in directions))
    worst = [(0.0, 0.0)] * len(directions)
    for path, _ in tqdm(files.sources([_IMAGES.value], reading.IMAGE_EXTENSIONS), disable=None):
        picture = reading.read_picture(path)
        losses = [_losses(codecs[a], codecs[b], picture) for a, b in directions]
        worst = [_largest(pair) for pair in zip(worst, losses)]
        _print_row(os.path.basename(path), losses)
    _print_row("largest", worst)


def _losses(writer, reader, picture):
    """The largest losses of PSNR and MS-SSIM over the iteration counts."""
    data = writer.encode_picture(picture).data
    own, other = (_figures(codec, data, picture) for codec in (writer, reader))
    differences = [(a - b, c - d) for (a, c), (b, d) in zip(own, other, strict=True)]
    return _largest([(0.0, 0.0), *differences])


def _figures(codec, data, picture):
    """PSNR and MS-SSIM at each iteration count."""
    from rnn_codec.pictures import metrics

    restored = codec.decode_picture(data, "all")
    return [
        (metrics.psnr_db(picture.pixels, one.pixels), metrics.ms_ssim(picture.pixels, one.pixels))
        for _, one in restored
    ]


def _largest(pairs):
    """The largest of the first and of the second numbers."""
    return tuple(max(numbers) for numbers in zip(*pairs))


def _print_row(name, losses):
    print(f"{name} | " + " | ".join(f"{psnr:.4f}, {ssim:.5f}" for psnr, ssim in losses), flush=True)


if __name__ == "__main__":
    app.run(main)
