"""Pictures per second, one by one and several together: what batches of one padded size gain.

    python benchmarks/batches.py --photos=FOLDER

Photographs of the folder are scaled to each size, and encoded and decoded one after the other, then
by one call. The last column counts the pictures whose file is the same either way.
"""

import time

from absl import app, flags
import numpy as np
from PIL import Image

from rnn_codec.commands import files
from rnn_codec.errors import CodecError
from rnn_codec.pictures import reading
from rnn_codec.pictures.picture import picture_from_array

_PHOTOS = flags.DEFINE_string("photos", None, "Folder of photographs.", required=True)
_PRESET = flags.DEFINE_string("preset", None, "Name or folder. Defaults to the product's preset.")
_SIZES = flags.DEFINE_list(
    "sizes", ["64x64", "128x128", "256x256", "512x512"], "Each WIDTHxHEIGHT."
)
_COUNT = flags.DEFINE_integer("count", 32, "Pictures of each size.", 2)
_RUNS = flags.DEFINE_integer("runs", 3, "Timed runs of each, of which the best counts.", 1)
_PRECISION = flags.DEFINE_string("precision", "auto", "To compute in.")

_ROW = "{:>9} {:>10} {:>10} {:>7} {:>10} {:>10} {:>7} {:>6}"


def main(argv):
    del argv
    files.load_keras()
    from rnn_codec.codec import Codec

    codec = Codec.from_preset(_PRESET.value, precision=_PRECISION.value)
    print(_ROW.format("", "encode", "together", "ratio", "decode", "together", "ratio", "same"))
    for size in _SIZES.value:
        pictures = _pictures(*map(int, size.split("x")))
        alone, encode = _timed(lambda p=pictures: [codec.encode_picture(one).data for one in p])
        encoded, encode_together = _timed(lambda p=pictures: codec.encode_pictures(p))
        _, decode = _timed(lambda a=alone: [codec.decode(data) for data in a])
        _, decode_together = _timed(lambda a=alone: codec.decode_pictures(a))
        same = sum(one.data == data for one, data in zip(encoded, alone, strict=True))
        figures = []
        for seconds, together in ((encode, encode_together), (decode, decode_together)):
            figures += [f"{len(pictures) / seconds:.2f}/s", f"{len(pictures) / together:.2f}/s"]
            figures.append(f"{seconds / together:.2f}")
        print(_ROW.format(size, *figures, same), flush=True)


def _pictures(width, height):
    """As many as `--count` says; where the folder has fewer photographs, they come again."""
    photos = []
    for path, _ in files.sources([_PHOTOS.value], reading.IMAGE_EXTENSIONS):
        if len(photos) == _COUNT.value:
            break
        try:
            pixels = reading.read_picture(path).pixels
        except CodecError:
            continue
        photo = Image.fromarray(pixels).convert("RGB")
        photos.append(photo.resize((width, height), Image.Resampling.LANCZOS))
    return [
        picture_from_array(np.asarray(photos[number % len(photos)]))
        for number in range(_COUNT.value)
    ]


def _timed(function):
    """The function's result, and the seconds of its fastest run after a first."""
    result, best = function(), float("inf")
    for _ in range(_RUNS.value):
        start = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - start)
    return result, best


if __name__ == "__main__":
    app.run(main)
