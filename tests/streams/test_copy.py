"""Copies equal their sources, whatever options change, and chunks are copied encoded where possible."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any, Self
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import zarr_s3_async as zs
from zarr_s3_async._concurrency.limiter import Limiter
from zarr_s3_async.codecs.pipeline import Pipeline
from zarr_s3_async.testing.strategies import chunks_for, shards_for

from .grids import CODECS, Counting, arrays, nothing_left, regions, same

RECORD, PIECE = ".zarr-copy", ".zarr-copy-piece-"


class Coded:
    """Counts chunks encoded and decoded inside the context."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()

    def __enter__(self) -> Self:
        encode, decode, calls = Pipeline.encode, Pipeline.decode, self.calls

        def counted_encode(pipeline: Pipeline, chunk: Any) -> Any:
            calls["encode"] += pipeline.chunk.dtype != np.uint64 or pipeline.chunk.shape[-1:] != (2,)
            return encode(pipeline, chunk)

        def counted_decode(pipeline: Pipeline, data: Any, out: Any = None) -> Any:
            # Shard indexes use a pipeline, too, but are not chunks.
            calls["decode"] += pipeline.chunk.dtype != np.uint64 or pipeline.chunk.shape[-1:] != (2,)
            return decode(pipeline, data, out)

        self._patches = [
            mock.patch.object(Pipeline, "encode", counted_encode),
            mock.patch.object(Pipeline, "decode", counted_decode),
        ]
        for patch in self._patches:
            patch.start()
        return self

    def __exit__(self, *_: object) -> None:
        for patch in self._patches:
            patch.stop()


@st.composite
def changes(draw: st.DrawFn, shape: tuple[int, ...], source: dict[str, Any]) -> dict[str, Any]:
    """Options for a copy of an array that was created with `source`."""
    options: dict[str, Any] = {}
    zarr_format = draw(st.sampled_from((2, 3)))
    if zarr_format != source["zarr_format"] or draw(st.booleans()):
        options["zarr_format"] = zarr_format
    if draw(st.booleans()):
        options["compressor"] = draw(st.sampled_from(CODECS))
    if draw(st.booleans()):
        options["chunks"] = draw(chunks_for(shape, max_chunks=40))
    if "chunks" not in options and isinstance(source["chunks"], list) and zarr_format == 2:
        options["chunks"] = draw(chunks_for(shape, max_chunks=40))
    needed = "chunks" in options and "shards" in source
    if zarr_format == 3 and (
        needed or (("chunks" in options or isinstance(source["chunks"], tuple)) and draw(st.booleans()))
    ):
        chunks = options.get("chunks", source["chunks"])
        options["shards"] = draw(st.none() | shards_for(chunks, max_factor=3))
    return options


@given(case=arrays(), more=st.data())
def test_a_copy_is_equal_to_its_source(case: tuple[np.ndarray[Any, Any], dict[str, Any]], more: st.DataObject) -> None:
    data, made = case
    options = more.draw(changes(data.shape, made))
    region = more.draw(st.none() | regions(data.shape))
    max_bytes = more.draw(st.sampled_from((1, 64, 500, 2**28)))

    async def run() -> None:
        stores = Counting(), Counting()
        async with zs.Session() as session:
            source = await session.create_array(stores[0], path="s", **made)
            await source[...].set(data)
            await source.update_attributes({"unit": "K", "of": [1, None]})
            for store in stores:
                store.clear()
            reports: list[zs.Progress] = []
            plan = await zs.plan_copy(source, stores[1], path="a/b", region=region, max_bytes=max_bytes, **options)
            assert not stores[1].puts
            target = await plan.run(progress=reports.append, verify=True)
            assert isinstance(target, zs.Array)
            wanted = data if region is None else data[(*region, ...)]
            assert same(np.asarray(await target[...]), wanted)
            assert same(np.asarray(await (await session.open_array(stores[1], path="a/b"))[...]), wanted)
            assert target.attrs["unit"] == "K"
            assert target.attrs["of"] == [1, None]
            assert target.metadata.zarr_format == options.get("zarr_format", made["zarr_format"])
            assert not [key async for key in stores[1].list_prefix() if PIECE in key.key]
            assert set(stores[1].puts.values()) <= {1}
            if reports:
                assert reports[-1].done == reports[-1].total == sum(array.units() for array in plan.arrays)
            report = await target.verify()
            assert report.ok, str(report)
            assert {finding.kind for finding in report.findings} <= {"missing"}, str(report)
            nothing_left(session, *stores)

    asyncio.run(run())


