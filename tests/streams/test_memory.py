"""Memory of streams, write streams and rechunkings: below the requested bytes, the session's limit and 64 MiB.

The array has 256 MiB; with `STREAM_MIB=4096` it has 4 GiB, which takes minutes. The 64 MiB include what the allocator
keeps for each thread (glibc: 5 to 8 MiB for chunks of 4 MiB), which does not depend on the size of the array.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

MIB = 2**20
SIZE = int(os.environ.get("STREAM_MIB", "256"))
ASKED, LIMIT = (64, 32) if SIZE < 2048 else (256, 64)

PROGRAM = """
import asyncio, json, resource, sys
import numpy as np
import zarr_s3_async as zs

def highest():
    if sys.platform != "linux":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Elsewhere, ru_maxrss starts at the parent's value.
    return 1024 * int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])

def row(side, at):
    return np.random.default_rng(at).integers(0, 2**32, side, "u4")

async def create(session, url, side, chunks):
    return await session.create_array(url, shape=(side, side), chunks=chunks, dtype="u4")

async def write(session, url, side, rows, asked):
    array = await create(session, url, side, (rows, side))
    async with array.write_stream(max_bytes=asked) as out:
        for at in range(side):
            await out.write(np.s_[at : at + 1], row(side, at)[None])

async def stream(session, url, side, rows, asked):
    array = await session.open_array(url)
    seen = 0
    async with array.stream(ahead_bytes=asked) as blocks:
        async for block in blocks:
            at = block.place[0].start
            assert (block.data[0] == row(side, at)).all()
            seen += block.data.nbytes
    assert seen == 4 * side * side

async def rechunk(session, url, side, rows, asked):
    array = await session.open_array(url)
    plan = await zs.plan_copy(array, url + "-across", chunks=(side, rows), max_bytes=asked)
    assert len(plan.stages) == 2
    assert plan.memory_bytes <= asked
    target = await plan.run()
    for at in range(0, side, max(1, side // 7)):
        assert (await target[at] == row(side, at)).all()

async def main(what, url, side, rows, asked, limit):
    async with zs.Session(limits=zs.Limits(bytes=limit, cpu_threads=2)) as session:
        # Imports, threads and the allocator's first pages are counted before.
        small = await create(session, "memory://small", 256, (16, 256))
        await small[...].set(np.ones((256, 256), "u4"))
        await zs.copy(small, "memory://other", chunks=(256, 16), max_bytes=2**16)
        before = highest()
        await {"write": write, "stream": stream, "rechunk": rechunk}[what](session, url, side, rows, asked)
        print(json.dumps(highest() - before))

asyncio.run(main(*json.loads(sys.argv[1])))
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """The array's folder, and the memory that writing it took."""
    folder = tmp_path_factory.mktemp("memory")
    return folder, grown("write", folder)


def grown(what: str, folder: Path) -> int:
    """Bytes by which a separate process grew."""
    side = int((SIZE * MIB // 4) ** 0.5)
    rows = max(1, MIB // side)  # chunks of 4 MiB
    arguments = [what, (folder / "array").as_uri(), side, rows, ASKED * MIB, LIMIT * MIB]
    nbytes = int(json.loads(subprocess.check_output([sys.executable, "-c", PROGRAM, json.dumps(arguments)])))
    sys.stderr.write(f"{what} of {SIZE} MiB: {nbytes / MIB:.0f} of {ASKED + LIMIT + 64} MiB\n")
    return nbytes


@pytest.mark.parametrize("what", ["write", "stream", "rechunk"])
def test_memory_of_streams_stays_within_the_requested_bytes(what: str, written: tuple[Path, int]) -> None:
    folder, to_write = written
    nbytes = to_write if what == "write" else grown(what, folder)
    assert nbytes <= (ASKED + LIMIT + 64) * MIB, f"{nbytes / MIB:.0f} MiB"
