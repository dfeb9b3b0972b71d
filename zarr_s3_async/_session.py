"""`Session`: owns the clients, limits, caches and threads that its arrays and groups share."""

from __future__ import annotations

import os
import warnings
from asyncio import AbstractEventLoop, get_running_loop
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from os import PathLike
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Self, TypeAlias, Unpack, cast

from ._array import Array, ArrayRef, GroupRef, create_array
from ._concurrency.interruptible import Interruptible
from ._concurrency.limiter import Limiter
from ._concurrency.locks import KeyedLocks
from ._concurrency.turns import LoopTurns
from ._engine import nodes
from ._engine.cache import ChunkCache, Edits, IndexCache
from ._engine.cpu import Cpu
from ._engine.handles import HandleCache
from ._engine.runtime import Runtime, with_policy
from ._engine.sharing import FetchTable
from ._model.create import ArrayOptions
from ._model.metadata import ArrayMeta
from ._model.names import check_path
from ._notebook import facts_html
from ._options import (
    FORMATS,
    check_choice,
    check_flag,
    check_format,
    check_instance,
    check_missing,
    check_names,
    check_text,
)
from ._types import JSON, Missing
from ._where import as_url, checked_store
from .config import CachePolicy, CacheSize, HedgePolicy, Limits, RetryPolicy, S3Config, S3Options
from .errors import ConfigError, ForkedSession, SessionClosed, WrongEventLoop, session_closed
from .events import Emit, Hook, Metrics, Usage, WatchesSession, emitter
from .stores.base import Store
from .stores.optional import owner_of
from .stores.registry import open_store

_CONSOLIDATED = ("check", True, False)
_CHUNK_CACHE_BYTES = 2**28
"""Default size of the cache of decoded chunks, for arrays that are opened with `cache=`."""
if TYPE_CHECKING:  # imported by the methods that need them, to keep `import zarr_s3_async` fast
    from ._concurrency.executor import Executor
    from ._engine.hierarchy import Consolidated
    from ._group import Group
    from ._verify import OnProgress, VerifyReport

Where: TypeAlias = str | PathLike[str] | Store | ArrayRef | GroupRef


@dataclass(slots=True, kw_only=True)
class _Context:
    """The part of a session that is passed to store factories (`stores.base.StoreContext`)."""

    s3: S3Config
    limits: Limits
    requests: Limiter
    retry: RetryPolicy
    hedge: HedgePolicy | None
    emit: Emit
    shared: dict[object, Any] = field(default_factory=dict)
    closing: list[Callable[[], Awaitable[None]]] = field(default_factory=list)


_CLASSES: dict[str, tuple[type, str]] = {
    "s3": (S3Config, "zs.S3Config(...)"),
    "limits": (Limits, "zs.Limits(requests=64)"),
    "retry": (RetryPolicy, "zs.RetryPolicy(attempts=5)"),
    "hedge": (HedgePolicy, "zs.HedgePolicy()"),
    "cache": (CacheSize, "zs.CacheSize(chunks=2**30)"),
}


class OpenOptions(S3Options, total=False):
    """The options of `Session`, without `cache`, for calls that open a node and have their own `cache=`."""

    s3: S3Config | None
    limits: Limits | None
    retry: RetryPolicy | None
    hedge: HedgePolicy | None
    hooks: Sequence[Hook] | None


class SessionOptions(OpenOptions, total=False):
    """The options of `Session`, for calls that create one or use the event loop's shared session."""

    cache: CacheSize | None


def split_options(options: SessionOptions) -> tuple[SessionOptions, SessionOptions]:
    """Split options into those of S3, which a single call may set, and those of the session. Drops None."""
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    s3: Any = {name: value for name, value in given.items() if name == "s3" or name in S3Options.__annotations__}
    of_session: Any = {name: value for name, value in given.items() if name not in s3}
    return s3, of_session


def _check_classes(**given: object) -> None:
    for name, value in given.items():
        if value is not None:
            check_instance(name, value, *_CLASSES[name])


