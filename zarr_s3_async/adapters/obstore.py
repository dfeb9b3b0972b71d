"""`ObstoreStore`: a store of this library over a store of obstore, such as Google Cloud Storage or Azure.

docs/obstore.md states what each backend does not support. obstore makes requests, retries and connections itself:
neither `Limits.requests` nor `RetryPolicy` applies to them.
"""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from typing import Any, Literal, NamedTuple, NoReturn
from urllib.parse import urlsplit
from weakref import ref

try:
    import obstore
    from obstore import exceptions
    from obstore import store as backends
except ImportError as _error:
    raise ImportError("ObstoreStore needs obstore: pip install 'zarr-s3-async[obstore]'") from _error

import zarr_s3_async as zs

from .._types import Buffer, Sink, Version, When
from ..byte_range import ByteRange, Offset, Span, Suffix, checked, is_empty, resolve
from ..stores.base import Blob, Entry, Listing


class _Known(NamedTuple):
    """A store of obstore that an `ObstoreStore` was made of, as long as it is alive."""

    store: ref[object]
    environment: tuple[tuple[str, str], ...]
    """What obstore reads from the environment, when the store was first seen."""
    number: int
    """Equal stores under equal environments have the same one."""


_known: list[_Known] = []
_knowing = threading.Lock()
"""Held while `_known` is used: without it, a store got the identity of one that another thread made at that moment."""
_numbers = count(1)
_SORTED = (backends.S3Store, backends.GCSStore, backends.AzureStore)
"""Backends with listings sorted by key; listings of other backends are sorted here."""
_PLACES = (("account_name",), ("emulator",), ("fabric",), ("endpoint", "url"), ("bucket", "container_name"))
"""Parts of the names of options that say where a bucket is: each group says one thing."""
_NO_PLACES = ("identity", "metadata", "msi")
"""Parts of the names of options that say where credentials are."""
_ENVIRONMENT: Mapping[type, tuple[str, ...]] = {
    backends.S3Store: ("AWS_",),
    backends.GCSStore: ("GOOGLE_", "SERVICE_ACCOUNT"),
    backends.AzureStore: ("AZURE_", "IDENTITY_ENDPOINT"),
}
"""Prefixes of the environment variables from which a backend takes options that it was not given."""
_NO_BUCKET = ("NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist")
"""Error codes for a missing bucket, which obstore reports like a missing object."""
_SCHEMES: Mapping[type, str] = {
    backends.S3Store: "s3",
    backends.GCSStore: "gs",
    backends.AzureStore: "az",
    backends.LocalStore: "file",
    backends.MemoryStore: "memory",
    backends.HTTPStore: "http",
}


