"""The nodes below a group, from its consolidated metadata if it has any, otherwise from listings."""

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
"""Whether nodes below a group are taken from its consolidated metadata; "check" compares them with their documents."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class UnreadableNode:
    """A member of a group that is stored but cannot be opened: its metadata is invalid, unsupported or forbidden."""

    url: str
    path: str
    """Path relative to the store's root."""
    kind: nodes.NodeKind | None
    """The kind of node according to its documents; None if it cannot be determined."""
    error: ZarrS3Error
    """The error that opening it raises."""
    documents: Mapping[str, Mapping[str, JSON]] | None = None
    """Its documents by file name, if they contain JSON objects."""

    def __repr__(self) -> str:
        return f"<UnreadableNode {self.url}: {self.error}>"


Member: TypeAlias = ArrayMeta | GroupMeta | UnreadableNode
Found: TypeAlias = tuple[str, Member]


def kind_of_member(member: Member) -> nodes.NodeKind | None:
    """The kind of a member; None if it cannot be determined."""
    return member.kind if isinstance(member, UnreadableNode) else nodes.kind_of_node(member)


class Children:
    """The nodes below one group, according to one state of its metadata."""

    __slots__ = ("_by_child", "_copies", "_meta", "_path", "_runtime", "_since")

    def __init__(
        self, runtime: Runtime, path: str, meta: GroupMeta, *, copies: Consolidated = True, since: int | None = None
    ) -> None:
        """
        Args:
            runtime: Its store.
            path: Path of the group.
            meta: Metadata of the group, with its consolidated metadata.
            copies: How consolidated metadata is used.
            since: When it was read (`Edits.now`): it is not used for nodes that the session has edited since.
        """
        self._runtime = runtime
        self._path = path
        self._meta = meta
        self._copies: Consolidated = copies
        self._since = runtime.edits.now() if since is None else since
        self._by_child: dict[str, dict[str, Mapping[str, JSON]]] | None = None

    def known(self, path: str) -> Member | None:
        """The node at a path below, if consolidated metadata contains it and is used without a check."""
        documents = self._copy_of(path) if self._copies is True else None
        if documents is None or self._runtime.edits.touched(self._runtime.name_of(self._below(path)), self._since):
            return None
        try:
            meta = formats.parse_node(documents, url=nodes.url_of(self._runtime.store, self._below(path)))
        except (MetadataError, UnsupportedFeature) as error:
            return self._unreadable(path, error, documents)
        return replace(meta, consolidated=self._copies_below(path)) if isinstance(meta, GroupMeta) else meta

    def _copy_of(self, path: str) -> Mapping[str, JSON] | None:
        return (self._meta.consolidated or {}).get(path)

    def _below(self, path: str) -> str:
        return nodes.join(self._path, path)

    def _copies_below(self, path: str) -> dict[str, Mapping[str, JSON]]:
        """The part of the consolidated metadata below a group, for groups that were found in it."""
        if self._by_child is None:  # one pass for all groups directly below, instead of one per group
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
            kind=formats.kind_of_documents(documents),
            error=error,
            documents=formats.load_documents(documents),
        )

    async def names(self) -> list[str]:
        """Names directly below, sorted. Invalid node names are omitted and logged."""
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
                self._report_old(name, "no such node is stored")
        return names

    async def load(self, names: Sequence[str]) -> list[Found]:
        """The nodes of these names, fetched concurrently; folders that are not nodes are omitted."""
        # If all nodes are known there is no other `await`, and parsing a page of nodes blocks the loop for
        # milliseconds.
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
        # Otherwise the copies in this group's document would be used for the nodes below it.
        elif self._copies is False and isinstance(meta, GroupMeta):
            return replace(meta, consolidated=None)
        return meta

    async def _documents(self, path: str, error: ZarrS3Error) -> Mapping[str, JSON]:
        """The invalid documents; empty if the store forbids reading them, or they are too long."""
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
            self._report_old(name, "it is missing")
        elif copy != formats.copy_of(meta):
            self._report_old(name, "it differs from the node's own documents")

    def _report_old(self, name: str, how: str) -> None:
        log.warning(
            "the consolidated metadata of %s is outdated: %r: %s; call consolidate() of the group",
            nodes.url_of(self._runtime.store, self._path),
            name,
            how,
        )

    async def walk(self) -> AsyncIterator[Found]:
        """All nodes below with their paths relative to this group: parents before children, siblings by name."""
        names = await self.names()
        # A page of nodes at a time, so that a large group is neither held in memory nor read one by one.
        size = self._runtime.limits.requests
        for at in range(0, len(names), size):
            for name, meta in await self.load(names[at : at + size]):
                yield name, meta
                if isinstance(meta, GroupMeta):
                    below = Children(self._runtime, self._below(name), meta, copies=self._copies, since=self._since)
                    async for path, deeper in below.walk():
                        yield f"{name}/{path}", deeper

    async def consolidate(self) -> GroupMeta:
        """Read all nodes below without caches and write their documents into this group's consolidated metadata.

        An unreadable node is included if its document is one of this format: other libraries may support it.

        Raises:
            AccessDenied: Reading a node is forbidden.
            ConcurrentModification: This session edited nodes below during every attempt.
        """
        edits, name = self._runtime.edits, self._runtime.name_of(self._path)
        attempts = self._runtime.retry.conflict_attempts
        for _ in range(attempts):
            since = edits.now()
            group = await self._consolidate()
            # Edits of this session during the reads updated existing copies, but not the one being written here.
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
