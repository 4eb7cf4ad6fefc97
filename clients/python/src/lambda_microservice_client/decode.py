"""JSON into the dataclasses of models.py. Fields that a newer platform adds are left out."""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Any, TypeVar

from lambda_microservice_client.errors import UnexpectedAnswer

Model = TypeVar("Model")


def decode(model: type[Model], data: Any, where: str = "the answer") -> Model:
    """Raises UnexpectedAnswer with the field that is missing or of another type."""
    if not isinstance(data, dict):
        raise UnexpectedAnswer(f"{where} is {_kind(data)}, expected an object with the fields of {model.__name__}")
    wanted = typing.get_type_hints(model)
    values = {}
    for field in dataclasses.fields(model):  # type: ignore[arg-type]
        if field.name in data:
            values[field.name] = _value(wanted[field.name], data[field.name], f"{where}.{field.name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise UnexpectedAnswer(f"{where} has no {field.name}, which {model.__name__} must have")
    return model(**values)


def _value(wanted: Any, data: Any, where: str) -> Any:
    origin, parts = typing.get_origin(wanted), typing.get_args(wanted)
    if wanted is Any:
        return data
    if origin in (types.UnionType, typing.Union):
        return _one_of(parts, data, where)
    if dataclasses.is_dataclass(wanted) and isinstance(wanted, type):
        return decode(wanted, data, where)
    if origin is list and isinstance(data, list):
        return [_value(parts[0], item, f"{where}[{number}]") for number, item in enumerate(data)]
    if origin is dict and isinstance(data, dict):
        return {name: _value(parts[1], item, f"{where}.{name}") for name, item in data.items()}
    if wanted is float and isinstance(data, int) and not isinstance(data, bool):
        return data
    plain = origin or wanted
    if not isinstance(data, plain) or (isinstance(data, bool) and plain is not bool):
        raise UnexpectedAnswer(f"{where} is {_kind(data)}, expected {plain.__name__}")
    return data


def _one_of(kinds: tuple[Any, ...], data: Any, where: str) -> Any:
    if data is None and type(None) in kinds:
        return None
    for kind in kinds:
        if kind is not type(None):
            try:
                return _value(kind, data, where)
            except UnexpectedAnswer as error:
                last = error
    raise last


def _kind(data: Any) -> str:
    return "null" if data is None else type(data).__name__
