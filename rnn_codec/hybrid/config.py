"""What defines a hybrid codec's networks: plain values, no Keras, so that tools can read them."""

import dataclasses

from rnn_codec.configuration import JsonConfig, expect
from rnn_codec.standard import codecs as base_codecs

NETWORKS = ("all", "both", "compact", "restoration")
COLOURS = ("grey", "rgb")
# What the standard codec may be made to store: how many times smaller its sides are.
STORED_SIZES = {"full": 1, "half": 2}
BASES = tuple(base_codecs.CODECS)

# The condition of RecCNN: one of these standard codecs, and a level of its quality from 0, the
# lowest, to 255, between two of these knots. They lie closer where a step changes more. Below the
# first are JPEG's qualities under 5. Trained weights depend on both, and on the order, so a new
# standard codec does not come in here.
CONDITION_BASES = ("jpeg", "jpeg2000", "webp", "avif", "heif")
QUALITY_KNOTS = (11, 25, 50, 100, 175, 255)


@dataclasses.dataclass(frozen=True)
class HybridConfig(JsonConfig):
    """The configuration of the networks around a standard codec.

    The defaults are the layers of Jiang et al., 2017.

    `networks`: "both"; "compact", where a bicubic filter enlarges what ComCNN made small;
    "restoration", where the standard codec stores the picture itself and RecCNN improves it; or
    "all", which is both and another RecCNN for pictures stored at full size: the encoder takes
    what is better, and files that others wrote can be restored.

    `colour`: "grey" networks see one channel, the luma; chroma is halved by a mean and enlarged by
    a bicubic filter. "rgb" networks see three.
    """

    name: str
    networks: str = "both"
    colour: str = "rgb"
    base: str = "jpeg"  # the standard codec it is trained for, and the encoder's default
    lowest_quality: float = 5.0  # of that codec while training
    highest_quality: float = 75.0
    layers: int = 20  # of RecCNN
    filters: int = 64  # of every layer but the last
    # RecCNN sees blocks of so many pixels a side as channels; 2 costs a quarter.
    block: int = 1
    batch_normalisation: bool = True
    shortcuts: bool = False  # each two layers in the middle add to what they got
    # RecCNN is told which standard codec stored the picture and with what quality; needs shortcuts.
    conditioned: bool = False

    # In files: one plane, the standard codec's file.
    iterations = 1

    def __post_init__(self):
        self.check_types()
        # 5 and 5.0 are one configuration, so they must be one identity.
        for name in ("lowest_quality", "highest_quality"):
            object.__setattr__(self, name, float(getattr(self, name)))
        expect("networks", self.networks, NETWORKS)
        expect("colour", self.colour, COLOURS)
        expect("base", self.base, BASES)
        expect("block", self.block, (1, 2))
        if not 0 <= self.lowest_quality <= self.highest_quality:
            raise ValueError(
                "lowest_quality must be from 0 to highest_quality. Received: "
                f"{self.lowest_quality} and {self.highest_quality}"
            )
        if not 2 <= self.layers <= 100:
            raise ValueError(f"layers must be 2 to 100. Received: {self.layers}")
        if self.shortcuts and (self.batch_normalisation or self.layers % 2):
            raise ValueError(
                "shortcuts need an even number of layers without batch_normalisation. Received: "
                f"{self.layers} layers, batch_normalisation={self.batch_normalisation}"
            )
        if self.conditioned and (self.networks == "compact" or not self.shortcuts):
            raise ValueError(
                "conditioned needs a RecCNN with shortcuts. Received: "
                f"networks={self.networks!r}, shortcuts={self.shortcuts}"
            )
        if not 4 <= self.filters <= 1024:
            raise ValueError(f"filters must be 4 to 1024. Received: {self.filters}")

    @property
    def channels(self):
        """That the networks see."""
        return 1 if self.colour == "grey" else 3

    @property
    def reductions(self):
        """How many times smaller a stored picture's sides may be; full size comes first."""
        return {"all": (1, 2), "restoration": (1,)}.get(self.networks, (2,))


# RecCNN that takes a quarter of the time and learns in hundreds of steps: docs/results/hybrid.md.
_QUICK = {"block": 2, "batch_normalisation": False, "shortcuts": True}

# Configurations known by name.
PRESETS = (
    HybridConfig("hybrid", networks="all", highest_quality=95, conditioned=True, **_QUICK),
    # Jiang et al., 2017, and its parts alone. The paper measures where JPEG of the picture has a
    # quality of 5 to 10; at half the size, one of about 20 to 60 takes as many bytes.
    HybridConfig("hybrid_grey", colour="grey", lowest_quality=15, highest_quality=65),
    HybridConfig(
        "compact_grey",
        networks="compact",
        colour="grey",
        lowest_quality=15,
        highest_quality=65,
    ),
    HybridConfig(
        "restoration_grey",
        networks="restoration",
        colour="grey",
        lowest_quality=4,
        highest_quality=12,
    ),
)
