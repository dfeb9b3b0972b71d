"""The one seam of the S3 data path: a Request is one S3 operation, which is one HTTP attempt.

`S3Store` composes requests, `RetryingTransport(Traced(Transport))` sends them. The transports differ in how, never in
what.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

from ..._types import Buffer, Sink

Operation: TypeAlias = Literal[
    "GetObject",
    "HeadObject",
    "PutObject",
    "DeleteObject",
    "DeleteObjects",
    "ListObjectsV2",
    "CreateMultipartUpload",
    "UploadPart",
    "CompleteMultipartUpload",
    "AbortMultipartUpload",
    "CopyObject",
]


@dataclass(slots=True)  # not frozen: making a frozen one costs 2 µs more, and one is made for every chunk
class Request:
    """One operation on one bucket, in HTTP's own terms. Nobody changes one; `replace` makes another.

    `headers` and `query` have the lower-case names of the S3 API reference (`if-match`, `range`, `x-amz-meta-…`,
    `list-type`, `partNumber`); `key` is the whole key, unencoded.
    """

    operation: Operation
    bucket: str
    key: str
    headers: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    payload: Buffer | None = None
    """The body to send."""
    document: Mapping[str, Any] | None = None
    """Structured body of control operations (DeleteObjects, CompleteMultipartUpload) in botocore's shape."""
    sink: Sink | None = None
    """Receives the body of a 200 or 206."""
    max_bytes: int | None = None
    """A longer body is refused before it is received: it cannot be what is wanted."""
    fresh: bool = False
    """Send it over a new connection: an idle one has just turned out to be closed."""


@dataclass(frozen=True, slots=True)
class ErrorDocument:
    """S3's `<Error>` body. `code` is empty where the answer carried none: then S3 itself did not say it."""

    code: str
    message: str = ""
    region: str = ""
    key: str = ""
    """Which key it is about, where it says so."""


@dataclass(slots=True)  # not frozen, for the same reason
class Response:
    """One HTTP answer, whatever its status. Its body has been read to its end. Nobody changes one."""

    status: int
    headers: Mapping[str, str]
    """Lower-case names."""
    body: Buffer = b""
    document: Mapping[str, Any] | None = None
    """Parsed answer of control operations, in botocore's shape."""
    error: ErrorDocument | None = None
    """Set for every status of 300 and above."""

    @property
    def ok(self) -> bool:
        """True for 200 to 299."""
        return 200 <= self.status < 300


class Transport(Protocol):
    """Sends one attempt, once. Any HTTP answer is a Response; no usable answer is a `NetworkError`.

    Cancelled, it leaves no half-read connection in a pool and never writes to the sink's memory again.
    """

    async def send(self, request: Request, /) -> Response: ...


def normalized_prefix(prefix: str) -> str:
    """The prefix without slashes at either end."""
    return prefix.strip("/")
