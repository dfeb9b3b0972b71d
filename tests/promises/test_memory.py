"""Peak memory of a full read stays below the result plus the byte limit plus 64 MiB."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

import zarr_s3_async as zs

from .conftest import Place

pytestmark = [pytest.mark.integration, pytest.mark.slow]

READER = """
import asyncio, json, resource, sys
import numpy as np
import zarr_s3_async as zs

def highest():
    if sys.platform != "linux":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Elsewhere, ru_maxrss starts at the parent's value.
    return 1024 * int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])

async def main(url, options, limit):
    async with zs.Session(s3=zs.S3Config(**options), limits=zs.Limits(bytes=limit)) as session:
        array = await session.open_array(url)
        await array.get_slice((0, 0), (1, 1))  # modules are imported, and client and connections exist
        before = highest()
        result = await array.get_slice((0, 0), array.shape)
        after = highest()
        print(json.dumps({"grown": after - before, "result": result.nbytes, "firsts": result[::1024, 0].tolist()}))

asyncio.run(main(*json.loads(sys.argv[1])))
"""


@pytest.mark.parametrize("compressor", [None, "zstd"])
async def test_a_full_read_of_512_mib_needs_little_more_than_its_result(
    place: Place, session: zs.Session, compressor: str | None
) -> None:
    rows, limit = 2**17, 64 * 2**20
    array = await session.create_array(
        place.url, shape=(rows, 1024), chunks=(1024, 1024), dtype="u4", compressor=compressor, zarr_format=2
    )
    # Random numbers do not compress: the worst case for memory besides the result.
    block = np.random.default_rng(1).integers(0, 2**32, (1024, 1024), "u4")
    for at in range(0, rows, 1024):
        block[0, 0] = at
        await array.set_slice(block, (at, 0))
    options = {name: getattr(place.config, name) for name in ("endpoint_url", "access_key_id", "secret_access_key")}
    arguments = json.dumps([place.url, options, limit])
    report = json.loads(subprocess.check_output([sys.executable, "-c", READER, arguments]))
    assert report["result"] == 512 * 2**20
    assert report["firsts"] == list(range(0, rows, 1024))
    assert report["grown"] <= report["result"] + limit + 64 * 2**20
