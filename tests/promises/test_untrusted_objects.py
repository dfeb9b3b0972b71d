"""Untrusted objects are rejected before they cost memory or time, whatever they claim."""

from __future__ import annotations

import json
import logging
import tracemalloc
from typing import Any

import numpy as np
import pytest

import zarr_s3_async as zs
from zarr_s3_async.codecs.shard_format import MISSING

from ..servers import faults
from ..servers.fault_server import FaultServer
from .fault_arrays import FILL, OBJECT, STORED, Options, bench_of, failing

ARRAY = {
    "zarr_format": 3,
    "node_type": "array",
    "shape": [4],
    "data_type": "uint8",
    "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2]}},
    "chunk_key_encoding": {"name": "default"},
    "fill_value": 0,
    "codecs": [{"name": "bytes"}],
}


def document(**changes: Any) -> bytes:
    return json.dumps({**ARRAY, **changes}).encode()


def grid(*chunk: int) -> dict[str, Any]:
    return {"name": "regular", "configuration": {"chunk_shape": chunk}}


class Counting(zs.MemoryStore):
    """Records the requested keys."""

    def __init__(self) -> None:
        super().__init__()
        self.requested_keys: list[str] = []

    async def get(self, key: str, **options: Any) -> Any:
        self.requested_keys.append(key)
        return await super().get(key, **options)


@pytest.mark.parametrize(
    ("shape", "chunk"),
    [
        ([2**50], [2**31]),  # a petabyte in half a million chunks
        ([2**62], [1]),
        ([2**31, 2**31], [2**16, 2**16]),
        ([2**20] * 3, [1, 1, 1]),
    ],
)
async def test_an_array_of_a_huge_shape_opens_and_a_read_of_all_of_it_is_refused(
    shape: list[int], chunk: list[int]
) -> None:
    store = Counting()
    await store.put("zarr.json", document(shape=shape, chunk_grid=grid(*chunk)))
    async with zs.Session() as session:
        array = await session.open_array(store)
        assert array.shape == tuple(shape)
        small = (slice(0, 1),) * len(shape)
        assert (await array[small]).sum() == 0 or chunk[0] > 2**20
        store.requested_keys.clear()
        with pytest.raises(zs.SelectionError):
            await array[...]
        with pytest.raises(zs.SelectionError):
            await array.get_slice((0,) * len(shape), shape)
        assert store.requested_keys == [], "refused before the first request"


@pytest.mark.parametrize("transport", ["wire", "sdk"])
@pytest.mark.parametrize("name", ["zarr.json", ".zarray", ".zmetadata"])
async def test_a_document_of_a_terabyte_is_refused_by_its_length(transport: str, name: str) -> None:
    with FaultServer() as server:
        config = server.s3_config(transport=transport)
        server.put("data", f"a/{name}", b"{}")
        server.cue("GetObject", faults.changed(content_length=str(10**12)), key=name)
        async with zs.Session(s3=config) as session:
            with pytest.raises(zs.MetadataError, match="metadata of more than") as caught:
                await session.open("s3://data/a")
        assert caught.value.url == "s3://data/a"
        assert server.count("GetObject", name) == 1


ENDLESS = faults.endless_page("200 OK", 'etag: "1"\r\ntransfer-encoding: chunked')


@pytest.mark.parametrize("transport", ["wire", "sdk"])
@pytest.mark.parametrize("layout", ["raw", "zstd"])
@pytest.mark.parametrize("fault", [faults.changed(content_length=str(10**10)), ENDLESS], ids=["length", "chunks"])
async def test_an_object_longer_than_any_chunk_is_not_received(
    transport: str, layout: str, fault: faults.Fault
) -> None:
    """Ten gigabytes instead of sixteen bytes: memory depends on what is expected, not on the object's size."""
    async with bench_of(Options(transport)) as bench:
        array = await bench.array(layout)
        bench.cue("GetObject", fault, times=1000)
        tracemalloc.start()
        try:
            raised = await failing(array.get_slice(0, 4))
            assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
        finally:
            tracemalloc.stop()
        assert type(raised) is zs.ChunkDecodeError
        assert (raised.array, raised.chunk) == (array.url, (0,))
        assert bench.count("GetObject") == 2
        raised = await failing(array.set_slice([1], 0))
        assert (type(raised), raised.outcome) == (zs.ChunkDecodeError, zs.WriteOutcome(not_written=((0,),)))
        assert bench.count("PutObject") == 0


async def test_a_huge_document_in_a_file_is_refused_without_being_read(tmp_path: Any) -> None:
    with (tmp_path / "zarr.json").open("wb") as file:
        file.truncate(2**36)
    async with zs.Session() as session:
        tracemalloc.start()
        try:
            with pytest.raises(zs.MetadataError, match="is not read"):
                await session.open_array(f"file://{tmp_path}")
            assert tracemalloc.get_traced_memory()[1] < 2**22
        finally:
            tracemalloc.stop()


ENTRIES = {
    "beyond the object": (10**6, 24),
    "longer than the object": (0, 10**6),
    "an overflow": (2**64 - 8, 24),
    "half an absence": (MISSING, 24),
    "nothing": (0, 0),
}


@pytest.mark.parametrize("transport", ["wire", "sdk"])
@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
async def test_no_range_beyond_the_end_of_the_object_is_requested(transport: str, entry: tuple[int, int]) -> None:
    """The index has no checksum to detect it; the object's size does."""
    async with bench_of(Options(transport)) as bench:
        array = await bench.array("shard, no checksum")
        whole = bench.stored()
        assert whole is not None
        index = np.frombuffer(whole[-64:], "<u8").copy()
        index[0:2] = entry
        bench.put(whole[:-64] + index.tobytes())
        raised = await failing(array.get_slice(1, 3))
        assert (type(raised), raised.codec) == (zs.ChunkDecodeError, "sharding_indexed")
        requested_keys = {seen.request.headers["range"] for seen in bench.server.requests("GetObject", OBJECT)}
        assert requested_keys == {"bytes=-64"}
        with pytest.raises(zs.ChunkDecodeError):
            await array.set_slice([1], 1)
        assert bench.count("PutObject") == 0


async def test_names_outside_of_the_group_are_skipped_and_reported(caplog: pytest.LogCaptureFixture) -> None:
    store = zs.MemoryStore()
    bad = ["..", ".", "back\\slash", "nul\0", "zarr.json", ".zarray"]
    async with zs.Session() as session:
        group = await session.create_group(store)
        await group.create_array("good", shape=(1,), dtype="i4")
        for name in bad:
            store._objects[f"{name}/zarr.json"] = store._objects["good/zarr.json"]
        with caplog.at_level(logging.WARNING, logger="zarr_s3_async"):
            assert [name async for name, _ in group.members()] == ["good"]
        assert "back" in caplog.text


@pytest.mark.parametrize("transport", ["wire", "sdk"])
async def test_an_object_labelled_as_encoded_is_read_as_the_bytes_that_were_stored(transport: str) -> None:
    """S3 keeps Content-Encoding as a label; a body that the client decompressed is not what was stored."""
    async with bench_of(Options(transport)) as bench:
        array = await bench.array("zstd")
        bench.cue("GetObject", faults.changed(content_encoding="gzip"), times=3)
        assert (await array.get_slice(0, 4)).tolist() == STORED[:4].tolist()
        bench.server.forget()
        bench.cue("GetObject", faults.no_such_key)
        assert (await array.get_slice(0, 4)).tolist() == [FILL] * 4
