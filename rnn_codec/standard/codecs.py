"""Standard codecs: 8-bit pixels to the bytes of a file that any viewer opens, and back.

They carry the hybrid codec's compact picture, and `evaluation` measures them bare. A new one is one
class here, with a place in `CODECS`; a row in `peers`, at what settings to measure it; and a line
in docs/bitstream.md, which gives its number away for ever.
"""

import abc
import importlib
import io

import numpy as np
import PIL
from PIL import Image, features

from rnn_codec.container import bitstream
from rnn_codec.errors import BitstreamError, CodecError, one_line
from rnn_codec.pictures import reading

_HEIF_EXTRA = "rnn-codec[baselines-gpl]"


class UnavailableError(CodecError):
    """A codec whose library is not installed."""


class Format(abc.ABC):
    """Base of all. Pixels are uint8, `[H, W]` grey or `[H, W, 3]` RGB."""

    name: str
    options: dict  # what else the results depend on, but the quality

    @abc.abstractmethod
    def encode(self, pixels, quality):
        """Returns the bytes of a file."""

    @abc.abstractmethod
    def decode(self, data, max_pixels=reading.DEFAULT_MAX_PIXELS):
        """Returns the pixels of a file.

        Args:
            data: bytes.
            max_pixels: int. Bound on width * height, checked before anything is allocated.

        Raises:
            CodecError: the bytes are no such file, damaged or too large.
        """

    @abc.abstractmethod
    def library(self):
        """Names and versions of the libraries that do it, for a report."""


class BaseCodec(Format):
    """A codec whose files the hybrid codec can hold.

    Its number, name and quality scale are in files and in trained weights, so they never change.
    """

    coder: int  # in `bitstream.Plane`: one of `bitstream.STANDARD_CODERS`
    extension: str  # of its files
    qualities: tuple  # numbers; from low to high rate
    default_quality: int | float

    @classmethod
    def level_of(cls, quality):
        """Where a quality lies among the codec's: int from 0, the lowest, to 255, the highest.

        None if it tells little of how coarse a picture was stored.
        """
        levels = np.linspace(0, bitstream.MAX_QUALITY_LEVEL, len(cls.qualities))
        return round(float(np.interp(quality, cls.qualities, levels)))

    @classmethod
    def quality_of(cls, level):
        """The quality whose level is nearest."""
        return cls.qualities[round(level / bitstream.MAX_QUALITY_LEVEL * (len(cls.qualities) - 1))]


class PillowFormat(BaseCodec):
    """Base of the codecs that Pillow brings; the quality is its own, unless said otherwise.

    The options are arguments of `Image.save`.
    """

    image_format: str
    feature: str  # Pillow's name of the library

    def __init__(self):
        if not features.check(self.feature):
            raise UnavailableError(
                f"{self.name}: expected a Pillow with {self.feature}, received one without; install"
                " Pillow's own wheel"
            )

    def rate_option(self, quality, channels):
        """The argument of `Image.save` that the quality stands for, as a dictionary."""
        del channels
        return {"quality": quality}

    def encode(self, pixels, quality):
        file = io.BytesIO()
        channels = pixels.shape[2] if pixels.ndim == 3 else 1
        options = self.options | self.rate_option(quality, channels)
        Image.fromarray(pixels).save(file, self.image_format, **options)
        return file.getvalue()

    def decode(self, data, max_pixels=reading.DEFAULT_MAX_PIXELS):
        name = f"{self.image_format} file"
        return reading.read_picture(data, max_pixels, name, (self.image_format,)).pixels

    def library(self):
        return f"Pillow {PIL.__version__}, {self.feature} {features.version(self.feature)}"


class Jpeg(PillowFormat):
    """JPEG as the web has it: colour at half resolution, Huffman tables optimised, progressive."""

    name = "jpeg"
    coder = 16
    extension = ".jpg"
    image_format = "JPEG"
    feature = "libjpeg_turbo"
    qualities = tuple(range(1, 96))
    default_quality = 50
    options = {"subsampling": "4:2:0", "optimize": True, "progressive": True}


class Jpeg2000(PillowFormat):
    """JPEG 2000 with the lossy wavelet; the quality is the rate asked for, in bits per pixel."""

    name = "jpeg2000"
    coder = 17
    extension = ".jp2"
    image_format = "JPEG2000"
    feature = "jpg_2000"
    qualities = tuple(round(0.05 * 1.06**step, 3) for step in range(88))  # 0.05 to 7.95
    default_quality = 1.0
    # Unless told by mct, Pillow codes red, green and blue apart, which costs about 2 dB.
    options = {"quality_mode": "rates", "irreversible": True, "mct": 1}

    @classmethod
    def level_of(cls, quality):
        # RecCNN restores better if it is not told a rate: docs/results/hybrid.md.
        return None

    def rate_option(self, quality, channels):
        return {"quality_layers": [8 * channels / quality]}  # a factor of compression


