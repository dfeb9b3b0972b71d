"""Small chunks of a shard that are decoded together give what they give one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zarr_s3_async as zs
from zarr_s3_async.codecs.base import Abandoned, Interrupt, interruptible
from zarr_s3_async.codecs.compress import ZstdFrames

from .test_shard_requests import sharding

ZSTD = {"name": "zstd", "configuration": {"level": 1, "checksum": True}}
CRC = {"name": "crc32c"}


async def filled(session: zs.Session, shape: Any, shards: Any, chunks: Any, *codecs: Any) -> tuple[zs.Array, Any]:
    array = await session.create_array(
        zs.MemoryStore(), shape=shape, chunks=shards, dtype="<i4", codecs=sharding(chunks, "end", *codecs), fill_value=7
    )
    data = np.random.default_rng(3).integers(0, 9, shape, "i4")
    # Some chunks are not stored.
    data[tuple(slice(0, 2 * n) for n in chunks)] = 7
    await array[...].set(data)
    return array, data


def selected(n: int) -> st.SearchStrategy[Any]:
    bound = st.none() | st.integers(-n - 1, n + 1)
    slices = st.builds(slice, bound, bound, st.sampled_from([None, None, 1, 2, 5, -1, -1, -2]))
    return st.just(slice(None)) | slices | st.integers(-n, n - 1)


SHAPES = [
    ((40, 44), (16, 16), (4, 4)),
    ((32, 32), (32, 32), (2, 32)),
    ((9, 8, 30), (6, 4, 16), (1, 2, 4)),
    ((50,), (40,), (5,)),
    ((30, 8), (10, 8), (1, 1)),
]


@settings(max_examples=60)
@given(st.data())
async def test_any_selection_reads_the_same_from_batches_as_from_single_chunks(data: st.DataObject) -> None:
    shape, shards, chunks = data.draw(st.sampled_from(SHAPES))
    codecs = data.draw(st.sampled_from([(ZSTD,), (ZSTD, CRC)]))
    async with zs.Session() as session:
        array, values = await filled(session, shape, shards, chunks, *codecs)
        key = tuple(data.draw(selected(n)) for n in shape)
        array._layout.pipeline.batch = data.draw(st.sampled_from([2, 3, 7, 256]))
        together = await array[key]
        array._layout.pipeline.batch = 1
        np.testing.assert_array_equal(together, await array[key])
        np.testing.assert_array_equal(together, values[key])
        if len(shape) > 1:
            rows, columns = [5, 1, 1, shape[0] - 1], [0, shape[1] - 1]
            array._layout.pipeline.batch = 5
            np.testing.assert_array_equal(await array.oindex[rows, columns], values[np.ix_(rows, columns)])


@pytest.mark.parametrize("shape", [(16,), (3, 16)])
async def test_reversed_chunks_are_copied_to_their_own_places(session: zs.Session, shape: tuple[int, ...]) -> None:
    """The chunks of a whole shard end at the start of the result: as many elements follow as they have."""
    rest = (1,) * (len(shape) - 1)
    array = await session.create_array(
        zs.MemoryStore(), shape=shape, chunks=(*rest, 8), dtype="<i4", codecs=sharding((*rest, 4), "end", ZSTD)
    )
    data = np.arange(1, np.prod(shape) + 1, dtype="i4").reshape(shape)
    await array[...].set(data)
    for key in (np.s_[..., :0:-1], np.s_[..., ::-1], np.s_[..., :2:-1], np.s_[::-1]):
        np.testing.assert_array_equal(await array[key], data[key])


async def test_a_whole_shard_is_decoded_in_batches(session: zs.Session, monkeypatch: pytest.MonkeyPatch) -> None:
    array, values = await filled(session, (64, 64), (64, 64), (8, 8), ZSTD)
    calls: list[int] = []
    many = ZstdFrames.many_frames

    def counted(self: Any, frames: Any, size: int, out: Any) -> bool:
        calls.append(len(frames))
        return many(self, frames, size, out)

    monkeypatch.setattr(ZstdFrames, "many_frames", counted)
    monkeypatch.setattr(ZstdFrames, "single_frame", lambda *_: pytest.fail("decoded one by one"))
    np.testing.assert_array_equal(await array[...], values)
    assert calls == [60], "64 chunks, of which 4 are not stored"


async def test_a_damaged_chunk_of_a_batch_is_named_and_the_others_are_read(session: zs.Session) -> None:
    array, values = await filled(session, (64, 64), (64, 64), (8, 8), ZSTD)
    store: Any = array._layout.chunks._store
    body = bytearray((await store.get("c/0/0")).data)
    entries = np.frombuffer(body[-(64 * 16 + 4) : -4], "<u8").reshape(64, 2)
    start, length = entries[27].tolist()
    body[start + length - 1] ^= 1  # its checksum
    await store.put("c/0/0", bytes(body))
    await array.refresh()
    with pytest.raises(zs.ChunkDecodeError) as caught:
        await array[...]
    assert caught.value.chunk == (3, 3)
    np.testing.assert_array_equal(await array[32:, :], values[32:, :])
    np.testing.assert_array_equal(await array[:, 32:], values[:, 32:])


async def test_an_interrupt_ends_the_decoding_of_a_shard_between_two_batches(
    session: zs.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    array, _ = await filled(session, (64, 64), (64, 64), (8, 8), ZSTD)
    array._layout.pipeline.batch = 8
    interrupt, calls = Interrupt(), []
    many = ZstdFrames.many_frames

    def interrupting(self: Any, frames: Any, size: int, out: Any) -> bool:
        calls.append(len(frames))
        interrupt.request()
        return many(self, frames, size, out)

    monkeypatch.setattr(ZstdFrames, "many_frames", interrupting)

    async def in_place(_: Any, work: Any, items: Any, *, split: bool) -> list[Any]:
        assert not split
        return [interruptible(interrupt, lambda: work(items))]

    monkeypatch.setattr(type(array._runtime.cpu), "each", in_place)
    monkeypatch.setattr("zarr_s3_async._engine.read.runs_inline", lambda *_: False)
    with pytest.raises(Abandoned):
        await array[...]
    assert calls == [8]
