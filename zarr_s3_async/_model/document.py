"""Metadata documents: a strict JSON reader with limits, checks of members, and the writer.

Types are strict: true, 2.0 and "4" are not integers.
"""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from .._types import JSON, Buffer, Shape, strict_json
from ..errors import ConfigError
from .problems import Invalid, Unknown, short_repr

MAX_BYTES = 32 * 2**20
MAX_VALUES = 4_000_000
"""Maximum number of values in one document: bounds the memory that 32 MiB of `[[],[],…` would take."""
MAX_DEPTH = 100

Document: TypeAlias = Buffer | Mapping[str, JSON]
"""A stored document, or one that was already parsed as a part of consolidated metadata."""


def load(document: Document) -> Mapping[str, JSON]:
    """Parse a document, which must be a JSON object.

    NaN and Infinity literals are accepted, since attributes may contain them; `check_portable` refuses them elsewhere.

    Raises:
        Invalid: Not UTF-8, not JSON, not an object, too large, too deep, or with a duplicate name in one object.
    """
    value = document if isinstance(document, Mapping) else _parse(bytes(document))
    if not isinstance(value, Mapping):
        raise Invalid(f"it must hold a JSON object, not {short_repr(value)}")
    return value


def _parse(raw: bytes) -> JSON:
    if len(raw) > MAX_BYTES:
        raise Invalid(f"it has {len(raw)} bytes; metadata of more than {MAX_BYTES} is not read")
    # Before parsing: each of these characters starts at most one value, so counting them bounds the values.
    if raw.count(b",") + raw.count(b"[") + raw.count(b"{") > MAX_VALUES:
        raise Invalid(f"it holds more than {MAX_VALUES} values")
    try:
        value = json.loads(str(raw.removeprefix(BOM_UTF8), "utf-8"), object_pairs_hook=_object)
    except Invalid:
        raise
    except RecursionError as problem:
        raise Invalid(f"it is nested more than {MAX_DEPTH} levels deep") from problem
    except UnicodeDecodeError as problem:
        raise Invalid(f"it is not UTF-8: {problem.reason} at byte {problem.start}") from problem
    except ValueError as problem:
        raise Invalid(f"it is not JSON: {problem}") from problem
    # A document with fewer brackets cannot be too deep, which spares walking over most documents.
    if raw.count(b"[") + raw.count(b"{") > MAX_DEPTH:
        _check_depth(value)
    return value


def _object(pairs: list[tuple[str, JSON]]) -> dict[str, JSON]:
    # JSON leaves duplicate names undefined: two readers could take different values.
    value = dict(pairs)
    if len(value) != len(pairs):
        twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise Invalid(f"the name {short_repr(twice)} is duplicated in one object")
    return value


def _check_depth(value: JSON) -> None:
    # Level by level, not by recursion, which a deep document could exhaust.
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
    """Refuse numbers that JSON cannot represent, and text that UTF-8 cannot represent.

    Raises:
        Invalid: A NaN or Infinity (also a number too large for a double), or a lone surrogate.
    """
    # A list instead of recursion, for the same reason as in `_check_depth`.
    pending = [value]
    while pending:
        item = pending.pop()
        match item:
            case float() if not isfinite(item):
                raise Invalid(f"{where} contains {item!r}, which is not a JSON number")
            case str() if not item.isascii():
                _check_text(item, where)
            case dict():
                pending.extend(item)
                pending.extend(item.values())
            case list() | tuple():
                pending.extend(item)


def with_portable_fill(source: Mapping[str, JSON]) -> Mapping[str, JSON]:
    """The document of an array with its fill value as valid JSON, so that it is read and written back as such."""
    fill = source.get("fill_value")
    strict = strict_json(fill) if isinstance(fill, float | list | dict) else fill
    return source if strict is fill or strict == fill else {**source, "fill_value": strict}


