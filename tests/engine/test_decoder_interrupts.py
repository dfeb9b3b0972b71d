"""A cancelled or timed-out call does not wait for a decoder that still has gigabytes to decode."""

from __future__ import annotations

import asyncio
import bz2
import gzip
import lzma
import time
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import zarr_s3_async as zs
from zarr_s3_async._types import CodecSpec
from zarr_s3_async.codecs import base, compress, stdlib
from zarr_s3_async.codecs.base import Abandoned, ChunkSpec, Interrupt, check_interrupt, interruptible
from zarr_s3_async.codecs.pipeline import Pipeline, build_pipeline
from zarr_s3_async.errors import ChunkDecodeError

SIZE = 8 * 2**20
STREAMS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "numcodecs.zlib": zlib.compress,
    "numcodecs.bz2": bz2.compress,
    "numcodecs.lzma": lzma.compress,
}


@pytest.mark.parametrize("name", STREAMS)
def test_streaming_decoders_end_at_the_next_block(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = build_pipeline([CodecSpec("bytes"), CodecSpec(name)], ChunkSpec((SIZE,), np.dtype("u1"), np.uint8(0)))
    data = STREAMS[name](bytes(SIZE))
    interrupt, blocks = Interrupt(), []
    add = stdlib._Target.add

    def add_and_interrupt(self: Any, piece: bytes) -> None:
        blocks.append(len(piece))
        add(self, piece)
        interrupt.request()

    monkeypatch.setattr(stdlib._Target, "add", add_and_interrupt)
    with pytest.raises((Abandoned, ChunkDecodeError)):
        interruptible(interrupt, lambda: pipeline.decode(data))
    assert len(blocks) == 1
    check_interrupt()  # has no effect outside of a decoding call


def test_large_zstd_frames_end_at_the_next_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compress, "_IN_PIECES", SIZE)
    pipeline = build_pipeline([CodecSpec("bytes"), CodecSpec("zstd")], ChunkSpec((SIZE,), np.dtype("u1"), np.uint8(0)))
    chunk = np.arange(SIZE, dtype="u4").view("u1")[:SIZE]
    data = pipeline.encode(chunk)
    interrupt, pieces = Interrupt(), []

    def count_piece() -> None:
        pieces.append(1)
        if len(pieces) == 3:  # after the scan of the frame's blocks, which checks for interrupts, too
            interrupt.request()
        check_interrupt()

    monkeypatch.setattr(compress, "_PIECE", 2**20)
    monkeypatch.setattr(compress.ZstdFrames, "_walk", lambda _, frame: (SIZE, len(frame), True))
    monkeypatch.setattr(compress, "check_interrupt", count_piece)
    with pytest.raises((Abandoned, ChunkDecodeError)):
        interruptible(interrupt, lambda: pipeline.decode(data))
    assert len(pieces) == 3
    assert (pipeline.decode(data) == chunk).all()
    assert len(pieces) == 3 + SIZE // 2**20


def endless(*_: Any) -> Any:
    """Imitates a decoder that works block by block and does not end."""
    while True:
        check_interrupt()
        time.sleep(0.001)


async def test_a_decode_ends_when_its_call_times_out_or_is_cancelled(
    session: zs.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    array = await session.create_array("memory://a", shape=(2**20,), chunks=(2**20,), dtype="u1", compressor="gzip")
    await array[:].set(np.arange(2**20) % 251)
    with monkeypatch.context() as patch:
        patch.setattr(Pipeline, "decode", endless)
        with pytest.raises(zs.DeadlineExceeded):
            await array.get_slice(0, None, timeout=0.05)
        with pytest.raises(zs.DeadlineExceeded):
            await array.set_slice([1], 5, timeout=0.05)
        reading = asyncio.ensure_future(array[:].get())
        await asyncio.sleep(0.05)
        reading.cancel()
        await asyncio.wait([reading])
        assert reading.cancelled()
    assert (await array[:] == np.arange(2**20) % 251).all()


async def test_a_cancelled_batch_of_chunks_ends_before_the_next_chunk(
    session: zs.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    n, chunk = 64, 2**14
    array = await session.create_array(
        "memory://a", shape=(n * chunk,), chunks=(chunk,), shards=(n * chunk,), dtype="u1", compressor="gzip"
    )
    await array[:].set(np.arange(n * chunk) % 251)
    decoded: list[int] = []
    decode = Pipeline.decode

    def slow(self: Pipeline, *arguments: Any) -> Any:
        decoded.append(1)
        # The second lasts until the interrupt is requested. `reading.cancelling()` is too early: it counts before the
        # task runs, and the thread could decode all chunks until then.
        interrupt = base._interrupt.get()
        while len(decoded) > 1 and not (interrupt and interrupt.requested):
            time.sleep(0.001)
        return decode(self, *arguments)

    monkeypatch.setattr(Pipeline, "decode", slow)
    reading = asyncio.ensure_future(array[:].get())
    while len(decoded) < 2:
        await asyncio.sleep(0.001)
    reading.cancel()
    await asyncio.wait([reading])
    assert reading.cancelled()
    assert len(decoded) < 10


@pytest.mark.parametrize(
    "layout", [{"chunks": (2000,)}, {"chunks": (2000,), "shards": (4000,)}], ids=["plain", "sharded"]
)
async def test_a_chunk_above_the_limit_is_refused_before_any_request(layout: dict[str, Any]) -> None:
    store = zs.MemoryStore()
    async with zs.Session() as session:
        array = await session.create_array(store, shape=(8000,), dtype="u1", **layout)
        await array[:].set(1)
    async with zs.Session(limits=zs.Limits(max_chunk_bytes=1999)) as session:
        array = await session.open_array(store)
        report = await session.verify(store)
        assert ["max_chunk_bytes" in finding.what for finding in report.findings] == [True]
        for act in (array[0:1].get, lambda: array[0:1].set(1), lambda: array.get_slice(0, 1)):
            with pytest.raises(zs.SelectionError, match="max_chunk_bytes"):
                await act()
    async with zs.Session(limits=zs.Limits(max_chunk_bytes=2000)) as session:
        assert (await (await session.open_array(store))[:] == 1).all()
    with pytest.raises(zs.ConfigError, match="max_chunk_bytes"):
        zs.Limits(max_chunk_bytes=0)
