"""The codecs that are compared: pixels to the bytes of a whole file, and those bytes to pixels.

Codecs that others made are rows of `standard.peers`; one of this project's own is a class here: a
name, settings from low to high rate, `encode`, `decode`, and what `describe` says of its library.
No codec is given metadata, so what is counted is pixels and the container's own overhead.
"""

import abc
import dataclasses
import functools
import importlib
import os
import time

import numpy as np

from rnn_codec import loading, presets, wings
from rnn_codec.container import bitstream
from rnn_codec.errors import CodecError, one_line
from rnn_codec.standard import codecs as base_codecs
from rnn_codec.standard.codecs import UnavailableError
from rnn_codec.standard.peers import PEERS

__all__ = [
    "Coded",
    "ImageCodec",
    "PeerCodec",
    "ProgressiveCodec",
    "QualityCodec",
    "UnavailableError",
    "make",
    "make_own",
]


@dataclasses.dataclass(frozen=True)
class Coded:
    """A picture at one setting of a codec."""

    setting: int | float
    data: bytes  # the whole file
    pixels: np.ndarray  # uint8 [H, W, 3], as decoded from `data`
    encode_seconds: float | None  # None: no such file was encoded on its own
    decode_seconds: float


class ImageCodec(abc.ABC):
    """Base of all codecs. Pixels are uint8 `[H, W, 3]`."""

    name: str
    settings: tuple  # numbers; from low to high rate

    @abc.abstractmethod
    def encode(self, pixels, setting):
        """Returns the bytes of a file."""

    @abc.abstractmethod
    def decode(self, data):
        """Returns the pixels of a file."""

    @abc.abstractmethod
    def describe(self):
        """A dictionary of what the results depend on: libraries, versions, options, weights."""

    def code_all(self, pixels):
        """Yields `Coded` for each setting, in order.

        Raises:
            CodecError: the codec cannot code this picture.
        """
        for setting in self.settings:
            try:
                data, encode_seconds = _timed(self.encode, pixels, setting)
                restored, decode_seconds = _timed(self.decode, data)
            except Exception as error:  # the libraries raise of a dozen types
                height, width, _ = pixels.shape
                raise CodecError(
                    f"{self.name}: expected to code {width} x {height} pixels, received an error "
                    f"({one_line(error)}); leave the image or the codec out"
                ) from error
            yield Coded(setting, data, restored, encode_seconds, decode_seconds)


class ProgressiveCodec(ImageCodec):
    """This project's codec; its settings are iteration counts.

    A picture is encoded once, with all iterations. The file of iteration n is what
    `bitstream.truncate` makes of it, which is what an encoder that stops there writes. So the time
    to encode is known for the last setting only. The time to decode at n is the one until picture
    n of a single decoding is there.

    Args:
        preset: str. Name or folder; the codec is called by the name, or the folder's own name.
    """

    def __init__(self, preset):
        self.name = os.path.basename(os.path.normpath(preset))
        self._path = preset
        self._preset = presets.load(preset)
        self.settings = tuple(range(1, self._preset.config.iterations + 1))

    def encode(self, pixels, setting):
        return self._codec.encode(pixels, iterations=setting)

    def decode(self, data):
        return self._codec.decode(data)

    def describe(self):
        return {"identity": self._preset.identity.hex(), "library": _keras_version()}

    def code_all(self, pixels):
        self._compile(pixels.shape)
        full, encode_seconds = _timed(self.encode, pixels, self.settings[-1])
        start = time.perf_counter()
        for count, picture in self._codec.decode_picture(full, "all"):
            decode_seconds = time.perf_counter() - start
            data = bitstream.truncate(full, count)
            is_last = count == self.settings[-1]
            yield Coded(
                count, data, picture.pixels, encode_seconds if is_last else None, decode_seconds
            )
            # What the caller did meanwhile is not decoding.
            start = time.perf_counter() - decode_seconds

    @functools.cached_property
    def _codec(self):
        return loading.load(self._path)

    @functools.cache  # noqa: B019 (a codec lives as long as the program)
    def _compile(self, shape):
        """Compiles the network for pictures of this shape, so that no measured time contains it."""
        self.decode(self.encode(np.zeros(shape, np.uint8), 1))


class QualityCodec(ImageCodec):
    """This project's codec around a standard one; its settings are that one's qualities.

    In the precision that the commands take: the encoder runs three networks for each file.

    Args:
        preset: str. Name or folder.
        base: str. Name of the standard codec. Defaults to the preset's own.

    Raises:
        UnavailableError: the standard codec is not installed.
    """

    def __init__(self, preset, base=None):
        self._path = preset
        self._preset = presets.load(preset)
        self._base = base_codecs.make(base or self._preset.config.base)
        self.name = f"{os.path.basename(os.path.normpath(preset))}_{self._base.name}"
        places = np.linspace(0, len(self._base.qualities) - 1, 8)
        self.settings = tuple(self._base.qualities[round(place)] for place in places)

    def encode(self, pixels, setting):
        return self._codec.encode(pixels, quality=setting, base=self._base.name)

    def decode(self, data):
        return self._codec.decode(data)

    def describe(self):
        return {
            "identity": self._preset.identity.hex(),
            "library": f"{_keras_version()}, {self._base.library()}",
            "base": self._base.name,
        }

    @functools.cached_property
    def _codec(self):
        made = loading.load(self._path, precision="auto")
        # Compiles the networks, so that no measured time contains it.
        made.decode(made.encode(np.zeros((16, 16, 3), np.uint8)))
        return made


def make_own(preset, bases=()):
    """The codecs of a preset's name or folder: one, or of a hybrid preset one for each base."""
    config = presets.load(preset, load_weights=False).config
    if wings.of(config).rates == "iterations":
        return [ProgressiveCodec(preset)]
    return [QualityCodec(preset, base) for base in bases or [config.base]]


class PeerCodec(ImageCodec):
    """A codec that others made.

    Args:
        name: str. One of `peers.PEERS`.

    Raises:
        UnavailableError: its library is not installed.
    """

    def __init__(self, name):
        self._codec = PEERS[name].make()
        self.name = name
        self.settings = PEERS[name].settings
        self.options = self._codec.options

    def encode(self, pixels, setting):
        return self._codec.encode(pixels, setting)

    def decode(self, data):
        return self._codec.decode(data)

    def describe(self):
        return {"library": self._codec.library(), "options": self.options}


def make(name):
    """A codec other than this project's, by its name.

    Raises:
        UnavailableError: its library is not installed.
        CodecError: the name is unknown.
    """
    if name not in PEERS:
        raise CodecError(
            f"{name!r}: expected codecs of {', '.join(PEERS)}, received another name; correct it"
        )
    return PeerCodec(name)


def _timed(function, *arguments):
    start = time.perf_counter()
    result = function(*arguments)
    return result, time.perf_counter() - start


def _keras_version():
    import keras

    backend = keras.backend.backend()
    version = importlib.import_module(backend).__version__
    return f"keras {keras.__version__}, {backend} {version}"
