"""`zarr-s3 info URL`: metadata of an array or a group, and the number and size of its stored objects."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from math import prod
from typing import Annotated, Any, TypeAlias

import typer
from rich import box
from rich.table import Table

from .._array import Array
from .._group import Group
from .._types import CodecSpec
from . import units
from .nodes import Survey, Tally, described, in_words, survey
from .options import Call, Url
from .terminal import err, out, plain

_MAX_ATTRIBUTE = 200
_PAGE = 1000
"""Objects per listing request."""


async def info(
    call: Call,
    url: Url,
    count: Annotated[
        int,
        typer.Option(
            "--count",
            metavar="N",
            help="Maximum number of stored objects to count, 1,000 per request.",
            min=0,
        ),
    ] = 50_000,
    count_all: Annotated[bool, typer.Option("--count-all", help="Count all of them, however many.")] = False,
) -> None:
    """Show the metadata of an array or a group, and how much of it is stored."""
    async with call.session() as session:
        store = session.store(url)
        node = await session.open(store)
        if isinstance(node, Group):
            members = [found async for found in node.members()]
            listed = [{"name": name, **described(member)} for name, member in members]
            fields = {"url": node.url, **described(node), "attributes": dict(node.attrs), "members": listed}
            rows = sorted((name + "/", in_words(member)) for name, member in members)
            facts = [("format", f"Zarr v{node.metadata.zarr_format} group")]
            call.show(fields, lambda: out.print(_table(node.url, facts, rows, node.attrs)))
            return
        with err.status(f"counting stored objects, up to {units.count(count, 'object')} …"):
            found = await survey(store, node, limit=None if count_all else count)
    call.show(
        _fields(node, found),
        lambda: out.print(_table(node.url, _array(node), _what_is_stored(node, found), node.attrs)),
    )


def _fields(array: Array, found: Survey) -> dict[str, Any]:
    meta = array.metadata
    return {
        "url": array.url,
        **described(array),
        "dimension_names": None if array.dimension_names is None else list(array.dimension_names),
        "codecs": [{"name": spec.name, "configuration": dict(spec.configuration)} for spec in meta.codecs],
        "fill_value": array.fill_value,
        "order": array.order,
        "nbytes": None if _has_text(array) else array.nbytes,
        "objects": prod(meta.grid_shape),
        "stored": {kind: {"objects": tally.objects, "nbytes": tally.nbytes} for kind, tally in found.tallies.items()},
        "counted_all": found.is_whole,
        "attributes": dict(array.attrs),
    }


def _has_text(array: Array) -> bool:
    """True for elements of variable length, whose size is only known after reading them."""
    return bool(array.dtype.hasobject) or array.dtype.kind == "T"


Rows: TypeAlias = Iterable[tuple[str, str]]


def _table(url: str, first: Rows, second: Rows, attributes: Mapping[str, object]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_header=False, title=plain(url, "bold"), title_justify="left")
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    for rows in (first, second, ((name, _short(value)) for name, value in attributes.items())):
        table.add_section()
        for name, value in rows:
            table.add_row(plain(name), plain(value))
    return table


def _array(array: Array) -> Iterator[tuple[str, str]]:
    meta = array.metadata
    at_most = "" if meta.edges is None else " at most"
    yield "format", f"Zarr v{meta.zarr_format}"
    yield "shape", units.shape(array.shape)
    if any(array.dimension_names or ()):
        yield "dimensions", ", ".join(name or "·" for name in array.dimension_names or ())
    yield "data type", _dtype(array)
    text = _has_text(array)
    decoded = "" if text else f"  ({units.size(prod(meta.chunks) * array.dtype.itemsize)} decoded{at_most})"
    yield "chunks", f"{units.cells(meta.chunk_axes)}{decoded}"
    if meta.shards:
        decoded = "" if text else f"  ({units.size(meta.object_nbytes)} decoded{at_most})"
        yield "shards", f"{units.cells(meta.object_axes)}{decoded}"
    yield "codecs", " → ".join(map(_codec, meta.codecs))
    yield "fill value", "none (reads as zero)" if array.fill_value is None else str(array.fill_value)
    yield "order", "C (last axis fastest)" if array.order == "C" else "F (first axis fastest)"
    yield "chunk keys", f"{meta.object_key((0,) * array.ndim)}  (the first one)"


def _dtype(array: Array) -> str:
    if array.dtype.itemsize == 1 or array.dtype.fields or array.dtype.hasobject:
        # Byte order has no meaning for these, or differs by field.
        return str(array.dtype)
    return f"{array.dtype.name}  ({'big' if array.dtype.str.startswith('>') else 'little'} endian)"


def _codec(spec: CodecSpec) -> str:
    inner = spec.configuration.get("codecs") if spec.name == "sharding_indexed" else None
    if isinstance(inner, list):
        return f"{spec.name}: {' → '.join(_inner_codec(codec) for codec in inner)}"
    values = [f"{k}={v}" for k, v in spec.configuration.items() if v is not None and not isinstance(v, list | dict)]
    return f"{spec.name}({', '.join(values)})" if values else spec.name


def _inner_codec(codec: object) -> str:
    if isinstance(codec, Mapping):
        return _codec(CodecSpec(str(codec.get("name")), dict(codec.get("configuration") or {})))
    return str(codec)


def _what_is_stored(array: Array, found: Survey) -> Iterator[tuple[str, str]]:
    tallies = found.tallies
    chunks, whole = tallies["chunk"], prod(array.metadata.grid_shape)
    yield "decoded size", "not known: text of any length" if _has_text(array) else units.size(array.nbytes)
    noun = units.count(whole, "shard" if array.metadata.shards else "chunk")
    if not found.is_whole:
        yield "stored", f"at least {chunks.objects:,} of {noun}, {units.size(chunks.nbytes)}"
        requests = units.count(-(-whole // _PAGE), "request")
        yield "", f"counting all of them takes up to {requests}: --count-all"
        return
    yield "stored", f"{chunks.objects:,} of {noun}, {units.size(chunks.nbytes)}"
    if chunks.nbytes and chunks.objects == whole and not _has_text(array):
        yield "ratio", f"{array.nbytes / chunks.nbytes:.2f} : 1"
    yield "metadata", _objects(tallies["metadata"])
    if tallies["other"].objects:
        yield "other", _objects(tallies["other"])


def _objects(tally: Tally) -> str:
    return f"{units.count(tally.objects, 'object')}, {units.size(tally.nbytes)}"


def _short(attribute: object) -> str:
    text = attribute if isinstance(attribute, str) else json.dumps(attribute, ensure_ascii=False, default=str)
    return text if len(text) <= _MAX_ATTRIBUTE else text[: _MAX_ATTRIBUTE - 1] + "…"