class WebP(PillowFormat):
    """WebP at its best effort. Its colour always has half resolution."""

    name = "webp"
    coder = 18
    extension = ".webp"
    image_format = "WEBP"
    feature = "webp"
    qualities = tuple(range(96))
    default_quality = 50
    options = {"method": 6}


class Avif(PillowFormat):
    """AVIF (AV1 intra) with full colour resolution, at Pillow's default speed."""

    name = "avif"
    coder = 19
    extension = ".avif"
    image_format = "AVIF"
    feature = "avif"
    qualities = tuple(range(1, 96))
    default_quality = 50
    options = {"subsampling": "4:4:4", "speed": 6}


class Heif(BaseCodec):
    """HEVC intra (x265) in HEIF with full colour resolution; stands in for BPG."""

    name = "heif"
    coder = 20
    extension = ".heif"
    qualities = tuple(range(1, 91))
    default_quality = 40
    options = {"chroma": 444}

    def __init__(self):
        try:
            self._library = importlib.import_module("pillow_heif")
        except ImportError as error:
            raise UnavailableError(
                f"{self.name}: expected the package pillow_heif, which is not installed; pip "
                f"install {_HEIF_EXTRA} to use this codec too"
            ) from error

    def encode(self, pixels, quality):
        height, width = pixels.shape[:2]
        mode = "RGB" if pixels.ndim == 3 else "L"
        file = io.BytesIO()
        self._library.encode(
            mode, (width, height), pixels.tobytes(), file, quality=quality, **self.options
        )
        return file.getvalue()

    def decode(self, data, max_pixels=reading.DEFAULT_MAX_PIXELS):
        try:
            image = self._library.open_heif(data)
            width, height = image.size
            if width * height <= max_pixels:
                picture = image.to_pillow()
                return np.array(picture if picture.mode == "L" else picture.convert("RGB"))
        except Exception as error:  # libheif's faults come as a few types
            raise BitstreamError(
                f"HEIF file: expected an intact one, received a damaged one ({one_line(error)}); "
                "fetch it again"
            ) from error
        raise BitstreamError(
            f"HEIF file: expected at most {max_pixels:,} pixels, received {width} x {height}; it "
            "was not written by this codec"
        )

    def library(self):
        info = self._library.libheif_info()
        versions = f"libheif {info['libheif']}, {info['HEIF']}"
        return f"pillow_heif {self._library.__version__}, {versions}"


CODECS = {codec.name: codec for codec in (Jpeg, Jpeg2000, WebP, Avif, Heif)}
NAMES = {codec.coder: name for name, codec in CODECS.items()}


def make(name):
    """A standard codec by its name.

    Raises:
        UnavailableError: its library is not installed.
        CodecError: the name is unknown.
    """
    if name not in CODECS:
        raise CodecError(
            f"{name!r}: expected a base codec of {', '.join(CODECS)}, received another name; "
            "correct it"
        )
    return CODECS[name]()


def checked_quality(codec, quality):
    """A quality as the codec takes it: a whole number, unless its qualities are none.

    Raises:
        CodecError: it is out of range.
    """
    lowest, highest = codec.qualities[0], codec.qualities[-1]
    whole = isinstance(lowest, int)
    if not lowest <= quality <= highest or (whole and quality != int(quality)):
        raise CodecError(
            f"expected a quality of {codec.name} from {lowest} to {highest}"
            f"{', a whole number' if whole else ' bits per pixel'}, received {quality:g}; change it"
        )
    return int(quality) if whole else float(quality)


def with_colour(pixels, is_rgb):
    """Decoded pixels as grey or as RGB: WebP and AVIF give grey as RGB."""
    if (pixels.ndim == 3) == is_rgb:
        return pixels
    return np.asarray(Image.fromarray(pixels).convert("RGB" if is_rgb else "L"))


def kind_of(plane):
    """The class of the standard codec that wrote a `bitstream.Plane`.

    Raises:
        BitstreamError: none did.
    """
    if plane.coder not in NAMES:
        raise _not_standard()
    return CODECS[NAMES[plane.coder]]


def _not_standard():
    return BitstreamError(
        "expected a file of the hybrid codec, which holds one of a standard codec, received another"
        " one; name a file that encode.py --codec=hybrid wrote"
    )


def read_info(data: bytes) -> bitstream.FileInfo:
    """What can be said of a file without a network; no limit on pixels applies.

    Raises:
        BitstreamError: it is no such file, or nothing of its picture is whole.
    """
    return bitstream.read_info(data, NAMES)


def extract(data, strict=False, limits=bitstream.Limits()):
    """The standard codec's file in a `.rnnc` file, for any viewer, and its extension.

    Raises:
        BitstreamError: the file holds none, or is damaged.
    """
    contents = bitstream.read(data, strict, limits)
    if contents.lossless is not None:
        return contents.lossless, WebP.extension
    if not contents.planes:
        raise _not_standard()
    return contents.planes[0].payload, kind_of(contents.planes[0]).extension
