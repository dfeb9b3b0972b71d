"""Operations composed of others: several ranges of one version, and several objects concurrently."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import zarr_s3_async as zs
from zarr_s3_async.byte_range import ByteRange, Offset, Span, Suffix, resolve
from zarr_s3_async.stores import optional
from zarr_s3_async.stores.base import parse_modified
from zarr_s3_async.testing import FaultyStore
from zarr_s3_async.testing.faulty_store import Fault

_DATA = bytes(range(200))
_numbers = st.integers(0, 240)
_ranges = st.one_of(
    st.none(),
    st.tuples(_numbers, _numbers).map(lambda pair: Span(min(pair), max(pair))),
    _numbers.map(Suffix),
    _numbers.map(Offset),
)


@given(st.lists(_ranges, max_size=12), st.integers(0, 50), st.integers(1, 250), st.integers(1, 5))
async def test_ranges_of_an_object_equal_slices_of_its_bytes(
    ranges: list[ByteRange | None], max_gap: int, max_bytes: int, at_once: int
) -> None:
    store = FaultyStore(zs.MemoryStore())
    version = await store.put("x", _DATA)
    found = await optional.get_ranges(store, "x", ranges, max_gap=max_gap, max_bytes=max_bytes, at_once=at_once)
    assert found is not None
    for wanted, blob in zip(ranges, found, strict=True):
        start, stop = resolve(wanted, len(_DATA))
        assert (bytes(blob.data), blob.version, blob.size) == (_DATA[start:stop], version, len(_DATA))
    assert store.peak <= at_once
    assert store.count("get") <= len(ranges)


async def test_close_ranges_are_read_by_one_request_up_to_a_maximum_length() -> None:
    store = FaultyStore(zs.MemoryStore())
    await store.put("x", _DATA)
    spans = [Span(60, 70), Span(0, 10), Span(15, 20), Span(26, 30)]
    await optional.get_ranges(store, "x", spans, max_gap=5, max_bytes=100)
    assert sorted(call.range for call in store.calls if call.verb == "get") == [Span(0, 20), Span(26, 30), Span(60, 70)]
    store.clear()
    await optional.get_ranges(store, "x", spans, max_gap=100, max_bytes=30)
    assert sorted(call.range for call in store.calls if call.verb == "get") == [Span(0, 30), Span(60, 70)]


async def test_ranges_of_an_absent_object_are_none() -> None:
    store = zs.MemoryStore()
    assert await optional.get_ranges(store, "x", [Span(0, 1), None]) is None
    assert await optional.get_many(store, [("x", None), ("x", Span(0, 1))]) == [None, None]
    assert await optional.get_many(store, []) == []


@pytest.mark.parametrize("change", ["put", "delete"])
async def test_an_object_that_changes_between_two_ranges_is_read_again(change: str) -> None:
    inner = zs.MemoryStore()
    await inner.put("x", _DATA)

    async def meanwhile() -> None:
        await (inner.put("x", _DATA[::-1]) if change == "put" else inner.delete("x"))

    store = FaultyStore(inner, Fault(verb="get", nth=2, meanwhile=meanwhile))
    found = await optional.get_ranges(store, "x", [Span(0, 5), Suffix(5)], at_once=1)
    if change == "delete":
        assert found is None
    else:
        assert found is not None
        assert [bytes(blob.data) for blob in found] == [_DATA[::-1][:5], _DATA[::-1][-5:]]


async def test_an_object_that_always_changes_is_an_error_after_a_bounded_number_of_attempts() -> None:
    inner = zs.MemoryStore()
    await inner.put("x", _DATA)
    store = FaultyStore(inner, Fault(verb="get", times=None, meanwhile=lambda: inner.put("x", _DATA)))
    with pytest.raises(zs.ConcurrentModification) as failed:
        await optional.get_ranges(store, "x", [Span(0, 5), Suffix(5)], at_once=1)
    assert store.count("get") < 50
    assert store.count("get") == 2 * (failed.value.attempts or 0)


async def test_ranges_of_a_version_that_is_not_stored_are_a_conflict() -> None:
    store = zs.MemoryStore()
    old = await store.put("x", _DATA)
    await store.put("x", _DATA[::-1])
    for ranges in ([Span(0, 5)], [Span(0, 5), Suffix(5)]):
        with pytest.raises(zs.Conflict):
            await optional.get_ranges(store, "x", ranges, version=old)


async def test_a_failed_batch_ends_a_stream_of_deletes() -> None:
    inner = zs.MemoryStore()
    store = FaultyStore(inner, Fault(verb="delete_many", nth=2, error=lambda: zs.AccessDenied("no")))
    keys = [f"{number:05}" for number in range(3 * optional.BATCH)]
    for key in keys[:: optional.BATCH]:
        await inner.put(key, b"x")
    with pytest.raises(zs.AccessDenied):
        await optional.delete_stream(store, iter(keys))
    assert [entry.key async for entry in inner.list_prefix()] == [keys[optional.BATCH], keys[2 * optional.BATCH]]


def test_only_stores_that_another_process_can_open_have_a_reference() -> None:
    assert optional.ref(zs.LocalStore("/x")).url == "file:///x"
    with pytest.raises(TypeError, match="no reference"):
        optional.ref(zs.MemoryStore())
    with pytest.raises(zs.ConfigError, match="sync"):
        optional.ref(zs.LocalStore("/x", sync=True))


@pytest.mark.parametrize(
    ("modified", "expected"),
    [
        ("Wed, 21 Oct 2015 07:28:00 GMT", "2015-10-21T07:28:00+00:00"),
        ("2015-10-21T07:28:00.250Z", "2015-10-21T07:28:00.250000+00:00"),
        (1445412480.25, "2015-10-21T07:28:00.250000+00:00"),
        (None, None),
        ("", None),
        ("yesterday, about noon", None),
        (1e300, None),
    ],
)
def test_modification_times_are_read_in_every_format(modified: str | float | None, expected: str | None) -> None:
    found = parse_modified(modified)
    assert (found and found.isoformat()) == expected
