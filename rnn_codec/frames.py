"""What a file tells of its picture without a network: all but pixels, or exact ones too."""

import dataclasses

import numpy as np

from rnn_codec.container import bitstream
from rnn_codec.errors import CodecError
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


class ExactFiles:
    """Reads lossless files as a codec does, which needs neither a network nor a preset."""

    def decode_picture(self, data, iterations=None, strict=False, limits=bitstream.Limits()):
        """Yields 1 and the `Picture`, as `Codec.decode_picture` does."""
        yield 1, lossless_picture(bitstream.read(data, strict, limits))

    def decode_pictures(self, files, iterations=None, strict=False, limits=bitstream.Limits()):
        """As `Codec.decode_pictures`."""
        results = []
        for data in files:
            try:
                results.append(list(self.decode_picture(data, iterations, strict, limits)))
            except CodecError as error:
                results.append(error.with_traceback(None))
        return results

    def read_planes(self, data, iterations=None, limits=bitstream.Limits()):
        """The pixels, which are the same wherever they are read."""
        return [lossless_picture(bitstream.read(data, limits=limits)).pixels]


def is_exact(data: bytes) -> bool:
    """Whether a file holds its pixels exactly, under no model's identity."""
    return bitstream.read_info(data).model_id == bitstream.NO_MODEL.hex()
