"""Photographs to training patches: the same patches for the same seed and step, on every backend.

A batch is a pure function of the seed and the number of the step, so a run that is resumed sees
exactly what it would have seen. Photographs are decoded when drawn and kept while memory allows;
one that cannot be decoded is told once and another drawn in its place.
"""

import collections
import concurrent.futures
import hashlib
import io
import logging
import os
import threading
import warnings

import keras
import numpy as np
from PIL import Image
from tqdm import tqdm

from rnn_codec.errors import CodecError
from rnn_codec.pictures import reading

# Salts the random streams, so that training and validation never share one.
_TRAINING_STREAM, _VALIDATION_STREAM = 0, 1

# So many photographs in a row that cannot be read are no accident: a disk is gone, say.
_MOST_FAILURES = 100


class PhotoFiles:
    """Encoded photographs, split by the hash of each file's bytes.

    Renaming or moving a file leaves it on its side of the split, and copies of it join it there.

    Args:
        sources: list of paths, or of the bytes of files.
        name: str. What the sources are, in messages.
        validation_percent: int. How much of the hash space is set aside for validation.
        minimum_side: int. Smaller photographs are left out, with their count in the log.
        cache_bytes: int. Decoded photographs kept in memory.

    Raises:
        CodecError: no photograph is large enough.
    """

    def __init__(self, sources, name, validation_percent=5, minimum_side=64, cache_bytes=4 << 30):
        self._cache = PhotoCache(cache_bytes)
        usable, hashes, unfit, unreadable = [], [], 0, 0
        for source in tqdm(sources, "reading photographs", disable=None, delay=3, leave=False):
            try:
                (width, height), percent = _examine(source)
            except Exception:  # noqa: BLE001 (Pillow's plugins raise of any kind)
                unreadable += 1
                continue
            pixels = width * height
            if min(width, height) < minimum_side or pixels > reading.DEFAULT_MAX_PIXELS:
                unfit += 1
                continue
            usable.append(source)
            hashes.append(percent)
        self.training, self.validation = _split(usable, hashes, validation_percent)
        if unfit or unreadable:
            logging.warning(
                "%s: left out %d pictures below %d pixels a side or above %d million in all, and "
                "%d unreadable ones",
                name, unfit, minimum_side, reading.DEFAULT_MAX_PIXELS // 10**6, unreadable,
            )  # fmt: skip
        if not self.training:
            raise CodecError(
                f"{name}: expected photographs of at least {minimum_side} pixels a side; of the "
                f"{len(sources)} pictures found, {unreadable} are unreadable, {unfit} of another "
                f"size and {len(self.validation)} set aside for validation: none to train on"
            )

    def load(self, source):
        """Pixels of one photograph: uint8 `[H, W, 3]`.

        Raises:
            CodecError: the file is gone, or damaged beyond its header.
        """
        return self._cache.get(source, _load_rgb)


class PhotoFolder(PhotoFiles):
    """The photographs below a folder; the arguments are those of `PhotoFiles`.

    Raises:
        CodecError: there is no such folder, or no photograph in it is large enough.
    """

    def __init__(self, folder, **kwargs):
        if not os.path.isdir(folder):
            raise CodecError(f"{folder}: expected a folder of photographs; there is none")
        paths = _image_paths(folder)
        if not paths:
            raise CodecError(
                f"{folder}: expected photographs ({', '.join(sorted(reading.IMAGE_EXTENSIONS))}) "
                "in it or below; found none"
            )
        super().__init__(paths, folder, **kwargs)


class PhotoArrays:
    """Photographs already in memory: the same interface as `PhotoFiles`.

    Args:
        arrays: list of uint8 `[H, W, 3]`, or grey, `[H, W]` or `[H, W, 1]`.
        validation_percent: int.
        minimum_side: int.
    """

    def __init__(self, arrays, validation_percent=5, minimum_side=64):
        usable = [_rgb(array) for array in arrays if min(array.shape[:2]) >= minimum_side]
        hashes = [_percent_of(hashlib.sha256(np.ascontiguousarray(array))) for array in usable]
        self.training, self.validation = _split(usable, hashes, validation_percent)
        if not self.training:
            raise CodecError(
                f"expected pictures of at least {minimum_side} pixels a side; none of the "
                f"{len(arrays)} received is left to train on"
            )

    def load(self, item):
        return item


def load_tfds(name, split="train", data_dir=None, **kwargs):
    """`PhotoFiles` of a TensorFlow Datasets data set that has an "image" feature.

    The pictures stay encoded in memory, as the data set stores them.

    Raises:
        CodecError: the package, the data set or the feature is missing.
    """
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise CodecError(
            "tensorflow-datasets is missing; install it with: pip install 'rnn-codec[train]'"
        ) from error
    try:
        examples = tfds.load(
            name, split=split, data_dir=data_dir, decoders={"image": tfds.decode.SkipDecoding()}
        )
        files = [example["image"] for example in tfds.as_numpy(examples)]
    except Exception as error:  # noqa: BLE001 (TFDS, and what it downloads with, raise of any kind)
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CodecError(
            f"TFDS data set {name!r}: expected one with a feature 'image'; {reason}"
        ) from error
    return PhotoFiles(files, f"TFDS data set {name!r}", **kwargs)


