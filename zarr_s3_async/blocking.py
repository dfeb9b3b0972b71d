"""A blocking API of arrays and groups for code that cannot await: scripts, threads, Flask, pandas, worker processes.

    import zarr_s3_async.blocking as zb
    array = zb.open_array("s3://bucket/prefix")
    tile = array[0:100, 0:100]

Every call runs on one event loop in a background thread, with one session. Both are created by the first call, created
again in a forked child, and closed when the interpreter exits. Any number of threads may call concurrently; they share
the connections and limits of the session. Ctrl-C cancels the waiting call. Handles are pickled as references, and the
process that uses them opens them.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Container, ItemsView, Iterator, Mapping, Sequence, ValuesView
from dataclasses import dataclass, field, replace
from math import prod
from typing import TYPE_CHECKING, Any, Generic, Literal, NoReturn, Self, TypeVar, Unpack, cast
from uuid import uuid4

import numpy as np

from . import (
    ArrayMeta,
    ArrayOptions,
    ArrayRef,
    CachePolicy,
    CreateOptions,
    EncodedChunk,
    Explanation,
    GroupMeta,
    GroupRef,
    NodeNotFound,
    Opening,
    OpenOptions,
    Session,
    SessionOptions,
    StoredChunks,
    Tree,
    UnreadableNode,
    VerifyProgress,
    VerifyReport,
    View,
    Where,
    ZarrS3Error,
    _array,
    _group,
    _shared,
    shared_session,
)
from ._concurrency.executor import Executor
from ._concurrency.limiter import Priority
from ._concurrency.loop_thread import LoopThread, background_loop
from ._notebook import facts_html
from ._types import JSON, Buffer, Coords, Missing, Shape, Version
from ._unread import no_attribute
from ._where import as_url, is_known_url

__all__ = [
    "Array",
    "Group",
    "Indexer",
    "close",
    "configure",
    "create_array",
    "create_group",
    "delete",
    "exists",
    "open",
    "open_array",
    "open_group",
    "verify",
]

T = TypeVar("T")
Ref = TypeVar("Ref", ArrayRef, GroupRef)
Node = TypeVar("Node", bound=_array.Array | _group.Group)
Live = TypeVar("Live", _array.Array, _group.Group)
Format = Literal[2, 3]
Consolidated = bool | Literal["check"]

_options: SessionOptions = {}


def configure(**options: Unpack[SessionOptions]) -> None:
    """Set the options of the one session behind this module, before its first call.

    Args:
        options: Options of `Session`: `limits=`, `cache=`, `region=`, … A forked child keeps them.

    Raises:
        ConfigError: An option is invalid, or the session exists with other options (`close` ends it).
    """
    global _options  # noqa: PLW0603  # one session per process
    # Set before the session is made, which reads it; an option that is refused must not stay.
    before, _options = _options, options
    try:
        _run(_session)
    except BaseException:
        _options = before
        raise


def close() -> None:
    """Close the session and end its thread now instead of at exit. The next call creates new ones."""
    background_loop().close()


async def _session() -> Session:
    return shared_session(**_options)


def _run(call: Callable[[], Awaitable[T]]) -> T:
    """Run a call on the background loop and wait for its result."""

    async def on_the_loop() -> T:
        return await call()

    return background_loop().run(on_the_loop())


def _with_session(call: Callable[[Session], Awaitable[T]]) -> T:
    async def on_the_loop() -> T:
        return await call(await _session())

    return background_loop().run(on_the_loop())


@dataclass(frozen=True, slots=True)
class _Place:
    """The location of a node as the caller gave it, from which another process opens it again."""

    where: Where
    path: str = ""
    options: OpenOptions = field(default_factory=OpenOptions)
    cache: CachePolicy | None = None
    consolidated: Consolidated = True

    def below(self, name: str, cache: CachePolicy | None = None) -> _Place:
        path = "/".join(part for part in (self.path, name.strip("/")) if part)
        return replace(self, path=path, cache=self.cache if cache is None else cache)


def _place(
    where: Where,
    path: str,
    options: OpenOptions,
    cache: CachePolicy | None = None,
    consolidated: Consolidated = True,
) -> _Place:
    return _Place(as_url(where) if isinstance(where, os.PathLike) else where, path, options, cache, consolidated)


class _Handle(Generic[Live]):
    """A handle that lives on the background loop, and is opened again if the loop was replaced."""

    __slots__ = ("_found", "_place", "_zarr_format")

    def __init__(self, place: _Place, zarr_format: Format | None, live: Live | None) -> None:
        self._place = place
        self._zarr_format = zarr_format
        # Replaced as a whole: threads see both or neither.
        self._found: tuple[LoopThread, Live] | None = None if live is None else (background_loop(), live)

    def _live(self) -> Live:
        """The asynchronous handle. Sends requests to open it if this process has not opened it yet."""
        loop, found = background_loop(), self._found
        if found is None or found[0] is not loop:
            self._found = found = (loop, self._opened())
        return found[1]

    def _opened(self) -> Live:
        raise NotImplementedError

    def _do(self, call: Callable[[Live], Awaitable[T]]) -> T:
        live = self._live()
        return _run(lambda: call(live))

    @property
    def attrs(self) -> Mapping[str, JSON]:
        """The attributes, read-only."""
        return self._live().attrs

    @property
    def path(self) -> str:
        """Path below the store's root; empty for the root."""
        return self._live().path

    @property
    def url(self) -> str:
        """URL of the node."""
        return self._live().url

    def verify(
        self,
        *,
        strict: bool = False,
        max_findings: int = 1000,
        progress: Callable[[VerifyProgress], None] | None = None,
        client: Executor | None = None,
    ) -> VerifyReport:
        """Read and decode all stored objects, also of nodes below; see `zarr_s3_async.Array.verify`."""
        return self._do(
            lambda live: live.verify(strict=strict, max_findings=max_findings, progress=progress, client=client)
        )

    def update_attributes(self, attributes: Mapping[str, JSON], *, replace: bool = False) -> None:
        """Merge `attributes` into the stored ones; see `zarr_s3_async.Array.update_attributes`."""
        self._do(lambda live: live.update_attributes(attributes, replace=replace))


