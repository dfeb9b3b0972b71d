"""A user's program with mistakes in marked lines. It is not run: type checkers must find exactly these mistakes."""

from __future__ import annotations

import numpy as np

import zarr_s3_async as zs
from zarr_s3_async import blocking


async def main() -> None:
    async with zs.Session(region="eu-west-1", limits=zs.Limits(requests=8)) as session:
        array = await session.open_array("s3://bucket/a")
        array[0:3] = 1  # wrong: assignment cannot be awaited
        print(array[0].mean())  # wrong: a forgotten await
        for row in array:  # wrong: an array is not iterable
            print(row)
        print(len(array))  # wrong: an array has no length
        block: np.ndarray[tuple[int, ...], np.dtype[np.int32]] = array.get_slice(0, 3)  # wrong: a forgotten await
        await array.get_slice(0, 3, missing="rise")  # wrong: no such word
        await session.create_array("s3://bucket/b", shape=(3,), dtype="f4", compressors=None)  # wrong: no such option
        group = await session.open_group("s3://bucket/g")
        print(group["x"], block)  # wrong: a group is not subscripted
    zs.Session(regoin="x")  # wrong: no such option
    await zs.open_array("s3://bucket/a", region_name="x")  # wrong: no such option
    right = await zs.open_array("s3://bucket/a", anonymous=True)
    print((await right[0:3]).mean(), await right.get_slice(0, 3, missing="raise"), right.shape)
    async with zs.create_array("s3://bucket/c", shape=(3,), dtype="f4", region="x") as created:
        await created[0:3].set(1)


def without_await() -> None:
    array = blocking.open_array("s3://bucket/a")
    array[0:3] = array[0:3] + 1
    print(len(array), list(array), np.asarray(array))
    array.get_slice(0, 3, timeout="5")  # wrong: text
    group = blocking.open_group("s3://bucket/g", zarr_format=4)  # wrong: no such format
    for name, node in group.items():
        print(name, node.url)
