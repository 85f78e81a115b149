"""What defines an embedded codec's network: plain values, no Keras, so that tools can read them."""

import dataclasses

from rnn_codec.configuration import JsonConfig

# A latent stands for a block of so many pixels a side.
BLOCK = 16
SAMPLES = 3 * BLOCK**2  # of a block


@dataclasses.dataclass(frozen=True)
class EmbeddedConfig(JsonConfig):
    """The configuration of one embedded codec, as `config.json` stores it.

    The defaults are the product's.
    """

    name: str
    channels: int = 128  # of the hidden layers, at 1/4 and 1/8 of the resolution
    latents: int = 384  # for each block of 16x16 pixels
    iterations: int = 8  # bit planes; each halves the quantiser's step

    def __post_init__(self):
        self.check_types()
        for name, highest in (("channels", 1024), ("latents", 1024), ("iterations", 16)):
            value = getattr(self, name)
            if not 1 <= value <= highest:
                raise ValueError(f"{name} must be 1 to {highest}. Received: {value}")


PRESETS = (EmbeddedConfig("embedded"),)
