"""What a store is: bytes under keys, with versions and preconditions. One protocol per family of verbs.

Keys are relative to the store's root, without a leading slash. A missing object is a state and comes back as
None; every failure is a `StoreError`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from .._types import Buffer, Sink, Version, When
from ..byte_range import ByteRange


@dataclass(frozen=True, slots=True)
class Blob:
    """What a get returns."""

    data: Buffer
    """The bytes asked for; the sink's own memory where the sink was used."""
    version: Version
    size: int
    """Bytes of the whole object, also where a range was asked for."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One object of a listing."""

    key: str
    size: int
    version: Version


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
    ) -> Blob | None:
        """The object, or a range of it, or None where it is absent.

        Args:
            key: The object's key.
            range: A `Span` that reaches past the end is cut; one that starts at or past the end, and any range of
                an empty object, gives empty data.
            version: Read only this version; another one, or none, is a `Conflict`.
            sink: Receives the body; `Blob.data` then is its memory. Never called for an absent object.
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