class ObstoreStore:
    """A `zs.Store` over a store of obstore.

    Args:
        store: The store of obstore, with its options and credentials.
        url: The URL of the store in messages; default: the scheme of the backend, its bucket and its prefix.

    Raises:
        ConfigError: `store` is not a store of obstore.
    """

    __slots__ = ("_known", "_store", "_url")

    def __init__(self, store: object, *, url: str | None = None) -> None:
        if not isinstance(store, tuple(_SCHEMES)):
            raise zs.ConfigError(f"ObstoreStore needs a store of obstore.store, not {store!r}")
        if url is not None and (not isinstance(url, str) or "://" not in url):  # type: ignore[redundant-expr]  # untyped callers
            raise zs.ConfigError(f"url= must be a URL such as gs://bucket/prefix, not {url!r}")
        self._store: Any = store
        self._url = (url or _url_of(store)).rstrip("/")
        self._known = _known_as(store)

    @property
    def url(self) -> str:
        """URL for messages, without a trailing slash. It cannot be opened."""
        return self._url

    @property
    def place(self) -> str:
        """See `SupportsIdentity.place`. It does not depend on `url=`; each MemoryStore has its own."""
        if isinstance(self._store, backends.MemoryStore):
            return f"{_url_of(self._store)}#{self._known.number}"
        config: Mapping[str, Any] = getattr(self._store, "config", None) or {}
        # obstore does not show what it takes from the environment; an option that it was given comes before that.
        sources = sorted(config.items()), self._known.environment
        server: list[str] = []
        for parts in _PLACES:
            # Each option has several names, of which some, like `endpoint_url_s3`, are kept.
            found = ([str(value) for name, value in source if _is_named(name, parts)] for source in sources)
            server += next(filter(None, found), [])
        return " ".join([_url_of(self._store), *server])

    @property
    def owner(self) -> int:
        """See `SupportsIdentity.owner`. Equal stores under equal environments have the same credentials."""
        return self._known.number

    def __eq__(self, other: object) -> bool:
        """Whether both use the same store: equal for obstore, and first used under the same environment."""
        return isinstance(other, ObstoreStore) and self._known.number == other._known.number

    def __hash__(self) -> int:
        return hash(self._url)

    def __repr__(self) -> str:
        return f"ObstoreStore({self._url!r})"

    # Reads

    async def get(
        self,
        key: str,
        *,
        range: ByteRange | None = None,  # noqa: A002  # the protocol's name
        version: Version | None = None,
        sink: Sink | None = None,
        max_bytes: int | None = None,
    ) -> Blob | None:
        """See `Readable.get`."""
        wanted = checked(range)
        if wanted is not None and is_empty(wanted):
            return await self._nothing(key, version)
        try:
            with self._mapped(key):
                result = await obstore.get_async(self._store, key, options=_options(wanted, version))
        except _Absent:
            self._refuse_absent(key, version)
            return None
        except (zs.BucketNotFound, zs.AccessDenied, zs.Conflict):
            raise
        except zs.StoreError:
            if wanted is None:
                raise
            # Backends report an impossible range by errors of different classes.
            return await self._after_refusal(key, wanted, version, sink, max_bytes)
        return await self._received(key, result, version, sink, max_bytes)

    async def _received(
        self, key: str, result: Any, version: Version | None, sink: Sink | None, max_bytes: int | None
    ) -> Blob:
        meta = result.meta
        # Also after a conditional request: a backend may ignore the condition.
        self._check_version(key, _version_of(meta), version)
        start, stop = result.range
        if max_bytes is not None and stop - start > max_bytes:
            raise zs.ObjectTooLarge(
                f"{self.url}/{key} has {stop - start} bytes, more than the {max_bytes} that a valid object can have",
                key=key,
            )
        with self._mapped(key):
            body = memoryview(await result.buffer_async()).cast("B")
        # Checked here, because a truncated body could decode to other elements.
        if len(body) != stop - start:
            raise zs.NetworkError(f"{self.url}/{key}: received {len(body)} of {stop - start} bytes", key=key)
        if sink is not None:
            memory = sink(len(body))
            memory.cast("B")[:] = body
            body = memory
        return Blob(body, _version_of(meta), meta["size"], meta["last_modified"])

    async def _nothing(self, key: str, version: Version | None) -> Blob | None:
        """Read an empty range: only the object's existence and version are checked."""
        entry = await self.stat(key)
        if entry is None:
            self._refuse_absent(key, version)
            return None
        self._check_version(key, entry.version, version)
        return Blob(b"", entry.version, entry.size, entry.modified)

    async def _after_refusal(
        self, key: str, wanted: ByteRange, version: Version | None, sink: Sink | None, max_bytes: int | None
    ) -> Blob | None:
        """Read a range that the backend rejects: one past the object's end, or a suffix (which Azure lacks)."""
        entry = await self.stat(key)
        if entry is None:
            self._refuse_absent(key, version)
            return None
        start, stop = resolve(wanted, entry.size)
        if start >= stop:
            return await self._nothing(key, version)
        try:
            with self._mapped(key):
                # Pinned to the version of the HEAD, from whose size the range was computed.
                options = _options(Span(start, stop), entry.version if version is None else version)
                result = await obstore.get_async(self._store, key, options=options)
        except _Absent:
            self._refuse_absent(key, version)
            return None
        return await self._received(key, result, version, sink, max_bytes)

    async def stat(self, key: str) -> Entry | None:
        """See `SupportsStat.stat`. After a 404 of a HEAD, a GET shows whether the bucket or the object is missing."""
        try:
            with self._mapped(key):
                return _entry(await obstore.head_async(self._store, key))
        except _Absent:
            pass
        try:
            with self._mapped(key):
                return _entry((await obstore.get_async(self._store, key)).meta)
        except _Absent:
            return None

    def _refuse_absent(self, key: str, version: Version | None) -> None:
        if version is not None:
            raise zs.Conflict(f"{self.url}/{key} is absent, not at version {version}", key=key)

    def _check_version(self, key: str, found: Version, version: Version | None) -> None:
        if version is not None and found != version:
            raise zs.Conflict(f"{self.url}/{key} is at version {found}, not at {version}", key=key)

    # Writes

    async def put(self, key: str, data: Buffer, *, when: When = "always") -> Version:
        """See `Writable.put`.

        Raises:
            Unsupported: The backend does not support the precondition.
        """
        mode: Any = {"always": "overwrite", "absent": "create"}.get(when) or {"e_tag": when}
        try:
            with self._mapped(key):
                # A copy, because the backend keeps the data: after a cancelled call, or permanently in memory.
                result = await obstore.put_async(self._store, key, bytes(data), mode=mode)
        except _Absent:
            self._refuse_absent(key, Version(when))
            raise
        if result["e_tag"] is not None:
            return Version(result["e_tag"])
        entry = await self.stat(key)
        if entry is None:
            raise zs.Conflict(f"{self.url}/{key} was deleted immediately after it was put", key=key)
        return entry.version

    async def delete(self, key: str, *, when: Version | Literal["always"] = "always") -> None:
        """See `Writable.delete`.

        Raises:
            Unsupported: A version was passed; obstore has no conditional delete.
        """
        if when != "always":
            raise zs.Unsupported(f"cannot delete {self.url}/{key} at a version: obstore has no such delete", key=key)
        try:
            with self._mapped(key):
                await obstore.delete_async(self._store, key)
        except _Absent:
            return

    async def delete_many(self, keys: Iterable[str]) -> None:
        """See `Writable.delete_many`."""
        # Each key once: it would be absent the second time, which some backends report as an error.
        wanted = list(dict.fromkeys(keys))
        try:
            with self._mapped(None):
                await obstore.delete_async(self._store, wanted)
        except _Absent:  # some backends stop at an absent object
            for key in wanted:
                await self.delete(key)

    # Listings

    async def list_pages(self, prefix: str = "", *, after: str = "") -> AsyncIterator[list[Entry]]:
        """See `SupportsPages.list_pages`. If the backend does not sort listings, all entries are collected first."""
        # obstore lists whole folders only; a prefix that ends within a name is compared below.
        folder = prefix.rpartition("/")[0]
        collected: list[Entry] = []
        with self._mapped(None):
            async for batch in obstore.list(self._store, folder or None, chunk_size=1000):
                page = [entry for entry in map(_entry, batch) if entry.key.startswith(prefix) and entry.key > after]
                if not isinstance(self._store, _SORTED):
                    collected += page
                elif page:
                    yield page
        if collected:
            yield sorted(collected)

    async def list_prefix(self, prefix: str = "") -> AsyncIterator[Entry]:
        """See `Listable.list_prefix`."""
        async for page in self.list_pages(prefix):
            for entry in page:
                yield entry

    async def list_dir(self, prefix: str = "") -> Listing:
        """See `Listable.list_dir`."""
        folder = prefix.strip("/")
        with self._mapped(None):
            found = await obstore.list_with_delimiter_async(self._store, folder or None)
        dirs = {path.rstrip("/") for path in found["common_prefixes"]}
        # An object with the name of the folder itself is not in it.
        entries = [entry for entry in map(_entry, found["objects"]) if entry.key != folder]
        return Listing(tuple(sorted(dirs)), tuple(sorted(entries)))

    # Errors

    @contextmanager
    def _mapped(self, key: str | None) -> Iterator[None]:
        """Convert obstore's errors to errors of this library, and the one for an absent object to `_Absent`."""
        try:
            yield
        except FileNotFoundError as error:
            if any(text in str(error) for text in _NO_BUCKET):
                raise zs.BucketNotFound(f"{self.url}: {_first_line(error)}", key=key) from error
            raise _Absent from error
        except (exceptions.BaseError, NotImplementedError, OSError, ValueError) as error:
            self._raise(key, error)

    def _raise(self, key: str | None, error: Exception) -> NoReturn:
        where = self.url if key is None else f"{self.url}/{key}"
        cls = next((ours for theirs, ours in _ERRORS if isinstance(error, theirs)), zs.StoreError)
        raise cls(f"{where}: {_first_line(error)}", key=key, code=type(error).__name__) from error


