"""For FastAPI (extra `fastapi`): a session for all handlers, errors as problem documents, regions as response bodies.

    app = FastAPI(
        lifespan=zs.fastapi.lifespan(limits=zs.Limits(requests=128)),
        exception_handlers=zs.fastapi.exception_handlers,
        middleware=zs.fastapi.middleware,
    )

Nothing here needs more than what `zarr_s3_async` gives to everyone: replace what does not fit your application.
"""

from __future__ import annotations

import asyncio
import json
import logging
import operator
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
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
except ImportError as _error:  # pragma: no cover  # the extra is there in the tests
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
"""Slabs that are read while one is being sent."""


# One session for all handlers


def lifespan(**options: Unpack[SessionOptions]) -> Lifespan:
    """A lifespan for `FastAPI(lifespan=...)` that opens one session for all handlers, and closes it at the end.

    Args:
        options: Those of `Session`. They are checked here, before the application starts.

    Raises:
        ConfigError: An option is unknown, or has a value that it cannot have.
    """
    Session(**options)  # refuses what is wrong now; one that was never used needs no closing

    @asynccontextmanager
    async def run(app: FastAPI) -> AsyncIterator[None]:
        async with Session(**options) as opened:
            setattr(app.state, _STATE, opened)
            yield

    return run


async def session(connection: HTTPConnection) -> Session:  # a plain function would be called in a thread
    """The dependency that gives a handler the session: `Annotated[zs.Session, Depends(zs.fastapi.session)]`.

    Raises:
        StateError: The application has no `lifespan` of this module, or it did not run.
    """
    found: Session | None = getattr(connection.app.state, _STATE, None)
    if found is None:
        raise SessionClosed(
            "this application has no session: make it with FastAPI(lifespan=zs.fastapi.lifespan()), and where it is "
            "mounted in another one, enter that lifespan in the other one's"
        )
    return found


# Errors


class NotAcceptable(ConfigError):
    """A client accepts none of the formats that a region is sent in."""


class ResponseTooLarge(SelectionError):
    """A region has more bytes than a response may have (`SliceResponse(max_bytes=)`)."""


# The first class that fits decides: subclasses stand before their parents.
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
    (CredentialsNotFound, 502),  # the service has none, which is no fault of its client
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
"""Of all other errors: what is stored cannot be read, or the store did not answer as it should."""


def status_of(error: ZarrS3Error) -> int:
    """The HTTP status that tells a client what this error means to it."""
    return next((status for kind, status in _STATUS if isinstance(error, kind)), _REST)


def problem(error: ZarrS3Error, instance: str | None = None, *, details: bool = False) -> Response:
    """An error as a problem document (RFC 9457).

    `detail` is the error's own message where the client can do something about it. What went wrong behind the service
    (statuses of 403 and of 500 and above) names buckets, keys and hosts: it goes to the log, and not to the client.

    Args:
        error: What was raised.
        instance: The URL path that was asked for.
        details: Tell the client everything: for a service that only its user reaches.
    """
    status, name = status_of(error), type(error).__name__
    inside = not details and (status == HTTPStatus.FORBIDDEN or status >= HTTPStatus.INTERNAL_SERVER_ERROR)
    if inside:
        log.error("%s of %s: %s", name, instance, error)
    document: dict[str, Any] = {
        "type": "urn:zarr-s3-async:" + re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower(),
        "title": (type(error).__doc__ or name).partition("\n")[0].rstrip("."),
        "status": status,
        "detail": HTTPStatus(status).description or HTTPStatus(status).phrase if inside else str(error),
    }
    if instance is not None:
        document["instance"] = instance
    headers = {"Retry-After": "1"} if status == HTTPStatus.SERVICE_UNAVAILABLE else None
    return JSONResponse(document, status, headers, media_type="application/problem+json")


async def _answer(request: Request, error: Exception) -> Response:
    assert isinstance(error, ZarrS3Error)  # noqa: S101  # registered for nothing else
    return problem(error, request.url.path)


exception_handlers: dict[int | type[Exception], Callable[[Request, Any], Any]] = {ZarrS3Error: _answer}
"""For `FastAPI(exception_handlers=...)`: every error of this library becomes a `problem` of the right status."""


