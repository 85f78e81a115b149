"""Pictures to `.rnnc` bytes and back: where network, planes and container meet.

The workflow: `Codec.from_preset()` once, then `encode` and `decode` on arrays and bytes, or
`encode_picture` and `decode_picture` where metadata, targets and figures matter. Everything wrong
with a file or a request is a `CodecError`.
"""

import dataclasses

from keras import ops
import numpy as np

from rnn_codec import bitstream, compilation, image_io, presets, progressive, tiling
from rnn_codec.config import STRIDE
from rnn_codec.context_model import ContextModel
from rnn_codec.errors import BitstreamError, CodecError
from rnn_codec.hybrid_codec import HybridCodec
from rnn_codec.hybrid_config import HybridConfig
from rnn_codec.picture_codec import (
    Encoded,
    PictureCodec,
    check_held,
    check_similarity_target,
    frame_of,
    reaches,
    target_too_low,
    with_missed_target,
)
from rnn_codec.planes import ENTROPY_CODERS, PlaneCoder
from rnn_codec.targets import Target

# Pictures of more are computed by tiles: at 300 bytes per pixel, this one takes about 1.3 GB.
_WHOLE_PIXELS = 2**22

# So many in blocks are no danger, however few pixels were allowed.
_ANY_PIXELS = 2**20


