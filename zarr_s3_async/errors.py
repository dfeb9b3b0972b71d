"""All errors of this library. Each message states what failed, where, and what to do about it.

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
       ├─ Overloaded
       ├─ SessionClosed
       ├─ WrongEventLoop
       └─ ForkedSession

Errors that inherit from a built-in exception can be caught as that built-in. All of them can be pickled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._types import Coords, Version


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteOutcome:
    """Which objects a failed or cancelled write has written, as positions in the grid of objects.

    `unknown` holds the objects whose request got no conclusive response: each holds either the old or the new content,
    complete, and only a read can show which.

    It is the `outcome` attribute of every exception that `set_slice`, `View.set` or `append` raises, including a
    `CancelledError`, which is the `__cause__` of the `TimeoutError` of `asyncio.timeout` and `asyncio.wait_for`.
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
    """Base class of all errors. `outcome` is set if a write failed."""

    outcome: WriteOutcome | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        # The default calls cls(*args), which loses the keyword-only fields.
        return _rebuild, (type(self), self.args, self.__dict__.copy())


class StoreError(ZarrS3Error):
    """A store operation failed. Fields that do not apply are None."""

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
    """The bucket does not exist. Never treated as a missing chunk."""


class AccessDenied(StoreError, PermissionError):
    """The credentials were rejected, or lack permission for this operation."""


class CredentialsNotFound(AccessDenied):
    """No source of the standard credential chain provides credentials."""


class CredentialsExpired(AccessDenied):
    """The credentials have expired and could not be refreshed."""


class WrongRegion(StoreError):
    """The bucket is in another region than the request was sent to."""


class Throttled(StoreError):
    """The store throttled every attempt."""


class NetworkError(StoreError, ConnectionError):
    """No usable response: no connection, a broken connection, or bytes that are not HTTP."""


class DeadlineExceeded(StoreError, TimeoutError):
    """The `timeout=` of the call, or the timeout of the last attempt, expired."""


class Conflict(StoreError):
    """A precondition failed: the object is not at the expected version."""


class ConcurrentModification(Conflict):
    """Other writers changed the object during every attempt."""


class ChecksumMismatch(StoreError):
    """The received bytes do not match the checksum of the store."""


class UnexpectedResponse(StoreError):
    """The response violates the S3 API."""


class Unsupported(StoreError):
    """The store lacks a capability that this operation needs."""


class ObjectTooLarge(StoreError):
    """The object exceeds `max_bytes`; it was rejected before memory was allocated for it."""


class NodeError(ZarrS3Error):
    """An error that concerns an array or a group as a whole."""

    def __init__(self, message: str, *, url: str | None = None, path: str | None = None) -> None:
        super().__init__(message)
        self.url = url
        self.path = path


class NodeNotFound(NodeError, FileNotFoundError):
    """No array or group exists at this path."""


class NodeExists(NodeError, FileExistsError):
    """An array or group exists at this path, or objects that a new array would expose as its own chunks."""


class MetadataError(NodeError, ValueError):
    """A metadata document violates the Zarr specification."""


class UnsupportedFeature(NodeError):
    """A valid metadata document uses a feature that this library does not support."""


class VerificationFailed(NodeError):
    """The content of a copy differs from its source."""


class ChunkError(ZarrS3Error):
    """An error that concerns one chunk."""

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
    """The chunk is not stored, and the read was called with `missing="raise"`."""


class ChunkDecodeError(ChunkError, ValueError):
    """The stored bytes do not decode to a chunk of this array."""


class SelectionError(ZarrS3Error, IndexError):
    """The selection does not fit the array."""


class DataError(ZarrS3Error, ValueError, TypeError):
    """A Python value cannot be converted to the array's data type. Nothing was written."""


class DataOverflowError(DataError, OverflowError):
    """A Python number lies outside the range of the array's data type. Nothing was written."""


class ConfigError(ZarrS3Error, ValueError, TypeError):
    """An option is unknown, has an invalid value, or contradicts another option."""


class StateError(ZarrS3Error):
    """The session cannot be used in its current state."""


class Overloaded(StateError):
    """More requests wait than `Limits.max_waiting` allows; the call was rejected before it did anything."""


class SessionClosed(StateError):
    """The session is closed, or not open yet."""


def session_closed() -> SessionClosed:
    """The error of calls on a closed session, and of calls that were running when it was closed."""
    return SessionClosed("this session is closed; create a new one, or use its arrays before it is closed")


class WrongEventLoop(StateError):
    """The session belongs to another event loop."""


class ForkedSession(StateError):
    """The session was opened in another process, before a fork."""
