"""A session's cache of opened arrays, so that a request handler can open an array by URL for each request."""

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
"""Maximum number of cached arrays; each takes a few kilobytes and its attributes."""


class _Opened(NamedTuple):
    layout: Layout
    node: Node
    checked: float
    """When the request that fetched or confirmed the metadata was sent, in seconds of `monotonic`."""
    edits: int
    """`Edits.now` at that time."""


class HandleCache:
    """The layouts of arrays that were opened with a cache policy; an LRU cache."""

    __slots__ = ("_opened",)

    def __init__(self) -> None:
        self._opened: OrderedDict[Hashable, _Opened] = OrderedDict()

    def __len__(self) -> int:
        return len(self._opened)

    async def open_array(self, runtime: Runtime, path: str, zarr_format: Format | None, max_age: float) -> Layout:
        """The layout of the array at `path`, with metadata that is at most `max_age` seconds old.

        With 0 it was confirmed after this call started: for v3 by one conditional request, which concurrent callers
        share if they start before it is sent; v2 documents are read again.

        Raises:
            NodeNotFound, MetadataError, UnsupportedFeature: See `nodes.load`.
        """
        place = runtime.name_of(path)
        # The URL too, because it appears in errors and references; the owner, because permissions may differ.
        name = (place, runtime.store.url, runtime.owner, zarr_format, max_age)
        asked = monotonic()
        opened = self._fresh(runtime, name, place, max_age, asked)
        report_cache_lookup(runtime.emit, "metadata", hit=opened is not None)
        while opened is None:
            # One caller leads and sends the request, the others wait and look again; if the leader is cancelled,
            # the next one leads.
            async with runtime.locks.lead(f"open {place} {zarr_format} {max_age}") as leads:
                opened = self._fresh(runtime, name, place, max_age, asked)
                if opened is None and leads:
                    if max_age == 0:
                        await sleep(0)  # callers that start in the same iteration of the loop still share the request
                    opened = await self._load(runtime, path, zarr_format, max_age, self._opened.get(name))
                    self._opened[name] = opened
                    self._opened.move_to_end(name)
                    if len(self._opened) > _KEPT:
                        self._opened.popitem(last=False)
        return opened.layout

    def _fresh(self, runtime: Runtime, name: Hashable, place: str, max_age: float, asked: float) -> _Opened | None:
        opened = self._opened.get(name)
        if opened is None or asked - opened.checked >= max_age or runtime.edits.touched(place, opened.edits):
            return None
        self._opened.move_to_end(name)
        return opened

    async def _load(
        self, runtime: Runtime, path: str, zarr_format: Format | None, max_age: float, known: _Opened | None
    ) -> _Opened:
        # Before the request: an edit or a change during it must make the result count as older.
        edits, checked = runtime.edits.now(), monotonic()
        if known is not None and await _is_unchanged(runtime, path, known.node):
            return known._replace(checked=checked, edits=edits)
        node = await nodes.load(runtime, path, zarr_format, "array")
        # The old layout is kept, so that its handles go on sharing fetches and decoded chunks with new ones.
        if known is not None and known.node.versions == node.versions and known.node.meta == node.meta:
            return known._replace(checked=checked, edits=edits)
        layout = lay_out(runtime, path, cast("ArrayMeta", node.meta), new_reader(runtime.owner, max_age))
        return _Opened(layout, node, checked, edits)


async def _is_unchanged(runtime: Runtime, path: str, node: Node) -> bool:
    """True if one conditional request confirms the node; False for v2, whose nodes have several documents."""
    if set(node.versions) != {formats.NODE_V3}:
        return False
    key = nodes.join(path, formats.NODE_V3)
    found = await get_unless(runtime.store, key, node.versions[formats.NODE_V3], max_bytes=formats.MAX_BYTES)
    return found is Unchanged.UNCHANGED
