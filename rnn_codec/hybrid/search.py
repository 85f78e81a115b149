"""The quality of the standard codec, and the size to store, that meet a target best."""

import bisect
import dataclasses

from rnn_codec.codec import reaches
from rnn_codec.container import bitstream
from rnn_codec.errors import CodecError, one_line
from rnn_codec.hybrid.config import STORED_SIZES
from rnn_codec.hybrid.restoration import TiledNetwork, restoration_of
from rnn_codec.pictures import metrics
from rnn_codec.pictures.picture import Picture
from rnn_codec.standard.codecs import BaseCodec
from rnn_codec.targets import Target


class _UnstorableError(CodecError):
    """A picture that the standard codec cannot hold."""


class Attempts:
    """The files of one picture, stored in one size, at different qualities.

    Args:
        network: `restoration.TiledNetwork`.
        base: `base_codecs.BaseCodec`.
        picture: `Picture`.
        stored_size: str, a name in `STORED_SIZES`.
        header: `bitstream.Header` of the files.
        extras: `bitstream.Metadata` and the bytes of the alpha or None, for `bitstream.write`.
    """

    def __init__(
        self,
        network: TiledNetwork,
        base: BaseCodec,
        picture: Picture,
        stored_size: str,
        header: bitstream.Header,
        extras: tuple[bitstream.Metadata, bytes | None],
    ):
        self.base = base
        self.picture = picture
        self.stored_size = stored_size
        self._network = network
        self._header = header
        self._compact = network.compress(picture.pixels, STORED_SIZES[stored_size])
        self._extras = extras
        self._files = {}  # by quality
        self._last = None, None, None  # a quality, its strength and picture

    def size(self, quality: float) -> int:
        """Bytes of the `.rnnc` file; RecCNN does not run."""
        return len(self._written(quality, bitstream.FULL_STRENGTH))

    def data(self, quality: float) -> bytes:
        """The `.rnnc` file."""
        return self._written(quality, self._finished(quality)[0])

    def restored(self, quality: float) -> Picture:
        """The `Picture` that the file restores to."""
        return self._finished(quality)[1]

    def _written(self, quality, strength):
        plane = bitstream.Plane(self.base.coder, self._file(quality))
        return bitstream.write(self._header, [plane], *self._extras, strength, self._level(quality))

    def _level(self, quality):
        """Of the quality, as the file says it; None if it does not."""
        return self.base.level_of(quality) if self._network.config.conditioned else None

    def _finished(self, quality):
        """The strength, and the picture restored with it."""
        if self._last[0] != quality:
            restoration = restoration_of(
                self._network, self.base, self._file(quality), self._level(quality), self.picture
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
            height, width = self._compact.shape[:2]
            raise _UnstorableError(
                f"expected a picture that {self.base.name} can hold, received one of {width} x "
                f"{height} pixels ({one_line(error)}); take another base codec"
            ) from error


def choices(
    attempts: list[Attempts], target: Target, quality: float | None
) -> list[tuple[Attempts, float]]:
    """Pairs of attempts and the quality that meets a request; none of those that cannot.

    A quality is that of the first attempts, whose bytes bound those of the others.
    """
    meeting, fault = [], None
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
            meeting.append((one, found))
    if fault and not meeting:
        raise fault
    return meeting


def best(choices: list[tuple[Attempts, float]], target: Target) -> tuple[Attempts, float]:
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
