"""`Group`: a handle of a node that contains other nodes, and `Tree`, the view of them. Neither need be closed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Generic, Literal, NoReturn, Self, TypeAlias, TypeVar, Unpack, cast

from ._array import Array, GroupRef, create_array
from ._engine import creation, nodes, removal
from ._engine.consolidated import sync_copies
from ._engine.hierarchy import Children, Consolidated, Member, UnreadableNode, kind_of_member
from ._engine.runtime import Runtime, with_policy
from ._model import formats
from ._model.create import ArrayOptions
from ._model.metadata import ArrayMeta, GroupMeta
from ._model.names import check_path
from ._notebook import facts_html
from ._options import check_flag, check_mapping, check_missing
from ._types import JSON, Missing
from .config import CachePolicy
from .errors import ConfigError, MetadataError, NodeExists, NodeNotFound, UnsupportedFeature

if TYPE_CHECKING:
    from ._concurrency.executor import Executor
    from ._verify import OnProgress, VerifyReport

Format: TypeAlias = Literal[2, 3]
Handle = TypeVar("Handle", bound="Array | Group | UnreadableNode")


class Group:
    """A Zarr group in a store. Get one from `Session.open_group`, `Session.create_group` or another group."""

    __slots__ = ("_copies", "_meta", "_path", "_runtime", "_since")

    def __init__(
        self,
        runtime: Runtime,
        path: str,
        meta: GroupMeta,
        *,
        copies: Consolidated = True,
        since: int | None = None,
    ) -> None:
        """
        Args:
            runtime: The store and its session.
            path: Path below the store's root.
            meta: Metadata as it was read.
            copies: How its consolidated metadata is used; see `Session.open_group`.
            since: Logical time (`Edits.now`) before it was read; default: now.
        """
        self._runtime = runtime
        self._path = path
        self._meta = meta
        self._copies: Consolidated = copies
        self._since = runtime.edits.now() if since is None else since

    @property
    def metadata(self) -> GroupMeta:
        """The immutable metadata as it was read."""
        return self._meta

    @property
    def attrs(self) -> Mapping[str, JSON]:
        """The attributes, read-only."""
        return MappingProxyType(dict(self._meta.attributes))

    @property
    def path(self) -> str:
        """Path below the store's root; empty for the root."""
        return self._path

    @property
    def url(self) -> str:
        """URL of the group."""
        return f"{self._runtime.store.url}/{self._path}".rstrip("/")

    @property
    def ref(self) -> GroupRef:
        """A small picklable reference with which another process opens the same group."""
        config = getattr(self._runtime.store, "config", None)
        return GroupRef(url=self._runtime.store.url, path=self._path, config={} if config is None else config.public())

    def __repr__(self) -> str:
        return f"<Group {self.url}, Zarr format {self._meta.zarr_format}>"

    if not TYPE_CHECKING:  # hidden from type checkers, so that they report such uses

        def __getitem__(self, name: object) -> NoReturn:
            raise TypeError(f"opening a node must be awaited: await group.open({name!r})")

        def __setitem__(self, name: object, value: object) -> NoReturn:
            raise TypeError(
                f"creating a node must be awaited: await group.create_array({name!r}, shape=..., dtype=...)"
            )

        def __iter__(self) -> NoReturn:
            raise TypeError("a group is listed by: async for name, node in group.members()")

        def __len__(self) -> NoReturn:
            raise TypeError("a group is listed by: async for name, node in group.members()")

        def __contains__(self, name: object) -> NoReturn:
            raise TypeError(f"looking up a node must be awaited: await group.contains({name!r})")

    def __bool__(self) -> bool:
        return True

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Group cannot be pickled: send group.ref, and open it in a session of the other process")

    def _repr_html_(self) -> str:
        """HTML for notebooks; `await group.tree()` shows the nodes below."""
        return facts_html("Group", self._facts())

    def _facts(self) -> list[tuple[str, object]]:
        known = self._meta.consolidated
        below = "not known without a request" if known is None else f"{len(known):,}, in consolidated metadata"
        attributes = len(self._meta.attributes)
        return [
            ("URL", self.url),
            ("Zarr format", self._meta.zarr_format),
            ("attributes", attributes),
            ("nodes", below),
        ]

    # Nodes below

    async def open(self, name: str, *, missing: Missing = "fill", cache: CachePolicy | None = None) -> Array | Group:
        """Open a node below this group, from consolidated metadata if it contains the node.

        Args:
            name: Name of the node, or a path such as `a/b/c`.
            missing: See `Session.open_array`.
            cache: Maximum age of cached chunks of the array, or of the arrays below the group; see
                `Session.open_group`. None: as this group was opened.

        Returns:
            A handle of the array or group.

        Raises:
            NodeNotFound: There is no node of that name.
            MetadataError, UnsupportedFeature: The metadata is invalid or unsupported.
            StoreError: The store failed.
        """
        check_missing(missing)
        runtime = with_policy(self._runtime, cache)
        path = self._below(name)
        children = await self._children()
        found = await children.load([name.strip("/")])
        if not found:
            raise nodes.not_found(self._runtime.store, path, self._meta.zarr_format)
        member = found[0][1]
        if isinstance(member, UnreadableNode):
            raise member.error
        return _handle(runtime, path, member, missing, copies=self._copies, since=self._since)

    async def contains(self, name: str) -> bool:
        """True if an array or a group of that name is stored below, even if its metadata is unsupported.

        Args:
            name: Name of the node, or a path such as `a/b/c`.

        Returns:
            False if no array and no group is stored there.

        Raises:
            StoreError: The store failed.
        """
        path = self._below(name)
        children = await self._children()
        return children.known(name.strip("/")) is not None or await nodes.exists(self._runtime.store, path)

    def _below(self, name: str, *, new: bool = False) -> str:
        """Path of a node below. New names must be valid in the format; existing ones only need to be safe."""
        path = check_path(name, zarr_format=self._meta.zarr_format if new else 2)
        if not path:
            raise ConfigError("a node below a group needs a name")
        return nodes.join(self._path, path)

    def members(self) -> Members[Array | Group | UnreadableNode]:
        """An async iterator over (name, node) directly below, sorted by name.

        A node is an `Array`, a `Group`, or an `UnreadableNode` with the error that opening it raises, so that one
        invalid or unsupported member does not hide the others. The group is listed once, at the first step.

        Returns:
            The iterator. Errors of the listing are raised at its first step.
        """
        return Members(self, None)

    def arrays(self) -> Members[Array | UnreadableNode]:
        """An async iterator over (name, array) directly below, sorted by name; see `members`.

        Returns:
            The iterator. An array that cannot be opened is an `UnreadableNode`.
        """
        return Members(self, "array")

    def groups(self) -> Members[Group | UnreadableNode]:
        """An async iterator over (name, group) directly below, sorted by name; see `members`.

        Returns:
            The iterator. A group that cannot be opened is an `UnreadableNode`.
        """
        return Members(self, "group")

    async def tree(self) -> Tree:
        """All nodes below: `print(await group.tree())`; notebooks show it as HTML.

        Returns:
            The tree, with the metadata of each node.

        Raises:
            StoreError: The listing failed.
        """
        children = await self._children()
        return Tree(self._path.rpartition("/")[2] or "/", [found async for found in children.walk()])

    async def verify(
        self,
        *,
        strict: bool = False,
        max_findings: int = 1000,
        progress: OnProgress | None = None,
        client: Executor | None = None,
    ) -> VerifyReport:
        """Read and decode everything stored below, and compare it with the metadata; see `Session.verify`.

        Args:
            strict: See `Session.verify`.
            max_findings: See `Session.verify`.
            progress: See `Session.verify`.
            client: See `Session.verify`.

        Returns:
            The report, with the findings per node.

        Raises:
            StoreError: The store as a whole failed, or the listing failed.
        """
        from ._verify import verify

        return await verify(
            self._runtime,
            self._path,
            self._meta.zarr_format,
            strict=strict,
            max_findings=max_findings,
            progress=progress,
            client=client,
        )

    async def _children(self) -> Children:
        """The nodes below; the metadata is read again if this session has edited it since."""
        runtime = self._runtime
        runtime.guard()
        uses_copies = self._meta.consolidated is not None and self._copies is True
        if uses_copies and runtime.edits.touched_below(runtime.name_of(self._path), self._since):
            await self.refresh()
        return Children(runtime, self._path, self._meta, copies=self._copies, since=self._since)

    def _handle(self, path: str, meta: ArrayMeta | GroupMeta) -> Array | Group:
        return _handle(self._runtime, path, meta, "fill", copies=self._copies, since=self._since)

    async def create_array(self, name: str, **options: Unpack[ArrayOptions]) -> Array:
        """Create an array below, by default of this group's format; see `Session.create_array`.

        Args:
            name: Name of the array, or a path such as `a/b/c`; missing groups above it are created.
            options: See `ArrayOptions`.

        Returns:
            A handle of the new array.

        Raises:
            NodeExists: See `Session.create_array`.
            ConfigError: An option is unknown, invalid or contradicts another.
            StoreError: The store failed.
        """
        options.setdefault("zarr_format", self._meta.zarr_format)
        return await create_array(self._runtime, self._below(name, new=True), options)

    async def create_group(
        self, name: str, *, attributes: Mapping[str, JSON] | None = None, overwrite: bool = False
    ) -> Group:
        """Create a group below, of this group's format.

        Args:
            name: Name of the group, or a path such as `a/b/c`; missing groups above it are created.
            attributes: Attributes of the new group.
            overwrite: Delete an existing node first.

        Returns:
            A handle of the new group.

        Raises:
            NodeExists: A node exists and `overwrite` is not set, or the path is below an array.
            StoreError: The store failed.
        """
        check_flag("overwrite", overwrite)
        path = self._below(name, new=True)
        return await create_group(self._runtime, path, attributes, self._meta.zarr_format, overwrite=overwrite)

    async def require_group(self, name: str) -> Group:
        """Open the group below, or create it. All concurrent callers get the same group.

        Args:
            name: Name of the group, or a path such as `a/b/c`.

        Returns:
            A handle of the group.

        Raises:
            NodeExists: The node is an array.
            StoreError: The store failed.
        """
        try:
            found = await self.open(name)
        except NodeNotFound:
            try:
                return await self.create_group(name)
            except NodeExists:
                found = await self.open(name)
        if not isinstance(found, Group):
            raise NodeExists(f"{found.url} is an array, not a group", url=found.url, path=found.path)
        return found

    async def delete(self, name: str, *, everything: bool = False) -> None:
        """Delete the array or group below with everything that belongs to it; see `Session.delete`.

        Args:
            name: Name of the node, or a path such as `a/b/c`.
            everything: See `Session.delete`.

        Raises:
            NodeNotFound: There are objects, but no array or group. Nothing was deleted.
            StoreError: The store failed. A note on the error describes what remains and how to continue.
        """
        check_flag("everything", everything)
        self._runtime.guard()
        await removal.delete(self._runtime, self._below(name), everything=everything)

    # Edits

    async def update_attributes(self, attributes: Mapping[str, JSON], *, replace: bool = False) -> None:
        """Merge `attributes` into the stored ones, or replace them all. Concurrent updates are both kept.

        Args:
            attributes: Names and JSON values.
            replace: Remove all other attributes.

        Raises:
            ConfigError: JSON cannot represent the attributes.
            NodeNotFound: The group was deleted.
            ConcurrentModification: Every attempt conflicted with another writer.
            StoreError: The store failed.
        """
        check_flag("replace", replace)
        check_mapping("attributes", attributes)
        self._runtime.guard()

        def edit(meta: GroupMeta) -> GroupMeta:
            merged = dict(attributes) if replace else {**meta.attributes, **attributes}
            return formats.with_attributes(meta, merged)

        self._since = self._runtime.edits.now()
        self._meta = await nodes.update(self._runtime, self._path, self._meta.zarr_format, edit, "group")
        await sync_copies(self._runtime, [self._path], self._meta.zarr_format, own=True)

    async def refresh(self) -> Self:
        """Read the metadata again, in place.

        Returns:
            This group.

        Raises:
            NodeNotFound: The group was deleted.
            MetadataError: The metadata is invalid.
            StoreError: The store failed.
        """
        self._runtime.guard()
        since = self._runtime.edits.now()
        node = await nodes.load(self._runtime, self._path, self._meta.zarr_format, "group")
        self._meta, self._since = cast("GroupMeta", node.meta), since
        return self

    async def consolidate(self) -> None:
        """Write the metadata of all nodes below into this group's metadata, so that opening them needs no request.

        Unsupported members are included as they are stored; invalid ones are omitted, with a logged warning.

        Raises:
            AccessDenied: Reading a node below is forbidden.
        """
        children = await self._children()
        self._meta = await children.consolidate()
        self._since = self._runtime.edits.now()


