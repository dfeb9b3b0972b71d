"""The store protocol: bytes under keys, with versions and preconditions. One protocol per group of operations.

Keys are relative to the store's root, without a leading slash. An absent object is returned as None; every failure is a
`StoreError`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

from .._types import Buffer, Sink, Version, When
from ..byte_range import ByteRange
from ..config import HedgePolicy, Limits, RetryPolicy, S3Config
from ..events import Emit

PROBE = ".zarr-s3-async-probe-"
"""Prefix of the last part of keys that a store uses to probe its server's capabilities."""

Modified: TypeAlias = str | float | datetime | None
"""When an object was last modified, as its store reports it: a datetime, an HTTP date or ISO 8601 as text, seconds
since the epoch, or None if unknown. Text is parsed on demand, since few readers need it."""


def parse_modified(modified: Modified) -> datetime | None:
    """The time in UTC; None if it is unknown or its text cannot be parsed."""
    from email.utils import parsedate_to_datetime

    if modified is None:
        return None
    try:
        match modified:
            case str():
                when = parsedate_to_datetime(modified) if "," in modified else datetime.fromisoformat(modified)
            case datetime():
                when = modified
            case _:
                when = datetime.fromtimestamp(modified, UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)


class Blob(NamedTuple):
    """The result of `get`."""

    data: Buffer
    """The requested bytes; the sink's memory if a sink was used."""
    version: Version
    size: int
    """Size of the whole object in bytes, also for a range."""
    modified: Modified = None
    """When the object was last modified; see `parse_modified`."""


class Entry(NamedTuple):  # a frozen dataclass takes three times as long to make, and a listing makes millions
    """One object without its bytes, as listings and `stat` return it."""

    key: str
    size: int
    version: Version
    modified: Modified = None
    """When the object was last modified; see `parse_modified`."""


class Listing(NamedTuple):
    """One level of keys below a prefix."""

    dirs: tuple[str, ...]
    """Folders directly below the prefix, relative to the store's root, without a trailing slash, sorted."""
    entries: tuple[Entry, ...]
    """Objects directly below the prefix, sorted by key."""


class Readable(Protocol):
    """A store that can be read."""

    async def get(
        self,
        key: str,
        *,
        range: ByteRange | None = None,  # noqa: A002  # what HTTP calls it
        version: Version | None = None,
        sink: Sink | None = None,
        max_bytes: int | None = None,
    ) -> Blob | None:
        """Read an object, or a range of it; None if it is absent.

        Args:
            key: The object's key.
            range: A `Span` that extends past the end is cut. A span that starts at or past the end, an empty range, and
                any range of an empty object return empty data.
            version: Read only this version; if the object is at another one or absent, raise `Conflict`.
            sink: Called with the length of the body, returns memory to receive it, which becomes `Blob.data`. Never
                called for an absent object.
            max_bytes: Raise `ObjectTooLarge` for a longer body, before memory is allocated: anyone with write access to
                the store could have put terabytes where a chunk is expected.

        Returns:
            The bytes, with the version and the size of the object that they are from.
        """
        ...


class Writable(Protocol):
    """A store that can be written."""

    async def put(self, key: str, data: Buffer, *, when: When = "always") -> Version:
        """Store an object. A failed precondition raises `Conflict` and changes nothing.

        Args:
            key: The object's key.
            data: Its bytes; the caller may change the memory when the call has returned.
            when: `"always"`, `"absent"` (only if no object is stored), or the version that must be stored.

        Returns:
            The version of the new object.
        """
        ...

    async def delete(self, key: str, *, when: Version | Literal["always"] = "always") -> None:
        """Delete an object. An absent one is ignored with `always`, and raises `Conflict` with a version.

        Args:
            key: The object's key.
            when: `"always"`, or the version that must be stored.
        """
        ...

    async def delete_many(self, keys: Iterable[str]) -> None:
        """Delete objects in as few requests as the store allows. Absent ones are ignored.

        Args:
            keys: Of the objects.
        """
        ...


class Listable(Protocol):
    """A store whose keys can be listed."""

    def list_prefix(self, prefix: str = "") -> AsyncIterator[Entry]:
        """List all objects below a prefix.

        Args:
            prefix: What the keys start with; end it with / for a folder.

        Returns:
            The objects, sorted by key.
        """
        ...

    async def list_dir(self, prefix: str = "") -> Listing:
        """List one folder.

        Args:
            prefix: The folder, with or without a trailing /; "" is the root.

        Returns:
            The folders and objects directly in it.
        """
        ...


@runtime_checkable
class Store(Readable, Writable, Listable, Protocol):
    """The complete protocol of a store."""

    @property
    def url(self) -> str:
        """URL of the store for messages and references, without secrets, without a trailing slash."""
        ...


# Optional capabilities. Callers use the functions of `stores.optional`, which fall back to the operations above if a
# store lacks one.


@runtime_checkable
class SupportsStridedSinks(Protocol):
    """A store that can copy a body to strided memory as it arrives. Only such stores are given a `StridedSink`."""

    @property
    def supports_strided_sinks(self) -> Literal[True]: ...


@runtime_checkable
class SupportsForbiddenIsMissing(Protocol):
    """A store that can treat forbidden chunks as absent, as an option (`S3Config.missing_on_403`)."""

    @property
    def for_chunk_reads(self) -> Store:
        """A view of the same objects for pure reads of chunks.

        Never used for metadata or for the read of a merge: stored data would count as absent, and be overwritten.
        """
        ...