class Array(_Handle[_array.Array]):
    """A Zarr array with NumPy syntax: `array[...]` reads, `array[...] = data` writes.

    Get one from `open_array`, `create_array` or a group. Any number of threads may use it concurrently; concurrent
    writes to different parts of one chunk are all kept. It is pickled as a reference without secrets; the other process
    opens it at first use.
    """

    __slots__ = ("_edits", "_missing", "_token")

    def __init__(
        self, place: _Place, zarr_format: Format | None, missing: Missing, live: _array.Array | None = None
    ) -> None:
        super().__init__(place, zarr_format, live)
        self._missing: Missing = missing
        self._token = uuid4().hex
        self._edits = 0

    def _opened(self) -> _array.Array:
        place = self._place
        return _awaited(
            _shared.open_array(
                place.where,
                path=place.path,
                zarr_format=self._zarr_format,
                missing=self._missing,
                cache=place.cache,
                **place.options,
            )
        )

    def __repr__(self) -> str:
        return f"<blocking {repr(self._live())[1:]}"

    def _repr_html_(self) -> str:
        """HTML for notebooks: properties, and the grid of objects with the stored ones marked."""
        live = self._live()
        return _array.array_html(live, _stored(live))

    def __reduce__(self) -> tuple[Callable[..., Array], tuple[Any, ...]]:
        own = _to_send(self.ref), self.metadata.zarr_format, self._missing, self._place.cache
        return _unpickled_array, (*own, self.__dask_tokenize__())

    def __dask_tokenize__(self) -> tuple[str, int]:
        # Differs for every handle and after every write: dask assumes equal data for equal tokens.
        return self._token, self._edits

    if not TYPE_CHECKING:  # hidden from type checkers, so that they report missing attributes

        def __getattr__(self, name: str) -> NoReturn:
            raise no_attribute(self, name, "array[...]")

    # Properties

    @property
    def metadata(self) -> ArrayMeta:
        """The immutable metadata that calls started now will use."""
        return self._live().metadata

    @property
    def shape(self) -> Shape:
        """Elements per dimension."""
        return self._live().shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the results of reads."""
        return self._live().dtype

    @property
    def chunks(self) -> Shape:
        """Shape of a chunk, the smallest unit of decoding."""
        return self._live().chunks

    @property
    def shards(self) -> Shape | None:
        """Shape of a shard, an object with many chunks; None if each chunk is an object of its own."""
        return self._live().shards

    @property
    def chunk_sizes(self) -> tuple[tuple[int, ...], ...]:
        """Lengths of all chunks per dimension; see `zarr_s3_async.Array.chunk_sizes`."""
        return self._live().chunk_sizes

    @property
    def shard_sizes(self) -> tuple[tuple[int, ...], ...] | None:
        """Like `chunk_sizes`, for shards; None if each chunk is an object of its own."""
        return self._live().shard_sizes

    @property
    def missing(self) -> Missing:
        """How reads treat absent chunks by default: `fill` or `raise`."""
        return self._live().missing

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return self._live().ndim

    @property
    def size(self) -> int:
        """Number of elements."""
        return self._live().size

    @property
    def nbytes(self) -> int:
        """Bytes of all elements, decoded."""
        return self._live().nbytes

    @property
    def nchunks(self) -> int:
        """Number of chunks, stored or not."""
        return self._live().nchunks

    @property
    def fill_value(self) -> Any:
        """The value of absent chunks; None for null in a v2 document (they read as zero)."""
        return self._live().fill_value

    @property
    def order(self) -> str:
        """Order of the elements inside a stored chunk, `C` or `F`."""
        return self._live().order

    @property
    def dimension_names(self) -> tuple[str | None, ...] | None:
        """Names of the dimensions, or None if the metadata has none."""
        return self._live().dimension_names

    @property
    def ref(self) -> ArrayRef:
        """A small picklable reference with which another process opens the same array. Contains no secrets."""
        return self._live().ref

    # NumPy syntax

    def __getitem__(self, key: Any) -> Any:
        """Read by basic indexing; returns a scalar if every dimension is indexed by an integer, else an array."""
        return self._do(lambda live: live[key].get())

    def __setitem__(self, key: Any, value: Any) -> None:
        """Write by basic indexing; parts of chunks are merged with concurrent writes of others."""
        self._set(lambda live: live[key], value)

    def _set(self, select: Callable[[_array.Array], View], value: Any) -> None:
        self._change(lambda live: select(live).set(value))

    @property
    def oindex(self) -> Indexer:
        """`array.oindex[…]`: one independent selection per dimension: integers, slices, arrays, masks."""
        return Indexer(self, lambda live, key: live.oindex[key])

    @property
    def vindex(self) -> Indexer:
        """`array.vindex[…]`: single elements, by coordinate arrays that broadcast or by one mask."""
        return Indexer(self, lambda live, key: live.vindex[key])

    @property
    def blocks(self) -> Indexer:
        """`array.blocks[…]`: whole chunks by their position in the grid."""
        return Indexer(self, lambda live, key: live.blocks[key])

    def sel(self, **dimensions: Any) -> Any:
        """Read by dimension name; the others are taken whole. See `zarr_s3_async.Array.sel`."""
        return self._do(lambda live: live.sel(**dimensions).get())

    def __len__(self) -> int:
        shape = self.shape
        if not shape:
            raise TypeError("len() of an array without dimensions")
        return shape[0]

    def __iter__(self) -> Iterator[Any]:
        """Iterate along the first dimension; whole chunks or shards are read at once."""
        if not self.shape:
            raise TypeError("iteration over an array without dimensions")
        start = 0
        for size in (self.shard_sizes or self.chunk_sizes)[0]:
            yield from self[start : start + size]
            start += size

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        if copy is False:
            raise ValueError("reading an array always creates a copy, so copy=False is not possible")
        return np.asarray(self[...], dtype=dtype)

    def __eq__(self, other: object) -> bool:
        """Compare handles by identity. NumPy compares its own values element by element, and reads the array for it.

        Args:
            other: Another object.

        Returns:
            True for the same handle.

        Raises:
            TypeError: `other` is a number, text, a list or a tuple: `False` would look like the result of a comparison
                of the elements. `array[...] == other` compares them.
        """
        if isinstance(other, (int, float, complex, str, bytes, list, tuple)) and not isinstance(other, np.generic):
            raise TypeError("an Array is not compared element by element: array[...] == value reads it and compares")
        return True if self is other else NotImplemented

    def __hash__(self) -> int:
        return object.__hash__(self)  # not `id(self)`, which is equal to the hash of that number

    # The same methods as the asynchronous array

    def get_slice(
        self,
        start: Sequence[int] | int,
        stop: Sequence[int] | int | None,
        step: Sequence[int] | int | None = None,
        *,
        fields: str | Sequence[str] | None = None,
        out: np.ndarray[Any, Any] | None = None,
        missing: Missing | None = None,
        consistent: bool = False,
        priority: Priority | None = None,
        timeout: float | None = None,
    ) -> np.ndarray[Any, Any]:
        """Read a region; see `zarr_s3_async.Array.get_slice`."""
        return self._do(
            lambda live: live.get_slice(
                start,
                stop,
                step,
                fields=fields,
                out=out,
                missing=missing,
                consistent=consistent,
                priority=priority,
                timeout=timeout,
            )
        )

    def set_slice(
        self,
        data: Any,
        start: Sequence[int] | int,
        stop: Sequence[int] | int | None = None,
        step: Sequence[int] | int | None = None,
        *,
        fields: str | Sequence[str] | None = None,
        timeout: float | None = None,
    ) -> None:
        """Write a region; see `zarr_s3_async.Array.set_slice`."""
        self._change(lambda live: live.set_slice(data, start, stop, step, fields=fields, timeout=timeout))

    def explain(self, key: Any = ...) -> Explanation:
        """Compute the cost of reading or writing `array[key]`, without a request; see `zarr_s3_async.Array.explain`."""
        return self._live().explain(key)

    def chunk_at(self, coords: Sequence[int] | int, *, timeout: float | None = None) -> EncodedChunk | None:
        """Read one chunk in its encoded form; see `zarr_s3_async.Array.chunk_at`."""
        return self._do(lambda live: live.chunk_at(coords, timeout=timeout))

    def put_chunk(
        self,
        coords: Sequence[int] | int,
        data: Buffer,
        *,
        version: Version | Literal["absent"] | None = None,
        validate: bool = True,
        timeout: float | None = None,
    ) -> Version:
        """Store one encoded chunk; see `zarr_s3_async.Array.put_chunk`."""
        return self._change(
            lambda live: live.put_chunk(coords, data, version=version, validate=validate, timeout=timeout)
        )

    def erase_chunk(
        self, coords: Sequence[int] | int, *, version: Version | None = None, timeout: float | None = None
    ) -> None:
        """Remove one chunk; see `zarr_s3_async.Array.erase_chunk`."""
        self._change(lambda live: live.erase_chunk(coords, version=version, timeout=timeout))

    def decode_chunk(self, data: Buffer, coords: Sequence[int] | int | None = None) -> np.ndarray[Any, Any]:
        """Decode an encoded chunk in the calling thread; see `zarr_s3_async.Array.decode_chunk`."""
        return self._live().decode_chunk(data, coords)

    def stored_chunks(self, *, inner: bool = False, timeout: float | None = None) -> StoredChunks:
        """List the objects of the array that exist; see `zarr_s3_async.Array.stored_chunks`."""
        return self._do(lambda live: live.stored_chunks(inner=inner, timeout=timeout))

    def resize(self, shape: Sequence[int] | int) -> None:
        """Change the shape, not the number of dimensions; see `zarr_s3_async.Array.resize`."""
        self._change(lambda live: live.resize(shape))

    def append(self, data: Any, axis: int = 0) -> Shape:
        """Append `data` along `axis` and return the new shape; see `zarr_s3_async.Array.append`."""
        return self._change(lambda live: live.append(data, axis))

    def refresh(self) -> Self:
        """Read the metadata again, in place: another writer may have changed the shape or the attributes."""
        self._change(lambda live: live.refresh())
        return self

    def _change(self, call: Callable[[_array.Array], Awaitable[T]]) -> T:
        try:
            return self._do(call)
        finally:
            self._edits += 1


class Indexer:
    """An object to subscript and assign to: `array.oindex[…]`, `array.vindex[…]`, `array.blocks[…]`."""

    __slots__ = ("_array", "_select")

    def __init__(self, array: Array, select: Callable[[_array.Array, Any], View]) -> None:
        self._array = array
        self._select = select

    def __getitem__(self, key: Any) -> Any:
        return self._array._do(lambda live: self._select(live, key).get())  # noqa: SLF001  # same module

    def __setitem__(self, key: Any, value: Any) -> None:
        self._array._set(lambda live: self._select(live, key), value)  # noqa: SLF001  # same module

    __iter__ = None
    __contains__ = None


class Group(_Handle[_group.Group], Mapping[str, "Array | Group | UnreadableNode"]):
    """A Zarr group as a mapping from the names directly below to arrays and groups.

    `group["a/b"]` opens the node of that path, and raises KeyError if there is none. It is pickled as a reference.
    """

    __slots__ = ()

    def _opened(self) -> _group.Group:
        place = self._place
        return _awaited(
            _shared.open_group(
                place.where,
                path=place.path,
                zarr_format=self._zarr_format,
                consolidated=place.consolidated,
                cache=place.cache,
                **place.options,
            )
        )

    def __repr__(self) -> str:
        return f"<blocking {repr(self._live())[1:]}"

    def _repr_html_(self) -> str:
        """HTML for notebooks: properties, and the tree of nodes below."""
        return facts_html(
            "Group", [("URL", self.url), ("attributes", len(self.attrs))], self.tree()._repr_html_()
        )  # the protocol of notebooks

    def __reduce__(self) -> tuple[Callable[..., Group], tuple[Any, ...]]:
        own = self._place.cache, self._place.consolidated
        return _unpickled_group, (_to_send(self.ref), self.metadata.zarr_format, *own)

    def __eq__(self, other: object) -> bool:
        """Compare handles by identity: the comparison of `Mapping` would open everything below."""
        return self is other

    def __hash__(self) -> int:
        return id(self)

    @property
    def metadata(self) -> GroupMeta:
        """The immutable metadata as it was read."""
        return self._live().metadata

    @property
    def ref(self) -> GroupRef:
        """A small picklable reference with which another process opens the same group. Contains no secrets."""
        return self._live().ref

    # As a mapping

    def __getitem__(self, name: str) -> Array | Group:
        try:
            return self.open(name)
        except NodeNotFound as error:
            raise KeyError(str(error)) from None

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.contains(name)

    def __iter__(self) -> Iterator[str]:
        return iter([name for name, _ in self.members()])

    def __len__(self) -> int:
        return len(self.members())

    def items(self) -> ItemsView[str, Array | Group | UnreadableNode]:
        """Name and node of all nodes directly below, opened concurrently."""
        return _Items(self)

    def values(self) -> ValuesView[Array | Group | UnreadableNode]:
        """All nodes directly below, opened concurrently."""
        return _Values(self)

    # The same methods as the asynchronous group

    def open(self, name: str, *, missing: Missing = "fill", cache: CachePolicy | None = None) -> Array | Group:
        """The array or group `name` (or `a/b/c`) below this one; see `zarr_s3_async.Group.open`.

        Raises:
            NodeNotFound: There is no node of that name.
        """
        node = self._do(lambda live: live.open(name, missing=missing, cache=cache))
        return cast("Array | Group", self._wrapped(name, node, missing, cache))

    def contains(self, name: str) -> bool:
        """True if an array or a group of that name is stored below; see `zarr_s3_async.Group.contains`."""
        return self._do(lambda live: live.contains(name))

    def members(self) -> list[tuple[str, Array | Group | UnreadableNode]]:
        """(name, node) of all nodes directly below, sorted by name; see `zarr_s3_async.Group.members`."""
        return [(name, self._wrapped(name, node)) for name, node in self._do(lambda live: _listed(live.members()))]

    def arrays(self) -> list[tuple[str, Array | UnreadableNode]]:
        """(name, array) of all arrays directly below, sorted by name; see `members`."""
        found = self._do(lambda live: _listed(live.arrays()))
        return [(name, cast("Array | UnreadableNode", self._wrapped(name, node))) for name, node in found]

    def groups(self) -> list[tuple[str, Group | UnreadableNode]]:
        """(name, group) of all groups directly below, sorted by name; see `members`."""
        found = self._do(lambda live: _listed(live.groups()))
        return [(name, cast("Group | UnreadableNode", self._wrapped(name, node))) for name, node in found]

    def tree(self) -> Tree:
        """All nodes below: `print(group.tree())`; notebooks show it as HTML."""
        return self._do(lambda live: live.tree())

    def create_array(self, name: str, **options: Unpack[ArrayOptions]) -> Array:
        """Create an array below, by default of this group's format; see `zarr_s3_async.Group.create_array`."""
        return self._array(name, self._do(lambda live: live.create_array(name, **options)))

    def create_group(
        self, name: str, *, attributes: Mapping[str, JSON] | None = None, overwrite: bool = False
    ) -> Group:
        """Create a group below, of this group's format; see `zarr_s3_async.Group.create_group`."""
        return self._group(
            name, self._do(lambda live: live.create_group(name, attributes=attributes, overwrite=overwrite))
        )

    def require_group(self, name: str) -> Group:
        """Open the group below, or create it; see `zarr_s3_async.Group.require_group`."""
        return self._group(name, self._do(lambda live: live.require_group(name)))

    def delete(self, name: str, *, everything: bool = False) -> None:
        """Delete the array or group below with everything that belongs to it; see `zarr_s3_async.Session.delete`."""
        self._do(lambda live: live.delete(name, everything=everything))

    def consolidate(self) -> None:
        """Write the metadata of all nodes below into this group's metadata, so that opening them needs no request."""
        self._do(lambda live: live.consolidate())

    def refresh(self) -> Self:
        """Read the metadata again, in place."""
        self._do(lambda live: live.refresh())
        return self

    def _wrapped(
        self,
        name: str,
        node: _array.Array | _group.Group | UnreadableNode,
        missing: Missing = "fill",
        cache: CachePolicy | None = None,
    ) -> Array | Group | UnreadableNode:
        if isinstance(node, UnreadableNode):
            return node
        if isinstance(node, _group.Group):
            return self._group(name, node, cache)
        return self._array(name, node, missing, cache)

    def _array(
        self, name: str, node: _array.Array, missing: Missing = "fill", cache: CachePolicy | None = None
    ) -> Array:
        return Array(self._place.below(name, cache), node.metadata.zarr_format, missing, node)

    def _group(self, name: str, node: _group.Group, cache: CachePolicy | None = None) -> Group:
        return Group(self._place.below(name, cache), node.metadata.zarr_format, node)