class Codec(PictureCodec):
    """One trained network, ready to encode and decode.

    Example:
        codec = rnn_codec.Codec.from_preset()
        data = codec.encode(image, iterations=4)        # uint8 [H, W, 3] -> bytes
        preview = codec.decode(data, iterations=1)      # bytes -> uint8 [H, W, 3]

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
        with progressive.dtype_policy(precision):
            self.network = progressive.ProgressiveNetwork.create(preset.config)
        presets.assign(preset, self.network)
        self._steps = compilation.CompiledSteps(self.network)
        self._tiled_steps = tiling.TiledSteps(self.network, self._steps)
        self.context_model = None
        if preset.context is not None:
            self.context_model = ContextModel(preset.context, arithmetic)

    @classmethod
    def from_preset(cls, name=None, precision="float32", arithmetic="numpy"):
        """The codec of a preset's name, of a folder that `save_preset` wrote, or the default.

        Returns:
            `Codec`, or `HybridCodec` where the preset is of that kind.

        Raises:
            PresetError: unknown, damaged, or without trained weights.
        """
        preset = presets.load(name)
        if isinstance(preset.config, HybridConfig):
            return HybridCodec(preset, precision)
        return cls(preset, precision, arithmetic)

    def encode(
        self,
        image,
        iterations=None,
        target_bpp=None,
        target_bytes=None,
        target_psnr=None,
        target_msssim=None,
        entropy=None,
    ):
        """Compresses pixels.

        Args:
            image: uint8 `[H, W, 3]`, `[H, W]` or `[H, W, 1]` (grey), `[H, W, 4]` (RGBA) or
                `[H, W, 2]` (grey and alpha). Any size.
            iterations: int. Defaults to all that the preset has.
            target_bpp, target_bytes, target_psnr, target_msssim: instead of `iterations`; see
                `Target`.
            entropy: str. What packs the bits: "neural", "adaptive" or "raw". Defaults to the first
                if the preset has a context model, else to the last.

        Returns:
            bytes of a `.rnnc` file.

        Raises:
            CodecError: the array is no such picture, or the request cannot be met.
        """
        target = Target(iterations, target_bpp, target_bytes, target_psnr, target_msssim)
        return self.encode_picture(image_io.picture_from_array(image), target, entropy).data

    def encode_picture(self, picture, target=Target(), entropy=None):
        """Compresses a picture with its metadata.

        Args:
            picture: `image_io.Picture`.
            target: `Target`.
            entropy: as for `encode`.

        Returns:
            `Encoded`.

        Raises:
            CodecError: the target cannot be met.
        """
        self._check_iterations(target.iterations)
        check_similarity_target(target, picture)
        alpha = None if picture.alpha is None else image_io.encode_alpha(picture.alpha)
        metadata = bitstream.Metadata(picture.icc_profile, picture.exif, picture.xmp)
        pixels = picture.width * picture.height
        entropy = self._entropy(entropy)
        coder = self.plane_coder(self._plane_shape(picture))
        packed, data, shown = [], None, None
        if _is_large(picture):
            steps, image = self._tiled_steps, _padded(picture)[None]
        else:
            steps, image = self._steps, progressive.normalise(_padded(picture)[None])
        for iteration in progressive.iterate(steps, image=image):
            candidate = [*packed, coder.pack(ops.convert_to_numpy(iteration.bits)[0] > 0, entropy)]
            candidate_data = bitstream.write(
                self.header_of(picture, len(candidate)), candidate, metadata, alpha
            )
            if not target.allows(len(candidate_data), pixels):
                break
            packed, data = candidate, candidate_data
            shown = iteration.reconstruction
            if self._is_enough(len(packed), shown, picture, target):
                break
        if data is None:
            raise target_too_low(target, len(candidate_data), picture, "one iteration")
        if steps is self._tiled_steps and len(coder.planes) > len(packed):
            # The iteration that was too many left nothing of the one before.
            planes = [plane[:] for plane in coder.planes[: len(packed)]]
            ((_, restored),) = self._pictures(planes, [len(packed)], picture)
        else:
            if steps is self._tiled_steps:
                steps.end_encoding(shown)
            restored = _restore(shown, picture)
        encoded = Encoded(data, len(packed), picture, restored, picture.warnings)
        return with_missed_target(encoded, target, f"after all {len(packed)} iterations")

    def decode_picture(self, data, iterations=None, strict=False, limits=bitstream.Limits()):
        contents = bitstream.read(data, strict=strict, limits=limits)
        self.check_model(contents.header)
        held = len(contents.planes)
        wanted = range(1, held + 1) if iterations == "all" else iterations or [held]
        check_held(wanted, contents)
        _check_blocks(contents.header, limits)
        frame = frame_of(contents)
        coder = self.plane_coder(self._plane_shape(frame))
        unpacked = [coder.unpack(plane) for plane in contents.planes[: max(wanted)]]
        yield from self._pictures(unpacked, wanted, frame)

    def _pictures(self, unpacked, wanted, frame):
        """Pairs of iteration count and picture, of planes of zeros and ones."""
        if _is_large(frame):
            steps, planes = self._tiled_steps, [bits[None] for bits in unpacked]
        else:
            # As the binarizer gives them to the encoder's own decoder, in type too.
            planes = [2.0 * bits[None].astype(np.float32) - 1.0 for bits in unpacked]
            steps = self._steps
        loop = progressive.iterate(steps, planes=planes, wanted=wanted)
        for count, iteration in enumerate(loop, start=1):
            if count in wanted:
                yield count, _restore(iteration.reconstruction, frame)

    def read_planes(self, data, iterations=None, limits=bitstream.Limits()):
        """The bits of a file, which are the same wherever it is read.

        Args:
            data: bytes of a `.rnnc` file, or of its beginning.
            iterations: int. Defaults to all whole ones.
            limits: `bitstream.Limits`.

        Returns:
            List of uint8 `[H/16, W/16, bits]`, zeros and ones.

        Raises:
            CodecError: as for `decode`.
        """
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

    def _is_enough(self, count, reconstruction, picture, target):
        if count == (target.iterations or self.config.iterations):
            return True
        if not target.is_of_quality:
            return False
        return reaches(target, picture.pixels, _restore(reconstruction, picture).pixels)


def _check_blocks(header, limits):
    """A picture of few pixels may be so narrow that its blocks have many more."""
    rows, columns = -(-header.height // STRIDE), -(-header.width // STRIDE)
    if rows * columns * STRIDE**2 > 2 * limits.max_pixels + _ANY_PIXELS:
        raise BitstreamError(
            f"the header declares {header.width} x {header.height} pixels, which takes "
            f"{rows * columns} blocks of {STRIDE} x {STRIDE}, more than twice the limit of "
            f"{limits.max_pixels} pixels; raise the limit if you trust the file"
        )


def _is_large(picture):
    return picture.width * picture.height > _WHOLE_PIXELS


def _padded(picture):
    """8-bit RGB `[H, W, 3]` whose sides are multiples of 16."""
    pixels = picture.pixels
    if not picture.is_rgb:
        pixels = np.repeat(pixels[..., None], 3, axis=-1)
    return image_io.pad_to_multiple(pixels, STRIDE)


def _restore(reconstruction, frame):
    """The 8-bit picture of a reconstruction, with the size, colour and extras of `frame`."""
    if not isinstance(reconstruction, tiling.TiledPicture):
        pixels = _to_8_bits(_to_numpy(reconstruction)[0, : frame.height, : frame.width], frame)
        return dataclasses.replace(frame, pixels=pixels)
    pixels = np.empty(frame.pixels.shape, np.uint8)
    for (rows, columns), tile in reconstruction.tiles():
        place = pixels[rows, columns]
        place[:] = _to_8_bits(tile[0, : place.shape[0], : place.shape[1]], frame)
    return dataclasses.replace(frame, pixels=pixels)


def _to_8_bits(values, frame):
    values = (values + 1.0) * 127.5
    if not frame.is_rgb:
        values = values.mean(axis=-1)
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _to_numpy(tensor):
    return ops.convert_to_numpy(ops.cast(tensor, "float32"))
