"""What help and documentation say of an option, from its declarations."""

from collections.abc import Mapping
import dataclasses

from rnn_codec.commands.command import Command
from rnn_codec.options import Option


def sentence(command: Command, by_mode: Mapping[str, Option], all_modes: bool = True) -> str:
    """The help of an option: what it does, its values, its default, and where it has a meaning.

    Args:
        command: whose option it is.
        by_mode: what modes declare of it.
        all_modes: whether to tell where it has none.
    """
    notes = [values(command, by_mode), default(command, by_mode)]
    if all_modes and len(by_mode) < len(command.modes()):
        notes.append(f"only {where(command, by_mode)}")
    note = "; ".join(filter(None, notes))
    return purpose(command, by_mode) + (f" ({note})" if note else "")


def purpose(command: Command, by_mode: Mapping[str, Option]) -> str:
    """What it does, said for each mode if it is not the same in all."""
    return _by_mode(command, {mode: declared.help for mode, declared in by_mode.items()}, " ")


def values(command: Command, by_mode: Mapping[str, Option]) -> str:
    """What it may be, unless its name says as much."""
    return _by_mode(command, {mode: _values(declared) for mode, declared in by_mode.items()})


def default(command: Command, by_mode: Mapping[str, Option]) -> str:
    """What it is if it is not given, unless its help says that."""
    return _by_mode(command, {mode: _default(declared) for mode, declared in by_mode.items()})


def where(command: Command, by_mode: Mapping[str, Option]) -> str:
    """The modes in which it has a meaning."""
    return command.where.format(" or ".join(by_mode))


def _values(declared):
    is_told = declared.choices or declared.expects
    is_bounded = declared.lower is not None or declared.upper is not None
    return declared.values() if declared.kind is not bool and (is_told or is_bounded) else ""


def _default(declared):
    value = declared.default
    if declared.required:
        return "must be given"
    if declared.kind is bool or value in (None, "", ()):
        return ""
    if isinstance(value, tuple):
        value = ",".join(map(str, value))
    return f"default {value:g}" if isinstance(value, float) else f"default {value}"


def _by_mode(command, texts, separator="; "):
    """One text if it is the same in all modes, else each with the modes that it is for."""
    modes = {}
    for mode, text in texts.items():
        modes.setdefault(text, []).append(mode)
    if len(modes) == 1:
        return next(iter(modes))
    parts = []
    for text, names in modes.items():
        condition = command.where.format(" or ".join(names))
        if text:
            end = ":" if separator == " " else ""
            parts.append(
                f"{condition[0].upper() + condition[1:]}: {text}" if end else f"{text} {condition}"
            )
    return separator.join(parts)


def is_common(by_mode: Mapping[str, Option]) -> bool:
    """Whether the short help shows it."""
    return any(declared.common for declared in by_mode.values())


def merged(by_mode: Mapping[str, Option]) -> Option:
    """One declaration for a parser, which knows no mode: what all of them have."""
    first, *others = by_mode.values()
    short = next(filter(None, (declared.short for declared in by_mode.values())), "")
    for other in others:
        if (other.kind is bool, other.repeated) != (first.kind is bool, first.repeated):
            raise TypeError(f"{first.name}: expected one kind of option in all modes")
    return dataclasses.replace(first, short=short)
