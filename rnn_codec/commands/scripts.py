"""The scripts at the top, train.py and its like: the same commands with absl's flags."""

import functools
import re
import sys

from absl import app, flags, logging

from rnn_codec.commands import files, rnnc, texts
from rnn_codec.errors import CodecError


def run(*commands):
    """Runs a script to its end.

    Args:
        *commands: `Command`s. The first gives the script its name; each of the others is done
            instead if a flag of its name is given.
    """
    name = commands[0].name
    for flag in define(commands, flags.FLAGS):
        # To absl the script is the main module, and it has neither flags nor a docstring.
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flags.FLAGS[flag])
    sys.modules["__main__"].__doc__ = "\n\n".join(_text(name, command) for command in commands)
    if commands[0].logs:
        logging.set_verbosity(logging.INFO)
    parse_flags = functools.partial(_parse_flags, name, commands[0].takes_unknown)
    app.run(functools.partial(main, commands), flags_parser=parse_flags)


def define(commands, values):
    """Defines the flags of commands in an absl `FlagValues`; returns their names."""
    declared = {}
    for command in commands:
        for name, by_mode in command.declared().items():
            declared.setdefault(name, (command, by_mode))
    for name, (command, by_mode) in declared.items():
        one, shown = texts.merged(by_mode), texts.sentence(command, by_mode)
        if one.kind is bool:
            flags.DEFINE_bool(name, None, shown, flag_values=values)
        elif one.repeated:
            flags.DEFINE_multi_string(name, None, shown, flag_values=values)
        else:
            flags.DEFINE_string(name, None, shown, flag_values=values)
    others = [command.name for command in commands[1:]]
    for command in commands[1:]:
        flags.DEFINE_bool(command.name, False, command.summary, flag_values=values)
    return [*declared, *others]


def main(commands, argv, values=None):
    """What a script does once absl has read its flags; returns the exit code."""
    values = flags.FLAGS if values is None else values
    name = commands[0].name
    return files.run_guarded(name, lambda: _run(commands, argv, values))


def _run(commands, argv, values):
    chosen = [command for command in commands[1:] if values[command.name].value]
    if len(chosen) > 1:
        names = ", ".join(f"--{command.name}" for command in chosen)
        raise CodecError(f"expected one of {names}, received {len(chosen)}; keep one")
    command = chosen[0] if chosen else commands[0]
    given = {}
    for one in commands:
        for name in one.declared():
            if values[name].present:
                given[name] = values[name].value
    for name in given:
        if name not in command.declared():
            raise CodecError(f"--{name}: has no meaning with --{command.name}; leave it out")
    if command.takes_unknown:
        return command.run(given, argv[1:])
    rnnc.add_positionals(command, given, argv[1:])
    return command.run(given)


def _text(name, command):
    """A command's text with the calls as a script takes them."""
    text = command.text
    if command.name != name:
        text = text.replace(f"rnnc {command.name}", f"python {name}.py --{command.name}")
    return re.sub(r"\brnnc (\w+)", r"python \1.py", text).replace(" -o ", " --output=")


def _parse_flags(name, known_only, argv):
    """What absl does, but a fault is one line."""
    try:
        return flags.FLAGS(argv, known_only=known_only)
    except flags.Error as error:
        print(f"{name}: {error}; see --help".replace("\n", " "), file=sys.stderr)
        sys.exit(1)
