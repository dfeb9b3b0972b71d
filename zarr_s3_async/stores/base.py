"""What a store is: bytes under keys, with versions and preconditions. One protocol per family of verbs.

Keys are relative to the store's root, without a leading slash. A missing object is a state and comes back as
None; every failure is a `StoreError`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

from .._types import Buffer, Sink, Version, When
from ..byte_range import ByteRange

PROBE = ".zarr-s3-async-probe-"
"""Beginning of the last part of keys that a store keeps for itself, to find out what its server can do."""

Modified: TypeAlias = str | float | datetime | None
"""When an object was last changed, as its store gives it: a time, the text of an HTTP date or of ISO 8601, seconds
since the epoch, or None where the store does not know. A text is parsed when it is wanted: few readers want it."""


def parse_modified(modified: Modified) -> datetime | None:
    """The time in UTC, or None where the store does not know it, or gave a text that is neither kind of date."""
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


@dataclass(frozen=True, slots=True)
class Blob:
    """What a get returns."""

    data: Buffer
    """The bytes asked for; the sink's own memory where the sink was used."""
    version: Version
    size: int
    """Bytes of the whole object, also where a range was asked for."""
    modified: Modified = None
    """When the object was last changed; see `parse_modified`."""


class Entry(NamedTuple):  # a frozen dataclass takes three times as long to make, and a listing makes millions
    """One object, without its bytes: of a listing, or what `stat` returns."""

    key: str
    size: int
    version: Version
    modified: Modified = None
    """When the object was last changed; see `parse_modified`."""


@dataclass(frozen=True, slots=True)
class Listing:
    """One level of keys below a prefix."""

    dirs: tuple[str, ...]
    """Sub-prefixes, relative to the store's root, without a trailing slash, sorted."""
    entries: tuple[Entry, ...]
    """Objects directly below the prefix, sorted by key."""


class Readable(Protocol):
    """A store that one can read from."""

    async def get(
        self,
        key: str,
        *,
        range: ByteRange | None = None,  # noqa: A002  # what HTTP calls it
        version: Version | None = None,
        sink: Sink | None = None,
        max_bytes: int | None = None,
    ) -> Blob | None:
        """The object, or a range of it, or None where it is absent.

        Args:
            key: The object's key.
            range: A `Span` that reaches past the end is cut; one that starts at or past the end, one that holds no
                byte, and any range of an empty object, give empty data.
            version: Read only this version; another one, or none, is a `Conflict`.
            sink: Receives the body; `Blob.data` then is its memory. Never called for an absent object.
            max_bytes: A longer body is refused before memory is taken for it: `ObjectTooLarge`. Whoever may write to
                the store may have put terabytes where a chunk is expected.
        """
        ...


class Writable(Protocol):
    """A store that one can change."""

    async def put(self, key: str, data: Buffer, *, when: When = "always") -> Version:
        """Store the whole object and return its version. A failed precondition is a `Conflict`, and nothing changed."""
        ...

    async def delete(self, key: str, *, when: Version | Literal["always"] = "always") -> None:
        """Remove the object. Absent is fine with `always`, and a `Conflict` with a version."""
        ...

    async def delete_many(self, keys: Iterable[str]) -> None:
        """Remove all of these, in as few requests as the store can. Absent ones are fine."""
        ...


class Listable(Protocol):
    """A store whose keys can be listed."""

    def list_prefix(self, prefix: str = "") -> AsyncIterator[Entry]:
        """Every object whose key starts with `prefix` (a plain string: end it with / for a folder), sorted by key."""
        ...

    async def list_dir(self, prefix: str = "") -> Listing:
        """One level: the folder `prefix` (with or without a trailing /; "" is the root)."""
        ...


@runtime_checkable
class Store(Readable, Writable, Listable, Protocol):
    """All of it, and a name."""

    @property
    def url(self) -> str:
        """Where this store is, for messages and refs: no secret in it, no trailing slash."""
        ...


# What a store may have besides. A caller that needs one of these uses the functions of `stores.optional`, which compose
# it of the verbs above where a store lacks it.


