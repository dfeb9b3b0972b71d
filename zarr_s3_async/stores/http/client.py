"""GET and HEAD of a session's web servers: connections per origin, request slots, redirects and retries.

Source: RFC 9110. No credentials are sent, and no cookies kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Literal, NamedTuple
from urllib.parse import urljoin, urlsplit

from ..._buffers import Buffers
from ..._concurrency.interruptible import Interruptible
from ..._http.body import (
    MAX_OBJECT,
    MAX_SMALL_BODY,
    MAX_UNREQUESTED,
    Body,
    ChunkedBody,
    ExactBody,
    SlicedBody,
    SmallBody,
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
from ..._http.head import Head, parse_content_range
from ..._http.pool import ConnectionPool
from ..._policy.backoff import RetryBudget, uniform
from ..._types import Buffer, Sink
from ...byte_range import ByteRange, Span, Suffix, resolve
from ...errors import (
    ConfigError,
    DeadlineExceeded,
    NetworkError,
    ObjectTooLarge,
    SessionClosed,
    StoreError,
    Throttled,
    UnexpectedResponse,
)
from ...events import RequestDone, SlotWaited, has_hooks
from ..retries import Retries, Retry, Verdict

if TYPE_CHECKING:
    from ..._http.connection import Connection
    from ..base import StoreContext

_IDLE_SECONDS = 60.0
_MAX_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
_THROTTLED = frozenset({429, 503})
# `identity`: a compressed body has another length than the object, and ranges of it cannot be placed.
_CONSTANT_LINES = "user-agent: zarr-s3-async\r\naccept-encoding: identity\r\n"


class Origin(NamedTuple):
    """Scheme, host and port of a web server."""

    scheme: Literal["http", "https"]
    host: str
    port: int

    @property
    def authority(self) -> str:
        """Host and port as in a URL and in the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.scheme == "https" else 80) else f"{host}:{self.port}"


def parse_origin(url: str) -> tuple[Origin, str]:
    """The origin of a URL, and its undecoded path without a trailing slash.

    Raises:
        ConfigError: It is not an http or https URL, or it has a user, a query or a fragment.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"{url!r} is not a URL: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise ConfigError(f"{url!r} is not the URL of a web server: write https://host/path.zarr")
    if parts.username is not None or parts.query or parts.fragment:
        raise ConfigError(
            f"the URL of a store on {parts.hostname} must not have a user, query or fragment: keys follow its path"
        )
    # The path is sent as it is. A space or a line end in it would end the request line.
    if not url.isascii() or any(character <= " " for character in url):
        raise ConfigError(f"{url!r} has characters that must be percent-encoded in a URL")
    scheme: Literal["http", "https"] = "https" if parts.scheme == "https" else "http"
    return Origin(scheme, parts.hostname, port or (443 if scheme == "https" else 80)), parts.path.rstrip("/")


@dataclass(slots=True)
class HttpRequest:
    """One request for an object. Immutable; use `replace` for a changed copy."""

    method: Literal["GET", "HEAD"]
    origin: Origin
    target: str
    """Path, and query after a redirect."""
    key: str
    headers: Mapping[str, str] = field(default_factory=dict)
    byte_range: ByteRange | None = None
    sink: Sink | None = None
    max_bytes: int | None = None

    @property
    def operation(self) -> str:
        """For events: named as on S3."""
        return "GetObject" if self.method == "GET" else "HeadObject"

    @property
    def bucket(self) -> str:
        """For events: the server."""
        return self.origin.authority

    @property
    def url(self) -> str:
        """For messages."""
        return f"{self.origin.scheme}://{self.origin.authority}{self.target.partition('?')[0]}"


class Answer(NamedTuple):
    """A final response of any status."""

    status: int
    headers: Mapping[str, str]
    body: Buffer
    in_sink: bool
    """The body is in the sink's memory."""
    cut_from: int | None = None
    """The body is the range that was asked for, cut from a whole object of this size: the server ignores ranges."""


