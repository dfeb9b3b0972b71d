"""The central interface of the S3 data path: `Request`, `Response` and `Transport`.

A `Request` is one S3 operation, sent as one HTTP request per attempt. `S3Store` composes requests, and
`RetryingTransport(Traced(Transport))` sends them. All transports behave in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

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
    """One operation on one bucket, in HTTP terms. Immutable; use `replace` for a changed copy.

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
    """Structured body of control operations (DeleteObjects, CompleteMultipartUpload) in botocore's structure."""
    sink: Sink | None = None
    """Receives the body of a 200 or 206."""
    max_bytes: int | None = None
    """A longer body is rejected before it is received."""
    fresh: bool = False
    """Send it over a new connection, after an idle one was found closed."""


class ErrorDocument(NamedTuple):
    """S3's `<Error>` body. `code` is empty if the response has none: then it does not come from S3 itself."""

    code: str
    message: str = ""
    region: str = ""
    key: str = ""
    """The key that the error concerns, if it names one."""


@dataclass(slots=True)  # not frozen, for the same reason
class Response:
    """One HTTP response of any status, with its complete body. Immutable."""

    status: int
    headers: Mapping[str, str]
    """Headers by lower-case name."""
    body: Buffer = b""
    document: Mapping[str, Any] | None = None
    """Parsed response of control operations, in botocore's structure."""
    error: ErrorDocument | None = None
    """Set for every status of 300 and above."""

    @property
    def ok(self) -> bool:
        """True for 200 to 299."""
        return 200 <= self.status < 300


class Transport(Protocol):
    """Sends one attempt. Any HTTP response is returned as a Response; without a usable one it raises `NetworkError`.

    When cancelled, it leaves no partly read connection in a pool, and does not write to the sink's memory any more.
    """

    async def send(self, request: Request, /) -> Response: ...


def normalized_prefix(prefix: str) -> str:
    """The prefix without slashes at either end."""
    return prefix.strip("/")
