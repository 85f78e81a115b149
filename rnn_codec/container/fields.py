"""What a `.rnnc` file holds after its header, as values: the fields that chunks fill.

A chunk's bytes are in `chunks`. A new field that `read_info` is to tell as it stands belongs to
`Shared`, a body that other image formats carry too to `Metadata`, anything else to `Fields`.
"""

import dataclasses
from typing import NamedTuple

from rnn_codec.container.framing import MAX_NUMBER

# These numbers say what packed a plane; the payload of a raw one is its bits as they are.
RAW, NEURAL, ADAPTIVE = 0, 1, 2
# These are given to standard codecs, by the classes in `standard`: the payload is a whole file.
STANDARD_CODERS = range(16, 64)
CODER_NAMES = {RAW: "raw", NEURAL: "neural", ADAPTIVE: "adaptive"}

# The strength that adds all of a residual.
FULL_STRENGTH = 64
MAX_STRENGTH = 255
MAX_QUALITY_LEVEL = 255

# This bounds the channels of a plane that is stored in runs; presets have some hundreds.
MAX_CHANNELS = 4096


@dataclasses.dataclass(frozen=True)
class Plane:
    """The code of one iteration."""

    coder: int  # 0..255: how the payload was made; `RAW`, an entropy coder, a standard codec
    payload: bytes


class Run(NamedTuple):
    """The code of channels `first` to `last` of one plane, both of them included."""

    plane: int  # from 0
    first: int  # from 0
    last: int
    payload: bytes


@dataclasses.dataclass(frozen=True)
class Metadata:
    """Bodies as other image formats carry them; None: the file has none."""

    icc_profile: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None


@dataclasses.dataclass(frozen=True)
class Limits:
    """What `read` accepts from a file it does not trust, checked before anything is allocated."""

    max_pixels: int = 89_478_485  # above this Pillow warns of a decompression bomb
    max_metadata_bytes: int = 16 * 2**20  # of each chunk; a larger one is dropped
    max_alpha_bytes: int = 128 * 2**20  # what `max_pixels` of noise take as PNG, with room to spare
    max_lossless_bytes: int = 320 * 2**20  # `max_pixels` of noise, with room to spare
    max_chunks: int = 10_000  # else small damaged chunks by the million cost memory for warnings


# `truncate` and `read_info` go by these: they make no pixels and unpack no metadata.
NO_LIMITS = Limits(
    max_pixels=MAX_NUMBER**2,
    max_metadata_bytes=MAX_NUMBER,
    max_alpha_bytes=MAX_NUMBER,
    max_lossless_bytes=MAX_NUMBER,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shared:
    """What `Contents` and `FileInfo` both tell."""

    strength: int | None = None  # 0..255, of RecCNN, in 64ths; None: the file has none
    # 0..255, of a standard codec from its lowest to its highest quality; None: the file has none
    quality_level: int | None = None
    channels: int | None = None  # of each plane in a file of runs; None: it has no runs


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fields(Shared):
    """What the chunks of a file hold. The picture is in planes, in runs, or lossless."""

    planes: tuple[Plane, ...] = ()
    runs: tuple[Run, ...] = ()  # plane by plane, in each from channel 0 upward, without gaps
    lossless: bytes | None = None  # a lossless WebP file of the pixels
    metadata: Metadata = Metadata()
    alpha: bytes | None = None  # a PNG stream
