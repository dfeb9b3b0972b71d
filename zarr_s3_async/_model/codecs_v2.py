"""The `filters`, `compressor` and `order` of Zarr v2 as codec specs in v3's terms.

Transpose for F order, then the filters, the step from array to bytes, and the compressor. Every numcodecs
configuration `{"id": "zlib", "level": 1}` becomes `numcodecs.zlib` with `{"level": 1}`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from .._types import JSON, CodecSpec
from .codecs_v3 import refuse_pickle
from .dtypes import DType, Variable
from .fields import items, mapping, member, text
from .ml import is_ml
from .problems import Invalid, Unknown, shown

_OBJECT_CODECS: dict[str, Variable] = {"vlen-utf8": "string", "vlen-bytes": "bytes", "vlen-array": "array"}
_KNOWN_OBJECT_CODECS = frozenset({"json", "json2", "msgpack", "msgpack2"})
_BYTES_TO_BYTES = frozenset(
    {
        *("adler32", "base64", "blosc", "bz2", "crc32", "crc32c", "fletcher32", "gzip", "jenkins_lookup3"),
        *("lz4", "lzma", "shuffle", "zlib", "zstd"),
    }
)


class Coder(NamedTuple):
    """A numcodecs configuration."""

    id: str
    configuration: dict[str, JSON]


def read_filters(value: JSON) -> tuple[Coder, ...]:
    """The `filters` member; null and the empty list that some writers leave are none."""
    return tuple(
        _coder(entry, "every one of 'filters'") for entry in items([] if value is None else value, "'filters'")
    )


def read_compressor(value: JSON) -> Coder | None:
    """The `compressor` member."""
    return None if value is None else _coder(value, "'compressor'")


def _coder(value: JSON, where: str) -> Coder:
    fields = mapping(value, where)
    name = text(member(fields, "id"), f"the 'id' of {where}")
    refuse_pickle(name)
    return Coder(name, {key: item for key, item in fields.items() if key != "id"})


def objects_of(coders: Sequence[Coder]) -> Variable | None:
    """What the object codec among these makes of objects; None where there is none.

    Raises:
        Unknown: The object codec is one that is not supported.
    """
    for coder in coders:
        if coder.id in _OBJECT_CODECS:
            return _OBJECT_CODECS[coder.id]
        if coder.id == "categorize":
            return "string"
        if coder.id in _KNOWN_OBJECT_CODECS:
            raise Unknown(f"the object codec {coder.id!r} is not supported")
    return None


def specs(
    filters: Sequence[Coder], compressor: Coder | None, dtype: DType, order: Literal["C", "F"], ndim: int
) -> tuple[CodecSpec, ...]:
    """The neutral chain.

    Raises:
        Invalid: An object codec where there are no objects, or objects that would be stored as they lie.
    """
    coders = [*filters, *([] if compressor is None else [compressor])]
    turn = [CodecSpec("transpose", {"order": list(reversed(range(ndim)))})] if order == "F" and ndim > 1 else []
    step = _step(filters, coders)
    if step < len(coders) and coders[step].id in _OBJECT_CODECS:
        if not dtype.hasobject:
            raise Invalid(f"the object codec {coders[step].id!r} cannot store elements of {shown(dtype)}")
        to_bytes, after = CodecSpec(*coders[step]), coders[step + 1 :]
    elif dtype.hasobject and all(coder.id != "categorize" for coder in coders[:step]):
        raise Invalid("no object codec such as 'vlen-utf8' stands before the codecs that work on bytes")
    else:
        to_bytes, after = CodecSpec("bytes", _endian(dtype, filtered=step > 0)), coders[step:]
    return (*turn, *map(_neutral, coders[:step]), to_bytes, *map(_neutral, after))


def _step(filters: Sequence[Coder], coders: Sequence[Coder]) -> int:
    """Index of the first coder that works on bytes, or makes them."""
    for index, coder in enumerate(coders):
        if coder.id in _OBJECT_CODECS or coder.id in _BYTES_TO_BYTES or index == len(filters):
            return index
    return len(coders)


def _neutral(coder: Coder) -> CodecSpec:
    return CodecSpec(f"numcodecs.{coder.id}", coder.configuration)


def _endian(dtype: DType, *, filtered: bool) -> dict[str, JSON]:
    """None said means as the elements lie in memory: of no matter, or known from their own type.

    Filters say themselves which type they make; the array's own byte order is not theirs.
    """
    if filtered or dtype.kind not in "iufc" or dtype.itemsize == 1 or is_ml(dtype):
        return {}
    return {"endian": "big" if dtype.str[0] == ">" else "little"}
