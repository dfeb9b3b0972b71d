"""FastAPI support (extra `fastapi`): one session for all handlers, errors as problem documents, regions as responses.

    app = FastAPI(
        lifespan=zs.fastapi.lifespan(limits=zs.Limits(requests=128)),
        exception_handlers=zs.fastapi.exception_handlers,
        middleware=zs.fastapi.middleware,
    )

It is built on the public API of `zarr_s3_async`: replace any part that does not fit your application.
"""

from __future__ import annotations

import asyncio
import json
import logging
import operator
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from functools import partial
from http import HTTPStatus
from io import BytesIO
from math import prod
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeAlias, Unpack

import anyio
import numpy as np

from . import (
    AccessDenied,
    Array,
    BucketNotFound,
    ChunkNotFound,
    ConfigError,
    Conflict,
    CredentialsExpired,
    CredentialsNotFound,
    DataError,
    DeadlineExceeded,
    NodeExists,
    NodeNotFound,
    SelectionError,
    Session,
    SessionClosed,
    SessionOptions,
    StateError,
    Throttled,
    Unsupported,
    UnsupportedFeature,
    ZarrS3Error,
)
from ._concurrency.interruptible import run_until
from ._options import check_choice, check_count, check_timeout

try:
    from fastapi import FastAPI, Query
    from starlette.background import BackgroundTask
    from starlette.middleware import Middleware
    from starlette.requests import HTTPConnection, Request
    from starlette.responses import JSONResponse, Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send
except ImportError as _error:  # pragma: no cover  # the extra is installed in the tests
    raise ImportError("zarr_s3_async.fastapi needs FastAPI: pip install 'zarr-s3-async[fastapi]'") from _error

Lifespan: TypeAlias = Callable[[FastAPI], AbstractAsyncContextManager[None]]
Format: TypeAlias = Literal["bytes", "npy", "arrow"]
Data: TypeAlias = np.ndarray[Any, np.dtype[Any]]

log: logging.Logger = logging.getLogger("zarr_s3_async.fastapi")

_STATE = "zarr_s3_async_session"
_MEDIA_TYPES: Final[dict[Format, str]] = {
    "bytes": "application/octet-stream",
    "npy": "application/x-npy",
    "arrow": "application/vnd.apache.arrow.stream",
}
_AHEAD = 4
"""Number of slabs that are read ahead while one is being sent."""


# One session for all handlers


def lifespan(**options: Unpack[SessionOptions]) -> Lifespan:
    """A lifespan for `FastAPI(lifespan=...)` that opens one session for all handlers, and closes it at the end.

    Args:
        options: Options of `Session`. They are validated here, before the application starts.

    Raises:
        ConfigError: An option is unknown or has an invalid value.
    """
    Session(**options)  # validates the options; a session that was never used need not be closed

    @asynccontextmanager
    async def run(app: FastAPI) -> AsyncIterator[None]:
        async with Session(**options) as opened:
            setattr(app.state, _STATE, opened)
            yield

    return run


async def session(connection: HTTPConnection) -> Session:  # async, since FastAPI calls a plain function in a thread
    """The dependency that gives a handler the session: `Annotated[zs.Session, Depends(zs.fastapi.session)]`.

    Raises:
        SessionClosed: The application does not use `lifespan` of this module, or it did not run.
    """
    found: Session | None = getattr(connection.app.state, _STATE, None)
    if found is None:
        raise SessionClosed(
            "this application has no session: create it with FastAPI(lifespan=zs.fastapi.lifespan()); if it is mounted "
            "in another application, enter this lifespan in that application's lifespan"
        )
    return found


# Errors


class NotAcceptable(ConfigError):
    """The client accepts none of the formats of a region."""


class ResponseTooLarge(SelectionError):
    """The region exceeds the size limit of a response (`SliceResponse(max_bytes=)`)."""


# The first matching class decides, so subclasses come before their base classes.
_STATUS: Final[tuple[tuple[type[ZarrS3Error], int], ...]] = (
    (NodeNotFound, 404),
    (BucketNotFound, 404),
    (ChunkNotFound, 404),
    (NotAcceptable, 406),
    (ResponseTooLarge, 413),
    (SelectionError, 416),
    (ConfigError, 422),
    (DataError, 422),
    (NodeExists, 409),
    (CredentialsNotFound, 502),  # the credentials of the service, not of its client
    (CredentialsExpired, 502),
    (AccessDenied, 403),
    (Throttled, 503),
    (Conflict, 409),
    (DeadlineExceeded, 504),
    (Unsupported, 501),
    (UnsupportedFeature, 501),
    (StateError, 503),
)
_REST: Final = 502
"""Status of all other errors: the stored data is invalid, or the store failed."""


