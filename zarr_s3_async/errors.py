"""Every error that leaves this library. Each says what went wrong, where, and what to do about it.

    ZarrS3Error
    ├─ StoreError                       bucket, key, status, code, request_id, attempts
    │  ├─ BucketNotFound (FileNotFoundError)
    │  ├─ AccessDenied (PermissionError)
    │  │  ├─ CredentialsNotFound
    │  │  └─ CredentialsExpired
    │  ├─ WrongRegion
    │  ├─ Throttled
    │  ├─ NetworkError (ConnectionError)
    │  ├─ DeadlineExceeded (TimeoutError)
    │  ├─ Conflict
    │  │  └─ ConcurrentModification
    │  ├─ ChecksumMismatch
    │  ├─ UnexpectedResponse
    │  └─ Unsupported
    ├─ NodeError                        url, path
    │  ├─ NodeNotFound (FileNotFoundError)
    │  ├─ NodeExists (FileExistsError)
    │  ├─ MetadataError (ValueError)
    │  ├─ UnsupportedFeature
    │  └─ VerificationFailed
    ├─ ChunkError                       array, chunk, key, version, codec
    │  ├─ ChunkNotFound
    │  └─ ChunkDecodeError (ValueError)
    ├─ SelectionError (IndexError)
    ├─ ConfigError (ValueError, TypeError)
    └─ StateError
       ├─ SessionClosed
       ├─ WrongEventLoop
       └─ ForkedSession

Errors that double as a built-in are caught by whoever catches the built-in. All of them pickle.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._types import Coords, Version


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteOutcome:
    """What a write had done when it failed or was cancelled, as grid positions of the objects it was to write.

    `unknown` holds the objects that were in work and of which no answer tells: they hold the old or the
    new content, whole, and only a read tells which.

    It is the `outcome` of whatever `set_slice`, `View.set` or `append` raises: of a `CancelledError`, too, which
    is the cause of the `TimeoutError` that `asyncio.timeout` and `asyncio.wait_for` make of it.
    """

    written: tuple[Coords, ...] = ()
    not_written: tuple[Coords, ...] = ()
    unknown: tuple[Coords, ...] = ()


def _rebuild(cls: type[ZarrS3Error], args: tuple[Any, ...], state: dict[str, Any]) -> ZarrS3Error:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class ZarrS3Error(Exception):
    """Root of the tree. `outcome` is set where a write failed half-way."""

    outcome: WriteOutcome | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        # The default would call cls(*args) and lose the keyword-only fields.
        return _rebuild, (type(self), self.args, self.__dict__.copy())


class StoreError(ZarrS3Error):
    """A store could not do what it was asked. Fields that do not apply are None."""

    def __init__(
        self,
        message: str,
        *,
        bucket: str | None = None,
        key: str | None = None,
        status: int | None = None,
        code: str | None = None,
        request_id: str | None = None,
        attempts: int | None = None,
    ) -> None:
        super().__init__(message)
        self.bucket = bucket
        self.key = key
        self.status = status
        self.code = code
        self.request_id = request_id
        self.attempts = attempts


class BucketNotFound(StoreError, FileNotFoundError):
    """The bucket does not exist. Never read as a missing chunk."""


class AccessDenied(StoreError, PermissionError):
    """The store refused the credentials, or these credentials may not do this."""


class CredentialsNotFound(AccessDenied):
    """No source of the standard credential chain had credentials."""


class CredentialsExpired(AccessDenied):
    """The credentials are past their time and could not be refreshed."""


class WrongRegion(StoreError):
    """The bucket lives in another region than the one asked."""


class Throttled(StoreError):
    """The store asked to slow down, and did so for every attempt."""


class NetworkError(StoreError, ConnectionError):
    """No usable answer came: no connection, a broken one, or bytes that are not HTTP."""


class DeadlineExceeded(StoreError, TimeoutError):
    """The `timeout=` of the call, or the last attempt's own timeout, ran out."""


class Conflict(StoreError):
    """A precondition failed: the object is not at the version that was named."""


class ConcurrentModification(Conflict):
    """Other writers changed the object on every attempt to merge with them."""


class ChecksumMismatch(StoreError):
    """The bytes received are not the bytes that the store sums up to."""


class UnexpectedResponse(StoreError):
    """The store answered something that the S3 API does not provide for."""


class Unsupported(StoreError):
    """The store cannot do what this operation needs."""


class ObjectTooLarge(StoreError):
    """The object has more bytes than the caller takes (`max_bytes`); it was refused before memory was taken for it."""


class NodeError(ZarrS3Error):
    """Something is wrong with an array or a group as a whole."""

    def __init__(self, message: str, *, url: str | None = None, path: str | None = None) -> None:
        super().__init__(message)
        self.url = url
        self.path = path


class NodeNotFound(NodeError, FileNotFoundError):
    """No array or group is stored there."""


class NodeExists(NodeError, FileExistsError):
    """An array or group is stored there already, or objects are that a new one would adopt."""


class MetadataError(NodeError, ValueError):
    """A metadata document is not what the Zarr specification allows."""


class UnsupportedFeature(NodeError):
    """A valid document asks for something that this library does not know."""


class VerificationFailed(NodeError):
    """A copy that was read again does not hold what its source holds."""


class ChunkError(ZarrS3Error):
    """Something is wrong with one chunk."""

    def __init__(
        self,
        message: str,
        *,
        array: str | None = None,
        chunk: Coords | None = None,
        key: str | None = None,
        version: Version | None = None,
        codec: str | None = None,
    ) -> None:
        super().__init__(message)
        self.array = array
        self.chunk = chunk
        self.key = key
        self.version = version
        self.codec = codec


class ChunkNotFound(ChunkError):
    """The chunk is absent and the read asked for `missing="raise"`."""


class ChunkDecodeError(ChunkError, ValueError):
    """The stored bytes do not decode to a chunk of this array."""


class SelectionError(ZarrS3Error, IndexError):
    """The selection does not fit the array."""


class DataError(ZarrS3Error, ValueError, TypeError):
    """A Python value to be written is no value of the array's data type. Nothing was written."""


class DataOverflowError(DataError, OverflowError):
    """A Python number to be written lies outside the range of the array's data type. Nothing was written."""


class ConfigError(ZarrS3Error, ValueError, TypeError):
    """An option has a value that it cannot have, or two options contradict each other."""


class StateError(ZarrS3Error):
    """The session cannot be used here and now."""


class SessionClosed(StateError):
    """The session was closed, or not opened yet."""


def session_closed() -> SessionClosed:
    """The error of what a closed session is asked, and of what was running when it closed."""
    return SessionClosed("this session is closed; make a new one, or use its arrays before it is closed")


class WrongEventLoop(StateError):
    """The session belongs to another event loop."""


class ForkedSession(StateError):
    """The session was opened in another process, before a fork."""
