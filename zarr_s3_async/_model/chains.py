"""Codec chains of documents, as codec specs in v3 terms. Their form is checked here, configurations by the codecs.

Zarr v3 core specification, "Codecs" and "Extensions"; the `sharding_indexed` codec; `filters`, `compressor` and
`order` of Zarr v2, where every numcodecs configuration `{"id": "zlib", "level": 1}` becomes `numcodecs.zlib` with
`{"level": 1}`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Literal, NamedTuple

from .._ml_dtypes import is_ml
from .._types import JSON, CodecSpec, Shape, is_pickle
from .document import integers, items, mapping, member, named, one_of, only, text
from .dtypes import DType, Variable
from .problems import Invalid, Unknown, short_repr

SHARDING = "sharding_indexed"
MAX_CODECS = 64
"""Maximum length of one list of codecs or filters: documents are untrusted."""
MAX_CHUNKS_PER_SHARD = 2**24
"""The index of such a shard has 256 MiB."""

_OBJECT_CODECS: dict[str, Variable] = {
    "vlen-utf8": "string",
    "vlen-bytes": "bytes",
    "vlen-array": "array",
    "json2": "any",
    "msgpack2": "any",
}
"""Object codecs, and the type of the elements that they read."""
_OTHER_OBJECT_CODECS = frozenset({"json", "msgpack"})
"""The first versions of json2 and msgpack2; not supported."""
_SHARDING_MEMBERS = ("chunk_shape", "codecs", "index_codecs", "index_location")


def read(value: JSON, where: str = "'codecs'") -> tuple[CodecSpec, ...]:
    """Read a chain, in encoding order. Codecs inside a sharding codec are returned in their long form.

    Raises:
        Invalid: Not a list of codecs, or an empty one.
        Unknown: It contains pickle, which runs code out of data.
    """
    entries = items(value, where, max_items=MAX_CODECS)
    if not entries:
        raise Invalid(f"{where} must name at least one codec")
    return tuple(_codec(entry, where) for entry in entries)


def _codec(entry: JSON, where: str) -> CodecSpec:
    name, configuration, must_understand = named(entry, f"a codec in {where}")
    refuse_pickle(name)
    if name == "endian":  # its name in drafts of v3, which zarr-python reads too
        name = "bytes"
    if name == SHARDING:
        configuration = _sharding(configuration)
    return CodecSpec(name, configuration, must_understand)


def refuse_pickle(name: str) -> None:
    """Refuse pickle: data never executes code.

    Raises:
        Unknown: The codec is pickle.
    """
    if is_pickle(name):
        raise Unknown(f"the codec {short_repr(name)} would run code from the data, which this library never does")


def _sharding(configuration: Mapping[str, JSON]) -> dict[str, JSON]:
    where = f"the configuration of {SHARDING!r}"
    only(configuration, where, _SHARDING_MEMBERS)
    location = configuration.get("index_location", "end")
    return {
        "chunk_shape": list(
            integers(member(configuration, "chunk_shape"), f"'chunk_shape' of {SHARDING!r}", minimum=1)
        ),
        "codecs": _spelled(read(member(configuration, "codecs"), f"'codecs' of {SHARDING!r}")),
        "index_codecs": _spelled(read(member(configuration, "index_codecs"), f"'index_codecs' of {SHARDING!r}")),
        "index_location": one_of(location, f"'index_location' of {SHARDING!r}", ("start", "end")),
    }


def _spelled(codecs: Sequence[CodecSpec]) -> list[JSON]:
    return [
        {"name": codec.name, "configuration": codec.configuration}
        | ({} if codec.must_understand else {"must_understand": False})
        for codec in codecs
    ]


def inner(codec: CodecSpec) -> tuple[CodecSpec, ...]:
    """The chain inside a sharding codec that `read` made."""
    return read(codec.configuration["codecs"])


def sharded(codecs: Sequence[CodecSpec], shape: Shape) -> Shape | None:
    """Shape of the chunks that can be fetched from an object on their own, or None where the object is one chunk.

    Sharding must be the whole chain: if another codec follows, the index's byte positions are not those in the object.

    Raises:
        Invalid: The chunks do not fill the shard of this `shape`.
        Unknown: There are too many of them.
    """
    if codecs[0].name != SHARDING:
        return None
    parts = tuple(codecs[0].configuration["chunk_shape"])
    check_parts(shape, parts)
    sharded(inner(codecs[0]), parts)  # checks nested shards; only the outermost level is fetched in ranges
    return parts if len(codecs) == 1 else None


def check_parts(shard: Shape, chunk: Shape) -> None:
    """Check that chunks fill a shard exactly.

    Raises:
        Invalid: They do not fill it.
        Unknown: There are too many chunks.
    """
    if len(shard) != len(chunk) or any(length % part for length, part in zip(shard, chunk, strict=True)):
        raise Invalid(f"shards of {shard} cannot be divided into chunks of {chunk}")
    if prod(shard) // prod(chunk) > MAX_CHUNKS_PER_SHARD:
        raise Unknown(f"a shard of {shard} holds more than {MAX_CHUNKS_PER_SHARD} chunks of {chunk}")


def byte_order(codecs: Sequence[CodecSpec]) -> Literal["<", ">"]:
    """The byte order that the chain stores elements in; little-endian where it does not define one."""
    for codec in codecs:
        if codec.name == SHARDING:
            # Fill values of records are stored like the elements, which in a shard the inner chain encodes.
            return byte_order(inner(codec))
        if codec.name == "bytes":
            return ">" if codec.configuration.get("endian") == "big" else "<"
    return "<"


def check_endian(codecs: Sequence[CodecSpec], dtype: DType) -> None:
    """Check that the chain defines a byte order for numbers of several bytes; guessing one could return wrong numbers.

    Raises:
        Invalid: It does not.
    """
    if dtype.names is not None or dtype.itemsize == 1 or not (dtype.kind in "iufc" or is_ml(dtype)):
        return
    for codec in codecs:
        if codec.name == SHARDING:
            check_endian(inner(codec), dtype)
        if codec.name == "bytes" and "endian" not in codec.configuration:
            raise Invalid(f"the codec 'bytes' must say 'endian' for elements of {dtype}")
        if codec.name != "transpose":  # any other codec may change the type, and this check then knows nothing of it
            return


def order(codecs: Sequence[CodecSpec], ndim: int) -> Literal["C", "F"]:
    """F where the chain reverses the axes of a chunk before it stores it."""
    first = codecs[0]
    if first.name == SHARDING:
        return order(inner(first), ndim)
    turned = first.name == "transpose" and first.configuration.get("order") == list(reversed(range(ndim)))
    return "F" if turned and ndim > 1 else "C"


def check_objects(codecs: Sequence[CodecSpec], variable: Variable) -> None:
    """Check that elements of varying length are stored by a codec made for them.

    Raises:
        Invalid: The step from array to bytes is `bytes`, which would store pointers, or makes elements of another type.
    """
    for codec in codecs:
        if codec.name == SHARDING:
            check_objects(inner(codec), variable)
        elif codec.name == "bytes":
            raise Invalid("elements of varying length need a codec such as 'vlen-utf8' instead of 'bytes'")
        elif _OBJECT_CODECS.get(codec.name, variable) != variable:
            raise Invalid(f"the codec {codec.name!r} gives elements of another type than {variable!r}")
        if codec.name != "transpose":  # it may change the type
            return


class Coder(NamedTuple):
    """A numcodecs configuration."""

    id: str
    configuration: dict[str, JSON]


def read_filters(value: JSON) -> tuple[Coder, ...]:
    """The `filters` member; null and an empty list both mean none."""
    return tuple(
        _coder(entry, "every one of 'filters'")
        for entry in items([] if value is None else value, "'filters'", max_items=MAX_CODECS)
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
    """Type of the elements that the object codec among these reads; None where there is none.

    Raises:
        Unknown: The object codec is one that is not supported.
    """
    for coder in coders:
        if coder.id in _OBJECT_CODECS:
            return _OBJECT_CODECS[coder.id]
        if coder.id == "categorize":
            return "string"
        if coder.id in _OTHER_OBJECT_CODECS:
            raise Unknown(f"the object codec {coder.id!r} is not supported")
    return None


def v2_chain(
    filters: Sequence[Coder], compressor: Coder | None, dtype: DType, order: Literal["C", "F"], ndim: int
) -> tuple[CodecSpec, ...]:
    """The neutral chain: transpose for F order, the filters, the step from array to bytes, and the compressor.

    v2 allows filters of any kind. The codecs package knows which of them take bytes, and moves `bytes` before the first
    of those.

    Raises:
        Invalid: An object codec for elements that are no objects, or objects without an object codec.
    """
    coders = [*filters, *([] if compressor is None else [compressor])]
    # Zarr v2 applies the order before the filters.
    turn = [CodecSpec("transpose", {"order": list(reversed(range(ndim)))})] if order == "F" and ndim > 1 else []
    step = next((at for at, coder in enumerate(coders) if coder.id in _OBJECT_CODECS), None)
    if step is not None:
        if not dtype.hasobject:
            raise Invalid(f"the object codec {coders[step].id!r} cannot store elements of {short_repr(dtype)}")
        to_bytes, after = CodecSpec(*coders[step]), coders[step + 1 :]
    else:
        step = len(filters)
        if dtype.hasobject and all(coder.id != "categorize" for coder in filters):
            raise Invalid("the chain has no object codec such as 'vlen-utf8' before the codecs that take bytes")
        to_bytes, after = CodecSpec("bytes", _endian(dtype, filtered=step > 0)), coders[step:]
    return (*turn, *map(_neutral, coders[:step]), to_bytes, *map(_neutral, after))


def _neutral(coder: Coder) -> CodecSpec:
    configuration = coder.configuration
    if coder.id == "shuffle":  # the default is 4 bytes in numcodecs, and the element size in zarr-python's v3 codec
        configuration = {"elementsize": 4} | configuration
    return CodecSpec(f"numcodecs.{coder.id}", configuration)


def _endian(dtype: DType, *, filtered: bool) -> dict[str, JSON]:
    """The configuration of `bytes`: the byte order of the array's dtype, unless a filter comes before it.

    Filters define the dtype of their output, and so its byte order.
    """
    if filtered or dtype.kind not in "iufc" or dtype.itemsize == 1 or is_ml(dtype):
        return {}
    return {"endian": "big" if dtype.str[0] == ">" else "little"}
