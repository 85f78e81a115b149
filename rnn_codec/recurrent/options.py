"""The recurrent wing's options: of encoding, of training the codec and of its context model."""

import dataclasses
import re
from typing import Any

from rnn_codec.options import option
from rnn_codec.recurrent import config as config_lib
from rnn_codec.recurrent.config import STRIDE


def _is_multiple(size):
    return size >= STRIDE and size % STRIDE == 0


def _are_steps(pair):
    return 1 <= pair[0] <= pair[1]


def _are_devices(text):
    return text in ("auto", "tpu") or bool(re.fullmatch("[1-9][0-9]*", text))


_MULTIPLE = {"check": _is_multiple, "expects": f"a multiple of {STRIDE}"}


@dataclasses.dataclass(frozen=True)
class EncodingOptions:
    """What `encode_picture` takes besides the target."""

    entropy: str | None = option(
        None,
        "Choose what packs the bits. By default a small network predicts them (neural) if the "
        "preset has one, and they are stored as they are (raw) if it does not.",
        choices=("neural", "adaptive", "raw"),
    )


@dataclasses.dataclass(frozen=True)
class CodecChanges:
    """What replaces the preset's configuration before its network is trained."""

    width: float | None = option(
        None, "Multiply the widths of all layers by this, instead of the preset's.", lower=0.01
    )
    reconstruction: str | None = option(
        None,
        "Build the picture in this way, instead of the preset's.",
        choices=config_lib.RECONSTRUCTIONS,
    )
    max_iterations: int | None = option(
        None,
        "Make the network for so many iterations, instead of the preset's.",
        lower=1,
        upper=255,
    )

    def apply(self, config: Any) -> Any:
        """The configuration with the changes; `ValueError` if it cannot have them."""
        changes = {
            "width": self.width,
            "reconstruction": self.reconstruction,
            "iterations": self.max_iterations,
        }
        given = {name: value for name, value in changes.items() if value is not None}
        return dataclasses.replace(config, **given)


@dataclasses.dataclass(frozen=True)
class TrainingOptions:
    """What a run is, apart from the network and the photographs. Defaults train the product."""

    steps: int = option(
        100_000, "Train for this many steps in all, resumed parts included.", lower=1, common=True
    )
    steps_per_epoch: int = option(
        1_000, "Validate and write a checkpoint each time after this many steps.", lower=1
    )
    batch_size: int = option(16, "Take this many patches for each step.", lower=1, common=True)
    patch_size: int = option(
        64, "Cut patches of this many pixels a side.", common=True, **_MULTIPLE
    )
    iterations: int | None = option(
        None,
        "Run the loop this many times while training; fewer are faster at the start. By default "
        "it runs as often as the network was made for.",
        lower=1,
        upper=255,
    )
    loss: str = option(
        "perceptual", "Minimise this loss. The product's is perceptual, the paper's is l1."
    )
    learning_rate: float = option(1e-3, "Learn at this rate after the warm-up.", lower=0)
    warmup_steps: int = option(500, "Raise the rate from 0 over this many steps.", lower=0)
    clip_norm: float = option(
        1.0, "Scale the gradients down where their norm, of all together, is above this."
    )
    ema_momentum: float = option(
        0.999, "Average the weights with this momentum; validation uses the average.",
        lower=0, upper=1,
    )  # fmt: skip
    precision: str = option(
        "float32",
        "Compute the network in this type while training.",
        choices=("float32", "mixed_bfloat16"),
    )
    maximum_downscale: float = option(
        2.0, "Reduce half of the patches in size, by up to this factor.", lower=1
    )
    hard_tiles: int | None = option(
        None,
        "Train only on this many tiles of each photograph: those that PNG compresses worst.",
        lower=1,
    )
    validation_images: int = option(24, "Validate on this many crops of photographs.", lower=1)
    # At least 161, or the coarsest scale of MS-SSIM is cut short.
    validation_size: int = option(192, "Cut those crops with this many pixels a side.", **_MULTIPLE)
    seed: int = option(0, "Draw everything that is random from this seed.")
    # How it is run and watched, which changes nothing else.
    devices: str = option(
        "auto",
        "Share each batch among this many devices. With auto these are all GPUs (with JAX also "
        "all TPUs), else one device; with tpu they are all cores of a TPU.",
        check=_are_devices,
        expects="auto, tpu or a number",
    )
    graph: bool = option(False, "Write the network's graph into the logs too (TensorFlow only).")
    profile: tuple[int, int] | None = option(
        None,
        "Write a profile of these steps, FIRST,LAST, into the logs too.",
        check=_are_steps,
        expects="two steps, FIRST,LAST, the first at least 1 and not after the last",
    )


@dataclasses.dataclass(frozen=True)
class ContextOptions:
    """What a run is, apart from the codec and the photographs."""

    steps: int = option(
        3_000, "Train for this many steps in all, resumed parts included.", lower=1, common=True
    )
    steps_per_epoch: int = option(
        250, "Validate and write a checkpoint each time after this many steps.", lower=1
    )
    batch_size: int = option(8, "Take this many patches for each step.", lower=1, common=True)
    patch_size: int = option(
        320,
        "Cut one crop of this many pixels a side from each photograph.",
        common=True,
        **_MULTIPLE,
    )
    crops: int = option(1_000, "Use at most this many photographs.", lower=1)
    features: int = option(64, "Make the hidden layers this wide.", lower=1)
    learning_rate: float = option(2e-3, "Learn at this rate after the warm-up.", lower=0)
    seed: int = option(0, "Draw everything that is random from this seed.")
    # Without, it is a network in floating point that cannot be stored: for comparison.
    quantised: bool = True
