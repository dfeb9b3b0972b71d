"""verify of hierarchies: every node is visited, every key is classified, and store errors do not stop it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zarr_s3_async as zs
from zarr_s3_async.stores.local.files import TEMPORARY
from zarr_s3_async.stores.s3.capabilities import PROBE
from zarr_s3_async.testing import Fault, FaultyStore

from .test_verify import grid, kinds, node

FORMATS = pytest.mark.parametrize("zarr_format", [2, 3])


async def hierarchy(session: zs.Session, store: zs.Store, zarr_format: Any = 3) -> zs.Group:
    """/, /a (array), /deep, /deep/er, /deep/er/b (array): all chunks stored."""
    group = await session.create_group(store, attributes={"title": "x"}, zarr_format=zarr_format)
    for name in ("a", "deep/er/b"):
        array = await group.create_array(name, shape=(4,), chunks=(2,), dtype="i4", attributes={"units": "m"})
        await array.set_slice([1, 2, 3, 4], 0)
    return group


# Keys


@FORMATS
async def test_every_key_is_classified(session: zs.Session, store: zs.MemoryStore, zarr_format: Any) -> None:
    group = await hierarchy(session, store, zarr_format)
    array = await group.open("a")
    strange = {
        "extra": [f"a/{array.metadata.object_key((2,))}", "a/0.0" if zarr_format == 3 else "a/c/0"],
        "foreign": ["a/notes.txt", "a/sub/zarr.json", "a/c/00", "readme.txt", "raw/deep/x.bin", "marker/"],
        "leftover": [f"{PROBE}abc", f"a/{PROBE}abc", f"raw/{PROBE}1", f"raw/{TEMPORARY}1"],
    }
    for keys in strange.values():
        for key in keys:
            await store.put(key, b"x")
    report = await group.verify()
    assert {kind: sorted(keys) for kind, keys in kinds(report).items()} == {k: sorted(v) for k, v in strange.items()}
    assert report.problems == len(strange["extra"]) + len(strange["foreign"])
    assert [one.path for one in report.nodes] == ["", "a", "deep", "deep/er", "deep/er/b"]
    assert node(report, "a").counts["extra"] == 2
    assert node(report).counts["foreign"] == 3
    assert node(report, "a").chunks == node(report, "deep/er/b").chunks == 2


async def test_empty_objects_named_like_folders_are_no_findings(session: zs.Session, store: zs.MemoryStore) -> None:
    group = await hierarchy(session, store)
    for key in ("marker/", "a/", "a/c/", "deep/er/", "deep/er/b/"):
        await store.put(key, b"")
    report = await group.verify(strict=True)
    assert report.ok, str(report)
    assert [one.path for one in report.nodes] == ["", "a", "deep", "deep/er", "deep/er/b"]


async def test_leftovers_are_reported_and_are_no_error(session: zs.Session, store: zs.MemoryStore) -> None:
    group = await hierarchy(session, store)
    await store.put(f"{PROBE}abc", b"probe")
    report = await group.verify(strict=True)
    assert report.ok
    assert kinds(report) == {"leftover": [f"{PROBE}abc"]}


async def test_chunks_left_by_a_killed_shrink_are_reported_as_extra(session: zs.Session, store: zs.MemoryStore) -> None:
    array = await grid(session, store)
    whole = dict(store._objects)
    await array.resize((4, 2))
    assert (await array.verify(strict=True)).ok
    for key, object_ in whole.items():
        store._objects.setdefault(key, object_)
    report = await array.verify()
    assert kinds(report) == {"extra": ["c/0/1", "c/0/2", "c/1/1", "c/1/2"]}
    assert node(report).objects == node(report).objects_expected == 2


@pytest.mark.parametrize("first", [2, 3])
async def test_metadata_of_both_formats_is_no_finding_and_both_documents_are_read(
    session: zs.Session, store: zs.MemoryStore, first: Any
) -> None:
    """Both documents describe the same chunks, as after a migration of the metadata."""
    options: dict[str, Any] = {"shape": (4,), "chunks": (2,), "dtype": "i4"}
    array = await session.create_array(store, zarr_format=2, attributes={"a": 1}, **options)
    await array.set_slice([1, 2, 3, 4], 0)
    beside = zs.MemoryStore("beside")
    await session.create_array(beside, chunk_key_encoding={"name": "v2"}, **options)
    blob = await beside.get("zarr.json")
    assert blob is not None
    await store.put("zarr.json", blob.data)
    report = await session.verify(store, zarr_format=first, strict=True)
    assert report.ok, str(report)
    assert node(report).zarr_format == first
    assert report.objects == 5
    broken = ".zarray" if first == 3 else "zarr.json"
    await store.put(broken, b"{")
    (finding,) = (await session.verify(store, zarr_format=first)).findings
    assert (finding.kind, finding.key, finding.error) == ("metadata", broken, "MetadataError")


async def test_documents_without_a_node_are_reported_as_foreign(session: zs.Session, store: zs.MemoryStore) -> None:
    await grid(session, store, zarr_format=2)
    await store.put(".zgroup", b'{"zarr_format": 2}')
    assert kinds(await session.verify(store)) == {"foreign": [".zgroup"]}
    other = zs.MemoryStore()
    await grid(session, other)
    await other.put(".zattrs", b"{}")
    assert kinds(await session.verify(other)) == {"foreign": [".zattrs"]}


# Metadata


async def test_an_unreadable_node_is_reported_and_its_siblings_and_members_are_visited(
    session: zs.Session, store: zs.MemoryStore
) -> None:
    group = await hierarchy(session, store)
    await store.put("a/zarr.json", b"{")
    await store.put("deep/zarr.json", b"")
    await store.put("deep/er/b/c/1", b"")
    report = await group.verify()
    assert kinds(report) == {"metadata": ["a", "deep"], "corrupt": ["deep/er/b/c/1"]}
    assert node(report, "a").kind == "unreadable"
    assert node(report, "a").unchecked == 2
    assert "a/zarr.json" in node(report, "a").findings[0].what
    assert node(report, "deep").unchecked == 0
    assert node(report, "deep/er/b").chunks == 1


async def test_an_unreadable_root_is_reported(session: zs.Session, store: zs.MemoryStore) -> None:
    group = await hierarchy(session, store)
    await store.put("zarr.json", b"[]")
    for report in (await group.verify(), await session.verify(store)):
        assert kinds(report) == {"metadata": [""]}
        assert node(report, "deep/er/b").chunks == 2


async def test_an_array_with_unknown_codecs_is_reported_and_its_keys_are_classified(
    session: zs.Session, store: zs.MemoryStore
) -> None:
    await grid(session, store)
    blob = await store.get("zarr.json")
    assert blob is not None
    document = json.loads(bytes(blob.data))
    document["codecs"].append({"name": "of-the-future"})
    await store.put("zarr.json", json.dumps(document).encode())
    await store.put("c/9/9", b"x")
    report = await session.verify(store)
    assert kinds(report) == {"metadata": ["zarr.json"], "extra": ["c/9/9"]}
    assert node(report).findings[0].error == "UnsupportedFeature"
    assert node(report).unchecked == node(report).objects == 6
    assert "6 objects not checked" in str(report)


async def test_the_chunk_folders_of_an_unreadable_array_need_no_requests(session: zs.Session) -> None:
    store = FaultyStore(zs.MemoryStore())
    array = await session.create_array(store, shape=(50, 50), chunks=(1, 1), dtype="i1")
    await array[...].set(1)
    await store.put("zarr.json", b"{")
    store.clear()
    report = await session.verify(store)
    assert node(report).unchecked == 2500
    assert store.count("get") < 20


@FORMATS
async def test_correct_consolidated_metadata_is_no_finding(
    session: zs.Session, store: zs.MemoryStore, zarr_format: Any
) -> None:
    group = await hierarchy(session, store, zarr_format)
    await group.consolidate()
    report = await session.verify(store, strict=True)
    assert report.ok, str(report)
    assert len(report.nodes) == 5


@FORMATS
async def test_contradictions_of_consolidated_metadata_are_reported_per_member(
    session: zs.Session, store: zs.MemoryStore, zarr_format: Any
) -> None:
    group = await hierarchy(session, store, zarr_format)
    await group.create_array("gone", shape=(1,), dtype="i4")
    await group.consolidate()
    consolidated = {2: ".zmetadata", 3: "zarr.json"}[zarr_format]
    old = await store.get(consolidated)
    assert old is not None
    array = await session.open_array(store, path="a")
    await array.resize((2,))
    deep = await session.open_array(store, path="deep/er/b")
    await deep.update_attributes({"units": "km"})
    await session.create_array(store, path="deep/new", shape=(1,), dtype="i4", zarr_format=zarr_format)
    await session.delete(store, path="gone")
    await store.put(consolidated, old.data)  # as after edits by a program that does not update it
    document = {2: ".zarray", 3: "zarr.json"}[zarr_format]
    report = await session.verify(store)
    findings = {finding.key: finding.what for finding in report.of("metadata")}
    assert findings.keys() == {f"a/{document}", f"deep/er/b/{document}", f"deep/new/{document}", consolidated}
    assert findings[f"a/{document}"].endswith("metadata: shape")
    assert findings[f"deep/er/b/{document}"].endswith("metadata: attributes")
    assert "does not have it" in findings[f"deep/new/{document}"]
    assert "'gone'" in findings[consolidated]
    assert not report.ok
    await (await session.open_group(store)).consolidate()
    assert (await session.verify(store)).ok


async def test_v2_consolidated_metadata_is_checked_for_its_own_group_too(
    session: zs.Session, store: zs.MemoryStore
) -> None:
    group = await hierarchy(session, store, 2)
    await group.consolidate()
    await store.put(".zattrs", b'{"title": "y"}')
    assert [f.what for f in (await session.verify(store)).findings] == [
        "it differs from the consolidated metadata: attributes"
    ]
    await store.delete(".zgroup")
    findings = [f.what for f in (await session.verify(store)).findings]
    assert "it describes a group that has no .zgroup" in findings
    await store.put(".zmetadata", b"{}")
    assert kinds(await session.verify(store)) == {"metadata": [""]}


async def test_an_invalid_entry_of_consolidated_metadata_is_reported(
    session: zs.Session, store: zs.MemoryStore
) -> None:
    group = await hierarchy(session, store)
    await group.consolidate()
    blob = await store.get("zarr.json")
    assert blob is not None
    document = json.loads(bytes(blob.data))
    document["consolidated_metadata"]["metadata"]["a"]["shape"] = "many"
    document["consolidated_metadata"]["metadata"]["deep"]["node_type"] = "array"
    await store.put("zarr.json", json.dumps(document).encode())
    findings = {finding.key: finding.what for finding in (await session.verify(store)).findings}
    assert findings.keys() == {"a/zarr.json", "deep/zarr.json"}
    assert "is invalid" in findings["a/zarr.json"]


async def test_an_unreadable_member_is_reported_once_even_if_consolidated_metadata_contains_it(
    session: zs.Session, store: zs.MemoryStore
) -> None:
    group = await hierarchy(session, store)
    await group.consolidate()
    await store.put("a/zarr.json", b"{")
    report = await session.verify(store)
    assert kinds(report) == {"metadata": ["a"]}


# The store


async def test_objects_refused_by_the_store_are_reported_as_unreadable_and_do_not_end_the_check(
    session: zs.Session,
) -> None:
    store = FaultyStore(zs.MemoryStore())
    group = await hierarchy(session, store)
    denied = Fault(verb="get", key="a/c/1", times=None, error=lambda: zs.AccessDenied("no", key="a/c/1"))
    torn = Fault(verb="get", key="deep/er/b/c/0", times=None, error=lambda: zs.ChecksumMismatch("torn"))
    closed = Fault(verb="get", key="deep/zarr.json", times=None, error=lambda: zs.NetworkError("reset"))
    for fault in (denied, torn, closed):
        store.add(fault)
    report = await group.verify()
    assert kinds(report) == {"unreadable": ["a/c/1", "deep"], "corrupt": ["deep/er/b/c/0"]}
    assert {finding.error for finding in report.findings} == {"AccessDenied", "NetworkError", "ChecksumMismatch"}
    assert node(report, "a").findings[0].chunk == (1,)
    assert node(report, "a").chunks == node(report, "deep/er/b").chunks == 1
    assert session._leases.held == 0


@pytest.mark.parametrize("options", [{}, {"chunks": (1, 1), "shards": (2, 2)}], ids=["plain", "sharded"])
async def test_damage_in_transit_is_not_reported_as_corrupt(session: zs.Session, options: Any) -> None:
    store = FaultyStore(zs.MemoryStore())
    array = await grid(session, store, **options)
    store.add(Fault(verb="get", key="c/0/1", damage=lambda data: data[:-1]))
    assert (await array.verify(strict=True)).ok
    store.add(Fault(verb="get", key="c/0/1", times=None, damage=lambda data: data[:-1]))
    assert kinds(await array.verify()) == {"corrupt": ["c/0/1"]}


@pytest.mark.parametrize("error", [zs.BucketNotFound, zs.CredentialsExpired, zs.CredentialsNotFound, zs.WrongRegion])
@pytest.mark.parametrize("key", ["a/c/1", "deep/zarr.json"])
async def test_an_error_of_the_whole_store_ends_the_check(session: zs.Session, error: Any, key: str) -> None:
    store = FaultyStore(zs.MemoryStore())
    group = await hierarchy(session, store)
    store.add(Fault(verb="get", key=key, times=None, error=lambda: error("gone")))
    with pytest.raises(error):
        await group.verify()
    assert session._leases.held == 0


@pytest.mark.parametrize("verb", ["get", "list_prefix"])
async def test_verify_fails_if_the_root_or_the_listing_is_refused(session: zs.Session, verb: Any) -> None:
    store = FaultyStore(zs.MemoryStore())
    group = await hierarchy(session, store)
    store.add(Fault(verb=verb, times=None, error=lambda: zs.AccessDenied("no")))
    with pytest.raises(zs.AccessDenied):
        await group.verify()


async def test_verify_raises_node_not_found_for_an_empty_prefix(session: zs.Session, store: zs.MemoryStore) -> None:
    await store.put("x/y", b"z")
    with pytest.raises(zs.NodeNotFound):
        await session.verify(store)
    with pytest.raises(zs.ConfigError, match="max_findings"):
        await session.verify(store, max_findings=-1)


async def test_an_object_deleted_after_it_was_listed_is_missing(session: zs.Session) -> None:
    store = FaultyStore(zs.MemoryStore())
    array = await grid(session, store)
    store.add(Fault(verb="get", key="c/0/1", meanwhile=lambda: store.inner.delete("c/0/1")))
    report = await array.verify()
    assert report.ok
    assert kinds(report) == {"missing": ["c/0/1"]}
    assert report.counts["missing"] == 1


# The report


async def test_the_report_as_json_contains_all_findings(session: zs.Session, store: zs.MemoryStore) -> None:
    array = await grid(session, store)
    await store.put("c/0/1", b"\x1b[2J")
    await store.put("c/\x1b]0;evil\x07\n", b"")
    report = await array.verify()
    message = json.loads(report.to_json())
    assert message["ok"] is False
    assert message["counts"] == {**dict.fromkeys(message["counts"], 0), "corrupt": 1, "foreign": 1}
    (only,) = message["nodes"]
    assert only["chunks"] == 5
    assert [finding["kind"] for finding in only["findings"]] == ["corrupt", "foreign"]
    assert only["findings"][0]["chunk"] == [0, 1]
    assert only["findings"][0]["codec"] == "zstd"
    text = str(report)
    assert "\x1b" not in text
    assert len(text.splitlines()) == 4
    assert text.splitlines()[-1].startswith("memory://v: 2 findings; 7 objects of")


@settings(max_examples=20)
@given(st.data())
async def test_exactly_the_damaged_removed_and_added_objects_are_reported(data: Any) -> None:
    """Some objects are damaged, removed or added: the report names exactly these."""
    async with zs.Session() as session:
        store = zs.MemoryStore()
        array = await grid(session, store, compressor={"name": "zstd", "configuration": {"level": 1, "checksum": True}})
        keys = [f"c/{i}/{j}" for i in range(2) for j in range(3)]
        damaged = data.draw(st.sets(st.sampled_from(keys)))
        removed = data.draw(st.sets(st.sampled_from(keys))) - damaged
        added = data.draw(st.sets(st.sampled_from(["c/2/0", "c/0", "0.0", "x", "c/x"])))
        for key in damaged:
            blob = await store.get(key)
            assert blob is not None
            body = bytearray(blob.data)
            at = data.draw(st.integers(0, len(body) - 1))
            body[at] ^= 1 << data.draw(st.integers(0, 7))
            await store.put(key, body)
        for key in removed:
            await store.delete(key)
        for key in added:
            await store.put(key, b"")
        report = await array.verify()
    found = kinds(report)
    assert set(found.get("missing", ())) == removed
    assert {*found.get("extra", ()), *found.get("foreign", ())} == added
    assert set(found.get("corrupt", ())) <= damaged
    # A flipped bit that the decoder ignores has no effect: no checksum covers the header.
    for key in damaged - set(found.get("corrupt", ())):
        position = tuple(map(int, key.split("/")[1:]))
        start = tuple(2 * at for at in position)
        async with zs.Session() as session:
            again = await session.open_array(store)
            block = await again.get_slice(start, tuple(at + 2 for at in start))
        assert np.array_equal(block, np.arange(1, 25).reshape(4, 6)[start[0] : start[0] + 2, start[1] : start[1] + 2])