@given(case=arrays(), more=st.data())
def test_no_chunk_is_decoded_if_only_keys_and_metadata_change(
    case: tuple[np.ndarray[Any, Any], dict[str, Any]], more: st.DataObject
) -> None:
    data, made = case
    made["dtype"] = (
        np.dtype(made["dtype"]).newbyteorder("<") if np.dtype(made["dtype"]).names is None else made["dtype"]
    )
    options: dict[str, Any] = {}
    regular = isinstance(made["chunks"], tuple)
    if np.dtype(made["dtype"]).kind in "biufc" and "shards" not in made and regular and more.draw(st.booleans()):
        options["zarr_format"] = 5 - made["zarr_format"]
    zarr_format = options.get("zarr_format", made["zarr_format"])
    if zarr_format == 3 and regular and more.draw(st.booleans()):
        options["shards"] = more.draw(st.none() | shards_for(made["chunks"], max_factor=3))
    if zarr_format == 3 and more.draw(st.booleans()):
        options["chunk_key_encoding"] = "v2"
    elif more.draw(st.booleans()):
        options["dimension_separator"] = more.draw(st.sampled_from("./"))

    async def run() -> None:
        stores = Counting(), Counting()
        async with zs.Session() as session:
            source = await session.create_array(stores[0], **made)
            await source[...].set(data)
            for store in stores:
                store.clear()
            with Coded() as coded:
                plan = await zs.plan_copy(source, stores[1], **options)
                target = await plan.run()
            assert not coded.calls["decode"]
            assert not coded.calls["encode"]
            assert plan.decoded_bytes == 0
            assert same(np.asarray(await target[...]), data)  # type: ignore[index]  # an array
            if source.shards is None:
                assert set(stores[0].chunk_gets()) <= {1}
            assert set(stores[1].puts.values()) <= {1}

    asyncio.run(run())


async def test_chunks_are_decoded_if_another_codec_is_requested() -> None:
    async with zs.Session() as session:
        source = await session.create_array(zs.MemoryStore(), shape=8, chunks=2, dtype="i4", compressor="zstd")
        await source[...].set(np.arange(8))
        for options in ({"compressor": {"id": "zstd", "level": 9}}, {"codecs": ["gzip"]}, {"compressor": None}):
            with Coded() as coded:
                target = await zs.copy(source, zs.MemoryStore(), **options)  # type: ignore[arg-type]  # of several kinds
            assert coded.calls["decode"] == 4
            assert (await target[...] == np.arange(8)).all()  # type: ignore[index]  # an array


async def test_a_copy_of_a_region_that_cuts_chunks_has_no_data_from_outside_the_region() -> None:
    async with zs.Session() as session:
        source = await session.create_array(zs.MemoryStore(), shape=8, chunks=4, dtype="i4")
        await source[...].set(np.arange(1, 9))
        target = await zs.copy(source, zs.MemoryStore(), region=np.s_[0:6])
        assert isinstance(target, zs.Array)
        await target.resize(8)
        assert (await target[...]).tolist() == [1, 2, 3, 4, 5, 6, 0, 0]


@pytest.mark.parametrize("options", [{}, {"compressor": "gzip"}, {"chunks": (2, 2), "zarr_format": 2}], ids=str)
async def test_a_region_of_an_array_with_chunks_of_different_lengths_is_copied(options: dict[str, Any]) -> None:
    async with zs.Session() as session:
        source = await session.create_array(zs.MemoryStore(), shape=(7, 6), chunks=[[3, 1, 3], [2, 4]], dtype="i4")
        data = np.arange(42).reshape(7, 6)
        await source[...].set(data)
        target = await zs.copy(source, zs.MemoryStore(), region=np.s_[2:6, 1:6], verify=True, **options)
        assert isinstance(target, zs.Array)
        assert (await target[...] == data[2:6, 1:6]).all()
        if "chunks" not in options:
            assert target.chunk_sizes == ((1, 1, 2), (1, 4))
        whole = await zs.copy(source, zs.MemoryStore(), verify=True, **options)
        assert isinstance(whole, zs.Array)
        assert (await whole[...] == data).all()