def status_of(error: ZarrS3Error) -> int:
    """The HTTP status of a response to a request that failed with this error."""
    return next((status for kind, status in _STATUS if isinstance(error, kind)), _REST)


def problem(error: ZarrS3Error, instance: str | None = None, *, details: bool = False) -> Response:
    """An error as a problem document (RFC 9457).

    `detail` is the error's message if the client can act on it. Messages of failures behind the service (status 403,
    and 500 and above) contain buckets, keys and hosts: they are logged, and not sent to the client.

    Args:
        error: The error.
        instance: The URL path of the request.
        details: Send the message in any case, for a service that only its own user can reach.
    """
    status, name = status_of(error), type(error).__name__
    is_internal = not details and (status == HTTPStatus.FORBIDDEN or status >= HTTPStatus.INTERNAL_SERVER_ERROR)
    if is_internal:
        log.error("%s of %s: %s", name, instance, error)
    return problem_response(
        status,
        re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower(),
        (type(error).__doc__ or name).partition("\n")[0].rstrip("."),
        HTTPStatus(status).description or HTTPStatus(status).phrase if is_internal else str(error),
        instance,
    )


def problem_response(status: int, name: str, title: str, detail: str, instance: str | None = None) -> Response:
    """A problem document like those of `problem`, for errors of other origin.

    Args:
        status: The HTTP status; with 503 the response has `Retry-After`.
        name: Identifies the kind of problem: `type` is `urn:zarr-s3-async:` and this name.
        title: The kind of problem in words.
        detail: What is wrong with this request; it is sent to the client.
        instance: The URL path of the request.
    """
    document: dict[str, Any] = {
        "type": f"urn:zarr-s3-async:{name}",
        "title": title,
        "status": status,
        "detail": detail,
    }
    if instance is not None:
        document["instance"] = instance
    headers = {"Retry-After": "1"} if status == HTTPStatus.SERVICE_UNAVAILABLE else None
    return JSONResponse(document, status, headers, media_type="application/problem+json")


async def _answer(request: Request, error: Exception) -> Response:
    assert isinstance(error, ZarrS3Error)  # noqa: S101  # registered for this class only
    return problem(error, request.url.path)


exception_handlers: dict[int | type[Exception], Callable[[Request, Any], Any]] = {ZarrS3Error: _answer}
"""For `FastAPI(exception_handlers=...)`: every error of this library becomes a `problem` of the right status."""


# Clients that disconnect


class CancelOnDisconnect:
    """ASGI middleware that cancels a handler, and its requests to the store, when the client disconnects.

    Without it, only a `SliceResponse` notices a disconnect; a handler that is still opening an array does not.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        incoming = _Incoming(receive)
        await run_until(partial(self._app, scope, incoming.receive, send), incoming.disconnected)


class _Incoming:
    """The messages of one request, read one ahead, so that a disconnect is noticed at any time."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._message: Message | None = None
        self._gone: Message | None = None
        self._changed = anyio.Event()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    async def receive(self) -> Message:
        """The next message; the `receive` of the application."""
        while self._message is None:
            if self._gone is not None:
                return self._gone
            await self._changed.wait()
        message, self._message = self._message, None
        self._notify()
        return message

    async def disconnected(self) -> None:
        """Return when the client has disconnected. A body is read no faster than the application receives it."""
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self._gone = message
                self._notify()
                return
            self._message = message
            self._notify()
            # Without waiting, a body that the application does not read would collect here.
            if message.get("more_body", False):
                await self._taken()

    async def _taken(self) -> None:
        while self._message is not None:
            await self._changed.wait()


middleware: Final[list[Middleware]] = [Middleware(CancelOnDisconnect)]
"""For `FastAPI(middleware=...)`."""


# Regions


class Region(NamedTuple):
    """A region as `Array.get_slice` and `SliceResponse` take it: one integer per dimension in each field."""

    start: tuple[int, ...]
    stop: tuple[int, ...]
    step: tuple[int, ...] | None


async def region(
    start: Annotated[str, Query(description="first elements, one per dimension", examples=["0,0"])],
    stop: Annotated[str, Query(description="end of the region, exclusive, one per dimension", examples=["100,100"])],
    step: Annotated[str | None, Query(description="take every n-th element", examples=["1,2"])] = None,
) -> Region:
    """The dependency that reads `?start=0,0&stop=100,100` (and `&step=1,2`): `Depends(zs.fastapi.region)`.

    Raises:
        ConfigError: One of them is not a list of integers.
    """
    return Region(integers("start", start), integers("stop", stop), None if step is None else integers("step", step))


