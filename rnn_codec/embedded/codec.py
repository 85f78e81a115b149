"""Pictures to `.rnnc` bytes and back by nested bit planes.

    y = analyse(I)
    for n = 0..N-1:
        B[n] = plane n of y, run by run of channels
        P[n] = synthesise(B[0..n])

The loop is the coder's alone: the networks run once each, whatever the rate. A file may end after
any run.
"""

import dataclasses
import math

import numpy as np

from rnn_codec import presets
from rnn_codec.backend import compilation
from rnn_codec.codec import (
    Codec,
    Encoded,
    check_blocks,
    check_held,
    check_similarity_target,
    extras_of,
    reaches,
    target_too_low,
    with_missed_target,
)
from rnn_codec.container import bitstream
from rnn_codec.embedded.config import BLOCK
from rnn_codec.embedded.entropy_model import EntropyModel
from rnn_codec.embedded.network import EmbeddedNetwork
from rnn_codec.embedded.options import LOSSLESS, MAX_QUALITY
from rnn_codec.embedded.runs import RunDecoder, RunEncoder
from rnn_codec.embedded.tiles import Transform
from rnn_codec.errors import BitstreamError, CodecError
from rnn_codec.frames import frame_of, lossless_picture
from rnn_codec.layers.common import dtype_policy
from rnn_codec.pictures import lossless as lossless_coder
from rnn_codec.pictures.picture import Picture, pad_to_multiple
from rnn_codec.targets import Target

# Looks clean at full size on photographs: docs/results/embedded.md tells how it was chosen.
DEFAULT_QUALITY = 60

# How many qualities end in each plane, after the one that is plane 0 alone. The coarse planes are
# small: more ends in them would take more framing than a hundredth or two of a photograph's file.
_QUALITIES_OF_PLANE = (7, 7, 12, 16, 19, 20, 19)
# A run of so many bytes is worth its framing.
_LEAST_RUN_BYTES = 270
# What planes add in photographs, in bits per pixel; those that are not listed, the last.
_USUAL_BITS = (0.034, 0.04, 0.08, 0.17, 0.35, 0.6, 0.95, 1.3)
# The framing of a run at the most, and what its coder may need beyond its probabilities.
_RUN_BYTES = 20
_RUN_RESERVE = 0.005


@dataclasses.dataclass(frozen=True, order=True)
class Cut:
    """Where a file ends: after `channels` channels of a plane, and all planes before."""

    plane: int  # from 0
    channels: int  # 1..K


