"""Uploads in parts on servers: SeaweedFS heeds their preconditions, moto half of them, and both keep the promise."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import zarr_s3_async as zs
from zarr_s3_async.byte_range import Span
from zarr_s3_async.stores.s3 import unbroken

pytestmark = pytest.mark.integration

MIB = 2**20
BODY = np.random.default_rng(3).bytes(5 * MIB + 7)
"""Two parts."""


def small(config: zs.S3Config, **more: Any) -> zs.S3Config:
    return replace(config, multipart_bytes=5 * MIB, part_bytes=5 * MIB, **more)


@pytest.mark.parametrize("transport", ["wire", "sdk"])
@pytest.mark.parametrize("checksums", ["on", "off"])
async def test_on_seaweedfs(seaweed: Any, transport: str, checksums: str) -> None:
    config = small(seaweed.s3_config(), transport=transport, checksums=checksums)
    async with zs.Session(s3=config) as session:
        store = session.s3(seaweed.bucket, secrets.token_hex(6))
        version = await store.put("k", BODY)
        uploads = dict(session.metrics.requests)
        assert uploads == {"CreateMultipartUpload": 1, "UploadPart": 2, "CompleteMultipartUpload": 1}
        got = await store.get("k", version=version)
        assert got is not None
        assert bytes(got.data) == BODY
        part = await store.get("k", range=Span(5 * MIB - 3, 5 * MIB + 4), version=version)
        assert part is not None
        assert (bytes(part.data), part.size) == (BODY[5 * MIB - 3 : 5 * MIB + 4], len(BODY))


async def test_preconditions_on_seaweedfs(seaweed: Any) -> None:
    async with zs.Session(s3=small(seaweed.s3_config())) as session:
        store = session.s3(seaweed.bucket, secrets.token_hex(6))
        version = await store.put("k", BODY, when="absent")
        with pytest.raises(zs.Conflict):
            await store.put("k", BODY[::-1], when="absent")
        newer = await store.put("k", BODY[::-1], when=version)
        with pytest.raises(zs.Conflict):
            await store.put("k", BODY, when=version)
        read = await store.get("k")
        assert read is not None
        assert (read.version, bytes(read.data)) == (newer, BODY[::-1])
        assert read.version.writes == newer.writes, "metadata of the beginning is the object's"  # type: ignore[attr-defined]
        results = await asyncio.gather(*(store.put("k", BODY, when=newer) for _ in range(4)), return_exceptions=True)
        assert sorted(isinstance(result, zs.Conflict) for result in results) == [False, True, True, True]
        assert session.metrics.requests["UploadPart"] == 2 * 8 + 2, "and two of the probe"


async def test_moto_gets_one_conditional_put(moto_s3: Any, bucket: Callable[..., str]) -> None:
    name = bucket(moto_s3)
    async with zs.Session(s3=small(moto_s3.s3_config())) as session:
        store = session.s3(name)
        await store.put("k", BODY)
        assert session.metrics.requests["UploadPart"] == 2
        with pytest.raises(zs.Conflict):
            await store.put("k", BODY[::-1], when="absent")
        read = await store.get("k")
        assert read is not None
        assert bytes(read.data) == BODY
        await store.put("k", BODY[::-1], when=read.version)
        with pytest.raises(zs.Conflict):
            await store.put("k", BODY, when=read.version)
        assert session.metrics.requests["UploadPart"] == 2 + 2, "two of the probe"
        await store.delete("k")


async def test_a_cancelled_upload_leaves_the_old_object_on_seaweedfs(
    seaweed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unbroken, "GRACE", 0.5)
    async with zs.Session(s3=small(seaweed.s3_config())) as session:
        store = session.s3(seaweed.bucket, secrets.token_hex(6))
        await store.put("k", b"old")
        seconds = 0.0
        while True:
            put = asyncio.create_task(store.put("k", BODY))
            await asyncio.wait([put], timeout=seconds)
            put.cancel()
            await asyncio.wait([put])
            read = await store.get("k")
            assert read is not None
            assert bytes(read.data) in (b"old", BODY)
            if not put.cancelled():
                break
            seconds = seconds * 1.5 + 0.01
        assert bytes(read.data) == BODY
        counts = session.metrics.requests
        assert counts["AbortMultipartUpload"] == counts["CreateMultipartUpload"] - counts["CompleteMultipartUpload"]
