"""Rows of measurements in a folder, as a run that can be interrupted and resumed.

`rows.csv` grows by the rows of one image and codec at a time. `run.json` says what they were
measured with; rows that were measured otherwise are dropped before a run goes on, so no table mixes
two versions of a codec, of a measure or of an image, or two machines.
"""

import collections
import csv
import hashlib
import importlib.metadata
import io
import json
import os
import platform

import keras
import numpy as np

from rnn_codec import storage
from rnn_codec.errors import CodecError
from rnn_codec.evaluation import measures
from rnn_codec.pictures import metrics, reading

COLUMNS = (
    "image",
    "codec",
    "setting",
    "bytes",
    "bpp",
    *measures.NAMES,
    "encode_seconds",
    "decode_seconds",
)
_TEXT_COLUMNS = ("image", "codec")
_ROWS_FILE, _RUN_FILE = "rows.csv", "run.json"


def read_image(path):
    """The pixels of an image as all codecs get them, and what was done to them.

    Args:
        path: str.

    Returns:
        uint8 `[H, W, 3]`, and a list of lines for the user that start with the path.

    Raises:
        CodecError: the file is no picture, or damaged.
    """
    picture = reading.read_picture(path)
    notes = list(picture.warnings)
    pixels = picture.pixels
    if not picture.is_rgb:
        notes.append(f"{path}: is grey; measured as RGB with three equal channels")
        pixels = np.repeat(pixels[..., None], 3, axis=-1)
    if picture.alpha is not None:
        notes.append(f"{path}: has alpha, which is left out; only colour is measured")
    if min(pixels.shape[:2]) < metrics.MINIMUM_SIDE:
        notes.append(
            f"{path}: is {picture.width} x {picture.height}, too small for five scales; its "
            "MS-SSIM is left empty, and means leave it out where other images have one"
        )
    return pixels, notes


def measure(name, pixels, codec, original):
    """Codes a picture at each setting of a codec and measures what comes back.

    Args:
        name: str. The image's.
        pixels: uint8 `[H, W, 3]`.
        codec: `codecs.ImageCodec`.
        original: `measures.Original` of the pixels.

    Returns:
        List of dictionaries with the keys `COLUMNS`.

    Raises:
        CodecError: the codec cannot code this picture.
    """
    return [
        {
            "image": name,
            "codec": codec.name,
            "setting": coded.setting,
            "bytes": len(coded.data),
            "bpp": round(8 * len(coded.data) / (pixels.shape[0] * pixels.shape[1]), 6),
            **original.compare(coded.pixels),
            "encode_seconds": _rounded(coded.encode_seconds),
            "decode_seconds": _rounded(coded.decode_seconds),
        }
        for coded in codec.code_all(pixels)
    ]


def _rounded(seconds):
    return None if seconds is None else round(seconds, 6)


def conditions():
    """What all rows depend on: versions of the measures, and the machine that took the times."""
    packages = ("rnn-codec", "keras", "numpy", "pillow", "psnr-hvsm", "scikit-image", "ssimulacra2")
    return {
        "measures": {
            **{package: _version(package) for package in packages},
            "backend": keras.backend.backend(),
        },
        "machine": {
            "system": platform.platform(),
            "python": platform.python_version(),
            "threads": os.cpu_count(),
        },
    }


def _version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None  # run from a clone


