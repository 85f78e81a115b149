"""Adds a set of golden files: python tests/make_golden.py NAME PRESETS ENTROPY_CODERS.

Sets that exist are left alone: tests/golden/README.md says why. A new one is for a new coder or a
new format version. Presets are trained where they are missing, which takes some minutes; that code
is here to tell what they are.

    python tests/make_golden.py format_1_raw two_scale,stacked raw
    python tests/make_golden.py format_1_coded wide neural,adaptive
    python tests/make_golden.py format_1_blocks blocks neural,adaptive
"""

import dataclasses
import hashlib
import json
import sys
import tempfile

import keras
import numpy as np
from PIL import Image, ImageCms
import testing

from rnn_codec import presets
from rnn_codec.container import bitstream
from rnn_codec.pictures.picture import Picture, picture_from_array
from rnn_codec.recurrent import context_recipe, progressive, recipe
from rnn_codec.recurrent.config import CodecConfig
from rnn_codec.training import data

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
CONFIGS[testing.WIDE] = dataclasses.replace(
    CONFIGS[testing.TWO_SCALE],
    name="tiny_wide",
    architecture="wide_two_scale",
    residual_scale=4.0,
)
CONFIGS[testing.BLOCKS] = dataclasses.replace(
    CONFIGS[testing.WIDE],
    name="tiny_blocks",
    atoms=8,
    good_enough=0.5,
)
_EPOCHS = 6


def train(config):
    """A preset that compresses the pictures of `testing.make_array`, somewhat."""
    keras.utils.set_random_seed(0)
    network = progressive.ProgressiveNetwork.create(config)
    patches = np.stack([_patch(seed) for seed in range(2048)])
    model = recipe.TrainingModel(network, loss="l1")
    schedule = keras.optimizers.schedules.CosineDecay(6e-3, _EPOCHS * len(patches) // 16)
    model.compile(keras.optimizers.Adam(schedule, global_clipnorm=1.0))
    model.fit(patches, batch_size=16, epochs=_EPOCHS, verbose=2)
    weights = presets.from_network(network).weights
    # Multiples of 1/32 take half the room.
    rounded = {
        path: (np.rint(32 * array) / 32).astype(np.float16) for path, array in weights.items()
    }
    return presets.Preset(config, rounded)


def add_context(preset):
    """The preset with a context model that predicts its bits, somewhat."""
    photos = data.PhotoArrays([testing.make_array(128, 128, seed=seed) for seed in range(200)])
    options = context_recipe.ContextOptions(
        steps=300, batch_size=16, patch_size=128, crops=200, features=16
    )
    with tempfile.TemporaryDirectory() as folder:
        context_recipe.train(preset, photos, options, folder)
        return presets.load(f"{folder}/preset")


def _patch(seed):
    rows, columns = np.random.default_rng(seed).integers(0, 96, 2)
    array = testing.make_array(128, 128, "RGB" if seed % 4 else "L", seed)
    patch = array[rows : rows + 32, columns : columns + 32]
    return np.broadcast_to(patch.reshape(32, 32, -1), (32, 32, 3))


def make_pictures(scale):
    """Pictures by the names of their files; those without alpha are enlarged."""
    exif = Image.Exif()
    exif[274] = 6  # orientation: stored lying on its side
    exif[271] = "Maker"
    with_metadata = Picture(
        testing.make_array(50 * scale, 33 * scale),
        icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
        exif=exif.tobytes(),
        xmp=b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>',
    )
    # Few different numbers of blocks: JAX compiles anew for each.
    sizes = {
        "L": (40 * scale, 24 * scale),
        "RGB": (64 * scale, 34 * scale),
        "RGBA": (33, 20),
        "LA": (15, 11),
    }
    pictures = {"metadata": with_metadata}
    for mode, size in sizes.items():
        pictures[mode.lower()] = picture_from_array(testing.make_array(*size, mode))
    pictures["one_pixel"] = picture_from_array(testing.make_array(1, 1))
    return pictures


def make_files(codec, entropy):
    """Bytes of files by their names."""
    # A plane of a few bytes is stored raw, whatever was asked for.
    pictures = make_pictures(scale=1 if entropy == "raw" else 3)
    files = {
        name: codec.encode_picture(picture, entropy=entropy).data
        for name, picture in pictures.items()
    }
    files["truncated"] = bitstream.truncate(files["metadata"], 2)
    files["cut"] = files["metadata"][:-3]  # in the middle of the last plane
    return {name if entropy == "raw" else f"{entropy}_{name}": files[name] for name in files}


def describe(codec, content):
    """What golden_test compares, apart from the pixels."""
    contents = bitstream.read(content)
    header = contents.header
    metadata = {name: value and _hash(value) for name, value in vars(contents.metadata).items()}
    return {
        "sha256": _hash(content),
        "mode": header.mode,
        "width": header.width,
        "height": header.height,
        "coders": [plane.coder for plane in contents.planes],
        "bits": [_hash(bits.tobytes()) for bits in codec.read_planes(content)],
        "metadata": metadata,
        "warnings": len(contents.warnings),
    }


def _hash(content):
    return hashlib.sha256(content).hexdigest()


def main(name, preset_names, entropy_coders):
    folder = testing.GOLDEN / name
    if folder.exists():
        raise SystemExit(f"{folder}: exists already, and golden files are only added to")
    index = {}
    for preset in preset_names.split(","):
        if not (testing.GOLDEN / preset).exists():
            trained = train(CONFIGS[preset])
            if preset in (testing.WIDE, testing.BLOCKS):
                trained = add_context(trained)
            presets.save(trained, testing.preset_folder(preset))
        codec = testing.make_codec(preset)
        (folder / preset).mkdir(parents=True)
        for entropy in entropy_coders.split(","):
            for file, content in make_files(codec, entropy).items():
                _write(folder / preset / file, codec, content)
                description = {"model": codec.identity.hex(), **describe(codec, content)}
                index[f"{preset}/{file}"] = description
    (folder / "index.json").write_text(json.dumps(index, indent=1) + "\n")


def _write(path, codec, content):
    """The file, and the pictures after its first and its last iteration."""
    path.with_suffix(".rnnc").write_bytes(content)
    for count in (1, bitstream.read_info(content).iterations):
        pixels = codec.decode(content, count)
        Image.fromarray(pixels).save(f"{path}_{count:02d}.png", optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
