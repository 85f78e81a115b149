"""Files <-> arrays: whatever Pillow can read becomes 8-bit grey or RGB, and back.

The codec sees two kinds of pixels, `[height, width]` grey and `[height, width, 3]` RGB, both uint8.
Everything that surrounds them in picture files (palettes, CMYK, alpha, colour profiles, EXIF, XMP,
16-bit samples, animations, damage, absurd sizes) is dealt with here, so no other module opens one.

What this module promises:
  * Reading any bytes gives a `Picture` or a `CodecError` of one line that starts with the file's
    name; nothing else, whatever is in them.
  * Pixels stay as the file stores them. An EXIF orientation remains in the EXIF block, so viewers
    turn the picture exactly once. Where no EXIF can be kept, the pixels are turned instead.
  * What was lost on the way in (a CMYK original, further frames) is told in `Picture.warnings`.
  * A file appears under its name whole or not at all.

Pillow is trusted with the decoding, but only for the formats of `_READ_FORMATS`: some of its other
plugins start programs (EPS) or take nearly any bytes for a picture (TGA).
"""

import contextlib
import dataclasses
import errno
import io
import os
import secrets
import struct
import sys
import threading
import warnings

import numpy as np
import PIL
from PIL import ExifTags, Image, ImageCms, PngImagePlugin

from rnn_codec.errors import BitstreamError, CodecError, ImageError

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

# Parsed, EXIF takes up to a hundred times its size. JPEG holds 64 KiB of it.
_MAX_PARSED_EXIF = 2**20

# What never ends, such as /dev/zero, must not fill the memory.
_MAX_FILE_BYTES = 2**31

# Pillow's modes and the one each is converted to; a transparent colour or palette entry adds "A".
_STANDARD_MODES = {
    **dict.fromkeys(("1", "L"), "L"),
    **dict.fromkeys(("LA", "La"), "LA"),
    **dict.fromkeys(("RGB", "RGBX", "P", "CMYK", "YCbCr", "LAB", "HSV"), "RGB"),
    **dict.fromkeys(("RGBA", "RGBa", "PA"), "RGBA"),
}

# The tags of a TIFF directory that describe the picture. The others (sizes, strips, compression)
# describe how a certain file stores it, and would corrupt the next file if they were copied.
_DESCRIPTIVE_TAGS = (
    ExifTags.Base.ImageDescription,
    ExifTags.Base.Make,
    ExifTags.Base.Model,
    ExifTags.Base.Software,
    ExifTags.Base.DateTime,
    ExifTags.Base.Artist,
    ExifTags.Base.Copyright,
)
_TIFF_XMP = 700
_EXIF_GROUPS = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)  # directories below the first one
# Of one value, by its type.
_TIFF_VALUE_BYTES = {
    **dict.fromkeys((1, 2, 6, 7), 1),
    **dict.fromkeys((3, 8), 2),
    **dict.fromkeys((4, 9, 11, 13), 4),
    **dict.fromkeys((5, 10, 12, 16), 8),
}

# How to turn stored pixels upright, by EXIF orientation; 1 is upright.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclasses.dataclass(frozen=True, eq=False)  # `==` on arrays has no single truth value
class Picture:
    """One picture: pixels, alpha, and the metadata blocks that travel with it unread."""

    pixels: np.ndarray  # uint8, [height, width] grey or [height, width, 3] RGB
    alpha: np.ndarray | None = None  # uint8, [height, width]; 0 is transparent, 255 opaque
    icc_profile: bytes | None = None  # describes `pixels`; None: sRGB, by convention
    exif: bytes | None = None  # always with its prefix b"Exif\0\0", then a TIFF header
    xmp: bytes | None = None  # the XML packet, UTF-8
    warnings: tuple[str, ...] = ()  # what reading gave up; each starts with the file's name

    @property
    def height(self) -> int:
        return self.pixels.shape[0]

    @property
    def width(self) -> int:
        return self.pixels.shape[1]

    @property
    def is_rgb(self) -> bool:
        return self.pixels.ndim == 3

    @property
    def mode(self) -> str:
        """ "L", "LA", "RGB" or "RGBA", as Pillow names them."""
        return ("RGB" if self.is_rgb else "L") + ("" if self.alpha is None else "A")


