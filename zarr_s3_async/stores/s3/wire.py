"""The wire transport: plain object requests, signed here and sent over our own HTTP connections (`_http`).

It supports GetObject, HeadObject, PutObject, DeleteObject, UploadPart and ListObjectsV2; everything else goes through
the SDK.

Source of the framing rules: RFC 9112, section 6.3.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from hashlib import sha256
from math import inf
from typing import TYPE_CHECKING, Any

from ..._buffers import Buffers
from ..._concurrency.blocking import wait_for_end
from ..._http.body import (
    MAX_OBJECT,
    MAX_SMALL_BODY,
    MAX_UNREQUESTED,
    Body,
    ChunkedBody,
    ExactBody,
    SlicedBody,
    SmallBody,
    StridedBody,
)
from ..._http.dial import Dialer, tls_context
from ..._http.errors import (
    AttemptTimeout,
    ConnectionBroken,
    ConnectTimeout,
    IncompleteResponse,
    PoolClosed,
    ProtocolError,
    TooSlow,
)
from ..._http.head import Head
from ..._http.pool import ConnectionPool
from ..._types import strided_target
from ...errors import ConfigError, DeadlineExceeded, NetworkError, StoreError, Unsupported, session_closed
from .answer_checks import (
    as_range,
    longest_answer,
    part_of,
    takes_sink,
    too_much,
    unbounded,
    whole_for_range,
)
from .checksums import MODE_HEADER
from .errors import attempt_timed_out, looks_like_error, network_error, parse_error, stale_connection, too_long, where
from .request import ErrorDocument, Request, Response
from .resume import BrokenBody
from .sdk.errors import response_or_raise
from .signer import EMPTY_SHA256, UNSIGNED_PAYLOAD, Credentials, Signer, encode_path, encode_query

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Mapping

    from ..._http.connection import Answer, Connection
    from ..._types import Buffer
    from .request import Request
    from .sdk.endpoint import Endpoint


_METHODS = {
    "GetObject": "GET",
    "HeadObject": "HEAD",
    "PutObject": "PUT",
    "DeleteObject": "DELETE",
    "UploadPart": "PUT",
    "ListObjectsV2": "GET",
}
OPERATIONS = frozenset(_METHODS)
"""Operations that the wire supports."""
_UPLOADS = frozenset({"PutObject", "UploadPart"})
_CONSTANT_LINES = "user-agent: zarr-s3-async\r\naccept-encoding: identity\r\n"
_HASH_SLICE = 512 * 1024
_LISTING_QUERY = {"list-type": "2", "encoding-type": "url"}
"""XML cannot represent every key, but it can represent every URL-encoded key."""
_MAX_LISTING = 8 * 2**20
"""Maximum size in bytes of a page: 1,000 keys of 1,024 bytes, three characters each, and as much for the tags."""


class Wire:
    """The objects of one bucket, over connections of our own. A `Transport`; close it with `aclose`."""

    __slots__ = (
        "_attempt_timeout",
        "_authority",
        "_clock",
        "_complete_uploads",
        "_connections",
        "_credentials",
        "_endpoint",
        "_root",
        "_secure",
        "_signed_as",
        "_signer",
    )

    def __init__(
        self,
        endpoint: Endpoint,
        credentials: Callable[[], Awaitable[Credentials | None]] | None,
        *,
        connect_timeout: float = 10.0,
        attempt_timeout: float | None = 60.0,
        idle_timeout: float = 60.0,
        max_connections: int = 64,
        ca_bundle: str | None = None,
        tls: Callable[[], ssl.SSLContext] | None = None,
        buffers: Buffers | None = None,
        clock: Callable[[], float] = time.time,
        complete_uploads: bool = False,
    ) -> None:
        """
        Args:
            endpoint: The bucket's endpoint, from `resolve_endpoint`.
            credentials: Called before every request, so that refreshed credentials are used immediately. None, or a
                result of None: requests are not signed.
            connect_timeout: Timeout of a connection attempt in seconds, including the TLS handshake.
            attempt_timeout: Timeout of one `send` in seconds; None: no timeout.
            idle_timeout: Seconds after which an unused connection is closed.
            max_connections: Maximum number of connections; further requests wait.
            ca_bundle: PEM file or folder of the authorities to trust instead of the system's.
            tls: Creates the TLS context instead, in a thread, so that many buckets can share one.
            buffers: Memory for bodies without a sink, so that many buckets can share it.
            clock: Returns the time to sign with, in seconds since the epoch, corrected for a wrong local clock.
            complete_uploads: When a `send` with a payload is cancelled, wait for its response for at most
                `completion.GRACE` seconds before the cancellation is raised.
        """
        self._endpoint = endpoint
        self._secure = endpoint.scheme == "https"
        self._authority = endpoint.authority
        self._root = endpoint.path_prefix + "/"
        self._credentials = credentials
        self._signed_as: Credentials | None = None
        self._signer: Signer | None = None
        self._attempt_timeout = inf if attempt_timeout is None else attempt_timeout
        self._clock = clock
        self._complete_uploads = complete_uploads
        context = (tls or partial(tls_context, ca_bundle)) if self._secure else None
        self._connections = ConnectionPool(
            Dialer(endpoint.host, endpoint.port, seconds=connect_timeout, tls=context),
            limit=max_connections,
            idle_timeout=idle_timeout,
            attempt_timeout=attempt_timeout,
            buffers=buffers or Buffers(),
            reader=ObjectResponses(),
        )

    def __repr__(self) -> str:
        return f"<Wire to {self._endpoint.scheme}://{self._authority}{self._endpoint.path_prefix}>"

    def retire(self) -> None:
        """Close idle connections, and the others when their request has ended. For a wire that is replaced."""
        self._connections.retire()

    def close(self) -> None:
        """Close every connection; running requests fail with SessionClosed. Idempotent."""
        self._connections.close()

    async def aclose(self) -> None:
        """`close`, and return when the event loop has closed the sockets."""
        await self._connections.aclose()

    async def send(self, request: Request) -> Response:
        """Send one attempt.

        Raises:
            NetworkError: There was no usable response.
            DeadlineExceeded: There was no complete response within the attempt timeout.
            BrokenBody: An object's body was truncated or too slow; the error contains the bytes received.
            Unsupported: The wire does not support this operation.
            SessionClosed: After `aclose`.
        """
        # Getting credentials is outside the attempt timeout: it is slow once, and a retry would start it over.
        head = await self._head(request)
        deadline = asyncio.get_running_loop().time() + self._attempt_timeout
        try:
            answer = await self._exchange(head, request, deadline)
        except StoreError:
            raise
        except IncompleteResponse as error:
            raise self._incomplete(request, error) from error
        except PoolClosed as error:
            raise session_closed() from error
        except (ConnectTimeout, ProtocolError, OSError) as error:
            raise network_error(request, error) from error
        return _response(answer, request)

    # ---- sending

    async def _exchange(self, head: bytes, request: Request, deadline: float) -> Answer:
        # An idle connection is taken without a coroutine, the common case.
        connection = None if request.fresh else self._connections.take()
        if connection is None:
            connection = await self._acquire(deadline, fresh=request.fresh)
        try:
            answer = await connection.exchange(head, request, request.payload, deadline)
        except asyncio.CancelledError as error:
            # Only uploads to servers that store a partial body are completed; anything else is aborted at once.
            if not self._complete_uploads or request.payload is None:
                connection.abort()
                raise
            raise await self._complete(connection, error) from None
        except BaseException:
            connection.abort()
            raise
        self._connections.release(connection)
        return answer

    async def _complete(self, connection: Connection, cancelled: asyncio.CancelledError) -> asyncio.CancelledError:
        """Wait for the response to a request whose caller was cancelled; returns the cancellation to raise."""
        late = AttemptTimeout("no complete response in time after the request was cancelled")
        try:
            answer = connection.wait_again()
            if answer is not None:
                cancelled = await wait_for_end(answer, cancelled, partial(connection.fail, late))
        except BaseException:
            connection.abort()
            raise
        self._connections.release(connection)
        return cancelled

    async def _acquire(self, deadline: float, *, fresh: bool) -> Connection:
        try:
            async with asyncio.timeout_at(None if deadline == inf else deadline):
                return await self._connections.acquire(fresh=fresh)
        except TimeoutError as error:
            raise AttemptTimeout("no connection in time") from error

    def _incomplete(self, request: Request, cause: IncompleteResponse) -> StoreError:
        error: NetworkError | DeadlineExceeded
        match cause:
            case AttemptTimeout():
                error = attempt_timed_out(request, self._attempt_timeout)
            case TooSlow():
                error = DeadlineExceeded(
                    f"{where(request)}: {cause}; check the network, or raise S3Config.attempt_timeout",
                    bucket=request.bucket,
                    key=request.key,
                    code="TooSlow",
                )
            case ConnectionBroken(stale=True):
                error = stale_connection(request, cause)
            case _:
                error = network_error(request, cause)
        return error if cause.partial is None else BrokenBody.of(error, cause.partial)

    # ---- composing

    async def _head(self, request: Request) -> bytes:
        """Everything before the payload."""
        method = _METHODS.get(request.operation)
        if method is None:
            raise Unsupported(f"{where(request)}: the wire does not support this operation; the SDK transport does")
        headers = request.headers
        path = self._root + encode_path(request.key)
        is_listing = request.operation == "ListObjectsV2"
        parameters = {**_LISTING_QUERY, **request.query} if is_listing else request.query
        query = encode_query(parameters) if parameters else ""
        signature = await self._sign(request, method, path, query)
        target = f"{path}?{query}" if query else path
        length = f"content-length: {_size(request.payload)}\r\n" if request.operation in _UPLOADS else ""
        return (
            f"{method} {target} HTTP/1.1\r\nhost: {self._authority}\r\n{_CONSTANT_LINES}"
            f"{signature}{_lines(headers) if headers else ''}{length}\r\n"
        ).encode()

    async def _sign(self, request: Request, method: str, path: str, query: str) -> str:
        if self._credentials is None:
            return ""
        try:
            credentials = await self._credentials()
        except StoreError:
            raise
        except Exception as error:
            response_or_raise(request, error)  # always raises here: a credential source returns no S3 response
            raise
        if credentials is None:
            return ""
        # The signer caches keys derived from the credentials; after a refresh they are other ones.
        if self._signer is None or credentials != self._signed_as:
            self._signer = Signer(credentials, self._endpoint.region, self._endpoint.service)
            self._signed_as = credentials
        signer, payload_hash = self._signer, EMPTY_SHA256
        if request.payload:
            payload_hash = UNSIGNED_PAYLOAD if self._secure else await _hash(request.payload)
        now = self._clock()
        return signer.sign(method, self._authority, path, query, request.headers, payload_hash, now)


def _response(answer: Answer, request: Request) -> Response:
    (status, headers, length, *_), body = answer
    if "range" in request.headers and length is not None and whole_for_range(request, status, headers):
        return as_range(request, headers, body, length)
    error: ErrorDocument | None = None
    # Below 300 only without an ETag: a chunk may contain text that looks like an error.
    if status >= 300 or (body and "etag" not in headers and looks_like_error(body)):
        error = parse_error(body, headers)
    elif request.operation == "ListObjectsV2":
        return Response(status, headers, document=_page(body))
    return Response(status, headers, body, None, error)


def _page(body: Buffer) -> dict[str, Any]:
    from .listing_document import ListingError, parse_listing  # and a parser of XML: for listings alone

    try:
        return parse_listing(body)
    except ListingError:
        return {}  # `answer_checks` rejects it, since it lacks the fields of a page


def _size(payload: Buffer | None) -> int:
    return 0 if payload is None else memoryview(payload).nbytes


def _lines(headers: Mapping[str, str]) -> str:
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if lines.count("\n") != len(headers) or lines.count("\r") != len(headers) or "\0" in lines:
        raise ConfigError(f"a line end or a NUL in one of the headers {', '.join(headers)!r}")
    return lines


async def _hash(payload: Buffer) -> str:
    """SHA-256, computed in slices: other tasks run in between, and no thread outlives a cancelled request."""
    view = memoryview(payload).cast("B")
    state = sha256(view[:_HASH_SLICE])
    for start in range(_HASH_SLICE, len(view), _HASH_SLICE):
        await asyncio.sleep(0)
        state.update(view[start : start + _HASH_SLICE])
    return state.hexdigest()


class ObjectResponses:
    """How the connections read responses to object requests: `_http.connection.ResponseReader` for S3."""

    __slots__ = ()

    @staticmethod
    def has_body(request: Request, head: Head) -> bool:
        """False if the response ends with its head, whatever Content-Length it has."""
        return request.operation != "HeadObject" and head.status not in (204, 304)

    @staticmethod
    def receive_at_once(request: Request, head: Head, data: memoryview) -> Buffer | None:
        """The body of an object that arrived together with its head: in the sink's memory if possible, else a copy.

        Raises:
            Exception: The request's sink raised; ValueError if its memory does not fit.
        """
        if not is_object_data(request, head):
            return None
        if "range" in request.headers and whole_for_range(request, head.status, head.headers):
            data = data[slice(*part_of(request, len(data)))]
        if request.max_bytes is not None and len(data) > request.max_bytes:
            raise too_long(request, len(data))
        sink = request.sink
        # A body this small is not copied to strided memory here: the decoder does that.
        if sink is None or not takes_sink(request, head.status, head.headers) or strided_target(sink, len(data)):
            return bytes(data)
        memory = _checked(sink(len(data)), len(data))
        memory[:] = data
        return memory

    @staticmethod
    def open_body(request: Request, head: Head, buffers: Buffers) -> Body:
        """The body of this response: in the sink's memory if possible, else in memory of `buffers`.

        Raises:
            ProtocolError: Its end cannot be determined, or there is no memory for it.
            ObjectTooLarge: It is longer than `request.max_bytes`.
            Exception: The request's sink raised; ValueError if its memory does not fit.
        """
        data, page = is_object_data(request, head), is_listing_page(request, head)
        if head.chunked:
            return _chunked_body(request, head, data=data, page=page)
        if not (data or page):
            return SmallBody(head.length)
        if page and head.length is not None and head.length > _MAX_LISTING:
            raise ProtocolError(f"a page of a listing of {head.length} bytes")
        longest = longest_answer(request) if head.status == 206 else None
        if longest is not None and head.length is not None and head.length > longest:
            raise too_much(request, head.headers)
        if head.length is not None and whole_for_range(request, head.status, head.headers):
            start, stop = part_of(request, head.length)
            return SlicedBody(_memory_for(request, stop - start, buffers), start, head.length)
        if request.max_bytes is not None and head.length is not None and head.length > request.max_bytes:
            raise too_long(request, head.length)
        if head.length is None:
            raise ProtocolError("the response has neither Content-Length nor chunks, so its end cannot be determined")
        if request.sink is not None and takes_sink(request, head.status, head.headers):
            # A checksum is computed over contiguous memory.
            target = None if MODE_HEADER in request.headers else strided_target(request.sink, head.length)
            if target is not None:
                return StridedBody(target, buffers.scratch())
            return ExactBody(_checked(request.sink(head.length), head.length))
        return ExactBody(_memory(buffers, head.length))


def is_object_data(request: Request, head: Head) -> bool:
    """True if the body is an object's data; otherwise it is an error, a page or a short confirmation.

    S3 has no other status for an object: with another one, no more is received than of an error.
    """
    return head.status in (200, 206) and request.operation == "GetObject" and "etag" in head.headers


def is_listing_page(request: Request, head: Head) -> bool:
    """True if the body is a page of a listing."""
    return head.status == 200 and request.operation == "ListObjectsV2"


def _chunked_body(request: Request, head: Head, *, data: bool, page: bool) -> ChunkedBody:
    if page:
        return ChunkedBody(_MAX_LISTING, ProtocolError(f"a page of a listing of more than {_MAX_LISTING} bytes"))
    if not data:
        return ChunkedBody(MAX_SMALL_BODY)
    if whole_for_range(request, head.status, head.headers):
        return ChunkedBody(MAX_UNREQUESTED, unbounded(request, head.headers))
    longest = longest_answer(request) if head.status == 206 else None
    if longest is not None:
        return ChunkedBody(longest, too_much(request, head.headers))
    if request.max_bytes is not None:
        return ChunkedBody(request.max_bytes, too_long(request))
    return ChunkedBody(MAX_OBJECT, ProtocolError(f"an object of more than {MAX_OBJECT} bytes"))


def _memory_for(request: Request, length: int, buffers: Buffers) -> memoryview:
    """Memory for the requested part of an object: the sink's, if that is contiguous."""
    if request.max_bytes is not None and length > request.max_bytes:
        raise too_long(request, length)
    if request.sink is None or not length or strided_target(request.sink, length) is not None:
        return _memory(buffers, length)
    return _checked(request.sink(length), length)


def _checked(memory: memoryview, length: int) -> memoryview:
    if memory.nbytes != length or memory.readonly or not memory.c_contiguous:
        raise ValueError(f"the sink must return writable, contiguous memory of {length} bytes, not {memory.nbytes}")
    return memory if memory.ndim == 1 and memory.format == "B" else memory.cast("B")


def _memory(buffers: Buffers, length: int) -> memoryview:
    try:
        return buffers.take(length)
    except (MemoryError, OverflowError) as error:
        raise ProtocolError(f"no memory for a body of {length} bytes") from error