class HttpClient:
    """The HTTP client that the web stores of one session share. Bound to the session's event loop.

    Args:
        context: The session's context: request slots, retry policy, timeouts and certificate authorities (`S3Config`).
        uniform: Returns random numbers in [0, 1).
        wait: Sleeps for a number of seconds.
    """

    def __init__(
        self,
        context: StoreContext,
        *,
        uniform: Callable[[], float] = uniform,
        wait: Callable[[float], Awaitable[None]] | None = None,
    ) -> None:
        self._requests = context.requests
        self._emit = context.emit
        self._connect_timeout = context.s3.connect_timeout
        self._attempt_timeout = context.s3.attempt_timeout
        self._tls = partial(tls_context, context.s3.ca_bundle)
        self._buffers = Buffers()
        self._pools: dict[Origin, ConnectionPool] = {}
        self._running = Interruptible()
        budget = RetryBudget(context.requests.limit)
        self._retries = Retries(context.retry, budget, context.emit, uniform, wait or self._running.sleep)

    async def aclose(self) -> None:
        """Close every connection; running requests, and the waits between them, fail with SessionClosed."""
        # Waits first: one that ended while the pools close would open a new connection.
        await self._running.aclose()
        while self._pools:
            await self._pools.popitem()[1].aclose()

    async def send(self, request: HttpRequest) -> Answer:
        """Send a request and return the final response; follows redirects, retries transient failures.

        Raises:
            NetworkError, DeadlineExceeded: There was no usable response.
            Throttled: Every attempt was throttled.
            ObjectTooLarge: The body is longer than `max_bytes`.
            StoreError: A redirect is invalid.
        """
        attempts = _Attempts(request, self._attempt)
        outcome, number = await self._retries.run(attempts, await attempts.send(1))
        if isinstance(outcome, StoreError):
            outcome.attempts = number
            raise outcome
        # The retry loop has given up on it; its callers distinguish this from other failures.
        if outcome.status in _THROTTLED:
            raise Throttled(
                f"{attempts.request.url} answered {outcome.status} to {number} attempt(s); lower Limits.requests",
                key=request.key,
                status=outcome.status,
                attempts=number,
            )
        return outcome

    async def _attempt(self, request: HttpRequest, attempt: int) -> Answer | NetworkError | DeadlineExceeded:
        start, received = perf_counter(), 0
        status: int | None = None
        failure: str | None = None
        # The usual case, a free slot, costs no coroutine.
        if not self._requests.try_acquire():
            await self._requests.acquire()
            if has_hooks(self._emit):
                self._emit(SlotWaited(bucket=request.bucket, seconds=perf_counter() - start))
            start = perf_counter()
        try:
            answer = await self._exchange(request)
        # Returned, not raised: the retry loop judges it together with responses that may be retried.
        except (NetworkError, DeadlineExceeded) as error:
            failure = type(error).__name__
            return error
        except BaseException as error:
            failure = type(error).__name__
            raise
        else:
            status, received = answer.status, memoryview(answer.body).nbytes
            failure = str(status) if status >= 400 else None
            return answer
        finally:
            self._requests.release()
            self._emit(
                RequestDone(
                    operation=request.operation,
                    bucket=request.bucket,
                    key=request.key,
                    attempt=attempt,
                    status=status,
                    error=failure,
                    seconds=perf_counter() - start,
                    bytes_sent=0,
                    bytes_received=received,
                    throttled=status in _THROTTLED,
                )
            )

    async def _exchange(self, request: HttpRequest) -> Answer:
        try:
            return await self._send_once(request)
        except StoreError:
            raise
        except PoolClosed as error:
            raise SessionClosed("the connections to web servers were closed; open a new session") from error
        except (AttemptTimeout, TooSlow) as error:
            raise DeadlineExceeded(f"{request.url}: {error}; check the network", key=request.key) from error
        except (IncompleteResponse, ConnectTimeout, ProtocolError, OSError) as error:
            what = str(error) or type(error).__name__
            raise NetworkError(f"{request.url}: {what}; check the host and the network", key=request.key) from error

    async def _send_once(self, request: HttpRequest) -> Answer:
        pool = self._pool(request.origin)
        deadline = asyncio.get_running_loop().time() + self._attempt_timeout
        # A value may be a version that the caller passed; a line end in it would start another header.
        lines = "".join([f"{name}: {value}\r\n" for name, value in request.headers.items()])
        if lines.count("\n") != len(request.headers) or lines.count("\r") != len(request.headers) or "\0" in lines:
            raise ConfigError(f"a line end or a NUL in one of the headers {', '.join(request.headers)!r}")
        start = f"{request.method} {request.target} HTTP/1.1\r\nhost: {request.origin.authority}\r\n"
        head = f"{start}{_CONSTANT_LINES}{lines}\r\n".encode("latin-1")
        try:
            return await self._over(pool, pool.take() or await _acquired(pool, deadline), head, request, deadline)
        except ConnectionBroken as broken:
            if not broken.stale:
                raise
        # The server had closed an idle connection; the other idle ones are probably closed too. A GET has no side
        # effects, so this does not count as an attempt.
        return await self._over(pool, await _acquired(pool, deadline, fresh=True), head, request, deadline)

    async def _over(
        self, pool: ConnectionPool, connection: Connection, head: bytes, request: HttpRequest, deadline: float
    ) -> Answer:
        receiving = _Receiving(request)
        try:
            (status, headers, *_), body = await connection.exchange(head, receiving, None, deadline)
        except BaseException:
            # Unread bytes of this response would be read as the next response.
            connection.abort()
            raise
        # Only after a complete body, for the same reason.
        pool.release(connection)
        return Answer(status, headers, body, receiving.in_sink, receiving.cut_from)

    def _pool(self, origin: Origin) -> ConnectionPool:
        pool = self._pools.get(origin)
        if pool is None:
            tls = self._tls if origin.scheme == "https" else None
            pool = self._pools[origin] = ConnectionPool(
                Dialer(origin.host, origin.port, seconds=self._connect_timeout, tls=tls),
                limit=self._requests.limit,
                idle_timeout=_IDLE_SECONDS,
                attempt_timeout=self._attempt_timeout,
                buffers=self._buffers,
                reader=_Reader(),
            )
        return pool