# --- Reading ------------------------------------------------------------------------------------


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
        name, data = name or os.fspath(source), read_bytes(source)
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
            f"({_one_line(error)}); fetch or export it again"
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
    icc_profile, exif, xmp = image.info.get("icc_profile"), _exif(image), _xmp(image)
    if image.mode in ("CMYK", "LAB"):
        image, note = _to_srgb(image, icc_profile)
        icc_profile = None
        notes.append(f"{name}: {note}")
    picture = picture_from_array(np.array(_standardize(image)))
    return dataclasses.replace(
        picture, icc_profile=icc_profile or None, exif=exif, xmp=xmp, warnings=tuple(notes)
    )


# Held while globals have our values: Pillow's limit, and Python's filter of warnings.
_PILLOW_LOCK = threading.RLock()


@contextlib.contextmanager
def _quiet_pillow():
    """Drops Pillow's warnings in a `with` block.

    They are about sizes, which our own messages tell, and about damage, which either matters, and
    becomes an error, or not. The lock keeps our threads apart; it is held for headers, EXIF and
    TIFF files only, so that threads decode side by side.
    """
    with _PILLOW_LOCK, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


@contextlib.contextmanager
def _pillow_limit(max_pixels):
    """Makes `max_pixels` Pillow's own bound on sizes in a `with` block, and silences its warnings.

    Pillow warns above `Image.MAX_IMAGE_PIXELS` and raises above twice that, in `Image.open` and
    for TIFF in `load` too. With our value there, `max_pixels` may exceed Pillow's, and formats
    whose decoder allocates in `open` (WebP) are still stopped at twice the bound; the caller
    compares the exact size.
    """
    with _quiet_pillow():
        saved = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = max_pixels
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = saved


