"""Lists the presets: parameters, cost per pixel, and whether trained weights ship.

python -m rnn_codec.commands.presets
"""

import json

from absl import app, flags

from rnn_codec import presets, wings
from rnn_codec.commands import files

_JSON = flags.DEFINE_bool("json", False, "Print one JSON object per preset instead of a table.")

_HEADINGS = (
    "preset", "weights", "iterations", "parameters",
    "encoder", "decoder", "synthesis", "encode 8", "decode 8",
)  # fmt: skip


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected argument {argv[1]!r}; the command takes none.")
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
    if _JSON.value:
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


def run():
    """The installed command."""
    app.run(main)


if __name__ == "__main__":
    run()
