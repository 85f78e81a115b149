"""Pictures to `.rnnc` bytes and back: where network, planes and container meet."""

from collections.abc import Sequence
import dataclasses
from typing import Any

from keras import ops
import numpy as np

from rnn_codec import presets
from rnn_codec.backend import compilation
from rnn_codec.codec import (
    Codec,
    Encoded,
    check_held,
    check_similarity_target,
    reaches,
    target_too_low,
    with_missed_target,
)
from rnn_codec.container import bitstream
from rnn_codec.entropy.context_model import ContextModel
from rnn_codec.entropy.planes import ENTROPY_CODERS, PlaneCoder
from rnn_codec.errors import BitstreamError, CodecError
from rnn_codec.frames import frame_of
from rnn_codec.layers.common import dtype_policy
from rnn_codec.pictures import writing
from rnn_codec.pictures.picture import Picture, pad_to_multiple
from rnn_codec.recurrent import progressive, tiling
from rnn_codec.recurrent.config import STRIDE
from rnn_codec.targets import Target

# Pictures of more are computed by tiles: at 300 bytes per pixel, this one takes about 1.3 GB.
_WHOLE_PIXELS = 2**22

# Pictures of one padded size are computed together, up to so many pixels, where one graph serves
# batches of any length. One of 64x64 then takes a fifth of the time that it takes alone.
_BATCH_PIXELS = 2**20

# So many in blocks are no danger, however few pixels were allowed.
_ANY_PIXELS = 2**20