class EmbeddedCodec(Codec):
    """One trained network, ready to encode and decode.

    Args:
        preset: `presets.Preset` with weights.
        precision: str. Keras dtype policy to compute in, "float32" or "bfloat16" say, or "auto":
            what `compilation.fastest_precision` says.
    """

    def __init__(self, preset, precision="float32"):
        super().__init__(preset)
        if precision == "auto":
            precision = compilation.fastest_precision()
        with dtype_policy(precision):
            self.network = EmbeddedNetwork.create(preset.config)
        presets.assign(preset, self.network)
        self._transform = Transform(self.network)
        if preset.context is None:
            raise CodecError(
                f"preset {preset.config.name!r}: expected one with an entropy model; train it with "
                "train.py --model=entropy"
            )
        self._model = EntropyModel(preset.context)
        self._cuts = self._quality_cuts()

    # ---- Encoding ----

    def encode_picture(self, picture, target=Target(), quality=None, lossless="auto"):
        """Compresses a picture with its metadata.

        Args:
            picture: `Picture`.
            target: `Target`.
            quality: int, 0..100, instead of a target: a fixed cut, found without a search. Defaults
                to one that looks clean, where there is no target either.
            lossless: str. "auto" stores the pixels exactly where that takes fewer bytes; "never";
                or "always".

        Returns:
            `Encoded`.

        Raises:
            CodecError: the target cannot be met, or the request is none.
        """
        cut = self._asked_cut(target, quality)
        check_similarity_target(target, picture)
        if lossless not in LOSSLESS:
            raise CodecError(
                f"lossless: expected one of {', '.join(LOSSLESS)}, received {lossless!r}"
            )
        exact = self._exact(picture, lossless)
        if lossless == "always":
            return self._checked_exact(exact, target, picture)
        try:
            encoded = _Encoding(self, picture).until(target, cut)
        except CodecError:
            if exact is None or not _allows(target, exact, picture):
                raise
            return exact
        is_smaller = exact is not None and len(exact.data) < len(encoded.data)
        # A file that is smaller than asked for and exact is better than one that fills the bound.
        fits = exact is not None and _bounds_size(target) and _allows(target, exact, picture)
        return exact if is_smaller or fits else encoded

    def cut_of(self, quality: int) -> Cut:
        """Where a file of a quality ends, 0..100: one in equal steps of a plane's bits."""
        return self._cuts[quality]

    def runs_until(self, cut: Cut, pixels: int) -> list[Cut]:
        """The ends of the runs of a file that ends at a cut.

        They lie where qualities end, so that a file is the beginning of that of the next quality;
        but in a small picture, where runs of some bytes would be mostly framing, at fewer.

        Args:
            cut: `Cut`.
            pixels: int. Of the picture.
        """
        ends, waiting = [], 0.0
        for before, here in zip([Cut(0, 0), *self._cuts], self._cuts):
            if here >= cut:
                break
            if here == before:  # of few channels, several qualities are one
                continue
            usual = _USUAL_BITS[min(here.plane, len(_USUAL_BITS) - 1)] * pixels / 8
            first = before.channels if before.plane == here.plane else 0
            waiting += usual * (here.channels - first) / self.config.latents
            if here.channels == self.config.latents or waiting >= _LEAST_RUN_BYTES:
                ends.append(here)
                waiting = 0.0
        return [*ends, cut]

    def _quality_cuts(self):
        """The `Cut` of each quality."""
        planes, latents = self.config.iterations, self.config.latents
        cuts = [Cut(0, latents)]
        counts = np.diff(np.rint(np.linspace(0, MAX_QUALITY, planes)).astype(int))
        if planes == len(_QUALITIES_OF_PLANE) + 1:
            counts = _QUALITIES_OF_PLANE
        for plane, count in enumerate(counts, start=1):
            ends = self._model.runs[plane]  # at equal bits
            shares = np.arange(1, count + 1) / count * (len(ends) - 1)
            channels = np.interp(shares, np.arange(len(ends)), ends)
            cuts += [Cut(plane, max(1, int(round(value)))) for value in channels]
        return cuts if planes > 1 else cuts * (MAX_QUALITY + 1)

    def _asked_cut(self, target, quality):
        """The `Cut` that is asked for; None for a target that has to be looked for."""
        if target != Target() and quality is not None:
            raise CodecError("expected a target or a quality, received both; keep one")
        if target.iterations is not None:
            if target.iterations > self.config.iterations:
                raise CodecError(
                    f"expected 1 to {self.config.iterations} iterations, which is what preset "
                    f"{self.config.name!r} was trained for, received {target.iterations}"
                )
            return Cut(target.iterations - 1, self.config.latents)
        if target != Target():
            return None
        quality = DEFAULT_QUALITY if quality is None else quality
        if isinstance(quality, bool) or not 0 <= quality <= MAX_QUALITY or quality % 1:
            raise CodecError(
                f"quality: expected a whole number from 0 to {MAX_QUALITY}, received {quality!r}"
            )
        return self.cut_of(int(quality))

    def _exact(self, picture, lossless):
        """The `Encoded` that holds the pixels exactly; None where it is not to be tried."""
        if lossless == "never":
            return None
        if max(picture.pixels.shape[:2]) > lossless_coder.MAX_SIDE:
            if lossless == "always":
                raise CodecError(
                    f"expected sides of at most {lossless_coder.MAX_SIDE} pixels for a lossless "
                    f"file, received {picture.width} x {picture.height}; leave out --lossless"
                )
            return None
        if lossless == "auto" and not lossless_coder.may_win(picture.pixels):
            return None
        header = dataclasses.replace(self.header_of(picture, 1), model_id=bitstream.NO_MODEL)
        metadata, alpha = extras_of(picture)
        data = bitstream.write(
            header,
            metadata=metadata,
            alpha=alpha,
            lossless=lossless_coder.encode(picture.pixels),
        )
        return Encoded(data, 1, picture, picture, picture.warnings)

    def _checked_exact(self, exact, target, picture):
        if not _allows(target, exact, picture):
            raise target_too_low(target, len(exact.data), picture, "the lossless file")
        return exact

    # ---- Decoding ----

    def decode_picture(self, data, iterations=None, strict=False, limits=bitstream.Limits()):
        contents = bitstream.read(data, strict=strict, limits=limits)
        if contents.lossless is not None:
            yield 1, lossless_picture(contents)
            return
        self.check_model(contents.header)
        check_blocks(contents.header, limits, BLOCK)
        held = contents.iterations
        wanted = range(1, held + 1) if iterations == "all" else iterations
        if wanted is not None:
            check_held(wanted, contents, "runs")
        frame = frame_of(contents)
        last = contents.runs[-1]
        cuts = (
            {held: Cut(last.plane, last.last + 1)}
            if wanted is None
            else {count: Cut(count - 1, self.config.latents) for count in wanted}
        )
        coder = RunDecoder(self._model, blocks_of(frame))
        waiting = dict(sorted(cuts.items()))
        for run in self._runs(contents):
            coder.decode(run.plane, run.first, run.last + 1, run.payload)
            here = Cut(run.plane, run.last + 1)
            for count in [count for count, cut in waiting.items() if cut == here]:
                yield (
                    count,
                    self.shown(coder.index(), coder.planes_known(), waiting.pop(count), frame),
                )
            if not waiting:
                return

    def read_planes(self, data, iterations=None, limits=bitstream.Limits()):
        """As for any codec; int16 `[h, w, K]`, the indices at each whole plane."""
        contents = bitstream.read(data, limits=limits)
        self.check_model(contents.header)
        check_blocks(contents.header, limits, BLOCK)
        count = contents.iterations if iterations is None else iterations
        check_held([count], contents, "runs")
        coder, planes = RunDecoder(self._model, blocks_of(contents.header)), []
        for run in self._runs(contents):
            if run.plane == count:
                break
            coder.decode(run.plane, run.first, run.last + 1, run.payload)
            if run.last + 1 == self.config.latents:
                planes.append(coder.index())
        return planes

    def _runs(self, contents):
        if contents.channels != self.config.latents:
            raise BitstreamError(
                f"the file has planes of {contents.channels} channels, where preset "
                f"{self.config.name!r} has {self.config.latents}; it was not written by this codec"
            )
        return contents.runs

    def shown(self, index: np.ndarray, known: np.ndarray, cut: Cut, frame: Picture) -> Picture:
        """The picture of indices at a cut, in 8 bits, with the extras of a frame."""
        pixels = np.empty(frame.pixels.shape, np.uint8)
        tiles = self._transform.synthesise(index, known, cut.plane, cut.channels)
        for (rows, columns), tile in tiles:
            place = pixels[rows, columns]
            values = (tile[: place.shape[0], : place.shape[1]] + 1.0) * 127.5
            if not frame.is_rgb:
                values = values.mean(axis=-1)
            place[:] = np.clip(np.rint(values), 0, 255)
        return dataclasses.replace(frame, pixels=pixels)

    def known_at(self, cut: Cut) -> np.ndarray:
        """The finest plane known of each channel where a file ends at a cut: int32 `[K]`."""
        known = np.full(self.config.latents, cut.plane - 1, np.int32)
        known[self._model.order[: cut.channels]] = cut.plane
        return known

    def analyse(self, picture: Picture) -> np.ndarray:
        """Indices of a picture at the finest plane: int16 `[h, w, K]`."""
        pixels = picture.pixels
        if not picture.is_rgb:
            pixels = np.repeat(pixels[..., None], 3, axis=-1)
        return self._transform.analyse(pad_to_multiple(pixels, BLOCK))


