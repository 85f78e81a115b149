"""Pictures to `.rnnc` bytes and back through networks around a standard codec.

ComCNN makes a picture of half the size that the standard codec stores and RecCNN can restore well;
at high rates the picture itself is stored, and RecCNN removes what the codec did to it. The encoder
takes what is better. The standard codec's file is the one plane of the `.rnnc` file, so it can be
taken out and shown by anything (`base_codecs.extract`); its size tells how it was made.

A conditioned RecCNN is told the standard codec and its quality, for which the file has a number.
What it adds to a picture is multiplied by the strength, a number in the file; the encoder takes
that of the least squared error. So a picture that is good already is left as it is.
"""

import bisect
import dataclasses
import functools
import math

from keras import ops
import numpy as np

from rnn_codec import presets
from rnn_codec.backend import compilation
from rnn_codec.codec import (
    Codec,
    Encoded,
    check_held,
    check_similarity_target,
    frame_of,
    reaches,
    target_too_low,
    with_missed_target,
)
from rnn_codec.container import bitstream
from rnn_codec.errors import BitstreamError, CodecError
from rnn_codec.hybrid import networks as hybrid_networks
from rnn_codec.hybrid.config import STORED_SIZES
from rnn_codec.hybrid.networks import HybridNetwork
from rnn_codec.layers.common import dtype_policy
from rnn_codec.pictures import metrics, writing
from rnn_codec.pictures.picture import pad_to_multiple, picture_from_array
from rnn_codec.standard import codecs as base_codecs
from rnn_codec.targets import Target

# In cells of 2x2 pixels of the picture. The margin covers what 20 layers at half the size, and the
# bicubic filter before them, reach over. A tile takes about 0.6 GB.
_MARGIN, _TILE = 24, 384

# In levels: more than any residual has.
_MAX_RESIDUAL = 510


@dataclasses.dataclass(frozen=True)
class HybridEncoded(Encoded):
    """A file, and the standard codec in it."""

    base: str = ""
    quality: int | float = 0  # of the standard codec
    stored_size: str = ""  # a name in `STORED_SIZES`

    @property
    def settings(self):
        return {"base": self.base, "quality": self.quality, "stored_size": self.stored_size}