def integers(name: str, text: str) -> tuple[int, ...]:
    """Parse `0,100` from a query as (0, 100); empty text is (), for an array without dimensions.

    Args:
        name: Name of the parameter, for the error message.
        text: Its value.

    Raises:
        ConfigError: It is not a list of integers.
    """
    parts = text.split(",") if text.strip() else []
    # Not `int` alone: text comes from a client, and a number of a million digits takes seconds.
    if not all(re.fullmatch(r"\s*-?[0-9]{1,18}\s*", part) for part in parts):
        raise ConfigError(f"{name} must be whole numbers like 0,100, one per dimension, not {text[:80]!r}")
    return tuple(map(int, parts))


async def accepted_format(request: Request) -> Format:
    """The dependency that reads the `Accept` header, for `SliceResponse(format=)`: `Depends(accepted_format)`.

    `application/octet-stream` is `bytes`, the default if the client accepts any type; `application/x-npy` is `npy`;
    `application/vnd.apache.arrow.stream` is `arrow`. A response that depends on the header should have `Vary: Accept`:
    `SliceResponse(headers={"Vary": "Accept"})`.

    Raises:
        NotAcceptable: The client accepts none of them.
    """
    accepted = ",".join(request.headers.getlist("accept")) or "*/*"
    # RFC 9110, section 12.5.1: the most specific media range that matches a format decides its weight.
    weights: dict[str, float] = {}
    for item in accepted.split(","):
        name, *parameters = (part.strip().lower() for part in item.split(";"))
        weights[name] = next((_weight(text[2:]) for text in parameters if text.startswith("q=")), 1.0)
    best: Format | None = None
    highest = 0.0
    for format_, media in _MEDIA_TYPES.items():
        ranges = (media, "application/*", "*/*")
        weight = next((weights[name] for name in ranges if name in weights), 0.0)
        if weight > highest:
            best, highest = format_, weight
    if best is None:
        raise NotAcceptable(f"a region can be sent as {', '.join(_MEDIA_TYPES.values())}: accept one of these")
    return best


