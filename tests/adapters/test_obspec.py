"""obspec's protocols over our stores: its signatures, results as obstore's, and obspec's names of errors."""

from __future__ import annotations

import inspect
import io
import pickle
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import zarr_s3_async as zs
from zarr_s3_async.adapters.obspec import (
    AlreadyExistsError,
    NotFoundError,
    NotSupportedError,
    ObspecStore,
    PreconditionError,
)
from zarr_s3_async.testing import FaultyStore
from zarr_s3_async.testing.faulty_store import Fault

DATA = bytes(range(100))


@pytest.fixture(params=["memory", "local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObspecStore:
    if request.param == "memory":
        return ObspecStore(zs.MemoryStore())
    if request.param == "local":
        return ObspecStore(tmp_path)
    seaweed: Any = request.getfixturevalue("seaweed")
    return ObspecStore(request.getfixturevalue("s3_url"), s3=seaweed.s3_config())


@pytest.mark.parametrize(
    "protocol",
    ["Get", "GetRange", "GetRanges", "Head"]
    + [f"{name}Async" for name in ("Get", "GetRange", "GetRanges", "Head", "Put", "Copy", "Delete", "List")]
    + ["ListWithDelimiterAsync"],
)
def test_methods_have_the_signatures_of_obspec(protocol: str) -> None:
    obspec = pytest.importorskip("obspec")
    methods = {name: value for name, value in vars(getattr(obspec, protocol)).items() if inspect.isfunction(value)}
    for name, wanted in methods.items():
        if name.startswith("_"):
            continue
        parameters = inspect.signature(getattr(ObspecStore, name)).parameters
        for parameter in inspect.signature(wanted).parameters.values():
            assert parameters[parameter.name].kind == parameter.kind, (name, parameter.name)


@pytest.mark.integration
async def test_get_returns_bytes_and_ranges(store: ObspecStore) -> None:
    put = await store.put_async("x", DATA)
    result = await store.get_async("x")
    assert bytes(await result.buffer_async()) == bytes(result.buffer()) == b"".join(result) == DATA
    assert b"".join([bytes(piece) async for piece in result]) == DATA
    assert (result.range, result.meta["size"], result.meta["e_tag"]) == ((0, 100), 100, put["e_tag"])
    assert abs(result.meta["last_modified"] - datetime.now(UTC)) < timedelta(days=1)
    for requested, part in (
        ((5, 9), (5, 9)),
        ([95, 120], (95, 100)),
        ({"offset": 90}, (90, 100)),
        ({"suffix": 7}, (93, 100)),
    ):
        result = await store.get_async("x", options={"range": requested})
        assert bytes(result.buffer()) == DATA[slice(*part)]
        assert result.range == part
    assert bytes(await store.get_range_async("x", start=3, end=8)) == DATA[3:8]
    assert bytes(await store.get_range_async("x", start=3, length=8)) == DATA[3:11]
    for lengths in ({"ends": [5, 50, 51]}, {"lengths": [5, 10, 1]}):
        found = await store.get_ranges_async("x", starts=[0, 40, 50], **lengths)
        assert [bytes(part) for part in found] == [DATA[0:5], DATA[40:50], DATA[50:51]]
    head = await store.head_async("x")
    assert (head["path"], head["size"], head["e_tag"]) == ("x", 100, put["e_tag"])
    result = await store.get_async("x", options={"head": True, "if_match": head["e_tag"]})
    assert (bytes(result.buffer()), result.meta) == (b"", head)


@pytest.mark.integration
def test_blocking_methods_return_the_same(store: ObspecStore) -> None:
    from zarr_s3_async._concurrency.loop_thread import background_loop

    background_loop().run(store.put_async("x", DATA))
    assert bytes(store.get("x").buffer()) == DATA
    assert bytes(store.get_range("x", start=3, end=8)) == DATA[3:8]
    assert [bytes(part) for part in store.get_ranges("x", starts=[0, 9], lengths=[2, 2])] == [DATA[0:2], DATA[9:11]]
    assert store.head("x")["size"] == 100


@pytest.mark.integration
async def test_conditional_puts_and_gets_are_respected(store: ObspecStore) -> None:
    first = await store.put_async("x", b"first", mode="create")
    with pytest.raises(AlreadyExistsError):
        await store.put_async("x", b"second", mode="create")
    second = await store.put_async("x", b"second", mode={"e_tag": first["e_tag"]})
    with pytest.raises(PreconditionError):
        await store.put_async("x", b"third", mode={"e_tag": first["e_tag"]})
    with pytest.raises(PreconditionError):
        await store.get_async("x", options={"if_match": first["e_tag"]})
    assert bytes((await store.get_async("x", options={"if_match": second["e_tag"]})).buffer()) == b"second"


@pytest.mark.integration
async def test_an_absent_object_raises_not_found(store: ObspecStore) -> None:
    for call in (
        store.get_async("x"),
        store.get_range_async("x", start=0, end=1),
        store.get_ranges_async("x", starts=[0, 900], lengths=[1, 1]),
        store.head_async("x"),
        store.copy_async("x", "y"),
    ):
        with pytest.raises(NotFoundError) as caught:
            await call
        assert isinstance(caught.value, FileNotFoundError)
    await store.delete_async("x")
    await store.delete_async(["x", "y"])


@pytest.mark.integration
async def test_objects_are_listed_copied_and_deleted(store: ObspecStore, tmp_path: Path) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for piece in (b"ab", b"cd"):
            yield piece

    outside = tmp_path.parent / f"{tmp_path.name}-file"
    outside.write_bytes(b"abcd")
    sources: dict[str, Any] = {
        "a/bytes": b"abcd",
        "a/b/view": memoryview(b"xabcdx")[1:5],
        "a/file": io.BytesIO(b"abcd"),
        "a/path": outside,
        "ab/pieces": [b"ab", bytearray(b"cd")],
        "ab/stream": pieces(),
    }
    for path, source in sources.items():
        await store.put_async(path, source)
    await store.copy_async("a/bytes", "a/copy")
    with pytest.raises(AlreadyExistsError):
        await store.copy_async("a/bytes", "a/copy", overwrite=False)
    keys = sorted([*sources, "a/copy"])
    assert [entry["path"] async for page in store.list_async() for entry in page] == keys
    below = [key for key in keys if key.startswith("a/")]
    for prefix in ("a", "a/"):
        found = [entry async for page in store.list_async(prefix, offset="a/bytes") for entry in page]
        assert [entry["path"] for entry in found] == [key for key in below if key > "a/bytes"]
        assert all(entry["size"] == 4 for entry in found)
        level = await store.list_with_delimiter_async(prefix)
        assert list(level["common_prefixes"]) == ["a/b"]
        assert [entry["path"] for entry in level["objects"]] == [key for key in below if key != "a/b/view"]
    await store.delete_async("a/file")
    await store.delete_async([key for key in below if key != "a/copy"])
    assert [entry["path"] async for page in store.list_async("a") for entry in page] == ["a/copy"]


async def test_unsupported_options_are_refused() -> None:
    store = ObspecStore(zs.MemoryStore())
    await store.put_async("x", DATA)
    for options in ({"if_none_match": "*"}, {"version": "3"}, {"rnage": (0, 1)}):
        with pytest.raises(NotSupportedError):
            await store.get_async("x", options=options)
    for more in ({"attributes": {"Content-Type": "text/plain"}}, {"tags": {"a": "b"}}):
        with pytest.raises(NotSupportedError):
            await store.put_async("x", b"", **more)
    for wrong in ((0,), {"ofset": 3}, {"offset": 3, "suffix": 2}, "0-5", 7):
        with pytest.raises(TypeError):
            await store.get_async("x", options={"range": wrong})
    for mode in ("update", {"version": "3"}, {"etag": "3"}):
        with pytest.raises(TypeError):
            await store.put_async("x", b"", mode=mode)
    for missing in ({}, {"end": 3, "length": 3}):
        with pytest.raises(TypeError):
            await store.get_range_async("x", start=0, **missing)
    assert bytes((await store.get_async("x")).buffer()) == DATA


async def test_a_missing_bucket_is_not_reported_as_an_absent_object() -> None:
    gone = Fault(times=None, error=lambda: zs.BucketNotFound("gone", bucket="b"))
    store = ObspecStore(FaultyStore(zs.MemoryStore(), gone))

    async def listed() -> None:
        async for _ in store.list_async():
            pass

    for call in (
        store.get_async("x"),
        store.get_ranges_async("x", starts=[0], lengths=[1]),
        store.head_async("x"),
        store.put_async("x", b""),
        store.delete_async("x"),
        store.delete_async(["x"]),
        store.list_with_delimiter_async(),
        listed(),
    ):
        with pytest.raises(zs.StoreError, match="gone") as caught:
            await call
        assert not isinstance(caught.value, FileNotFoundError)


def test_errors_have_the_names_of_obspec() -> None:
    exceptions = pytest.importorskip("obspec.exceptions")
    for error in (NotFoundError("x"), AlreadyExistsError("x"), PreconditionError("x"), NotSupportedError("x")):
        assert type(exceptions.map_exception(error)).__name__ == type(error).__name__
        assert isinstance(exceptions.map_exception(error), exceptions.BaseError)


def test_an_obspec_store_pickles_as_a_reference(tmp_path: Path) -> None:
    store = ObspecStore(tmp_path)
    assert pickle.loads(pickle.dumps(store)) == store
    assert ObspecStore("s3://bucket/x", region="eu-central-1") != ObspecStore("s3://bucket/x")
    with pytest.raises(TypeError):
        pickle.dumps(ObspecStore(zs.MemoryStore()))
