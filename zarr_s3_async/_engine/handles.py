"""Nodes that a session has opened under a policy, so that a handler can open by URL for each of its requests."""

from __future__ import annotations

from asyncio import sleep
from collections import OrderedDict
from collections.abc import Hashable
from time import monotonic
from typing import NamedTuple, cast

from .._model import formats
from .._model.metadata import ArrayMeta
from ..events import report_cache_lookup
from ..stores.base import Unchanged
from ..stores.optional import get_unless
from . import nodes
from .cache import new_reader
from .nodes import Format, Node
from .runtime import Layout, Runtime, lay_out

_KEPT = 1024
"""Opened arrays, each of a few kilobytes and its attributes."""


class _Opened(NamedTuple):
    layout: Layout
    node: Node
    checked: float
    """When the request left that brought the metadata, or confirmed it, in seconds of `monotonic`."""
    edits: int
    """The session's latest edit then."""


class HandleCache:
    """The layouts of arrays that were opened with a policy, the least recently opened evicted first."""

    __slots__ = ("_opened",)

    def __init__(self) -> None:
        self._opened: OrderedDict[Hashable, _Opened] = OrderedDict()

    def __len__(self) -> int:
        return len(self._opened)

    async def open_array(self, runtime: Runtime, path: str, zarr_format: Format | None, max_age: float) -> Layout:
        """The layout of the array at `path`, whose metadata is no older than `max_age` seconds.

        With 0 it was confirmed after this call began: by one conditional request of the v3 document, which all who ask
        before it is sent share; v2 documents are read again.

        Raises:
            NodeNotFound, MetadataError, UnsupportedFeature: See `nodes.load`.
        """
        place = runtime.name_of(path)
        name = (place, runtime.store.url, runtime.owner, zarr_format, max_age)
        asked = monotonic()
        opened = self._fresh(runtime, name, place, max_age, asked)
        report_cache_lookup(runtime.emit, "metadata", hit=opened is not None)
        while opened is None:
            async with runtime.locks.lead(
                f"open {place} {zarr_format} {max_age}"
            ) as leads:  # cancelled, the next one asks
                opened = self._fresh(runtime, name, place, max_age, asked)
                if opened is None and leads:
                    if max_age == 0:
                        await sleep(0)  # whoever asks in the same turn of the loop still shares the request
                    opened = await self._load(runtime, path, zarr_format, max_age, self._opened.get(name))
                    self._keep(name, opened)
        return opened.layout

    def _fresh(self, runtime: Runtime, name: Hashable, place: str, max_age: float, asked: float) -> _Opened | None:
        opened = self._opened.get(name)
        if opened is None or asked - opened.checked >= max_age or runtime.edits.touched(place, opened.edits):
            return None
        self._opened.move_to_end(name)
        return opened

    def _keep(self, name: Hashable, opened: _Opened) -> None:
        self._opened[name] = opened
        self._opened.move_to_end(name)
        if len(self._opened) > _KEPT:
            self._opened.popitem(last=False)

    async def _load(
        self, runtime: Runtime, path: str, zarr_format: Format | None, max_age: float, known: _Opened | None
    ) -> _Opened:
        edits, checked = runtime.edits.now(), monotonic()
        if known is not None and await _is_unchanged(runtime, path, known.node):
            return known._replace(checked=checked, edits=edits)
        node = await nodes.load(runtime, path, zarr_format, "array")
        if known is not None and known.node.versions == node.versions and known.node.meta == node.meta:
            return known._replace(checked=checked, edits=edits)
        layout = lay_out(runtime, path, cast("ArrayMeta", node.meta), new_reader(runtime.owner, max_age))
        return _Opened(layout, node, checked, edits)


async def _is_unchanged(runtime: Runtime, path: str, node: Node) -> bool:
    """By one conditional request, where one document says all."""
    if set(node.versions) != {formats.NODE_V3}:
        return False
    key = nodes.join(path, formats.NODE_V3)
    found = await get_unless(runtime.store, key, node.versions[formats.NODE_V3], max_bytes=formats.MAX_BYTES)
    return found is Unchanged.UNCHANGED