class Members(Generic[Handle]):
    """An async iterator over (name, node), which lists once and opens the nodes of one page concurrently."""

    __slots__ = ("_children", "_group", "_kind", "_names", "_ready")

    def __init__(self, group: Group, kind: nodes.NodeKind | None) -> None:
        group._runtime.guard()  # noqa: SLF001  # same module
        self._group = group
        self._kind = kind
        self._children: Children | None = None
        self._names: deque[str] = deque()
        self._ready: deque[tuple[str, Handle]] = deque()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[str, Handle]:
        group = self._group
        if self._children is None:
            children = await group._children()  # noqa: SLF001  # same module
            self._names = deque(await children.names())
            self._children = children
        while not self._ready:
            if not self._names:
                raise StopAsyncIteration
            # As many as can be in flight: larger pages would delay the first node, smaller ones leave slots unused.
            size = min(len(self._names), group._runtime.limits.requests)  # noqa: SLF001  # same module
            page = [self._names.popleft() for _ in range(size)]
            self._ready.extend(self._opened(await self._children.load(page)))
        return self._ready.popleft()

    def _opened(self, found: Sequence[tuple[str, Member]]) -> Iterator[tuple[str, Handle]]:
        group = self._group
        for name, member in found:
            if self._kind in (None, kind_of_member(member)):
                yield name, cast("Handle", _opened(group, nodes.join(group.path, name), member))


