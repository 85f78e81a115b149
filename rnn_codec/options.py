"""Options, each declared once: a field of a dataclass, with its help, its default and its bounds.

    @dataclasses.dataclass(frozen=True)
    class EncodingOptions:
        entropy: str | None = option(None, "Pack the bits in this way.", choices=("neural", "raw"))

The field's type says how a text of the command line becomes a value: `int`, `float`, `str`, `bool`,
`tuple[str, ...]` (separated by commas, or given several times) or a pair such as
`tuple[int, int]`. A field that is declared without `option` is none of the command line's.

Such dataclasses lie where what they say belongs: a wing's folder has its own for encoding, decoding
and training, a command has those that are the same for all wings. From them come argparse's options
for `rnnc`, absl's flags for the scripts, all checks, and `docs/options.md`; see `commands`.
"""

from collections.abc import Callable, Iterable, Mapping
import dataclasses
import types
import typing
from typing import Any

from rnn_codec.errors import CodecError

_KEY = "option"
_NOUNS = {int: "a whole number", float: "a number", str: "a text"}


@dataclasses.dataclass(frozen=True)
class Option:
    """What is declared of an option.

    Attributes:
        name: that of the field, and on the command line.
        kind: bool, int, float or str.
        count: how many values it takes: 1, 2, or None for any number.
        default: its value if it is not given; None if that depends on something else.
        help: one sentence or more.
        choices: the values that it may have, if they are few.
        lower, upper: bounds of a number.
        check: function of a value that says whether it is allowed, in addition.
        expects: what `check` allows, in words.
        short: one letter for `rnnc`, as in `-o`.
        repeated: whether it may be given several times, instead of values between commas.
        positional: what arguments without an option's name are called; they are values of this one.
        required: whether it must be given.
        common: whether `rnnc COMMAND --help` shows it; `--help_all` shows all.
    """

    name: str
    kind: type
    count: int | None
    default: Any
    help: str
    choices: tuple[str, ...] = ()
    lower: float | None = None
    upper: float | None = None
    check: Callable[[Any], bool] | None = None
    expects: str = ""
    short: str = ""
    repeated: bool = False
    positional: str = ""
    required: bool = False
    common: bool = False

    def read(self, given: Any) -> Any:
        """The value of what was given: a text, a bool, or a list of texts.

        Raises:
            CodecError: it is none of this option's.
        """
        if self.kind is bool:
            return given
        texts = given if self.repeated else [given] if self.count == 1 else _split(given)
        try:
            values = tuple(self._value(text) for text in texts)
            if self.count not in (None, len(values)):
                raise ValueError(given)
            value = values[0] if self.count == 1 else values
            if self.check and not self.check(value):
                raise ValueError(given)
        except ValueError:
            shown = ",".join(given) if self.repeated else given
            raise CodecError(f"--{self.name}={shown}: expected {self.values()}") from None
        return value

    def _value(self, text):
        value = self.kind(text)
        if self.choices and value not in self.choices:
            raise ValueError(text)
        if self.lower is not None and not value >= self.lower:
            raise ValueError(text)
        if self.upper is not None and not value <= self.upper:
            raise ValueError(text)
        return value

    def values(self) -> str:
        """What it may be, in words."""
        if self.kind is bool:
            return "yes or no"
        if self.expects:
            return self.expects
        one = _or(self.choices) if self.choices else _NOUNS[self.kind] + self._bounds()
        if self.count == 1:
            return one
        if self.count is None:
            return "any of " + ", ".join(self.choices) if self.choices else "any number of texts"
        return "two numbers, FIRST,LAST"

    def _bounds(self):
        lower, upper = self.lower, self.upper
        if lower is None:
            return "" if upper is None else f" of at most {upper:,}"
        return f" of at least {lower:,}" if upper is None else f" from {lower:,} to {upper:,}"


def option(default: Any, help: str | Callable[[], str], **declared: Any) -> Any:
    """A field of a dataclass that is an option; `declared` are further attributes of `Option`.

    `help` and `choices` may be functions without arguments, called when they are needed.
    """
    metadata = {_KEY: {"default": default, "help": help, **declared}}
    return dataclasses.field(default=default, metadata=metadata)


def of(group: type) -> tuple[Option, ...]:
    """The options that a dataclass declares."""
    hints = typing.get_type_hints(group)
    found = []
    for field in dataclasses.fields(group):
        declared = field.metadata.get(_KEY)
        if declared is not None:
            kind, count = _kind_and_count(hints[field.name])
            choices = tuple(_called(declared.get("choices", ())))
            declared = {**declared, "choices": choices, "help": _called(declared["help"])}
            found.append(Option(field.name, kind, count, **declared))
    return tuple(found)


def make(group: type, given: Mapping[str, Any]) -> Any:
    """The dataclass with the values of what was given, and defaults for the rest.

    Args:
        group: a dataclass with options.
        given: what the user gave, by the option's name; may hold other options too.

    Raises:
        CodecError: a value is none of its option's, or a required option is missing.
    """
    values = {}
    for declared in of(group):
        if declared.name in given:
            values[declared.name] = declared.read(given[declared.name])
        elif declared.required:
            raise CodecError(f"expected --{declared.name}; see --help")
    return group(**values)


def names(groups: Iterable[type]) -> tuple[str, ...]:
    """The names of all options that dataclasses declare, each once."""
    return tuple(dict.fromkeys(declared.name for group in groups for declared in of(group)))


def as_arguments(values: Any) -> dict[str, Any]:
    """The options of a dataclass as keyword arguments of a function."""
    return {declared.name: getattr(values, declared.name) for declared in of(type(values))}


@dataclasses.dataclass(frozen=True)
class NoOptions:
    """Declares none."""


def _kind_and_count(hint):
    """The type of one value, and how many there are, of a field's type."""
    kinds = [hint]
    if isinstance(hint, types.UnionType):
        kinds = [kind for kind in typing.get_args(hint) if kind is not types.NoneType]
    (kind,) = kinds
    if typing.get_origin(kind) is not tuple:
        return kind, 1
    first, *others = typing.get_args(kind)
    return first, None if others == [Ellipsis] else 1 + len(others)


def _called(value):
    return value() if callable(value) else value


def _split(text):
    return text.split(",") if text else []


def _or(names):
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else last