class PhotoCache:
    """Least recently used arrays within a number of bytes. Safe to share between threads."""

    def __init__(self, capacity_bytes):
        self._capacity_bytes = capacity_bytes
        self._bytes = 0
        self._arrays = collections.OrderedDict()
        self._lock = threading.Lock()

    def get(self, key, load):
        with self._lock:
            if key in self._arrays:
                self._arrays.move_to_end(key)
                return self._arrays[key]
        array = load(key)  # outside the lock: two threads may decode at once
        with self._lock:
            if key not in self._arrays:
                self._arrays[key] = array
                self._bytes += array.nbytes
            while self._bytes > self._capacity_bytes and len(self._arrays) > 1:
                _, oldest = self._arrays.popitem(last=False)
                self._bytes -= oldest.nbytes
        return array


class PatchBatches(keras.utils.PyDataset):
    """An endless sequence of batches of random patches; batch `i` is that of step `first_step + i`.

    Each patch: a photograph at random, a random place, flipped or not, and half of the time taken
    from a crop up to `maximum_downscale` times larger and reduced, which sharpens soft sources and
    varies the scale.

    Batches are prepared ahead in threads of this class, not by Keras's workers: those lose the
    batches that `fit` draws to learn their shape, one on JAX, several under `tf.distribute`.

    Args:
        photos: `PhotoFiles` or `PhotoArrays`.
        batch_size, patch_size: int.
        seed: int.
        first_step: int. Where a resumed run goes on.
        maximum_downscale: float. 1 for none.
        drawings: list of uint8 `[H, W, 3]`, each at least as large as a patch.
        drawn_share: float. So many of the patches are taken from the drawings, unreduced.
        turned_share: float. So many of the patches are turned by a multiple of 90 degrees.
        hard_tiles: int or None. If given, patches are taken only from this many tiles of each
            photograph, those that PNG compresses worst (the paper takes 100 of 32x32), unreduced.
        threads: int. That prepare batches ahead; 0 for none.
        batches_ahead: int. How many are prepared.
        transform: function of the patches and the number of the step, to make another item of them,
            in the threads. None: the patches are the item.

    Attributes:
        error: the `CodecError` that ended the sequence, or None. TensorFlow wraps what an input
            pipeline raises in a traceback of its own; here is the original.

    Item:
        uint8 `[batch_size, patch_size, patch_size, 3]`, or what `transform` gives, in a tuple of
        one.
    """

    def __init__(
        self,
        photos,
        batch_size,
        patch_size,
        seed=0,
        first_step=0,
        maximum_downscale=2.0,
        drawings=(),
        drawn_share=0.0,
        turned_share=0.0,
        hard_tiles=None,
        threads=0,
        batches_ahead=8,
        transform=None,
    ):
        super().__init__()
        self.photos = photos
        self.batch_size = batch_size
        self.patch_size = patch_size
        self.seed = seed
        self.first_step = first_step
        self.maximum_downscale = maximum_downscale
        self.drawings = drawings
        self.drawn_share = drawn_share if len(drawings) else 0.0
        self.turned_share = turned_share
        self.hard_tiles = hard_tiles
        self.transform = transform
        self.error = None
        self._tiles = PhotoCache(256 << 20)
        self._told = set()
        self._batches_ahead = batches_ahead
        self._pool = concurrent.futures.ThreadPoolExecutor(threads) if threads else None
        self._begun = {}  # index -> future batch

    @property
    def num_batches(self):
        return None

    def __getitem__(self, index):
        try:
            return (self._batch(index) if self._pool is None else self._prepared(index),)
        except CodecError as error:
            self.error = error
            raise

    def _prepared(self, index):
        for ahead in range(index, index + self._batches_ahead + 1):
            if ahead not in self._begun:
                self._begun[ahead] = self._pool.submit(self._batch, ahead)
        return self._begun.pop(index).result()

    def _batch(self, index):
        step = self.first_step + index
        rng = np.random.default_rng((self.seed, _TRAINING_STREAM, step))
        patches = np.stack([self._patch(rng) for _ in range(self.batch_size)])
        return patches if self.transform is None else self.transform(patches, step)

    def _patch(self, rng):
        # A share of zero draws no number, so that what was seeded before stays as it was.
        if self.drawn_share and rng.random() < self.drawn_share:
            drawing = self.drawings[rng.integers(len(self.drawings))]
            patch = self._crop(drawing, self.patch_size, rng)
        else:
            patch = self._photographed(rng)
        patch = patch[:, ::-1] if rng.integers(2) else patch
        if self.turned_share and rng.random() < self.turned_share:
            patch = np.rot90(patch, int(rng.integers(1, 4)))
        return patch

    def _photographed(self, rng):
        number, pixels = self._photograph(rng)
        tiles = self._hard_tiles_of(number, pixels) if self.hard_tiles else ()
        if len(tiles):
            top, left = tiles[rng.integers(len(tiles))]
            return pixels[top : top + self.patch_size, left : left + self.patch_size]
        return self._random_crop(pixels, rng)

    def _photograph(self, rng):
        """Number and pixels of a photograph at random, among those that can be decoded."""
        for _ in range(_MOST_FAILURES):
            number = int(rng.integers(len(self.photos.training)))
            try:
                return number, self.photos.load(self.photos.training[number])
            except CodecError as error:
                if number not in self._told:
                    self._told.add(number)
                    logging.warning("left out: %s", error)
                last = error
        raise CodecError(f"{last}; so it went with {_MOST_FAILURES} photographs in a row")

    def _hard_tiles_of(self, number, pixels):
        return self._tiles.get(
            number, lambda _: hardest_tiles(pixels, self.patch_size, self.hard_tiles)
        )

    def _random_crop(self, pixels, rng):
        height, width = pixels.shape[:2]
        scale = rng.uniform(1.0, self.maximum_downscale) if rng.integers(2) else 1.0
        side = min(int(round(self.patch_size * scale)), height, width)
        crop = self._crop(pixels, side, rng)
        if side == self.patch_size:
            return crop
        size = (self.patch_size, self.patch_size)
        return np.asarray(Image.fromarray(crop).resize(size, Image.Resampling.LANCZOS))

    @staticmethod
    def _crop(pixels, side, rng):
        """A square of `side` pixels at a random place."""
        height, width = pixels.shape[:2]
        top = int(rng.integers(height - side + 1))
        left = int(rng.integers(width - side + 1))
        return pixels[top : top + side, left : left + side]


