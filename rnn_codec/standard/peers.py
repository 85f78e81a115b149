"""The codecs to compare with, each at settings from low to high rate.

They are the standard codecs, some at other options than the hybrid codec takes, and codecs whose
files no `.rnnc` file holds.
"""

import dataclasses
import importlib

from rnn_codec.standard.codecs import (
    Avif,
    Format,
    Heif,
    Jpeg,
    Jpeg2000,
    UnavailableError,
    WebP,
)

_EVALUATION = "rnn-codec[eval]"


class JpegXl(Format):
    """JPEG XL by libjxl, at its default effort; the quality is the distance."""

    name = "jpegxl"
    options = {"effort": 7}

    def __init__(self):
        try:
            self._library = importlib.import_module("imagecodecs")
        except ImportError as error:
            raise UnavailableError(
                f"{self.name}: expected the package imagecodecs, which is not installed; pip "
                f"install {_EVALUATION} to measure this codec too"
            ) from error

    def encode(self, pixels, quality):
        return self._library.jpegxl_encode(pixels, distance=quality, **self.options)

    def decode(self, data, max_pixels=None):
        del max_pixels  # of files that were made here
        return self._library.jpegxl_decode(data)

    def library(self):
        version = self._library.jpegxl_version()
        return f"imagecodecs {self._library.__version__}, {version}"


@dataclasses.dataclass(frozen=True)
class Peer:
    """A codec and how it is measured."""

    kind: type[Format]
    settings: tuple  # its qualities
    options: dict = dataclasses.field(default_factory=dict)  # These replace some of its own.

    def make(self):
        """The codec.

        Raises:
            UnavailableError: its library is not installed.
        """
        codec = self.kind()
        codec.options = codec.options | self.options
        return codec


_JPEG = (1, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95)

PEERS = {
    "jpeg420": Peer(Jpeg, _JPEG),  # as the web has it
    "jpeg444": Peer(Jpeg, _JPEG, {"subsampling": "4:4:4"}),
    # The settings are the rate asked for, in bits per pixel.
    "jpeg2000": Peer(Jpeg2000, (0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.1)),
    "webp": Peer(WebP, (0, 1, 5, 10, 20, 30, 50, 70, 80, 85, 90, 95)),
    "avif": Peer(Avif, (5, 10, 20, 30, 40, 50, 60, 70, 75, 80, 85, 90)),
    # The settings are distances, in just noticeable differences.
    "jpegxl": Peer(JpegXl, (25, 15, 10, 8, 6, 4, 3, 2, 1.5, 1, 0.7, 0.5)),
    "heif": Peer(Heif, (5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 55, 60)),
}