class _Items(ItemsView[str, "Array | Group | UnreadableNode"]):
    def __init__(self, group: Group) -> None:
        super().__init__(group)
        self._group = group

    def __iter__(self) -> Iterator[tuple[str, Array | Group | UnreadableNode]]:
        return iter(self._group.members())


class _Values(ValuesView["Array | Group | UnreadableNode"]):
    def __init__(self, group: Group) -> None:
        super().__init__(group)
        self._group = group

    def __iter__(self) -> Iterator[Array | Group | UnreadableNode]:
        return iter([node for _, node in self._group.members()])


_MOST_LISTED = 5_000
"""Maximum number of objects that are listed for the HTML of an array: five requests."""
_LIST_SECONDS = 2.0


def _stored(array: _array.Array) -> Container[Coords] | None:
    """Positions of the stored objects; None if there are too many to list or the listing fails."""
    grid = array.metadata.grid_shape
    if prod(grid) > _MOST_LISTED:
        return None

    async def listed() -> Container[Coords]:
        return await array.stored_chunks(timeout=_LIST_SECONDS)

    try:
        return _run(listed)
    except ZarrS3Error:
        return None


async def _listed(members: Any) -> list[tuple[str, Any]]:
    return [found async for found in members]


def _awaited(opening: Opening[Node]) -> Node:
    async def opened() -> Node:
        await _session()  # the first call creates the session, with the options of `configure`
        return await opening

    return _run(opened)


