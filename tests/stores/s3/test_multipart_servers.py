"""Multipart uploads on servers: SeaweedFS honours their preconditions, moto only some; the guarantee holds on both."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import zarr_s3_async as zs
from zarr_s3_async._concurrency import blocking
from zarr_s3_async.byte_range import Span

pytestmark = pytest.mark.integration

MIB = 2**20
BODY = np.random.default_rng(3).bytes(5 * MIB + 7)
"""Two parts."""


def small(config: zs.S3Config, **more: Any) -> zs.S3Config:
    return replace(config, multipart_bytes=5 * MIB, part_bytes=5 * MIB, **more)


@pytest.mark.parametrize("transport", ["wire", "sdk"])
@pytest.mark.parametrize("checksums", ["on", "off"])
async def test_multipart_uploads_work_on_seaweedfs(seaweed: Any, transport: str, checksums: str) -> None:
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


@pytest.mark.parametrize("when", ["absent", "match"])
async def test_one_of_several_concurrent_writers_wins_on_seaweedfs(seaweed: Any, when: str) -> None:
    bodies = [bytes([n]) * len(BODY) for n in range(3)]
    async with zs.Session(s3=small(seaweed.s3_config())) as session:
        store = session.s3(seaweed.bucket, secrets.token_hex(6))
        for key in "abcde":
            base = "absent" if when == "absent" else await store.put(key, b"base")
            results = await asyncio.gather(
                *(store.put(key, body, when=base) for body in bodies), return_exceptions=True
            )
            (winner,) = [n for n, result in enumerate(results) if isinstance(result, str)]
            assert sum(isinstance(result, zs.Conflict) for result in results) == 2
            read = await store.get(key, version=results[winner])  # type: ignore[arg-type]  # it is one
            assert read is not None
            assert bytes(read.data) == bodies[winner]


async def test_a_condition_that_moto_honours_only_in_puts_is_kept(moto_s3: Any, bucket: Callable[..., str]) -> None:
    name = bucket(moto_s3)
    async with zs.Session(s3=small(moto_s3.s3_config())) as session:
        store = session.s3(name)
        base = await store.put("k", BODY)
        assert session.metrics.requests["UploadPart"] == 2
        with pytest.raises(zs.Conflict):
            await store.put("k", BODY[::-1], when="absent")
        await store.put("k", BODY[::-1], when=base)
        with pytest.raises(zs.Conflict):
            await store.put("k", BODY, when=base)
        read = await store.get("k")
        assert read is not None
        assert bytes(read.data) == BODY[::-1]
        await store.delete("k")


async def test_a_cancelled_upload_leaves_the_old_object_on_seaweedfs(
    seaweed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocking, "GRACE", 60)  # long enough for a slow machine to complete the upload
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
