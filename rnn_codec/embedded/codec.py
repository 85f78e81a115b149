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
    check_held,
    check_similarity_target,
    frame_of,
    reaches,
    target_too_low,
    with_missed_target,
)
from rnn_codec.container import bitstream
from rnn_codec.embedded.config import BLOCK
from rnn_codec.embedded.network import EmbeddedNetwork
from rnn_codec.embedded.runs import RunCoder, load_model
from rnn_codec.embedded.tiles import Transform
from rnn_codec.errors import BitstreamError, CodecError
from rnn_codec.layers.common import dtype_policy
from rnn_codec.pictures import lossless as lossless_coder
from rnn_codec.pictures import writing
from rnn_codec.pictures.picture import Picture, pad_to_multiple
from rnn_codec.targets import Target

LOSSLESS = ("auto", "never", "always")
MAX_QUALITY = 100
# Looks clean at full size on photographs: docs/results/embedded.md tells how it was chosen.
DEFAULT_QUALITY = 60

# A run of so many bytes is worth its framing, and more runs a plane than this are of no use.
_LEAST_RUN_BYTES = 500
_RUNS_PER_PLANE = 5
# The framing of a run at the most, and what its coder may need beyond its probabilities.
_RUN_BYTES = 20
_RUN_RESERVE = 0.005

