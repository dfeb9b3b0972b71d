"""A killed copy or write stream is completed by a second run: equal to NumPy, and no object is written twice."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarr_s3_async as zs

pytestmark = pytest.mark.slow

SHAPE = (40, 20_000)
CHUNKS = (1, 20_000)

COPY = """
import asyncio, json, sys
import zarr_s3_async as zs

async def main(source, target, options):
    async with zs.Session(limits=zs.Limits(requests=2)) as session:
        array = await session.open_array(source)
        plan = await zs.plan_copy(array, target, **options)
        print("ready", flush=True)
        sys.stdin.readline()
        await plan.run()
    print("done", flush=True)

asyncio.run(main(*json.loads(sys.argv[1])))
"""

WRITE = """
import asyncio, json, sys
import numpy as np
import zarr_s3_async as zs

async def main(source, target, options):
    async with zs.Session(limits=zs.Limits(requests=2)) as session:
        reading, writing = await session.open_array(source), await session.open_array(target)
        print("ready", flush=True)
        sys.stdin.readline()
        async with reading.stream() as blocks, writing.write_stream(resume=True) as out:
            async for block in blocks:
                await out.write(block.place, block.data)
    print("done", flush=True)

asyncio.run(main(*json.loads(sys.argv[1])))
"""

WRITE_WITH_STATE = """
import asyncio, json, os, sys
import zarr_s3_async as zs

async def main(source, target, folder):
    state = None
    if os.path.exists(f"{folder}/done"):
        with open(f"{folder}/done") as file:
            state = json.load(file)
    async with zs.Session(limits=zs.Limits(requests=2)) as session:
        reading, writing = await session.open_array(source), await session.open_array(target)
        print("ready", flush=True)
        sys.stdin.readline()
        async with reading.stream() as blocks, writing.write_stream(state=state) as out:
            async for block in blocks:
                await out.write(block.place, block.data)
                with open(f"{folder}/next", "w") as file:
                    json.dump(out.state(), file)
                os.replace(f"{folder}/next", f"{folder}/done")
                open(f"{folder}/block-{block.place[0].start}", "w").close()
    print("done", flush=True)

asyncio.run(main(*json.loads(sys.argv[1])))
"""

MAP = """
import asyncio, json, os, sys
import zarr_s3_async as zs

async def main(source, target, folder):
    state = None
    if os.path.exists(f"{folder}/done"):
        with open(f"{folder}/done") as file:
            state = json.load(file)

    def save(state):
        with open(f"{folder}/next", "w") as file:
            json.dump(state, file)
        os.replace(f"{folder}/next", f"{folder}/done")
        open(f"{folder}/object-{state['first'] + len(state['above'])}", "w").close()

    async with zs.Session(limits=zs.Limits(requests=2)) as session:
        reading, writing = await session.open_array(source), await session.open_array(target)
        print("ready", flush=True)
        sys.stdin.readline()
        await zs.map_chunks(lambda block: block + 1, reading, writing, state=state, save_state=save)
    print("done", flush=True)

asyncio.run(main(*json.loads(sys.argv[1])))
"""

READ = """
import asyncio, json, os, sys
import zarr_s3_async as zs

async def main(source, folder, options):
    done, state = {}, None
    if os.path.exists(f"{folder}/done"):
        with open(f"{folder}/done") as file:
            done, state = json.load(file)
    async with zs.Session() as session:
        array = await session.open_array(source)
        print("ready", flush=True)
        sys.stdin.readline()
        async with array.stream(state=state, **options) as blocks:
            async for block in blocks:
                place = str(block.place[0].start)
                done[place] = [done.get(place, [0])[0] + 1, int(block.data.astype("i8").sum())]
                with open(f"{folder}/next", "w") as file:
                    json.dump([done, blocks.state()], file)
                os.replace(f"{folder}/next", f"{folder}/done")  # the completed block and the state after it, atomically
                open(f"{folder}/block-{len(done)}", "w").close()
    print("done", flush=True)

