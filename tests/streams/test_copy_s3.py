"""Copies on a real S3 server: inside the service if bytes do not change, otherwise through this process."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest

import zarr_s3_async as zs
from zarr_s3_async.stores.base import SupportsCopy
from zarr_s3_async.testing.local_s3 import LocalS3, MotoS3

pytestmark = pytest.mark.integration

DATA = np.arange(1, 65, dtype="f4").reshape(8, 8)


@pytest.fixture(params=["seaweed", "moto"])
def server(request: pytest.FixtureRequest) -> LocalS3 | MotoS3:
    return request.getfixturevalue("seaweed" if request.param == "seaweed" else "moto_s3")


@pytest.fixture
async def session(server: LocalS3 | MotoS3) -> AsyncIterator[zs.Session]:
    async with zs.Session(s3=server.s3_config()) as session:
        yield session


@pytest.fixture
def url(server: LocalS3 | MotoS3) -> str:
    return f"s3://{server.bucket}/{secrets.token_hex(6)}"


@pytest.mark.parametrize("options", [{}, {"shards": (4, 4)}], ids=["plain", "sharded"])
async def test_unchanged_chunks_are_copied_inside_the_service(
    session: zs.Session, url: str, options: dict[str, Any]
) -> None:
    source = await session.create_array(f"{url}/a b+c%/ä", shape=(8, 8), chunks=(2, 4), dtype="f4", **options)
    await source[...].set(DATA)
    plan = await zs.plan_copy(source, f"{url}/copy", chunk_key_encoding="v2")
    objects = 4 if options else 8
    assert plan.stages[0].copy_requests == objects
    before = session.metrics.requests.copy()
    received = session.metrics.bytes_received
    target = await plan.run()
    made = session.metrics.requests - before
    assert made["CopyObject"] == objects
    assert made["PutObject"] == 2, "the record and the metadata"
    assert session.metrics.bytes_received - received < 20_000
    assert (await target[...] == DATA).all()  # type: ignore[index]  # an array
    again = session.metrics.requests.copy()
    await zs.copy(source, f"{url}/copy", chunk_key_encoding="v2")
    assert not (session.metrics.requests - again)["CopyObject"], "a second run finds that all chunks are copied"


async def test_copying_an_absent_object_returns_none_and_changes_nothing(session: zs.Session, url: str) -> None:
    one, other = session.store(f"{url}/one"), session.store(f"{url}/other")
    assert isinstance(other, SupportsCopy)
    assert other.copies_from(one)
    assert not other.copies_from(zs.MemoryStore())
    await one.put("x", b"bytes")
    version = await other.copy_from(one, "x", "y/z")
    blob = await other.get("y/z")
    assert blob is not None
    assert bytes(blob.data) == b"bytes"
    assert blob.version.strip('"') == str(version).strip('"')
    assert await other.copy_from(one, "no", "y/z") is None
    assert (await other.get("y/z")) is not None


async def test_chunks_are_copied_through_this_process_if_the_service_cannot_or_refuses(
    session: zs.Session, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = await session.create_array(f"{url}/a", shape=(8, 8), chunks=(2, 4), dtype="f4")
    await source[...].set(DATA)

    async def refused(*_: object) -> None:
        raise zs.AccessDenied("no GetObjectTagging")

    monkeypatch.setattr(zs.S3Store, "copy_from", refused)
    target = await zs.copy(source, f"{url}/b", verify=True)
    assert (await target[...] == DATA).all()  # type: ignore[index]  # an array


async def test_arrays_are_copied_between_stores_of_every_kind(session: zs.Session, url: str, tmp_path: Any) -> None:
    source = await session.create_array(f"{url}/a", shape=(8, 8), chunks=(2, 4), dtype="f4", attributes={"unit": "K"})
    await source[...].set(DATA)
    local = await zs.copy(source, tmp_path / "local", zarr_format=2)
    assert isinstance(local, zs.Array)
    sharded = await zs.copy(local, f"{url}/b", zarr_format=3, shards=(8, 8), verify=True)
    assert isinstance(sharded, zs.Array)
    back = await zs.copy(sharded, zs.MemoryStore(), chunks=(3, 3), shards=None, max_bytes=1, verify=True)
    assert (await back[...] == DATA).all()  # type: ignore[index]  # an array
    assert back.attrs == {"unit": "K"}