_unpickled: OrderedDict[tuple[str, int], Array] = OrderedDict()
_MOST_UNPICKLED = 64
"""Unpickled arrays that a process keeps, so that an array which comes with many tasks is opened once."""


def _to_send(ref: Ref) -> Ref:
    """The reference, checked before it is pickled: other processes must know its kind of URL."""
    if not is_known_url(ref.url):
        raise TypeError(f"a handle of {ref.url} cannot be pickled: its store is an object of this process, not a URL")
    return ref


def _unpickled_array(
    ref: ArrayRef, zarr_format: Format, missing: Missing, cache: CachePolicy | None, token: tuple[str, int]
) -> Array:
    found = _unpickled.pop(token, None)
    if found is None or found.__dask_tokenize__() != token:  # edited in this process: its data differs from the token's
        found = Array(_Place(ref, cache=cache), zarr_format, missing)
        found._token, found._edits = token  # noqa: SLF001  # same module
    _unpickled[token] = found  # each step is atomic; two concurrent threads may both open it
    while len(_unpickled) > _MOST_UNPICKLED:
        _unpickled.popitem(last=False)
    return found


def _unpickled_group(
    ref: GroupRef, zarr_format: Format, cache: CachePolicy | None, consolidated: Consolidated
) -> Group:
    return Group(_Place(ref, cache=cache, consolidated=consolidated), zarr_format, None)


