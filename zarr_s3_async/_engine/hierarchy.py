"""The nodes below a group: from its consolidated metadata where it carries that, from listings otherwise."""

from __future__ import annotations

import logging
from asyncio import sleep
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from .._concurrency.workers import gather_all
from .._model import formats
from .._model.metadata import ArrayMeta, GroupMeta
from .._model.names import problem_of
from .._types import JSON
from ..errors import AccessDenied, ConcurrentModification, MetadataError, NodeNotFound, UnsupportedFeature, ZarrS3Error
from . import nodes
from .runtime import Runtime

log = logging.getLogger("zarr_s3_async")

Consolidated: TypeAlias = bool | Literal["check"]
"""Whether the nodes below a group are taken from its consolidated metadata, and if they are compared with their own."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class UnreadableNode:
    """A member of a group that is stored, and cannot be opened here: its metadata is damaged, unknown, or refused."""

    url: str
    path: str
    """Below the store's root."""
    kind: nodes.Kind | None
    """What its documents say that it is; None where they do not even say that."""
    error: ZarrS3Error
    """What opening it raises."""
    documents: Mapping[str, Mapping[str, JSON]] | None = None
    """Its documents by file name, where they hold JSON objects."""

    def __repr__(self) -> str:
        return f"<UnreadableNode {self.url}: {self.error}>"


Member: TypeAlias = ArrayMeta | GroupMeta | UnreadableNode
Found: TypeAlias = tuple[str, Member]


def kind_of(member: Member) -> nodes.Kind | None:
    """What a member is; None where nothing says it."""
    return member.kind if isinstance(member, UnreadableNode) else nodes.kind_of(member)


