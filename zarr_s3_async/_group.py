"""Group: the handle of a hierarchy's node that holds other nodes. It owns nothing that needs closing."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Generic, Literal, NoReturn, Self, TypeAlias, TypeVar, Unpack, cast

from ._array import Array, create_array
from ._engine import nodes
from ._engine.hierarchy import Children
from ._engine.runtime import Runtime
from ._model import formats
from ._model.create import ArrayOptions
from ._model.metadata import ArrayMeta, GroupMeta
from ._model.names import ancestors, check_path
from ._options import check_flag, check_missing
from ._tree import Tree
from ._types import JSON, Missing
from ._verify import OnProgress, VerifyReport, verify
from .errors import ConfigError, NodeExists, NodeNotFound

Format: TypeAlias = Literal[2, 3]
_CONSOLIDATES_APART = 2
"""v2 keeps consolidated metadata in a document of its own; in v3 an edit of the group carries it along."""
Handle = TypeVar("Handle", bound="Array | Group")


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupRef:
    """Where a group is, small and picklable: `session.open_group(ref)` opens it elsewhere. Never holds a key."""

    url: str
    path: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    """S3 options that differ from their defaults and are no secret."""


class Group:
    """A Zarr group in a store. Get one from `Session.open_group`, `Session.create_group` or another group."""

    __slots__ = ("_meta", "_path", "_runtime")

    def __init__(self, runtime: Runtime, path: str, meta: GroupMeta) -> None:
        self._runtime = runtime
        self._path = path
        self._meta = meta

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
        """Where it is."""
        return f"{self._runtime.store.url}/{self._path}".rstrip("/")

    @property
    def ref(self) -> GroupRef:
        """A small picklable description with which another process opens the same group."""
        config = getattr(self._runtime.store, "config", None)
        return GroupRef(url=self._runtime.store.url, path=self._path, config={} if config is None else config.public())

    def __repr__(self) -> str:
        return f"<Group {self.url}, Zarr format {self._meta.zarr_format}>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Group does not pickle: send group.ref, and open it in a session over there")

    # Nodes below

    async def open(self, name: str, *, missing: Missing = "fill") -> Array | Group:
        """The array or group `name` (or `a/b/c`) below this one; from consolidated metadata where that knows it."""
        check_missing(missing)
        self._runtime.guard()
        path = self._below(name)
        known = self._children().known(name.strip("/"))
        if known is not None:
            return _handle(self._runtime, path, known, missing)
        return await open_node(self._runtime, path, self._meta.zarr_format, missing=missing)

    async def contains(self, name: str) -> bool:
        """True where an array or a group of that name is stored below."""
        try:
            await self.open(name)
        except NodeNotFound:
            return False
        return True

    def _below(self, name: str, *, new: bool = False) -> str:
        """Path of a node below. New ones obey the rules for names of this format, found ones those of safety."""
        path = check_path(name, zarr_format=self._meta.zarr_format if new else 2)
        if not path:
            raise ConfigError("a node below a group needs a name")
        return nodes.join(self._path, path)

    def members(self) -> Members[Array | Group]:
        """Async iterator over (name, array or group) directly below, sorted by name."""
        return Members(self._runtime, self._path, self._children(), None)

    def arrays(self) -> Members[Array]:
        """Async iterator over (name, array) directly below, sorted by name."""
        return Members(self._runtime, self._path, self._children(), "array")

    def groups(self) -> Members[Group]:
        """Async iterator over (name, group) directly below, sorted by name."""
        return Members(self._runtime, self._path, self._children(), "group")

    async def tree(self) -> Tree:
        """Everything below: `print(await group.tree())`; notebooks show it as HTML."""
        self._runtime.guard()
        return Tree(self._path.rpartition("/")[2] or "/", [found async for found in self._children().walk()])

    async def verify(
        self, *, strict: bool = False, most: int = 1000, progress: OnProgress | None = None
    ) -> VerifyReport:
        """Read and decode all that is stored below, and compare it with its metadata; see `Session.verify`."""
        form = self._meta.zarr_format
        return await verify(self._runtime, self._path, form, strict=strict, most=most, progress=progress)

    def _children(self) -> Children:
        return Children(self._runtime, self._path, self._meta)

    async def create_array(self, name: str, **options: Unpack[ArrayOptions]) -> Array:
        """Create an array below, by default of this group's format; see `Session.create_array`."""
        options.setdefault("zarr_format", self._meta.zarr_format)
        return await create_array(self._runtime, self._below(name, new=True), options)

    async def create_group(
        self, name: str, *, attributes: Mapping[str, JSON] | None = None, overwrite: bool = False
    ) -> Group:
        """Create a group below, of this group's format."""
        check_flag("overwrite", overwrite)
        path = self._below(name, new=True)
        return await create_group(self._runtime, path, attributes, self._meta.zarr_format, overwrite=overwrite)

    async def require_group(self, name: str) -> Group:
        """Open the group below, or create it; of any number of callers at once all get the same."""
        try:
            found = await self.open(name)
        except NodeNotFound:
            try:
                return await self.create_group(name)
            except NodeExists:
                found = await self.open(name)
        if not isinstance(found, Group):
            raise NodeExists(f"{found.url} is an array; a group is needed there", url=found.url, path=found.path)
        return found

    async def delete(self, name: str) -> None:
        """Remove the array or group below with everything in it; nothing there is fine."""
        await nodes.delete(self._runtime, self._below(name))

    # Edits

    async def update_attributes(self, attributes: Mapping[str, JSON], *, replace: bool = False) -> None:
        """Merge `attributes` into those that are stored, or replace them all. Two updaters at once both survive."""
        check_flag("replace", replace)
        self._runtime.guard()

        def edit(meta: GroupMeta) -> GroupMeta:
            merged = dict(attributes) if replace else {**meta.attributes, **attributes}
            return formats.with_attributes(meta, merged)

        self._meta = await nodes.update(self._runtime, self._path, self._meta.zarr_format, edit, "group")
        if self._meta.zarr_format == _CONSOLIDATES_APART:
            await nodes.tell_consolidated(self._runtime, self._path, self._meta)

    async def refresh(self) -> Self:
        """Read the metadata again, in place."""
        node = await nodes.load(self._runtime.store, self._path, self._meta.zarr_format, "group")
        self._meta = cast("GroupMeta", node.meta)
        return self

    async def consolidate(self) -> None:
        """Write the metadata of every node below into this group's own, so that opening them costs no request."""
        self._runtime.guard()
        self._meta = await self._children().consolidate()


