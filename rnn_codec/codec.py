"""What all codecs share: arrays, files, targets, many pictures, metadata, and checks of requests.

The workflow: `rnn_codec.load()` once, then `encode` and `decode` on arrays and bytes, or
`encode_picture` and `decode_picture` where metadata, targets and figures matter. Everything wrong
with a file or a request is a `CodecError`.
"""

import abc
from collections.abc import Iterator
import dataclasses
import functools
import os
from typing import Any

import numpy as np

from rnn_codec import loading, presets, storage
from rnn_codec.container import bitstream
from rnn_codec.errors import BitstreamError, CodecError, ModelMismatchError
from rnn_codec.frames import ExactFiles, is_exact
from rnn_codec.pictures import metrics, reading, writing
from rnn_codec.pictures.picture import Picture, picture_from_array, to_array
from rnn_codec.targets import Target

# So many in blocks are no danger, however few pixels were allowed.
_ANY_PIXELS = 2**20


@dataclasses.dataclass(frozen=True)
class Encoded:
    """A file and what the encoder knows of it. Figures of quality are computed when asked for."""

    data: bytes
    iterations: int
    original: Picture
    picture: Picture  # what `decode` returns for `data`, but for rounding
    warnings: tuple[str, ...] = ()

    @property
    def settings(self) -> dict[str, Any]:
        """What the encoder chose, by name."""
        return {"iterations": self.iterations}

    @property
    def bpp(self) -> float:
        """Bits per pixel of the whole file."""
        return 8 * len(self.data) / (self.original.width * self.original.height)

    @functools.cached_property
    def psnr_db(self) -> float:
        """Over all 8-bit samples, alpha apart."""
        return metrics.psnr_db(self.original.pixels, self.picture.pixels)

    @functools.cached_property
    def ms_ssim(self) -> float | None:
        """Mean of the channels; None for a side below 161 pixels, too small for five scales."""
        return metrics.ms_ssim(self.original.pixels, self.picture.pixels)