class _Attempts:
    """The attempts of one request, redirects included: see `retries.Attempts`."""

    __slots__ = ("_attempt", "_redirects", "request")

    def __init__(
        self, request: HttpRequest, attempt: Callable[[HttpRequest, int], Awaitable[Answer | StoreError]]
    ) -> None:
        self.request = request
        self._attempt = attempt
        self._redirects = 0

    async def send(self, attempt: int) -> Answer | StoreError:
        while True:
            outcome = await self._attempt(self.request, attempt)
            if isinstance(outcome, StoreError):
                return outcome
            problem = _problem(self.request, outcome)
            if problem is not None or outcome.status not in _REDIRECTS:
                return problem or outcome
            # Counted over all attempts: each starts at the last location, so a loop of redirects ends.
            self._redirects += 1
            self.request = _redirected(self.request, outcome, self._redirects)

    async def judge(self, outcome: Answer | StoreError, _: int) -> Verdict | Retry:
        if isinstance(outcome, StoreError):
            return Retry(type(outcome).__name__)
        if outcome.status not in _RETRIED:
            return Verdict.FINAL
        return Retry(str(outcome.status), outcome.headers.get("retry-after"))


async def _acquired(pool: ConnectionPool, deadline: float, *, fresh: bool = False) -> Connection:
    try:
        async with asyncio.timeout_at(deadline):
            return await pool.acquire(fresh=fresh)
    except TimeoutError as error:
        raise AttemptTimeout("no connection in time") from error


def _redirected(request: HttpRequest, answer: Answer, count: int) -> HttpRequest:
    """The request that follows a redirect.

    Raises:
        NetworkError: The location is missing or invalid, drops TLS, or there were too many redirects.
    """
    location = answer.headers.get("location", "")
    problem = f"more than {_MAX_REDIRECTS} redirects" if count > _MAX_REDIRECTS else None
    parts = urlsplit("")
    try:
        parts = urlsplit(urljoin(request.url, location))
        port = parts.port
    except ValueError:
        port, problem = None, "a redirect to an invalid URL"
    if problem is None and (not location or parts.scheme not in ("http", "https") or not parts.hostname):
        problem = "a redirect without a usable location"
    # A redirect must not take away what the user asked for by writing https.
    if problem is None and parts.scheme == "http" and request.origin.scheme == "https":
        problem = "a redirect from https to http, which is not authenticated"
    if problem is None and (not location.isascii() or any(character <= " " for character in location)):
        problem = "a redirect to an invalid URL"
    if problem is not None:
        raise NetworkError(f"{request.url}: {problem}", key=request.key, status=answer.status)
    scheme: Literal["http", "https"] = "https" if parts.scheme == "https" else "http"
    origin = Origin(scheme, parts.hostname or "", port or (443 if scheme == "https" else 80))
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return replace(request, origin=origin, target=target)


def unexpected(request: HttpRequest, answer: Answer, what: str) -> UnexpectedResponse:
    """The error for a response that is invalid for the request."""
    return UnexpectedResponse(f"{request.url} answered {answer.status}: {what}", key=request.key, status=answer.status)


def _problem(request: HttpRequest, answer: Answer) -> StoreError | None:
    """Why a response with a success status must not be used; a retry may succeed."""
    if answer.status not in (200, 206) or request.method == "HEAD":
        return None
    headers, length = answer.headers, memoryview(answer.body).nbytes
    coding = headers.get("content-encoding", "identity").lower()
    # Decoded by this client, it would not be the bytes of the range or of the ETag.
    if coding != "identity":
        return unexpected(request, answer, f"its body is encoded ({coding}), although no encoding was requested")
    if answer.status == 200:
        return None
    span = parse_content_range(headers.get("content-range", ""))
    if request.byte_range is None or span is None or resolve(request.byte_range, span[2]) != span[:2]:
        return unexpected(
            request, answer, f"with {headers.get('content-range')!r}, but {request.byte_range} was requested"
        )
    if length != span[1] - span[0]:
        return unexpected(request, answer, f"with {length} bytes of {span[1] - span[0]}")
    return None


# Receiving


