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
    caught,
    check_blocks,
    check_held,
    check_similarity_target,
    extras_of,
    reaches,
    target_too_low,
    with_missed_target,
)
from rnn_codec.container import bitstream
from rnn_codec.entropy.context_model import ContextModel
from rnn_codec.entropy.planes import ENTROPY_CODERS, PlaneCoder
from rnn_codec.errors import CodecError
from rnn_codec.frames import frame_of
from rnn_codec.layers.common import dtype_policy
from rnn_codec.pictures.picture import Picture, pad_to_multiple
from rnn_codec.recurrent import progressive, tiling
from rnn_codec.recurrent.config import STRIDE
from rnn_codec.targets import Target

# Pictures of more are computed by tiles: at 300 bytes per pixel, this one takes about 1.3 GB.
_WHOLE_PIXELS = 2**22

# Pictures of one padded size are computed together, up to so many pixels, where one graph serves
# batches of any length. One of 64x64 then takes a fifth of the time that it takes alone.
_BATCH_PIXELS = 2**20


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
        results = [caught(_Packing, self, picture, target, entropy) for picture in pictures]
        waiting = {i: pictures[i] for i, made in enumerate(results) if isinstance(made, _Packing)}
        # Pictures reach a quality after one iteration or after all, and a batch runs for the last.
        most_pixels = 0 if target.is_of_quality else _BATCH_PIXELS
        for batch in _batches(waiting, most_pixels):
            packings = [results[number] for number in batch]
            pixels = _stacked([_padded(pictures[number]) for number in batch])
            steps = self._steps_for(*pixels.shape[1:3])
            for iteration in progressive.iterate(steps, image=steps.image_of(pixels)):
                bits = ops.convert_to_numpy(iteration.bits) > 0
                for index, packing in enumerate(packings):
                    packing.take(bits[index], _Shown(steps, iteration.reconstruction, index))
                if all(packing.done for packing in packings):
                    break
            for number, packing in zip(batch, packings):
                results[number] = caught(packing.result)
        return results

    def _steps_for(self, height, width):
        """Whole or by tiles, for pictures of a padded size."""
        return self._tiled_steps if height * width > _WHOLE_PIXELS else self._steps

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
        check_blocks(contents.header, limits, STRIDE)
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
        steps = self._steps_for(*(STRIDE * side for side in planes[0].shape[1:3]))
        wanted = {count for file in batch for count in file.wanted}
        loop = progressive.iterate(steps, planes=steps.planes_of(planes), wanted=wanted)
        for count, iteration in enumerate(loop, start=1):
            for index, file in enumerate(batch):
                if count in file.wanted:
                    shown = _Shown(steps, iteration.reconstruction, index)
                    yield index, count, shown.picture(file.frame)

    def read_planes(self, data, iterations=None, limits=bitstream.Limits()):
        """As for any codec; uint8 `[H/16, W/16, bits]`, zeros and ones."""
        contents = bitstream.read(data, limits=limits)
        self.check_model(contents.header)
        check_blocks(contents.header, limits, STRIDE)
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


class _Packing:
    """One picture on its way into a file, which grows by an iteration at a time.

    Args:
        codec: `RecurrentCodec`.
        picture: `Picture`.
        target: `Target`.
        entropy: str. What packs the bits.

    Attributes:
        done: bool. Whether the file needs no more iterations.

    Raises:
        CodecError: the picture cannot have the target.
    """

    def __init__(self, codec, picture, target, entropy):
        check_similarity_target(target, picture)
        self.done = False
        self._codec = codec
        self._picture = picture
        self._target = target
        self._entropy = entropy
        self._metadata, self._alpha = extras_of(picture)
        self._coder = codec.plane_coder(codec._plane_shape(picture))
        # Of the iterations that the file holds: planes, bytes, and what they show.
        self._packed, self._data, self._shown = [], b"", None
        self._refused_bytes = 0  # of the first file that was too large

    def take(self, bits, shown):
        """Adds an iteration, unless the file is done or the target does not allow it.

        Args:
            bits: bool `[H/16, W/16, bits]`.
            shown: `_Shown`.
        """
        if self.done:
            return
        packed = [*self._packed, self._coder.pack(bits, self._entropy)]
        header = self._codec.header_of(self._picture, len(packed))
        data = bitstream.write(header, packed, self._metadata, self._alpha)
        if not self._target.allows(len(data), self._picture.width * self._picture.height):
            self.done, self._refused_bytes = True, len(data)
            return
        self._packed, self._data, self._shown = packed, data, shown
        self.done = self._is_enough()

    def result(self):
        """The `Encoded`.

        Raises:
            CodecError: one iteration was more than the target allows.
        """
        picture, packed, shown = self._picture, self._packed, self._shown
        if not packed:
            raise target_too_low(self._target, self._refused_bytes, picture, "one iteration")
        if shown.is_held:
            restored = shown.picture(picture, is_last=True)
        else:  # the iteration that was too many left nothing of the one before
            planes = [plane[:] for plane in self._coder.planes[: len(packed)]]
            file = _Unpacked(picture, planes, [len(packed)])
            ((_, _, restored),) = self._codec._pictures([file])
        encoded = Encoded(self._data, len(packed), picture, restored, picture.warnings)
        return with_missed_target(encoded, self._target, f"after all {len(packed)} iterations")

    def _is_enough(self):
        if len(self._packed) == (self._target.iterations or self._codec.config.iterations):
            return True
        if not self._target.is_of_quality:
            return False
        restored = self._shown.picture(self._picture)
        return reaches(self._target, self._picture.pixels, restored.pixels)


@dataclasses.dataclass(frozen=True)
class _Unpacked:
    """A file whose bits are there, and the iterations whose pictures are wanted."""

    frame: Picture
    planes: list  # of uint8 `[H/16, W/16, bits]`, zeros and ones
    wanted: Sequence[int]


@dataclasses.dataclass(frozen=True)
class _Shown:
    """One picture of a batch after some iteration."""

    steps: Any  # `progressive.CompiledSteps` or what has its interface
    reconstruction: Any  # of an `Iteration` of them
    index: int

    @property
    def is_held(self):
        """Whether the picture can be read, though the loop may have gone on."""
        return self.steps.is_held(self.reconstruction)

    def picture(self, frame, is_last=False):
        """In 8 bits, with the size, colour and extras of a picture.

        Args:
            frame: `Picture`.
            is_last: bool. Whether the encoder ends here; it then frees memory first.
        """
        if is_last:
            self.steps.end_encoding(self.reconstruction)
        pixels = np.empty(frame.pixels.shape, np.uint8)
        for (rows, columns), tile in self.steps.tiles(self.reconstruction, self.index):
            place = pixels[rows, columns]
            place[:] = _to_8_bits(tile[: place.shape[0], : place.shape[1]], frame)
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