class _Encoding:
    """One picture on its way into a file: its planes, the runs so far, what they show.

    Args:
        codec: `EmbeddedCodec`.
        picture: `Picture`.
    """

    def __init__(self, codec, picture):
        self.codec = codec
        self.picture = picture
        self.fine = codec.analyse(picture)
        self.metadata, self.alpha = extras_of(picture)
        self._restart()
        self._file_bytes = len(self._file([bitstream.Run(0, 0, 0, b"")]))

    def until(self, target, cut):
        """The `Encoded` that ends at a cut, or as a target asks."""
        if cut is not None:
            self._encode_to(cut)
            return self._encoded()
        if _bounds_size(target):
            return self._encode_within(target)
        return self._encode_quality(target)

    def _encode_within(self, target):
        """Codes as many channels as a bound on the size allows."""
        picture, latents = self.picture, self.codec.config.latents
        bound = target.target_bytes
        if bound is None:
            bound = int(target.target_bpp * picture.width * picture.height / 8 * (1 + 1e-12))
        # What the coder makes of a run may be a little more than its probabilities say.
        for reserve in (_RUN_RESERVE, 4 * _RUN_RESERVE, 0.1):
            self._restart()
            self._fill(bound, reserve)
            if not self.runs:
                least = self._file_bytes + self._least_bytes()
                raise target_too_low(target, least, picture, "one channel")
            if target.allows(len(self._file(self.runs)), picture.width * picture.height):
                break
        encoded = self._encoded()
        last = self.runs[-1]
        is_all = last.plane + 1 == self.codec.config.iterations and last.last + 1 == latents
        where = f"with all {self.codec.config.iterations} iterations"
        return with_missed_target(encoded, target, where) if is_all else encoded

    def _fill(self, bound, reserve):
        """Codes runs while they fit into `bound` bytes of the whole file."""
        used, pixels = self._file_bytes, self.picture.width * self.picture.height
        last = Cut(self.codec.config.iterations - 1, self.codec.config.latents)
        for end in self.codec.runs_until(last, pixels):
            first = self.coder.channel
            if not first:
                costs = self.coder.channel_bits() / 8 * (1 + reserve)
            room = bound - used - _RUN_BYTES
            fitting = int(np.searchsorted(np.cumsum(costs[first : end.channels]), room, "right"))
            if fitting:
                self._code(end.plane, first, first + fitting)
                used += len(self.runs[-1].payload) + _RUN_BYTES
            if first + fitting < end.channels:
                return

    def _least_bytes(self):
        return math.ceil(self.coder.channel_bits()[0] / 8) + _RUN_BYTES

    def _encode_quality(self, target):
        """The least quality whose picture reaches a target: by bisection, without coding."""
        low, high = 0, MAX_QUALITY
        while low < high:
            middle = (low + high) // 2
            cut = self.codec.cut_of(middle)
            known = self.codec.known_at(cut)
            shown = self.codec.shown(self._index_at(known), known, cut, self.picture)
            if reaches(target, self.picture.pixels, shown.pixels):
                high = middle
            else:
                low = middle + 1
        # Coding leaves out what it finds improbable, which may cost a little quality.
        for quality in range(low, MAX_QUALITY + 1):
            self._restart()
            self._encode_to(self.codec.cut_of(quality))
            encoded = self._encoded()
            if reaches(target, self.picture.pixels, encoded.picture.pixels):
                break
        return with_missed_target(encoded, target, "at the highest quality")

    def _index_at(self, known):
        """What a file tells at planes `[K]`, but for what coding leaves out."""
        shift = (self.codec.config.iterations - 1 - known).astype(np.int16)
        return np.sign(self.fine) * (np.abs(self.fine) >> shift)

    def _restart(self):
        self.coder = RunEncoder(self.codec._model, self.fine)
        self.runs = []

    def _encode_to(self, cut):
        """Codes everything up to a cut."""
        pixels = self.picture.width * self.picture.height
        for end in self.codec.runs_until(cut, pixels):
            self._code(end.plane, self.coder.channel, end.channels)

    def _code(self, plane, first, end):
        payload = self.coder.encode(plane, first, end)
        self.runs.append(bitstream.Run(plane, first, end - 1, payload))

    def _file(self, runs):
        header = self.codec.header_of(self.picture, runs[-1].plane + 1)
        channels = self.codec.config.latents
        return bitstream.write(
            header, metadata=self.metadata, alpha=self.alpha, runs=runs, channels=channels
        )

    def _encoded(self):
        data = self._file(self.runs)
        last = self.runs[-1]
        cut = Cut(last.plane, last.last + 1)
        known = self.coder.planes_known()
        shown = self.codec.shown(self.coder.index(), known, cut, self.picture)
        whole = last.plane + (cut.channels == self.codec.config.latents)
        return Encoded(data, whole, self.picture, shown, self.picture.warnings)


def _bounds_size(target):
    return target.target_bytes is not None or target.target_bpp is not None


def _allows(target, encoded, picture):
    return target.allows(len(encoded.data), picture.width * picture.height)


def blocks_of(size) -> tuple[int, int]:
    """Rows and columns of blocks of something with `height` and `width`."""
    return -(-size.height // BLOCK), -(-size.width // BLOCK)