# Clients that go


class CancelOnDisconnect:
    """ASGI middleware that cancels a handler, and with it its requests to the store, when its client hangs up.

    Without it only a `SliceResponse` notices: a handler that is still opening an array does not.
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
    """The messages of one request, read one ahead: so a disconnect is seen though the handler does not wait for it."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._message: Message | None = None
        self._gone: Message | None = None
        self._changed = anyio.Event()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    async def receive(self) -> Message:
        """What the application calls."""
        while self._message is None:
            if self._gone is not None:
                return self._gone
            await self._changed.wait()
        message, self._message = self._message, None
        self._tell()
        return message

    async def disconnected(self) -> None:
        """Return once the client is gone. A body is read no faster than the application takes it."""
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self._gone = message
                self._tell()
                return
            self._message = message
            self._tell()
            if message.get("more_body", False):
                await self._taken()

    async def _taken(self) -> None:
        while self._message is not None:
            await self._changed.wait()


middleware: Final[list[Middleware]] = [Middleware(CancelOnDisconnect)]
"""For `FastAPI(middleware=...)`."""


# Regions


class Region(NamedTuple):
    """What `get_slice` and `SliceResponse` take: one integer per dimension in each."""

    start: tuple[int, ...]
    stop: tuple[int, ...]
    step: tuple[int, ...] | None


async def region(
    start: Annotated[str, Query(description="first elements, one per dimension", examples=["0,0"])],
    stop: Annotated[str, Query(description="behind the last elements", examples=["100,100"])],
    step: Annotated[str | None, Query(description="take every n-th element", examples=["1,2"])] = None,
) -> Region:
    """The dependency that reads `?start=0,0&stop=100,100` (and `&step=1,2`): `Depends(zs.fastapi.region)`.

    Raises:
        ConfigError: One of them is no list of whole numbers.
    """
    return Region(integers("start", start), integers("stop", stop), None if step is None else integers("step", step))


def integers(name: str, text: str) -> tuple[int, ...]:
    """`0,100` in a query as (0, 100); nothing as (), for an array without dimensions.

    Args:
        name: Of the parameter, for the error.
        text: What it says.

    Raises:
        ConfigError: It is no list of whole numbers.
    """
    parts = text.split(",") if text.strip() else []
    if not all(re.fullmatch(r"\s*-?[0-9]{1,18}\s*", part) for part in parts):
        raise ConfigError(f"{name} must be whole numbers like 0,100, one per dimension, not {text[:80]!r}")
    return tuple(map(int, parts))


async def accepted_format(request: Request) -> Format:
    """The dependency that reads the `Accept` header, for `SliceResponse(format=)`: `Depends(accepted_format)`.

    `application/octet-stream` is `bytes`, which who accepts anything gets, `application/x-npy` is `npy` and
    `application/vnd.apache.arrow.stream` is `arrow`. A response that depends on the header should have `Vary: Accept`:
    `SliceResponse(headers={"Vary": "Accept"})`.

    Raises:
        NotAcceptable: The client accepts none of them.
    """
    accepted = ",".join(request.headers.getlist("accept")) or "*/*"
    # (RFC 9110, section 12.5.1) Of a format, the most specific range that names it decides.
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
        raise NotAcceptable(f"a region is sent as {', '.join(_MEDIA_TYPES.values())}: accept one of these")
    return best