class Results:
    """The rows of an output folder.

    Args:
        folder: str. Made if it does not exist.
        codecs: list of `codecs.ImageCodec` to measure.
        images: dictionary of name to path.
        command: str. Kept in `run.json`.

    Attributes:
        rows: list of dictionaries with the keys `COLUMNS`: all that hold, also those of codecs and
            images that were not asked for now.
        run: dictionary, the contents of `run.json`.
        notes: list of lines for the user on rows that were dropped.

    Raises:
        CodecError: the folder cannot be used, or what it holds is not from this command.
    """

    def __init__(self, folder, codecs, images, command):
        self._rows_path = os.path.join(folder, _ROWS_FILE)
        self._run_path = os.path.join(folder, _RUN_FILE)
        _make_folder(folder)
        self.notes = []
        self.run = {
            "command": command,
            **conditions(),
            "codecs": {codec.name: _description(codec) for codec in codecs},
            "images": {name: _description_of_image(path) for name, path in images.items()},
        }
        self.rows = self._keep_valid(_read_rows(self._rows_path))
        self._done = {(row["image"], row["codec"]) for row in self.rows}
        # The rows first: should this stop in between, the old `run.json` is right for them too.
        storage.write_atomically(self._rows_path, rows_csv(self.rows))
        storage.write_atomically(self._run_path, json_bytes(self.run))

    def has(self, image, codec):
        """Whether the rows of an image's name and a codec's are there."""
        return (image, codec) in self._done

    def add(self, rows):
        """Appends the rows of one image and codec.

        Raises:
            CodecError: they cannot be written.
        """
        try:
            with open(self._rows_path, "ab") as file:
                file.write(_lines(row.values() for row in rows))
        except OSError as error:
            raise CodecError(
                f"{self._rows_path}: could not be written ({error.strerror}); check the disk, or "
                "name another --output"
            ) from error
        self.rows += rows
        self._done |= {(row["image"], row["codec"]) for row in rows}

    def _keep_valid(self, rows):
        """The rows that this run may go on with; adds to `self.run` what was known of them."""
        if not rows:
            return []
        before = self._read_run()
        for group in ("measures", "machine"):
            if self._has_changed("all rows", before[group], self.run[group]):
                return []
        for group, column in (("codecs", "codec"), ("images", "image")):
            for name in sorted(before[group].keys() & self.run[group].keys()):
                if self._has_changed(name, before[group][name], self.run[group][name]):
                    rows = [row for row in rows if row[column] != name]
            self.run[group] = {**before[group], **self.run[group]}
        return self._whole(rows)

    def _read_run(self):
        try:
            with open(self._run_path, encoding="utf-8") as file:
                run = json.load(file)
            return {
                group: dict(run[group]) for group in ("measures", "machine", "codecs", "images")
            }
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CodecError(
                f"{self._run_path}: expected what {_ROWS_FILE} beside it was measured with, "
                f"received an error ({error}); name another --output"
            ) from error

    def _has_changed(self, name, before, now):
        changes = [
            f"{key} was {before.get(key)!r}, is {now.get(key)!r}"
            for key in sorted(before.keys() | now.keys())
            if before.get(key) != now.get(key)
        ]
        if changes:
            self.notes.append(f"{name}: measured again, as {'; '.join(changes)}")
        return bool(changes)

    def _whole(self, rows):
        """The rows of those images and codecs whose every setting is there."""
        found = collections.defaultdict(list)
        for row in rows:
            found[row["image"], row["codec"]].append(row["setting"])
        settings = {name: codec["settings"] for name, codec in self.run["codecs"].items()}
        return [
            row for row in rows if found[row["image"], row["codec"]] == settings.get(row["codec"])
        ]


def rows_csv(rows):
    """Rows as the bytes of a CSV file with the header `COLUMNS`; None is an empty field."""
    return _lines([COLUMNS, *(row.values() for row in rows)])


def json_bytes(value):
    """A value as the bytes of an indented JSON file."""
    return (json.dumps(value, indent=1) + "\n").encode()


def _lines(records):
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(records)
    return text.getvalue().encode("utf-8", "surrogateescape")


def _read_rows(path):
    """The rows of a file, but for a last one that an interruption cut; none if there is no file."""
    if not os.path.exists(path):
        return []
    data = storage.read_bytes(path)
    whole_lines = data[: data.rfind(b"\n") + 1].decode("utf-8", "surrogateescape")
    try:
        return [_parse(row) for row in csv.DictReader(io.StringIO(whole_lines, newline=""))]
    except (KeyError, ValueError, TypeError) as error:
        raise CodecError(
            f"{path}: expected rows of an earlier run, received others ({error!r}); name another "
            "--output"
        ) from error


def _parse(row):
    return {
        name: row[name] if name in _TEXT_COLUMNS else json.loads(row[name] or "null")
        for name in COLUMNS
    }


def _make_folder(folder):
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise CodecError(
            f"{folder}: expected a folder for the results, which could not be made "
            f"({error.strerror}); name another --output"
        ) from error


def _description(codec):
    """What a codec's rows depend on, in the types that JSON gives back."""
    return json.loads(json.dumps({"settings": codec.settings, **codec.describe()}))


def _description_of_image(path):
    try:
        return {"sha256": hashlib.sha256(storage.read_bytes(path)).hexdigest()}
    except CodecError:
        return {}  # measuring it will say why
