"""The program `rnnc`: one command for everything.

rnnc encode photo.png                 compress a picture: photo.png.rnnc
rnnc decode photo.png.rnnc            restore it: photo.png.png
rnnc info photo.png.rnnc              see what a file holds
"""

import argparse
import importlib
import logging
import sys
import textwrap

from rnn_codec.commands import files, texts
from rnn_codec.errors import CodecError
from rnn_codec.version import __version__

# In the order in which they are listed; each is a module beside this one.
COMMANDS = (
    "encode", "decode", "info", "extract", "restore", "evaluate", "train", "presets", "beam",
)  # fmt: skip

_HELP, _HELP_ALL = ("-h", "--help"), "--help_all"


def load(name):
    """The `Command` of a name."""
    return importlib.import_module(f"rnn_codec.commands.{name}").COMMAND


def main(argv=None):
    """Runs the program with arguments, those of the process by default; returns the exit code."""
    name, *arguments = (sys.argv[1:] if argv is None else argv) or ["--help"]
    arguments = [_underscored(argument) for argument in arguments]
    if name == "--version":
        print(f"rnnc {__version__}")
        return 0
    if name in (*_HELP, "help", "--help-all", _HELP_ALL):
        if arguments and arguments[0] in COMMANDS:
            return main([arguments[0], "--help"])
        print(_overview())
        return 0
    if name not in COMMANDS:
        print(
            f"rnnc: {name}: expected a command ({', '.join(COMMANDS)}); see rnnc --help",
            file=sys.stderr,
        )
        return 1
    command = load(name)
    if {*_HELP, _HELP_ALL} & set(arguments):
        print(_help(command, arguments))
        return 0
    if command.logs:
        _log_to_stderr()
    return files.run_guarded(name, lambda: command.run(*parse(command, arguments)))


def parse(command, arguments):
    """What `Command.run` takes of arguments: what was given by name and, if it takes it, the rest.

    Raises:
        CodecError: an option that the command does not have, or one without its value.
    """
    parser = _parser(command)
    if command.takes_unknown:
        namespace, unknown = parser.parse_known_args(arguments)
        return vars(namespace), unknown
    given = vars(parser.parse_intermixed_args(arguments))
    add_positionals(command, given, given.pop("_arguments", []))
    return (given,)


def add_positionals(command, given, arguments):
    """Adds arguments without a name to what was given; `CodecError` if they have no place."""
    if not arguments:
        return
    declared = [texts.merged(by_mode) for by_mode in command.declared().values()]
    place = next((one for one in declared if one.positional), None)
    if place is not None and place.repeated:
        given[place.name] = [*given.get(place.name, []), *arguments]
    elif place is not None and len(arguments) == 1 and place.name not in given:
        given[place.name] = arguments[0]
    else:
        raise CodecError(f"unexpected argument {arguments[-1]!r}; see --help")


def _log_to_stderr():
    """Shows what training tells of."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")


def _underscored(argument):
    """--target-bpp=1 is --target_bpp=1."""
    name, equals, value = argument.partition("=")
    return (
        name.replace("-", "_").replace("__", "--", 1) + equals + value
        if (name.startswith("--") and len(name) > 2)
        else argument
    )


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise CodecError(f"{message}; see {self.prog} --help")


def _parser(command, mode="", with_rare=True):
    """The parser of a command's options; help is only of a mode's, and of rare ones if asked."""
    parser = _Parser(
        prog=f"rnnc {command.name}",
        usage=f"rnnc {command.name} [options]{_positional_usage(command)}",
        description=f"{command.summary}\n\n{_indented(command.uses)}",
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(
            prog, max_help_position=28, width=100
        ),
        argument_default=argparse.SUPPRESS,
        add_help=False,
        allow_abbrev=False,
    )
    parser.add_argument(*_HELP, action="store_true", help="Show this text.")
    rare = parser.add_argument_group("more options") if with_rare else parser
    for name, by_mode in command.declared(mode).items():
        declared = texts.merged(by_mode)
        is_common = texts.is_common(by_mode)
        shown = argparse.SUPPRESS
        if is_common or with_rare:
            shown = texts.sentence(command, by_mode, not mode).replace("%", "%%")
        group = parser if is_common or declared.positional else rare
        _add(group, declared, name, shown)
    return parser


def _add(group, declared, name, shown):
    letters = [f"-{declared.short}"] if declared.short else []
    if declared.kind is bool:
        group.add_argument(*letters, f"--{name}", action="store_true", help=shown)
        group.add_argument(
            f"--no{name}", f"--no_{name}", dest=name, action="store_false", help=argparse.SUPPRESS
        )
        return
    if declared.positional:
        positional_help = declared.help.replace("%", "%%")
        group.add_argument(
            "_arguments", nargs="*", metavar=declared.positional, help=positional_help
        )
        shown = argparse.SUPPRESS
    action = "append" if declared.repeated else "store"
    group.add_argument(*letters, f"--{name}", action=action, help=shown, metavar=_metavar(declared))


def _metavar(declared):
    if declared.count == 2:
        return "FIRST,LAST"
    if declared.count is None and not declared.repeated:
        return "A,B,..."
    return {int: "N", float: "X"}.get(declared.kind, "NAME")


def _indented(text):
    return textwrap.indent(text, "  ")


def _positional_usage(command):
    for by_mode in command.declared().values():
        declared = texts.merged(by_mode)
        if declared.positional:
            return f" {declared.positional}{' ...' if declared.repeated else ''}"
    return ""


def _help(command, arguments):
    """The text for --help or --help_all, of one mode if the arguments choose it."""
    mode = ""
    if command.selector:
        prefix = f"--{command.selector}="
        chosen = [argument.removeprefix(prefix) for argument in arguments if prefix in argument]
        mode = chosen[-1] if chosen and chosen[-1] in command.modes() else ""
    with_rare = _HELP_ALL in arguments
    text = _parser(command, mode, with_rare).format_help()
    return text if with_rare else f"{text}\nrnnc {command.name} --help_all shows all options."


def _overview():
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {load(name).summary}" for name in COMMANDS]
    _, _, uses = __doc__.partition("\n\n")
    return (
        "usage: rnnc COMMAND [options] [files]\n\nCompresses pictures with neural networks.\n\n"
        f"{_indented(textwrap.dedent(uses).rstrip())}\n\ncommands:\n" + "\n".join(lines) + "\n\n"
        "rnnc COMMAND --help tells more of one; rnnc --version is the version."
    )
