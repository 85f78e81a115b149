"""What a file tells of its picture without a network: all but pixels, or exact ones too."""

import dataclasses

import numpy as np

from rnn_codec.container import bitstream
from rnn_codec.pictures import lossless, reading
from rnn_codec.pictures.picture import Picture


def frame_of(contents: bitstream.Contents) -> Picture:
    """A picture without pixels that mean anything: size, alpha, metadata, warnings of a file."""
    header, metadata, warnings = contents.header, contents.metadata, contents.warnings
    alpha = None
    if contents.alpha is not None:
        alpha = reading.decode_alpha(contents.alpha, header.width, header.height)
    shape = (header.height, header.width, 3) if header.is_rgb else (header.height, header.width)
    return Picture(
        pixels=np.broadcast_to(np.uint8(0), shape),  # takes no memory
        alpha=alpha,
        icc_profile=metadata.icc_profile,
        exif=metadata.exif,
        xmp=metadata.xmp,
        warnings=warnings,
    )


def lossless_picture(contents: bitstream.Contents) -> Picture:
    """The picture of a lossless file, which every preset reads.

    Raises:
        BitstreamError: its stream is damaged.
    """
    header = contents.header
    pixels = lossless.decode(contents.lossless, header.width, header.height, header.is_rgb)
    return dataclasses.replace(frame_of(contents), pixels=pixels)
