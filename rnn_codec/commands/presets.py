"""Lists the presets: parameters, cost per pixel, and whether trained weights ship.

rnnc presets
rnnc presets --json                                 one JSON object for each
"""

import dataclasses
import json

from rnn_codec import options, presets, wings
from rnn_codec.commands import files
from rnn_codec.commands.command import Command, refuse_others, simple
from rnn_codec.options import option


@dataclasses.dataclass(frozen=True)
class PresetsOptions:
    """How they are listed."""

    json: bool = option(
        False, "Print one JSON object for each preset instead of a table.", common=True
    )


_HEADINGS = (
    "preset", "weights", "iterations", "parameters",
    "encoder", "decoder", "synthesis", "encode 8", "decode 8",
)  # fmt: skip


def _run(given):
    refuse_others(given, (PresetsOptions,), "here")
    request = options.make(PresetsOptions, given)
    files.load_keras()

    rows = []
    for name in presets.names():
        config = presets.load(name, load_weights=False).config
        cost = wings.of(config).measure(config)
        row = (
            name,
            "shipped" if name in presets.shipped() else "to train",
            config.iterations,
            cost.parameters,
            cost.encoder_macs,
            cost.decoder_macs,
            cost.synthesis_macs,
            cost.encode_macs(min(8, config.iterations)),
            cost.decode_macs(min(8, config.iterations)),
        )
        rows.append(row)
    if request.json:
        for row in rows:
            print(json.dumps(dict(zip(_HEADINGS, row))))
        return 0
    print(
        "MACs per pixel: of each part per iteration; encode 8 and decode 8 of 8 iterations "
        "in all, or the one of a hybrid codec"
    )
    print(" ".join(f"{heading:>16}" for heading in _HEADINGS))
    for row in rows:
        print(" ".join(f"{_readable(value):>16}" for value in row))
    return 0


def _readable(value):
    return value if isinstance(value, str) else f"{value:,.0f}"


COMMAND = Command("presets", __doc__, simple(PresetsOptions), _run)
