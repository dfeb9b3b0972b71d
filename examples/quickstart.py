"""Create an array on S3, write regions of it, and read regions concurrently.

    zarr-s3 serve      # a local S3 server, in another terminal; copy its export lines
    python examples/quickstart.py s3://zarr-s3/quickstart

Credentials, region and endpoint come from the environment, as for every AWS tool.
"""

import asyncio
import sys

import numpy as np

import zarr_s3_async as zs


async def main(url: str) -> None:
    """Write and read an array at `url`, which must not exist yet."""
    async with zs.Session() as session:
        array = await session.create_array(url, shape=(1000, 1000), chunks=(100, 100), dtype="float64")
        print(array)

        # Nine whole chunks: nine concurrent PUTs, and nothing is read.
        data = np.random.default_rng(0).normal(size=(300, 300))
        await array.set_slice(data, start=(0, 0), stop=(300, 300))

        # A part of four chunks: each is merged by compare-and-swap, so concurrent writes of others are not lost.
        await array.set_slice(np.zeros((20, 20)), start=(90, 90))
        data[90:110, 90:110] = 0

        # Regions are read concurrently on the session's connections.
        async with asyncio.TaskGroup() as group:
            corner = group.create_task(array.get_slice(start=(0, 0), stop=(150, 150)))
            column = group.create_task(array.get_slice(start=(0, 250), stop=(300, 251)))
        print("corner equal:", np.array_equal(corner.result(), data[:150, :150]))
        print("column equal:", np.array_equal(column.result(), data[:, 250:251]))

        # NumPy indexing; chunks that were never written have the fill value.
        print("every 100th of row 299:", (await array[299, ::100]).round(3))
        print(session.metrics)


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "s3://zarr-s3/quickstart"))
    except zs.ZarrS3Error as error:
        sys.exit(f"{type(error).__name__}: {error}")
