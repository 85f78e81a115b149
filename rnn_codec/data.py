"""Photographs to training patches: the same patches for the same seed and step, on every backend.

A batch is a pure function of the seed and the number of the step, so a run that is resumed sees
exactly what it would have seen. Photographs are decoded once and kept while memory allows.
"""

import collections
import hashlib
import io
import logging
import os
import threading

import keras
import numpy as np
from PIL import Image

from rnn_codec import image_io
from rnn_codec.errors import CodecError

# Salts the random streams, so that training and validation never share one.
_TRAINING_STREAM, _VALIDATION_STREAM = 0, 1


class PhotoFolder:
    """The photographs below a folder, split by the hash of each file.

    Args:
        folder: path, searched with its subfolders.
        validation_percent: int. How much of the hash space is set aside for validation.
        minimum_side: int. Smaller photographs are left out, with their count in the log.
        cache_bytes: int. Decoded photographs kept in memory.

    Raises:
        CodecError: there is no such folder, or no photograph in it is large enough.
    """

    def __init__(self, folder, validation_percent=5, minimum_side=64, cache_bytes=4 << 30):
        if not os.path.isdir(folder):
            raise CodecError(f"{folder}: expected a folder of photographs; there is none")
        self._cache = PhotoCache(cache_bytes)
        usable, small, unreadable = [], 0, 0
        for path in _image_paths(folder):
            try:
                with Image.open(path) as picture:
                    large_enough = min(picture.size) >= minimum_side
            except OSError:
                unreadable += 1
                continue
            if not large_enough:
                small += 1
                continue
            usable.append(path)
        hashes = [_hash_percent(path) for path in usable]
        self.training, self.validation = _split(usable, hashes, validation_percent)
        if small or unreadable:
            logging.warning(
                "%s: left out %d pictures below %d pixels a side and %d unreadable ones",
                folder, small, minimum_side, unreadable,
            )  # fmt: skip
        if not self.training:
            raise CodecError(
                f"{folder}: expected photographs of at least {minimum_side} pixels a side "
                f"({', '.join(sorted(image_io.IMAGE_EXTENSIONS))}); found none to train on"
            )

    def load(self, path):
        """Pixels of one photograph: uint8 `[H, W, 3]`."""
        return self._cache.get(path, _load_rgb)


class PhotoArrays:
    """Photographs already in memory: the same interface as `PhotoFolder`.

    Args:
        arrays: list of uint8 `[H, W, 3]`.
        validation_percent: int.
        minimum_side: int.
    """

    def __init__(self, arrays, validation_percent=5, minimum_side=64):
        usable = [array for array in arrays if min(array.shape[:2]) >= minimum_side]
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
    """`PhotoArrays` of a TensorFlow Datasets data set that has an "image" feature.

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
        examples = tfds.load(name, split=split, data_dir=data_dir)
        arrays = [example["image"] for example in tfds.as_numpy(examples)]
    except (KeyError, ValueError, OSError, tfds.core.registered.DatasetNotFoundError) as error:
        first_line = str(error).strip().splitlines()[0]
        raise CodecError(f"TFDS data set {name!r} cannot be used: {first_line}") from error
    arrays = [np.repeat(a, 3, axis=-1) if a.shape[-1] == 1 else a[..., :3] for a in arrays]
    return PhotoArrays(arrays, **kwargs)


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

    Args:
        photos: `PhotoFolder` or `PhotoArrays`.
        batch_size, patch_size: int.
        seed: int.
        first_step: int. Where a resumed run goes on.
        maximum_downscale: float. 1 for none.
        hard_tiles: int or None. If given, patches are taken only from this many tiles of each
            photograph, those that PNG compresses worst (the paper takes 100 of 32x32), unreduced.

    Item:
        uint8 `[batch_size, patch_size, patch_size, 3]`, in a tuple of one.
    """

    def __init__(
        self,
        photos,
        batch_size,
        patch_size,
        seed=0,
        first_step=0,
        maximum_downscale=2.0,
        hard_tiles=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.photos = photos
        self.batch_size = batch_size
        self.patch_size = patch_size
        self.seed = seed
        self.first_step = first_step
        self.maximum_downscale = maximum_downscale
        self.hard_tiles = hard_tiles
        self._tiles = PhotoCache(256 << 20)

    @property
    def num_batches(self):
        return None

    def __getitem__(self, index):
        step = self.first_step + index
        rng = np.random.default_rng((self.seed, _TRAINING_STREAM, step))
        return (np.stack([self._patch(rng) for _ in range(self.batch_size)]),)

    def _patch(self, rng):
        number = int(rng.integers(len(self.photos.training)))
        pixels = self.photos.load(self.photos.training[number])
        if self.hard_tiles:
            tiles = self._tiles.get(
                number, lambda _: hardest_tiles(pixels, self.patch_size, self.hard_tiles)
            )
            top, left = tiles[rng.integers(len(tiles))]
            patch = pixels[top : top + self.patch_size, left : left + self.patch_size]
        else:
            patch = self._random_crop(pixels, rng)
        return patch[:, ::-1] if rng.integers(2) else patch

    def _random_crop(self, pixels, rng):
        height, width = pixels.shape[:2]
        scale = rng.uniform(1.0, self.maximum_downscale) if rng.integers(2) else 1.0
        side = min(int(round(self.patch_size * scale)), height, width)
        top = int(rng.integers(height - side + 1))
        left = int(rng.integers(width - side + 1))
        crop = pixels[top : top + side, left : left + side]
        if side == self.patch_size:
            return crop
        size = (self.patch_size, self.patch_size)
        return np.asarray(Image.fromarray(crop).resize(size, Image.Resampling.LANCZOS))


def hardest_tiles(pixels, tile_size, count):
    """Corners of the tiles that PNG compresses worst: int array `[<= count, 2]` of (top, left).

    Reference:
        Toderici et al., 2017, section 4 (the "high entropy" data set).
    """
    tops = range(0, pixels.shape[0] - tile_size + 1, tile_size)
    lefts = range(0, pixels.shape[1] - tile_size + 1, tile_size)
    corners = [(top, left) for top in tops for left in lefts]
    sizes = [
        -_png_bytes(pixels[top : top + tile_size, left : left + tile_size]) for top, left in corners
    ]
    return np.array(corners)[np.argsort(sizes, kind="stable")[:count]]


def validation_patches(photos, count, patch_size, seed=0):
    """Fixed crops of validation photographs, one each: uint8 `[<= count, size, size, 3]`."""
    rng = np.random.default_rng((seed, _VALIDATION_STREAM))
    patches = []
    for item in photos.validation:
        pixels = photos.load(item)
        height, width = pixels.shape[:2]
        if min(height, width) >= patch_size and len(patches) < count:
            top = int(rng.integers(height - patch_size + 1))
            left = int(rng.integers(width - patch_size + 1))
            patches.append(pixels[top : top + patch_size, left : left + patch_size])
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
            if extension in image_io.IMAGE_EXTENSIONS:
                paths.append(os.path.join(parent, name))
    return paths


def _load_rgb(path):
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def _hash_percent(path):
    with open(path, "rb") as file:
        return _percent_of(hashlib.file_digest(file, "sha256"))


def _percent_of(digest):
    return int.from_bytes(digest.digest()[:4], "big") / 2**32 * 100


def _png_bytes(pixels):
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG")
    return buffer.tell()
