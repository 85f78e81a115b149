"""EXIF blocks as Pillow parses them, and the guards round what is global in Pillow."""

import contextlib
import threading
import warnings

from PIL import ExifTags, Image

# Parsed, EXIF takes up to a hundred times its size. JPEG holds 64 KiB of it.
MAX_PARSED_BYTES = 2**20

# The tags of a TIFF directory that describe the picture. The others (sizes, strips, compression)
# describe how a certain file stores it, and would corrupt the next file if they were copied.
DESCRIPTIVE_TAGS = (
    ExifTags.Base.ImageDescription,
    ExifTags.Base.Make,
    ExifTags.Base.Model,
    ExifTags.Base.Software,
    ExifTags.Base.DateTime,
    ExifTags.Base.Artist,
    ExifTags.Base.Copyright,
)

GROUPS = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)  # directories below the first one

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


def directory_of(exif) -> Image.Exif:
    """Parses an EXIF block; empty where that fails, as damaged EXIF must not cost the picture."""
    directory = Image.Exif()
    if len(exif or b"") > MAX_PARSED_BYTES:
        return directory
    try:
        with quiet_pillow():
            directory.load(exif or b"")
            directory.tobytes()  # reads every tag, which `load` leaves for later
    except Exception:  # noqa: BLE001 (Pillow's parser raises of any kind)
        return Image.Exif()
    return directory


def descriptive(directory) -> Image.Exif:
    """The part of a TIFF or EXIF directory that describes the picture, not its storage."""
    kept = Image.Exif()
    kept.update({tag: directory[tag] for tag in DESCRIPTIVE_TAGS if tag in directory})
    for group in GROUPS:
        # Interop is an offset into the old file.
        tags = {k: v for k, v in directory.get_ifd(group).items() if k != ExifTags.IFD.Interop}
        if tags:
            kept.get_ifd(group).update(tags)
            kept[group] = kept.get_ifd(group)
    return kept


def turn_upright(image, exif) -> Image.Image:
    """Applies the EXIF orientation to the pixels."""
    orientation = directory_of(exif).get(ExifTags.Base.Orientation)
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


# Held while globals have our values: Pillow's limit, and Python's filter of warnings.
_PILLOW_LOCK = threading.RLock()


@contextlib.contextmanager
def quiet_pillow():
    """Drops Pillow's warnings in a `with` block.

    They are about sizes, which our own messages tell, and about damage, which either matters, and
    becomes an error, or not. The lock keeps our threads apart; it is held for headers, EXIF and
    TIFF files only, so that threads decode side by side.
    """
    with _PILLOW_LOCK, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


@contextlib.contextmanager
def pillow_limit(max_pixels):
    """Makes `max_pixels` Pillow's own bound on sizes in a `with` block, and silences its warnings.

    Pillow warns above `Image.MAX_IMAGE_PIXELS` and raises above twice that, in `Image.open` and
    for TIFF in `load` too. With our value there, `max_pixels` may exceed Pillow's, and formats
    whose decoder allocates in `open` (WebP) are still stopped at twice the bound; the caller
    compares the exact size.
    """
    with quiet_pillow():
        saved = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = max_pixels
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = saved
