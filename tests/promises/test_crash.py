"""A writer killed during a write leaves every chunk and shard in its old or new state, and `verify` confirms it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarr_s3_async as zs

pytestmark = pytest.mark.slow

N = 40
"""Objects."""
SIZE = 50_000
"""Elements of an object: 200 kB, so that a write of all of them takes a while."""

WRITER = """
import asyncio, sys
import numpy as np
import zarr_s3_async as zs

async def main(url, merge, value):
    async with zs.Session(limits=zs.Limits(requests=4)) as session:
        array = await session.open_array(url)
        print("ready", flush=True)
        sys.stdin.readline()
        # For a merge, all but the first element of each object is written: each object is read, merged and replaced.
        await array.set_slice(int(value), (0, int(merge == "merge")), array.shape)
    print("done", flush=True)

asyncio.run(main(*sys.argv[1:]))
"""

LAYOUTS: dict[str, dict[str, Any]] = {
    "plain": {"chunks": (1, SIZE), "compressor": None},
    "sharded": {"chunks": (1, SIZE // 10), "shards": (1, SIZE)},
}


@pytest.mark.parametrize("merge", ["whole", "merge"])
@pytest.mark.parametrize("layout", LAYOUTS)
async def test_a_writer_killed_at_any_moment_leaves_every_object_old_or_new(
    tmp_path: Path, layout: str, merge: str
) -> None:
    async with zs.Session() as session:
        array = await session.create_array(tmp_path.as_uri(), shape=(N, SIZE), dtype="i4", **LAYOUTS[layout])
        old = np.full((N, SIZE), 1, "i4")
        await array.set_slice(old, (0, 0))
        torn = 0
        # On a busy machine a write may end before it is killed: then repeat.
        for value, written in ((2, 1), (3, N // 2), *((again, 1) for again in range(4, 10))):
            if torn and value > 3:
                break
            killed_in_time = kill_when(tmp_path, merge, value, written)
            report = await array.verify(strict=True)
            assert report.ok, str(report)
            assert report.findings == ()
            rows = await array.get_slice((0, 0), (N, SIZE))
            new = old.copy()
            new[:, int(merge == "merge") :] = value
            is_new = (rows == new).all(axis=1)
            assert (is_new | (rows == old).all(axis=1)).all(), "an object is in its old or its new state"
            assert is_new.sum() >= written
            torn += killed_in_time and not is_new.all()
            old = rows
        assert torn, "no write was killed in its middle, so this run shows nothing"


def kill_when(root: Path, merge: str, value: int, written: int) -> bool:
    """Write in another process and kill it when `written` objects are replaced. Returns False if it ended before."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, root.as_uri(), merge, str(value)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    before = states(root)
    process.stdin.write("go\n")
    process.stdin.flush()
    while len(states(root) - before) < written and process.poll() is None:
        pass
    process.send_signal(signal.SIGKILL)
    rest, _ = process.communicate()
    return rest == ""


def states(root: Path) -> set[tuple[int, int]]:
    """The current objects: the modification time changes when one is replaced."""
    return {(n, (root / "c" / str(n) / "0").stat().st_mtime_ns) for n in range(N)}
