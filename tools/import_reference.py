"""Makes a preset of weights that the torch reference trained, on a GPU without Keras for example.

python tools/import_reference.py weights.npz folder
"""

import dataclasses
import sys

import numpy as np

from rnn_codec import presets
from rnn_codec.embedded.reference import from_reference


def main(source, folder):
    with np.load(source) as file:
        config, weights, rate = from_reference(dict(file))
    half = [{path: array.astype(np.float16) for path, array in a.items()} for a in (weights, rate)]
    preset = dataclasses.replace(presets.Preset(config, half[0]), training=half[1])
    presets.save(preset, folder)
    print(f"{folder}: {config}, model {preset.identity.hex()}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