class Codec(abc.ABC):
    """Trained networks, ready to encode and decode: the base of each wing's codec.

    Example:
        codec = rnn_codec.load()
        data = codec.encode(image, iterations=4)        # uint8 [H, W, 3] -> bytes
        preview = codec.decode(data, iterations=1)      # bytes -> uint8 [H, W, 3]

    Attributes:
        config: the preset's configuration.
        preset: `presets.Preset` with weights.
        identity: bytes that name the preset in files.
    """

    def __init__(self, preset: presets.Preset):
        self.config = preset.config
        self.preset = preset
        self.identity = preset.identity

    @staticmethod
    def from_preset(
        name: str | None = None, precision: str = "float32", arithmetic: str = "numpy"
    ) -> "Codec":
        """The same as `rnn_codec.load`."""
        return loading.load(name, precision, arithmetic)

    def encode(
        self,
        image: np.ndarray,
        iterations: int | None = None,
        target_bpp: float | None = None,
        target_bytes: int | None = None,
        target_psnr: float | None = None,
        target_msssim: float | None = None,
        **options: Any,
    ) -> bytes:
        """Compresses pixels.

        Args:
            image: uint8 `[H, W, 3]`, `[H, W]` or `[H, W, 1]` (grey), `[H, W, 4]` (RGBA) or
                `[H, W, 2]` (grey and alpha). Any size.
            iterations: int. Defaults to all that the preset has.
            target_bpp, target_bytes, target_psnr, target_msssim: instead of `iterations`; see
                `Target`.
            **options: as for `encode_picture`, which has more in each wing.

        Returns:
            bytes of a `.rnnc` file.

        Raises:
            CodecError: the array is no such picture, or the request cannot be met.
        """
        target = Target(iterations, target_bpp, target_bytes, target_psnr, target_msssim)
        return self.encode_picture(picture_from_array(image), target, **options).data

    @abc.abstractmethod
    def encode_picture(
        self, picture: Picture, target: Target = Target(), **options: Any
    ) -> Encoded:
        """Compresses a picture with its metadata.

        Args:
            picture: `Picture`.
            target: `Target`.
            **options: what the wing has besides.

        Returns:
            `Encoded`.

        Raises:
            CodecError: the target cannot be met.
        """

    def encode_pictures(
        self, pictures: list[Picture], target: Target = Target(), **options: Any
    ) -> list[Encoded | CodecError]:
        """Compresses several pictures; small ones of one size together, where that is faster.

        Args:
            pictures: list of `Picture`.
            target: `Target` of each.
            **options: as for `encode_picture`.

        Returns:
            List with the `Encoded` of each picture, or the `CodecError` that it met. In a batch the
            network may round otherwise than for one picture, and a bit may differ for it.

        Raises:
            CodecError: the request would be wrong for any picture.
        """
        return [caught(self.encode_picture, picture, target, **options) for picture in pictures]

    @abc.abstractmethod
    def decode_picture(
        self,
        data: bytes,
        iterations: list[int] | str | None = None,
        strict: bool = False,
        limits: bitstream.Limits = bitstream.Limits(),
    ) -> Iterator[tuple[int, Picture]]:
        """Restores a picture with its metadata, at one or more iteration counts.

        Args:
            data: bytes of a `.rnnc` file, or of its beginning.
            iterations: list of int, or "all". Defaults to the last whole one.
            strict: bool. Whether any damage is an error.
            limits: `bitstream.Limits`, checked before anything is allocated.

        Yields:
            Pairs of iteration count and `Picture`, in ascending order. The pictures'
            warnings tell what was damaged.

        Raises:
            CodecError: as for `decode`.
        """

    def decode_pictures(
        self,
        files: list[bytes],
        iterations: list[int] | str | None = None,
        strict: bool = False,
        limits: bitstream.Limits = bitstream.Limits(),
    ) -> list[list[tuple[int, Picture]] | CodecError]:
        """Restores the pictures of several files; small ones of one size together.

        Args:
            files: list of bytes, each of a `.rnnc` file, or of its beginning.
            iterations, strict, limits: as for `decode_picture`, for each of them.

        Returns:
            List with, for each file, the list of what `decode_picture` yields, or the `CodecError`
            that it met.
        """

        def decode(data):
            return list(self.decode_picture(data, iterations, strict, limits))

        return [caught(decode, data) for data in files]

    @abc.abstractmethod
    def read_planes(
        self,
        data: bytes,
        iterations: int | None = None,
        limits: bitstream.Limits = bitstream.Limits(),
    ) -> list[np.ndarray]:
        """The bits of a file, which are the same wherever it is read.

        Args:
            data: bytes of a `.rnnc` file, or of its beginning.
            iterations: int. Defaults to all whole ones.
            limits: `bitstream.Limits`.

        Returns:
            List of uint8 arrays, one for each iteration.

        Raises:
            CodecError: as for `decode`.
        """

    def save_preset(self, folder: str) -> None:
        """Writes configuration and weights; `rnn_codec.load(folder)` reads them."""
        presets.save(self.preset, folder)

    def decode(
        self, data: bytes, iterations: int | None = None, strict: bool = False
    ) -> np.ndarray:
        """Restores pixels.

        Args:
            data: bytes of a `.rnnc` file, or of its beginning.
            iterations: int. Defaults to all whole ones that the bytes hold.
            strict: bool. Whether any damage is an error, not only damage that leaves nothing.

        Returns:
            uint8 array, shaped as it was given to `encode` (`[H, W]` for grey).

        Raises:
            CodecError: the bytes are no such file, of another model, or hold fewer iterations.
        """
        return to_array(self._last_picture(data, iterations, strict))

    def _last_picture(self, data, iterations, strict):
        reader = ExactFiles() if is_exact(data) else self
        counts = None if iterations is None else [iterations]
        ((_, picture),) = reader.decode_picture(data, counts, strict=strict)
        return picture

    def encode_file(
        self,
        source: str | os.PathLike | bytes,
        destination: str | os.PathLike,
        target: Target = Target(),
        **options: Any,
    ) -> Encoded:
        """Compresses the picture of one file into another, with its metadata.

        Args:
            source: path of a picture, or its bytes.
            destination: path of the `.rnnc` file, written whole or not at all.
            target: `Target`.
            **options: as for `encode_picture`.

        Returns:
            `Encoded`.

        Raises:
            CodecError: a file cannot be read or written, or the target cannot be met.
        """
        _check_destination(source, destination)
        encoded = self.encode_picture(reading.read_picture(source), target, **options)
        storage.write_atomically(destination, encoded.data)
        return encoded

    def decode_file(
        self,
        source: str | os.PathLike,
        destination: str | os.PathLike,
        iterations: int | None = None,
        strict: bool = False,
    ) -> Picture:
        """Restores the picture of a `.rnnc` file into a file in the format of its extension.

        Args:
            source: path of a `.rnnc` file.
            destination: path of the picture, written whole or not at all.
            iterations, strict: as for `decode`.

        Returns:
            `Picture`, as written.

        Raises:
            CodecError: as for `decode`, or a file cannot be read or written.
        """
        _check_destination(source, destination)
        picture = self._last_picture(storage.read_bytes(source), iterations, strict)
        writing.write_picture(picture, destination)
        return picture

    def header_of(self, picture: Picture, iterations: int) -> bitstream.Header:
        """The `bitstream.Header` of a picture's file."""
        return bitstream.Header(
            width=picture.width,
            height=picture.height,
            is_rgb=picture.is_rgb,
            has_alpha=picture.alpha is not None,
            iterations=iterations,
            model_id=self.identity,
        )

    def check_model(self, header: bitstream.Header) -> None:
        """Raises `CodecError` for a file that another model wrote."""
        if header.model_id != self.identity:
            raise ModelMismatchError(
                f"expected a file of model {self.identity.hex()} (preset {self.config.name!r}), "
                f"received one of model {header.model_id.hex()}; decode it with the preset that "
                "wrote it"
            )
        if header.iterations > self.config.iterations:
            raise BitstreamError(
                f"the header declares {header.iterations} iterations, where preset "
                f"{self.config.name!r} has {self.config.iterations}; the file was not written by "
                "this codec"
            )