def _opened(group: Group, path: str, member: Member) -> Array | Group | UnreadableNode:
    if isinstance(member, UnreadableNode):
        return member
    try:
        return group._handle(path, member)  # noqa: SLF001  # same module
    except (MetadataError, UnsupportedFeature) as error:  # an unknown codec is detected only here
        url = nodes.url_of(group._runtime.store, path)  # noqa: SLF001  # same module
        return UnreadableNode(
            url=url, path=path, kind=kind_of_member(member), error=error, documents=formats.copy_of(member)
        )


def _handle(
    runtime: Runtime,
    path: str,
    meta: ArrayMeta | GroupMeta,
    missing: Missing,
    *,
    copies: Consolidated,
    since: int,
) -> Array | Group:
    if isinstance(meta, ArrayMeta):
        return Array(runtime, path, meta, missing=missing)
    return Group(runtime, path, meta, copies=copies, since=since)


async def open_node(
    runtime: Runtime,
    path: str,
    zarr_format: Format | None,
    *,
    missing: Missing,
    copies: Consolidated = True,
) -> Array | Group:
    """Open an array or a group, whichever is stored; see `Session.open`."""
    runtime.guard()
    since = runtime.edits.now()
    node = await nodes.load(runtime, path, zarr_format)
    return _handle(runtime, path, node.meta, missing, copies=copies, since=since)


