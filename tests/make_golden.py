"""Adds a set of golden files: python tests/make_golden.py NAME.

Sets that exist are left alone: tests/golden/README.md says why. A new one is for a new coder or a
new format version. The two presets are trained where they are missing, which takes some minutes;
that code is here to tell what they are.
"""

import hashlib
import json
import sys

import keras
import numpy as np
from PIL import Image, ImageCms
import testing

from rnn_codec import bitstream, image_io, presets, progressive, training
from rnn_codec.config import CodecConfig

CONFIGS = {
    testing.TWO_SCALE: CodecConfig(
        "tiny_two_scale",
        architecture="two_scale",
        encoder_cell="gru",
        decoder_cell="gru",
        width=1 / 64,
        bits=8 * testing.BLOCK_BYTES,
        iterations=testing.ITERATIONS,
        stochastic_bits=False,
        encoder_sees_image=True,
    ),
    testing.STACKED: CodecConfig(
        "tiny_stacked",
        reconstruction="residual_scaling",
        width=1 / 64,
        bits=8 * testing.BLOCK_BYTES,
        iterations=testing.ITERATIONS,
        stochastic_bits=False,
    ),
}
_EPOCHS = 6


def train(config):
    """A preset that compresses the pictures of `testing.make_array`, somewhat."""
    keras.utils.set_random_seed(0)
    network = progressive.ProgressiveNetwork.create(config)
    patches = np.stack([_patch(seed) for seed in range(2048)])
    model = training.TrainingModel(network, loss="l1")
    schedule = keras.optimizers.schedules.CosineDecay(6e-3, _EPOCHS * len(patches) // 16)
    model.compile(keras.optimizers.Adam(schedule, global_clipnorm=1.0))
    model.fit(patches, batch_size=16, epochs=_EPOCHS, verbose=2)
    weights = presets.from_network(network).weights
    # Multiples of 1/32 take half the room.
    rounded = {
        path: (np.rint(32 * array) / 32).astype(np.float16) for path, array in weights.items()
    }
    return presets.Preset(config, rounded)


def _patch(seed):
    rows, columns = np.random.default_rng(seed).integers(0, 96, 2)
    array = testing.make_array(128, 128, "RGB" if seed % 4 else "L", seed)
    patch = array[rows : rows + 32, columns : columns + 32]
    return np.broadcast_to(patch.reshape(32, 32, -1), (32, 32, 3))


def make_pictures():
    """Pictures by the names of their files."""
    exif = Image.Exif()
    exif[274] = 6  # orientation: stored lying on its side
    exif[271] = "Maker"
    with_metadata = image_io.Picture(
        testing.make_array(50, 33),
        icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
        exif=exif.tobytes(),
        xmp=b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>',
    )
    # Few different numbers of blocks: JAX compiles anew for each.
    sizes = {"L": (40, 24), "RGB": (64, 34), "RGBA": (33, 20), "LA": (15, 11)}
    pictures = {"metadata": with_metadata}
    for mode, size in sizes.items():
        pictures[mode.lower()] = image_io.picture_from_array(testing.make_array(*size, mode))
    pictures["one_pixel"] = image_io.picture_from_array(testing.make_array(1, 1))
    return pictures


def make_files(codec):
    """Bytes of files by their names."""
    files = {name: codec.encode_picture(picture).data for name, picture in make_pictures().items()}
    files["truncated"] = bitstream.truncate(files["metadata"], 2)
    files["cut"] = files["metadata"][:-3]  # in the middle of the last plane
    return files


def describe(codec, data):
    """What golden_test compares, apart from the pixels."""
    contents = bitstream.read(data)
    header = contents.header
    metadata = {name: value and _hash(value) for name, value in vars(contents.metadata).items()}
    return {
        "sha256": _hash(data),
        "mode": header.mode,
        "width": header.width,
        "height": header.height,
        "coders": [plane.coder for plane in contents.planes],
        "bits": [_hash(bits.tobytes()) for bits in codec.read_planes(data)],
        "metadata": metadata,
        "warnings": len(contents.warnings),
    }


def _hash(data):
    return hashlib.sha256(data).hexdigest()


def main(name):
    folder = testing.GOLDEN / name
    if folder.exists():
        raise SystemExit(f"{folder}: exists already, and golden files are only added to")
    index = {}
    for preset, config in CONFIGS.items():
        if not (testing.GOLDEN / preset).exists():
            presets.save(train(config), testing.preset_folder(preset))
        codec = testing.make_codec(preset)
        (folder / preset).mkdir(parents=True)
        for file, data in make_files(codec).items():
            path = folder / preset / file
            path.with_suffix(".rnnc").write_bytes(data)
            last = bitstream.read_info(data).iterations
            for count in (1, last):
                pixels = codec.decode(data, count)
                Image.fromarray(pixels).save(f"{path}_{count:02d}.png", optimize=True)
            index[f"{preset}/{file}"] = {"model": codec.identity.hex(), **describe(codec, data)}
    (folder / "index.json").write_text(json.dumps(index, indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