class RecurrentCodec(Codec):
    """One trained network, ready to encode and decode.

    Args:
        preset: `presets.Preset` with weights.
        precision: str. Keras dtype policy to compute in, "float32" or "bfloat16" say, or "auto":
            what `compilation.fastest_precision` says.
        arithmetic: str. Of the context model, a name in `context_model.ARITHMETICS`; all give the
            same bits.
    """

    def __init__(self, preset, precision="float32", arithmetic="numpy"):
        super().__init__(preset)
        if precision == "auto":
            precision = compilation.fastest_precision()
        with dtype_policy(precision):
            self.network = progressive.ProgressiveNetwork.create(preset.config)
        presets.assign(preset, self.network)
        self._steps = progressive.CompiledSteps(self.network)
        self._tiled_steps = tiling.TiledSteps(self.network, self._steps)
        self.context_model = None
        if preset.context is not None:
            self.context_model = ContextModel(preset.context, arithmetic)

    def encode_picture(self, picture, target=Target(), entropy=None):
        """Compresses a picture with its metadata.

        Args:
            picture: `Picture`.
            target: `Target`.
            entropy: str. What packs the bits: "neural", "adaptive" or "raw". Defaults to the first
                if the preset has a context model, else to the last.

        Returns:
            `Encoded`.

        Raises:
            CodecError: the target cannot be met.
        """
        (encoded,) = self.encode_pictures([picture], target, entropy)
        if isinstance(encoded, CodecError):
            raise encoded
        return encoded

    def encode_pictures(self, pictures, target=Target(), entropy=None):
        self._check_iterations(target.iterations)
        entropy = self._entropy(entropy)
        packing = _Coroutines([self._pack(picture, target, entropy) for picture in pictures])
        waiting = {i: pictures[i] for i in packing.unfinished(range(len(pictures)))}
        # Pictures reach a quality after one iteration or after all, and a batch runs for the last.
        most_pixels = 0 if target.is_of_quality else _BATCH_PIXELS
        for batch in _batches(waiting, most_pixels):
            self._encode(packing, batch, _stacked([_padded(pictures[i]) for i in batch]))
        return packing.results

    def _encode(self, packing, batch, image):
        """Runs the loop until each picture of a batch is packed.

        Args:
            packing: `_Coroutines`, each `_pack` of one picture.
            batch: list of int, their numbers.
            image: uint8 `[B, H, W, 3]`, their pixels.
        """
        if _is_large(*image.shape[1:3]):
            steps = self._tiled_steps
        else:
            steps, image = self._steps, progressive.normalise(image)
        for iteration in progressive.iterate(steps, image=image):
            bits = ops.convert_to_numpy(iteration.bits) > 0
            for index, number in enumerate(batch):
                packing.send(number, (bits[index], _Shown(iteration.reconstruction, index)))
            if not packing.unfinished(batch):
                return

    def _pack(self, picture, target, entropy):
        """Coroutine: is sent bits and `_Shown` of each iteration, returns the `Encoded`."""
        check_similarity_target(target, picture)
        alpha = None if picture.alpha is None else writing.encode_alpha(picture.alpha)
        metadata = bitstream.Metadata(picture.icc_profile, picture.exif, picture.xmp)
        pixels = picture.width * picture.height
        coder = self.plane_coder(self._plane_shape(picture))
        packed, data, shown = [], None, None
        while True:
            bits, candidate_shown = yield
            candidate = [*packed, coder.pack(bits, entropy)]
            candidate_data = bitstream.write(
                self.header_of(picture, len(candidate)), candidate, metadata, alpha
            )
            if not target.allows(len(candidate_data), pixels):
                break
            packed, data, shown = candidate, candidate_data, candidate_shown
            if self._is_enough(len(packed), shown, picture, target):
                break
        if data is None:
            raise target_too_low(target, len(candidate_data), picture, "one iteration")
        if shown.is_tiled and len(coder.planes) > len(packed):
            # The iteration that was too many left nothing of the one before.
            planes = [plane[:] for plane in coder.planes[: len(packed)]]
            ((_, _, restored),) = self._pictures([_Unpacked(picture, planes, [len(packed)])])
        else:
            restored = shown.picture(picture, is_last=True)
        encoded = Encoded(data, len(packed), picture, restored, picture.warnings)
        return with_missed_target(encoded, target, f"after all {len(packed)} iterations")

    def decode_picture(self, data, iterations=None, strict=False, limits=bitstream.Limits()):
        unpacked = self._unpack(data, iterations, strict, limits)
        for _, count, picture in self._pictures([unpacked]):
            yield count, picture

    def decode_pictures(self, files, iterations=None, strict=False, limits=bitstream.Limits()):
        results, unpacked = [], {}
        for place, data in enumerate(files):
            try:
                unpacked[place] = self._unpack(data, iterations, strict, limits)
                results.append([])
            except CodecError as error:
                results.append(error.with_traceback(None))
        frames = {place: file.frame for place, file in unpacked.items()}
        for batch in _batches(frames, _BATCH_PIXELS):
            pictures = self._pictures([unpacked[place] for place in batch])
            for index, count, picture in pictures:
                results[batch[index]].append((count, picture))
        return results

    def _unpack(self, data, iterations, strict, limits):
        """The `_Unpacked` of a file."""
        contents = bitstream.read(data, strict=strict, limits=limits)
        self.check_model(contents.header)
        held = len(contents.planes)
        wanted = range(1, held + 1) if iterations == "all" else iterations or [held]
        check_held(wanted, contents)
        _check_blocks(contents.header, limits)
        frame = frame_of(contents)
        coder = self.plane_coder(self._plane_shape(frame))
        planes = [coder.unpack(plane) for plane in contents.planes[: max(wanted)]]
        return _Unpacked(frame, planes, wanted)

    def _pictures(self, batch):
        """The pictures of `_Unpacked`s of one padded size.

        Yields:
            Index in the batch, iteration count and `Picture`.
        """
        count = max(len(file.planes) for file in batch)
        # Where a file has ended, any bits will do.
        planes = [
            _stacked([file.planes[min(index, len(file.planes) - 1)] for file in batch])
            for index in range(count)
        ]
        if _is_large(*(STRIDE * side for side in planes[0].shape[1:3])):
            steps = self._tiled_steps
        else:
            # As the binarizer gives them to the encoder's own decoder, in type too.
            planes = [2.0 * bits.astype(np.float32) - 1.0 for bits in planes]
            steps = self._steps
        wanted = {count for file in batch for count in file.wanted}
        loop = progressive.iterate(steps, planes=planes, wanted=wanted)
        for count, iteration in enumerate(loop, start=1):
            for index, file in enumerate(batch):
                if count in file.wanted:
                    shown = _Shown(iteration.reconstruction, index)
                    yield index, count, shown.picture(file.frame)

    def read_planes(self, data, iterations=None, limits=bitstream.Limits()):
        """As for any codec; uint8 `[H/16, W/16, bits]`, zeros and ones."""
        contents = bitstream.read(data, limits=limits)
        self.check_model(contents.header)
        _check_blocks(contents.header, limits)
        count = len(contents.planes) if iterations is None else iterations
        check_held([count], contents)
        coder = self.plane_coder(self._plane_shape(contents.header))
        return [coder.unpack(plane) for plane in contents.planes[:count]]

    def plane_coder(self, shape):
        """A `planes.PlaneCoder` for planes of a shape, with the preset's context model."""
        return PlaneCoder(shape, self.context_model)

    def _plane_shape(self, size):
        return -(-size.height // STRIDE), -(-size.width // STRIDE), self.config.bits

    def _entropy(self, entropy):
        """The name of an entropy coder that there is."""
        if entropy is None:
            return "raw" if self.context_model is None else "neural"
        if entropy not in ENTROPY_CODERS:
            raise CodecError(
                f"entropy: expected one of {', '.join(ENTROPY_CODERS)}, received {entropy!r}"
            )
        if entropy == "neural" and self.context_model is None:
            raise CodecError(
                f"preset {self.config.name!r}: expected one with a context model, which "
                "entropy='neural' needs; train it with train.py --model=context, or take 'adaptive'"
            )
        return entropy

    def _check_iterations(self, iterations):
        if iterations not in (None, *range(1, self.config.iterations + 1)):
            raise CodecError(
                f"expected 1 to {self.config.iterations} iterations, which is what preset "
                f"{self.config.name!r} was trained for, received {iterations}"
            )

    def _is_enough(self, count, shown, picture, target):
        if count == (target.iterations or self.config.iterations):
            return True
        if not target.is_of_quality:
            return False
        return reaches(target, picture.pixels, shown.picture(picture).pixels)


class _Coroutines:
    """Runs several coroutines, each up to its first `yield` at once.

    Attributes:
        results: list of what each returned, or the `CodecError` that ended it; None while it runs.
    """

    def __init__(self, coroutines):
        self._coroutines = coroutines
        self.results = [None] * len(coroutines)
        for number in range(len(coroutines)):
            self.send(number, None)

    def send(self, number, value):
        """Hands a value to a coroutine, unless that is finished."""
        if self.results[number] is not None:
            return
        try:
            self._coroutines[number].send(value)
        except StopIteration as end:
            self.results[number] = end.value
        except CodecError as error:
            self.results[number] = error.with_traceback(None)  # which would keep all of them

    def unfinished(self, numbers):
        """Those of the numbers that have no result yet."""
        return [number for number in numbers if self.results[number] is None]


@dataclasses.dataclass(frozen=True)
class _Unpacked:
    """A file whose bits are there, and the iterations whose pictures are wanted."""

    frame: Picture
    planes: list  # of uint8 `[H/16, W/16, bits]`, zeros and ones
    wanted: Sequence[int]


@dataclasses.dataclass(frozen=True)
class _Shown:
    """One picture of a batch after some iteration."""

    reconstruction: Any  # `[B, H, W, 3]` in [-1, 1], or a `tiling.TiledPicture`
    index: int

    @property
    def is_tiled(self):
        return isinstance(self.reconstruction, tiling.TiledPicture)

    def picture(self, frame, is_last=False):
        """In 8 bits, with the size, colour and extras of a picture.

        Args:
            frame: `Picture`.
            is_last: bool. Whether the encoder ends here; it then frees memory first.
        """
        if not self.is_tiled:
            values = _to_numpy(self.reconstruction[self.index])
            pixels = _to_8_bits(values[: frame.height, : frame.width], frame)
            return dataclasses.replace(frame, pixels=pixels)
        if is_last:
            self.reconstruction.end_encoding()
        pixels = np.empty(frame.pixels.shape, np.uint8)
        for (rows, columns), tile in self.reconstruction.tiles():
            place = pixels[rows, columns]
            values = tile[self.index, : place.shape[0], : place.shape[1]]
            place[:] = _to_8_bits(values, frame)
        return dataclasses.replace(frame, pixels=pixels)


def _batches(pictures, most_pixels):
    """Lists of keys of a dictionary: of pictures to compute together, of one padded size."""
    if compilation.compiles_each_size():
        most_pixels = 0
    groups = {}
    for key, picture in pictures.items():
        size = tuple(-(-side // STRIDE) * STRIDE for side in (picture.height, picture.width))
        groups.setdefault(size, []).append(key)
    for (height, width), keys in groups.items():
        most = max(1, most_pixels // (height * width))
        for start in range(0, len(keys), most):
            yield keys[start : start + most]


def _check_blocks(header, limits):
    """A picture of few pixels may be so narrow that its blocks have many more."""
    rows, columns = -(-header.height // STRIDE), -(-header.width // STRIDE)
    if rows * columns * STRIDE**2 > 2 * limits.max_pixels + _ANY_PIXELS:
        raise BitstreamError(
            f"the header declares {header.width} x {header.height} pixels, which takes "
            f"{rows * columns} blocks of {STRIDE} x {STRIDE}, more than twice the limit of "
            f"{limits.max_pixels} pixels; raise the limit if you trust the file"
        )


def _is_large(height, width):
    return height * width > _WHOLE_PIXELS


def _stacked(arrays):
    """`np.stack`, but without a copy of a single one, which may be large."""
    return np.stack(arrays) if len(arrays) > 1 else arrays[0][None]


def _padded(picture):
    """8-bit RGB `[H, W, 3]` whose sides are multiples of 16."""
    pixels = picture.pixels
    if not picture.is_rgb:
        pixels = np.repeat(pixels[..., None], 3, axis=-1)
    return pad_to_multiple(pixels, STRIDE)


def _to_8_bits(values, frame):
    values = (values + 1.0) * 127.5
    if not frame.is_rgb:
        values = values.mean(axis=-1)
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _to_numpy(tensor):
    return ops.convert_to_numpy(ops.cast(tensor, "float32"))