def _check_text(text: str, where: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as problem:
        raise Invalid(f"{where} holds {short_repr(text)}, which is not valid Unicode") from problem


def dump(document: Mapping[str, JSON], *, compact: bool = False) -> bytes:
    """The document as bytes to store, indented unless `compact`.

    Raises:
        ConfigError: It is larger than this library can read back.
    """
    raw = json.dumps(document, indent=None if compact else 2).encode()
    if len(raw) > MAX_BYTES:
        raise ConfigError(
            f"this metadata would take {len(raw)} bytes, more than the {MAX_BYTES} that can be read back; "
            "store large values in an array instead of attributes"
        )
    return raw


MAX_EXTENT = 2**63 - 1
MAX_INTEGERS = 1024
"""Maximum length of any list of integers, such as a shape: far more than the number of dimensions."""


class Named(NamedTuple):
    """An extension object of Zarr v3."""

    name: str
    configuration: Mapping[str, JSON]
    must_understand: bool


def member(document: Mapping[str, JSON], name: str) -> JSON:
    """A required member."""
    if name not in document:
        raise Invalid(f"{name!r} is missing")
    return document[name]


def text(value: JSON, where: str) -> str:
    """A non-empty string."""
    if not isinstance(value, str) or not value:
        raise Invalid(f"{where} must be a string, not {short_repr(value)}")
    return value


def one_of(value: JSON, where: str, choices: Sequence[str]) -> str:
    """One of a few strings."""
    if not isinstance(value, str) or value not in choices:
        raise Invalid(f"{where} must be one of {', '.join(map(repr, choices))}, not {short_repr(value)}")
    return value


def integer(value: JSON, where: str, *, minimum: int, maximum: int = MAX_EXTENT) -> int:
    """An integer within bounds, both included."""
    # A boolean is an integer in Python, but not in JSON.
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise Invalid(f"{where} must be an integer of at least {minimum}, not {short_repr(value)}")
    if value > maximum:
        raise Invalid(f"{where} must be at most {maximum}, not {short_repr(value)}")
    return value


def integers(value: JSON, where: str, *, minimum: int) -> Shape:
    """A list of integers."""
    if not isinstance(value, list):
        raise Invalid(f"{where} must be a list of integers, not {short_repr(value)}")
    _check_count(value, where, MAX_INTEGERS)
    return tuple(integer(item, f"every number of {where}", minimum=minimum) for item in value)


def mapping(value: JSON, where: str) -> Mapping[str, JSON]:
    """A JSON object."""
    if not isinstance(value, dict):
        raise Invalid(f"{where} must be an object, not {short_repr(value)}")
    return value


def items(value: JSON, where: str, *, max_items: int | None = None) -> list[JSON]:
    """A JSON array of at most `max_items`: callers check each item, which takes far longer than parsing."""
    if not isinstance(value, list):
        raise Invalid(f"{where} must be a list, not {short_repr(value)}")
    if max_items is not None:
        _check_count(value, where, max_items)
    return value


def _check_count(value: list[JSON], where: str, max_items: int) -> None:
    if len(value) > max_items:
        raise Unknown(f"{where} has {len(value):,} items, and more than {max_items:,} are not supported")


def only(value: Mapping[str, JSON], where: str, known: Sequence[str]) -> None:
    """Refuse unknown members, which may change the meaning of the others."""
    unknown = [name for name in value if name not in known]
    if unknown:
        raise Unknown(f"{where} has members that are not known: {', '.join(map(short_repr, unknown[:5]))}")


def named(value: JSON, where: str) -> Named:
    """An extension of v3: `"name"`, or `{"name": …, "configuration": {…}, "must_understand": …}`."""
    if isinstance(value, str):
        return Named(text(value, where), {}, must_understand=True)
    fields = mapping(value, where)
    name = text(fields.get("name"), f"the 'name' of {where}")
    only(fields, f"{where} {short_repr(name)}", ("name", "configuration", "must_understand"))
    must_understand = fields.get("must_understand", True)
    if not isinstance(must_understand, bool):
        raise Invalid(
            f"'must_understand' of {where} {short_repr(name)} must be true or false, not {short_repr(must_understand)}"
        )
    configuration = mapping(fields.get("configuration", {}), f"the configuration of {where} {short_repr(name)}")
    return Named(name, configuration, must_understand)


_MAX_DEPTH = MAX_DEPTH - 10
"""Depth of values to store. Less than is read, since consolidated metadata adds a few levels around a document."""
_MAX_BITS = 4096
"""Maximum size of an integer to store: Python parses at most 4,300 digits."""


def plain(value: Any, where: str, *, strict: bool = False, depth: int = 0) -> JSON:
    """A copy in JSON types: tuples become lists; NumPy scalars and arrays become numbers and lists.

    Args:
        value: The user's value.
        where: Description of the value for messages.
        strict: Refuse NaN, infinities and lone surrogates, which JSON does not have and strict readers refuse.
        depth: Nesting depth of `value` in the whole value.

    Raises:
        Invalid: JSON cannot represent it.
    """
    if depth > _MAX_DEPTH:
        raise Invalid(f"{where} is nested more than {_MAX_DEPTH} levels deep")
    match value:
        case None | bool():
            return value
        case int() if value.bit_length() <= _MAX_BITS:
            return int(value)
        case float():
            value = float(value)
            if strict and not isfinite(value):
                raise Invalid(f"{where} is {value!r}, which JSON does not have; give the text 'NaN' or None")
            return value
        case str():
            return _text(str.__str__(value), where, strict=strict)
        case Mapping():
            return {
                _key(key, where, strict=strict): plain(
                    item, f"{where}[{short_repr(key)}]", strict=strict, depth=depth + 1
                )
                for key, item in value.items()
            }
        case list() | tuple():
            return [plain(item, where, strict=strict, depth=depth + 1) for item in value]
        case np.generic() | np.ndarray() if value.dtype.kind in "biufUO":
            return plain(value.tolist(), where, strict=strict, depth=depth + 1)
    raise Invalid(
        f"{where} contains {short_repr(value)}, which JSON cannot represent; use numbers, text, lists and mappings"
    )


def _text(value: str, where: str, *, strict: bool) -> str:
    try:
        if strict:
            value.encode()
    except UnicodeEncodeError as problem:
        raise Invalid(f"{where} holds {short_repr(value)}, which is not valid Unicode") from problem
    return value


def _key(key: Any, where: str, *, strict: bool) -> str:
    if not isinstance(key, str):
        raise Invalid(f"the names in {where} must be strings, not {short_repr(key)}")
    return _text(key, where, strict=strict)


def new_attributes(attributes: Any, *, beside: Mapping[str, JSON] | None = None, zarr_format: int) -> dict[str, JSON]:
    """The attributes to store.

    NaN is refused in v3, where strict readers could not read the whole array; v2 stores attributes in a separate
    document, where NaN has always been used. NaN is allowed in v3 too if the stored attributes already contain it.

    Args:
        attributes: The user's attributes; None means none.
        beside: The attributes that are stored now.
        zarr_format: 2 or 3.

    Raises:
        Invalid: Not a mapping, or JSON cannot represent it.
    """
    if attributes is None:
        return {}
    if not isinstance(attributes, Mapping):
        raise Invalid(f"attributes must be a mapping, not {short_repr(attributes)}")
    strict = zarr_format == 3 and not (beside and _is_loose(beside))
    result: dict[str, JSON] = plain(attributes, "attributes", strict=strict)
    return result


def _is_loose(attributes: Mapping[str, JSON]) -> bool:
    try:
        plain(attributes, "attributes", strict=True)
    except Invalid:
        return True
    return False
