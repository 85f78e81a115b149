"""A progressive neural image codec: one network, one file, every rate.

codec = rnn_codec.Codec.from_preset()
data = codec.encode(image)                      # uint8 [H, W, 3] -> bytes of a .rnnc file
preview = codec.decode(data, iterations=1)      # bytes -> uint8 [H, W, 3]
smaller = rnn_codec.truncate(data, iterations=3)
rnn_codec.read_info(data)
"""

from rnn_codec.container.bitstream import read_info, truncate
from rnn_codec.errors import (
    BitstreamError,
    CodecError,
    ImageError,
    ModelMismatchError,
    PresetError,
)

__version__ = "0.8.0"

__all__ = [
    "BitstreamError",
    "Codec",
    "CodecError",
    "ImageError",
    "ModelMismatchError",
    "PresetError",
    "read_info",
    "truncate",
]


def __getattr__(name):
    # Codec brings Keras and its backend, seconds of imports that the rest does without.
    if name == "Codec":
        from rnn_codec.recurrent.codec import Codec

        return Codec
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