def _checked_hooks(hooks: Sequence[Hook]) -> Sequence[Hook]:
    if not isinstance(hooks, list | tuple) or not all(callable(hook) for hook in hooks):
        raise ConfigError("hooks takes a list of callables, each called with every event: write hooks=[hook]")
    return hooks


class Session:
    """Owns what arrays share: connections, limits on requests and memory, caches, threads, metrics.

    It opens at its first use, and is bound to the event loop and the process of that use. Close it with `async with`,
    or with `await session.aclose()`; a session that is not closed emits a ResourceWarning.

    Args:
        s3: The S3 options. Any field of `S3Config` may be given by name instead: `region=`, `endpoint_url=`,
            `profile=`, `anonymous=`, …
        limits: Limits on requests in flight, memory and threads.
        retry: How often and after which delays failed attempts are retried.
        hedge: When slow reads are sent a second time; None: never.
        cache: Sizes of the caches.
        hooks: Callables that receive every event.

    Raises:
        ConfigError: An option is unknown or has an invalid value.
    """

    _state: Literal["new", "open", "closed"] = "closed"
    """Read by `__del__` if `__init__` raised, for example for an invalid option."""

    def __init__(
        self,
        *,
        s3: S3Config | None = None,
        limits: Limits | None = None,
        retry: RetryPolicy | None = None,
        hedge: HedgePolicy | None = None,
        cache: CacheSize | None = None,
        hooks: Sequence[Hook] | None = None,
        **s3_options: Unpack[S3Options],
    ) -> None:
        check_names(s3_options, SessionOptions.__annotations__, "Session")
        _check_classes(s3=s3, limits=limits, retry=retry, hedge=hedge, cache=cache)
        self._config = (s3 or S3Config()).with_options(**s3_options)
        self._limits = limits or Limits()
        self._retry = retry or RetryPolicy()
        self.metrics: Metrics = Metrics()
        """Counters of this session: requests, bytes, retries, conflicts."""
        self._context = _Context(
            s3=self._config,
            limits=self._limits,
            requests=Limiter(self._limits.requests),
            retry=self._retry,
            hedge=hedge,
            emit=emitter((self.metrics, *_checked_hooks(() if hooks is None else hooks))),
        )
        self._leases = Limiter(self._limits.bytes)
        self._turns = LoopTurns()
        self._waits = Interruptible()
        self._cpu = Cpu(self._limits.cpu_threads)
        self._fetches = FetchTable()
        self._locks = KeyedLocks()
        self._edits = Edits()
        # One object for all equal owners, so that caches compare them by identity.
        self._owners: dict[Hashable, Hashable] = {}
        sizes = cache or CacheSize()
        self._max_age = inf if sizes.chunks else None
        self._indexes = IndexCache(sizes.shard_indexes)
        self._decoded = ChunkCache(_CHUNK_CACHE_BYTES if sizes.chunks is None else sizes.chunks)
        self._handles = HandleCache()
        self._loop: AbstractEventLoop | None = None
        self._pid = 0
        self._entered = False
        self._state = "new"
        for hook in hooks or ():
            if isinstance(hook, WatchesSession):
                hook.watch(self)

    @property
    def usage(self) -> Usage:
        """Current use of the limits: requests and bytes in use, number of waiting requests, cached bytes."""
        requests, leases = self._context.requests, self._leases
        return Usage(
            requests=requests.held,
            requests_limit=self._limits.requests,
            requests_waiting=requests.waiting,
            bytes=leases.held,
            bytes_limit=self._limits.bytes,
            bytes_waiting=leases.waiting,
            cached_chunk_bytes=self._decoded.nbytes,
            cached_index_bytes=self._indexes.nbytes,
        )

    @property
    def closed(self) -> bool:
        """True once the session was closed."""
        return self._state == "closed"

    def __repr__(self) -> str:
        return f"<Session {self._state}{self._config.brief()}>"

    def _repr_html_(self) -> str:
        """HTML for notebooks: options and counters."""
        metrics, limits = self.metrics, self._limits
        return facts_html(
            "Session",
            [
                ("state", self._state),
                *self._config.public().items(),
                ("limits", f"{limits.requests} requests, {limits.bytes:,} bytes of chunks being decoded or encoded"),
                ("requests", ", ".join(f"{n:,} {name}" for name, n in sorted(metrics.requests.items())) or 0),
                ("bytes", f"{metrics.bytes_received:,} received, {metrics.bytes_sent:,} sent"),
                ("repeats", f"{metrics.retries:,} retries, {metrics.conflicts:,} conflicts, {metrics.hedges:,} hedges"),
            ],
        )

    # Opening and closing

    async def __aenter__(self) -> Self:
        if self._entered or self._state == "closed":
            raise SessionClosed(f"this session was already entered and is {self._state}; create a new one")
        self._guard()
        self._entered = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close connections and threads. May be called more than once.

        Operations that are still running fail with `SessionClosed`. When this returns, the session has no request in
        flight, no open connection and no running thread. Waiting for threads that still decode does not block the
        event loop.
        """
        if self._state == "closed" and not self._context.closing:
            return
        if self._state == "open":
            self._guard()
        self._state = "closed"
        self._context.requests.close()  # no request starts from here on
        # Calls that wait for memory end too, instead of starting during the close.
        self._leases.close()
        self._cpu.close()
        await self._waits.aclose()
        closing = self._context.closing
        while closing:
            close = closing[-1]
            await close()
            if closing[-1:] == [close]:  # unless a concurrent call of `aclose` has removed it
                closing.pop()
        await self._cpu.aclose()

    def _abandon(self) -> None:
        """Mark the session closed after its loop has ended, when connections cannot be closed properly any more."""
        if self._state == "open":
            self._state = "closed"
            self._cpu.close()

    def __del__(self) -> None:
        if self._state == "open" and self._pid == os.getpid():
            warnings.warn(
                f"{self!r} was left open: use it as `async with zs.Session(...)`, or end with `await session.aclose()`",
                ResourceWarning,
                source=self,
                stacklevel=2,
            )

    def _guard(self) -> None:
        """Bind a new session to the running loop; raise StateError if the session cannot be used here."""
        try:
            if get_running_loop() is self._loop and self._state == "open" and os.getpid() == self._pid:
                return
        except RuntimeError:
            pass  # no loop is running: raised below, unless a more specific error applies
        if self._state == "closed":
            if self._loop is not None and self._loop.is_closed():
                raise SessionClosed(
                    "this session ended with its event loop, and its arrays with it: open them again in the loop that "
                    "uses them (each asyncio.run() has its own)"
                )
            raise session_closed()
        if self._state == "new":
            self._loop, self._pid, self._state = _running_loop(), os.getpid(), "open"
        elif os.getpid() != self._pid:
            raise ForkedSession(
                f"this session was opened in process {self._pid}, before a fork; open one in process {os.getpid()}, "
                "or call zs.shared_session() there"
            )
        elif _running_loop() is not self._loop:
            raise WrongEventLoop(
                "this session belongs to another event loop; open one in the loop that uses it "
                "(zs.shared_session() gives one per loop)"
            )

    if not TYPE_CHECKING:  # hidden from type checkers, so that they report such uses

        def __enter__(self) -> NoReturn:
            raise TypeError("use `async with` with a Session, not `with`; code that cannot await uses zs.blocking")

        def __exit__(self, *_: object) -> None: ...

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Session cannot be pickled: send array.ref, and open it in a session of the other process")

    # Arrays

    async def open_array(
        self,
        where: Where,
        *,
        path: str = "",
        zarr_format: Literal[2, 3] | None = None,
        missing: Missing = "fill",
        cache: CachePolicy | None = None,
    ) -> Array:
        """Open an existing array.

        Args:
            where: A URL (`s3://bucket/prefix`, `file://…`, `memory://…`), a `Store`, or an `ArrayRef`.
            path: Path below `where`.
            zarr_format: The format to open, if both are stored; default: the stored one, v3 if both are.
            missing: What absent chunks read as: `fill` is the fill value, `raise` raises `ChunkNotFound`.
            cache: Maximum age of cached metadata and decoded chunks of this array. `immutable`: any age. `revalidate`:
                each open and each read checks that the cached data is current, by one conditional request that
                concurrent callers share. A number: that many seconds, then as `revalidate`. Writes of this session are
                always seen. None: metadata is always read, and chunks are cached only if `CacheSize(chunks=...)` is
                set.

        Returns:
            A handle of the array, which need not be closed.

        Raises:
            NodeNotFound: There is no array: nothing is stored, or a group.
            MetadataError, UnsupportedFeature: The metadata is invalid or unsupported; the message gives the reason.
            StoreError: The store failed.
        """
        check_format(zarr_format)
        check_missing(missing)
        runtime, path = self._resolve(where, path)
        runtime = with_policy(runtime, cache)
        if cache is not None:
            layout = await self._handles.open_array(runtime, path, zarr_format, cast("float", runtime.max_age))
            return Array(runtime, path, layout.meta, missing=missing, layout=layout)
        node = await nodes.load(runtime, path, zarr_format, "array")
        return Array(runtime, path, cast("ArrayMeta", node.meta), missing=missing)

    async def create_array(self, where: Where, *, path: str = "", **options: Unpack[ArrayOptions]) -> Array:
        """Create an array; its metadata is stored before this returns.

        In addition to storing the document, this sends a GET for each document that may exist, lists one page, and
        sends three GETs per folder above the store's root, most of them in parallel.

        Args:
            where: A URL, a `Store`, or a ref.
            path: Path below `where`; missing groups above it are created.
            options: See `ArrayOptions`: `shape`, `dtype`, `chunks`, …

        Returns:
            A handle of the new array.

        Raises:
            NodeExists: A node exists and `overwrite` is not set; chunks of an earlier array exist, which would become
                chunks of the new one; or the path is below an array.
            ConfigError: An option is unknown, invalid or contradicts another.
            StoreError: The store failed.
        """
        runtime, path = self._resolve(where, path)
        return await create_array(runtime, path, options)

    async def open_group(
        self,
        where: Where,
        *,
        path: str = "",
        zarr_format: Literal[2, 3] | None = None,
        consolidated: Consolidated = True,
        cache: CachePolicy | None = None,
    ) -> Group:
        """Open an existing group.

        Args:
            where: A URL, a `Store`, or a ref.
            path: Path below `where`.
            zarr_format: The format to open, if both are stored.
            consolidated: Whether nodes below are taken from the group's consolidated metadata, if it has any, without a
                request for each. Edits of this session update it; edits of other programs may not, and then it is
                outdated. `False` reads every node's own documents; `"check"` does so too, and logs a warning for each
                node that differs from the consolidated metadata.
            cache: Maximum age of cached chunks of arrays opened below this group; see `open_array`. Metadata is always
                read.

        Returns:
            A handle of the group, which need not be closed.

        Raises:
            NodeNotFound: There is no group: nothing is stored, or an array.
            MetadataError, UnsupportedFeature: The metadata is invalid or unsupported.
            StoreError: The store failed.
        """
        check_format(zarr_format)
        check_choice("consolidated", consolidated, _CONSOLIDATED)
        runtime, path = self._resolve(where, path)
        from ._group import open_group

        return await open_group(with_policy(runtime, cache), path, zarr_format, copies=consolidated)

    async def create_group(
        self,
        where: Where,
        *,
        path: str = "",
        attributes: Mapping[str, JSON] | None = None,
        zarr_format: Literal[2, 3] = 3,
        overwrite: bool = False,
    ) -> Group:
        """Create a group; its metadata is stored before this returns.

        Args:
            where: A URL, a `Store`, or a ref.
            path: Path below `where`; missing groups above it are created.
            attributes: Attributes of the new group.
            zarr_format: 2 or 3.
            overwrite: Delete an existing node first.

        Returns:
            A handle of the new group.

        Raises:
            NodeExists: A node exists and `overwrite` is not set, or the path is below an array.
            ConfigError: An option has an invalid value.
            StoreError: The store failed.
        """
        check_choice("zarr_format", zarr_format, FORMATS)
        check_flag("overwrite", overwrite)
        runtime, path = self._resolve(where, path)
        from ._group import create_group

        return await create_group(runtime, path, attributes, zarr_format, overwrite=overwrite)

    async def open(
        self,
        where: Where,
        *,
        path: str = "",
        zarr_format: Literal[2, 3] | None = None,
        missing: Missing = "fill",
        consolidated: Consolidated = True,
        cache: CachePolicy | None = None,
    ) -> Array | Group:
        """Open an array or a group, whichever is stored; see `open_array` and `open_group`.

        Args:
            where: A URL, a `Store`, or a ref.
            path: Path below `where`.
            zarr_format: The format to open, if both are stored.
            missing: For an array: see `open_array`.
            consolidated: For a group: see `open_group`.
            cache: See `open_array` and `open_group`.

        Returns:
            A handle of the array or group.

        Raises:
            NodeNotFound: Neither an array nor a group is stored.
            MetadataError, UnsupportedFeature: The metadata is invalid or unsupported.
            StoreError: The store failed.
        """
        check_format(zarr_format)
        check_missing(missing)
        check_choice("consolidated", consolidated, _CONSOLIDATED)
        runtime, path = self._resolve(where, path)
        from ._group import open_node

        return await open_node(with_policy(runtime, cache), path, zarr_format, missing=missing, copies=consolidated)

    async def exists(self, where: Where, *, path: str = "") -> bool:
        """True if an array or a group is stored, even if its metadata is unsupported.

        Args:
            where: A URL, a `Store`, or a ref.
            path: Path below `where`.

        Returns:
            False if neither is stored.

        Raises:
            StoreError: The store failed. A failed request is never False.
        """
        runtime, path = self._resolve(where, path)
        return await nodes.exists(runtime.store, path)

    async def delete(self, where: Where, *, path: str = "", everything: bool = False) -> None:
        """Delete an array or a group with everything that belongs to it. If nothing is stored, nothing happens.

        Deletes its documents, its chunks, the nodes below a group, and empty objects that mark folders. Other objects
        among them are kept, and named in a logged warning.

        Args:
            where: A URL, a `Store`, or a ref.
            path: Path below `where`.
            everything: Delete every object below the path, even without a node, and even a whole bucket.

        Raises:
            NodeNotFound: There are objects, but no array or group. Nothing was deleted.
            ConfigError: The path is the root of a bucket, and `everything` is not set.
            StoreError: The store failed. A note on the error describes what remains and how to continue.
        """
        check_flag("everything", everything)
        runtime, path = self._resolve(where, path)
        from ._engine import removal

        await removal.delete(runtime, path, everything=everything)

    async def verify(
        self,
        where: Where,
        *,
        path: str = "",
        zarr_format: Literal[2, 3] | None = None,
        strict: bool = False,
        max_findings: int = 1000,
        progress: OnProgress | None = None,
        client: Executor | None = None,
    ) -> VerifyReport:
        """Read and decode every object of an array, or of all arrays of a group, and compare them with the metadata.

        Problems are reported and not raised: damaged and forbidden objects do not stop it. Objects are listed page by
        page and read within the session's limits, bypassing its caches.

        Args:
            where: A URL, a `Store`, or a ref.
            path: Path below `where`.
            zarr_format: The format to verify, if both are stored.
            strict: Count absent chunks as problems. By default they are not: they read as the fill value.
            max_findings: Maximum number of findings kept per kind and node; all are counted.
            progress: Called on the event loop as objects are read. It must neither block nor raise.
            client: Read and decode in other processes: a `distributed.Client`, or a process pool executor. The other
                processes need their own credentials; this process lists and reports.

        Returns:
            The report, with the findings per node.

        Raises:
            NodeNotFound: There is no array or group.
            StoreError: The store as a whole failed (`BucketNotFound`), or the listing or the root's metadata failed.
        """
        check_format(zarr_format)
        runtime, path = self._resolve(where, path)
        from ._verify import verify

        return await verify(
            runtime,
            path,
            zarr_format,
            strict=strict,
            max_findings=max_findings,
            progress=progress,
            client=client,
        )

    # Stores

    def s3(
        self,
        bucket: str,
        prefix: str = "",
        region: str | None = None,
        endpoint_url: str | None = None,
        *,
        config: S3Config | None = None,
    ) -> Store:
        """Open a store by bucket and prefix; other options are those of the session.

        Args:
            bucket: Name of the bucket.
            prefix: Prefix of all keys of the store.
            region: Region of the bucket; default: that of the session.
            endpoint_url: URL of the server; default: that of the session.
            config: Options that replace the session's S3 options.

        Returns:
            The store, bound to this session. No request is sent.

        Raises:
            ConfigError: The bucket's name or an option is invalid.
        """
        check_text("bucket", bucket)
        check_text("prefix", prefix)
        if config is not None:
            check_instance("config", config, *_CLASSES["s3"])
        base = self._config if config is None else config
        given: dict[str, Any] = {k: v for k, v in (("region", region), ("endpoint_url", endpoint_url)) if v is not None}
        return self._store(f"s3://{bucket}/{prefix}", replace(base, **given))

    def store(self, url: str, *, s3: S3Config | None = None, **options: Unpack[S3Options]) -> Store:
        """Open the store of a URL, for direct access to objects and listings. No request is sent.

        Args:
            url: A URL, or a path of the file system.
            s3: Options that replace the session's S3 options.
            options: Fields of `S3Config` that differ for this store.

        Returns:
            The store, bound to this session.

        Raises:
            ConfigError: The URL is invalid, or an option is unknown or invalid.
        """
        check_names(options, S3Options.__annotations__, "store")
        _check_classes(s3=s3)
        given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
        return self._store(as_url(url), replace(s3 or self._config, **given))

    def _store(self, url: str, config: S3Config) -> Store:
        if self._state != "new" or is_loop_running():
            self._guard()  # creating a store does no IO, so it needs no running loop
        context = self._context if config == self._config else replace(self._context, s3=config)
        return open_store(url, context)

    def _resolve(self, where: Where, path: str) -> tuple[Runtime, str]:
        """The store of `where`, bound to this session, and the full path in it."""
        self._guard()
        check_text("path", path)
        match where:
            case ArrayRef() | GroupRef():
                # A reference has the options of its array; keys and limits are those of this session.
                store = self._store(where.url, replace(self._config, **where.config))
                path = "/".join(part for part in (where.path, path) if part)
            case str() | PathLike():
                store = self._store(as_url(where), self._config)
            case _:
                store = checked_store(where)
        return self._runtime(store), check_path(path, zarr_format=2)

    def _runtime(self, store: Store) -> Runtime:
        owner = owner_of(store)
        return Runtime(
            store=store,
            limits=self._limits,
            retry=self._retry,
            requests=self._context.requests,
            leases=self._leases,
            turns=self._turns,
            wait=self._waits.sleep,
            cpu=self._cpu,
            locks=self._locks,
            indexes=self._indexes,
            decoded=self._decoded,
            max_age=self._max_age,
            edits=self._edits,
            fetches=self._fetches,
            emit=self._context.emit,
            guard=self._guard,
            # One object per owner, so that keys of caches compare by identity first.
            owner=self._owners.setdefault(owner, owner),
            resolve=self._resolve,
        )


def _running_loop() -> AbstractEventLoop:
    try:
        return get_running_loop()
    except RuntimeError:
        raise WrongEventLoop(
            "no event loop of asyncio is running here: await this inside a coroutine, or use zs.blocking in code that "
            "cannot await"
        ) from None


def is_loop_running() -> bool:
    """True if an event loop is running in this thread."""
    try:
        get_running_loop()
    except RuntimeError:
        return False
    return True
