"""verify reports damaged, missing and foreign objects by name, and reads intact arrays completely."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import zarr_s3_async as zs
from zarr_s3_async.testing import Fault, FaultyStore

from ..peak_limiter import watch_leases

FORMATS = pytest.mark.parametrize("zarr_format", [2, 3])


async def rewrite(store: zs.Store, key: str, change: Callable[[bytes], bytes]) -> None:
    blob = await store.get(key)
    assert blob is not None, key
    await store.put(key, change(bytes(blob.data)))


async def grid(session: zs.Session, store: zs.Store, **options: Any) -> zs.Array:
    """4 x 6 elements in 2 x 3 chunks, all stored."""
    given = {"shape": (4, 6), "chunks": (2, 2), "dtype": "i4", **options}
    array = await session.create_array(store, **given)
    await array.set_slice(np.arange(1, 25).reshape(4, 6), (0, 0))
    return array


def kinds(report: zs.VerifyReport) -> dict[str, list[str]]:
    """Keys of the findings by their kind."""
    found: dict[str, list[str]] = {}
    for finding in report.findings:
        found.setdefault(finding.kind, []).append(finding.key)
    return found


def node(report: zs.VerifyReport, path: str = "") -> zs.NodeReport:
    (found,) = [node for node in report.nodes if node.path == path]
    return found


# Intact arrays


LAYOUTS: dict[str, dict[str, Any]] = {
    "v3": {},
    "v3-dots": {"chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}}},
    "v3-keys-of-v2": {"chunk_key_encoding": {"name": "v2"}},
    "v2": {"zarr_format": 2},
    "v2-slashes": {"zarr_format": 2, "dimension_separator": "/", "attributes": {"a": 1}},
    "raw": {"compressor": None},
    "blosc": {"compressor": "blosc"},
    "sharded": {"chunks": (1, 1), "shards": (2, 2)},
}


@pytest.mark.parametrize("name", LAYOUTS)
async def test_a_complete_array_has_no_findings_and_every_byte_was_read(
    session: zs.Session, store: zs.MemoryStore, name: str
) -> None:
    array = await grid(session, store, **LAYOUTS[name])
    report = await array.verify(strict=True)
    assert report.ok, str(report)
    assert report.findings == ()
    assert report.objects == len(store._objects)
    assert report.nbytes == sum(len(stored[0]) for stored in store._objects.values())
    only = node(report)
    assert (only.kind, only.objects, only.objects_expected) == ("array", 6, 6)
    assert only.chunks == only.chunks_expected == array.nchunks
    assert only.unused_bytes == only.unchecked == 0


@FORMATS
@pytest.mark.parametrize("stored", [True, False])
async def test_an_array_without_dimensions_has_one_chunk(
    session: zs.Session, store: zs.MemoryStore, zarr_format: Any, stored: bool
) -> None:
    array = await session.create_array(store, shape=(), chunks=(), dtype="f8", zarr_format=zarr_format)
    if stored:
        await array.set_slice(5.0, ())
    report = await array.verify()
    assert report.ok
    assert node(report).objects == stored
    assert report.counts["missing"] == 1 - stored


@FORMATS
async def test_an_empty_array_has_no_missing_chunks(
    session: zs.Session, store: zs.MemoryStore, zarr_format: Any
) -> None:
    array = await session.create_array(store, shape=(0, 5), chunks=(2, 2), dtype="f8", zarr_format=zarr_format)
    report = await array.verify(strict=True)
    assert report.ok
    assert node(report).chunks_expected == 0
    key = array.metadata.object_key((0, 0))
    await store.put(key, b"beyond")
    assert kinds(await array.verify()) == {"extra": [key]}


@pytest.mark.parametrize("name", ["v3", "v2", "sharded"])
async def test_missing_chunks_are_counted_and_are_an_error_only_with_strict(
    session: zs.Session, store: zs.MemoryStore, name: str
) -> None:
    options = {"shape": (4, 6), "chunks": (2, 2), "dtype": "i4", **LAYOUTS[name]}
    array = await session.create_array(store, **options)
    await array.set_slice(np.ones((2, 3)), (0, 0))
    report, strict = await array.verify(), await array.verify(strict=True)
    assert report.ok
    assert not strict.ok
    assert report.counts == strict.counts
    assert {
        finding.key for finding in report.of("missing") if finding.position in [(0, 2), (1, 0), (1, 1), (1, 2)]
    } == {array.metadata.object_key(position) for position in [(0, 2), (1, 0), (1, 1), (1, 2)]}
    if name == "sharded":  # the second shard has only one column of chunks
        inner = [finding.chunk for finding in report.of("missing") if finding.chunk is not None]
        assert inner == [(0, 3), (1, 3)]
        assert node(report).chunks == 6
        assert report.counts["missing"] == 4 + 2
    else:
        assert report.counts["missing"] == 4
    assert "missing" not in str(report)
    assert "missing" in str(strict)


async def test_chunks_of_a_shard_beyond_the_arrays_edge_are_neither_stored_nor_missing(
    session: zs.Session, store: zs.MemoryStore
) -> None:
    array = await session.create_array(store, shape=(5, 3), chunks=(1, 1), shards=(4, 4), dtype="i4")
    await array.set_slice(np.ones((5, 3)), (0, 0))
    report = await array.verify(strict=True)
    assert report.ok, str(report)
    assert (node(report).chunks, node(report).chunks_expected) == (15, 15)


# Damage


def flip(at: int) -> Callable[[bytes], bytes]:
    def flipped(data: bytes) -> bytes:
        body = bytearray(data)
        body[at] ^= 0x10
        return bytes(body)

    return flipped


CRC = {"codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]}
ZSTD = {"compressor": {"name": "zstd", "configuration": {"level": 1, "checksum": True}}}
DAMAGE: dict[str, tuple[dict[str, Any], Callable[[bytes], bytes], str]] = {
    "zstd, a bit of the content": (ZSTD, flip(-6), "zstd"),
    "zstd, a bit of the head": (ZSTD, flip(1), "zstd"),
    "blosc, a bit of the head": ({"compressor": "blosc"}, flip(4), "blosc"),
    "crc32c, a bit of the content": (CRC, flip(3), "crc32c"),
    "crc32c, a bit of the checksum": (CRC, flip(-1), "crc32c"),
    "zlib of v2": ({"zarr_format": 2, "compressor": "zlib"}, flip(-2), "zlib"),
    "truncated": (ZSTD, lambda data: data[:-3], "zstd"),
    "empty": (ZSTD, lambda data: b"", "zstd"),
    "empty and raw": ({"compressor": None}, lambda data: b"", "bytes"),
    "raw and short": ({"compressor": None}, lambda data: data[:-1], "bytes"),
    "raw and long": ({"compressor": None}, lambda data: data + b"\0", "bytes"),
    "another chunk's size": ({"compressor": None}, lambda data: data * 2, "bytes"),
}


@pytest.mark.parametrize("name", DAMAGE)
async def test_damage_of_every_kind_is_reported_with_its_key_and_does_not_end_the_check(
    session: zs.Session, store: zs.MemoryStore, name: str
) -> None:
    options, change, codec = DAMAGE[name]
    array = await grid(session, store, **options)
    key = array.metadata.object_key((0, 1))
    await rewrite(store, key, change)
    report = await array.verify()
    assert not report.ok
    (finding,) = report.findings
    assert (finding.kind, finding.key, finding.position, finding.chunk) == ("corrupt", key, (0, 1), (0, 1))
    assert finding.codec is not None
    assert codec in finding.codec
    assert finding.error == "ChunkDecodeError"
    assert node(report).chunks == 5
    with pytest.raises(zs.ChunkDecodeError):
        await array.get_slice((0, 2), (2, 4))


async def test_an_object_too_large_for_any_chunk_is_reported_without_being_read(session: zs.Session) -> None:
    class Huge(zs.MemoryStore):
        """A bucket in which one object claims 5 TiB."""

        async def get(self, key: str, **options: Any) -> Any:  # type: ignore[override]  # handed on
            assert key != "c/0/1", "it would not fit into memory"
            return await super().get(key, **options)

        def _entry(self, key: str) -> Any:
            entry = super()._entry(key)
            return entry and zs.Entry(key, 5 * 2**40 if key == "c/0/1" else entry.size, entry.version)

    array = await grid(session, Huge())
    (finding,) = (await array.verify()).findings
    assert finding.kind == "corrupt"
    assert "5,497,558,138,880 bytes" in finding.what


# Shards


INDEX_BYTES = 4 * 16 + 4
"""Bytes of an index of four chunks, with its checksum."""


async def sharded(session: zs.Session, store: zs.Store, location: str = "end") -> zs.Array:
    """Two shards of four raw chunks of 4 bytes."""
    inner = {"name": "bytes", "configuration": {"endian": "little"}}
    index = [inner, {"name": "crc32c"}]
    codec = {
        "name": "sharding_indexed",
        "configuration": {
            "chunk_shape": [1],
            "codecs": [inner, {"name": "crc32c"}],
            "index_codecs": index,
            "index_location": location,
        },
    }
    array = await session.create_array(store, shape=(8,), chunks=(4,), dtype="i4", codecs=[codec])
    assert array.shards == (4,)
    await array.set_slice(np.arange(1, 9), 0)
    return array


def reindexed(change: Callable[[list[list[int]]], None]) -> Callable[[bytes], bytes]:
    """A shard with the same chunks and another index, whose checksum is right."""
    import google_crc32c

    def changed(data: bytes) -> bytes:
        entries = [list(struct.unpack_from("<QQ", data, len(data) - INDEX_BYTES + 16 * slot)) for slot in range(4)]
        change(entries)
        index = b"".join(struct.pack("<QQ", *entry) for entry in entries)
        return data[:-INDEX_BYTES] + index + struct.pack("<I", google_crc32c.value(index))

    return changed


SHARDS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda data: b"", "0 bytes"),
    "shorter than an index": (lambda data: data[:10], "10 bytes"),
    "truncated": (lambda data: data[:-1], "checksum"),
    "a bit of the index": (flip(-20), "checksum"),
    "an entry past the end": (reindexed(lambda entries: entries[2].__setitem__(0, 10**6)), "chunk 2 at byte 1000000"),
    "an entry of no bytes": (reindexed(lambda entries: entries[1].__setitem__(1, 0)), "chunk 1"),
    "entries that overlap": (reindexed(lambda entries: entries[1].__setitem__(0, 4)), "chunk 0 and chunk 1 share"),
    "one chunk twice": (reindexed(lambda entries: entries.__setitem__(3, entries[0])), "chunk 0 and chunk 3 share"),
    "a chunk in the index": (reindexed(lambda entries: entries[3].__setitem__(1, 12)), "chunk 3 and the index share"),
}


@pytest.mark.parametrize("name", SHARDS)
@pytest.mark.parametrize("range_bytes", [2**20, 16], ids=["whole", "ranges"])
async def test_every_kind_of_invalid_index_is_reported(store: zs.MemoryStore, name: str, range_bytes: int) -> None:
    change, expected = SHARDS[name]
    async with zs.Session(limits=zs.Limits(range_bytes=range_bytes)) as session:
        array = await sharded(session, store)
        await rewrite(store, "c/1", change)
        report = await array.verify()
    (finding,) = report.findings
    assert (finding.kind, finding.key, finding.position, finding.chunk) == ("corrupt", "c/1", (1,), None)
    assert expected in finding.what
    assert finding.error == "ChunkDecodeError"
    assert node(report).chunks == 4


@pytest.mark.parametrize("location", ["start", "end"])
@pytest.mark.parametrize("range_bytes", [2**20, 16], ids=["whole", "ranges"])
async def test_every_chunk_of_a_shard_is_decoded_separately(
    store: zs.MemoryStore, location: str, range_bytes: int
) -> None:
    async with zs.Session(limits=zs.Limits(range_bytes=range_bytes)) as session:
        array = await sharded(session, store, location)
        start = INDEX_BYTES if location == "start" else 0
        await rewrite(store, "c/1", flip(start + 1))
        await rewrite(store, "c/1", flip(start + 8 * 3 + 7))
        report = await array.verify()
    assert [(f.kind, f.key, f.position, f.chunk, f.codec) for f in report.findings] == [
        ("corrupt", "c/1", (1,), (4,), "crc32c"),
        ("corrupt", "c/1", (1,), (7,), "crc32c"),
    ]
    assert node(report).chunks == 6
    assert node(report).unused_bytes == 0


@pytest.mark.parametrize("range_bytes", [2**20, 16], ids=["whole", "ranges"])
async def test_unused_bytes_of_a_shard_are_counted_and_are_no_finding(store: zs.MemoryStore, range_bytes: int) -> None:
    missing = 2**64 - 1
    async with zs.Session(limits=zs.Limits(range_bytes=range_bytes)) as session:
        array = await sharded(session, store)
        await rewrite(store, "c/1", reindexed(lambda entries: entries.__setitem__(1, [missing, missing])))
        report = await array.verify()
    assert report.ok
    assert node(report).unused_bytes == 8
    assert [finding.chunk for finding in report.of("missing")] == [(5,)]


async def test_a_large_shard_is_never_in_memory_as_a_whole() -> None:
    class Watched(zs.MemoryStore):
        async def get(self, key: str, **options: Any) -> Any:  # type: ignore[override]  # handed on
            blob = await super().get(key, **options)
            if key.startswith("c/"):
                assert len(blob.data) <= 2**16 + 4096
            return blob

    async with zs.Session(limits=zs.Limits(range_bytes=2**16, bytes=2**18)) as session:
        leases = watch_leases(session)
        array = await session.create_array(
            Watched(), shape=(2**20,), chunks=(512,), shards=(2**20,), dtype="u1", compressor=None
        )
        await array.set_slice(np.random.default_rng(2).integers(1, 255, 2**20, "u1"), 0)
        leases.peak = 0
        report = await array.verify(strict=True)
        assert report.ok, str(report)
        assert node(report).chunks == 2048
        assert 0 < leases.peak <= 2**18
        assert session._leases.held == 0


async def test_a_shard_that_grew_since_it_was_listed_is_read_in_ranges() -> None:
    """What the listing said is what was leased: a larger object must not come into memory as a whole."""
    small = np.zeros(2**16, "u1")
    small[:4] = 1

    class Grows(zs.MemoryStore):
        """Replaces the shard by a large one before its first read."""

        larger: bytes | None = None
        bodies: list[int]

        async def get(self, key: str, **options: Any) -> Any:  # type: ignore[override]  # handed on
            if key.startswith("c/"):
                if self.larger is not None:
                    larger, self.larger = self.larger, None
                    await self.put(key, larger)
                blob = await super().get(key, **options)
                self.bodies.append(len(blob.data))
                return blob
            return await super().get(key, **options)

    async with zs.Session(limits=zs.Limits(range_bytes=2**14)) as session:
        store = Grows()
        store.bodies = []
        array = await session.create_array(
            store, shape=(2**16,), chunks=(512,), shards=(2**16,), dtype="u1", compressor=None
        )
        await array.set_slice(np.full(2**16, 7, "u1"), 0)
        larger = bytes((await zs.MemoryStore.get(store, "c/0")).data)
        await array.set_slice(small, 0)
        store.larger, store.bodies = larger, []
        report = await array.verify(strict=True)
    assert report.ok, str(report)
    assert node(report).chunks == 128
    assert max(store.bodies) <= 2**14


async def test_verify_reads_a_shard_again_that_is_rewritten_meanwhile(session: zs.Session) -> None:
    store = FaultyStore(zs.MemoryStore())
    async with zs.Session(limits=zs.Limits(range_bytes=16)) as session:
        array = await sharded(session, store)
        other = await session.open_array(store.inner)
        store.add(Fault(verb="get", key="c/1", nth=2, meanwhile=lambda: other.set_slice([7, 7, 7], 4)))
        report = await array.verify(strict=True)
        assert report.ok, str(report)
        store.add(Fault(verb="get", key="c/1", times=None, meanwhile=lambda: other.set_slice([7, 7, 7], 4)))
        (finding,) = (await array.verify()).findings
    assert (finding.kind, finding.error, finding.chunk) == ("unreadable", "ConcurrentModification", None)


async def test_verify_uses_no_cache_of_the_session(session: zs.Session, store: zs.MemoryStore) -> None:
    array = await sharded(session, store)
    await array.get_slice(0, 1)  # caches its index
    await store.put("c/0", b"")
    stale = await session.open_array(store)
    await (await session.open_array(store)).resize((4,))
    report = await stale.verify()
    assert kinds(report) == {"corrupt": ["c/0"]}
    assert node(report).chunks_expected == 4
