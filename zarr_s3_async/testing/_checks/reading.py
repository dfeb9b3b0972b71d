"""Checks of get."""

# ruff: noqa: S101  # a check is a list of assertions

from __future__ import annotations

from functools import partial

from ..._types import Version
from ...byte_range import ByteRange, Offset, Span, Suffix
from ...errors import ObjectTooLarge
from ...stores.base import Blob, Store, Unchanged
from ...stores.optional import get_unless
from .common import MIB, RecordingSink, at_once, conflicts, content, same

_SIZE = 1000


async def _got(store: Store, key: str, byte_range: ByteRange | None, expected: bytes) -> None:
    """Read a range with and without a sink, which most stores implement separately."""
    blob = await store.get(key, range=byte_range)
    assert blob is not None, f"{byte_range} of a stored object is absent"
    assert same(blob.data, expected), f"{byte_range} returned wrong bytes ({memoryview(blob.data).nbytes} of them)"
    sink = RecordingSink()
    received = await store.get(key, range=byte_range, sink=sink)
    assert received is not None
    assert same(received.data, expected), f"{byte_range} with a sink returned wrong bytes"
    assert set(sink.lengths) <= {len(expected)}, f"the sink was called with {sink.lengths}"
    assert (received.version, received.size) == (blob.version, blob.size)


async def check_a_whole_object_is_read_as_it_was_put(store: Store) -> None:
    """A read returns the stored bytes, the version that the put returned, and the size."""
    data = content(_SIZE)
    version = await store.put("whole", data)
    blob = await store.get("whole")
    assert blob is not None
    assert same(blob.data, data)
    assert blob.version == version
    assert blob.size == _SIZE


async def check_an_absent_object_is_none(store: Store) -> None:
    """A get of an absent object returns None, for any range, and never calls the sink."""
    sink = RecordingSink()
    assert await store.get("absent") is None
    assert await store.get("absent", sink=sink) is None
    assert await store.get("absent", range=Span(0, 5), sink=sink) is None
    assert await store.get("absent", range=Suffix(5), sink=sink) is None
    assert await store.get("no/such/folder/absent") is None
    assert sink.lengths == []


async def check_spans(store: Store) -> None:
    """First, middle and last bytes, one byte, all bytes; `Blob.size` is the size of the whole object."""
    data = content(_SIZE, 1)
    await store.put("spans", data)
    for start, stop in ((0, 10), (400, 600), (_SIZE - 1, _SIZE), (0, 1), (0, _SIZE)):
        await _got(store, "spans", Span(start, stop), data[start:stop])
    blob = await store.get("spans", range=Span(3, 7))
    assert blob is not None
    assert blob.size == _SIZE


async def check_a_span_past_the_end_is_cut(store: Store) -> None:
    """A span that starts inside is cut at the end; one that starts at the end or beyond returns no bytes."""
    data = content(_SIZE, 2)
    version = await store.put("past", data)
    await _got(store, "past", Span(_SIZE - 3, _SIZE + 50), data[-3:])
    await _got(store, "past", Span(_SIZE, _SIZE + 1), b"")
    await _got(store, "past", Span(5 * _SIZE, 6 * _SIZE), b"")
    blob = await store.get("past", range=Span(_SIZE, _SIZE + 1))
    assert blob is not None
    assert (blob.version, blob.size) == (version, _SIZE)


async def check_suffixes(store: Store) -> None:
    """A suffix returns the last bytes; one longer than the object returns the whole object."""
    data = content(_SIZE, 3)
    await store.put("suffix", data)
    for length in (1, 16, _SIZE, _SIZE + 1, 10 * _SIZE):
        await _got(store, "suffix", Suffix(length), data[-length:])


