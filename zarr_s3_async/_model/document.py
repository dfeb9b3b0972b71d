"""Metadata documents as bytes: a bounded, strict JSON reader for what strangers wrote, and the writer."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from math import isfinite
from typing import TypeAlias

from .._types import JSON, Buffer
from ..errors import ConfigError
from .problems import Invalid, shown

MAX_BYTES = 32 * 2**20
MAX_VALUES = 4_000_000
"""Values in one document: bounds the memory that 32 MiB of `[[],[],…` would take."""
MAX_DEPTH = 100

Document: TypeAlias = Buffer | Mapping[str, JSON]
"""A stored document, or one that was parsed already as a part of consolidated metadata."""


def load(document: Document) -> Mapping[str, JSON]:
    """The JSON object that a document holds.

    NaN and Infinity literals pass, as attributes may hold them; `check_portable` refuses them elsewhere.

    Raises:
        Invalid: Not UTF-8, not JSON, not an object, too large, too deep, or a name twice in one object.
    """
    value = document if isinstance(document, Mapping) else _parse(bytes(document))
    if not isinstance(value, Mapping):
        raise Invalid(f"it must hold a JSON object, not {shown(value)}")
    return value


def _parse(raw: bytes) -> JSON:
    if len(raw) > MAX_BYTES:
        raise Invalid(f"it has {len(raw)} bytes; metadata of more than {MAX_BYTES} is not read")
    if raw.count(b",") + raw.count(b"[") + raw.count(b"{") > MAX_VALUES:
        raise Invalid(f"it holds more than {MAX_VALUES} values")
    try:
        value = json.loads(str(raw, "utf-8-sig"), object_pairs_hook=_object)
    except Invalid:
        raise
    except RecursionError as problem:
        raise Invalid(f"it is nested more than {MAX_DEPTH} levels deep") from problem
    except UnicodeDecodeError as problem:
        raise Invalid(f"it is not UTF-8: {problem.reason} at byte {problem.start}") from problem
    except ValueError as problem:
        raise Invalid(f"it is not JSON: {problem}") from problem
    if raw.count(b"[") + raw.count(b"{") > MAX_DEPTH:
        _check_depth(value)
    return value


def _object(pairs: list[tuple[str, JSON]]) -> dict[str, JSON]:
    value = dict(pairs)
    if len(value) != len(pairs):
        twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise Invalid(f"the name {shown(twice)} stands twice in one object")
    return value


def _check_depth(value: JSON) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [child for node in level for child in _children(node) if type(child) in (dict, list)]
        if not level:
            return
    raise Invalid(f"it is nested more than {MAX_DEPTH} levels deep")


def _children(value: JSON) -> Iterator[JSON]:
    match value:
        case dict():
            return iter(value.values())
        case list():
            return iter(value)
    return iter(())


def check_portable(value: JSON, where: str) -> None:
    """Refuse numbers that JSON does not have, and text that UTF-8 does not have.

    Raises:
        Invalid: A NaN or Infinity (also a number too large for a double), or a lone surrogate.
    """
    pending = [value]
    while pending:
        item = pending.pop()
        match item:
            case float() if not isfinite(item):
                raise Invalid(f"{where} holds {item!r}, which is no JSON number")
            case str() if not item.isascii():
                _check_text(item, where)
            case dict():
                pending.extend(item)
                pending.extend(item.values())
            case list() | tuple():
                pending.extend(item)


def _check_text(text: str, where: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as problem:
        raise Invalid(f"{where} holds {shown(text)}, which is not valid Unicode") from problem


def dump(document: Mapping[str, JSON], *, compact: bool = False) -> bytes:
    """The document as it is stored, indented for people unless `compact`.

    Raises:
        ConfigError: It is larger than this library would read again.
    """
    raw = json.dumps(document, indent=None if compact else 2).encode()
    if len(raw) > MAX_BYTES:
        raise ConfigError(
            f"this metadata would take {len(raw)} bytes, more than the {MAX_BYTES} that can be read back; "
            "store large values in an array instead of attributes"
        )
    return raw