async def test_a_plan_shows_its_cost_before_anything_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    store, other = Counting(), Counting()
    async with zs.Session() as session:
        source = await session.create_array(store, shape=(64, 64), chunks=(64, 1), dtype="f4", compressor=None)
        await source[...].set(np.random.default_rng(0).random((64, 64)))
        store.clear()
        plan = await zs.plan_copy(source, other, chunks=(1, 64), max_bytes=4096)
        assert not store.gets
        assert [stage.what[:8] for stage in plan.stages] == ["read and", "put toge"]
        assert plan.memory_bytes == 4096
        assert plan.stages[0].box == (64, 4)
        plan.print()
        text = capsys.readouterr().out
        assert "intermediate" in text
        assert "$" in text
        assert json.loads(json.dumps(plan.as_dict()))["put_requests"] == plan.put_requests
        await plan.run()
        assert sum(store.chunk_gets()) + sum(other.chunk_gets()) <= plan.get_requests + 3
        assert set(store.chunk_gets()) == {1}, "each chunk of the source is read once"
        puts = sum(n for key, n in other.puts.items() if key not in ("zarr.json", RECORD))
        assert puts == plan.put_requests
        direct = await zs.plan_copy(source, Counting(), chunks=(1, 64))
        assert [stage.what for stage in direct.stages] == ["read and write"]


class Peak(Limiter):
    """Records the peak weight held."""

    peak = 0

    async def acquire(self, weight: int = 1) -> None:
        await super().acquire(weight)
        self.peak = max(self.peak, self.held)


async def test_memory_of_a_rechunking_stays_within_max_bytes() -> None:
    async with zs.Session() as session:
        source = await session.create_array(Counting(), shape=(64, 64), chunks=(64, 1), dtype="f4")
        await source[...].set(np.random.default_rng(0).random((64, 64)))
        for max_bytes in (2000, 4096, 10_000):
            plan = await zs.plan_copy(source, Counting(), chunks=(1, 64), max_bytes=max_bytes)
            plan.arrays[0].memory.limiter = memory = Peak(max_bytes)
            await plan.run(verify=True)
            assert 0 < memory.peak <= max_bytes
            assert memory.held == 0


async def test_the_arrays_of_a_group_share_max_bytes() -> None:
    async with zs.Session() as session:
        group = await session.create_group(zs.MemoryStore())
        data = np.random.default_rng(0).random((64, 64))
        for name in "abcd":
            array = await group.create_array(name, shape=(64, 64), chunks=(64, 1), dtype="f4")
            await array[...].set(data)
        chunks = dict.fromkeys("abcd", (1, 64))
        plan = await zs.plan_copy(group, zs.MemoryStore(), chunks=chunks, max_bytes=4096)
        memory = Peak(4096)
        for one in plan.arrays:
            one.memory.limiter = memory
        assert len({id(one.memory) for one in plan.arrays}) == 1
        await plan.run(verify=True)
        assert 0 < memory.peak <= 4096


async def test_a_plan_reports_that_it_needs_more_than_max_bytes() -> None:
    async with zs.Session() as session:
        source = await session.create_array(zs.MemoryStore(), shape=(64, 64), chunks=(64, 1), dtype="f4")
        fits = await zs.plan_copy(source, zs.MemoryStore(), chunks=(1, 64), max_bytes=256)
        assert "exceeded" not in str(fits)
        exceeds = await zs.plan_copy(source, zs.MemoryStore(), chunks=(1, 64), max_bytes=100)
        assert "max_bytes=100 is too small and will be exceeded" in str(exceeds)
        assert "takes 256 bytes" in str(exceeds)


async def make_group(session: zs.Session, store: Any, zarr_format: Any = 3) -> zs.Group:
    group = await session.create_group(store, path="root", attributes={"title": "all"}, zarr_format=zarr_format)
    inner = await group.create_group("inner", attributes={"level": 2})
    for parent, name in ((group, "one"), (inner, "two")):
        array = await parent.create_array(
            name, shape=(6, 4), chunks=(2, 4), dtype="i4", dimension_names=("t", "x"), attributes={"units": "m"}
        )
        await array[...].set(np.arange(24).reshape(6, 4))
    return await session.open_group(store, path="root")


