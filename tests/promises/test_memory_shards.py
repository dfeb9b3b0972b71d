"""Peak memory of writing many shards is bounded by the byte limit plus 64 MiB, not by the size of the region."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import zarr_s3_async as zs

from .conftest import Place

pytestmark = [pytest.mark.integration, pytest.mark.slow]

MIB = 2**20
WRITER = """
import asyncio, json, resource, sys
import numpy as np
import zarr_s3_async as zs

from tests.peak_limiter import watch_leases

def highest():
    if sys.platform != "linux":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Elsewhere, ru_maxrss starts at the parent's value.
    return 1024 * int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])

async def main(url, options, limit, what):
    async with zs.Session(s3=zs.S3Config(**options), limits=zs.Limits(bytes=limit)) as session:
        leases = watch_leases(session)
        array = await session.open_array(url)
        # Random numbers do not compress. All shards use the same ones.
        shard = np.random.default_rng(1).integers(1, 2**31, array.shape[1:], "i4")
        data = np.broadcast_to(shard, array.shape)
        await array.set_slice(data[:1], (0, 0, 0))
        before, leases.peak = highest(), 0
        if what == "whole":
            await array.set_slice(data, (0, 0, 0))
        else:
            await array.set_slice(data[:, 1:-1, 1:-1], (0, 1, 1))
        print(json.dumps({"grown": highest() - before, "leased": leases.peak}))

asyncio.run(main(*json.loads(sys.argv[1])))
"""


@pytest.mark.parametrize(
    ("what", "compressor", "n_shards"), [("whole", None, 32), ("whole", "zstd", 12), ("part", None, 20)]
)
async def test_a_streamed_write_of_shards_of_8_mib_stays_within_the_byte_limit(
    place: Place, session: zs.Session, what: str, compressor: Any, n_shards: int
) -> None:
    limit = 64 * MIB
    array = await session.create_array(
        place.url,
        shape=(n_shards, 1024, 2048),
        chunks=(1, 128, 512),
        shards=(1, 1024, 2048),
        dtype="i4",
        compressor=compressor,
    )
    options = {name: getattr(place.config, name) for name in ("endpoint_url", "access_key_id", "secret_access_key")}
    arguments = json.dumps([place.url, options, limit, what])
    report = json.loads(subprocess.check_output([sys.executable, "-c", WRITER, arguments]))
    assert 32 * MIB <= report["leased"] <= limit, "several shards at once, and no more than the limit"
    assert report["grown"] <= limit + 64 * MIB
    shard = np.random.default_rng(1).integers(1, 2**31, (1024, 2048), "i4")
    np.testing.assert_array_equal(await array.get_slice((9, 3, 5), (10, 300, 700)), shard[None, 3:300, 5:700])