def _open(data, name, max_pixels, formats) -> Image.Image:
    """Reads the header, in words of ours where that fails."""
    try:
        with _pillow_limit(max_pixels):
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
        if tag in _EXIF_GROUPS:
            size += value_bytes
            size += sum(nested for _, nested, _ in _tiff_entries(data, value, order, is_big))
        elif tag in _DESCRIPTIVE_TAGS:
            size += value_bytes
    if size > _MAX_PARSED_EXIF:
        raise ImageError(
            f"{name}: expected EXIF of at most {_MAX_PARSED_EXIF:,} bytes, received a TIFF file "
            f"that declares {size:,}; remove it first"
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
    with _pillow_limit(max_pixels) if image.format == "TIFF" else contextlib.nullcontext():
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
        kept = _descriptive(image.getexif())
        return kept.tobytes() if len(kept) else None
    exif = image.info.get("exif")
    if not exif:
        return None
    return exif if exif.startswith(_EXIF_PREFIX) else _EXIF_PREFIX + exif


def _descriptive(directory) -> Image.Exif:
    """The part of a TIFF or EXIF directory that describes the picture, not its storage."""
    kept = Image.Exif()
    kept.update({tag: directory[tag] for tag in _DESCRIPTIVE_TAGS if tag in directory})
    for group in _EXIF_GROUPS:
        # Interop is an offset into the old file.
        tags = {k: v for k, v in directory.get_ifd(group).items() if k != ExifTags.IFD.Interop}
        if tags:
            kept.get_ifd(group).update(tags)
            kept[group] = kept.get_ifd(group)
    return kept


def _xmp(image) -> bytes | None:
    # The second key is what Pillow makes of a PNG that stores it as plain text.
    xmp = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")
    if isinstance(xmp, str):
        xmp = xmp.encode("utf-8")
    return xmp if isinstance(xmp, bytes) and xmp else None


# --- Arrays -------------------------------------------------------------------------------------


def picture_from_array(array) -> Picture:
    """Makes a picture, without metadata, of an array.

    Args:
        array: uint8, `[H, W]` or `[H, W, 1]` grey, `[H, W, 2]` grey and alpha, `[H, W, 3]` RGB,
            `[H, W, 4]` RGB and alpha. It is copied.

    Raises:
        ImageError: any other shape or type.
    """
    array = np.asarray(array)
    channels = array.shape[2] if array.ndim == 3 else 1
    if (
        array.dtype != np.uint8
        or array.ndim not in (2, 3)
        or not array.size
        or channels not in (1, 2, 3, 4)
    ):
        raise ImageError(
            "array: expected uint8 of shape [H, W], or [H, W, channels] with 1 to 4 channels, and "
            f"at least one pixel, received {array.dtype} of shape {list(array.shape)}; convert it"
        )
    array = array.reshape(*array.shape[:2], channels)
    has_alpha = channels in (2, 4)
    pixels = array[..., :3] if channels >= 3 else array[..., 0]
    return Picture(pixels=pixels.copy(), alpha=array[..., -1].copy() if has_alpha else None)


def to_array(picture) -> np.ndarray:
    """The inverse of `picture_from_array`: uint8, `[H, W]`, or `[H, W, 2 to 4]` as there."""
    if picture.alpha is None:
        return picture.pixels.copy()
    pixels = picture.pixels if picture.is_rgb else picture.pixels[..., None]
    return np.concatenate([pixels, picture.alpha[..., None]], axis=2)


def without_metadata(picture) -> Picture:
    """The picture without ICC profile, EXIF and XMP.

    Its pixels are turned upright, as nothing tells viewers to do so any more.
    """
    turned = _turn_upright(Image.fromarray(to_array(picture)), picture.exif)
    bare = picture_from_array(np.asarray(turned))
    return dataclasses.replace(bare, warnings=picture.warnings)


# --- Writing ------------------------------------------------------------------------------------

_ANY = 2**31 - 1


@dataclasses.dataclass(frozen=True)
class _Format:
    """What a file format can hold, and the settings with which it loses least."""

    name: str  # Pillow's
    extensions: tuple[str, ...]
    alpha: bool = True
    metadata: dict[str, int] = dataclasses.field(default_factory=dict)  # field -> largest bytes
    options: dict = dataclasses.field(default_factory=dict)


_EVERY_BLOCK = {"icc_profile": _ANY, "exif": _ANY, "xmp": _ANY}
_EXIF_PARSERS = ("AVIF", "TIFF")  # Pillow parses EXIF to store it in these
_FORMATS = (
    _Format("PNG", (".png",), metadata=_EVERY_BLOCK),
    _Format(
        "JPEG",
        (".jpg", ".jpeg", ".jpe", ".jfif"),
        alpha=False,
        # A segment has 65,533 bytes, of which XMP's name takes 29; a profile may use 255.
        metadata={"icc_profile": 255 * 65519, "exif": 65533, "xmp": 65504},
        options={"quality": 95, "subsampling": 0},
    ),
    # `exact` keeps the colour of transparent pixels. Grey is stored as RGB.
    _Format("WEBP", (".webp",), metadata=_EVERY_BLOCK, options={"lossless": True, "exact": True}),
    # Not lossless: off by up to 3 levels even so. Pillow cannot ask for more.
    _Format(
        "AVIF", (".avif",), metadata=_EVERY_BLOCK, options={"quality": 100, "subsampling": "4:4:4"}
    ),
    # Uncompressed: Pillow's compressing writer fails on EXIF with sub-directories. Of EXIF, the
    # part that describes the picture is kept.
    _Format("TIFF", (".tif", ".tiff"), metadata=_EVERY_BLOCK, options={"compression": "raw"}),
    _Format("BMP", (".bmp",), alpha=False),
    _Format("PPM", (".ppm", ".pgm", ".pnm"), alpha=False),
    _Format("JPEG2000", (".jp2",), options={"irreversible": False}),  # lossless
)
_FORMAT_BY_KEY = {key: one for one in _FORMATS for key in ("." + one.name.lower(), *one.extensions)}


def write_picture(picture, path, image_format=None) -> bytes | None:
    """Writes a picture to a file, with as little loss as the format allows.

    Lossless in PNG, WebP, TIFF, BMP, PPM and JPEG 2000; JPEG at quality 95 and AVIF at 100, both
    with full colour resolution. Metadata blocks that the format cannot hold are left out without
    a word (`unstored_metadata` names them); an EXIF orientation is then applied to the pixels.

    Args:
        picture: `Picture`.
        path: path of the file, written atomically; None to get the bytes instead.
        image_format: string such as "png" or "jpeg". Defaults to the path's extension; without a
            path, to PNG.

    Returns:
        The bytes of the file if `path` is None, else None.

    Raises:
        ImageError: the format is unknown or cannot hold the picture.
        CodecError: the file cannot be written.
    """
    if path is None:
        return picture_bytes(picture, image_format or "png")
    path = os.fspath(path)
    target = _find_format(image_format or os.path.splitext(path)[1], path)
    write_atomically(path, _encode(picture, target, path))
    return None


def picture_bytes(picture, image_format) -> bytes:
    """The bytes of the file that `write_picture` writes in this format ("png", "jpeg", ...)."""
    name = f"picture as {image_format}"
    return _encode(picture, _find_format(image_format, name), name)


def unstored_metadata(picture, image_format) -> tuple[str, ...]:
    """Names the metadata blocks of a picture ("exif", ...) that a file of this format cannot hold.

    `image_format` is a format or an extension. Blocks too long for JPEG and EXIF that is damaged
    count as well.
    """
    stored = _storable(picture, _find_format(image_format, f"picture as {image_format}"))
    return tuple(field for field in _EVERY_BLOCK if getattr(picture, field) and field not in stored)


def _find_format(key, name) -> _Format:
    found = _FORMAT_BY_KEY.get("." + key.lower().removeprefix("."))
    if found is None:
        known = " ".join(extension for one in _FORMATS for extension in one.extensions)
        raise ImageError(
            f"{name}: expected a picture format to write ({known}), received "
            f"{repr(key) if key else 'no extension'}; change the extension or name a format"
        )
    return found


def _encode(picture, target, name) -> bytes:
    """Encodes a picture; `name` starts the messages."""
    if picture.alpha is not None and not target.alpha:
        raise ImageError(
            f"{name}: expected a picture without alpha, which {target.name} cannot hold, received "
            f"{picture.mode}; write PNG or WebP instead"
        )
    image = Image.fromarray(to_array(picture))
    blocks = _storable(picture, target)
    if "exif" not in blocks:
        image = _turn_upright(image, picture.exif)
    parses_exif = "exif" in blocks and target.name in _EXIF_PARSERS
    file = io.BytesIO()
    try:
        with _quiet_pillow() if parses_exif else contextlib.nullcontext():
            image.save(file, target.name, **target.options, **_metadata_options(blocks, target))
    except Exception as error:  # Pillow's writers raise as many types as its readers
        raise ImageError(
            f"{name}: expected a picture that {target.name} can hold, received {picture.width} x "
            f"{picture.height} {picture.mode} ({_one_line(error)}); write PNG instead"
        ) from error
    return file.getvalue()


def _storable(picture, target) -> dict[str, bytes]:
    """The metadata blocks that a file of this format can hold, by their names in `Picture`."""
    blocks = {field: getattr(picture, field) for field in target.metadata}
    if target.name in _EXIF_PARSERS and not _exif_directory(blocks["exif"]):
        blocks["exif"] = None  # parsing a damaged one fails
    return {
        field: block
        for field, block in blocks.items()
        if block and len(block) <= target.metadata[field]
    }


def _metadata_options(blocks, target) -> dict:
    """The arguments of `Image.save` that store these blocks."""
    options = dict(blocks)
    if target.name == "PNG" and "xmp" in blocks:
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", options.pop("xmp"))
    if target.name == "TIFF":
        directory = _exif_directory(blocks.get("exif"))
        options["exif"] = _descriptive(directory)
        if ExifTags.Base.Orientation in directory:
            options["exif"][ExifTags.Base.Orientation] = directory[ExifTags.Base.Orientation]
        if "xmp" in blocks:
            options["exif"][_TIFF_XMP] = options.pop("xmp")
    return options


def _turn_upright(image, exif) -> Image.Image:
    """Applies the EXIF orientation to the pixels."""
    orientation = _exif_directory(exif).get(ExifTags.Base.Orientation)
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def _exif_directory(exif) -> Image.Exif:
    """Parses an EXIF block; empty where that fails, as damaged EXIF must not cost the picture."""
    directory = Image.Exif()
    if len(exif or b"") > _MAX_PARSED_EXIF:
        return directory
    try:
        with _quiet_pillow():
            directory.load(exif or b"")
            directory.tobytes()  # reads every tag, which `load` leaves for later
    except Exception:  # noqa: BLE001 (Pillow's parser raises of any kind)
        return Image.Exif()
    return directory


# --- Files --------------------------------------------------------------------------------------


def read_bytes(path) -> bytes:
    """The contents of a file; `CodecError` if it is missing, a folder, or not to be read."""
    try:
        with open(path, "rb") as file:
            return read_stream(file, path)
    except FileNotFoundError as error:
        raise CodecError(f"{path}: expected a file, found none; check the path") from error
    except IsADirectoryError as error:
        raise CodecError(f"{path}: expected a file, found a folder; name a file in it") from error
    except OSError as error:
        raise CodecError(
            f"{path}: expected a readable file, received an error ({_reason(error)}); check its "
            "permissions and its disk"
        ) from error


def read_stream(file, name) -> bytes:
    """All that an open binary file holds; `CodecError` as soon as it is more than 2 GiB."""
    data = io.BytesIO()
    while block := file.read(2**20):
        data.write(block)
        if data.tell() > _MAX_FILE_BYTES:
            raise CodecError(
                f"{name}: expected at most {_MAX_FILE_BYTES:,} bytes, received more; name another "
                "file"
            )
    return data.getvalue()


def write_atomically(path, data: bytes):
    """Writes a file so that its name shows the old contents or the new ones, never a part.

    The data go to a new file in the same folder, reach the disk, and take the name in one step.
    A link stays one (its target is replaced). What is no regular file, such as `/dev/null`
    or a pipe, is written to directly: it must not be replaced.

    Raises:
        CodecError: the file cannot be written. Nothing is left behind.
    """
    path = os.fspath(path)
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            with open(path, "wb") as file:
                file.write(data)
        else:
            _replace(os.path.realpath(path), data)
    except OSError as error:
        raise CodecError(_write_fault(path, error)) from error


def _replace(path, data):
    temporary = os.path.join(os.path.dirname(path), f".rnn_codec-{secrets.token_hex(8)}.tmp")
    try:
        # Not tempfile: its files are private to their owner, and ours should follow the umask.
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:  # an interrupt at the keyboard too
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _write_fault(path, error) -> str:
    folder = os.path.dirname(path) or "."
    if isinstance(error, IsADirectoryError):
        return f"{path}: expected a file to write, found a folder; name a file in it"
    if isinstance(error, FileNotFoundError):
        return f"{path}: expected an existing folder {folder}, found none; create it first"
    if isinstance(error, PermissionError) or error.errno == errno.EROFS:
        return f"{path}: expected a writable folder {folder} ({_reason(error)}); choose another"
    return f"{path}: could not be written ({_reason(error)}); check the disk or choose another"


def _reason(error) -> str:
    """An `OSError` without the paths that its text repeats."""
    return error.strerror or _one_line(error)


def _one_line(error) -> str:
    return " ".join(str(error).split()) or type(error).__name__


# --- Alpha and padding --------------------------------------------------------------------------


def encode_alpha(alpha) -> bytes:
    """Compresses an alpha plane, uint8 `[H, W]`, without loss: a grey PNG."""
    file = io.BytesIO()
    Image.fromarray(alpha).save(file, "PNG", optimize=True)
    return file.getvalue()


def decode_alpha(data, width, height) -> np.ndarray:
    """Restores an alpha plane, uint8 `[height, width]`.

    The size is compared before anything is decoded, so the caller's check of `width` and `height`
    against a limit bounds the memory.

    Raises:
        BitstreamError: the data are no PNG in mode L of that size, or are damaged.
    """
    try:
        with _pillow_limit(width * height):
            image = Image.open(io.BytesIO(data), formats=("PNG",))
        if image.mode == "L" and image.size == (width, height):
            return np.array(image)
        received = f"mode {image.mode}, {image.width} x {image.height}"
    except Exception as error:
        raise BitstreamError(
            f"alpha: expected an intact PNG of {width} x {height} pixels, received a damaged one "
            f"({_one_line(error)})"
        ) from error
    raise BitstreamError(
        f"alpha: expected a PNG in mode L, {width} x {height}, received {received}"
    )


def pad_to_multiple(pixels, multiple) -> np.ndarray:
    """Extends a picture at the bottom and on the right until its sides are multiples.

    The last rows and columns are mirrored about the picture's edge (half-sample symmetry: the edge
    row itself is repeated first), as often as it takes, so that no artificial edge costs bits and
    one pixel suffices. To undo it, slice: `padded[:height, :width]`.

    Args:
        pixels: `[H, W, 3]`, or any array whose first two axes are rows and columns.
        multiple: int, at least 1.

    Returns:
        `[ceil(H / multiple) * multiple, ceil(W / multiple) * multiple, 3]`, a new array unless
        nothing is to be added.
    """
    if multiple < 1:
        raise ValueError(f"Expected a multiple of at least 1. Received: multiple={multiple}")
    height, width = pixels.shape[:2]
    if height % multiple == 0 and width % multiple == 0:
        return pixels
    margins = [(0, -height % multiple), (0, -width % multiple)] + [(0, 0)] * (pixels.ndim - 2)
    return np.pad(pixels, margins, mode="symmetric")