class HybridCodec(Codec):
    """Trained networks around a standard codec.

    Example:
        codec = rnn_codec.load("hybrid")
        data = codec.encode(image, quality=40)          # uint8 [H, W, 3] -> bytes
        restored = codec.decode(data)                   # bytes -> uint8 [H, W, 3]

    Args:
        preset: `presets.Preset` of a `HybridConfig`, with weights.
        precision: str. As for `Codec`; ComCNN computes in float32 always.
    """

    def __init__(self, preset, precision="float32"):
        super().__init__(preset)
        if precision == "auto":
            precision = compilation.fastest_precision()
        with dtype_policy(precision):
            self.network = HybridNetwork.create(preset.config)
        presets.assign(preset, self.network)
        self._functions = {}  # compiled, by name, reduction and number of channels

    def encode(
        self,
        image,
        quality=None,
        base=None,
        stored_size=None,
        target_bpp=None,
        target_bytes=None,
        target_psnr=None,
        target_msssim=None,
    ):
        """Compresses pixels.

        Args:
            image: uint8 `[H, W, 3]`, `[H, W]` or `[H, W, 1]` (grey), `[H, W, 4]` (RGBA) or
                `[H, W, 2]` (grey and alpha). Any size that the standard codec can hold.
            quality: number. Of the standard codec, which has a default; see `base_codecs`. Where a
                picture of half the size restores better, it takes no more bytes than the picture
                itself would at this quality.
            base: str. Name of the standard codec. Defaults to the one of the preset's training.
            stored_size: str. "full" or "half". Defaults to what restores better, by PSNR.
            target_bpp, target_bytes, target_psnr, target_msssim: instead of `quality`; see
                `Target`.

        Returns:
            bytes of a `.rnnc` file.

        Raises:
            CodecError: the array is no such picture, or the request cannot be met.
        """
        target = Target(None, target_bpp, target_bytes, target_psnr, target_msssim)
        picture = picture_from_array(image)
        attempts, quality = self._chosen(picture, target, base, quality, stored_size)
        return attempts.data(quality)

    def encode_picture(self, picture, target=Target(), base=None, quality=None, stored_size=None):
        """Compresses a picture with its metadata.

        Args:
            picture: `Picture`.
            target: `Target`. Of sizes the highest quality that fits is taken, of qualities of the
                picture the lowest that reaches them.
            base, quality, stored_size: as for `encode`.

        Returns:
            `HybridEncoded`.

        Raises:
            CodecError: the target cannot be met, or the standard codec cannot hold the picture.
        """
        attempts, quality = self._chosen(picture, target, base, quality, stored_size)
        encoded = HybridEncoded(
            attempts.data(quality),
            1,
            picture,
            attempts.restored(quality),
            picture.warnings,
            attempts.base.name,
            quality,
            attempts.stored_size,
        )
        return with_missed_target(encoded, target, f"at the highest quality, {quality}")

    def _chosen(self, picture, target, base, quality, stored_size):
        """The `_Attempts` at a picture that meet a request best, and the quality to take."""
        base = base_codecs.make(base or self.config.base)
        if target.iterations is not None:
            raise CodecError(
                "expected a quality or another target, received a number of iterations, which the "
                "hybrid codec does not have; leave it out"
            )
        if quality is not None:
            quality = base_codecs.checked_quality(base, quality)
            if target != Target():
                raise CodecError("expected a quality or a target, received both; keep one")
        check_similarity_target(target, picture)
        if quality is None and target == Target():
            quality = base.default_quality
        sizes = self._stored_sizes(stored_size)
        alpha = None if picture.alpha is None else writing.encode_alpha(picture.alpha)
        extras = bitstream.Metadata(picture.icc_profile, picture.exif, picture.xmp), alpha
        attempts = [_Attempts(self, base, picture, size, extras) for size in sizes]
        choices = _choices(attempts, target, quality)
        if not choices:
            smallest = min(one.size(base.qualities[0]) for one in attempts)
            raise target_too_low(target, smallest, picture, f"the lowest quality of {base.name}")
        return _best(choices, target)

    def _stored_sizes(self, wanted):
        """Names of those to choose from, full size first."""
        names = [name for name, value in STORED_SIZES.items() if value in self.config.reductions]
        if wanted is None:
            return names
        if wanted not in names:
            raise CodecError(
                f"stored_size: expected {' or '.join(names)}, which is what preset "
                f"{self.config.name!r} has, received {wanted!r}; change it"
            )
        return [wanted]

    def decode_picture(self, data, iterations=None, strict=False, limits=bitstream.Limits()):
        contents = bitstream.read(data, strict=strict, limits=limits)
        self.check_model(contents.header)
        check_held([1] if iterations in (None, "all") else iterations, contents)
        frame = frame_of(contents)
        base = base_codecs.kind_of(contents.planes[0])()
        strength = bitstream.FULL_STRENGTH if contents.strength is None else contents.strength
        restoration = self._restoration(
            base, contents.planes[0].payload, contents.quality_level, frame
        )
        yield 1, dataclasses.replace(frame, pixels=restoration.pixels(strength))

    def read_planes(self, data, iterations=None, limits=bitstream.Limits()):
        """The standard codec's file, as a list of one uint8 `[bytes]`; as `Codec.read_planes`."""
        contents = bitstream.read(data, limits=limits)
        self.check_model(contents.header)
        check_held([1] if iterations is None else [iterations], contents)
        return [np.frombuffer(contents.planes[0].payload, np.uint8)]

    def restore_picture(self, picture, strength=None, jpeg_quality=None):
        """What RecCNN alone makes of a picture that a standard codec has stored.

        Args:
            picture: `Picture`.
            strength: float from 0 to 3.98. How much of its residual RecCNN adds; there is no
                original to find the best by. Defaults to `strength_for` the quality.
            jpeg_quality: number. Of libjpeg, where the picture was stored as JPEG; see
                `reading.jpeg_quality`. Defaults to unknown.

        Returns:
            `Picture`.

        Raises:
            CodecError: the preset has no network for it, or a number is out of range.
        """
        if 1 not in self.config.reductions:
            raise CodecError(
                f"preset {self.config.name!r}: expected one with a RecCNN for pictures of full "
                f"size, received one of networks {self.config.networks!r}; give another preset"
            )
        if jpeg_quality is not None and not 1 <= jpeg_quality <= 100:
            raise CodecError(
                f"jpeg_quality: expected 1 to 100, received {jpeg_quality:g}; change it"
            )
        if strength is None:
            strength = strength_for(jpeg_quality)
        most = bitstream.MAX_STRENGTH / bitstream.FULL_STRENGTH
        if not 0 <= strength <= most:
            raise CodecError(
                f"strength: expected 0 to {most:.2f}, received {strength:g}; change it"
            )
        strength = round(bitstream.FULL_STRENGTH * strength)
        level = None if jpeg_quality is None else base_codecs.Jpeg.level_of(jpeg_quality)
        condition = hybrid_networks.condition_of(base_codecs.Jpeg.name, level)
        restoration = _Restoration(self, picture.pixels, 1, picture.pixels.shape, condition)
        pixels = restoration.pixels(strength)
        return dataclasses.replace(picture, pixels=pixels)

    def compress(self, pixels, reduction):
        """What the standard codec is to store: uint8, shaped as the pixels, with smaller sides."""
        if reduction == 1:
            return pixels
        return self._rounded("compress", pad_to_multiple(pixels, 2))

    def _restoration(self, base, file, quality_level, frame):
        """The `_Restoration` of a standard codec's file, in the size and colour of `frame`.

        `quality_level` may be None, for unknown.

        Raises:
            BitstreamError: the file is damaged, or of another size.
        """
        sizes = {
            (-(-frame.height // reduction), -(-frame.width // reduction)): reduction
            for reduction in reversed(self.config.reductions)  # a pixel counts as of full size
        }
        try:
            compact = base.decode(file, max_pixels=max(map(math.prod, sizes)))
        except CodecError as error:
            reason = str(error).rpartition("; ")[0]  # what to do about a file of its own is moot
            raise BitstreamError(
                f"the picture inside: {reason}; the file was not written by this codec"
            ) from error
        if compact.shape[:2] not in sizes:
            expected = " or ".join(f"{width} x {height}" for height, width in sizes)
            raise BitstreamError(
                f"the picture inside: expected {expected} pixels, received "
                f"{compact.shape[1]} x {compact.shape[0]}; the file was not written by this codec"
            )
        reduction = sizes[compact.shape[:2]]
        compact = base_codecs.with_colour(compact, frame.is_rgb)
        condition = hybrid_networks.condition_of(base.name, quality_level)
        return _Restoration(self, compact, reduction, frame.pixels.shape, condition)

    def _rounded(self, name, pixels):
        """As `_tiles` of half the size, put together in uint8."""
        height, width = (side // 2 if name == "compress" else 2 * side for side in pixels.shape[:2])
        result = np.empty((height, width, *pixels.shape[2:]), np.uint8)
        for place, values in self._tiles(name, pixels, 2):
            rounded = np.clip(np.rint(values), 0, 255)
            result[place] = rounded.reshape(result[place].shape)
        return result

    def _tiles(self, name, pixels, reduction, condition=None):
        """Calls a method of the network on one tile after another.

        Args:
            name: str, "compress", "enlarge" or "restore".
            pixels: uint8 `[H, W]` or `[H, W, 3]`. In cells: of 2x2 pixels of the picture itself, of
                2/r x 2/r of a compact one.
            reduction: int, r.
            condition: `[K]`, of "restore" alone.

        Yields:
            Pairs of the place in the result, a tuple of slices, and its values, float32 in levels.
        """
        before, after = (2, 2 // reduction) if name == "compress" else (2 // reduction, 2)
        image = np.atleast_3d(pixels)
        function = self._function(name, reduction, image.shape[2])
        told = () if condition is None else (condition,)
        rows, columns = image.shape[0] // before, image.shape[1] // before
        for top in range(0, rows, _TILE):
            for left in range(0, columns, _TILE):
                (first, last), inner_rows, rows_out = _window(top, rows, after)
                (start, stop), inner_columns, columns_out = _window(left, columns, after)
                window = image[before * first : before * last, before * start : before * stop]
                values = function(window[None].astype(np.float32) / 255.0, *told)
                values = ops.convert_to_numpy(values)[0, inner_rows, inner_columns]
                yield (rows_out, columns_out), 255.0 * values

    def _function(self, name, reduction, channels):
        key = name, reduction, channels
        if key not in self._functions:
            function = functools.partial(getattr(self.network, name), reduction=reduction)
            self._functions[key] = compilation.compile_for_inference(function, self.network)
        return self._functions[key]


def strength_for(jpeg_quality):
    """A strength for pictures that were stored as JPEG, with libjpeg's quality or None if unknown.

    The shipped RecCNN, told the quality, gained with it on each of eight validation crops at
    qualities from 5 to 95, where all of the residual is too much for some above 90.
    """
    if jpeg_quality is None:
        return 0.5
    return float(np.clip((100 - jpeg_quality) / 8, 0.0, 1.0))


class _Restoration:
    """A standard codec's picture, and what RecCNN would add to it.

    Args:
        codec: `HybridCodec`.
        compact: uint8 `[H, W]` or `[H, W, 3]`, what the standard codec gave.
        reduction: int. How many times smaller its sides are than the picture's.
        shape: of the picture.
        condition: `[K]`, what RecCNN is told; see `hybrid_networks.condition_of`.
    """

    def __init__(self, codec, compact, reduction, shape, condition):
        enlarged = compact if reduction == 1 else codec._rounded("enlarge", compact)
        self._enlarged = enlarged[: shape[0], : shape[1]]
        self._codec = codec
        self._compact = pad_to_multiple(compact, 2 // reduction)
        self._reduction = reduction
        self._condition = condition
        self._kept = None  # the residual, where it is needed twice

    def pixels(self, strength):
        """The picture with so many 64ths of the residual: uint8, a copy."""
        pixels = self._enlarged.copy()
        if strength:
            factor = np.float32(strength / bitstream.FULL_STRENGTH)
            for place, residual in self._kept or self._residual():
                added = factor * residual.astype(np.float32)
                pixels[place] = np.clip(np.rint(pixels[place] + added), 0, 255)
        return pixels

    def best_strength(self, original):
        """The strength of the least squared error to pixels, before these are rounded."""
        if self._codec.config.networks == "compact":
            return 0  # there is no RecCNN
        self._kept = list(self._residual())
        product = energy = 0.0
        for place, residual in self._kept:
            residual = residual.astype(np.float32)
            error = original[place].astype(np.float32) - self._enlarged[place]
            product += float(np.vdot(residual, error))
            energy += float(np.vdot(residual, residual))
        return int(
            np.clip(
                round(bitstream.FULL_STRENGTH * product / max(energy, 1e-9)),
                0,
                bitstream.MAX_STRENGTH,
            )
        )

    def _residual(self):
        """Yields, tile by tile, its place in the picture and float16 levels.

        They are what is missing from the enlarged picture, in 8 bits, to that of the network.
        """
        tiles = self._codec._tiles("restore", self._compact, self._reduction, self._condition)
        for place, values in tiles:
            enlarged = self._enlarged[place]
            values = values[: enlarged.shape[0], : enlarged.shape[1]].reshape(enlarged.shape)
            residual = np.clip(values - enlarged, -_MAX_RESIDUAL, _MAX_RESIDUAL)
            yield place, residual.astype(np.float16)


class _UnstorableError(CodecError):
    """A picture that the standard codec cannot hold."""


class _Attempts:
    """The files of one picture, stored in one size, at different qualities.

    Args:
        codec: `HybridCodec`.
        base: `base_codecs.BaseCodec`.
        picture: `Picture`.
        stored_size: str, a name in `STORED_SIZES`.
        extras: `bitstream.Metadata` and the bytes of the alpha or None, for `bitstream.write`.
    """

    def __init__(self, codec, base, picture, stored_size, extras):
        self.base = base
        self.picture = picture
        self.stored_size = stored_size
        self._codec = codec
        self._compact = codec.compress(picture.pixels, STORED_SIZES[stored_size])
        self._extras = extras
        self._files = {}  # by quality
        self._last = None, None, None  # a quality, its strength and picture

    def size(self, quality):
        """Bytes of the `.rnnc` file; RecCNN does not run."""
        return len(self._written(quality, bitstream.FULL_STRENGTH))

    def data(self, quality):
        """The `.rnnc` file."""
        return self._written(quality, self._finished(quality)[0])

    def restored(self, quality):
        """The `Picture` that the file restores to."""
        return self._finished(quality)[1]

    def _written(self, quality, strength):
        plane = bitstream.Plane(self.base.coder, self._file(quality))
        header = self._codec.header_of(self.picture, 1)
        return bitstream.write(header, [plane], *self._extras, strength, self._level(quality))

    def _level(self, quality):
        """Of the quality, as the file says it; None if it does not."""
        return self.base.level_of(quality) if self._codec.config.conditioned else None

    def _finished(self, quality):
        """The strength, and the picture restored with it."""
        if self._last[0] != quality:
            restoration = self._codec._restoration(
                self.base, self._file(quality), self._level(quality), self.picture
            )
            strength = restoration.best_strength(self.picture.pixels)
            pixels = restoration.pixels(strength)
            self._last = quality, strength, dataclasses.replace(self.picture, pixels=pixels)
        return self._last[1:]

    def _file(self, quality):
        if quality not in self._files:
            self._files[quality] = self._encode(quality)
        return self._files[quality]

    def _encode(self, quality):
        try:
            return self.base.encode(self._compact, quality)
        except Exception as error:  # the libraries raise of a dozen types
            reason = " ".join(str(error).split()) or type(error).__name__
            height, width = self._compact.shape[:2]
            raise _UnstorableError(
                f"expected a picture that {self.base.name} can hold, received one of {width} x "
                f"{height} pixels ({reason}); take another base codec"
            ) from error


def _choices(attempts, target, quality):
    """Pairs of attempts and the quality that meets a request; none of those that cannot.

    A quality is that of the first attempts, whose bytes bound those of the others.
    """
    choices, fault = [], None
    for one in attempts:
        try:
            if quality is None:
                found = _quality_for(target, one)
            else:
                target = Target(target_bytes=one.size(quality))
                found, quality = quality, None
        except _UnstorableError as error:
            fault = error
            continue
        if found is not None:
            choices.append((one, found))
    if fault and not choices:
        raise fault
    return choices


def _best(choices, target):
    """The smallest of the choices that reach a quality, else the nearest to the original."""
    if len(choices) == 1:
        return choices[0]
    figure = metrics.psnr_db if target.target_msssim is None else metrics.ms_ssim

    def rank(choice):
        one, quality = choice
        pair = one.picture.pixels, one.restored(quality).pixels
        saved = -one.size(quality)
        if target.is_of_quality and reaches(target, *pair):
            return True, saved
        return False, figure(*pair), saved

    return max(choices, key=rank)


def _quality_for(target, attempts):
    """The quality of the standard codec that a target asks for; None if all take too much."""
    base, picture = attempts.base, attempts.picture
    # The searches take it that rate and quality grow together, and try about seven.
    if target.target_bpp is not None or target.target_bytes is not None:
        pixels = picture.width * picture.height
        fitting = bisect.bisect_left(
            base.qualities,
            True,
            key=lambda quality: not target.allows(attempts.size(quality), pixels),
        )
        return base.qualities[fitting - 1] if fitting else None
    reaching = bisect.bisect_left(
        base.qualities,
        True,
        key=lambda quality: reaches(target, picture.pixels, attempts.restored(quality).pixels),
    )
    return base.qualities[min(reaching, len(base.qualities) - 1)]


def _window(start, size, after):
    """One axis of a tile: cells to read, result's pixels to keep of them, and where they belong."""
    stop = min(start + _TILE, size)
    first, last = max(0, start - _MARGIN), min(size, stop + _MARGIN)
    inner = slice(after * (start - first), after * (stop - first))
    return (first, last), inner, slice(after * start, after * stop)
