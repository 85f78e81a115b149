"""What all wings' configurations are: frozen dataclasses of plain values, read from JSON."""

from collections.abc import Iterable
import dataclasses
from typing import Any, Self


class JsonConfig:
    """Base of configurations: frozen dataclasses whose fields are plain values."""

    name: str

    def check_types(self) -> None:
        """Raises `ValueError` for a field that is not of its type (an int may be a float)."""
        for field in dataclasses.fields(self):
            value, kind = getattr(self, field.name), field.type
            if type(value) is not kind and not (kind is float and type(value) is int):
                raise ValueError(f"{field.name} must be {kind.__name__}. Received: {value!r}")

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ValueError(f"unknown configuration keys {unknown}; known: {sorted(known)}")
        return cls(**values)


def expect(name: str, value: object, choices: Iterable[object]) -> None:
    """Raises `ValueError` for a value that is none of the choices."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {list(choices)}. Received: {value!r}")