@runtime_checkable
class SupportsStridedSinks(Protocol):
    """A store that can copy a body to strided memory as it arrives; only such a store is given a `StridedSink`."""

    @property
    def supports_strided_sinks(self) -> Literal[True]: ...


@runtime_checkable
class SupportsForbiddenIsMissing(Protocol):
    """A store with an option that reads of chunks take what is forbidden for absent (`S3Config.missing_on_403`)."""

    @property
    def for_chunk_reads(self) -> Store:
        """The same objects, for reads of chunks alone.

        Never for metadata, nor for the read half of a merge: there what is stored would be taken for absent, and
        overwritten.
        """
        ...


@runtime_checkable
class SupportsStat(Protocol):
    """A store that can describe an object more cheaply than by reading an empty range of it."""

    async def stat(self, key: str) -> Entry | None:
        """The object's size and version, or None where it is absent. Absence is as certain as that of `get`."""
        ...


@runtime_checkable
class SupportsPages(Protocol):
    """A store that lists page by page, which costs less per object than one by one."""

    def list_pages(self, prefix: str = "", *, after: str = "") -> AsyncIterator[Sequence[Entry]]:
        """The objects of `list_prefix(prefix)` whose key is greater than `after`, in pages that are not empty."""
        ...


@runtime_checkable
class SupportsCopy(Protocol):
    """A store that can copy objects without their bytes passing through this process."""

    def copies_from(self, source: Store) -> bool:
        """True where `copy_from` may be asked for objects of that store."""
        ...

    async def copy_from(self, source: Store, source_key: str, key: str) -> Version | None:
        """Store the source's object here as well, byte by byte, whatever was here.

        Returns:
            The version of what is stored here now; None, and nothing is changed, where the source has no such object.

        Raises:
            Unsupported: The server has no such operation, or not for an object like this: get and put it instead.
            AccessDenied: It takes a permission that get and put do not.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreRef:
    """Where a store is, small and picklable: a session with the options `config` opens it by its URL. Holds no key."""

    url: str
    config: Mapping[str, Any] = field(default_factory=dict)
    """Options that differ from their defaults and are no secret."""


@runtime_checkable
class SupportsRef(Protocol):
    """A store that another process can open: two of them are equal where their references are."""

    @property
    def ref(self) -> StoreRef:
        """With which another session opens the same store."""
        ...


@runtime_checkable
class SupportsParent(Protocol):
    """A store that can show the folder that it lies in."""

    def parent(self) -> tuple[Store, str] | None:
        """The store one folder up, and the name of this one's root there; None at the top."""
        ...


@runtime_checkable
class SupportsIdentity(Protocol):
    """A store whose URL alone does not say where its bytes are, or who may read them.

    A session shares what it remembers, and its locks, among stores by these two. Of a store without them it takes the
    URL for the place, and every reader for the same.
    """

    @property
    def place(self) -> str:
        """Where the bytes really are, without a trailing slash: two stores that show one object give `place/key` alike.

        It may be shown in messages.
        """
        ...

    @property
    def owner(self) -> Hashable:
        """Who reads: what one has fetched is not given to another, who may not be allowed to. Its repr shows no key."""
        ...


COPY_RECORD = ".zarr-copy"
"""What a copy says of itself, beside the documents of its node: a second run of the same call looks for it."""
COPY_PIECE = ".zarr-copy-piece-"
"""Beginning of the names of a copy's intermediate objects, beside the documents of its node until it is finished."""
OWN_NAMES = (".zarr-s3-", COPY_RECORD)
"""File names that begin so are the library's own: unfinished files, keys to probe a server with, and those above."""


class RequestLimiter(Protocol):
    """A first-come first-served limit. Belongs to the session's event loop; no thread may use it."""

    @property
    def limit(self) -> int:
        """Requests at once."""
        ...

    def try_acquire(self) -> bool:
        """Take one if it is free now and no one waits."""
        ...

    async def acquire(self) -> None:
        """Take one, after everyone who asked before."""
        ...

    def release(self) -> None:
        """Give one back."""
        ...
