"""Serve slices of arrays on S3 over HTTP.

    ZARR_ROOT=s3://my-bucket/experiments uvicorn --app-dir examples --factory fastapi_slices:create_app
    curl --output block.bin --dump-header - 'http://127.0.0.1:8000/slices/array1?start=0,0&stop=100,100'

One session serves all requests: its connections, request slots and memory bound are shared. The body is the
region's bytes in C order, little-endian; `X-Shape` and `X-Dtype` say how to read them:
`np.frombuffer(body, headers["x-dtype"]).reshape(shape)`. A client that hangs up cancels its reads.
"""

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from math import prod
from typing import Any, TypeVar

import anyio
import numpy as np
from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import JSONResponse

import zarr_s3_async as zs

T = TypeVar("T")

MAX_BYTES = 256 * 2**20
"""A larger slice is refused with 413."""

CLIENT_CLOSED_REQUEST = 499
"""What nginx logs for a client that hung up; nobody is left to read it."""

# The first class that fits decides: subclasses stand before their parents.
STATUS: tuple[tuple[type[zs.ZarrS3Error], int], ...] = (
    (zs.NodeNotFound, 404),
    (zs.BucketNotFound, 404),
    (zs.ChunkNotFound, 404),
    (zs.SelectionError, 416),
    (zs.ConfigError, 422),
    (zs.AccessDenied, 403),
    (zs.Throttled, 503),
    (zs.DeadlineExceeded, 504),
    (zs.UnsupportedFeature, 501),
    (zs.StateError, 503),
    (zs.StoreError, 502),
    (zs.MetadataError, 502),
    (zs.ChunkDecodeError, 502),
)


def status_of(error: zs.ZarrS3Error) -> int:
    """The HTTP status that tells a client what this error means to it."""
    return next((status for kind, status in STATUS if isinstance(error, kind)), 500)


def create_app(root: str | None = None, **session_options: Any) -> FastAPI:
    """The application. `root` is the URL below which arrays are served; default: the variable ZARR_ROOT."""
    url = (root or os.environ["ZARR_ROOT"]).rstrip("/")

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with zs.Session(**session_options) as session:
            app.state.session = session
            yield

    app = FastAPI(title="Slices of Zarr arrays", lifespan=lifespan)
    app.state.root = url
    app.add_exception_handler(zs.ZarrS3Error, answer_error)
    app.add_api_route("/slices/{path:path}", slices, response_class=Response)
    return app


async def slices(
    request: Request,
    path: str,
    start: str = Query(examples=["0,0"]),
    stop: str = Query(examples=["100,100"]),
    timeout: float = Query(default=30.0, gt=0, le=300),
) -> Response:
    """The region from `start` to `stop`, whole numbers separated by commas, one per dimension."""
    region = numbers(start), numbers(stop)
    state = request.app.state

    async def read() -> np.ndarray[Any, Any]:
        array: zs.Array = await state.session.open_array(state.root, path=path)
        refuse_large(array, *region)
        return await array.get_slice(*region, timeout=timeout)

    block = await unless_hung_up(request, read)
    if block is None:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    return as_bytes(block)


def numbers(text: str) -> tuple[int, ...]:
    """`0,100` as (0, 100); empty for an array without dimensions."""
    try:
        return tuple(int(part) for part in text.split(",") if text.strip())
    except ValueError:
        raise HTTPException(422, f"{text!r} is not a list of whole numbers like 0,100") from None


def refuse_large(array: zs.Array, start: tuple[int, ...], stop: tuple[int, ...]) -> None:
    """413 before the first chunk is asked for. What lies outside the array, `get_slice` refuses itself."""
    nbytes = prod(max(0, b - a) for a, b in zip(start, stop, strict=False)) * array.dtype.itemsize
    if nbytes > MAX_BYTES:
        raise HTTPException(413, f"this slice has {nbytes:,} bytes, and one answer at most {MAX_BYTES:,}")


def as_bytes(block: np.ndarray[Any, Any]) -> Response:
    """A block as an HTTP answer."""
    if block.dtype.hasobject:
        raise HTTPException(501, f"elements of type {block.dtype} have no fixed size in bytes")
    little = block.astype(block.dtype.newbyteorder("<"), copy=False)
    headers = {"X-Shape": ",".join(map(str, block.shape)), "X-Dtype": little.dtype.str}
    return Response(little.tobytes(), media_type="application/octet-stream", headers=headers)


async def unless_hung_up(request: Request, read: Callable[[], Awaitable[T]]) -> T | None:
    """What `read` returns, or None once the client is gone: then the read is cancelled, requests and all."""
    result: T | None = None
    failure: Exception | None = None
    async with anyio.create_task_group() as group:

        async def watch() -> None:
            while (await request.receive())["type"] != "http.disconnect":
                pass
            group.cancel_scope.cancel()

        group.start_soon(watch)
        try:
            result = await read()
        except Exception as error:  # noqa: BLE001  # raised below: out of the group it would come wrapped
            failure = error
        group.cancel_scope.cancel()
    if failure is not None:
        raise failure
    return result


async def answer_error(_: Request, error: Any) -> Response:
    """An error of the library as JSON with its status."""
    headers = {"Retry-After": "1"} if isinstance(error, zs.Throttled) else {}
    content = {"error": type(error).__name__, "detail": str(error)}
    return JSONResponse(content, status_of(error), headers)
