"""Options of training the embedded wing's entropy model."""

import dataclasses

from rnn_codec.embedded.config import BLOCK
from rnn_codec.options import option


@dataclasses.dataclass(frozen=True)
class EntropyOptions:
    """What a run is, apart from the preset and the photographs."""

    steps: int = option(
        2_000, "Train for this many steps in all, resumed parts included.", lower=1, common=True
    )
    steps_per_epoch: int = option(
        100, "Validate and write a checkpoint each time after this many steps.", lower=1
    )
    batch_size: int = option(8, "Take this many crops for each step.", lower=1, common=True)
    patch_size: int = option(
        256,
        "Cut crops of this many pixels a side from photographs.",
        common=True,
        check=lambda size: size >= BLOCK and size % BLOCK == 0,
        expects=f"a multiple of {BLOCK}",
    )
    crops: int = option(2_000, "Use this many crops, half of them of reduced photographs.", lower=1)
    mixed: int = option(32, "Mix the channels of the plane before to so many.", lower=1)
    features: int = option(64, "Make the hidden layers this wide.", lower=1)
    signed_features: int = option(
        48, "Make those of the planes whose signs are predicted this wide.", lower=1
    )
    threshold: int = option(
        -50,
        "Do not code coefficients whose significance is less likely than this: eighths of a logit.",
        lower=-63,
        upper=0,
    )
    learning_rate: float = option(6e-3, "Learn at this rate after the warm-up.", lower=0)
    seed: int = option(0, "Draw everything that is random from this seed.")
    # Without, it is a network in floating point that cannot be stored: for comparison.
    quantised: bool = True