def caught(function, *arguments, **options):
    """What a function returns, or the `CodecError` that it raises."""
    try:
        return function(*arguments, **options)
    except CodecError as error:
        return error.with_traceback(None)  # which would keep the pictures alive


def check_similarity_target(target, picture):
    """Raises `CodecError` where a picture is too small for the figure that a target names."""
    if target.target_msssim is not None and min(picture.pixels.shape[:2]) < metrics.MINIMUM_SIDE:
        raise CodecError(
            f"expected sides of at least {metrics.MINIMUM_SIDE} pixels for a target MS-SSIM, "
            f"received {picture.width} x {picture.height}; give another target"
        )


def reaches(target, original, restored):
    """Whether restored pixels have the quality that a target names."""
    if target.target_psnr is not None:
        return metrics.psnr_db(original, restored) >= target.target_psnr
    return metrics.ms_ssim(original, restored) >= target.target_msssim


def check_blocks(header, limits, side):
    """Raises `BitstreamError` for a picture of few pixels, but so narrow that its blocks have many.

    Args:
        header: `bitstream.Header`.
        limits: `bitstream.Limits`.
        side: int. Of a block, in pixels.
    """
    blocks = -(-header.height // side) * -(-header.width // side)
    if blocks * side**2 > 2 * limits.max_pixels + _ANY_PIXELS:
        raise BitstreamError(
            f"the header declares {header.width} x {header.height} pixels, which takes {blocks} "
            f"blocks of {side} x {side}, more than twice the limit of {limits.max_pixels} pixels; "
            "raise the limit if you trust the file"
        )


def extras_of(picture):
    """What a file carries beside the pixels: `bitstream.Metadata`, and alpha's bytes or None."""
    alpha = None if picture.alpha is None else writing.encode_alpha(picture.alpha)
    return bitstream.Metadata(picture.icc_profile, picture.exif, picture.xmp), alpha


def check_held(counts, contents, field="planes"):
    """Raises `BitstreamError` for iteration counts that a file does not hold.

    Args:
        counts: sequence of int, from 1.
        contents: `bitstream.Contents`.
        field: str. Which of them has the picture in files that the codec writes.
    """
    if not getattr(contents, field):
        raise BitstreamError(
            f"expected a file of {field}, received one that holds its picture in another way; it "
            "was not written by this codec"
        )
    held = contents.iterations
    absent = [count for count in counts if count not in range(1, held + 1)]
    if absent:
        raise BitstreamError(
            f"expected 1 to {held} iterations, which is what the file holds, received {absent[0]!r}"
        )


def target_too_low(target, size, picture, what):
    """The `CodecError` for a bound that the smallest file exceeds; `what` makes it, of `size`."""
    bound = f"{target.target_bytes} bytes"
    if target.target_bpp is not None:
        bound = f"{target.target_bpp:g} bits per pixel"
    return CodecError(
        f"expected a file of at most {bound}, but {what} with what the picture carries takes "
        f"{size} bytes, {8 * size / (picture.width * picture.height):.3g} bits per "
        "pixel; raise the target, or drop metadata and alpha"
    )


def with_missed_target(encoded, target, where):
    """An `Encoded` with a warning if it does not reach the target; `where` says with what."""
    for name, wanted, figure in (
        ("PSNR", target.target_psnr, "psnr_db"),
        ("MS-SSIM", target.target_msssim, "ms_ssim"),
    ):
        if wanted is not None and getattr(encoded, figure) < wanted:
            warning = (
                f"the target {name} of {wanted:g} is not reached: "
                f"{getattr(encoded, figure):.4g} {where}"
            )
            encoded = dataclasses.replace(encoded, warnings=(*encoded.warnings, warning))
    return encoded


def _check_destination(source, destination):
    """A result must not replace what it was made of."""
    is_path = isinstance(source, (str, os.PathLike))
    if is_path and os.path.realpath(source) == os.path.realpath(destination):
        raise CodecError(f"{destination}: is the input too; name another file")