class Members(Generic[Handle]):
    """Async iterator over (name, node). It lists once and opens one page of nodes at a time, concurrently."""

    __slots__ = ("_children", "_kind", "_names", "_path", "_ready", "_runtime")

    def __init__(self, runtime: Runtime, path: str, children: Children, kind: nodes.Kind | None) -> None:
        runtime.guard()
        self._runtime = runtime
        self._path = path
        self._children = children
        self._kind = kind
        self._names: deque[str] | None = None
        self._ready: deque[tuple[str, Handle]] = deque()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[str, Handle]:
        if self._names is None:
            self._names = deque(await self._children.names())
        while not self._ready:
            if not self._names:
                raise StopAsyncIteration
            size = min(len(self._names), self._runtime.limits.requests)
            page = [self._names.popleft() for _ in range(size)]
            for name, meta in await self._children.load(page):
                if self._kind in (None, nodes.kind_of(meta)):
                    handle = _handle(self._runtime, nodes.join(self._path, name), meta, "fill")
                    self._ready.append((name, cast("Handle", handle)))
        return self._ready.popleft()


def _handle(runtime: Runtime, path: str, meta: ArrayMeta | GroupMeta, missing: Missing) -> Array | Group:
    if isinstance(meta, ArrayMeta):
        return Array(runtime, path, meta, missing=missing)
    return Group(runtime, path, meta)


async def open_node(runtime: Runtime, path: str, zarr_format: Format | None, *, missing: Missing) -> Array | Group:
    """Whichever is stored there; see `Session.open`."""
    runtime.guard()
    node = await nodes.load(runtime.store, path, zarr_format)
    return _handle(runtime, path, node.meta, missing)


async def open_group(runtime: Runtime, path: str, zarr_format: Format | None) -> Group:
    """The group stored there; see `Session.open_group`."""
    node = await nodes.load(runtime.store, path, zarr_format, "group")
    return Group(runtime, path, cast("GroupMeta", node.meta))


async def create_group(
    runtime: Runtime,
    path: str,
    attributes: Mapping[str, JSON] | None,
    zarr_format: Format,
    *,
    overwrite: bool,
) -> Group:
    """Create it, and the groups above it that are missing; see `Session.create_group`."""
    runtime.guard()
    meta = formats.new_group(attributes, zarr_format=zarr_format)
    path = check_path(path, zarr_format=zarr_format)
    above: Sequence[str] = ancestors(path)
    await nodes.require_groups(runtime, above, zarr_format)
    await nodes.create(runtime, path, meta, overwrite=overwrite)
    return Group(runtime, path, meta)
