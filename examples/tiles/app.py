"""A map of any Zarr array as a service: the viewer of `zarr_s3_async`, with one more handler.

    TILES_URL=s3://my-bucket/experiments uvicorn --app-dir examples/tiles --factory app:create_app
    open http://127.0.0.1:8000

Without TILES_URL it shows a landscape of 60,000 by 60,000 elements that is computed on request. To only view an array,
`zarr-s3 view URL` is enough; this example sets up a service.
"""

import os
from typing import Annotated, Any

import numpy as np
from fastapi import Depends, FastAPI
from landscape import Landscape

import zarr_s3_async as zs
from zarr_s3_async.fastapi import Region, ResponseTooLarge, region, session

MAX_BYTES = 64 * 2**20


def create_app(url: zs.Where | None = None, **options: Any) -> FastAPI:
    """Create the application.

    Args:
        url: The store to show; default: the variable TILES_URL, then the landscape.
        options: Options of `zs.viewer.create_app` and of the session.
    """
    where = url or os.environ.get("TILES_URL") or Landscape()
    settings: dict[str, Any] = {"cache_policy": "revalidate", "limits": zs.Limits(requests=128, max_waiting=2000)}
    app = zs.viewer.create_app(where, **settings | options)

    @app.get("/mean")
    async def mean(
        where_in_it: Annotated[Region, Depends(region)],
        session: Annotated[zs.Session, Depends(session)],
        path: str = "",
    ) -> dict[str, float | int]:
        """The mean of a region, ignoring NaN: `/mean?path=land/0&start=0,0&stop=100,100`."""
        array = await session.open_array(where, path=path, cache="revalidate")
        cost = array.explain(tuple(map(slice, where_in_it.start, where_in_it.stop)))
        if cost.result_bytes > MAX_BYTES:
            raise ResponseTooLarge(f"this region has {cost.result_bytes:,} bytes; the limit is {MAX_BYTES:,}")
        data = await array.get_slice(*where_in_it, timeout=10)
        counted = data[~np.isnan(data)]
        return {"mean": float(counted.mean()) if counted.size else 0.0, "elements": int(counted.size)}

    return app
