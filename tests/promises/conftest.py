"""`place`, `session`: an empty prefix on a real server. `bench`: arrays on a server that injects faults."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio

import zarr_s3_async as zs

from .fault_arrays import Bench, Options, bench_of


@dataclass(frozen=True)
class Place:
    """An empty prefix of a bucket, and the options to reach it."""

    bucket: str
    prefix: str
    config: zs.S3Config

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}"


@pytest.fixture
def place(seaweed: Any) -> Place:
    return Place(seaweed.bucket, f"t-{uuid4().hex[:12]}", seaweed.s3_config())


@pytest.fixture
async def session(place: Place) -> AsyncIterator[zs.Session]:
    async with zs.Session(s3=place.config) as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def benches() -> AsyncIterator[dict[str, Bench]]:
    async with bench_of(Options("wire")) as wire, bench_of(Options("sdk")) as sdk:
        yield {"wire": wire, "sdk": sdk}


@pytest.fixture(params=["wire", "sdk"])
def transport(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def bench(benches: dict[str, Bench], transport: str) -> Bench:
    return benches[transport]
