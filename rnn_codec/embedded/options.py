"""The embedded wing's options: of encoding, and of training its network."""

import dataclasses
import re
from typing import Any

from rnn_codec.embedded.config import BLOCK
from rnn_codec.options import option

LOSSLESS = ("auto", "never", "always")
MAX_QUALITY = 100

_MULTIPLE = {
    "check": lambda size: size >= BLOCK and size % BLOCK == 0,
    "expects": f"a multiple of {BLOCK}",
}


@dataclasses.dataclass(frozen=True)
class EncodingOptions:
    """What `encode_picture` takes besides the target."""

    quality: float | None = option(
        None,
        "Code this quality, instead of naming a target. By default it is one that looks clean.",
        lower=0,
        upper=MAX_QUALITY,
        short="q",
        common=True,
    )
    lossless: str = option(
        "auto",
        "Store the pixels exactly: where that takes fewer bytes (auto), never or always.",
        choices=LOSSLESS,
    )


@dataclasses.dataclass(frozen=True)
class EmbeddedChanges:
    """What replaces the preset's configuration before its network is trained."""

    channels: int | None = option(
        None,
        "Give the hidden layers this many channels, instead of the preset's.",
        lower=1,
        upper=1024,
    )
    latents: int | None = option(
        None,
        "Code this many channels of latents, instead of the preset's; weights of fewer are kept.",
        lower=1,
        upper=1024,
    )
    max_iterations: int | None = option(
        None, "Code this many bit planes, instead of the preset's.", lower=1, upper=16
    )

    def apply(self, config: Any) -> Any:
        """The configuration with the changes; `ValueError` if it cannot have them."""
        changes = dataclasses.asdict(self)
        changes["iterations"] = changes.pop("max_iterations")
        given = {name: value for name, value in changes.items() if value is not None}
        return dataclasses.replace(config, **given)


@dataclasses.dataclass(frozen=True)
class EmbeddedOptions:
    """What a run is, apart from the network and the photographs."""

    steps: int = option(
        60_000,
        "Train for this many steps in all, resumed parts included.",
        lower=1,
        common=True,
    )
    steps_per_epoch: int = option(
        2_000, "Validate and write a checkpoint each time after this many steps.", lower=1
    )
    batch_size: int = option(
        4, "Take this many patches for each step, over all devices.", lower=1, common=True
    )
    patch_size: int = option(
        160, "Cut patches of this many pixels a side.", common=True, **_MULTIPLE
    )
    learning_rate: float = option(1e-3, "Learn at this rate after the warm-up.", lower=0)
    warmup_steps: int = option(100, "Raise the rate from 0 over this many steps.", lower=0)
    clip_norm: float = option(
        1.0, "Scale the gradients down where their norm, of all together, is above this."
    )
    ema_momentum: float = option(
        0.9995, "Average the weights over steps with this momentum.", lower=0, upper=1
    )
    precision: str = option(
        "auto",
        "Compute the network in this type while training. By default both are measured, and the "
        "faster one is taken.",
        choices=("auto", "float32", "mixed_bfloat16"),
    )
    maximum_downscale: float = option(
        1.6, "Reduce half of the patches in size, by up to this factor.", lower=1
    )
    partial_share: float = option(
        0.4, "Cut so many of the patches inside a plane.", lower=0, upper=1
    )
    drawn_share: float = option(
        0.04, "Take so many of the patches from drawings, not from photographs.", lower=0, upper=1
    )
    seen_share: float = option(
        0.5, "Weigh SSIMULACRA2's error so much, beside that of MS-SSIM.", lower=0
    )
    alpha: float = option(0.5, "Weigh the rate so much.", lower=0)
    validation_images: int = option(24, "Validate on this many crops of photographs.", lower=1)
    validation_size: int = option(256, "Cut those crops with this many pixels a side.", **_MULTIPLE)
    seed: int = option(0, "Draw everything that is random from this seed.")
    # How it is run and watched, which changes nothing else.
    devices: str = option(
        "auto",
        "Share each batch among this many devices, or with tpu among all cores of a TPU. By "
        "default it is all GPUs, or one device.",
        check=lambda text: text in ("auto", "tpu") or bool(re.fullmatch("[1-9][0-9]*", text)),
        expects="auto, tpu or a number",
    )
    fuse: bool = option(
        True, "Fuse the loss by XLA on TensorFlow: a tenth faster, after some seconds."
    )
    profile: tuple[int, int] | None = option(
        None,
        "Write a profile of the steps from the first to the last into the logs.",
        check=lambda pair: 1 <= pair[0] <= pair[1],
        expects="two steps, FIRST,LAST, the first of them at least 1",
    )