asyncio.run(main(*json.loads(sys.argv[1])))
"""

KINDS: dict[str, dict[str, Any]] = {
    "objects": {},
    "chunks": {"shards": (4, 20_000)},
    "decoded": {"chunks": (2, 10_000), "compressor": "gzip"},
    "two stages": {"chunks": (40, 500), "max_bytes": 800_000},
}


@pytest.mark.parametrize("kind", KINDS)
async def test_a_killed_copy_is_completed_by_the_next_run(tmp_path: Path, kind: str) -> None:
    options = KINDS[kind]
    async with zs.Session() as session:
        source, data = await make_source(session, tmp_path / "source")
        for number, objects in enumerate((1, 12, 2, 5)):
            target = tmp_path / f"target-{number}"
            in_time = kill_when(COPY, [source.url, target.as_uri(), options], target, objects)
            left = files(target)
            copy = await zs.copy(source, target, verify=True, **options)
            assert isinstance(copy, zs.Array)
            assert (await copy[...] == data).all()
            after = files(target)
            # Pieces of the intermediate are gone; what remains of the killed run was not written again.
            assert all(after[name] == state for name, state in left.items() if name in after)
            assert not [name for name in after if "piece" in name]
            if in_time:
                return
    raise AssertionError("no copy was killed in its middle, so this run shows nothing")


async def test_a_killed_write_stream_is_completed_by_the_next_run(tmp_path: Path) -> None:
    async with zs.Session() as session:
        source, data = await make_source(session, tmp_path / "source")
        for number, objects in enumerate((1, 12, 2, 5)):
            target = tmp_path / f"target-{number}"
            array = await session.create_array(target, shape=SHAPE, chunks=(2, 10_000), dtype="i4")
            in_time = kill_when(WRITE, [source.url, target.as_uri(), {}], target, objects)
            left = files(target)
            async with source.stream() as blocks, array.write_stream(resume=True) as out:
                async for block in blocks:
                    await out.write(block.place, block.data)
            assert (await array[...] == data).all()
            after = files(target)
            assert all(after[name] == state for name, state in left.items())
            if in_time:
                return
    raise AssertionError("no write stream was killed in its middle, so this run shows nothing")


@pytest.mark.parametrize(("program", "added"), [(WRITE_WITH_STATE, 0), (MAP, 1)], ids=["write_stream", "map_chunks"])
async def test_a_killed_write_over_other_data_continues_from_its_state(
    tmp_path: Path, program: str, added: int
) -> None:
    """Otherwise `resume=True` could not distinguish new objects from old ones."""
    async with zs.Session() as session:
        source, data = await make_source(session, tmp_path / "source")
        array = await session.create_array(tmp_path / "target", shape=SHAPE, chunks=(2, 10_000), dtype="i4")
        await array[...].set(np.full(SHAPE, -1))
        folder = tmp_path / "progress"
        folder.mkdir()
        arguments = [source.url, array.url, str(folder)]
        assert kill_when(program, arguments, folder, 12)
        state = json.loads((folder / "done").read_text())
        done = [*range(state["first"]), *state["above"]]
        assert done
        for number in done:
            row, column = divmod(number, 2)
            here = np.s_[2 * row : 2 * row + 2, 10_000 * column : 10_000 * column + 10_000]
            assert (await array[here] == data[here] + added).all()
        left = files(tmp_path / "target")
        kill_when(program, arguments, folder, 10**6)  # to its end
        assert (await array[...] == data + added).all()
        after = files(tmp_path / "target")
        assert all(after[f"c/{number // 2}/{number % 2}"] == left[f"c/{number // 2}/{number % 2}"] for number in done)


@pytest.mark.parametrize("order", ["C", "any"])
async def test_a_killed_consumer_of_a_stream_continues_with_the_next_block(tmp_path: Path, order: str) -> None:
    async with zs.Session() as session:
        source, data = await make_source(session, tmp_path / "source")
    folder = tmp_path / "consumer"
    folder.mkdir()
    killed = [
        kill_when(READ, [source.url, str(folder), {"order": order}], folder, blocks + 1) for blocks in (5, 12, 25)
    ]
    assert killed[0]
    kill_when(READ, [source.url, str(folder), {"order": order}], folder, 10**6)  # to its end
    done, _ = json.loads((folder / "done").read_text())
    assert done == {str(row): [1, int(data[row].astype("i8").sum())] for row in range(SHAPE[0])}


async def make_source(session: zs.Session, folder: Path) -> tuple[zs.Array, np.ndarray[Any, Any]]:
    data = np.random.default_rng(5).integers(1, 2**31, SHAPE, "i4")
    array = await session.create_array(folder, shape=SHAPE, chunks=CHUNKS, dtype="i4")
    await array[...].set(data)
    return array, data


def kill_when(program: str, arguments: list[Any], folder: Path, objects: int) -> bool:
    """Run another process and kill it when `objects` objects are stored. Returns False if it ended before."""
    process = subprocess.Popen(
        [sys.executable, "-c", program, json.dumps(arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.stdin.write("go\n")
    process.stdin.flush()
    while len(files(folder)) < objects and process.poll() is None:
        pass
    process.send_signal(signal.SIGKILL)
    rest, _ = process.communicate()
    return rest == ""


def files(folder: Path) -> dict[str, tuple[int, int]]:
    """Data objects of target and intermediate, each with inode and modification time, which change with every put."""
    found = {}
    for path in folder.rglob("*"):
        name = path.name
        if name.startswith((".zarr-s3-", "zarr.json")) or name == ".zarr-copy":
            continue
        try:
            state = path.stat()
        except FileNotFoundError:
            continue
        if path.is_file():
            found[path.relative_to(folder).as_posix()] = (state.st_ino, state.st_mtime_ns)
    return found
