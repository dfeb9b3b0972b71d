"""Work on stored arrays from many processes or machines with dask: compute, store misaligned blocks, rechunk, verify.

    python examples/many_machines.py

It starts a local S3 server and a local cluster of three processes. On a real cluster, `Client("tcp://scheduler:8786")`
replaces the local one and workers have their own credentials (an instance role); the rest stays as it is.
"""

from __future__ import annotations

import asyncio
import os

import dask.array as da
import numpy as np
from dask.distributed import Client, LocalCluster

import zarr_s3_async as zs
from zarr_s3_async import blocking
from zarr_s3_async.adapters.dask import from_dask, store, to_dask
from zarr_s3_async.testing import LocalS3

BUCKET = "many-machines"


def main() -> None:
    with LocalS3(bucket=BUCKET) as server:
        os.environ.update(server.environment())  # the workers inherit it
        options = {"n_workers": 3, "threads_per_worker": 2, "dashboard_address": ":0"}
        with LocalCluster(**options) as cluster, Client(cluster) as client:
            work(f"s3://{BUCKET}")
            asyncio.run(rechunk(f"s3://{BUCKET}", client))
        blocking.close()


def work(root: str) -> None:
    rows = da.arange(2000, chunks=300)[:, None]
    columns = da.arange(1500, chunks=400)[None, :]
    field = rows * 10_000 + columns

    # Blocks of 300 by 400 in chunks of 256 by 256: blocks are first rechunked to the chunks, so each chunk is put once.
    array = from_dask(field, f"{root}/field", chunks=(256, 256))
    print(array)

    # Without alignment, several blocks write to one chunk; the writes are merged, and none is lost.
    store(field + 1, array, align=False)

    lazy = to_dask(f"{root}/field")
    difference = (lazy - field).max(), (lazy - field).min()
    print("stored minus computed:", *da.compute(*difference))
    print("corner equal:", np.array_equal(array[1990:, 1490:], (field + 1)[1990:, 1490:].compute()))
    print("mean of every 100th row:", lazy[::100].mean(axis=1).compute().round(1)[:4], "…")


async def rechunk(root: str, client: Client) -> None:
    # Each worker process plans the copy again from references, and copies parts of it. `verify` works the same way.
    plan = await zs.plan_copy(f"{root}/field", f"{root}/columns", chunks=(2000, 32))
    plan.print()
    columns = await plan.run(client=client)
    print(await columns.verify(client=client))


if __name__ == "__main__":
    main()