def hardest_tiles(pixels, tile_size, count):
    """Corners of the tiles that PNG compresses worst: int array `[<= count, 2]` of (top, left).

    Reference:
        Toderici et al., 2017, section 4 (the "high entropy" data set).
    """
    tops = range(0, pixels.shape[0] - tile_size + 1, tile_size)
    lefts = range(0, pixels.shape[1] - tile_size + 1, tile_size)
    corners = [(top, left) for top in tops for left in lefts]
    sizes = [
        _png_bytes(pixels[top : top + tile_size, left : left + tile_size]) for top, left in corners
    ]
    order = np.argsort(-np.array(sizes, int), kind="stable")[:count]
    return np.array(corners, int).reshape(-1, 2)[order]


def validation_patches(photos, count, patch_size, seed=0):
    """Fixed crops of validation photographs: uint8 `[count, size, size, 3]`.

    One of each photograph; where these are fewer than `count`, a second of each, and so on.

    Raises:
        CodecError: no validation photograph is large enough.
    """
    rng = np.random.default_rng((seed, _VALIDATION_STREAM))
    patches, items = [], list(photos.validation)
    while items and len(patches) < count:
        usable = []
        for item in items:
            try:
                pixels = photos.load(item)
            except CodecError as error:
                logging.warning("left out: %s", error)
                continue
            height, width = pixels.shape[:2]
            if min(height, width) < patch_size:
                continue
            usable.append(item)
            top = int(rng.integers(height - patch_size + 1))
            left = int(rng.integers(width - patch_size + 1))
            patches.append(pixels[top : top + patch_size, left : left + patch_size])
            if len(patches) == count:
                break
        items = usable
    if not patches:
        raise CodecError(
            f"expected validation photographs of at least {patch_size} pixels a side; found none "
            f"among {len(photos.validation)}; raise --validation_percent or lower --validation_size"
        )
    return np.stack(patches)


def _split(items, hashes, validation_percent):
    """Training and validation items, each by their hashes: the first few are a fair sample."""
    order = sorted(range(len(items)), key=hashes.__getitem__)
    training = [items[i] for i in order if hashes[i] >= validation_percent]
    return training, [items[i] for i in order if hashes[i] < validation_percent]


def _image_paths(folder):
    paths = []
    for parent, folders, names in os.walk(folder):
        folders.sort()
        extensions = [os.path.splitext(name)[1].lower() for name in names]
        for name, extension in sorted(zip(names, extensions)):
            if extension in reading.IMAGE_EXTENSIONS:
                paths.append(os.path.join(parent, name))
    return paths


def _examine(source):
    """Size by the header, and place in the hash space, of a path or of the bytes of a file."""
    opened = io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb")
    with opened as file, warnings.catch_warnings(action="ignore"):
        with Image.open(file) as picture:
            size = picture.size
        file.seek(0)
        return size, _percent_of(hashlib.file_digest(file, "sha256"))


def _load_rgb(source):
    return _rgb(reading.read_picture(source).pixels)


def _rgb(pixels):
    """`[H, W]`, `[H, W, 1]` or `[H, W, 3]` -> `[H, W, 3]`."""
    pixels = np.atleast_3d(pixels)
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels


def _percent_of(digest):
    return int.from_bytes(digest.digest()[:4], "big") / 2**32 * 100


def _png_bytes(pixels):
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG")
    return buffer.tell()
