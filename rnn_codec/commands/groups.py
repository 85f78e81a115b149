"""Options that several commands share."""

import dataclasses

from rnn_codec.options import option
from rnn_codec.pictures import reading

PRECISIONS = ("auto", "float32", "bfloat16")


@dataclasses.dataclass(frozen=True)
class InputOptions:
    """What a command reads, and how it tells of it."""

    input: tuple[str, ...] = option(
        (),
        "Read this .rnnc file, all such files below this folder, or standard input (-). Arguments "
        "without an option's name are inputs too.",
        repeated=True,
        positional="FILE",
    )
    json: bool = option(False, "Print one JSON object for each file on standard output.")


@dataclasses.dataclass(frozen=True)
class FileOptions(InputOptions):
    """What a command reads and writes."""

    output: str | None = option(
        None,
        "Write to this file, into this existing folder, or to standard output (-). By default a "
        "result lies beside its input and has a name like it.",
        short="o",
        common=True,
    )
    overwrite: bool = option(
        False, "Replace files whose names were made up from the inputs' names.", common=True
    )
    quiet: bool = option(False, "Print no line for each file.", common=True)
    max_pixels: int = option(
        reading.DEFAULT_MAX_PIXELS, "Refuse pictures with more pixels than this.", lower=1
    )


@dataclasses.dataclass(frozen=True)
class NetworkOptions:
    """Which network computes, and how."""

    preset: str | None = option(
        None,
        "Use the preset of this name or in this folder. By default it is the one that wrote the "
        "file, if it ships or lies below a folder that $RNN_CODEC_PRESETS names.",
    )
    precision: str = option(
        "auto",
        "Compute pixels in this type. With auto it is bfloat16 where the processor multiplies in "
        "it, else float32; files of either are read by both.",
        choices=PRECISIONS,
    )
