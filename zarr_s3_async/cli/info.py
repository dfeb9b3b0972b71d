"""`zarr-s3 info URL`: what an array or a group is, and what is stored of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from math import prod
from typing import TypeAlias

from rich import box
from rich.table import Table

from .._array import Array
from .._engine.hierarchy import UnreadableNode
from .._group import Group
from .._session import Session
from .._types import CodecSpec
from . import units
from .ls import about
from .survey import ObjectKind, Tally, survey
from .terminal import err, out, plain

_MAX_ATTRIBUTE = 200


async def info(session: Session, url: str) -> None:
    """Open what is there, list what is stored of it, print both."""
    async with session:
        store = session.store(url)
        node = await session.open(store)
        if isinstance(node, Group):
            out.print(_table(node.url, _group(node), await _members(node), node.attrs))
            return
        with err.status("listing what is stored …"):
            tallies = await survey(store, node)
    out.print(_table(node.url, _array(node), _what_is_stored(node, tallies), node.attrs))


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


def _group(group: Group) -> Iterator[tuple[str, str]]:
    yield "format", f"Zarr v{group.metadata.zarr_format} group"


async def _members(group: Group) -> Rows:
    rows = []
    async for name, node in group.members():
        rows.append((name + "/", _member(node)))
    return sorted(rows)


def _member(node: Array | Group | UnreadableNode) -> str:
    if isinstance(node, UnreadableNode):
        return f"unreadable: {' '.join(str(node.error).split())}"
    return about(node) if isinstance(node, Array) else "group"


def _array(array: Array) -> Iterator[tuple[str, str]]:
    meta = array.metadata
    at_most = "" if meta.edges is None else " at most"
    yield "format", f"Zarr v{meta.zarr_format}"
    yield "shape", units.shape(array.shape)
    if any(array.dimension_names or ()):
        yield "dimensions", ", ".join(name or "·" for name in array.dimension_names or ())
    yield "data type", _dtype(array)
    yield (
        "chunks",
        f"{units.cells(meta.chunk_axes)}  ({units.size(prod(meta.chunks) * array.dtype.itemsize)} decoded{at_most})",
    )
    if meta.shards:
        yield "shards", f"{units.cells(meta.object_axes)}  ({units.size(meta.object_nbytes)} decoded{at_most})"
    yield "codecs", " → ".join(map(_codec, meta.codecs))
    yield "fill value", "none (reads as zero)" if array.fill_value is None else str(array.fill_value)
    yield "order", "C (last axis fastest)" if array.order == "C" else "F (first axis fastest)"
    yield "chunk keys", f"{meta.object_key((0,) * array.ndim)}  (the first one)"


def _dtype(array: Array) -> str:
    if array.dtype.itemsize == 1 or array.dtype.fields or array.dtype.hasobject:
        return str(array.dtype)
    return f"{array.dtype.name}  ({'big' if array.dtype.str.startswith('>') else 'little'} endian)"


def _codec(spec: CodecSpec) -> str:
    values = [f"{k}={v}" for k, v in spec.configuration.items() if v is not None and not isinstance(v, list | dict)]
    return f"{spec.name}({', '.join(values)})" if values else spec.name


def _what_is_stored(array: Array, tallies: Mapping[ObjectKind, Tally]) -> Iterator[tuple[str, str]]:
    chunks, whole = tallies["chunk"], prod(array.metadata.grid_shape)
    yield "decoded size", units.size(array.nbytes)
    noun = units.count(whole, "shard" if array.metadata.shards else "chunk")
    yield "stored", f"{chunks.objects:,} of {noun}, {units.size(chunks.nbytes)}"
    if chunks.nbytes and chunks.objects == whole:
        yield "ratio", f"{array.nbytes / chunks.nbytes:.2f} : 1"
    yield "metadata", _objects(tallies["metadata"])
    if tallies["other"].objects:
        yield "other", _objects(tallies["other"])


def _objects(tally: Tally) -> str:
    return f"{units.count(tally.objects, 'object')}, {units.size(tally.nbytes)}"


def _short(attribute: object) -> str:
    text = attribute if isinstance(attribute, str) else json.dumps(attribute, ensure_ascii=False, default=str)
    return text if len(text) <= _MAX_ATTRIBUTE else text[: _MAX_ATTRIBUTE - 1] + "…"