class _Absent(Exception):
    """The object does not exist."""


_ERRORS: tuple[tuple[type[BaseException], type[zs.StoreError]], ...] = (
    (exceptions.AlreadyExistsError, zs.Conflict),
    (exceptions.PreconditionError, zs.Conflict),
    (exceptions.PermissionDeniedError, zs.AccessDenied),
    (exceptions.UnauthenticatedError, zs.AccessDenied),
    (PermissionError, zs.AccessDenied),
    (exceptions.NotSupportedError, zs.Unsupported),
    (NotImplementedError, zs.Unsupported),
)


def _first_line(error: Exception) -> str:
    """The first line of obstore's message; the others are a debug representation of the causes."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _options(wanted: ByteRange | None, version: Version | None) -> Any:
    options: dict[str, Any] = {}
    match wanted:
        case Span(start, stop):
            options["range"] = (start, stop)
        case Suffix(length):
            options["range"] = {"suffix": length}
        case Offset(start):
            options["range"] = {"offset": start}
    if version is not None:
        options["if_match"] = version
    return options or None


def _version_of(meta: Mapping[str, Any]) -> Version:
    return Version(meta["e_tag"] or f"{meta['last_modified'].isoformat()} {meta['size']}")


def _entry(meta: Mapping[str, Any]) -> Entry:
    return Entry(meta["path"], meta["size"], _version_of(meta), meta["last_modified"])


def _known_as(store: object) -> _Known:
    """The entry of a store in `_known`. Stores of obstore are not hashable, so all entries are compared."""
    # obstore has read the environment when the store was made, which we cannot know: this is the earliest that we see.
    prefixes = next((names for backend, names in _ENVIRONMENT.items() if isinstance(store, backend)), ())
    environment = tuple(sorted(item for item in os.environ.items() if item[0].startswith(prefixes)))
    with _knowing:
        # Weak references, so that this list does not keep the stores of a program alive.
        _known[:] = [known for known in _known if known.store() is not None]
        for known in _known:
            if known.store() is store:
                return known
        equal = (known.number for known in _known if known.environment == environment and known.store() == store)
        new = _Known(ref(store), environment, next(equal, None) or next(_numbers))
        _known.append(new)
        return new


def _is_named(name: str, parts: Iterable[str]) -> bool:
    """True if the option, or the environment variable, says where a bucket is, and its name has one of these parts."""
    lower = name.lower()
    return any(part in lower for part in parts) and not any(part in lower for part in _NO_PLACES)


def _url_of(store: Any) -> str:
    if isinstance(store, backends.HTTPStore):
        parts = urlsplit(store.url)
        return f"obstore+{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    scheme = next(name for backend, name in _SCHEMES.items() if isinstance(store, backend))
    config: Mapping[str, Any] = getattr(store, "config", None) or {}
    place = next((str(config[name]) for name in ("bucket", "container_name") if name in config), "")
    prefix = str(getattr(store, "prefix", None) or "").strip("/")
    return f"obstore+{scheme}://{'/'.join(part for part in (place, prefix) if part)}"
