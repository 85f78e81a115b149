"""Encodes and decodes real photographs at awkward sizes and in every mode, and prints the PSNR.

    python benchmarks/sizes.py --photo=FILE

The photograph is scaled to 1x1, 15x17, 161x161, 500x333, 768x512 and 4000x3000, and at 500x333 also
taken as grey, RGBA and grey with alpha. For each, every iteration count is decoded from the file
cut there, and compared with the encoder's own reconstruction: the last column must say yes.
"""

import time

from absl import app, flags
import numpy as np
from PIL import Image

import rnn_codec
from rnn_codec.commands import files
from rnn_codec.pictures import reading
from rnn_codec.pictures.picture import picture_from_array
from rnn_codec.targets import Target

_PHOTO = flags.DEFINE_string("photo", None, "A photograph.", required=True)
_PRESET = flags.DEFINE_string("preset", None, "Name or folder. Defaults to the product's preset.")
_SIZES = ((1, 1), (15, 17), (161, 161), (500, 333), (768, 512), (4000, 3000))


def main(argv):
    del argv
    files.load_keras()
    from rnn_codec.codec import Codec
    from rnn_codec.pictures import metrics

    codec = Codec.from_preset(_PRESET.value)
    photo = Image.fromarray(reading.read_picture(_PHOTO.value).pixels).convert("RGB")
    cases = [(size, "RGB") for size in _SIZES]
    cases += [((500, 333), mode) for mode in ("L", "RGBA", "LA")]
    print("size, mode: bytes; PSNR in dB after each iteration; equal to the encoder's own")
    for size, mode in cases:
        picture = picture_from_array(_array(photo, size, mode))
        start = time.monotonic()
        encoded = codec.encode_picture(picture)
        seconds = time.monotonic() - start
        psnr, equal = [], True
        for count, restored in codec.decode_picture(encoded.data, "all"):
            psnr.append(metrics.psnr_db(picture.pixels, restored.pixels))
            equal &= _equals_own(codec, encoded, picture, restored, count, size)
        figures = " ".join(f"{value:.2f}" for value in psnr)
        print(
            f"{size[0]}x{size[1]} {mode}: {len(encoded.data)} bytes; {figures}; "
            f"{'yes' if equal else 'NO'}; encoded in {seconds:.1f} s",
            flush=True,
        )


def _array(photo, size, mode):
    resized = photo.resize(size, Image.Resampling.LANCZOS)
    if mode in ("LA", "RGBA"):
        ramp = np.linspace(0, 255, size[0] * size[1]).reshape(size[::-1]).astype(np.uint8)
        resized.putalpha(Image.fromarray(ramp))
    return np.asarray(resized.convert(mode))


def _equals_own(codec, encoded, picture, restored, count, size):
    """Whether a restoration is the picture that an encoder stopping there reports as its own."""
    if count == encoded.iterations:
        own, data = encoded.picture, encoded.data
    elif max(size) > 1000:  # one more encoding per count would take minutes
        return True
    else:
        shorter = codec.encode_picture(picture, Target(iterations=count))
        own, data = shorter.picture, shorter.data
    same_file = rnn_codec.truncate(encoded.data, count) == data
    same_alpha = picture.alpha is None or np.array_equal(picture.alpha, restored.alpha)
    return same_file and same_alpha and np.array_equal(own.pixels, restored.pixels)


if __name__ == "__main__":
    app.run(main)
