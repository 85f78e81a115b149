"""Pictures to files, in the formats that Pillow writes, with as little loss as each allows."""

import contextlib
import dataclasses
import io
import os

import numpy as np
from PIL import ExifTags, Image, PngImagePlugin

from rnn_codec import storage
from rnn_codec.errors import ImageError, one_line
from rnn_codec.pictures import exif
from rnn_codec.pictures.picture import Picture, picture_from_array, to_array

_TIFF_XMP = 700
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
    storage.write_atomically(path, _encode(picture, target, path))
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


def without_metadata(picture) -> Picture:
    """The picture without ICC profile, EXIF and XMP.

    Its pixels are turned upright, as nothing tells viewers to do so any more.
    """
    turned = exif.turn_upright(Image.fromarray(to_array(picture)), picture.exif)
    bare = picture_from_array(np.asarray(turned))
    return dataclasses.replace(bare, warnings=picture.warnings)


def encode_alpha(alpha) -> bytes:
    """Compresses an alpha plane, uint8 `[H, W]`, without loss: a grey PNG."""
    file = io.BytesIO()
    Image.fromarray(alpha).save(file, "PNG", optimize=True)
    return file.getvalue()


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
        image = exif.turn_upright(image, picture.exif)
    parses_exif = "exif" in blocks and target.name in _EXIF_PARSERS
    file = io.BytesIO()
    try:
        with exif.quiet_pillow() if parses_exif else contextlib.nullcontext():
            image.save(file, target.name, **target.options, **_metadata_options(blocks, target))
    except Exception as error:  # Pillow's writers raise as many types as its readers
        raise ImageError(
            f"{name}: expected a picture that {target.name} can hold, received {picture.width} x "
            f"{picture.height} {picture.mode} ({one_line(error)}); write PNG instead"
        ) from error
    return file.getvalue()


def _storable(picture, target) -> dict[str, bytes]:
    """The metadata blocks that a file of this format can hold, by their names in `Picture`."""
    blocks = {field: getattr(picture, field) for field in target.metadata}
    if target.name in _EXIF_PARSERS and not exif.directory_of(blocks["exif"]):
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
        directory = exif.directory_of(blocks.get("exif"))
        options["exif"] = exif.descriptive(directory)
        if ExifTags.Base.Orientation in directory:
            options["exif"][ExifTags.Base.Orientation] = directory[ExifTags.Base.Orientation]
        if "xmp" in blocks:
            options["exif"][_TIFF_XMP] = options.pop("xmp")
    return options