# Module functions


def open_array(
    where: Where,
    *,
    path: str = "",
    zarr_format: Format | None = None,
    missing: Missing = "fill",
    cache: CachePolicy | None = None,
    **options: Unpack[OpenOptions],
) -> Array:
    """Open an existing array; see `zarr_s3_async.Session.open_array`.

    Args:
        where: A URL, a `pathlib.Path`, a `Store`, or a ref.
        path: Path below `where`.
        zarr_format: The format to open, if both are stored.
        missing: What absent chunks read as: `fill` is the fill value, `raise` raises `ChunkNotFound`.
        cache: Maximum age of cached data; see `Session.open_array`. Pickled handles keep it.
        options: Fields of `S3Config` for this array only; `configure` sets the options of the session.
    """
    opening = _shared.open_array(where, path=path, zarr_format=zarr_format, missing=missing, cache=cache, **options)
    return Array(_place(where, path, options, cache), zarr_format, missing, _awaited(opening))


def open_group(
    where: Where,
    *,
    path: str = "",
    zarr_format: Format | None = None,
    consolidated: Consolidated = True,
    cache: CachePolicy | None = None,
    **options: Unpack[OpenOptions],
) -> Group:
    """Open an existing group; see `open_array` and `zarr_s3_async.Session.open_group`."""
    opening = _shared.open_group(
        where, path=path, zarr_format=zarr_format, consolidated=consolidated, cache=cache, **options
    )
    return Group(_place(where, path, options, cache, consolidated), zarr_format, _awaited(opening))


