"""A progressive neural image codec: one network, one file, every rate.

codec = rnn_codec.load()                        # or of a preset's name or folder
data = codec.encode(image)                      # uint8 [H, W, 3] -> bytes of a .rnnc file
preview = codec.decode(data, iterations=1)      # bytes -> uint8 [H, W, 3]
rnn_codec.decode(data)                          # whichever preset wrote it
smaller = rnn_codec.truncate(data, iterations=3)
rnn_codec.read_info(data)
"""

import importlib
from typing import TYPE_CHECKING

from rnn_codec.container.bitstream import Limits, truncate
from rnn_codec.errors import (
    BitstreamError,
    CodecError,
    ImageError,
    ModelMismatchError,
    PresetError,
)
from rnn_codec.targets import Target
from rnn_codec.version import __version__ as __version__

if TYPE_CHECKING:
    from rnn_codec.codec import Codec, Encoded
    from rnn_codec.loading import decode, encode, load
    from rnn_codec.pictures.picture import Picture
    from rnn_codec.standard.codecs import read_info

__all__ = [
    "BitstreamError",
    "Codec",
    "CodecError",
    "Encoded",
    "ImageError",
    "Limits",
    "ModelMismatchError",
    "Picture",
    "PresetError",
    "Target",
    "decode",
    "encode",
    "load",
    "read_info",
    "truncate",
]

# These bring NumPy and Pillow, and a codec brings Keras and its backend, seconds of imports that
# the rest does without.
_LATER = {
    "Codec": "codec",
    "Encoded": "codec",
    "Picture": "pictures.picture",
    "decode": "loading",
    "encode": "loading",
    "load": "loading",
    "read_info": "standard.codecs",
}


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_LATER[name]}"), name)
