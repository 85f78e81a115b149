"""A name, a folder or a file to the codec for it, whichever wing that is of."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from rnn_codec import presets, wings
from rnn_codec.container import bitstream
from rnn_codec.errors import ModelMismatchError
from rnn_codec.frames import lossless_picture
from rnn_codec.pictures.picture import to_array

if TYPE_CHECKING:
    import numpy as np

    from rnn_codec.codec import Codec

# `encode` and `decode` keep so many codecs for their next calls.
_KEPT = 4


def load(name: str | None = None, precision: str = "float32", arithmetic: str = "numpy") -> Codec:
    """The codec of a preset's name, of a folder that `save_preset` wrote, or the default.

    Args:
        name: str. Defaults to the default preset.
        precision: str. Keras dtype policy to compute in, "float32" or "bfloat16" say, or "auto":
            what `compilation.fastest_precision` says.
        arithmetic: str. Of a context model, a name in `context_model.ARITHMETICS`; all give the
            same bits.

    Returns:
        `Codec`, of the preset's wing.

    Raises:
        PresetError: unknown, damaged, or without trained weights.
    """
    preset = presets.load(name)
    return wings.of(preset.config).make_codec(preset, precision, arithmetic)


def encode(image: np.ndarray, preset: str | None = None, **options: Any) -> bytes:
    """Compresses pixels with a preset, the default if none is named; see `Codec.encode`.

    The codec is kept for the next call.
    """
    name = preset or presets.DEFAULT
    return _kept(name, presets.identity_at(name)).encode(image, **options)


def decode(data: bytes, iterations: int | None = None, strict: bool = False) -> np.ndarray:
    """Restores the pixels of a `.rnnc` file with the preset that wrote it; see `Codec.decode`.

    The codec is kept for the next call.

    Raises:
        CodecError: as for `Codec.decode`, or the preset is not known here.
    """
    identity = bytes.fromhex(bitstream.read_info(data).model_id)
    if identity == bitstream.NO_MODEL:
        return to_array(lossless_picture(bitstream.read(data, strict)))
    return _kept(preset_of(identity), identity).decode(data, iterations, strict)


def preset_of(identity: bytes) -> str:
    """The name or the folder of the preset that wrote files with an identity.

    Raises:
        ModelMismatchError: none is known here.
    """
    place = presets.find(identity)
    if place is None:
        raise ModelMismatchError(
            f"expected a file of a preset that is known here ({', '.join(presets.shipped())}), "
            f"received one of model {identity.hex()}; decode it with the preset that wrote it: "
            f"give its folder, or put it into a folder of ${presets.PATH_VARIABLE}"
        )
    return place


@functools.lru_cache(_KEPT)
def _kept(place, identity):
    del identity  # a folder with other weights is another codec
    return load(place)
