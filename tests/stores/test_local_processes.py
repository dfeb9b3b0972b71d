"""LocalStore between processes: conditional writes of several processes lose no update."""

import asyncio
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

from zarr_s3_async.stores.local import LocalStore

_COUNT = """
import asyncio, sys
from zarr_s3_async.errors import Conflict
from zarr_s3_async.stores.local import LocalStore

async def main(root, times):
    # Two roots that reach the same file: the lock must not depend on the root.
    store, key = (LocalStore(root), "deep/counter") if times % 2 else (LocalStore(root + "/deep"), "counter")
    conflicts = 0
    for _ in range(times):
        while True:
            blob = await store.get(key)
            try:
                await store.put(key, f"{int(bytes(blob.data)) + 1:06}".encode(), when=blob.version)
            except Conflict:
                conflicts += 1
            else:
                break
    print(conflicts)

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""

_CHURN = """
import asyncio, sys
from zarr_s3_async.stores.local import LocalStore

async def main(root, name):
    store = LocalStore(root)
    for number in range(150):
        await store.put(f"a/b/{name}", str(number).encode())
        blob = await store.get(f"a/b/{name}")
        assert bytes(blob.data) == str(number).encode()
        await store.delete(f"a/b/{name}")

asyncio.run(main(*sys.argv[1:]))
"""

_WRITE_WITHOUT_END = """
import asyncio, sys
from zarr_s3_async.stores.local import LocalStore

async def main(root):
    store = LocalStore(root)
    number = 0
    while True:
        number += 1
        await store.put("x", bytes([number % 256]) * 200_000)
        print(number, flush=True)

asyncio.run(main(sys.argv[1]))
"""


def _start(code: str, *args: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(code), *map(str, args)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2], start_new_session=True
    )


async def test_conditional_writes_of_several_processes_lose_no_increment(tmp_path):
    store = LocalStore(tmp_path)
    await store.put("deep/counter", b"000000")
    times = (100, 101, 100, 101)
    processes = [_start(_COUNT, tmp_path, count) for count in times]
    outputs = [process.communicate(timeout=100)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0, 0]
    blob = await store.get("deep/counter")
    assert blob is not None
    assert int(bytes(blob.data)) == sum(times)
    assert sum(map(int, outputs)) > 0, "no process had a conflict, so this run shows nothing"


def test_deletes_that_empty_a_folder_do_not_break_puts_of_another_process(tmp_path):
    processes = [_start(_CHURN, tmp_path, name) for name in "abc"]
    for process in processes:
        process.communicate(timeout=100)
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert list(tmp_path.iterdir()) == []


async def test_a_killed_writer_leaves_the_old_or_the_new_object(tmp_path):
    """It is killed at any moment; the next put needs no cleanup."""
    for _ in range(3):
        process = _start(_WRITE_WITHOUT_END, tmp_path)
        assert process.stdout is not None
        for _ in range(3):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.communicate()
        blob = await LocalStore(tmp_path).get("x")
        assert blob is not None
        data = bytes(blob.data)
        assert len(data) == 200_000
        assert len(set(data)) == 1
    await asyncio.wait_for(LocalStore(tmp_path).put("x", b"goes on"), 30)
    assert [entry.key async for entry in LocalStore(tmp_path).list_prefix()] == ["x"]
