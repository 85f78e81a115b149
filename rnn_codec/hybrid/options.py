"""The hybrid wing's options: of encoding, and of training its networks."""

import dataclasses
from typing import Any

from rnn_codec.hybrid import config as config_lib
from rnn_codec.options import option

# The widest network reduces a patch 16 times, as elsewhere.
_MULTIPLE = {
    "check": lambda size: size >= 16 and size % 16 == 0,
    "expects": "a multiple of 16",
}


@dataclasses.dataclass(frozen=True)
class EncodingOptions:
    """What `encode_picture` takes besides the target."""

    base: str | None = option(
        None,
        "Store the picture with this standard codec. By default it is the one that the preset was "
        "trained for.",
        choices=config_lib.BASES,
    )
    quality: float | None = option(
        None,
        "Spend about as many bytes as the standard codec takes at this quality, instead of naming "
        "a target. For jpeg2000 it is a number of bits per pixel.",
        short="q",
        common=True,
    )
    stored_size: str | None = option(
        None,
        "Store the picture at full or at half size. By default the encoder takes what restores "
        "better at equal bytes.",
        choices=tuple(config_lib.STORED_SIZES),
    )


@dataclasses.dataclass(frozen=True)
class HybridChanges:
    """What replaces the preset's configuration before its networks are trained."""

    networks: str | None = option(
        None,
        "Train these networks, instead of the preset's: compact (ComCNN), restoration (RecCNN), "
        "both, or all, which adds a RecCNN for pictures of full size. Weights are kept where they "
        "fit.",
        choices=config_lib.NETWORKS,
    )
    base: str | None = option(
        None,
        "Train around this standard codec, instead of the preset's.",
        choices=config_lib.BASES,
    )
    qualities: tuple[float, float] | None = option(
        None,
        "Use that codec's qualities from the first to the last, instead of the preset's.",
        expects="two numbers, LOWEST,HIGHEST",
    )
    block: int | None = option(
        None,
        "Show RecCNN blocks of this many pixels a side as channels, instead of the preset's; 2 "
        "costs a quarter of 1.",
        lower=1,
        upper=2,
    )
    batch_normalisation: bool | None = option(
        None, "Have batch normalisation in RecCNN, whatever the preset says."
    )
    shortcuts: bool | None = option(
        None, "Have shortcuts around each two layers of RecCNN, whatever the preset says."
    )
    conditioned: bool | None = option(
        None,
        "Tell RecCNN which standard codec stored the picture, and at which quality, whatever the "
        "preset says.",
    )

    def apply(self, config: Any) -> Any:
        """The configuration with the changes; `ValueError` if they contradict each other."""
        changes = dataclasses.asdict(self)
        lowest, highest = changes.pop("qualities") or (None, None)
        changes.update(name=self.networks, lowest_quality=lowest, highest_quality=highest)
        given = {name: value for name, value in changes.items() if value is not None}
        return dataclasses.replace(config, **given)


@dataclasses.dataclass(frozen=True)
class HybridOptions:
    """What a run is, apart from the networks and the photographs."""

    steps: int = option(
        40_000,
        "Train for this many steps in all, resumed parts included.",
        lower=1,
        common=True,
    )
    steps_per_epoch: int = option(
        500,
        "Validate, write a checkpoint and let another network learn each time after this many "
        "steps.",
        lower=1,
    )
    batch_size: int = option(16, "Take this many patches for each step.", lower=1, common=True)
    patch_size: int = option(
        96, "Cut patches of this many pixels a side.", common=True, **_MULTIPLE
    )
    compact_every: int = option(
        4, "Let ComCNN learn in one of this many epochs, and RecCNN in the others.", lower=2
    )
    rate_weight: float = option(
        2.5,
        "Count each doubling of ComCNN's bits as this many dB of error. The paper's is 0.",
        lower=0,
    )
    learning_rate: float = option(1e-3, "Learn at this rate after the warm-up.", lower=0)
    # The paper's, too, is a tenth of the other.
    compact_learning_rate: float = option(
        1e-4, "Let ComCNN learn at this rate, which is lower than that of the others.", lower=0
    )
    warmup_steps: int = option(100, "Raise the rate from 0 over this many steps.", lower=0)
    clip_norm: float = option(
        1.0, "Scale the gradients down where their norm, of all together, is above this."
    )
    precision: str = option(
        "float32",
        "Compute the network in this type while training.",
        choices=("float32", "mixed_bfloat16"),
    )
    maximum_downscale: float = option(
        2.0, "Reduce half of the patches in size, by up to this factor.", lower=1
    )
    other_bases: tuple[str, ...] = option(
        (),
        "Store half of the batches with these standard codecs, at all of their qualities.",
        choices=config_lib.BASES,
    )
    validation_images: int = option(8, "Validate on this many crops of photographs.", lower=1)
    validation_size: int = option(192, "Cut those crops with this many pixels a side.", **_MULTIPLE)
    seed: int = option(0, "Draw everything that is random from this seed.")
