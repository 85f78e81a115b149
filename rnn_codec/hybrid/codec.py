"""Pictures to `.rnnc` bytes and back through networks around a standard codec.

ComCNN makes a picture of half the size that the standard codec stores and RecCNN can restore well;
at high rates the picture itself is stored, and RecCNN removes what the codec did to it. The encoder
takes what is better. The standard codec's file is the one plane of the `.rnnc` file, so it can be
taken out and shown by anything (`base_codecs.extract`); its size tells how it was made.

A conditioned RecCNN is told the standard codec and its quality, for which the file has a number.
What it adds to a picture is multiplied by the strength, a number in the file; the encoder takes
that of the least squared error. So a picture that is good already is left as it is.
"""

import dataclasses

import numpy as np

from rnn_codec import presets
from rnn_codec.backend import compilation
from rnn_codec.codec import (
    Codec,
    Encoded,
    check_held,
    check_similarity_target,
    extras_of,
    target_too_low,
    with_missed_target,
)
from rnn_codec.container import bitstream
from rnn_codec.errors import CodecError
from rnn_codec.frames import frame_of
from rnn_codec.hybrid import networks, search
from rnn_codec.hybrid.config import STORED_SIZES
from rnn_codec.hybrid.networks import HybridNetwork
from rnn_codec.hybrid.restoration import Restoration, TiledNetwork, restoration_of, strength_for
from rnn_codec.layers.common import dtype_policy
from rnn_codec.pictures.picture import picture_from_array
from rnn_codec.standard import codecs as base_codecs
from rnn_codec.targets import Target


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
        self._tiled = TiledNetwork(self.network)

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
        """The `search.Attempts` at a picture that meet a request best, and the quality to take."""
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
        extras = extras_of(picture)
        header = self.header_of(picture, 1)
        attempts = [
            search.Attempts(self._tiled, base, picture, size, header, extras) for size in sizes
        ]
        choices = search.choices(attempts, target, quality)
        if not choices:
            smallest = min(one.size(base.qualities[0]) for one in attempts)
            raise target_too_low(target, smallest, picture, f"the lowest quality of {base.name}")
        return search.best(choices, target)

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
        restoration = restoration_of(
            self._tiled, base, contents.planes[0].payload, contents.quality_level, frame
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
        condition = networks.condition_of(base_codecs.Jpeg.name, level)
        restoration = Restoration(self._tiled, picture.pixels, 1, picture.pixels.shape, condition)
        pixels = restoration.pixels(strength)
        return dataclasses.replace(picture, pixels=pixels)