# So many in blocks are no danger, however few pixels were allowed.
_ANY_PIXELS = 2**20


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
        self._model = load_model(preset)

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
        """Where a file of a quality ends, 0..100: equal steps of bits, a plane at the least."""
        config = self.config
        place = 1 + (config.iterations - 1) * quality / MAX_QUALITY
        plane = min(math.ceil(place), config.iterations) - 1
        channels = max(1, math.ceil((place - plane) * config.latents - 1e-9))
        return Cut(plane, channels)

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
        if isinstance(quality, bool) or not 0 <= quality <= MAX_QUALITY:
            raise CodecError(f"quality: expected 0 to {MAX_QUALITY}, received {quality!r}")
        return self.cut_of(quality)

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
        data = bitstream.write(
            header,
            metadata=metadata_of(picture),
            alpha=alpha_of(picture),
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
        _check_blocks(contents.header, limits)
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
        coder = self._coder(frame)
        waiting = dict(sorted(cuts.items()))
        for run in self._runs(contents):
            coder.decode(run.plane, run.first, run.last + 1, run.payload)
            here = Cut(run.plane, run.last + 1)
            for count in [count for count, cut in waiting.items() if cut == here]:
                yield count, self.shown(coder.index, waiting.pop(count), frame)
            if not waiting:
                return

    def read_planes(self, data, iterations=None, limits=bitstream.Limits()):
        """As for any codec; int16 `[h, w, K]`, the indices at each whole plane."""
        contents = bitstream.read(data, limits=limits)
        self.check_model(contents.header)
        _check_blocks(contents.header, limits)
        count = contents.iterations if iterations is None else iterations
        check_held([count], contents, "runs")
        coder, planes = self._coder(frame_of(contents)), []
        for run in self._runs(contents):
            if run.plane == count:
                break
            coder.decode(run.plane, run.first, run.last + 1, run.payload)
            if run.last + 1 == self.config.latents:
                planes.append(coder.index.copy())
        return planes

    def _runs(self, contents):
        if contents.channels != self.config.latents:
            raise BitstreamError(
                f"the file has planes of {contents.channels} channels, where preset "
                f"{self.config.name!r} has {self.config.latents}; it was not written by this codec"
            )
        return contents.runs

    def _coder(self, frame):
        return RunCoder((*blocks_of(frame), self.config.latents), self._model)

    def shown(self, index: np.ndarray, cut: Cut, frame: Picture) -> Picture:
        """The picture of indices at a cut, in 8 bits, with the extras of a frame."""
        pixels = np.empty(frame.pixels.shape, np.uint8)
        for (rows, columns), tile in self._transform.synthesise(index, cut.plane, cut.channels):
            place = pixels[rows, columns]
            values = (tile[: place.shape[0], : place.shape[1]] + 1.0) * 127.5
            if not frame.is_rgb:
                values = values.mean(axis=-1)
            place[:] = np.clip(np.rint(values), 0, 255)
        return dataclasses.replace(frame, pixels=pixels)

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
        self.alpha, self.metadata = alpha_of(picture), metadata_of(picture)
        self.coder = codec._coder(picture)
        self.runs = []
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
        is_all = self.runs[-1][:3] == (
            self.codec.config.iterations - 1,
            self.runs[-1].first,
            latents - 1,
        )
        where = f"with all {self.codec.config.iterations} iterations"
        return with_missed_target(encoded, target, where) if is_all else encoded

    def _fill(self, bound, reserve):
        """Codes runs while they fit into `bound` bytes of the whole file."""
        used = self._file_bytes
        for plane in range(self.codec.config.iterations):
            costs = self.coder.costs(plane, self.fine) / 8 * (1 + reserve)
            for first, last in _equal_parts(8 * costs):
                room = bound - used - _RUN_BYTES
                end = first + int(np.searchsorted(np.cumsum(costs[first:last]), room, "right"))
                if end > first:
                    self._code(plane, first, end)
                    used += len(self.runs[-1].payload) + _RUN_BYTES
                if end < last:
                    return

    def _least_bytes(self):
        return math.ceil(self.coder.costs(0, self.fine)[0] / 8) + _RUN_BYTES

    def _encode_quality(self, target):
        """The least quality whose picture reaches a target: by bisection, without coding."""
        low, high = 0, MAX_QUALITY
        while low < high:
            middle = (low + high) // 2
            cut = self.codec.cut_of(middle)
            shown = self.codec.shown(self._index_at(cut), cut, self.picture)
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

    def _index_at(self, cut):
        """What a file that ends at a cut tells, but for what coding leaves out."""
        config = self.codec.config
        shift = np.full(config.latents, config.iterations - 1 - cut.plane, np.int16)
        shift[cut.channels :] += 1
        return np.sign(self.fine) * (np.abs(self.fine) >> shift)

    def _restart(self):
        self.coder = self.codec._coder(self.picture)
        self.runs = []

    def _encode_to(self, cut):
        """Codes all planes up to a cut, in runs of about equal bits."""
        for plane in range(cut.plane + 1):
            end = cut.channels if plane == cut.plane else self.codec.config.latents
            for first, last in _equal_parts(self.coder.costs(plane, self.fine)[:end]):
                self._code(plane, first, last)

    def _code(self, plane, first, end):
        payload = self.coder.encode(plane, first, end, self.fine)
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
        shown = self.codec.shown(self.coder.index, cut, self.picture)
        whole = last.plane + (cut.channels == self.codec.config.latents)
        return Encoded(data, whole, self.picture, shown, self.picture.warnings)


def _equal_parts(bits):
    """Channels in runs of about equal bits, none below `_LEAST_RUN_BYTES` where there are two.

    Args:
        bits: float `[channels]`.

    Returns:
        List of pairs: the first channel of a run, and the one after its last.
    """
    sums = np.cumsum(bits)
    parts = int(min(_RUNS_PER_PLANE, max(1, sums[-1] // (8 * _LEAST_RUN_BYTES))))
    ends = [int(np.searchsorted(sums, sums[-1] * (i + 1) / parts)) + 1 for i in range(parts - 1)]
    ends = sorted({end for end in ends if end < len(bits)} | {len(bits)})
    return list(zip([0, *ends], ends))


def _bounds_size(target):
    return target.target_bytes is not None or target.target_bpp is not None


def _allows(target, encoded, picture):
    return target.allows(len(encoded.data), picture.width * picture.height)


def blocks_of(size) -> tuple[int, int]:
    """Rows and columns of blocks of something with `height` and `width`."""
    return -(-size.height // BLOCK), -(-size.width // BLOCK)


def alpha_of(picture):
    return None if picture.alpha is None else writing.encode_alpha(picture.alpha)


def metadata_of(picture):
    return bitstream.Metadata(picture.icc_profile, picture.exif, picture.xmp)


def lossless_picture(contents) -> Picture:
    """The `Picture` of the contents of a lossless file."""
    header = contents.header
    pixels = lossless_coder.decode(contents.lossless, header.width, header.height, header.is_rgb)
    return dataclasses.replace(frame_of(contents), pixels=pixels)


def _check_blocks(header, limits):
    """A picture of few pixels may be so narrow that its blocks have many more."""
    rows, columns = blocks_of(header)
    if rows * columns * BLOCK**2 > 2 * limits.max_pixels + _ANY_PIXELS:
        raise BitstreamError(
            f"the header declares {header.width} x {header.height} pixels, which takes "
            f"{rows * columns} blocks of {BLOCK} x {BLOCK}, more than twice the limit of "
            f"{limits.max_pixels} pixels; raise the limit if you trust the file"
        )
