"""Serve slices of arrays on S3 over HTTP, with `zarr_s3_async.fastapi`.

    ZARR_ROOT=s3://my-bucket/experiments uvicorn --app-dir examples --factory fastapi_slices:create_app
    curl --output block.npy 'http://127.0.0.1:8000/slices/array1?start=0,0&stop=100,100&format=npy'

One session serves all requests, so they share its connections, request slots and memory limit. A client that
disconnects cancels its reads, and errors are problem documents (RFC 9457) with the right status.
"""

import os
from typing import Annotated, Any

from fastapi import Depends, FastAPI

import zarr_s3_async as zs
from zarr_s3_async.fastapi import (
    Format,
    Region,
    SliceResponse,
    exception_handlers,
    lifespan,
    middleware,
    region,
    session,
)

MAX_BYTES = 256 * 2**20
"""A larger slice is rejected with 413."""


def create_app(root: str | None = None, **session_options: Any) -> FastAPI:
    """Create the application. `root` is the URL below which arrays are served; default: the variable ZARR_ROOT."""
    url = (root or os.environ["ZARR_ROOT"]).rstrip("/")
    app = FastAPI(
        title="Slices of Zarr arrays",
        lifespan=lifespan(**session_options),
        exception_handlers=exception_handlers,
        middleware=middleware,
    )

    @app.get("/slices/{path:path}", response_class=SliceResponse)
    async def slices(
        path: str,
        where: Annotated[Region, Depends(region)],
        session: Annotated[zs.Session, Depends(session)],
        format: Format = "bytes",  # noqa: A002  # the name of the query parameter
    ) -> SliceResponse:
        """The region from `start` to `stop`: integers separated by commas, one per dimension."""
        array = await session.open_array(url, path=path, cache="revalidate")
        return SliceResponse(array, *where, format=format, max_bytes=MAX_BYTES)

    return app