@pytest.mark.parametrize("to", [2, 3])
@pytest.mark.parametrize("zarr_format", [2, 3])
async def test_a_group_is_copied_with_all_its_members(zarr_format: Any, to: Any) -> None:
    store, other = Counting(), Counting()
    async with zs.Session() as session:
        group = await make_group(session, store, zarr_format)
        await group.consolidate()
        target = await zs.copy(
            await session.open_group(store, path="root"),
            other,
            zarr_format=to,
            chunks={"inner/two": (3, 4)},
            verify=True,
        )
        assert isinstance(target, zs.Group)
        found = await session.open_group(other)
        assert found.metadata.zarr_format == to
        assert found.metadata.consolidated is not None, "consolidated as the source is"
        assert found.attrs == {"title": "all"}
        inner = await found.open("inner")
        assert inner.attrs == {"level": 2}
        two = await found.open("inner/two")
        one = await found.open("one")
        assert isinstance(one, zs.Array)
        assert isinstance(two, zs.Array)
        assert (one.chunks, two.chunks) == ((2, 4), (3, 4))
        assert one.dimension_names == two.dimension_names == ("t", "x")
        assert one.attrs["units"] == "m"
        assert (await two[...] == np.arange(24).reshape(6, 4)).all()
        report = await found.verify()
        assert report.ok, str(report)


async def test_verify_reports_a_difference_between_copy_and_source() -> None:
    store, other = zs.MemoryStore(), Counting()
    async with zs.Session() as session:
        source = await session.create_array(store, shape=8, chunks=2, dtype="i4")
        await source[...].set(np.arange(8))
        swapped = False

        async def before(what: str, key: str) -> None:
            nonlocal swapped
            if what == "put" and key == "zarr.json" and not swapped:
                swapped = True
                await store.put("c/2", bytes((await store.get("c/1")).data))  # type: ignore[union-attr]  # it is there

        other.before = before
        with pytest.raises(zs.VerificationFailed, match="differ"):
            await zs.copy(source, other, verify=True)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"chunk": 2}, "chunk"),
        ({"compressors": None}, "compressor"),
        ({"zarr_format": 4}, "zarr_format"),
        ({"zarr_format": "2"}, "zarr_format"),
        ({"max_bytes": 0}, "max_bytes"),
        ({"overwrite": 1}, "overwrite"),
        ({"verify": "yes"}, "verify"),
        ({"resume": None}, "resume"),
        ({"progress": "bar"}, "progress"),
        ({"chunks": (2, 2)}, "chunks|dimension"),
        ({"shards": 3, "chunks": 2}, "shards"),
        ({"codecs": ["gzip"], "compressor": None}, "codecs"),
        ({"codecs": ["gzpi"]}, "gzpi"),
        ({"dimension_separator": "-"}, "separator"),
    ],
    ids=str,
)
async def test_an_invalid_option_is_refused_before_anything_is_written(options: dict[str, Any], match: str) -> None:
    store = Counting()
    async with zs.Session() as session:
        source = await session.create_array(zs.MemoryStore(), shape=8, chunks=2, dtype="i4")
        with pytest.raises((zs.ConfigError, zs.UnsupportedFeature, zs.MetadataError), match=match):
            await zs.copy(source, store, **options)
    assert not store.puts


class WithoutListings(zs.MemoryStore):
    """A store without listings, like a web server."""

    def list_prefix(self, prefix: str = "") -> Any:
        raise zs.Unsupported("no listing")


@pytest.mark.parametrize("options", [{}, {"shards": (4, 4)}, {"chunks": (1, 4), "max_bytes": 64}], ids=str)
async def test_a_source_without_listings_is_copied_and_never_taken_for_unchanged(options: dict[str, Any]) -> None:
    store, other = WithoutListings("unlisted"), Counting()
    async with zs.Session() as session:
        listed = zs.MemoryStore("unlisted")
        listed._objects = store._objects
        made = await session.create_array(listed, shape=(4, 4), chunks=(4, 1), dtype="i4")
        await made[:, 0:3].set(np.arange(1, 13).reshape(4, 3))
        source = await session.open_array(store)

        async def broken(what: str, key: str) -> None:
            if what == "put" and key == "zarr.json":
                raise zs.NetworkError("gone", key=key)

        other.before = broken
        with pytest.raises(zs.NetworkError):
            await zs.copy(source, other, **options)
        other.before = None
        await made[:, 0].set(9)
        target = await zs.copy(source, other, verify=True, **options)
        assert (await target[...] == await made[...]).all()  # type: ignore[index]  # an array