def open(  # noqa: A001  # as `zarr_s3_async.open`
    where: Where,
    *,
    path: str = "",
    zarr_format: Format | None = None,
    missing: Missing = "fill",
    consolidated: Consolidated = True,
    cache: CachePolicy | None = None,
    **options: Unpack[OpenOptions],
) -> Array | Group:
    """Open an array or a group, whichever is stored; see `open_array` and `open_group`."""
    place = _place(where, path, options, cache, consolidated)
    opening = _shared.open(
        where, path=path, zarr_format=zarr_format, missing=missing, consolidated=consolidated, cache=cache, **options
    )
    node = _awaited(opening)
    if isinstance(node, _group.Group):
        return Group(place, zarr_format, node)
    return Array(place, zarr_format, missing, node)


def create_array(where: Where, *, path: str = "", **options: Unpack[CreateOptions]) -> Array:
    """Create an array; see `zarr_s3_async.Session.create_array`.

    Args:
        where: A URL, a `pathlib.Path`, a `Store`, or a ref.
        path: Path below `where`.
        options: Options of `ArrayOptions` (`shape`, `dtype`, `chunks`, …), and fields of `S3Config`.
    """
    array = _awaited(_shared.create_array(where, path=path, **options))
    of_session: Any = {name: value for name, value in options.items() if name not in ArrayOptions.__annotations__}
    return Array(_place(where, path, of_session), array.metadata.zarr_format, "fill", array)


