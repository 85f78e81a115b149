"""The codecs that are compared: pixels to the bytes of a whole file, and those bytes to pixels.

A new codec is one class: a name, settings from low to high rate, `encode`, `decode`, and what
`describe` says of its library. `CODECS` makes it known by its name. No codec is given metadata, so
what is counted is pixels and the container's own overhead.
"""

import abc
import dataclasses
import functools
import importlib
import io
import os
import time

import numpy as np
import PIL
from PIL import Image, features

from rnn_codec import bitstream, presets
from rnn_codec.errors import CodecError

_EVALUATION, _GPL_BASELINES = "rnn-codec[eval]", "rnn-codec[baselines-gpl]"


class UnavailableError(CodecError):
    """A codec whose library is not installed; the others can be measured without it."""


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
                reason = " ".join(str(error).split()) or type(error).__name__
                height, width, _ = pixels.shape
                raise CodecError(
                    f"{self.name}: expected to code {width} x {height} pixels, received an error "
                    f"({reason}); leave the image or the codec out"
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
        import keras

        library = f"keras {keras.__version__}, {keras.backend.backend()} {_backend_version()}"
        return {"identity": self._preset.identity.hex(), "library": library}

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
        from rnn_codec import codec

        return codec.Codec.from_preset(self._path)

    @functools.cache  # noqa: B019 (a codec lives as long as the program)
    def _compile(self, shape):
        """Compiles the network for pictures of this shape, so that no measured time contains it."""
        self.decode(self.encode(np.zeros(shape, np.uint8), 1))


class PillowCodec(ImageCodec):
    """Base of the codecs that Pillow brings; the setting is the quality, unless said otherwise."""

    image_format: str
    feature: str  # Pillow's name of the library
    options: dict  # arguments of `Image.save`

    def __init__(self):
        if not features.check(self.feature):
            raise UnavailableError(
                f"{self.name}: expected a Pillow with {self.feature}, received one without; install"
                " Pillow's own wheel"
            )

    def rate_option(self, setting):
        """The argument of `Image.save` that the setting stands for, as a dictionary."""
        return {"quality": setting}

    def encode(self, pixels, setting):
        file = io.BytesIO()
        options = self.options | self.rate_option(setting)
        Image.fromarray(pixels).save(file, self.image_format, **options)
        return file.getvalue()

    def decode(self, data):
        with Image.open(io.BytesIO(data), formats=(self.image_format,)) as image:
            return np.array(image.convert("RGB"))

    def describe(self):
        return {
            "library": f"Pillow {PIL.__version__}, {self.feature} {features.version(self.feature)}",
            "options": self.options,
        }


class Jpeg420(PillowCodec):
    """JPEG as the web has it: colour at half resolution, Huffman tables optimised, progressive."""

    name = "jpeg420"
    image_format = "JPEG"
    feature = "libjpeg_turbo"
    settings = (1, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95)
    options = {"subsampling": "4:2:0", "optimize": True, "progressive": True}


class Jpeg444(Jpeg420):
    """JPEG with full colour resolution."""

    name = "jpeg444"
    options = Jpeg420.options | {"subsampling": "4:4:4"}


class Jpeg2000(PillowCodec):
    """JPEG 2000 with the lossy wavelet; the setting is the rate asked for, in bits per pixel."""

    name = "jpeg2000"
    image_format = "JPEG2000"
    feature = "jpg_2000"
    settings = (0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.1)
    # Unless told by mct, Pillow codes red, green and blue apart, which costs about 2 dB.
    options = {"quality_mode": "rates", "irreversible": True, "mct": 1}

    def rate_option(self, setting):
        return {"quality_layers": [24 / setting]}  # a factor of compression, of 24-bit pixels


class WebP(PillowCodec):
    """WebP at its best effort. Its colour always has half resolution."""

    name = "webp"
    image_format = "WEBP"
    feature = "webp"
    settings = (0, 1, 5, 10, 20, 30, 50, 70, 80, 85, 90, 95)
    options = {"method": 6}


class Avif(PillowCodec):
    """AVIF (AV1 intra) with full colour resolution, at Pillow's default speed."""

    name = "avif"
    image_format = "AVIF"
    feature = "avif"
    settings = (5, 10, 20, 30, 40, 50, 60, 70, 75, 80, 85, 90)
    options = {"subsampling": "4:4:4", "speed": 6}


class JpegXl(ImageCodec):
    """JPEG XL by libjxl, at its default effort; the setting is the distance."""

    name = "jpegxl"
    settings = (25, 15, 10, 8, 6, 4, 3, 2, 1.5, 1, 0.7, 0.5)  # in just noticeable differences
    effort = 7

    def __init__(self):
        self._library = _import("imagecodecs", self.name, _EVALUATION)

    def encode(self, pixels, setting):
        return self._library.jpegxl_encode(pixels, distance=setting, effort=self.effort)

    def decode(self, data):
        return self._library.jpegxl_decode(data)

    def describe(self):
        version = self._library.jpegxl_version()
        return {
            "library": f"imagecodecs {self._library.__version__}, {version}",
            "options": {"effort": self.effort},
        }


class Heif(ImageCodec):
    """HEVC intra (x265) in HEIF with full colour resolution; stands in for BPG."""

    name = "heif"
    settings = (5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 55, 60)  # quality
    chroma = 444

    def __init__(self):
        self._library = _import("pillow_heif", self.name, _GPL_BASELINES)

    def encode(self, pixels, setting):
        height, width, _ = pixels.shape
        file = io.BytesIO()
        self._library.encode(
            "RGB", (width, height), pixels.tobytes(), file, quality=setting, chroma=self.chroma
        )
        return file.getvalue()

    def decode(self, data):
        return np.array(self._library.read_heif(data).to_pillow().convert("RGB"))

    def describe(self):
        info = self._library.libheif_info()
        versions = f"libheif {info['libheif']}, {info['HEIF']}"
        return {
            "library": f"pillow_heif {self._library.__version__}, {versions}",
            "options": {"chroma": self.chroma},
        }


CODECS = {codec.name: codec for codec in (Jpeg420, Jpeg444, Jpeg2000, WebP, Avif, JpegXl, Heif)}


def make(name):
    """A codec other than this project's, by its name.

    Raises:
        UnavailableError: its library is not installed.
        CodecError: the name is unknown.
    """
    if name not in CODECS:
        raise CodecError(
            f"{name!r}: expected codecs of {', '.join(CODECS)}, received another name; correct it"
        )
    return CODECS[name]()


def _import(package, codec, extra):
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise UnavailableError(
            f"{codec}: expected the package {package}, which is not installed; pip install "
            f"{extra} to measure this codec too"
        ) from error


def _timed(function, *arguments):
    start = time.perf_counter()
    result = function(*arguments)
    return result, time.perf_counter() - start


def _backend_version():
    import keras

    return importlib.import_module(keras.backend.backend()).__version__
