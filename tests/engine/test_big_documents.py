"""Documents with many codecs, dimensions, fields or nodes are rejected, or read without blocking the event loop."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import pytest

import zarr_s3_async as zs
from tests.model.documents import zarr_json, zarray
from zarr_s3_async._model import formats

MANY = 200_000
BYTES = {"name": "bytes", "configuration": {"endian": "little"}}
ENDLESS: dict[str, dict[str, Any]] = {
    "codecs": {"zarr.json": zarr_json(codecs=[BYTES] * MANY)},
    "inner codecs": {
        "zarr.json": zarr_json(
            codecs=[{"name": "sharding_indexed", "configuration": {"chunk_shape": [1, 1], "codecs": [BYTES] * MANY}}]
        )
    },
    "transformers": {"zarr.json": zarr_json(storage_transformers=[{"name": "x", "must_understand": False}] * MANY)},
    "dimensions": {"zarr.json": zarr_json(shape=[1] * MANY)},
    "fields": {
        "zarr.json": zarr_json(data_type={"name": "struct", "configuration": {"fields": [["a", "int8"]] * MANY}})
    },
    "filters": {".zarray": zarray(filters=[{"id": "shuffle"}] * MANY)},
    "fields of v2": {".zarray": zarray(dtype=[["a", "<i4"]] * MANY)},
    "dimensions of v2": {".zarray": zarray(shape=[1] * MANY, chunks=[1] * MANY)},
}


def entered(monkeypatch: pytest.MonkeyPatch, *modules: Any) -> list[str]:
    """The names of the model's functions called from now on, one entry per call."""
    calls: list[str] = []
    for module, name in modules:
        original = getattr(module, name)

        def counted(*args: Any, _name: str = name, _original: Any = original, **options: Any) -> Any:
            calls.append(_name)
            return _original(*args, **options)

        monkeypatch.setattr(module, name, counted)
    return calls


@pytest.mark.parametrize("documents", ENDLESS.values(), ids=ENDLESS)
async def test_a_document_with_too_many_entries_is_refused_before_each_is_checked(
    session: zs.Session, documents: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from zarr_s3_async._model import chains, document, dtype_names, v3

    calls = entered(
        monkeypatch,
        *((chains, "named"), (chains, "_coder"), (v3, "named"), (document, "integer")),
        *((dtype_names, "_field_v3"), (dtype_names, "_field_v2")),
    )
    store = zs.MemoryStore()
    for name, content in documents.items():
        await store.put(name, json.dumps(content).encode())
    with pytest.raises((zs.UnsupportedFeature, zs.MetadataError), match=r"are not supported|1 to"):
        await session.open_array(store)
    assert len(calls) < 100


async def test_a_big_document_is_parsed_in_a_thread(session: zs.Session, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed_in: list[threading.Thread] = []
    parse = formats.parse_node

    def noted(*args: Any, **options: Any) -> Any:
        parsed_in.append(threading.current_thread())
        return parse(*args, **options)

    group = await session.create_group("memory://big")
    await group.create_array("small", shape=(1,), dtype="i4")
    await group.create_array("big", shape=(1,), dtype="i4", attributes={"text": "x" * 2**17})
    monkeypatch.setattr(formats, "parse_node", noted)
    await session.open_array("memory://big", path="small")
    await session.open_array("memory://big", path="big")
    assert [thread is threading.main_thread() for thread in parsed_in] == [True, False]


async def test_opening_can_be_cancelled_while_a_big_document_is_parsed(session: zs.Session) -> None:
    await session.create_array("memory://big", shape=(1,), dtype="i4", attributes={"text": "x" * 2**20})
    for turns in range(20):
        opening = asyncio.ensure_future(session.open_array("memory://big"))
        for _ in range(turns):
            await asyncio.sleep(0)
        opening.cancel()
        await asyncio.wait([opening])
    assert (await session.open_array("memory://big")).shape == (1,)
