"""Prints docs/options.md: every option of every command, from their declarations.

python -m rnn_codec.commands.documentation > docs/options.md
"""

import re

from rnn_codec.commands import rnnc, texts

_HEAD = """# Options

Made by `python -m rnn_codec.commands.documentation > docs/options.md` from the declarations in the
code. `rnnc COMMAND --help` shows the common options of one command, `--help_all` all of them. Words
in an option's name may be joined by `-` as well as by `_`. An option of the kind "yes or no" is
taken back by `--no` before its name: `--nojson`. The scripts `encode.py`, `decode.py`, `train.py`
and `evaluate.py` take the same options, but no single letters; `decode.py` takes `--info`,
`--extract` and `--restore` in the place of these commands."""


def text():
    """The whole page."""
    return "\n\n".join([_HEAD, *(_section(rnnc.load(name)) for name in rnnc.COMMANDS)]) + "\n"


def _section(command):
    lines = [f"## rnnc {command.name}", "", command.summary, "", "```", command.uses, "```", ""]
    lines += ["| option | what it does | values | default |", "|---|---|---|---|"]
    for name, by_mode in command.declared().items():
        lines.append(_row(command, name, by_mode))
    return "\n".join(lines)


def _row(command, name, by_mode):
    declared = texts.merged(by_mode)
    names = [f"`-{declared.short}`"] if declared.short else []
    names.append(f"`--{name}`")
    purpose = texts.purpose(command, by_mode)
    if len(by_mode) < len(command.modes()):
        purpose += f" Only {texts.where(command, by_mode)}."
    values = "yes or no" if declared.kind is bool else texts.values(command, by_mode)
    default = texts.default(command, by_mode).replace("default ", "")
    cells = (", ".join(names), purpose, values, default)
    return f"| {' | '.join(_plain(cell) for cell in cells)} |"


def _plain(text):
    """Text in which Markdown sees no more than text."""
    return re.sub(r"([|*])", r"\\\1", text)


if __name__ == "__main__":
    print(text(), end="")