async def check_an_empty_object_is_present(store: Store) -> None:
    """An empty object, read whole or by any range, is returned with no bytes, not as absent."""
    version = await store.put("empty", b"")
    # Servers respond 416 to every range of an empty object.
    for byte_range in (None, Span(0, 1), Span(7, 9), Span(0, 0), Suffix(4), Offset(0)):
        await _got(store, "empty", byte_range, b"")
        blob = await store.get("empty", range=byte_range)
        assert blob is not None
        assert (blob.version, blob.size) == (version, 0)


async def check_open_ended_ranges(store: Store) -> None:
    """An open-ended range returns the bytes to the end; none if it starts at the end or beyond."""
    data = content(_SIZE, 9)
    version = await store.put("open", data)
    for start in (0, 1, _SIZE // 2, _SIZE - 1, _SIZE, 5 * _SIZE):
        await _got(store, "open", Offset(start), data[start:])
    blob = await store.get("open", range=Offset(7), version=version)
    assert blob is not None
    assert (blob.version, blob.size) == (version, _SIZE)
    assert await store.get("never-open", range=Offset(3)) is None


async def check_empty_ranges(store: Store) -> None:
    """An empty range returns no bytes, with size and version; None for an absent object."""
    version = await store.put("nothing", content(_SIZE, 10))
    for byte_range in (Span(0, 0), Span(7, 7), Span(_SIZE, _SIZE), Span(2 * _SIZE, 2 * _SIZE), Suffix(0)):
        await _got(store, "nothing", byte_range, b"")
        blob = await store.get("nothing", range=byte_range, version=version)
        assert blob is not None
        assert (blob.version, blob.size) == (version, _SIZE)
        assert await store.get("never-nothing", range=byte_range) is None
    other = await store.put("nothing", content(_SIZE, 11))
    assert await conflicts(store.get("nothing", range=Span(0, 0), version=version))
    assert other != version


async def check_impossible_ranges_are_refused(store: Store) -> None:
    """A negative range, or one that ends before it starts, raises ValueError."""
    await store.put("impossible", b"abc")
    for byte_range in (Span(3, 1), Span(-1, 2), Span(-2, -2), Suffix(-1), Offset(-1)):
        try:
            await store.get("impossible", range=byte_range)
        except ValueError:
            continue
        raise AssertionError(f"{byte_range} was accepted")


async def check_a_sink_is_asked_once_for_the_exact_length(store: Store) -> None:
    """The sink is called once with the exact length, and the blob's data is its memory, for any size."""
    for size in (1, _SIZE, MIB):
        data = content(size, size)
        await store.put("sink", data)
        sink = RecordingSink()
        blob = await store.get("sink", sink=sink)
        assert blob is not None
        assert sink.lengths == [size]
        assert sink.memory == data
        # Equal bytes are not enough: a copy would take the memory twice.
        assert memoryview(blob.data).obj is sink.memory, "the data is not the sink's memory"


async def check_a_sink_receives_a_range(store: Store) -> None:
    """With a range, the sink receives only the bytes of the range."""
    data = content(MIB, 4)
    await store.put("sink-range", data)
    for byte_range, expected in (
        (Span(100, 300), data[100:300]),
        (Suffix(5), data[-5:]),
        (Span(MIB // 4, MIB), data[MIB // 4 :]),
    ):
        sink = RecordingSink()
        await store.get("sink-range", range=byte_range, sink=sink)
        assert sink.lengths == [len(expected)]
        assert sink.memory == expected


async def check_a_pinned_read_gives_that_version(store: Store) -> None:
    """A read with `version=` returns that version: whole, ranged, and beyond the end."""
    data = content(_SIZE, 5)
    version = await store.put("pinned", data)
    for byte_range, expected in ((None, data), (Span(2, 9), data[2:9]), (Suffix(3), data[-3:])):
        blob = await store.get("pinned", version=version, range=byte_range)
        assert blob is not None
        assert same(blob.data, expected)
        assert blob.version == version
    blob = await store.get("pinned", version=version, range=Span(_SIZE, _SIZE + 9))
    assert blob is not None
    assert same(blob.data, b"")


async def check_a_pinned_read_of_another_version_is_a_conflict(store: Store) -> None:
    """A read of a version that is no longer current raises Conflict, and does not call the sink."""
    old = await store.put("moved", content(_SIZE, 6))
    new = await store.put("moved", content(_SIZE, 7))
    assert old != new
    sink = RecordingSink()
    assert await conflicts(store.get("moved", version=old, sink=sink))
    assert await conflicts(store.get("moved", version=old, range=Span(0, 4)))
    assert await conflicts(store.get("moved", version=old, range=Suffix(4)))
    await store.delete("moved")
    assert await conflicts(store.get("moved", version=new, sink=sink))
    assert await conflicts(store.get("moved", version=new, range=Span(0, 4)))
    assert await conflicts(store.get("never-there", version=Version("0123")))
    assert sink.lengths == []


async def check_a_big_object(store: Store) -> None:
    """8 MiB, read whole, with a sink, and by ranges."""
    data = content(8 * MIB, 8)
    await store.put("big", data)
    await _got(store, "big", None, data)
    await _got(store, "big", Span(3 * MIB + 1, 7 * MIB + 5), data[3 * MIB + 1 : 7 * MIB + 5])
    await _got(store, "big", Suffix(MIB + 3), data[-MIB - 3 :])


async def check_concurrent_reads_do_not_mix(store: Store) -> None:
    """64 concurrent reads of 16 objects, half of them with sinks, each return their own object."""
    contents = [content(4096 + number, 100 + number) for number in range(16)]
    await at_once([partial(store.put, f"many/{n}", contents[n]) for n in range(16)])

    async def read(number: int) -> None:
        n = number % 16
        sink = RecordingSink()
        blob = await store.get(f"many/{n}", sink=sink if number % 2 else None)
        assert blob is not None
        assert same(blob.data, contents[n]), f"object {n} has the bytes of another one"

    await at_once([partial(read, n) for n in range(64)])


async def check_a_longer_body_is_refused(store: Store) -> None:
    """A body longer than `max_bytes`, whole or ranged, is rejected, and the sink is not called."""
    data = content(_SIZE, 7)
    version = await store.put("longer", data)
    for byte_range, length in ((None, _SIZE), (Span(10, 400), 390), (Suffix(300), 300)):
        sink = RecordingSink()
        for options in ({}, {"sink": sink}, {"version": version}):
            try:
                await store.get("longer", range=byte_range, max_bytes=length - 1, **options)
            except ObjectTooLarge:
                continue
            raise AssertionError(f"{byte_range} of {length} bytes was read with max_bytes={length - 1}")
        assert sink.lengths == [], "the sink was called for a body that was rejected"
        blob = await store.get("longer", range=byte_range, max_bytes=length)
        assert blob is not None
        assert memoryview(blob.data).nbytes == length
    assert await store.get("absent", max_bytes=0) is None


async def check_an_object_that_has_not_changed_is_not_sent(store: Store) -> None:
    """`get_unless` distinguishes the given version, another version and an absent object, also with ranges."""
    old, new = content(_SIZE, 7), content(_SIZE, 8)
    version = await store.put("unless", old)
    for byte_range in (None, Span(0, 1)):
        assert await get_unless(store, "unless", version, range=byte_range) is Unchanged.UNCHANGED
    current = await store.put("unless", new)
    for byte_range, expected in ((None, new), (Span(3, 9), new[3:9])):
        blob = await get_unless(store, "unless", version, range=byte_range)
        assert isinstance(blob, Blob), "the changed object was not returned"
        assert same(blob.data, expected)
        assert (blob.version, blob.size) == (current, _SIZE)
    await store.delete("unless")
    for byte_range in (None, Span(0, 1)):
        assert await get_unless(store, "unless", current, range=byte_range) is None
    await store.put("unless", b"")
    blob = await get_unless(store, "unless", current, range=Span(0, 1))
    assert isinstance(blob, Blob)
    assert same(blob.data, b"")