class Children:
    """What lies below one group, as one state of its metadata sees it."""

    __slots__ = ("_by_child", "_copies", "_meta", "_path", "_runtime", "_since")

    def __init__(
        self, runtime: Runtime, path: str, meta: GroupMeta, *, copies: Consolidated = True, since: int | None = None
    ) -> None:
        """
        Args:
            runtime: Its store.
            path: Of the group.
            meta: The group, with the consolidated metadata that it carries.
            copies: How that is used.
            since: When it was read (`Edits.now`): of a node that the session has edited since, it is not used.
        """
        self._runtime = runtime
        self._path = path
        self._meta = meta
        self._copies: Consolidated = copies
        self._since = runtime.edits.now() if since is None else since
        self._by_child: dict[str, dict[str, Mapping[str, JSON]]] | None = None

    def known(self, path: str) -> Member | None:
        """The node at a path below, where the consolidated metadata has it and may be believed without a request."""
        documents = self._copy_of(path) if self._copies is True else None
        if documents is None or self._runtime.edits.touched(self._runtime.name_of(self._below(path)), self._since):
            return None
        return self._parsed(path, documents)

    def _copy_of(self, path: str) -> Mapping[str, JSON] | None:
        return (self._meta.consolidated or {}).get(path)

    def _below(self, path: str) -> str:
        return nodes.join(self._path, path)

    def _parsed(self, path: str, documents: Mapping[str, JSON]) -> Member | None:
        try:
            meta = formats.parse_node(documents, url=nodes.url_of(self._runtime.store, self._below(path)))
        except (MetadataError, UnsupportedFeature) as error:
            return self._unreadable(path, error, documents)
        return replace(meta, consolidated=self._copies_below(path)) if isinstance(meta, GroupMeta) else meta

    def _copies_below(self, path: str) -> dict[str, Mapping[str, JSON]]:
        """A group that was found in consolidated metadata knows what that has below it."""
        if self._by_child is None:  # one pass for all groups directly below, not one for each
            self._by_child = {}
            for name, documents in (self._meta.consolidated or {}).items():
                child, slash, rest = name.partition("/")
                if slash:
                    self._by_child.setdefault(child, {})[rest] = documents
        child, _, rest = path.partition("/")
        below = self._by_child.get(child, {})
        prefix = rest + "/"
        return below if not rest else {n[len(prefix) :]: d for n, d in below.items() if n.startswith(prefix)}

    def _unreadable(self, path: str, error: ZarrS3Error, documents: Mapping[str, JSON]) -> UnreadableNode:
        whole = self._below(path)
        return UnreadableNode(
            url=nodes.url_of(self._runtime.store, whole),
            path=whole,
            kind=formats.kind_of(documents),
            error=error,
            documents=formats.load_documents(documents),
        )

    async def names(self) -> list[str]:
        """Names directly below, sorted. Those that no node may have are left out, and logged."""
        copies = self._meta.consolidated
        if copies is not None and self._copies is True:
            return sorted(name for name in copies if "/" not in name)
        listing = await self._runtime.store.list_dir(self._path)
        found = [directory.rpartition("/")[2] for directory in listing.dirs]
        for name in found:
            if name and problem_of(name) is not None:
                log.warning("left out of the listing of %s: %r: %s", self._path or "/", name, problem_of(name))
        names = sorted(name for name in found if problem_of(name) is None)
        if copies is not None and self._copies == "check":
            for name in sorted({path for path in copies if "/" not in path} - set(names)):
                self._report_old(name, "nothing is stored there")
        return names

    async def load(self, names: Sequence[str]) -> list[Found]:
        """The nodes of these names, fetched concurrently; folders that are no nodes are left out."""
        # Without a request there is nothing to wait for, and a page of nodes takes the loop milliseconds.
        await sleep(0)
        loaded = {name: self.known(name) for name in names}
        unknown = [name for name in names if loaded[name] is None]
        if unknown:
            loaded.update(zip(unknown, await gather_all(*map(self._load, unknown)), strict=True))
        return [(name, meta) for name, meta in loaded.items() if meta is not None]

    async def _load(self, name: str) -> Member | None:
        runtime, path, zarr_format = self._runtime, self._below(name), self._meta.zarr_format
        try:
            meta = (await nodes.load(runtime, path, zarr_format)).meta
        except NodeNotFound:
            return None
        except (MetadataError, UnsupportedFeature, AccessDenied) as error:
            return self._unreadable(name, error, await self._documents(path, error))
        if self._copies == "check":
            self._compare(name, meta)
        elif self._copies is False and isinstance(meta, GroupMeta):
            return replace(meta, consolidated=None)
        return meta

    async def _documents(self, path: str, error: ZarrS3Error) -> Mapping[str, JSON]:
        """The documents that do not read; none where the store refuses them, or they are too long."""
        if isinstance(error, AccessDenied):
            return {}
        names = formats.document_names(self._meta.zarr_format)
        try:
            return {n: b.data for n, b in (await nodes.fetch_documents(self._runtime.store, path, names)).items()}
        except (MetadataError, AccessDenied):
            return {}

    def _compare(self, name: str, meta: ArrayMeta | GroupMeta) -> None:
        copy = self._copy_of(name)
        if self._meta.consolidated is None:
            return
        if copy is None:
            self._report_old(name, "it does not have it")
        elif copy != formats.copy_of(meta):
            self._report_old(name, "the node's own documents say something else")

    def _report_old(self, name: str, how: str) -> None:
        log.warning(
            "the consolidated metadata of %s is old: of %r, %s; call consolidate() of the group",
            nodes.url_of(self._runtime.store, self._path),
            name,
            how,
        )

    async def walk(self) -> AsyncIterator[Found]:
        """Every node below by its path relative to this group: parents before children, siblings by name."""
        names = await self.names()
        size = self._runtime.limits.requests
        for at in range(0, len(names), size):
            for name, meta in await self.load(names[at : at + size]):
                yield name, meta
                if isinstance(meta, GroupMeta):
                    below = Children(self._runtime, self._below(name), meta, copies=self._copies, since=self._since)
                    async for path, deeper in below.walk():
                        yield f"{name}/{path}", deeper

    async def consolidate(self) -> GroupMeta:
        """Read every node below afresh and write their documents into this group's own metadata.

        A node that does not read here is copied where its document is one of this format: others may know it.

        Raises:
            AccessDenied: A node may not be read.
            ConcurrentModification: The session edited nodes below during every attempt.
        """
        edits, name = self._runtime.edits, self._runtime.name_of(self._path)
        attempts = self._runtime.retry.conflict_attempts
        for _ in range(attempts):
            since = edits.now()
            group = await self._consolidate()
            # Edits of the session while nodes were read reached the copies that were there; this one was not yet.
            if not edits.touched_below(name, since):
                edits.note(name)
                return group
        url = nodes.url_of(self._runtime.store, self._path)
        raise ConcurrentModification(
            f"nodes below {url} were edited during all of {attempts} attempts to consolidate it", attempts=attempts
        )

    async def _consolidate(self) -> GroupMeta:
        fresh = Children(self._runtime, self._path, formats.without_consolidated(self._meta), copies=False)
        found: dict[str, ArrayMeta | GroupMeta | Mapping[str, Mapping[str, JSON]]] = {}
        async for path, member in fresh.walk():
            if not isinstance(member, UnreadableNode):
                found[path] = member
            elif isinstance(member.error, AccessDenied):
                raise member.error
            elif member.documents and member.kind is not None:
                found[path] = member.documents
            else:
                log.warning("left out of the consolidated metadata: %s", member.error)

        def edit(group: GroupMeta) -> GroupMeta:
            return formats.with_consolidated(group, found)

        group = await nodes.update(self._runtime, self._path, self._meta.zarr_format, edit, "group")
        for name, document in formats.dump_consolidated(group).items():
            await self._runtime.store.put(nodes.join(self._path, name), document)
        return group
