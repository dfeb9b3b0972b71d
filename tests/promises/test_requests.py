"""How many requests an operation sends, counted by the client on a real server."""

from __future__ import annotations

import numpy as np
import pytest

import zarr_s3_async as zs

from .conftest import Place

pytestmark = pytest.mark.integration
FORMATS = pytest.mark.parametrize("zarr_format", [2, 3])


async def made(session: zs.Session, place: Place, zarr_format: int, **options: object) -> zs.Array:
    array = await session.create_array(
        place.url, shape=(40, 60), chunks=(10, 20), dtype="int32", zarr_format=zarr_format, **options
    )
    session.metrics.requests.clear()
    return array


def counted(session: zs.Session) -> dict[str, int]:
    counts = dict(session.metrics.requests)
    session.metrics.requests.clear()
    return counts


@FORMATS
async def test_a_read_of_k_chunks_makes_k_gets(session: zs.Session, place: Place, zarr_format: int) -> None:
    array = await made(session, place, zarr_format)
    await array.get_slice((0, 0), (40, 60))
    assert counted(session) == {"GetObject": 12}
    await array.get_slice((5, 5), (25, 25))
    assert counted(session) == {"GetObject": 6}
    await array.get_slice((3, 3), (3, 60))
    assert counted(session) == {}


@FORMATS
async def test_a_write_of_whole_chunks_makes_only_puts(session: zs.Session, place: Place, zarr_format: int) -> None:
    array = await made(session, place, zarr_format)
    await array.set_slice(np.ones((40, 60), "i4"), (0, 0))
    assert counted(session) == {"PutObject": 12}


@FORMATS
async def test_chunks_cut_by_the_edge_of_the_array_are_merged(
    session: zs.Session, place: Place, zarr_format: int
) -> None:
    """Beyond the edge there may be elements that others have appended."""
    array = await session.create_array(place.url, shape=(35,), chunks=(10,), dtype="u1", zarr_format=zarr_format)
    session.metrics.requests.clear()
    await array.set_slice(np.arange(1, 36), 0, 35)
    assert counted(session) == {"GetObject": 1, "PutObject": 4}


@FORMATS
async def test_a_write_of_a_part_of_a_chunk_makes_one_get_and_one_put(
    session: zs.Session, place: Place, zarr_format: int
) -> None:
    array = await made(session, place, zarr_format)
    await array.set_slice(np.ones((2, 2), "i4"), (0, 0))
    assert counted(session) == {"GetObject": 1, "PutObject": 1}
    await array.set_slice(np.ones((20, 20), "i4"), (5, 10))
    assert counted(session) == {"GetObject": 6, "PutObject": 6}


@FORMATS
async def test_chunks_of_fill_are_not_stored(session: zs.Session, place: Place, zarr_format: int) -> None:
    array = await made(session, place, zarr_format)
    await array.set_slice(np.zeros((40, 60), "i4"), (0, 0))
    assert counted(session) == {"DeleteObject": 12}
    await array.set_slice(np.zeros((2, 2), "i4"), (0, 0))
    assert counted(session) == {"GetObject": 1}


@FORMATS
async def test_a_merge_that_empties_a_chunk_makes_one_get_and_one_delete(
    session: zs.Session, place: Place, zarr_format: int
) -> None:
    array = await made(session, place, zarr_format)
    await array.set_slice(np.ones((2, 4), "i4"), (0, 0))
    await array.set_slice(np.zeros((2, 2), "i4"), (0, 0))
    counted(session)
    await array.set_slice(np.zeros((2, 4), "i4"), (0, 0))
    first = counted(session)
    assert first == {"GetObject": 1 + 1, "PutObject": 1, "DeleteObject": 1 + 3}, (
        "once per bucket, the session probes whether the server supports conditional deletes"
    )
    await array.set_slice(np.ones((2, 4), "i4"), (0, 0))
    counted(session)
    await array.set_slice(np.zeros((2, 4), "i4"), (0, 0))
    assert counted(session) == {"GetObject": 1, "DeleteObject": 1}


@FORMATS
async def test_chunks_of_fill_are_stored_on_request(session: zs.Session, place: Place, zarr_format: int) -> None:
    array = await made(session, place, zarr_format, write_empty_chunks=True)
    await array.set_slice(np.zeros((40, 60), "i4"), (0, 0))
    assert counted(session) == {"PutObject": 12}


async def test_listing_2500_chunks_makes_three_requests(session: zs.Session, place: Place) -> None:
    array = await session.create_array(place.url, shape=(2500,), chunks=(1,), dtype="u1", zarr_format=2)
    await array.set_slice(1, 0, 2500)
    session.metrics.requests.clear()
    found = [entry.key async for entry in session.s3(place.bucket, place.prefix).list_prefix("")]
    assert len(found) == 2501
    assert counted(session) == {"ListObjectsV2": 3}


async def test_opening_a_v3_array_makes_one_get(session: zs.Session, place: Place) -> None:
    await made(session, place, 3)
    await session.open_array(place.url)
    assert counted(session) == {"GetObject": 1}


async def test_creating_an_array_first_reads_what_exists_and_puts_once(session: zs.Session, place: Place) -> None:
    await made(session, place, 3)  # the session's first conditional put probes whether the server supports it
    counted(session)
    await session.create_array(f"{place.url}-next", shape=(4,), dtype="i4", zarr_format=3)
    # Five documents that may exist already, one page of chunks of an earlier array, and the parent folder (here the
    # bucket): is it an array, and does it hold consolidated metadata that is now outdated?
    assert counted(session) == {"GetObject": 5 + 2 + 1, "ListObjectsV2": 1, "PutObject": 1}
