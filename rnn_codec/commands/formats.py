"""The format that a picture is written in: what decode and restore share."""

import os

import numpy as np

from rnn_codec.pictures import writing
from rnn_codec.pictures.picture import picture_from_array


def extension_of(image_format):
    """The extension of a file whose name is made up, without its dot."""
    return (image_format or "png").removeprefix(".")


def of(target, image_format):
    """The format for a file: the one asked for, or by the file's extension, or PNG."""
    extension = os.path.splitext(target)[1].removeprefix(".")
    return image_format or extension or "png"


def check(image_format, is_rgb, has_alpha):
    """Raises what writing the picture would raise, before the network has run."""
    channels = (3 if is_rgb else 1) + has_alpha
    pixel = picture_from_array(np.zeros((1, 1, channels), np.uint8))
    writing.picture_bytes(pixel, image_format)


def losses(picture, image_format):
    """Lines that tell what of a picture a format does not hold."""
    lost = writing.unstored_metadata(picture, image_format)
    return [f"{image_format} cannot hold the {', '.join(lost)}; left out"] if lost else []
