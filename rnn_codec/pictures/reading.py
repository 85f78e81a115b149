"""Files to pictures: whatever Pillow can read becomes 8-bit grey or RGB.

Everything that surrounds pixels in picture files (palettes, CMYK, alpha, colour profiles, EXIF,
XMP, 16-bit samples, animations, damage, absurd sizes) is dealt with here and in `writing`, so no
other module opens one.

What this module promises:
  * Reading any bytes gives a `Picture` or a `CodecError` of one line that starts with the file's
    name; nothing else, whatever is in them.
  * Pixels stay as the file stores them. An EXIF orientation remains in the EXIF block, so viewers
    turn the picture exactly once. Where no EXIF can be kept, the pixels are turned instead.
  * What was lost on the way in (a CMYK original, further frames) is told in `Picture.warnings`.

Pillow is trusted with the decoding, but only for the formats of `_READ_FORMATS`: some of its other
plugins start programs (EPS) or take nearly any bytes for a picture (TGA).
"""

import contextlib
import dataclasses
import io
import os
import struct
import sys

import numpy as np
import PIL
from PIL import ExifTags, Image, ImageCms

from rnn_codec import storage
from rnn_codec.errors import BitstreamError, ImageError, one_line
from rnn_codec.pictures import exif
from rnn_codec.pictures.picture import Picture, picture_from_array

# Pillow's own bound, above which it speaks of a decompression bomb: 1 GiB / 4 bytes / 3 channels.
DEFAULT_MAX_PIXELS = 89_478_485

# Pillow's names. The first five load with Pillow itself, the rest import further plugins.
_READ_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "WEBP", "TIFF", "AVIF", "JPEG2000", "QOI")

# What `read_picture` accepts, by the names such files go by (for walking a folder).
IMAGE_EXTENSIONS = frozenset((
    ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".bmp", ".gif",
    ".ppm", ".pgm", ".pbm", ".pnm", ".webp", ".tif", ".tiff", ".avif",
    ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".qoi",
))  # fmt: skip

# JPEG's standard, table K.1: steps for luma at libjpeg's quality 50.
_LUMINANCE_TABLE = np.array([
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55,
    14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62,
    18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
])  # fmt: skip

_EXIF_PREFIX = b"Exif\0\0"

# Pillow's modes and the one each is converted to; a transparent colour or palette entry adds "A".
_STANDARD_MODES = {
    **dict.fromkeys(("1", "L"), "L"),
    **dict.fromkeys(("LA", "La"), "LA"),
    **dict.fromkeys(("RGB", "RGBX", "P", "CMYK", "YCbCr", "LAB", "HSV"), "RGB"),
    **dict.fromkeys(("RGBA", "RGBa", "PA"), "RGBA"),
}

# Of one value, by its type.
_TIFF_VALUE_BYTES = {
    **dict.fromkeys((1, 2, 6, 7), 1),
    **dict.fromkeys((3, 8), 2),
    **dict.fromkeys((4, 9, 11, 13), 4),
    **dict.fromkeys((5, 10, 12, 16), 8),
}


