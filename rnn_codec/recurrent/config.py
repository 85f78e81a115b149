"""What defines a codec's network: plain values, no Keras, so that tools can read them quickly."""

import dataclasses

from rnn_codec.configuration import JsonConfig, expect

CELL_NAMES = ("lstm", "associative_lstm", "gru", "residual_gru")
RECONSTRUCTIONS = ("one_shot", "additive", "residual_scaling")
ARCHITECTURES = ("stacked", "two_scale", "wide_two_scale")

# Every network here halves the resolution four times.
STRIDE = 16


@dataclasses.dataclass(frozen=True)
class CodecConfig(JsonConfig):
    """The configuration of one codec, as `config.json` stores it.

    `architecture`: "stacked" is the paper's stack, recurrent at every resolution; "two_scale" and
    "wide_two_scale" keep recurrent state at 1/8 and 1/16 of the resolution only, between
    feed-forward ends, so that a decoder of n iterations runs the high-resolution part once. The
    wide one holds more in its states and learns much faster; the other is for files that exist.
    """

    name: str
    architecture: str = "stacked"
    encoder_cell: str = "residual_gru"
    decoder_cell: str = "residual_gru"
    reconstruction: str = "one_shot"
    width: float = 1.0  # multiplies all the widths of the architecture
    bits: int = 32  # per 16x16 pixels and iteration: 0.125 bit per pixel
    iterations: int = 16  # as trained, and the most that a file holds
    stochastic_bits: bool = True  # while training; False: the sign, with a gradient
    encoder_sees_image: bool = False  # beside the residual
    residual_scale: float = 1.0  # of the residual beside the image, as residuals are small
    # A block transform of its own for each iteration, with so many directions; 0: none.
    atoms: int = 0
    # Blocks whose visible error is below get no bits. See `block_transform`.
    good_enough: float = 0.0

    def __post_init__(self):
        self.check_types()
        # 2 and 2.0 are one network, so they must be one identity.
        object.__setattr__(self, "width", float(self.width))
        object.__setattr__(self, "residual_scale", float(self.residual_scale))
        object.__setattr__(self, "good_enough", float(self.good_enough))
        expect("architecture", self.architecture, ARCHITECTURES)
        expect("encoder_cell", self.encoder_cell, CELL_NAMES)
        expect("decoder_cell", self.decoder_cell, CELL_NAMES)
        expect("reconstruction", self.reconstruction, RECONSTRUCTIONS)
        if not 1 <= self.iterations <= 255:
            raise ValueError(f"iterations must be 1 to 255. Received: {self.iterations}")
        if not 1 <= self.bits <= 1024:
            raise ValueError(f"bits must be 1 to 1024. Received: {self.bits}")
        if not 0 < self.residual_scale <= 100:
            raise ValueError(
                f"residual_scale must be above 0 and at most 100. Received: {self.residual_scale}"
            )
        if not 0 <= self.atoms <= 1024:
            raise ValueError(f"atoms must be 0 to 1024. Received: {self.atoms}")
        if not 0 <= self.good_enough <= 100:
            raise ValueError(f"good_enough must be 0 to 100. Received: {self.good_enough}")
        if not 0 < self.width <= 100:
            raise ValueError(f"width must be above 0 and at most 100. Received: {self.width}")

    def scaled(self, filters):
        """`filters` times the width, rounded to a multiple of 8 and at least 8."""
        return max(8, int(round(filters * self.width / 8)) * 8)


# Configurations known by name. The paper's family is here to be trained.
PRESETS = (
    # The product: recurrent at 1/8 and 1/16 only. Why: docs/results/training.md.
    CodecConfig(
        "two_scale_gru",
        architecture="wide_two_scale",
        encoder_cell="gru",
        decoder_cell="gru",
        iterations=8,
        stochastic_bits=False,
        encoder_sees_image=True,
        residual_scale=4.0,
        atoms=64,
        good_enough=0.12,
    ),
    # Toderici et al., 2017, as published.
    CodecConfig("residual_gru"),
    CodecConfig("gru", encoder_cell="gru", decoder_cell="gru"),
    CodecConfig("lstm", encoder_cell="lstm", decoder_cell="lstm"),
    # Associative memory paid in the decoder only, so the paper's encoder stays an LSTM.
    CodecConfig("associative_lstm", encoder_cell="lstm", decoder_cell="associative_lstm"),
)
