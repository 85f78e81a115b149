"""What a command is: its text, its options in each of its modes, and what it does with them.

A mode is what decides which options have a meaning: for `encode` the kind of codec, for `train` the
model, for `beam` what is to be done. An option is taken in a mode if one of the mode's groups
declares it, and refused in the others.
"""

from collections.abc import Callable, Mapping
import dataclasses
from typing import Any

from rnn_codec import options
from rnn_codec.errors import CodecError
from rnn_codec.options import Option

# Dataclasses of options.
Groups = tuple[type, ...]


@dataclasses.dataclass(frozen=True)
class Command:
    """One of `rnnc`'s commands.

    Attributes:
        text: the docstring of its module: a line that says what it does, then how it is called.
        modes: function that returns its groups of options by mode, the default mode first.
        run: function that does it and returns the exit code; takes what the user gave, by the
            option's name, as `options.make` does.
        name: of its module, unless said otherwise.
        where: what it means to be in a mode, with {} for the mode: "with --model={}".
        selector: the option whose value is a mode, if there is one.
        takes_unknown: whether arguments that are no options of this command are for another
            program; `run` gets them in a list, as a second argument.
        logs: whether it tells of its work through `logging`.
    """

    name: str
    text: str
    modes: Callable[[], Mapping[str, Groups]]
    run: Callable[..., int]
    where: str = ""
    selector: str = ""
    takes_unknown: bool = False
    logs: bool = False

    @property
    def summary(self) -> str:
        return self.text.partition("\n")[0]

    @property
    def uses(self) -> str:
        """What comes after the summary, without blank lines around it."""
        return self.text.partition("\n")[2].strip("\n")

    def declared(self, mode: str = "") -> dict[str, dict[str, Option]]:
        """By an option's name: what each mode, or only one, declares of it."""
        found: dict[str, dict[str, Option]] = {}
        for name, groups in self.modes().items():
            for group in groups if mode in ("", name) else ():
                for declared in options.of(group):
                    found.setdefault(declared.name, {})[name] = declared
        return found


def simple(*groups: type) -> Callable[[], Mapping[str, Groups]]:
    """The modes of a command that has only one."""
    return lambda: {"": groups}


def refuse_others(given: Mapping[str, Any], groups: Groups, where: str, advice: str = "") -> None:
    """Raises `CodecError` for what was given and none of a mode's groups declares."""
    known = options.names(groups)
    for name in given:
        if name not in known:
            raise CodecError(f"--{name}: has no meaning {where}; leave it out{advice}")
