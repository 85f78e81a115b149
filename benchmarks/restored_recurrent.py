"""Whether RecCNN after the recurrent decoder pays: one is trained there, and measured.

    python benchmarks/restored_recurrent.py --data=photos

Patches of training photographs are coded by the recurrent codec at all its counts of iterations.
RecCNN, from the hybrid preset's weights for full size, learns to restore them: a batch is of one
count, the loss its squared error in dB. Printed are means over crops of validation photographs.
"""

import dataclasses

from absl import app, flags
import numpy as np
from tqdm import tqdm

from rnn_codec import presets
from rnn_codec.commands import files
from rnn_codec.pictures import metrics
from rnn_codec.pictures.picture import picture_from_array
from rnn_codec.training import data

_DATA = flags.DEFINE_string("data", None, "Folder of photographs.", required=True)
_PRESET = flags.DEFINE_string("preset", None, "Recurrent. Defaults to the product's preset.")
_PATCHES = flags.DEFINE_integer("patches", 512, "Coded for training.", 1)
_STEPS = flags.DEFINE_integer("steps", 1500, "Of training, 8 patches each.", 1)
_PATCH_SIZE = flags.DEFINE_integer("patch_size", 96, "In pixels.", 32)
_CROPS = flags.DEFINE_integer("crops", 16, "Of validation photographs.", 1)

_BATCH, _CROP_SIZE = 8, 192


def main(argv):
    del argv
    files.load_keras()
    import keras

    from rnn_codec.codec import Codec
    from rnn_codec.hybrid import networks as hybrid_networks
    from rnn_codec.hybrid import recipe as hybrid_training
    from rnn_codec.hybrid.codec import HybridCodec
    from rnn_codec.hybrid.networks import HybridNetwork
    from rnn_codec.layers.common import dtype_policy

    keras.utils.set_random_seed(0)
    codec = Codec.from_preset(_PRESET.value, precision="auto")
    photos = data.PhotoFolder(_DATA.value)
    (patches,) = data.PatchBatches(photos, _PATCHES.value, _PATCH_SIZE.value)[0]
    coded = _coded(codec, patches)
    crops = data.validation_patches(photos, _CROPS.value, _CROP_SIZE)
    coded_crops = _coded(codec, crops)

    start = presets.load("hybrid")
    config = dataclasses.replace(start.config, networks="restoration")
    with dtype_policy("mixed_bfloat16"):
        network = HybridNetwork.create(config)
    presets.assign(hybrid_training.part_for(network, start), network)
    turn = hybrid_training.FULL_RESTORATION
    model = hybrid_training.TurnModel(network, turn)
    schedule = keras.optimizers.schedules.CosineDecay(3e-4, _STEPS.value)
    model.compile(keras.optimizers.Adam(schedule, global_clipnorm=1.0))
    conditions = np.tile(hybrid_networks.condition_of(None), (_BATCH, 1))  # not of a base codec
    rng = np.random.default_rng(0)
    for _ in tqdm(range(_STEPS.value), disable=None):
        chosen, count = rng.integers(len(patches), size=_BATCH), rng.integers(len(coded))
        inputs = (patches[chosen] / np.float32(255), coded[count][chosen] / np.float32(255))
        model.train_on_batch((*inputs, inputs[1], conditions))

    restorer = HybridCodec(presets.from_network(network))
    print("  n  PSNR, dB  restored  MS-SSIM  restored")
    for count, decoded in enumerate(coded_crops, start=1):
        restored = [
            restorer.restore_picture(picture_from_array(pixels), 1.0).pixels for pixels in decoded
        ]
        figures = [
            np.mean([figure(*pair) for pair in zip(crops, pictures)])
            for figure in (metrics.psnr_db, metrics.ms_ssim)
            for pictures in (decoded, restored)
        ]
        print("{:3} {:9.2f} {:9.2f} {:8.4f} {:9.4f}".format(count, *figures))


def _coded(codec, pictures):
    """For each count of iterations, the decoded pictures: a list of uint8 `[N, H, W, 3]`."""
    decoded = []
    for pixels in tqdm(pictures, disable=None):
        file = codec.encode(pixels, entropy="raw")
        decoded.append([picture.pixels for _, picture in codec.decode_picture(file, "all")])
    return [np.stack(of_count) for of_count in zip(*decoded)]


if __name__ == "__main__":
    app.run(main)