async def test_impossible_targets_are_refused() -> None:
    store = zs.MemoryStore()
    async with zs.Session() as session:
        group = await make_group(session, store)
        source = await session.open_array(store, path="root/one")
        with pytest.raises(zs.ConfigError, match="is inside the source"):
            await zs.copy(source, store, path="root/one")
        with pytest.raises(zs.ConfigError, match="is inside the source"):
            await zs.copy(group, store, path="root/inner/copy")
        with pytest.raises(zs.ConfigError, match="the target must be a URL"):
            await zs.copy(source, source)  # type: ignore[arg-type]  # on purpose
        with pytest.raises(zs.ConfigError, match="region"):
            await zs.copy(group, zs.MemoryStore(), region=np.s_[0:1])
        with pytest.raises(zs.ConfigError, match="chunks must map paths"):
            await zs.copy(group, zs.MemoryStore(), chunks=(2, 2))
        with pytest.raises(zs.ConfigError, match="names 'inner/tow'"):
            await zs.copy(group, zs.MemoryStore(), chunks={"inner/tow": (2, 2)})
        with pytest.raises(zs.ConfigError, match="session"):
            await zs.copy(source, zs.MemoryStore(), session=session)
        with pytest.raises(zs.NodeNotFound):
            await zs.copy(zs.MemoryStore(), store, path="x", session=session)


async def test_a_source_given_by_url_is_opened() -> None:
    store, other = zs.MemoryStore(), zs.MemoryStore()
    async with zs.Session() as session:
        await make_group(session, store)
        await zs.copy(store.below("root/inner"), other, session=session)
        assert await session.exists(other, path="two")


@pytest.mark.parametrize("dtype", [str, bytes])
async def test_elements_of_variable_length_are_copied_in_every_way(dtype: Any) -> None:
    async with zs.Session() as session:
        words = np.array([["a", "bc", ""], ["déf", "x" * 99, "z"]], dtype=object)
        data = words if dtype is str else np.vectorize(str.encode, otypes=[object])(words)
        for zarr_format in (2, 3):
            source = await session.create_array(
                zs.MemoryStore(), shape=(2, 3), chunks=(2, 1), dtype=dtype, zarr_format=zarr_format
            )
            await source[...].set(data)
            for options in (
                {},
                {"zarr_format": 5 - zarr_format},
                {"chunks": (1, 3), "max_bytes": 1},
                {"chunks": (1, 3), "zarr_format": 5 - zarr_format, "compressor": "gzip"},
            ):
                target = await zs.copy(source, zs.MemoryStore(), verify=True, **options)  # type: ignore[arg-type]  # of several kinds
                assert (await target[...] == data).all()  # type: ignore[index]  # an array


@pytest.mark.parametrize("change", ["data", "chunk", "shape", "replaced"])
async def test_a_plan_made_for_an_older_state_of_its_source_is_not_run(change: str) -> None:
    """It would skip chunks that were absent, and keep chunks copied from the older state."""
    async with zs.Session() as session:
        place = session.store("memory://sources/a")
        source = await session.create_array(place, shape=8, chunks=2, dtype="i4")
        await source[0:4].set(np.arange(1, 5))
        plan = await zs.plan_copy(source, "memory://copies/a")
        assert isinstance(await plan.run(), zs.Array)
        assert isinstance(await plan.run(), zs.Array)  # nothing has changed, so it may be run again
        plan = await zs.plan_copy(source, "memory://copies/b")
        other = await session.open_array(place)
        if change == "data":
            await other[0:2].set(9)
        elif change == "chunk":
            await other[6:8].set(9)
        elif change == "shape":
            await other.resize(3)
        else:
            await session.create_array(place, shape=8, chunks=2, dtype="f4", overwrite=True)
        with pytest.raises(zs.ConcurrentModification, match="has changed since"):
            await plan.run()
        with pytest.raises(zs.NodeNotFound):
            await session.open_array("memory://copies/b")


@pytest.mark.parametrize("spelling", ["itself", "by a link", "with ..", "above", "above by a link"])
async def test_no_copy_removes_its_own_source(spelling: str, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    name = {
        "itself": "real/group/a",
        "by a link": "link/group/a",
        "with ..": "real/group/../group/a",
        "above": "real/group",
        "above by a link": "link/group",
    }[spelling]
    async with zs.Session() as session:
        await session.create_group(tmp_path / "real/group")
        source = await session.create_array(tmp_path / "real/group/a", shape=4, chunks=2, dtype="i4")
        await source[...].set([1, 2, 3, 4])
        with pytest.raises(zs.ConfigError, match="choose another target"):
            await zs.copy(source, zs.LocalStore(f"{tmp_path}/{name}"), overwrite=True)
        assert (await source[...]).tolist() == [1, 2, 3, 4]