async def open_group(runtime: Runtime, path: str, zarr_format: Format | None, *, copies: Consolidated = True) -> Group:
    """Open a group; see `Session.open_group`."""
    since = runtime.edits.now()
    node = await nodes.load(runtime, path, zarr_format, "group")
    return Group(runtime, path, cast("GroupMeta", node.meta), copies=copies, since=since)


async def create_group(
    runtime: Runtime,
    path: str,
    attributes: Mapping[str, JSON] | None,
    zarr_format: Format,
    *,
    overwrite: bool,
) -> Group:
    """Create a group, and missing groups above it; see `Session.create_group`."""
    runtime.guard()
    meta = formats.new_group(attributes, zarr_format=zarr_format)
    path = check_path(path, zarr_format=zarr_format)
    await creation.create(runtime, path, meta, overwrite=overwrite)
    return Group(runtime, path, meta)


@dataclass(slots=True)
class _Node:
    label: str
    below: dict[str, _Node] = field(default_factory=dict)


class Tree:
    """The result of `await group.tree()`: print it, or display it in a notebook."""

    __slots__ = ("_root",)

    def __init__(self, name: str, nodes: Iterable[tuple[str, Member]]) -> None:
        self._root = _Node(name)
        for path, meta in nodes:
            *above, last = path.split("/")
            at = self._root
            for part in above:
                at = at.below[part]
            at.below[last] = _Node(_label(last, meta))

    def __str__(self) -> str:
        return "\n".join([self._root.label, *_lines(self._root, "")])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return f'<div class="zarr-tree">{_html(self._root)}</div>'


def _label(name: str, meta: Member) -> str:
    if isinstance(meta, UnreadableNode):
        return f"{name} (unreadable: {meta.error})"
    return f"{name} {meta.shape} {meta.dtype}" if isinstance(meta, ArrayMeta) else name


def _lines(node: _Node, indent: str) -> Iterator[str]:
    last = len(node.below) - 1
    for number, child in enumerate(node.below.values()):
        yield f"{indent}{'└── ' if number == last else '├── '}{child.label}"
        yield from _lines(child, indent + ("    " if number == last else "│   "))


def _html(node: _Node) -> str:
    from html import escape  # only needed in notebooks

    if not node.below:
        return escape(node.label)
    below = "".join(f"<li>{_html(child)}</li>" for child in node.below.values())
    return f"<details open><summary>{escape(node.label)}</summary><ul>{below}</ul></details>"
