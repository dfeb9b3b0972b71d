"""Reads the members of a metadata document, strictly: true is no integer, nor is 2.0, nor is "4"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from .._types import JSON, Shape
from .problems import Invalid, Unknown, shown

MAX_EXTENT = 2**63 - 1


class Named(NamedTuple):
    """An extension object of Zarr v3, or the short-hand for one."""

    name: str
    configuration: Mapping[str, JSON]
    must_understand: bool


def member(document: Mapping[str, JSON], name: str) -> JSON:
    """A member that must be there."""
    if name not in document:
        raise Invalid(f"{name!r} is missing")
    return document[name]


def text(value: JSON, where: str) -> str:
    """A string that is not empty."""
    if not isinstance(value, str) or not value:
        raise Invalid(f"{where} must be a string, not {shown(value)}")
    return value


def one_of(value: JSON, where: str, choices: Sequence[str]) -> str:
    """One of a few strings."""
    if not isinstance(value, str) or value not in choices:
        raise Invalid(f"{where} must be one of {', '.join(map(repr, choices))}, not {shown(value)}")
    return value


def whole(value: JSON, where: str, *, least: int, most: int = MAX_EXTENT) -> int:
    """An integer within bounds, both included."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise Invalid(f"{where} must be a whole number of at least {least}, not {shown(value)}")
    if value > most:
        raise Invalid(f"{where} must be at most {most}, not {shown(value)}")
    return value


def wholes(value: JSON, where: str, *, least: int) -> Shape:
    """A list of integers."""
    if not isinstance(value, list):
        raise Invalid(f"{where} must be a list of whole numbers, not {shown(value)}")
    return tuple(whole(item, f"every number of {where}", least=least) for item in value)


def mapping(value: JSON, where: str) -> Mapping[str, JSON]:
    """A JSON object."""
    if not isinstance(value, dict):
        raise Invalid(f"{where} must be an object, not {shown(value)}")
    return value


def items(value: JSON, where: str) -> list[JSON]:
    """A JSON array."""
    if not isinstance(value, list):
        raise Invalid(f"{where} must be a list, not {shown(value)}")
    return value


def only(value: Mapping[str, JSON], where: str, known: Sequence[str]) -> None:
    """Refuse members that nobody here knows: they may change what the others mean."""
    strange = [name for name in value if name not in known]
    if strange:
        raise Unknown(f"{where} has members that are not known: {', '.join(map(shown, strange[:5]))}")


def named(value: JSON, where: str) -> Named:
    """An extension of v3: `"name"`, or `{"name": …, "configuration": {…}, "must_understand": …}`."""
    if isinstance(value, str):
        return Named(text(value, where), {}, must_understand=True)
    fields = mapping(value, where)
    name = text(fields.get("name"), f"the 'name' of {where}")
    only(fields, f"{where} {shown(name)}", ("name", "configuration", "must_understand"))
    must_understand = fields.get("must_understand", True)
    if not isinstance(must_understand, bool):
        raise Invalid(f"'must_understand' of {where} {shown(name)} must be true or false, not {shown(must_understand)}")
    configuration = mapping(fields.get("configuration", {}), f"the configuration of {where} {shown(name)}")
    return Named(name, configuration, must_understand)