@runtime_checkable
class SupportsWeakVersions(Protocol):
    """A store with weak versions: two states of an object may have the same one."""

    def is_weak(self, version: Version) -> bool:
        """True if another state of the same object may have this version too."""
        ...


@runtime_checkable
class SupportsUnkeptConditions(Protocol):
    """A store that on some servers, or by an option, writes without the condition that it was given."""

    async def keeps(self, key: str, when: Version | Literal["absent"]) -> bool:
        """False where `put` and `delete` of this key would act whatever is stored."""
        ...


@runtime_checkable
class SupportsStat(Protocol):
    """A store that can describe an object more cheaply than by reading an empty range."""

    async def stat(self, key: str) -> Entry | None:
        """The object's size and version; None if it is absent, as reliably as with `get`."""
        ...


class Unchanged(Enum):
    """The result of a conditional read of an object that still has the given version."""

    UNCHANGED = 0


@runtime_checkable
class SupportsUnless(Protocol):
    """A store that sends an object only if it has changed, by one request (HTTP's `If-None-Match`)."""

    async def get_unless(
        self,
        key: str,
        version: Version,
        *,
        range: ByteRange | None = None,  # noqa: A002  # what HTTP calls it
        max_bytes: int | None = None,
    ) -> Blob | Literal[Unchanged.UNCHANGED] | None:
        """The result of `get`, or `UNCHANGED` if the object is at this version. The range must not be empty."""
        ...


@runtime_checkable
class SupportsPages(Protocol):
    """A store that lists in pages, which costs less per object."""

    def list_pages(self, prefix: str = "", *, after: str = "") -> AsyncIterator[Sequence[Entry]]:
        """The objects of `list_prefix(prefix)` whose key is greater than `after`, in non-empty pages."""
        ...


@runtime_checkable
class SupportsCopy(Protocol):
    """A store that can copy objects on the server."""

    def copies_from(self, source: Store) -> bool:
        """True if `copy_from` accepts objects of that store."""
        ...

    async def copy_from(self, source: Store, source_key: str, key: str) -> Version | None:
        """Copy an object byte by byte, replacing any object at `key`.

        Returns:
            The version of the copy; None if the source object is absent, and then nothing is changed.

        Raises:
            Unsupported: The server lacks this operation, or cannot copy this object: use `get` and `put` instead.
            AccessDenied: The operation needs a permission that `get` and `put` do not need.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreRef:
    """A small picklable reference: a session with the options `config` can open the store by its URL. No secrets."""

    url: str
    config: Mapping[str, Any] = field(default_factory=dict)
    """Options that differ from their defaults, without secrets."""


@runtime_checkable
class SupportsRef(Protocol):
    """A store that another process can open. Two stores are equal if their references are."""

    @property
    def ref(self) -> StoreRef:
        """A reference with which another session opens the same store."""
        ...


@runtime_checkable
class SupportsParent(Protocol):
    """A store that can return its parent folder."""

    def parent(self) -> tuple[Store, str] | None:
        """The parent folder as a store, and the name of this store's root in it; None at the top."""
        ...


@runtime_checkable
class SupportsIdentity(Protocol):
    """A store whose URL does not determine where its bytes are, or who may read them.

    A session shares caches and locks between stores with equal `place` and `owner`. For a store without these, the URL
    is the place, and all readers are equal.
    """

    @property
    def place(self) -> str:
        """Identifies where the bytes are, without a trailing slash: stores with a common object have equal `place/key`.

        It may appear in messages.
        """
        ...

    @property
    def owner(self) -> Hashable:
        """Identifies the reader: cached data of one owner is not given to another, who may lack permission. The repr
        contains no secret."""
        ...


COPY_RECORD = ".zarr-copy"
"""Name of a copy's record, stored beside the documents of its node; a second run of the same call reads it."""
COPY_PIECE = ".zarr-copy-piece-"
"""Name prefix of a copy's intermediate objects, stored beside the documents of its node until it is complete."""
OWN_NAMES = (".zarr-s3-", COPY_RECORD)
"""Prefixes of names that the library reserves: temporary files, probe keys, and the names above."""


class RequestLimiter(Protocol):
    """A first-come first-served limit on requests in flight. To be used on the session's event loop only."""

    @property
    def limit(self) -> int:
        """Maximum number of requests in flight."""
        ...

    def try_acquire(self) -> bool:
        """Acquire a slot without waiting; False if none is free or other callers wait."""
        ...

    async def acquire(self) -> None:
        """Acquire a slot, in first-come first-served order."""
        ...

    def release(self) -> None:
        """Release a slot."""
        ...


class StoreContext(Protocol):
    """What a session provides to the stores that it opens."""

    @property
    def s3(self) -> S3Config: ...

    @property
    def limits(self) -> Limits: ...

    @property
    def requests(self) -> RequestLimiter:
        """The session's limit on requests in flight (`Limits.requests`): acquire a slot for every request."""
        ...

    @property
    def retry(self) -> RetryPolicy: ...

    @property
    def hedge(self) -> HedgePolicy | None: ...

    @property
    def emit(self) -> Emit: ...

    @property
    def shared(self) -> dict[object, Any]:
        """Objects that stores of one session share; each factory uses its own key."""
        ...

    @property
    def closing(self) -> list[Callable[[], Awaitable[None]]]:
        """Functions that are called when the session closes, the last one first."""
        ...
