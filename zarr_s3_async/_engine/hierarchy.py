"""The nodes below a group: from its consolidated metadata where it carries that, from listings otherwise."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import TypeAlias

from .._concurrency.workers import gather_all
from .._model import formats
from .._model.metadata import ArrayMeta, GroupMeta
from .._model.names import problem_of
from ..errors import NodeNotFound
from . import nodes
from .runtime import Runtime

log = logging.getLogger("zarr_s3_async")

Found: TypeAlias = tuple[str, ArrayMeta | GroupMeta]


class Children:
    """What lies below one group, as one state of its metadata sees it."""

    __slots__ = ("_meta", "_path", "_runtime")

    def __init__(self, runtime: Runtime, path: str, meta: GroupMeta) -> None:
        self._runtime = runtime
        self._path = path
        self._meta = meta

    def known(self, path: str) -> ArrayMeta | GroupMeta | None:
        """The node at a path below, where the consolidated metadata has it."""
        documents = (self._meta.consolidated or {}).get(path)
        if documents is None:
            return None
        meta = formats.parse_node(documents, url=f"{self._runtime.store.url}/{nodes.join(self._path, path)}")
        return self._with_nodes_below(path, meta) if isinstance(meta, GroupMeta) else meta

    def _with_nodes_below(self, path: str, meta: GroupMeta) -> GroupMeta:
        """A group that was found in consolidated metadata knows what that has below it."""
        prefix = path + "/"
        below = {
            name.removeprefix(prefix): documents
            for name, documents in (self._meta.consolidated or {}).items()
            if name.startswith(prefix)
        }
        return replace(meta, consolidated=below)

    async def names(self) -> list[str]:
        """Names directly below, sorted. Those that no node may have are left out, and logged."""
        consolidated = self._meta.consolidated
        if consolidated is not None:
            return sorted(name for name in consolidated if "/" not in name)
        listing = await self._runtime.store.list_dir(self._path)
        found = [directory.rpartition("/")[2] for directory in listing.dirs]
        for name in found:
            if problem_of(name) is not None:
                log.warning("left out of the listing of %s: %r: %s", self._path or "/", name, problem_of(name))
        return sorted(name for name in found if problem_of(name) is None)

    async def load(self, names: Sequence[str]) -> list[Found]:
        """The nodes of these names, fetched concurrently; folders that are no nodes are left out."""
        loaded = await gather_all(*(self._load(name) for name in names))
        return [(name, meta) for name, meta in zip(names, loaded, strict=True) if meta is not None]

    async def _load(self, name: str) -> ArrayMeta | GroupMeta | None:
        known = self.known(name)
        if known is not None:
            return known
        try:
            path = nodes.join(self._path, name)
            return (await nodes.load(self._runtime.store, path, self._meta.zarr_format)).meta
        except NodeNotFound:
            return None

    async def walk(self) -> AsyncIterator[Found]:
        """Every node below by its path relative to this group: parents before children, siblings by name."""
        names = await self.names()
        size = self._runtime.limits.requests
        for at in range(0, len(names), size):
            for name, meta in await self.load(names[at : at + size]):
                yield name, meta
                if isinstance(meta, GroupMeta):
                    below = Children(self._runtime, nodes.join(self._path, name), meta)
                    async for path, deeper in below.walk():
                        yield f"{name}/{path}", deeper

    async def consolidate(self) -> GroupMeta:
        """Read every node below afresh and write their documents into this group's own metadata."""
        fresh = Children(self._runtime, self._path, formats.without_consolidated(self._meta))
        found = {path: meta async for path, meta in fresh.walk()}

        def edit(group: GroupMeta) -> GroupMeta:
            return formats.with_consolidated(group, found)

        group = await nodes.update(self._runtime, self._path, self._meta.zarr_format, edit, "group")
        for name, document in formats.dump_consolidated(group).items():
            await self._runtime.store.put(nodes.join(self._path, name), document)
        return group