def _weight(text: str) -> float:
    """A quality value; 0, not acceptable, where it is none."""
    return float(text) if re.fullmatch(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?", text) else 0.0


class SliceResponse(Response):
    """A region of an array as the body of a response, read while it is sent.

    Nothing is read before the response begins, and the status is sent only once the first elements are there: so an
    error still has its own status. What fails later breaks the connection in the middle of the body, which is shorter
    than its `Content-Length` then. Reading ends when the client goes.

    Args:
        array: What to read.
        start: As for `Array.get_slice`.
        stop: As for `Array.get_slice`.
        step: As for `Array.get_slice`; such a region is read in one piece.
        format: `bytes` is the elements in C order, little-endian; `npy` the same with a header that `np.load` reads.
            The headers `X-Shape` and `X-Dtype` say what it is: `np.frombuffer(body, dtype).reshape(shape)`. `arrow` is
            an Arrow IPC stream of record batches with one column `data`, the elements in C order; the schema's metadata
            has `shape`, as JSON. It needs pyarrow (extra `arrow`), and has no `Content-Length`.
        timeout: Seconds until the first elements must be there; then `DeadlineExceeded`.
        max_bytes: A larger region is refused.
        block_bytes: About what is read and sent at a time; five times as much may be in memory.
        headers: Added to the response.

    Raises:
        SelectionError: The region is not inside the array.
        ResponseTooLarge: It has more than `max_bytes`.
        UnsupportedFeature: Its elements have no bytes of a fixed size, or the format cannot hold them.
        ConfigError: An option has a value that it cannot have.
    """

    def __init__(
        self,
        array: Array,
        start: Sequence[int] | int,
        stop: Sequence[int] | int | None,
        step: Sequence[int] | int | None = None,
        *,
        format: Format = "bytes",  # noqa: A002  # what every HTTP API calls it
        timeout: float | None = 30.0,
        max_bytes: int = 2**30,
        block_bytes: int = 2**22,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        check_choice("format", format, tuple(_MEDIA_TYPES))
        check_count("max_bytes", max_bytes)
        check_count("block_bytes", block_bytes)
        check_timeout(timeout)
        begin, end, steps = _per_dimension(array, start, stop, step)
        self._array, self._region = array, Region(begin, end, steps)
        self._shape = tuple(-(-(b - a) // n) for a, b, n in zip(begin, end, steps or (1,) * len(begin), strict=True))
        self._dtype = _sent_dtype(array, format)
        self._timeout, self._block_bytes = timeout, block_bytes
        self._arrow = _ArrowStream(self._array.url, self._dtype, self._shape) if format == "arrow" else None
        self._head = b"" if self._arrow is None else self._arrow.head
        if format == "npy":
            self._head = _npy_head(self._dtype, self._shape)
        nbytes = prod(self._shape) * self._dtype.itemsize
        if nbytes > max_bytes:
            raise ResponseTooLarge(
                f"this region has {nbytes:,} bytes, and a response at most {max_bytes:,}: ask for less"
            )
        described = {"X-Shape": ",".join(map(str, self._shape)), "X-Dtype": _name_of(self._dtype)}
        if self._arrow is None:
            described["Content-Length"] = str(len(self._head) + nbytes)
        self.status_code = 200
        self.background: BackgroundTask | None = None
        self.media_type = _MEDIA_TYPES[format]
        self.init_headers({**described, **(headers or {})})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read and send."""
        begin: Message = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        if scope["method"] == "HEAD":
            await send(begin)
            await send({"type": "http.response.body", "body": b""})
            return
        incoming = _Incoming(receive)
        await run_until(partial(self._send, begin, send), incoming.disconnected)

    async def _send(self, begin: Message, send: Send) -> None:
        async with aclosing(self._slabs()) as slabs:
            try:
                async with asyncio.timeout(self._timeout) as limit:
                    first = await anext(slabs, None)
            except TimeoutError as error:
                if not limit.expired():
                    raise
                raise DeadlineExceeded(
                    f"the first elements of {self._array.url} were not there within timeout={self._timeout} s: allow "
                    "more time, or ask for less"
                ) from error
            await send(begin)
            if self._head:
                await send({"type": "http.response.body", "body": self._head, "more_body": True})
            while first is not None:
                elements = np.ascontiguousarray(first, self._dtype)
                # Bytes, and not a view: servers keep what they cannot send yet.
                body = elements.tobytes() if self._arrow is None else self._arrow.batch(elements)
                await send({"type": "http.response.body", "body": body, "more_body": True})
                first = await anext(slabs, None)
            end = b"" if self._arrow is None else _ArrowStream.END
            await send({"type": "http.response.body", "body": end, "more_body": False})

    async def _slabs(self) -> AsyncGenerator[Data]:
        """The region in pieces that follow one another in C order."""
        start, stop, step = self._region
        nbytes = prod(self._shape) * self._dtype.itemsize
        if nbytes == 0:
            return
        if step is not None or nbytes <= self._block_bytes:
            yield await self._array.get_slice(start, stop, step)
            return
        axis = next(axis for axis, n in enumerate(self._shape) if n > 1)
        rows = max(1, self._block_bytes * self._shape[axis] // nbytes)
        place = tuple(map(slice, start, stop))
        async with self._array.stream_slices(axis, rows, place, ahead_bytes=_AHEAD * self._block_bytes) as blocks:
            async for block in blocks:
                yield block.data


_CUSTOM = 2
"""`dtype.isbuiltin` of types that NumPy does not know, such as bfloat16."""


def _per_dimension(array: Array, start: Any, stop: Any, step: Any) -> Region:
    """The region as `get_slice` reads it.

    Raises:
        SelectionError: It is not inside the array.
    """
    ndim = array.ndim
    begin = _tuple_of(start, ndim)
    end = array.shape if stop is None else _tuple_of(stop, ndim)
    steps = None if step is None else _tuple_of(step, ndim)
    if not len(begin) == len(end) == len(steps or begin) == ndim:
        raise SelectionError(f"{array.url} has {ndim} dimensions: start, stop and step have one number for each")
    for a, b, n, size in zip(begin, end, steps or (1,) * ndim, array.shape, strict=True):
        if not 0 <= a <= b <= size or n < 1:
            raise SelectionError(
                f"the region from {begin} to {end} by {steps or 1} is not inside {array.url} of shape {array.shape}: "
                "0 <= start <= stop <= shape, and step >= 1"
            )
    return Region(begin, end, None if steps is None or set(steps) <= {1} else steps)


def _tuple_of(value: Any, ndim: int) -> tuple[int, ...]:
    return (
        (operator.index(value),) if ndim == 1 and not isinstance(value, Sequence) else tuple(map(operator.index, value))
    )


def _sent_dtype(array: Array, format: Format) -> np.dtype[Any]:  # noqa: A002  # see `SliceResponse`
    dtype = array.dtype
    if dtype.hasobject:
        raise UnsupportedFeature(f"elements of {array.url} are of {dtype}, which have no fixed size in bytes")
    if format == "npy" and dtype.isbuiltin == _CUSTOM:
        raise UnsupportedFeature(f"elements of {array.url} are of {dtype}, which .npy has no name for: ask for bytes")
    return dtype.newbyteorder("<")


def _name_of(dtype: np.dtype[Any]) -> str:
    if dtype.names is not None:
        return str(dtype.descr)
    return dtype.name if dtype.isbuiltin == _CUSTOM else dtype.str


class _ArrowStream:
    """Encodes a region as an Arrow IPC stream: `head`, batches, `END`.

    A column of elements, and not of tensors, is what every Arrow library reads, and can be cut anywhere, so that no
    more than a slab is in memory.
    """

    END: Final = b"\xff\xff\xff\xff\x00\x00\x00\x00"

    def __init__(self, url: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        try:
            import pyarrow as pa  # when it is used: it takes a quarter of a second
        except ImportError as error:
            raise ImportError("format='arrow' needs pyarrow: pip install 'zarr-s3-async[arrow]'") from error
        try:
            if dtype.kind not in "biufmM":  # texts and bytes of fixed length would lose their padding
                raise pa.ArrowNotImplementedError
            kind = pa.from_numpy_dtype(dtype)
        except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
            raise UnsupportedFeature(
                f"elements of {url} are of {dtype}, which Arrow has no type for: ask for bytes"
            ) from error
        self._pa = pa
        metadata = {"shape": json.dumps(shape), "dtype": _name_of(dtype)}
        self._schema = pa.schema([pa.field("data", kind, nullable=dtype.kind in "mM")], metadata=metadata)
        self.head: bytes = self._schema.serialize().to_pybytes()

    def batch(self, elements: Data) -> bytes:
        """A record batch of contiguous elements."""
        column = self._pa.array(elements.reshape(-1), self._schema.field("data").type)
        encoded: bytes = self._pa.record_batch([column], schema=self._schema).serialize().to_pybytes()
        return encoded


def _npy_head(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    head = BytesIO()
    fields = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(head, fields)
    return head.getvalue()