def _weight(text: str) -> float:
    """Parse a quality value; invalid text is 0, which means not acceptable."""
    return float(text) if re.fullmatch(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?", text) else 0.0


_PIECE_BYTES: Final = 256 * 2**10
"""Bytes for which a client has `SliceResponse(send_timeout=)`."""


class SliceResponse(Response):
    """A response with a region of an array as its body, which is read while it is sent.

    Reading starts with the response. The status is sent only when the first elements have been read, so an error before
    that is a response with its own status. A later error closes the connection, so the body is shorter than its
    `Content-Length`. Reading is cancelled when the client disconnects.

    Args:
        array: The array to read.
        start: As for `Array.get_slice`.
        stop: As for `Array.get_slice`.
        step: As for `Array.get_slice`; a region with a step is read at once, not in blocks.
        format: `bytes` is the elements in C order, little-endian; `npy` the same with a header that `np.load` reads.
            The headers `X-Shape` and `X-Dtype` describe it: `np.frombuffer(body, dtype).reshape(shape)`. `arrow` is
            an Arrow IPC stream of record batches with one column `data`, the elements in C order; the schema's metadata
            has `shape`, as JSON. It needs pyarrow (extra `arrow`), and has no `Content-Length`.
        timeout: Seconds until `DeadlineExceeded` if the first elements have not been read.
        max_bytes: Maximum size of the region; a larger one is rejected.
        block_bytes: Approximate size of the blocks that are read and sent; five times as much may be in memory.
        send_timeout: Seconds in which the server must accept each 256 KiB of the body. A client that reads more slowly
            ends the response: reading ends, the blocks are freed, and the server logs `DeadlineExceeded` and closes the
            connection. None: no limit while the client stays connected.
        headers: Added to the response.

    Raises:
        SelectionError: The region is not inside the array.
        ResponseTooLarge: The region has more than `max_bytes`.
        UnsupportedFeature: Elements have no fixed size in bytes, or the format does not support their data type.
        ConfigError: An option has an invalid value.
    """

    def __init__(
        self,
        array: Array,
        start: Sequence[int] | int,
        stop: Sequence[int] | int | None,
        step: Sequence[int] | int | None = None,
        *,
        format: Format = "bytes",  # noqa: A002  # the usual name in HTTP APIs
        timeout: float | None = 30.0,
        max_bytes: int = 2**30,
        block_bytes: int = 2**22,
        send_timeout: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        check_choice("format", format, tuple(_MEDIA_TYPES))
        check_count("max_bytes", max_bytes)
        check_count("block_bytes", block_bytes)
        check_timeout(timeout)
        check_timeout(send_timeout, "send_timeout")
        begin, end, steps = _per_dimension(array, start, stop, step)
        self._array, self._region = array, Region(begin, end, steps)
        self._shape = tuple(-(-(b - a) // n) for a, b, n in zip(begin, end, steps or (1,) * len(begin), strict=True))
        self._dtype = _sent_dtype(array, format)
        self._timeout, self._block_bytes, self._send_timeout = timeout, block_bytes, send_timeout
        self._arrow = _ArrowStream(self._array.url, self._dtype, self._shape) if format == "arrow" else None
        self._head = b"" if self._arrow is None else self._arrow.head
        if format == "npy":
            self._head = _npy_head(self._dtype, self._shape)
        nbytes = prod(self._shape) * self._dtype.itemsize
        # Before the status is sent, which cannot be changed afterwards.
        if nbytes > max_bytes:
            raise ResponseTooLarge(
                f"this region has {nbytes:,} bytes, a response at most {max_bytes:,}: request a smaller region"
            )
        described = {"X-Shape": ",".join(map(str, self._shape)), "X-Dtype": _name_of(self._dtype)}
        if self._arrow is None:
            described["Content-Length"] = str(len(self._head) + nbytes)
        self.status_code = 200
        self.background: BackgroundTask | None = None
        self.media_type: str | None = _MEDIA_TYPES[format]
        self.init_headers({**described, **(headers or {})})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the region, and send the response."""
        begin: Message = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        # The headers are known without reading anything.
        if scope["method"] == "HEAD":
            await send(begin)
            await send({"type": "http.response.body", "body": b""})
            return
        incoming = _Incoming(receive)
        await run_until(partial(self._send, begin, send), incoming.disconnected)

    async def _send(self, begin: Message, send: Send) -> None:
        # Closed here, so that reads end when sending fails, not when the generator is collected.
        async with aclosing(self._slabs()) as slabs:
            try:
                async with asyncio.timeout(self._timeout) as limit:
                    first = await anext(slabs, None)
            except TimeoutError as error:
                # A timeout of something else, which the caller set around this response.
                if not limit.expired():
                    raise
                raise DeadlineExceeded(
                    f"the first elements of {self._array.url} were not read within timeout={self._timeout} s: increase "
                    "it, or request a smaller region"
                ) from error
            await send(begin)
            if self._head:
                await self._send_body(send, self._head)
            while first is not None:
                elements = np.ascontiguousarray(first, self._dtype)
                # A copy, not a view: servers keep a reference to data that they cannot send yet.
                body = elements.tobytes() if self._arrow is None else self._arrow.batch(elements)
                await self._send_body(send, body)
                first = await anext(slabs, None)
            end = b"" if self._arrow is None else _ArrowStream.END
            await self._send_body(send, end, more=False)

    async def _send_body(self, send: Send, body: bytes, *, more: bool = True) -> None:
        """Send the next bytes of the body, within the send timeout if there is one."""
        if self._send_timeout is None:
            await send({"type": "http.response.body", "body": body, "more_body": more})
            return
        # In pieces, so that the timeout measures progress, and the server holds little for a client that stops reading.
        for at in range(0, max(1, len(body)), _PIECE_BYTES):
            piece = {"type": "http.response.body", "body": body[at : at + _PIECE_BYTES], "more_body": more}
            try:
                # Also for the last message: servers wait here until the client has taken what was sent before.
                async with asyncio.timeout(self._send_timeout) as limit:
                    await send(piece)
            except TimeoutError as error:
                if not limit.expired():
                    raise
                raise DeadlineExceeded(
                    f"the client did not take the next bytes of {self._array.url} within "
                    f"send_timeout={self._send_timeout} s: increase it for slower clients"
                ) from error

    async def _slabs(self) -> AsyncGenerator[Data]:
        """The region in consecutive pieces, in C order."""
        start, stop, step = self._region
        nbytes = prod(self._shape) * self._dtype.itemsize
        if nbytes == 0:
            return
        if step is not None or nbytes <= self._block_bytes:
            yield await self._array.get_slice(start, stop, step)
            return
        # The slowest axis with more than one element: slabs along it are consecutive in C order.
        axis = next(axis for axis, n in enumerate(self._shape) if n > 1)
        rows = max(1, self._block_bytes * self._shape[axis] // nbytes)
        place = tuple(map(slice, start, stop))
        async with self._array.stream_slices(axis, rows, place, ahead_bytes=_AHEAD * self._block_bytes) as blocks:
            async for block in blocks:
                yield block.data


_CUSTOM = 2
"""`dtype.isbuiltin` of types from other packages, such as bfloat16."""


def _per_dimension(array: Array, start: Any, stop: Any, step: Any) -> Region:
    """The region with one integer per dimension, as `get_slice` interprets the arguments.

    Raises:
        SelectionError: The region is not inside the array.
    """
    ndim = array.ndim
    begin = _integers(start)
    end = array.shape if stop is None else _integers(stop)
    steps = None if step is None else _integers(step)
    if not len(begin) == len(end) == len(steps or begin) == ndim:
        raise SelectionError(f"{array.url} has {ndim} dimensions: start, stop and step need one number for each")
    for a, b, n, size in zip(begin, end, steps or (1,) * ndim, array.shape, strict=True):
        if not 0 <= a <= b <= size or n < 1:
            raise SelectionError(
                f"the region from {begin} to {end} by {steps or 1} is not inside {array.url} of shape {array.shape}: "
                "0 <= start <= stop <= shape, and step >= 1"
            )
    return Region(begin, end, None if steps is None or set(steps) <= {1} else steps)


def _integers(value: Any) -> tuple[int, ...]:
    try:
        return tuple(map(operator.index, value if isinstance(value, Iterable) else (value,)))
    except TypeError as error:
        raise SelectionError(f"start, stop and step are integers, one per dimension, not {value!r:.80}") from error


def _sent_dtype(array: Array, format: Format) -> np.dtype[Any]:  # noqa: A002  # see `SliceResponse`
    dtype = array.dtype
    if dtype.hasobject:
        raise UnsupportedFeature(f"the data type of {array.url}, {dtype}, has no fixed size in bytes")
    if format == "npy" and dtype.isbuiltin == _CUSTOM:
        raise UnsupportedFeature(f"the data type of {array.url}, {dtype}, is not supported by .npy: use format=bytes")
    return dtype.newbyteorder("<")


def _name_of(dtype: np.dtype[Any]) -> str:
    if dtype.names is not None:
        return ascii(dtype.descr)  # headers have no other characters
    return dtype.name if dtype.isbuiltin == _CUSTOM else dtype.str


class _ArrowStream:
    """Encodes a region as an Arrow IPC stream: `head`, batches, `END`.

    The column contains elements, not tensors: every Arrow library can read it, and it can be split anywhere, so at most
    one slab is in memory.
    """

    END: Final = b"\xff\xff\xff\xff\x00\x00\x00\x00"

    def __init__(self, url: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        try:
            import pyarrow as pa  # imported when used: it takes a quarter of a second
        except ImportError as error:
            raise ImportError("format='arrow' needs pyarrow: pip install 'zarr-s3-async[arrow]'") from error
        try:
            if dtype.kind not in "biufmM":  # fixed-length strings and bytes would lose their padding
                raise pa.ArrowNotImplementedError
            kind = pa.from_numpy_dtype(dtype)
        except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
            raise UnsupportedFeature(
                f"the data type of {url}, {dtype}, is not supported by Arrow: use format=bytes"
            ) from error
        self._pa = pa
        metadata = {"shape": json.dumps(shape), "dtype": _name_of(dtype)}
        self._schema = pa.schema([pa.field("data", kind, nullable=dtype.kind in "mM")], metadata=metadata)
        self.head: bytes = self._schema.serialize().to_pybytes()

    def batch(self, elements: Data) -> bytes:
        """Encode contiguous elements as a record batch."""
        column = self._pa.array(elements.reshape(-1), self._schema.field("data").type)
        encoded: bytes = self._pa.record_batch([column], schema=self._schema).serialize().to_pybytes()
        return encoded


def _npy_head(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    fields = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    head = BytesIO()
    try:
        np.lib.format.write_array_header_1_0(head, fields)
    except ValueError:  # names of fields that are not Latin-1, or long; NumPy writes version 3.0 only with an array
        text = repr(fields).encode()
        begin = len(np.lib.format.magic(3, 0)) + 4
        text += b" " * (-(begin + len(text) + 1) % np.lib.format.ARRAY_ALIGN) + b"\n"
        return np.lib.format.magic(3, 0) + len(text).to_bytes(4, "little") + text
    return head.getvalue()