def create_group(
    where: Where,
    *,
    path: str = "",
    attributes: Mapping[str, JSON] | None = None,
    zarr_format: Format = 3,
    overwrite: bool = False,
    **options: Unpack[SessionOptions],
) -> Group:
    """Create a group; see `zarr_s3_async.Session.create_group`."""
    opening = _shared.create_group(
        where, path=path, attributes=attributes, zarr_format=zarr_format, overwrite=overwrite, **options
    )
    return Group(_place(where, path, options), zarr_format, _awaited(opening))


def exists(where: Where, *, path: str = "") -> bool:
    """True if an array or a group is stored; see `zarr_s3_async.Session.exists`."""
    return _with_session(lambda session: session.exists(where, path=path))


def delete(where: Where, *, path: str = "", everything: bool = False) -> None:
    """Delete an array or a group with everything that belongs to it; see `zarr_s3_async.Session.delete`."""
    _with_session(lambda session: session.delete(where, path=path, everything=everything))


def verify(
    where: Where,
    *,
    path: str = "",
    zarr_format: Format | None = None,
    strict: bool = False,
    max_findings: int = 1000,
    progress: Callable[[VerifyProgress], None] | None = None,
    client: Executor | None = None,
) -> VerifyReport:
    """Read every object of an array or a group and compare it with its metadata; see `Session.verify`."""
    return _with_session(
        lambda session: session.verify(
            where,
            path=path,
            zarr_format=zarr_format,
            strict=strict,
            max_findings=max_findings,
            progress=progress,
            client=client,
        )
    )