def read_picture(
    source, max_pixels=DEFAULT_MAX_PIXELS, name=None, formats=_READ_FORMATS
) -> Picture:
    """Reads the first picture of a file.

    Palettes become RGB, one-bit pictures grey, transparent colours alpha. CMYK becomes sRGB by its
    profile (dropped afterwards, with a warning). Of an animation or a JPEG with several pictures,
    the first is kept, with a warning. Pixels are not turned by the EXIF orientation, except in
    TIFF files: there Pillow turns them while decoding and removes the tag.

    More than 8 bits per sample is an error. Known are grey and float pictures of every format, and
    colour in PNG, TIFF, PPM, JPEG 2000 and AVIF, which Pillow would silently cut to 8 bits.

    Args:
        source: path, or the bytes of a file.
        max_pixels: int. Bound on width * height, checked before the pixels are decoded.
        name: string. The file's name in messages. Defaults to the path, or to "standard input".
        formats: tuple of Pillow's names of formats to accept. Defaults to all that are trusted.

    Returns:
        A `Picture` whose arrays are C-contiguous copies and may be written to.

    Raises:
        ImageError: the bytes are no picture, or damaged, too large, or of more than 8 bits.
        CodecError: the file cannot be read.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        name, data = name or "standard input", bytes(source)
    else:
        name, data = name or os.fspath(source), storage.read_bytes(source)
    if not data:
        raise ImageError(f"{name}: expected a picture, received an empty file; check its source")
    try:
        return _decode(data, name, max_pixels, formats)
    except ImageError:
        raise
    except Exception as error:
        # Damaged files make Pillow's plugins raise a dozen types, from SyntaxError to struct.error.
        raise ImageError(
            f"{name}: expected an intact picture, received a damaged or truncated one "
            f"({one_line(error)}); fetch or export it again"
        ) from error


def jpeg_quality(data) -> float | None:
    """The quality at which libjpeg has tables about as coarse as those of a JPEG file.

    Args:
        data: bytes of any file; only the header is looked at.

    Returns:
        1 to 100; None if it is no JPEG file, or a damaged one.
    """
    try:
        image = _open(data, "", sys.maxsize, ("JPEG",))
    except (ImageError, OSError):
        return None
    table = image.quantization.get(0)
    if not table:
        return None
    qualities = np.arange(100, 0, -1)
    percents = np.where(qualities < 50, 5000 // qualities, 200 - 2 * qualities)
    tables = np.clip((percents[:, None] * _LUMINANCE_TABLE + 50) // 100, 1, 255)
    return float(np.interp(sum(table), tables.sum(axis=1), qualities))


def _decode(data, name, max_pixels, formats) -> Picture:
    """Decodes the bytes of a file; may raise whatever Pillow raises."""
    image = _open(data, name, max_pixels, formats)
    _check_size(image, name, max_pixels)
    _check_sample_bits(image, data, name)
    if image.format == "TIFF":
        _check_tiff_exif(data, name)
    notes = []
    if getattr(image, "is_animated", False):
        notes.append(f"{name}: has several pictures or frames; only the first is kept")
    _load(image, data, max_pixels)
    icc_profile, block, xmp = image.info.get("icc_profile"), _exif(image), _xmp(image)
    if image.mode in ("CMYK", "LAB"):
        image, note = _to_srgb(image, icc_profile)
        icc_profile = None
        notes.append(f"{name}: {note}")
    picture = picture_from_array(np.array(_standardize(image)))
    return dataclasses.replace(
        picture, icc_profile=icc_profile or None, exif=block, xmp=xmp, warnings=tuple(notes)
    )


def _open(data, name, max_pixels, formats) -> Image.Image:
    """Reads the header, in words of ours where that fails."""
    try:
        with exif.pillow_limit(max_pixels):
            return Image.open(io.BytesIO(data), formats=formats)
    except PIL.UnidentifiedImageError as error:
        raise ImageError(
            f"{name}: expected a picture ({', '.join(formats)}), received {len(data):,} "
            "bytes that are none, or have a damaged header; convert or fetch it again"
        ) from error
    except Image.DecompressionBombError as error:
        raise ImageError(
            f"{name}: expected at most {max_pixels:,} pixels, received more than twice as many; "
            "raise --max_pixels if the file can be trusted"
        ) from error


def _check_size(image, name, max_pixels):
    if image.width * image.height > max_pixels:
        raise ImageError(
            f"{name}: expected at most {max_pixels:,} pixels, received {image.width} x "
            f"{image.height} = {image.width * image.height:,}; raise --max_pixels if the file can "
            "be trusted"
        )


def _check_sample_bits(image, data, name):
    bits = _sample_bits(image, data)
    if bits > 8:
        raise ImageError(
            f"{name}: expected 8-bit samples, received {bits}-bit ones; convert it first, for "
            "example with `magick input -depth 8 output.png`"
        )


def _sample_bits(image, data) -> int:
    """Bits per sample as stored in the file, before Pillow cuts them to 8. Call before `load`."""
    if image.format == "PNG":
        return data[24]  # IHDR comes first, its depth is at 24
    if image.format == "TIFF":
        return max(image.tag_v2.get(ExifTags.Base.BitsPerSample, (1,)))
    if image.format == "PPM" and image.mode == "I":
        return 16
    if image.format == "PPM" and image.mode == "RGB" and isinstance(image.tile[0].args, tuple):
        return image.tile[0].args[1].bit_length()  # (mode, largest value)
    if image.format == "JPEG2000":
        start = data.index(b"\xff\x4f\xff\x51")  # the code stream: SOC, then SIZ
        return (data[start + 42] & 0x7F) + 1
    if image.format == "AVIF" and b"av1C" in data:
        flags = data[data.index(b"av1C") + 6]
        return 12 if flags & 0x20 else 10 if flags & 0x40 else 8
    return 32 if image.mode in ("I", "F") else 8


def _check_tiff_exif(data, name):
    """Pillow parses the EXIF of a TIFF file when it loads the pixels."""
    order, is_big = "<" if data[:2] == b"II" else ">", b"+" in data[2:4]
    (start,) = struct.unpack_from(order + ("Q" if is_big else "L"), data, 8 if is_big else 4)
    size = 0
    for tag, value_bytes, value in _tiff_entries(data, start, order, is_big):
        if tag in exif.GROUPS:
            size += value_bytes
            size += sum(nested for _, nested, _ in _tiff_entries(data, value, order, is_big))
        elif tag in exif.DESCRIPTIVE_TAGS:
            size += value_bytes
    if size > exif.MAX_PARSED_BYTES:
        raise ImageError(
            f"{name}: expected EXIF of at most {exif.MAX_PARSED_BYTES:,} bytes, received a TIFF "
            f"file that declares {size:,}; remove it first"
        )


def _tiff_entries(data, start, order, is_big):
    """Yields tag, bytes of the value, and the value or its offset, of a directory of a TIFF file.

    A directory that the file's end cuts has the entries before it.
    """
    count_format, entry_format = ("Q", "HHQQ") if is_big else ("H", "HHLL")
    count = struct.Struct(order + count_format)
    entry = struct.Struct(order + entry_format)
    first = start + count.size
    if first > len(data):
        return
    (declared,) = count.unpack_from(data, start)
    for index in range(min(declared, (len(data) - first) // entry.size)):
        tag, kind, number, value = entry.unpack_from(data, first + index * entry.size)
        yield tag, number * _TIFF_VALUE_BYTES.get(kind, 0), value


def _load(image, data, max_pixels):
    """Decodes the pixels."""
    # Pillow applies its limit to TIFF once more here.
    with exif.pillow_limit(max_pixels) if image.format == "TIFF" else contextlib.nullcontext():
        image.load()
    if image.format == "PNG" and image.mode == "L" and "transparency" in image.info:
        # The samples of 2- and 4-bit grey are stretched to 0..255 by Pillow, the key colour is not.
        image.info["transparency"] *= 255 // (2 ** data[24] - 1)


def _standardize(image) -> Image.Image:
    """Converts to mode L, LA, RGB or RGBA."""
    mode = _STANDARD_MODES[image.mode]
    if mode in ("L", "RGB") and image.has_transparency_data:
        mode += "A"
    return image if image.mode == mode else image.convert(mode)


def _to_srgb(image, icc_profile) -> tuple[Image.Image, str]:
    """Converts CMYK or LAB to sRGB; returns it and what the user should know of it."""
    if image.mode == "LAB":
        return image.convert("RGB"), "was converted from CIELAB to sRGB"
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(icc_profile or b""))
        target = ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, source, target, outputMode="RGB")
        return converted, "was converted from CMYK to sRGB by its profile, which is not kept"
    except (OSError, ImageCms.PyCMSError):
        return image.convert("RGB"), (
            "was converted from CMYK to RGB without a usable profile; colours may be off"
        )


def _exif(image) -> bytes | None:
    """The EXIF block with its prefix, or None."""
    if image.format == "TIFF":
        kept = exif.descriptive(image.getexif())
        return kept.tobytes() if len(kept) else None
    block = image.info.get("exif")
    if not block:
        return None
    return block if block.startswith(_EXIF_PREFIX) else _EXIF_PREFIX + block


def _xmp(image) -> bytes | None:
    # The second key is what Pillow makes of a PNG that stores it as plain text.
    xmp = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")
    if isinstance(xmp, str):
        xmp = xmp.encode("utf-8")
    return xmp if isinstance(xmp, bytes) and xmp else None


def decode_alpha(data, width, height) -> np.ndarray:
    """Restores an alpha plane, uint8 `[height, width]`.

    The size is compared before anything is decoded, so the caller's check of `width` and `height`
    against a limit bounds the memory.

    Raises:
        BitstreamError: the data are no PNG in mode L of that size, or are damaged.
    """
    try:
        with exif.pillow_limit(width * height):
            image = Image.open(io.BytesIO(data), formats=("PNG",))
        if image.mode == "L" and image.size == (width, height):
            return np.array(image)
        received = f"mode {image.mode}, {image.width} x {image.height}"
    except Exception as error:
        raise BitstreamError(
            f"alpha: expected an intact PNG of {width} x {height} pixels, received a damaged one "
            f"({one_line(error)})"
        ) from error
    raise BitstreamError(
        f"alpha: expected a PNG in mode L, {width} x {height}, received {received}"
    )
