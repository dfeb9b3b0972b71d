"""Strided bodies: however they are split, every byte is stored where NumPy would put it."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zarr_s3_async as zs
from zarr_s3_async._http.body import StridedBody
from zarr_s3_async._http.partial import copy_strided
from zarr_s3_async._types import strided_target
from zarr_s3_async.codecs.pipeline import Pipeline

from ...servers import faults
from ...servers.fault_server import FaultServer

shapes = st.lists(st.integers(1, 7), min_size=2, max_size=4).map(tuple)


def strided(shape: tuple[int, ...]) -> np.ndarray:
    """A block of a larger array: rows with gaps between them, in every dimension."""
    whole = np.full(tuple(n + 3 for n in shape), 255, np.uint8)
    return whole[tuple(slice(1, n + 1) for n in shape)]


@settings(max_examples=150)
@given(shapes, st.data())
def test_pieces_of_any_size_fill_the_block_and_write_nothing_else(shape, data):
    block = strided(shape)
    body = np.arange(block.size, dtype=np.uint8).tobytes()
    received = StridedBody(memoryview(block), memoryview(bytearray(8)))
    at = 0
    while at < len(body):
        assert not received.done
        assert received.unfinished() == (received.body, at)
        piece = body[at : at + data.draw(st.integers(1, len(body)), "piece")]
        assert received.feed(memoryview(piece)) == len(piece)
        at += len(piece)
    assert received.done
    assert block.tobytes() == body
    around = block.base.copy()
    around[tuple(slice(1, n + 1) for n in shape)] = 255
    assert (around == 255).all()


def test_bytes_beyond_the_end_are_not_written():
    block = strided((3, 4))
    received = StridedBody(memoryview(block), memoryview(bytearray(8)))
    assert received.feed(memoryview(bytes(20))) == 12
    assert received.done
    assert (block == 0).all()


@given(shapes, st.data())
def test_a_resumed_body_is_placed_after_the_received_part(shape, data):
    block = strided(shape)
    body = bytes(range(1, 251)) * (block.size // 250 + 1)
    body = body[: block.size]
    at = data.draw(st.integers(0, len(body)))
    copy_strided(memoryview(block), at, body[at:])
    copy_strided(memoryview(block), 0, body[:at])
    assert block.tobytes() == body


def test_only_a_body_of_exactly_the_right_size_is_received_strided():
    class Rows:
        strided = memoryview(strided((3, 4)))

        def __call__(self, length: int) -> memoryview:
            raise AssertionError

    assert strided_target(Rows(), 12) is Rows.strided
    assert strided_target(Rows(), 11) is None
    assert strided_target(lambda length: memoryview(bytearray(length)), 12) is None


def test_all_connections_share_one_scratch_buffer():
    from zarr_s3_async._buffers import Buffers

    buffers = Buffers()
    assert buffers.scratch() is buffers.scratch()


@pytest.fixture(scope="module", params=["wire", "sdk"])
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def server() -> Iterator[FaultServer]:
    with FaultServer(buckets=("data",)) as server:
        yield server


@asynccontextmanager
async def stored(server: FaultServer, transport: str, edge: int) -> AsyncIterator[tuple[zs.Array, np.ndarray]]:
    """A raw array of two by two chunks, read one at a time."""
    config = zs.S3Config(
        endpoint_url=server.endpoint_url, access_key_id="a", secret_access_key="b", transport=transport
    )
    limits, retry = zs.Limits(requests=1), zs.RetryPolicy(base_delay=1e-9)
    data = np.arange(4 * edge * edge, dtype="<u4").reshape(2 * edge, 2 * edge)
    async with zs.Session(s3=config, limits=limits, retry=retry) as session:
        array = await session.create_array(
            "s3://data/rows", shape=data.shape, chunks=(edge, edge), dtype="<u4", compressor=None, overwrite=True
        )
        await array.set_slice(data, (0, 0))
        server.forget()
        yield array, data


async def test_raw_chunks_are_received_in_place_in_a_wider_result(server, transport, monkeypatch) -> None:
    decoded: list[int] = []
    decode = Pipeline.decode
    monkeypatch.setattr(Pipeline, "decode", lambda *args: decoded.append(1) or decode(*args))
    async with stored(server, transport, 256) as (array, data):
        np.testing.assert_array_equal(await array.get_slice((0, 0), data.shape), data)
        assert len(decoded) == (0 if transport == "wire" else 4)


@pytest.mark.parametrize("fault", [faults.reset_mid_body, faults.close_mid_body, faults.internal_error])
@pytest.mark.parametrize("edge", [256, 1056])  # read again from the start, and resumed where it broke
async def test_a_broken_strided_body_is_completed(server, transport, fault: faults.Fault, edge: int) -> None:
    async with stored(server, transport, edge) as (array, data):
        for nth in (1, 3, 4):
            server.cue("GetObject", fault, nth=nth)
        np.testing.assert_array_equal(await array.get_slice((0, 0), data.shape), data)
        requested = [seen.request.headers.get("range") for seen in server.requests("GetObject")]
        assert len(requested) == 4 + 3
        assert any(requested) == (edge == 1056 and fault is not faults.internal_error)


async def test_an_object_of_the_wrong_size_is_not_a_chunk(server, transport) -> None:
    async with stored(server, transport, 256) as (array, data):
        for size in (10, 256 * 256 * 4 - 4, 256 * 256 * 4 + 4):
            server.put("data", "rows/c/0/1", bytes(size))
            with pytest.raises(zs.ChunkDecodeError, match=r"\(0, 1\)"):
                await array.get_slice((0, 0), data.shape)


async def test_bodies_with_a_checksum_are_received_contiguously(server, transport) -> None:
    """The checksum is computed over the whole body afterwards, so it must be contiguous."""
    async with stored(server, transport, 256) as (array, data):
        config = dataclasses.replace(array._runtime.store.config, checksums="on")
        async with zs.Session(s3=config) as session:
            again = await session.open_array("s3://data/rows")
            np.testing.assert_array_equal(await again.get_slice((0, 0), data.shape), data)