class _Receiving:
    """An attempt, as the connection passes it to the reader."""

    __slots__ = ("cut_from", "in_sink", "request")

    def __init__(self, request: HttpRequest) -> None:
        self.request = request
        self.in_sink = False
        self.cut_from: int | None = None

    def part_of(self, status: int, size: int) -> tuple[int, int]:
        """(start, stop) of the bytes to keep of a body of `size` bytes: of a whole object, only the range."""
        requested = self.request.byte_range
        if status != 200 or requested is None:
            return 0, size
        self.cut_from = size
        return resolve(requested, size)

    def longest(self, status: int) -> int | None:
        """Maximum bytes of a body without a length; None: only the limit of objects applies."""
        requested = self.request.byte_range
        if requested is None:
            return None
        # The server ignores ranges and sends the whole object: accepted only if it is short.
        if status == 200:
            return MAX_UNREQUESTED
        match requested:
            case Span(start, stop):
                return stop - start
            case Suffix(length):
                return length
        return None


class _Reader:
    """How the connections read responses: `_http.connection.ResponseReader`."""

    __slots__ = ()

    @staticmethod
    def has_body(receiving: _Receiving, head: Head) -> bool:
        return receiving.request.method != "HEAD" and head.status not in (204, 304)

    @staticmethod
    def receive_at_once(receiving: _Receiving, head: Head, data: memoryview) -> Buffer | None:
        request = receiving.request
        # `receive_at_once` gets bodies that came with the head; only a success is an object whose range is kept.
        if head.status in (200, 206):
            data = data[slice(*receiving.part_of(head.status, len(data)))]
            if request.max_bytes is not None and len(data) > request.max_bytes:
                raise too_large(request, len(data))
        memory = _memory_of(receiving, head, len(data))
        if memory is None:
            return bytes(data)
        memory[:] = data
        return memory

    @staticmethod
    def open_body(receiving: _Receiving, head: Head, buffers: Buffers) -> Body:
        request = receiving.request
        is_object = head.status in (200, 206)
        limit = MAX_OBJECT if request.max_bytes is None else request.max_bytes
        longest = receiving.longest(head.status) if is_object else None
        if head.chunked:
            if longest is not None:
                why = "sends more than the requested range" if head.status == 206 else _WHOLE_WITHOUT_LENGTH
                return ChunkedBody(longest, ProtocolError(why))
            # One byte above the limit, so that a body of this length is known to be too long.
            return ChunkedBody(limit + 1 if is_object else MAX_SMALL_BODY)
        if not is_object:
            return SmallBody(head.length)
        if head.length is None:
            raise ProtocolError("the response has neither Content-Length nor chunks, so its end cannot be determined")
        if head.status == 206 and longest is not None and head.length > longest:
            raise ProtocolError(f"sends {head.length} bytes for a range of {longest}")
        start, stop = receiving.part_of(head.status, head.length)
        # Before memory is taken: a wrong length must not allocate it.
        if stop - start > limit:
            raise too_large(request, stop - start)
        memory = _memory_of(receiving, head, head.length)
        if memory is None:
            try:
                memory = buffers.take(stop - start)
            except (MemoryError, OverflowError) as error:
                raise ProtocolError(f"no memory for a body of {stop - start} bytes") from error
        return ExactBody(memory) if receiving.cut_from is None else SlicedBody(memory, start, head.length)


_WHOLE_WITHOUT_LENGTH = f"sends the whole object for a range, with more than {MAX_UNREQUESTED} bytes and no length"


def too_large(request: HttpRequest, length: int) -> ObjectTooLarge:
    """The error for a body that is longer than `max_bytes`."""
    return ObjectTooLarge(
        f"{request.url} has {length} bytes, but at most {request.max_bytes} are expected", key=request.key
    )


def _memory_of(receiving: _Receiving, head: Head, length: int) -> memoryview | None:
    """The sink's memory, if the body is what was requested and needs no decoding."""
    request = receiving.request
    if (
        request.sink is None
        or receiving.in_sink
        or head.headers.get("content-encoding", "identity").lower() != "identity"
    ):
        return None
    if head.status != (200 if request.byte_range is None else 206):
        return None
    if head.status == 206:
        span = parse_content_range(head.headers.get("content-range", ""))
        if request.byte_range is None or span is None or resolve(request.byte_range, span[2]) != span[:2]:
            return None
        # Not into the sink's memory: `_problem` rejects this response.
        if span[1] - span[0] != length:
            return None
    memory = request.sink(length)
    if memory.nbytes != length or memory.readonly or not memory.c_contiguous:
        raise ValueError(f"the sink must give writable, contiguous memory of {length} bytes, not {memory.nbytes}")
    receiving.in_sink = True
    return memory if memory.ndim == 1 and memory.format == "B" else memory.cast("B")
