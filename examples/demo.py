"""Compresses photographs with the shipped network, restores them, prints and draws the result.

    python examples/demo.py                        four photographs that scikit-image brings
    python examples/demo.py --photos=FOLDER

Writes the .rnnc files, the restored pictures and contact_sheet.png to --output. No photograph of
scikit-image was trained on; they are in the public domain or CC0 (see its data/README.txt).
"""

import os

from absl import app, flags
from PIL import Image, ImageDraw

import rnn_codec
from rnn_codec import storage
from rnn_codec.commands import files
from rnn_codec.pictures import reading, writing
from rnn_codec.targets import Target

_PHOTOS = flags.DEFINE_string("photos", None, "Folder of pictures, instead of the built-in four.")
_OUTPUT = flags.DEFINE_string("output", "demo_output", "Folder to write to; made if missing.")
_PRESET = flags.DEFINE_string("preset", None, "Name or folder. Defaults to the product's preset.")

_BUILT_IN = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")
_TILE = 300  # width of a picture on the contact sheet, in pixels
_LABEL = 30  # height of the text below each
_HEADINGS = f"  {'iterations':>10} {'bytes':>8} {'bpp':>6} {'PSNR, dB':>9} {'MS-SSIM':>8}"


def main(argv):
    del argv
    files.load_keras()
    from rnn_codec.codec import Codec

    os.makedirs(_OUTPUT.value, exist_ok=True)
    codec = Codec.from_preset(_PRESET.value)
    counts = [n for n in (1, 2, 4, 8, 16) if n <= codec.config.iterations]
    rows, figures = [], {count: [] for count in counts}
    for path in _photos():
        # Two of the four carry thousands of bytes of colour profile, more than a first iteration.
        picture = writing.without_metadata(reading.read_picture(path))
        name = os.path.basename(path)
        encoded = codec.encode_picture(picture, Target(iterations=codec.config.iterations))
        file_path = os.path.join(_OUTPUT.value, f"{name}.rnnc")
        storage.write_atomically(file_path, encoded.data)
        print(f"\n{name}: {picture.width} x {picture.height}, {os.path.getsize(path)} bytes")
        print(f"  -> {file_path}, {len(encoded.data)} bytes")
        print(_HEADINGS)
        row = [(picture, "original")]
        # Restored from the file on disk: each count from its beginning alone.
        data = storage.read_bytes(file_path)
        for count in counts:
            data_so_far = rnn_codec.truncate(data, count)
            restored, values = _restore(codec, data_so_far, count, picture, name)
            row.append((restored, f"{count}: {len(data_so_far)} bytes, {values[1]:.3f} bpp"))
            figures[count].append(values)
        rows.append(row)
    print(f"\nmean of {len(rows)} photographs")
    print(_HEADINGS)
    for count in counts:
        print(_line(count, [_mean(column) for column in zip(*figures[count])]))
    sheet = os.path.join(_OUTPUT.value, "contact_sheet.png")
    _draw(rows).save(sheet)
    print(f"\n{sheet}: each photograph and its restorations")


def _photos():
    if _PHOTOS.value:
        return [path for path, _ in files.sources([_PHOTOS.value], reading.IMAGE_EXTENSIONS)]
    import skimage

    return [os.path.join(skimage.data_dir, name) for name in _BUILT_IN]


def _restore(codec, data, count, original, name):
    """Decodes, writes and prints one restoration; returns it with bytes, bpp, PSNR, MS-SSIM."""
    from rnn_codec.pictures import metrics

    ((_, restored),) = codec.decode_picture(data)
    writing.write_picture(restored, os.path.join(_OUTPUT.value, f"{name}_{count:02d}.png"))
    bpp = 8 * len(data) / (original.width * original.height)
    psnr_db = metrics.psnr_db(original.pixels, restored.pixels)
    ms_ssim = metrics.ms_ssim(original.pixels, restored.pixels)
    values = len(data), bpp, psnr_db, ms_ssim
    print(_line(count, values))
    return restored, values


def _line(count, values):
    size, bpp, psnr_db, ms_ssim = values
    similarity = "-" if ms_ssim is None else f"{ms_ssim:.4f}"  # too small for five scales
    return f"  {count:>10} {size:>8.0f} {bpp:>6.3f} {psnr_db:>9.2f} {similarity:>8}"


def _mean(values):
    values = [value for value in values if value is not None]
    return sum(values) / len(values) if values else None


def _draw(rows):
    """The contact sheet: a row for each photograph."""
    heights = [round(row[0][0].height * _TILE / row[0][0].width) + _LABEL for row in rows]
    sheet = Image.new("RGB", (_TILE * max(map(len, rows)), sum(heights)), "white")
    draw = ImageDraw.Draw(sheet)
    top = 0
    for row, height in zip(rows, heights):
        for column, (picture, label) in enumerate(row):
            tile = Image.fromarray(picture.pixels).convert("RGB")
            tile = tile.resize((_TILE - 4, height - _LABEL), Image.Resampling.LANCZOS)
            sheet.paste(tile, (column * _TILE, top))
            draw.text((column * _TILE + 4, top + height - _LABEL + 8), label, fill="black")
        top += height
    return sheet


if __name__ == "__main__":
    app.run(main)
